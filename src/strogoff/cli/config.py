"""`strogoff config`: check a file, show what holds, describe a key, write a file to begin with, all without a node."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from strogoff.admin.render import Format, printable, render
from strogoff.admin.result import Table
from strogoff.cli.exit_codes import ExitCode
from strogoff.config import ConfigError, check, describe, generate, load, show
from strogoff.plugins.configuration import plugin_keys

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command and its own sub-commands."""
    parser = subparsers.add_parser("config", help="check, show, explain or write a configuration")
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    checking = actions.add_parser("check", help="say what is wrong with a file; exits 3 when a broker would not start")
    checking.add_argument("file", type=Path, metavar="FILE")
    checking.set_defaults(run=_check)

    showing = actions.add_parser("show", help="show keys, their values and where each value comes from")
    showing.add_argument("keys", nargs="*", metavar="KEY", help="only these; without any, all that act or were set")
    showing.add_argument("--config", type=Path, metavar="FILE", help="the configuration (as for strogoff start)")
    showing.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for strogoff start")
    showing.add_argument("--only-set", action="store_true", help="leave out what stands at its default")
    showing.add_argument("--format", choices=[each.value for each in Format], default=Format.HUMAN.value)
    showing.set_defaults(run=_show)

    describing = actions.add_parser("describe", help="say what a key means, accepts and is by default")
    describing.add_argument("keys", nargs="+", metavar="KEY")
    describing.set_defaults(run=_describe)

    generating = actions.add_parser("generate", help="print a file with all keys, their meanings and defaults")
    generating.set_defaults(run=_generate)


def _check(arguments: argparse.Namespace) -> int:
    report = check(arguments.file, environment=os.environ, extend=plugin_keys)
    for note in report.notes:
        print(f"{note.kind.label}: {printable(note.text)}")
    if report.is_usable:
        print(f"{arguments.file}: a broker would start with it")
        return ExitCode.OK
    for problem in report.problems:
        print(printable(str(problem)), file=sys.stderr)
    return ExitCode.CONFIGURATION


def _show(arguments: argparse.Namespace) -> int:
    try:
        configuration = load(arguments.config, environment=os.environ, overrides=arguments.set, extend=plugin_keys)
    except ConfigError as error:
        return _failed("show", error, ExitCode.CONFIGURATION)
    try:
        found = show(configuration, arguments.keys, only_set=arguments.only_set)
    except ConfigError as error:
        return _failed("show", error, ExitCode.FAILED)
    table = Table(("key", "value", "source"), [(row.key, row.value, str(row.source)) for row in found])
    sys.stdout.write(render([table], Format(arguments.format)))
    return ExitCode.OK


def _describe(arguments: argparse.Namespace) -> int:
    try:
        described = [describe(name) for name in arguments.keys]
    except ConfigError as error:
        return _failed("describe", error, ExitCode.FAILED)
    print("\n\n".join(str(each) for each in described))
    return ExitCode.OK


def _generate(_arguments: argparse.Namespace) -> int:
    sys.stdout.write(generate())
    return ExitCode.OK


def _failed(action: str, error: ConfigError, code: ExitCode) -> int:
    for problem in error.problems:
        print(f"strogoff config {action}: {printable(str(problem))}", file=sys.stderr)
    return code
