"""The data directory: made with the owner's rights only, and held by one broker at a time."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

__all__ = ["LOCK_NAME", "DataDirectoryError", "DataDirectoryInUseError", "held", "undisturbed"]

LOCK_NAME = "strogoff.lock"

_KEY = "platform_data_dir"
_ADVICE = {
    errno.EACCES: "make it yourself and give it to the user who runs the broker (chown), or use another directory",
    errno.EPERM: "make it yourself and give it to the user who runs the broker (chown), or use another directory",
    errno.EROFS: "use a directory on a file system that can be written to",
    errno.ENOSPC: "free some space, or use a directory on another file system",
    errno.ELOOP: "repair its symbolic links, or use another directory",
}


class DataDirectoryError(Exception):
    """The directory cannot be used; the message says why and what to do."""


class DataDirectoryInUseError(DataDirectoryError):
    """Another process has the directory: a broker, or a program that works on its store. `holder` is its id, or ""."""

    def __init__(self, path: Path, holder: str) -> None:
        who = f" (process {holder})" if holder else ""
        super().__init__(
            f"the data directory {path} is in use by another broker{who}: stop it, or use another directory"
        )
        self.holder = holder


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold the directory (made with mode 0700 if need be); yields whether it is closed to other users.

    The lock is the kernel's: it ends with the process, however that ends, so a crash leaves nothing to clean up.
    Raises `DataDirectoryError`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise DataDirectoryError(f"the data directory {path} is no directory: use another path ({_KEY})") from error
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "use a directory in which files can be made")
        raise DataDirectoryError(
            f"the data directory {path} cannot be used: {error.strerror}; {advice} ({_KEY})"
        ) from error
    try:
        _lock(lock, path)
        yield stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    finally:
        os.close(lock)


@contextlib.contextmanager
def undisturbed(path: Path) -> Iterator[None]:
    """Keep brokers out of the directory while it is looked at. Changes nothing in it, so it may be one to read only.

    Raises `DataDirectoryError`.
    """
    try:
        lock = os.open(path / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # No broker has ever been here.
        yield
        return
    except OSError as error:
        raise DataDirectoryError(
            f"the data directory {path} cannot be used: its lock cannot be opened ({error.strerror}); "
            "be the user who runs the broker"
        ) from error
    try:
        _take(lock, path)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, path: Path) -> None:
    _take(lock, path)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _take(lock: int, path: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        raise DataDirectoryInUseError(path, holder if holder.isdigit() else "") from None
    except OSError as error:
        raise DataDirectoryError(
            f"the data directory {path} cannot be locked: {error.strerror}; use a file system with locks"
        ) from error
