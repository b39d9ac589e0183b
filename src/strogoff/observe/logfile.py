"""A log file that is rotated by size: `console.log`, then `console.log.1` (the youngest) and so on.

Rotated files are gzipped if asked for, `console.log.1.gz`.
"""

import dataclasses
import gzip
import logging.handlers
import shutil
from pathlib import Path

__all__ = ["RotatingFile"]


@dataclasses.dataclass(frozen=True, slots=True)
class RotatingFile:
    """Where a log file is and when it is rotated.

    `size_max`: bytes, None never rotates. `keep`: rotated files that stay. `compress`: rotated files are gzipped.
    """

    path: Path
    size_max: int | None = None
    keep: int = 5
    compress: bool = False

    def open(self) -> logging.Handler:
        """Open for appending; makes the directory. Raises `OSError`."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            self.path,
            maxBytes=self.size_max or 0,
            backupCount=max(self.keep, 1),
            encoding="utf-8",
            errors="backslashreplace",
        )
        if self.compress:
            handler.namer = lambda name: f"{name}.gz"
            handler.rotator = _compress
        return handler


def _compress(source: str, target: str) -> None:
    with Path(source).open("rb") as plain, gzip.open(target, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed)
    Path(source).unlink()
