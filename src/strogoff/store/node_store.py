"""The store of a running node: opened at its start, backed up and compacted while it runs."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from strogoff import _engine, version
from strogoff.observe.logging import get_logger
from strogoff.store.archive import BackupError, Manifest, Watch, write_backup
from strogoff.store.files import is_empty, readable_size, store_of
from strogoff.store.putting_away import put_away
from strogoff.store.resetting import BadResetError, Reset, carry_out, find_reset, forget_reset, free_archive, note_reset
from strogoff.store.restoring import unfinished_restore

__all__ = ["NodeStore", "StoreCareError", "origin_of"]

_log = get_logger("store")

_Answer = TypeVar("_Answer")


class StoreCareError(Exception):
    """The store can be neither backed up nor compacted now; the message says why, and what to do."""


class NodeStore:
    """The store of the node whose data directory this process holds."""

    def __init__(self, engine: _engine.Engine, data_directory: Path, node_name: str) -> None:
        self.directory = store_of(data_directory)
        self._data_directory = data_directory
        self._engine = engine
        self._node_name = node_name
        self._doing = ""
        self.reset: Reset | None = None
        """What was done at this start to join a cluster empty; the join is to come."""

    async def open(self) -> None:
        """Have the engine open it, and log what it holds. Once, before the engine starts.

        Raises `StoreError`, and `OSError` when the directory cannot be made.
        """
        await self._reset()
        self._put_away()
        if reason := unfinished_restore(self._data_directory):
            raise _engine.StoreError(reason)
        is_new = is_empty(self.directory)
        self.directory.mkdir(mode=0o700, exist_ok=True)
        # A large store takes a while, and whoever looks at the log should see what is being waited for.
        _log.info("opening the store", path=self.directory)
        found = await asyncio.to_thread(self._engine.open_store, str(self.directory))
        if found.cut is not None:
            _log.warning("the end of the store was torn, as a crash leaves it, and cut off", cut=found.cut)
        if found.missing:
            _log.warning("messages are missing that were lost with a damaged file", entries=found.missing)
        _log.notice(
            "a new store was made" if is_new else "store opened",
            path=self.directory,
            sessions=found.sessions,
            messages=found.messages,
            retained=found.retained,
            size=readable_size(found.bytes),
            took_ms=found.duration_ms,
        )

    async def _reset(self) -> None:
        directory = self._data_directory
        try:
            reset = find_reset(directory)
            if reset is not None and not reset.is_done:
                reset = await asyncio.to_thread(carry_out, directory, reset, origin_of(self._node_name))
                for holding in reset.holdings:
                    _log.notice("archived, and gone from this node", what=holding, file=directory / reset.archive)
        except BadResetError as error:
            raise _engine.StoreError(str(error)) from error
        except BackupError as error:
            _log.error("the node is not reset, and does not join: it has what it had", reason=str(error))
            forget_reset(directory)
            return
        self.reset = reset

    def plan_reset(self, name: str, address: str, holdings: Sequence[str]) -> Path:
        """Have the store archived and emptied at the next start, to join through a node then; where the archive will
        be. `holdings`: what there is, in words. Raises `OSError`.
        """
        archive = free_archive(self._data_directory, "before-reset")
        note_reset(self._data_directory, Reset(name, address, archive.name, tuple(holdings)))
        return archive

    def reset_is_taken_up(self) -> None:
        """Others know by now what is to come after the reset. Raises `OSError`."""
        if self.reset is not None:
            forget_reset(self._data_directory)
            self.reset = None

    async def archive(self, what: str) -> Path:
        """Write a backup into the data directory, under a name that tells when. As `backup`."""
        path = free_archive(self._data_directory, what)
        await self.backup(path, lambda _done, _total: None)
        return path

    def _put_away(self) -> None:
        found = put_away(self._data_directory)
        if found is None:
            return
        path, removal = found
        if removal.has_left:
            text = "this node has left its cluster: what the others have as well is put away, and it begins empty"
            _log.notice(text, path=path, retained=removal.retained)
            return
        _log.notice(
            "this node was taken out of its cluster while it was away: what it had is put away, and it begins empty "
            "and alone; it may join again (vmq-admin cluster join)",
            path=path,
            told_by=removal.told_by,
            sessions=removal.sessions,
            messages=removal.messages,
            retained=removal.retained,
        )

    async def backup(self, destination: Path, watch: Watch) -> Manifest:
        """Write a backup while the node runs. `watch` is called on another thread.

        Ends early, leaving nothing behind, when it is cancelled. Raises `BackupError`, `StoreCareError`, `StoreError`.
        """
        is_unwanted = threading.Event()

        def watch_or_end(done: int, total: int) -> None:
            watch(done, total)
            if is_unwanted.is_set():
                raise BackupError(f"the backup {destination} was given up")

        def work() -> Manifest:
            files = [Path(path) for path in self._engine.store_begin_backup()]
            try:
                return write_backup(destination, files, origin=origin_of(self._node_name), watch=watch_or_end)
            finally:
                self._engine.store_end_backup()

        began = time.monotonic()
        with self._busy("backed up"):
            manifest = await _on_a_thread(work, is_unwanted.set)
        took_ms = round(1_000 * (time.monotonic() - began))
        _log.notice("backup made", file=destination, size=readable_size(manifest.size), took_ms=took_ms)
        return manifest

    async def compact(self) -> tuple[int, int]:
        """Win back space; bytes of the files before and after. Raises `StoreCareError`, `StoreError`."""
        with self._busy("compacted"):
            before, after = await _on_a_thread(self._engine.store_compact, lambda: None)
        _log.notice("store compacted", before=readable_size(before), after=readable_size(after))
        return before, after

    @contextlib.contextmanager
    def _busy(self, doing: str) -> Iterator[None]:
        if self._doing:
            raise StoreCareError(f"the store is being {self._doing} already: wait until that is done")
        self._doing = doing
        try:
            yield
        finally:
            self._doing = ""


def origin_of(node_name: str) -> Manifest:
    """The manifest of a backup that is made now, but for its files."""
    made_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Manifest(node_name, made_at, version(), ())


async def _on_a_thread(work: Callable[[], _Answer], give_up: Callable[[], None]) -> _Answer:
    """Run `work` on a thread. When this is cancelled the thread is told, and its end waited for."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        give_up()
        with contextlib.suppress(BackupError, StoreCareError, _engine.StoreError):
            await running
        raise
