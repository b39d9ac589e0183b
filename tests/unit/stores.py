"""Small real stores for tests of what is done with them."""

from collections.abc import Mapping
from pathlib import Path

from strogoff._engine import Engine
from strogoff.store.files import log_files

SEGMENT_BYTES = 64 << 10

CONTENT: Mapping[bytes, bytes] = {b"one": b"1", b"two": b"2" * 1_000, b"three": b""}


def make_store(directory: Path, content: Mapping[bytes, bytes] = CONTENT) -> Path:
    """A store that was closed properly and holds these keys; returns its directory."""
    directory.mkdir(mode=0o700, parents=True)
    engine = opened(directory)
    engine.store_write(list(content.items()), wait=True)
    engine.stop()
    return directory


def opened(directory: Path) -> Engine:
    engine = Engine({"workers": 1, "store.segment_bytes": SEGMENT_BYTES})
    engine.open_store(str(directory))
    return engine


def content_of(directory: Path) -> dict[bytes, bytes]:
    """All keys of a store that nobody has open, which opens it."""
    engine = opened(directory)
    try:
        return dict(engine.store_scan(b""))
    finally:
        engine.stop()


def damage(store: Path) -> Path:
    """Make the head of the store's first file unreadable; returns the file."""
    file = log_files(store)[0]
    with file.open("r+b") as opened_file:
        opened_file.write(b"garbage!")
    return file
