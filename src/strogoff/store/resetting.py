"""A node that joins a cluster empty: at its next start its store becomes an archive, and it begins with a new one.

A note in the data directory says so, and what is to be done after it; each step can be done again after a crash. The
archive is made at the start, when nobody writes: so it has all that was acknowledged. It is complete before anything
goes, and `strogoff store restore` reads it.
"""

import dataclasses
import datetime
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from strogoff.store.archive import Manifest, sync_directory, write_backup
from strogoff.store.files import is_empty, log_files, store_of

__all__ = ["BadResetError", "Reset", "carry_out", "find_reset", "forget_reset", "free_archive", "note_reset"]

NOTE_NAME: Final = "reset-before-join.json"


class BadResetError(ValueError):
    """The note is not what was written there."""


@dataclass(frozen=True, slots=True)
class Reset:
    """`name`, `address`: of the node through which this one joins then. `archive`: the name of the file. `holdings`:
    what it has, in words. `is_done`: the archive is there, and the store empty.
    """

    name: str
    address: str
    archive: str
    holdings: tuple[str, ...]
    is_done: bool = False


def free_archive(data_directory: Path, what: str) -> Path:
    """A name for an archive that there is not yet. Raises `OSError`."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    path, number = data_directory / f"{what}-{at}.tar", 1
    while path.exists():
        path, number = data_directory / f"{what}-{at}-{number}.tar", number + 1
    return path


def note_reset(data_directory: Path, reset: Reset) -> None:
    """Have it done at the next start. Raises `OSError`."""
    note = data_directory / NOTE_NAME
    partial = note.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(asdict(reset), file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(note)
    sync_directory(data_directory)


def find_reset(data_directory: Path) -> Reset | None:
    """What is noted. Raises `OSError` and `BadResetError`."""
    note = data_directory / NOTE_NAME
    try:
        fields = json.loads(note.read_text())
        return Reset(**{**fields, "holdings": tuple(fields["holdings"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise BadResetError(f"{note} cannot be read ({error!r}): remove it to start with the store as it is") from None


def carry_out(data_directory: Path, reset: Reset, origin: Manifest) -> Reset:
    """Archive the store and empty it. Again after a crash it does what is left. Raises `BackupError`, with the store as
    it was, and `OSError`.
    """
    store, archive = store_of(data_directory), data_directory / reset.archive
    going = store.with_name(f"{store.name}.archived")
    # What has its name is complete. Without a store, or with one that is going, it was so before.
    if not archive.exists() and not is_empty(store):
        write_backup(archive, log_files(store), origin=origin, watch=lambda _done, _total: None)
    if not is_empty(store):
        shutil.rmtree(going, ignore_errors=True)
        store.rename(going)
        sync_directory(data_directory)
    done = dataclasses.replace(reset, is_done=True)
    note_reset(data_directory, done)
    shutil.rmtree(going, ignore_errors=True)
    return done


def forget_reset(data_directory: Path) -> None:
    """What is noted is done, or given up. Raises `OSError`."""
    store = store_of(data_directory)
    shutil.rmtree(store.with_name(f"{store.name}.archived"), ignore_errors=True)
    (data_directory / NOTE_NAME).unlink(missing_ok=True)
    sync_directory(data_directory)
