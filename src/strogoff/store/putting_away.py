"""A node that is in its cluster no more: its state is put away at its next start, so that it begins empty.

What it has was taken over by others, and has gone on there, so it must not come back as if it were current. Of a node
that was taken out while it was away it may be all that there is of some messages: it is never deleted. A node that has
left by itself has given everything away before: of such states the latest is kept.
"""

import contextlib
import datetime
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, TypedDict, Unpack

from strogoff.store.archive import sync_directory
from strogoff.store.files import store_of

__all__ = ["Counts", "Removal", "note_removal", "put_away"]

NOTE_NAME: Final = "removed-from-cluster.json"


class Counts(TypedDict):
    """What the node has."""

    sessions: int
    messages: int
    retained: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What was known when the node learnt that it was taken out, or left. `at`: ISO 8601 in UTC. `has_left`: by itself,
    when others had all that it had.
    """

    told_by: str
    at: str
    sessions: int
    messages: int
    retained: int
    has_left: bool = False


def note_removal(data_directory: Path, *, told_by: str, has_left: bool = False, **counts: Unpack[Counts]) -> None:
    """Have the state put away at the next start. Raises `OSError`."""
    at = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    note = data_directory / NOTE_NAME
    partial = note.with_suffix(".partial")
    with partial.open("w") as file:
        json.dump(asdict(Removal(told_by, at, **counts, has_left=has_left)), file)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(note)
    sync_directory(data_directory)


def put_away(data_directory: Path) -> tuple[Path, Removal] | None:
    """Put the store of a node that has a note beside its place; where, and what is known of it. Raises `OSError`."""
    note = data_directory / NOTE_NAME
    try:
        text = note.read_text()
    except FileNotFoundError:
        return None
    try:
        removal = Removal(**json.loads(text))
    except (ValueError, TypeError):
        # That it is there says all that matters.
        removal = Removal("", "unknown", 0, 0, 0)
    store = store_of(data_directory)
    happened = "left" if removal.has_left else "removed"
    away = _free_name(store.with_name(f"{store.name}.{happened}-{removal.at}"))
    if removal.has_left and store.exists():
        for earlier in store.parent.glob(f"{store.name}.left-*"):
            shutil.rmtree(earlier)
    # A crash between the two finds no store the next time.
    with contextlib.suppress(FileNotFoundError):
        store.rename(away)
    sync_directory(data_directory)
    note.unlink()
    return away, removal


def _free_name(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        candidate, number = path.with_name(f"{path.name}-{number}"), number + 1
    return candidate
