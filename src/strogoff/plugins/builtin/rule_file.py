"""A file of rules that is read at the start and again whenever it has changed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strogoff.observe.logging import Logger

__all__ = ["SIZE_MAX", "RuleFile", "RuleFileError"]

SIZE_MAX: Final = 256 * 1024 * 1024
"""A larger file is not read: what it compiles to would not fit where other things have to fit, too."""


class RuleFileError(Exception):
    """The file cannot be read; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class _Stamp:
    """What changes when a file does."""

    modified_ns: int
    size: int
    inode: int


class RuleFile:
    """Reads a file and tells `use` its content. `use` returns the lines that it could not use, as sentences."""

    def __init__(self, path: Path, log: Logger, use: Callable[[bytes], list[str]]) -> None:
        self._path = path
        self._log = log
        self._use = use
        self._stamp: _Stamp | None = None
        self._told = ""

    async def load(self) -> None:
        """Read it now. Raises `RuleFileError`."""
        try:
            self._stamp, content = await asyncio.to_thread(self._read)
        except RuleFileError as error:
            # Whoever asked for it says so; watching does not say it again.
            self._told = str(error)
            raise
        for remark in self._use(content):
            self._log.warning("a line cannot be used", file=str(self._path), remark=remark)

    async def watch(self, interval_s: float) -> None:
        """Read it again whenever it has changed; a file that cannot be read leaves what was read before."""
        while True:
            await asyncio.sleep(interval_s)
            await self.refresh()

    async def refresh(self) -> bool:
        """Read it if it has changed. Whether it was read. What is in the way is told once."""
        told = self._told
        try:
            if await asyncio.to_thread(self._look) == self._stamp:
                return False
            await self.load()
        except RuleFileError as error:
            if str(error) != told:
                self._told = str(error)
                self._log.error("the rules that were read before stay in force", reason=str(error))
            return False
        self._told = ""
        self._log.notice("file read again", file=str(self._path))
        return True

    def _look(self) -> _Stamp:
        try:
            found = self._path.stat()
        except OSError as error:
            raise RuleFileError(f"{self._path} cannot be read: {error.strerror}") from error
        return _Stamp(found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> tuple[_Stamp, bytes]:
        # The stamp is older than the content, so that a change in between is seen as one the next time.
        stamp = self._look()
        if stamp.size > SIZE_MAX:
            raise RuleFileError(f"{self._path} has {stamp.size} bytes; at most {SIZE_MAX} are read")
        try:
            return stamp, self._path.read_bytes()
        except OSError as error:
            raise RuleFileError(f"{self._path} cannot be read: {error.strerror}") from error
