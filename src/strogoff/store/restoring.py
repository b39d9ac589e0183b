"""A backup takes the place of a node's store: at once and as a whole, or not at all.

It is unpacked and checked beside the store, as `store.restoring`, and gets its name when nothing more can go wrong.
What was there before stays as `store.replaced-TIME`. Between the two renames there is no store; `unfinished_restore`
lets a broker notice that, which must not begin with an empty one then.
"""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from strogoff import _engine
from strogoff.store.archive import BackupError, Manifest, Watch, sync_directory, unpack_backup
from strogoff.store.files import is_empty, store_of

__all__ = ["Restored", "restore", "unfinished_restore"]

DAMAGES_SHOWN_MAX = 3


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in place now, and where the former store is, None where there was none."""

    manifest: Manifest
    report: _engine.StoreReport
    former: Path | None


def restore(source: Path, data_directory: Path, *, replace: bool, watch: Watch) -> Restored:
    """Put the backup `source` in the place of the store. The caller holds the data directory.

    Without `replace` a store with anything in it is refused. Raises `BackupError`, and what `watch` raises; then the
    store is as it was.
    """
    store, unpacked = store_of(data_directory), _unpacked(data_directory)
    if not replace and not is_empty(store):
        raise BackupError(f"there is a store in {store} already: --replace puts it aside and restores the backup")
    try:
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(mode=0o700)
        try:
            manifest = unpack_backup(source, unpacked, watch)
            report = _checked(source, unpacked)
            former = _put_in_place(unpacked, store)
        except BaseException:
            # Whatever ended it, Ctrl-C too: a broker would take what is left for a restore that is to be finished.
            shutil.rmtree(unpacked, ignore_errors=True)
            raise
    except OSError as error:
        raise BackupError(f"{source} cannot be restored to {store}: {error.strerror or error}") from error
    return Restored(manifest, report, former)


def unfinished_restore(data_directory: Path) -> str | None:
    """A sentence when a restore was cut short and there is no store now, else None. Raises `OSError`."""
    store, unpacked = store_of(data_directory), _unpacked(data_directory)
    if not unpacked.exists() or not is_empty(store):
        return None
    former = max(data_directory.glob(f"{store.name}.replaced-*"), default=None)
    back = f", or go back to the former store (mv {former} {store})" if former else ""
    return (
        f"there is no store, but {unpacked} shows that a restore was cut short: "
        f"restore again (strogoff store restore FILE){back}; to begin with an empty store remove {unpacked}"
    )


def _unpacked(data_directory: Path) -> Path:
    store = store_of(data_directory)
    return store.with_name(f"{store.name}.restoring")


def _checked(source: Path, unpacked: Path) -> _engine.StoreReport:
    try:
        report = _engine.check_store(str(unpacked))
    except _engine.StoreError as error:
        raise BackupError(f"the store in {source} cannot be used: {error}") from error
    if not report.is_sound:
        shown = "; ".join(f"{each.file} at {each.offset}: {each.what}" for each in report.damages[:DAMAGES_SHOWN_MAX])
        raise BackupError(f"the store in {source} was damaged when the backup was made ({shown}): use another backup")
    return report


def _put_in_place(unpacked: Path, store: Path) -> Path | None:
    """Where the former store is now. Raises `OSError`."""
    former: Path | None = None
    if is_empty(store):
        if store.exists():
            store.rmdir()
    else:
        former = store.with_name(f"{store.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        store.rename(former)
    try:
        unpacked.rename(store)
    except BaseException:
        if former is not None:
            former.rename(store)
        raise
    sync_directory(store.parent)
    return former
