"""`strogoff store`: check, compact, back up and restore what a node keeps, whether the node runs or not."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strogoff import _engine
from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.commands.store import backup_result, compact_result, progress_text
from strogoff.admin.protocol import Failure
from strogoff.admin.render import Format, printable, render
from strogoff.admin.result import Part, Result, Table, Text
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.node_location import NodeLocation
from strogoff.cli.progress import progress_line
from strogoff.config import ConfigError, load
from strogoff.data_directory import DataDirectoryError, DataDirectoryInUseError, held, undisturbed
from strogoff.plugins.names import without_plugin_keys
from strogoff.store.archive import BackupError, write_backup
from strogoff.store.files import log_files, store_of
from strogoff.store.node_store import origin_of
from strogoff.store.restoring import restore

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]

_EPILOG = """\
The node is the one of --data-dir, else the one of --config or STROGOFF_CONFIG, else the one whose data directory is
./data. docs/persistence.md shows all of this at work.

exit codes: 0 done, or sound; 1 failed, or damaged (standard error says more); 2 command line not understood; 3 the
configuration has errors
"""

_WHILE_IT_RUNS = "'strogoff store backup FILE' works while it runs"


class _FailedError(Exception):
    """The command did not work; the message says why, and what to do."""


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command and its own sub-commands."""
    parser = subparsers.add_parser(
        "store",
        help="check, compact, back up or restore what a node keeps",
        description="Look after what a node keeps: sessions, the messages that wait for them, retained messages.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    checking = actions.add_parser("check", help="read all of it; say what is in it and what is damaged")
    checking.add_argument("directory", nargs="?", type=Path, metavar="DIR", help="a data directory, or a store itself")
    checking.add_argument(
        "--repair", action="store_true", help="keep what can be read, and put damaged files aside as NAME.damaged"
    )
    checking.add_argument("--format", choices=[each.value for each in Format], default=Format.HUMAN.value)
    _finish(checking, _check)

    compacting = actions.add_parser("compact", help="win back the space of what is no longer needed, at once")
    _finish(compacting, _compact)

    saving = actions.add_parser("backup", help="write all of it into a file, also while the node runs")
    saving.add_argument(
        "file", type=Path, metavar="FILE", help="the file, which must not exist; a running node writes it"
    )
    _finish(saving, _backup)

    restoring = actions.add_parser("restore", help="put a backup in its place, while the node does not run")
    restoring.add_argument("file", type=Path, metavar="FILE", help="the backup")
    restoring.add_argument(
        "--replace", action="store_true", help="put a store that is there aside, as store.replaced-TIME"
    )
    _finish(restoring, _restore)


def _finish(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's configuration (STROGOFF_CONFIG)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the node's data directory (./data)")
    parser.set_defaults(run=lambda arguments: _guarded(parser.prog, run, arguments))


def _guarded(program: str, run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run an action; what it cannot do becomes a sentence and an exit code."""
    try:
        return run(arguments)
    except ConfigError as error:
        for problem in error.problems:
            _complain(program, str(problem))
        return ExitCode.CONFIGURATION
    except (_FailedError, BackupError, DataDirectoryError, NodeNotReachedError, _engine.StoreError) as error:
        _complain(program, str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        _complain(program, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return ExitCode.FAILED


def _complain(program: str, sentence: str) -> None:
    for line in sentence.split("\n"):
        print(f"{program}: {printable(line)}", file=sys.stderr)


# -- check -------------------------------------------------------------------------------------------------------------


def _check(arguments: argparse.Namespace) -> int:
    data, store = _checked_place(arguments)
    _require_store(store)
    output = Format(arguments.format)
    with _kept_out(data, changes=arguments.repair), _ended_by_ctrl_c():
        found = _engine.check_store(str(store), repair=arguments.repair)
        is_repaired = arguments.repair and not found.is_sound
        report = _engine.check_store(str(store)) if is_repaired else found
    # Of a repair that worked, what was wrong is what there is to know; of one that did not, what still is.
    _show([_contents(report), *_damages(found if report.is_sound else report, output)], output)
    if is_repaired and not report.is_sound:
        raise _FailedError(f"{store} is damaged still: restore a backup ('strogoff store restore FILE --replace')")
    if not report.is_sound:
        raise _FailedError(
            f"{store} is damaged: restore a backup ('strogoff store restore FILE --replace'), "
            "or keep what can be read (this command with --repair)"
        )
    if is_repaired:
        _complain("strogoff store check", f"repaired; the damaged files are kept in {store} as NAME.damaged")
    return ExitCode.OK


def _checked_place(arguments: argparse.Namespace) -> tuple[Path | None, Path]:
    """The data directory whose node must not run, None where no node can know of the store, and the store."""
    given: Path | None = arguments.directory
    if given is None:
        data = _data_directory(arguments)
        return data, store_of(data)
    if store_of(given).is_dir():
        return given, store_of(given)
    # The store of a node by its own name, or a store that was put aside or unpacked somewhere.
    beside = given.resolve().parent
    return (beside if given.resolve() == store_of(beside) else None), given


@contextlib.contextmanager
def _kept_out(data: Path | None, *, changes: bool) -> Iterator[None]:
    """Keep the node out while its store is read, or changed. Raises `_FailedError` when it runs."""
    try:
        with contextlib.ExitStack() as stack:
            if data is not None:
                stack.enter_context(held(data) if changes else undisturbed(data))
            yield
    except DataDirectoryInUseError as error:
        raise _FailedError(f"{_in_use(data, error)}: stop it first; {_WHILE_IT_RUNS}") from None


def _contents(report: _engine.StoreReport) -> Table:
    names: tuple[str, ...] = ("records", "segments", "format_version")
    if report.is_sound:
        # What a store with gaps comes to is not known before it is repaired.
        names = ("sessions", "messages", "retained", "metadata_keys", *names, "bytes", "live_bytes")
    return Table(("what", "value"), [(name, getattr(report, name)) for name in names])


def _damages(report: _engine.StoreReport, output: Format) -> Sequence[Part]:
    rows = [(each.file, each.offset, each.what) for each in report.damages]
    lines = [f"{file}, byte {offset}: {what}" for file, offset, what in rows]
    if report.cut is not None:
        # No damage, and it goes by itself; somebody who looks for lost messages should know of it all the same.
        lines.append(f"the end is torn, as a crash leaves it, and is cut off at the next start: {report.cut}")
    if report.missing:
        lines.append(f"{report.missing} entries of queues have no message: it was lost with a file that was damaged")
    if output is Format.HUMAN:
        return [Text("\n".join(lines))] if lines else []
    return [Table(("file", "offset", "what"), rows)]


# -- compact, backup, restore ------------------------------------------------------------------------------------------


def _compact(arguments: argparse.Namespace) -> int:
    data = _data_directory(arguments)

    def offline(store: Path, _tell: Callable[[str], None]) -> Result:
        with _ended_by_ctrl_c():
            return compact_result(*_engine.compact_store(str(store)))

    _show(_offline_or_by_node(data, offline, ("store", "compact")).parts)
    return ExitCode.OK


def _backup(arguments: argparse.Namespace) -> int:
    data = _data_directory(arguments)
    file: Path = arguments.file.absolute()

    def offline(store: Path, tell: Callable[[str], None]) -> Result:
        tell("checking")
        if not _engine.check_store(str(store)).is_sound:
            raise _FailedError(f"{store} is damaged, so a backup would be: see 'strogoff store check'")
        manifest = write_backup(
            file,
            log_files(store),
            origin=origin_of(_node_name(arguments)),
            watch=lambda done, total: tell(progress_text("backup", done, total)),
        )
        return backup_result(file, manifest)

    _show(_offline_or_by_node(data, offline, ("store", "backup", f"--file={file}")).parts)
    return ExitCode.OK


def _restore(arguments: argparse.Namespace) -> int:
    data, file = _data_directory(arguments), arguments.file
    if not file.is_file():
        raise _FailedError(f"there is no file {file}")
    try:
        with held(data), progress_line() as tell:
            done = restore(
                file,
                data,
                replace=arguments.replace,
                watch=lambda done, total: tell(progress_text("restore", done, total)),
            )
    except DataDirectoryInUseError as error:
        raise _FailedError(f"{_in_use(data, error)}: stop it first") from None
    report, manifest = done.report, done.manifest
    whose = f"{manifest.node}, made {manifest.made_at}" if manifest.node else f"made {manifest.made_at}"
    lines = [
        f"{store_of(data)}: restored from {file} ({whose})",
        f"sessions: {report.sessions}, messages: {report.messages}, of which retained: {report.retained}",
    ]
    if done.former is not None:
        lines.append(f"the former store is {done.former}")
    _show([Text("\n".join(lines))])
    return ExitCode.OK


def _offline_or_by_node(
    data: Path, offline: Callable[[Path, Callable[[str], None]], Result], words: tuple[str, ...]
) -> Result:
    """Do it here when the node does not run, else have the node do it. Raises as both do, and `_FailedError`."""
    store = store_of(data)
    _require_store(store)
    with progress_line() as tell:
        try:
            with held(data):
                return offline(store, tell)
        except DataDirectoryInUseError as error:
            in_use = _in_use(data, error)
        try:
            response = ask(data, words, tell=tell)
        except NodeNotReachedError as error:
            raise _FailedError(f"{in_use}, but no node answers there: {error}") from None
    if isinstance(response, Failure):
        raise _FailedError(response.error)
    return response.result


# -- what they share ---------------------------------------------------------------------------------------------------


def _data_directory(arguments: argparse.Namespace) -> Path:
    return NodeLocation(arguments.config, arguments.data_dir).resolve()


def _node_name(arguments: argparse.Namespace) -> str:
    """The name for the manifest of a backup; "" where only a directory is known."""
    if arguments.data_dir is not None:
        return ""
    return load(arguments.config, environment=os.environ, extend=without_plugin_keys).node_name


def _require_store(store: Path) -> None:
    if not store.is_dir():
        raise _FailedError(f"there is no store {store}: name the node's --data-dir or --config")


def _in_use(data: Path | None, error: DataDirectoryInUseError) -> str:
    return f"{data} is in use by process {error.holder}" if error.holder else f"{data} is in use"


def _show(parts: Sequence[Part], output: Format = Format.HUMAN) -> None:
    sys.stdout.write(render(parts, output))
    sys.stdout.flush()


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Let Ctrl-C act while the engine works, in which Python cannot see it. A store takes that as it takes a crash."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
