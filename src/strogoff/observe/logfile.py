"""A log file that is rotated by size: `console.log`, then `console.log.1` (the youngest) and so on.

Rotated files are gzipped if asked for, `console.log.1.gz`.
"""

import dataclasses
import gzip
import logging.handlers
import shutil
from pathlib import Path

__all__ = ["LogFileError", "RotatingFile"]


class LogFileError(Exception):
    """A log file that cannot be opened; the message names it, says why and what to do."""


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
        """Open for appending; makes the directory, but none above it. Raises `LogFileError`."""
        try:
            self.path.parent.mkdir(exist_ok=True)
            handler = logging.handlers.RotatingFileHandler(
                self.path,
                maxBytes=self.size_max or 0,
                backupCount=max(self.keep, 1),
                encoding="utf-8",
                errors="backslashreplace",
            )
        except OSError as error:
            raise LogFileError(
                f"the log file {self.path} cannot be opened: {_reason(error, self.path.parent)}"
            ) from error
        if self.compress:
            handler.namer = lambda name: f"{name}.gz"
            handler.rotator = _compress
        return handler


def _reason(error: OSError, directory: Path) -> str:
    match error:
        case FileNotFoundError():
            # A path that was misspelt must not come into being as a tree of directories, perhaps root's.
            reason, remedy = f"there is no directory {_first_missing(directory)}", "make it, or "
        case FileExistsError() | NotADirectoryError():
            reason, remedy = f"{directory} is no directory", ""
        case PermissionError():
            reason, remedy = str(error.strerror), "let the user who runs the broker write there, or "
        case _:
            reason, remedy = str(error.strerror), ""
    return f"{reason}; {remedy}name another file (log.console.file, log.error.file)"


def _first_missing(directory: Path) -> Path:
    path = directory.absolute()
    # The last one, the directory itself, would have been made if something above it were not missing.
    return next((above for above in reversed(path.parents) if not above.exists()), path)


def _compress(source: str, target: str) -> None:
    with Path(source).open("rb") as plain, gzip.open(target, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed)
    Path(source).unlink()
