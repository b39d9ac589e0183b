"""What operators decided about plugins while the broker ran, kept in the data directory."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["PluginState", "StateFile", "StateFileError"]

FILE_NAME = "plugins.json"
VERSION = 1
SIZE_MAX = 1_000_000


class StateFileError(Exception):
    """The file cannot be read or written; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class PluginState:
    """Whether a plugin was switched on or off, and the directory it came from, "" for none."""

    is_enabled: bool
    directory: str = ""


class StateFile:
    """The file. Written whole and renamed into place, so that a crash leaves the old or the new one."""

    def __init__(self, data_directory: Path) -> None:
        self._path = data_directory / FILE_NAME

    def read(self) -> dict[str, PluginState]:
        """All decisions by plugin; none when there is no file. Raises `StateFileError` for one that is damaged."""
        try:
            with self._path.open("rb") as file:
                content = json.loads(file.read(SIZE_MAX))
            return {name: _state(entry) for name, entry in content["plugins"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{self._path} cannot be read ({error}): remove it to forget what was enabled at run time"
            raise StateFileError(message) from error

    def write(self, states: dict[str, PluginState]) -> None:
        """Replace the file. Raises `StateFileError`."""
        content = {"version": VERSION, "plugins": {name: asdict(state) for name, state in states.items()}}
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise StateFileError(f"{self._path} cannot be written: {error.strerror}") from error


def _state(entry: dict[str, Any]) -> PluginState:
    return PluginState(bool(entry["is_enabled"]), str(entry.get("directory", "")))
