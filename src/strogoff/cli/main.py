"""The program `strogoff`: finds the sub-command and runs it.

A sub-command is a module with `register(subparsers)`, which adds its parser and sets `run` to a function of the parsed
arguments that returns an exit code. To add one, write the module and name it in `_SUBCOMMANDS`. Modules are imported
only when their word is on the command line or the whole list is wanted, so `strogoff version` does not load an engine.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from strogoff.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - argparse has no other name for it

__all__ = ["main"]

# In the order of the help text.
_SUBCOMMANDS = {
    "start": "strogoff.cli.start",
    "ping": "strogoff.cli.ping",
    "wait": "strogoff.cli.wait",
    "drain": "strogoff.cli.drain",
    "config": "strogoff.cli.config",
    "store": "strogoff.cli.store",
    "bench": "strogoff.cli.bench",
    "version": "strogoff.cli.version",
}

_EPILOG = """\
exit codes: 0 done, 1 failed, 2 command line not understood, 3 configuration has errors, 4 node cannot start,
5 node was taken out of its cluster while it was away, 130 ended by a second signal
A running node is administered by vmq-admin (vmq-admin --help).
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    words = sys.argv[1:] if words is None else words
    arguments = _parser(words).parse_args(words)
    run: Callable[[argparse.Namespace], int] = arguments.run
    return guarded(lambda: run(arguments))


def guarded(run: Callable[[], int]) -> int:
    """Run a program's work, with the two ends that every program on a terminal can have."""
    try:
        code = run()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has seen enough; python would complain about that once more while it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return ExitCode.FORCED
    return code


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="strogoff",
        description="A clustered MQTT broker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    first = words[0] if words else ""
    names = [first] if first in _SUBCOMMANDS else list(_SUBCOMMANDS)
    for name in names:
        importlib.import_module(_SUBCOMMANDS[name]).register(subparsers)
    return parser
