"""The program `vmq-admin`: sends its words to the running node and shows the answer."""

import sys
from collections.abc import Sequence

from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.protocol import Failure
from strogoff.admin.render import printable, render
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.main import guarded
from strogoff.cli.node_location import NodeLocationError, split_location
from strogoff.config import ConfigError

__all__ = ["main"]

_USAGE = """\
Usage: vmq-admin [--config FILE | --data-dir DIR] COMMAND [ARGUMENTS] [FLAGS]

  Administers the running node whose configuration or data directory is named; without either, the one of
  STROGOFF_CONFIG, else the one whose data directory is ./data.

  --format=human|json|csv   how results are written
  --help                    what a command or a group of commands takes (asks the node)

Exit codes: 0 done, 1 failed (standard error says why)"""


def main(words: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    return guarded(lambda: _run(sys.argv[1:] if words is None else words))


def _run(words: Sequence[str]) -> int:
    try:
        location, rest = split_location(words)
        response = ask(location.resolve(), rest)
    except NodeNotReachedError as error:
        if _only_help(words):
            print(_USAGE)
            return ExitCode.OK
        return _failed(str(error))
    except (NodeLocationError, ConfigError) as error:
        return _failed(str(error))
    if isinstance(response, Failure):
        return _failed(response.error)
    if _only_help(rest):
        print(_USAGE, end="\n\n")
    sys.stdout.write(render(response.result.parts, response.format))
    for note in response.result.notes:
        print(f"vmq-admin: {printable(note)}", file=sys.stderr)
    return ExitCode.OK


def _only_help(words: Sequence[str]) -> bool:
    return all(word in ("-h", "--help") for word in words)


def _failed(reason: str) -> int:
    # The sentence may have lines (a configuration with several errors), and may quote what a stranger chose.
    for line in reason.split("\n"):
        print(f"vmq-admin: {printable(line)}", file=sys.stderr)
    return ExitCode.FAILED
