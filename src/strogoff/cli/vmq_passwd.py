"""The program `vmq-passwd`: keeps the file of users and passwords that the plugin of that name reads."""

import argparse
import getpass
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from strogoff.admin.render import printable
from strogoff.cli import password_file
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.main import guarded
from strogoff.cli.password_file import PASSWORD_BYTES_MAX, PasswordFileError, check_password, check_user

__all__ = ["main"]

_USAGE = """\
vmq-passwd FILE USER              add the user or replace the password
       vmq-passwd -c FILE USER           create the file, which must not exist
       vmq-passwd -cf FILE USER          create the file, overwriting
       vmq-passwd -D FILE USER           delete the user
       vmq-passwd -U FILE                hash the plain passwords of a file of NAME:PASSWORD lines
       vmq-passwd -b [-c|-cf] FILE USER PASSWORD
                                         password on the command line, where others on this machine may see it"""

_EPILOG = """\
The password is asked for twice; lines from a pipe are taken as well. New passwords are hashed with argon2id.

exit codes: 0 done, 1 failed (standard error says why; the file is as it was)"""


class _Parser(argparse.ArgumentParser):
    """Fails with the exit code that scripts for VerneMQ's program know."""

    def error(self, message: str) -> NoReturn:
        self.exit(ExitCode.FAILED, f"vmq-passwd: {printable(message)} (vmq-passwd --help)\n")


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    arguments = _parse(sys.argv[1:] if words is None else words)
    return guarded(lambda: _run(arguments))


def _parse(words: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="vmq-passwd", usage=_USAGE, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group()
    action.add_argument("-c", dest="create", action="store_true", help=argparse.SUPPRESS)
    action.add_argument("-D", dest="delete", action="store_true", help=argparse.SUPPRESS)
    action.add_argument("-U", dest="hash", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-f", dest="force", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-b", dest="batch", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("file", metavar="FILE", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.force and not arguments.create:
        parser.error("-f goes with -c only")
    if arguments.batch and (arguments.delete or arguments.hash):
        parser.error("-b does not go with -D or -U, which need no password")
    wanted = ["FILE"] if arguments.hash else ["FILE", "USER", "PASSWORD"] if arguments.batch else ["FILE", "USER"]
    if len(arguments.rest) != len(wanted) - 1:
        parser.error(f"expected {' '.join(wanted)}")
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    try:
        _change(arguments)
    except (PasswordFileError, UnicodeEncodeError) as error:
        reason = "user name or password is not text in UTF-8" if isinstance(error, UnicodeError) else str(error)
        print(f"vmq-passwd: {printable(reason)}", file=sys.stderr)
        return ExitCode.FAILED
    return ExitCode.OK


def _change(arguments: argparse.Namespace) -> None:
    file: Path = arguments.file
    if arguments.hash:
        password_file.replace(file, password_file.hashed)
        return
    user = check_user(arguments.rest[0])
    if arguments.delete:
        _delete(file, user)
        return
    # Said before a password is asked for.
    if arguments.create and not arguments.force and file.exists():
        raise PasswordFileError(f"{file} exists; -cf overwrites it")
    if not arguments.create and not file.exists():
        raise PasswordFileError(f"{file} does not exist; -c creates it")
    password = check_password(arguments.rest[1].encode() if arguments.batch else _ask())
    if arguments.create:
        password_file.create(file, password_file.with_user(b"", user, password), overwrite=arguments.force)
    else:
        password_file.replace(file, lambda content: password_file.with_user(content, user, password))


def _delete(file: Path, user: bytes) -> None:
    def change(content: bytes) -> bytes:
        left, was_there = password_file.removed(content, user)
        if not was_there:
            print(f"vmq-passwd: warning: {printable(user.decode())} is not in {file}", file=sys.stderr)
        return left

    password_file.replace(file, change)


def _ask() -> bytes:
    """The password, given twice: without an echo on a terminal, as two lines from anything else."""
    if sys.stdin.isatty():
        given = [getpass.getpass(prompt).encode() for prompt in ("Password: ", "Reenter password: ")]
    else:
        given = [sys.stdin.buffer.readline(PASSWORD_BYTES_MAX + 3).rstrip(b"\r\n") for _ in range(2)]
    if given[0] != given[1]:
        raise PasswordFileError("the two passwords are not the same; give it twice, from a pipe as two lines")
    return given[0]


if __name__ == "__main__":
    sys.exit(main())
