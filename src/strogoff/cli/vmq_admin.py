"""The program `vmq-admin`: sends its words to the running node and shows the answer; explains commands by itself."""

import contextlib
import sys
from collections.abc import Sequence

from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.protocol import Failure, Success
from strogoff.admin.render import printable, render
from strogoff.admin.result import CommandError, Result, Text
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.main import guarded
from strogoff.cli.node_location import NodeLocation, NodeLocationError, split_location
from strogoff.cli.progress import progress_line
from strogoff.config import ConfigError

__all__ = ["main"]

_HELP = ("-h", "--help")

_USAGE = """\
Usage: vmq-admin [--config FILE | --data-dir DIR] COMMAND [ARGUMENTS] [FLAGS]

  Administers the running node whose configuration or data directory is named; without either, the one of
  STROGOFF_CONFIG, else the one whose data directory is ./data.

  --format=human|json|csv   how results are written
  --help                    what a command or a group of commands takes; needs no running node

Exit codes: 0 done, 1 failed (standard error says why)"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return guarded(lambda: _run(sys.argv[1:] if words is None else words))


def _run(words: Sequence[str]) -> int:
    try:
        location, rest = split_location(words)
        response = _answer(location, rest)
    except (NodeLocationError, NodeNotReachedError, ConfigError) as error:
        return _failed(str(error))
    if isinstance(response, Failure):
        return _failed(response.error)
    if _only_help(rest):
        print(_USAGE, end="\n\n")
    sys.stdout.write(render(response.result.parts, response.format))
    for note in response.result.notes:
        print(f"vmq-admin: {printable(note)}", file=sys.stderr)
    return ExitCode.OK


def _answer(location: NodeLocation, words: Sequence[str]) -> Success | Failure:
    """The node's answer, or this program's own where help is asked for.

    Help on a command that only the node knows, as from a plugin, comes from the node. Raises as `ask` and `resolve` do.
    """
    unknown: CommandError | None = None
    if _only_help(words) or any(word in _HELP for word in words):
        try:
            if (found := _help(words)) is not None:
                return found
        except CommandError as error:
            unknown = error
    try:
        with progress_line() as tell:
            return ask(location.resolve(), words, tell=tell)
    except (NodeNotReachedError, ConfigError):
        if unknown is not None:
            return Failure(str(unknown))
        # Words that lead to no command yet ask which ones there are, which only the tree of commands can tell.
        with contextlib.suppress(CommandError):
            if (found := _help(words)) is not None:
                return found
        raise


def _help(words: Sequence[str]) -> Success | None:
    """The text that the words ask for, None when they are a command to run. Raises `CommandError`."""
    # Only now: a program that just sends its words starts without the commands, and the engine beneath them.
    from strogoff.admin.commands import build_registry  # noqa: PLC0415
    from strogoff.admin.lines import Help, read_line  # noqa: PLC0415

    line = read_line(build_registry(), words)
    return Success(Result.of(Text(line.text)), line.format) if isinstance(line, Help) else None


def _only_help(words: Sequence[str]) -> bool:
    return all(word in _HELP for word in words)


def _failed(reason: str) -> int:
    # The sentence may have lines (a configuration with several errors), and may quote what a stranger chose.
    for line in reason.split("\n"):
        print(f"vmq-admin: {printable(line)}", file=sys.stderr)
    return ExitCode.FAILED
