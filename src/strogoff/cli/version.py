"""`strogoff version`."""

import argparse
from typing import TYPE_CHECKING

from strogoff import version
from strogoff.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser("version", help="print the version", description="Print the version.")
    parser.set_defaults(run=_run)


def _run(_arguments: argparse.Namespace) -> int:
    print(f"strogoff {version()}")
    return ExitCode.OK
