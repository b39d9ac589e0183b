"""`strogoff start`: one node in the foreground, from its configuration to its exit code."""

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from strogoff import version
from strogoff.admin.commands import build_registry
from strogoff.admin.render import printable
from strogoff.admin.server import AdminServer
from strogoff.broker import Broker, RemovedError, StartAgainError, StartError
from strogoff.cli.exit_codes import ExitCode
from strogoff.config import ConfigError, Configuration, NoteKind, load
from strogoff.data_directory import DataDirectoryError
from strogoff.descriptors import raise_descriptor_limit
from strogoff.http.service import HttpListeners
from strogoff.observe import logplan
from strogoff.observe.logfile import LogFileError
from strogoff.observe.logging import LogWriter, get_logger
from strogoff.plugins.configuration import plugin_keys

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]

_EPILOG = """\
Without a configuration the broker listens on 127.0.0.1:1883 only, lets anonymous clients in there, and keeps its
data under ./data. SIGTERM or SIGINT (Ctrl-C) stop it in an orderly way, a second SIGINT at once.

exit codes: 0 stopped as asked, 2 command line not understood, 3 configuration has errors, 4 cannot start (an address or
the data directory is in use, the store is damaged, ...), 5 taken out of its cluster while it was away (the next start
begins empty), 130 stopped by force
"""

_log = get_logger("start")


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "start",
        help="run a broker in the foreground",
        description="Run a broker in the foreground.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="the configuration (STROGOFF_CONFIG, else etc/strogoff.conf if it is there)",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one key, over file and environment; repeatable"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        configuration = load(arguments.config, environment=os.environ, overrides=arguments.set, extend=plugin_keys)
    except ConfigError as error:
        for problem in error.problems:
            print(f"strogoff start: {printable(str(problem))}", file=sys.stderr)
        return ExitCode.CONFIGURATION
    places = logplan.plans(configuration, is_terminal=sys.stderr.isatty())
    try:
        with LogWriter(places, level=logplan.lowest_level(configuration)) as writer:
            _serve(configuration, writer)
    except (StartError, DataDirectoryError, LogFileError) as error:
        return _failed(error, ExitCode.START_FAILED)
    except _RefusedError as error:
        return _failed(error, ExitCode.CONFIGURATION)
    except RemovedError as error:
        return _failed(error, ExitCode.REMOVED)
    return ExitCode.OK


class _RefusedError(Exception):
    """The engine does not take a setting; the message names it."""


def _failed(error: Exception, code: ExitCode) -> ExitCode:
    """The reason in a plain sentence, after all that was logged, which may be JSON or stand in a file."""
    print(f"strogoff: {printable(str(error))}", file=sys.stderr)
    return code


def _serve(configuration: Configuration, writer: LogWriter) -> None:
    """Run the broker until it is asked to stop. Raises `StartError`, `DataDirectoryError`, `_RefusedError`,
    `RemovedError`, logged.
    """
    _tell(configuration)
    raise_descriptor_limit(_connections_max(configuration))
    while True:
        try:
            return _live_once(configuration, writer)
        except StartAgainError as error:
            _log.notice("starting again", reason=str(error))


def _live_once(configuration: Configuration, writer: LogWriter) -> None:
    """As `_serve`. Raises `StartAgainError` too."""
    try:
        broker = Broker(
            configuration,
            services=[AdminServer(build_registry()), HttpListeners()],
            dropped_logs=lambda: writer.dropped,
        )
    except ValueError as error:
        _log.error("the engine refuses the configuration", reason=str(error))
        raise _RefusedError(str(error)) from error
    try:
        asyncio.run(_run_until_signal(broker))
    except (StartError, DataDirectoryError) as error:
        _log.error("cannot start", reason=str(error))
        raise


async def _run_until_signal(broker: Broker) -> None:
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if broker.stopping and number is signal.SIGINT:
            # The orderly stop takes too long for the person at the keyboard. Nothing is cleaned up, as after a crash.
            os.write(2, b"stopped by force\n")
            os._exit(ExitCode.FORCED)
        broker.request_stop(number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await broker.run()


def _tell(configuration: Configuration) -> None:
    """What the operator should know before the first client comes."""
    source = "built in" if configuration.file is None else str(configuration.file)
    data = str(configuration.data_directory.absolute())
    _log.notice("strogoff", version=version(), configuration=source, data=data, process=os.getpid())
    for note in configuration.notes:
        tell = _log.warning if note.kind is NoteKind.WARNING else _log.notice
        tell(note.text, **({"keys": ",".join(note.keys)} if note.keys else {}))


def _connections_max(configuration: Configuration) -> int | None:
    limits = [listener.max_connections for listener in configuration.listeners]
    return None if None in limits else sum(limit for limit in limits if limit is not None)
