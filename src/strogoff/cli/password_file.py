"""Changes to a password file, each of them whole or not at all: written beside the file, then put in its place."""

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from strogoff._engine import PasswordTable, hash_password

__all__ = [
    "PASSWORD_BYTES_MAX",
    "PasswordFileError",
    "check_password",
    "check_user",
    "create",
    "hashed",
    "removed",
    "replace",
    "with_user",
]

PASSWORD_BYTES_MAX: Final = 1023
_HASHES: Final = (b"$6$", b"$7$", b"$argon2id$")
_NEW_FILE_MODE: Final = 0o600


class PasswordFileError(Exception):
    """It cannot be done; the message says what is in the way. The file is as it was."""


def check_user(user: str) -> bytes:
    """The name as a line of the file has it. Raises `PasswordFileError` for one that no line can have."""
    if not user:
        raise PasswordFileError("the user name is empty")
    if ":" in user or any(not sign.isprintable() for sign in user):
        raise PasswordFileError("a user name cannot have ':' or control characters in it")
    if user.startswith("#"):
        raise PasswordFileError("a user name cannot begin with '#': its line would be a comment")
    return user.encode()


def check_password(password: bytes) -> bytes:
    """The password itself. Raises `PasswordFileError` for an empty one and for one that is too long."""
    if not password:
        raise PasswordFileError("the password is empty")
    if len(password) > PASSWORD_BYTES_MAX:
        raise PasswordFileError(f"the password has {len(password)} bytes; at most {PASSWORD_BYTES_MAX} are allowed")
    return password


def with_user(content: bytes, user: bytes, password: bytes) -> bytes:
    """The file with this password for the user, in the user's place or at the end."""
    line = user + b":" + hash_password(password).encode() + b"\n"
    kept: list[bytes] = []
    for each in _lines(content):
        if _name(each) != user:
            kept.append(each)
        elif line not in kept:
            kept.append(line)
    if line not in kept:
        kept.append(line)
    return b"".join(kept)


def removed(content: bytes, user: bytes) -> tuple[bytes, bool]:
    """The file without the user, and whether the user was there."""
    lines = _lines(content)
    left = [line for line in lines if _name(line) != user]
    return b"".join(left), len(left) < len(lines)


def hashed(content: bytes) -> bytes:
    """The file with its plain passwords hashed. Raises `PasswordFileError`, naming the line."""
    lines: list[bytes] = []
    for number, line in enumerate(_lines(content), 1):
        text = line.rstrip(b"\r\n")
        is_done = not text.strip() or text.startswith(b"#") or PasswordTable.parse(text)[0].users
        try:
            lines.append(line if is_done else _hashed_line(text))
        except PasswordFileError as error:
            raise PasswordFileError(f"line {number}: {error}") from error
    return b"".join(lines)


def create(file: Path, content: bytes, *, overwrite: bool) -> None:
    """Make the file. Raises `PasswordFileError`; unless `overwrite`, also for a file that exists."""
    file = file.resolve()
    with _told(file), _alone(file):
        temporary = _written(file, content, _mode(file) if overwrite else None)
        try:
            if overwrite:
                temporary.replace(file)
            else:
                # Unlike a rename this fails when somebody else has made the file meanwhile.
                file.hardlink_to(temporary)
        finally:
            temporary.unlink(missing_ok=True)


def replace(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change the file, with its mode and owner kept. Raises `PasswordFileError`, and what `change` raises."""
    file = file.resolve()
    with _told(file), _alone(file):
        content = change(file.read_bytes())
        temporary = _written(file, content, file.stat())
        try:
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _lines(content: bytes) -> list[bytes]:
    """The lines with their ends; the last one gets one, too."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line + b"\n" for line in (lines if lines[-1] else lines[:-1])]


def _hashed_line(text: bytes) -> bytes:
    name, colon, password = text.partition(b":")
    if not name or not colon:
        raise PasswordFileError("expected NAME:PASSWORD")
    if password.startswith(_HASHES):
        raise PasswordFileError("begins as a hash does, but is not one; correct or delete it")
    try:
        name.decode()
    except UnicodeDecodeError as error:
        raise PasswordFileError("the user name is not UTF-8") from error
    return name + b":" + hash_password(check_password(password)).encode() + b"\n"


def _name(line: bytes) -> bytes | None:
    name, colon, _ = line.partition(b":")
    return name if colon and not line.startswith(b"#") else None


def _mode(file: Path) -> os.stat_result | None:
    return file.stat() if file.exists() else None


def _written(file: Path, content: bytes, like: os.stat_result | None) -> Path:
    """A file beside the one that it is for, on the disk, with mode and owner as `like`."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if like is not None:
                # Who is not root cannot give files away; the broker may then have to be allowed to read it anew.
                with contextlib.suppress(PermissionError):
                    os.fchown(stream.fileno(), like.st_uid, like.st_gid)
            os.fchmod(stream.fileno(), _NEW_FILE_MODE if like is None else stat.S_IMODE(like.st_mode))
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Keeps a second run out while one changes a file of the directory; afterwards the change is on the disk."""
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise PasswordFileError(f"{file} exists; -cf overwrites it") from error
    except FileNotFoundError as error:
        raise PasswordFileError(f"{file} does not exist; -c creates it where its directory exists") from error
    except OSError as error:
        raise PasswordFileError(f"{file}: {error.strerror}") from error
