"""The files of a store: where they are and what they are called. What stands in them is the engine's affair."""

import re
from pathlib import Path

__all__ = ["is_empty", "is_file_name", "log_files", "readable_size", "store_of"]

_NAME = "store"
_FILE_NAME = re.compile(r"[0-9]{10}\.log")


def store_of(data_directory: Path) -> Path:
    """Where a node keeps its store."""
    return data_directory / _NAME


def is_empty(store: Path) -> bool:
    """Whether nothing has ever been stored there. Raises `OSError`."""
    return not store.exists() or (store.is_dir() and not any(store.iterdir()))


def is_file_name(name: str) -> bool:
    """Whether a file of a store can be called so."""
    return _FILE_NAME.fullmatch(name) is not None


def log_files(store: Path) -> list[Path]:
    """The files of a store in the order in which they were written. Raises `OSError`."""
    return sorted(path for path in store.iterdir() if is_file_name(path.name))


def readable_size(size: int) -> str:
    """A number of bytes for people, in the units of the configuration file: `512 bytes`, `1.5 MB`."""
    amount, unit = float(size), "bytes"
    for larger in ("KB", "MB", "GB", "TB"):
        if amount < 1_024:
            break
        amount, unit = amount / 1_024, larger
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
