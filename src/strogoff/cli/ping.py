"""`strogoff ping`: whether the node is up and its control plane answers."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.protocol import Failure
from strogoff.admin.render import Format, render
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.node_location import NodeLocation
from strogoff.config import ConfigError

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]

TIMEOUT_S = 5.0


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "ping",
        help="ask the running node for a sign of life",
        description="Print pong and exit 0 when the node answers; say why not and exit 1 when it does not.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's configuration (STROGOFF_CONFIG)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the node's data directory (./data)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        response = ask(
            NodeLocation(arguments.config, arguments.data_dir).resolve(), ("node", "ping"), timeout_s=TIMEOUT_S
        )
    except (NodeNotReachedError, ConfigError) as error:
        return _failed(str(error))
    if isinstance(response, Failure):
        return _failed(response.error)
    sys.stdout.write(render(response.result.parts, Format.HUMAN))
    return ExitCode.OK


def _failed(reason: str) -> int:
    print(f"strogoff ping: {reason}", file=sys.stderr)
    return ExitCode.FAILED
