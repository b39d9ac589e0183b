"""`strogoff wait`: for scripts and init containers that go on when a node has come so far."""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.protocol import Failure
from strogoff.admin.result import Result, Table
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.node_location import NodeLocation
from strogoff.config import ConfigError

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register", "seconds"]

TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.1
ANSWER_S: Final = 5.0
"""For one answer of the node; less where less time is left."""
AIMS: Final = ("live", "started", "ready", "cluster")


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "wait",
        help="wait until the node has come so far",
        description="Wait until the node is ready, or has come so far as is asked. What it waits for meanwhile is told "
        "on standard error. Exits 0 when it has, 1 when the time is over.",
        epilog="live: the node answers. started: it has served clients. ready: clients should come. cluster: and every "
        "member of its cluster can be reached.",
    )
    parser.add_argument("--for", dest="aim", choices=AIMS, default="ready", help="what to wait for (ready)")
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT_S, metavar="SECONDS", help=f"how long at most ({TIMEOUT_S:g})"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's configuration (STROGOFF_CONFIG)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the node's data directory (./data)")
    parser.set_defaults(run=_run)


def seconds(text: str) -> float:
    """A number of seconds on the command line. Raises what argparse tells the user."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, found {text!r}")
    return value


def _run(arguments: argparse.Namespace) -> int:
    deadline = time.monotonic() + arguments.timeout
    try:
        directory = NodeLocation(arguments.config, arguments.data_dir).resolve()
    except ConfigError as error:
        print(f"strogoff wait: {error}", file=sys.stderr)
        return ExitCode.CONFIGURATION
    told = ""
    while (reason := _obstacle(directory, arguments.aim, deadline)) is not None:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            print(f"strogoff wait: not {arguments.aim} within {arguments.timeout:g} s: {reason}", file=sys.stderr)
            return ExitCode.FAILED
        if reason != told:
            print(f"strogoff wait: {reason}", file=sys.stderr)
            told = reason
        time.sleep(min(LOOK_S, left_s))
    print(arguments.aim)
    return ExitCode.OK


def _obstacle(directory: Path, aim: str, deadline: float) -> str | None:
    """Why the node has not come so far; None when it has. A node that does not run is one that may start yet."""
    answer_s = max(LOOK_S, min(ANSWER_S, deadline - time.monotonic()))
    try:
        response = ask(directory, ("node", "health"), timeout_s=answer_s)
    except NodeNotReachedError as error:
        return str(error)
    return response.error if isinstance(response, Failure) else _reason(response.result, aim)


def _reason(result: Result, aim: str) -> str | None:
    checks = [row for part in result.parts if isinstance(part, Table) for row in part.rows]
    for check, is_well, reasons in checks:
        if check == aim:
            return None if is_well is True else str(reasons)
    return f"the node does not know the check {aim}: it is of another version"
