"""The fault layer in the hands of a test: compiled once, told by a file what is to fail, asked for a loss of power."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Literal

from durability import journal

__all__ = ["Call", "Error", "FaultLayer", "clock_moved", "compile_layer"]

Call = Literal["write", "sync", "allocate", "create", "remove"]
Error = Literal["EIO", "ENOSPC"]


def compile_layer(directory: Path) -> Path:
    """Compile `fault.c` into this directory; gives the library."""
    library = directory / "fault.so"
    command = ["cc", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-o"]
    source = Path(__file__).with_name("fault.c")
    subprocess.run([*command, str(library), str(source), "-ldl", "-lpthread"], check=True, timeout=60)
    return library


def clock_moved(library: Path, seconds: int) -> dict[str, str]:
    """The environment of a program for which it is so much later."""
    return {"LD_PRELOAD": str(library), "FAULT_CLOCK_S": str(seconds)}


@dataclass(slots=True)
class FaultLayer:
    """Faults of the files under `target`; `directory` is for the layer's own files, on the same file system."""

    library: Path
    target: Path
    directory: Path

    def __post_init__(self) -> None:
        self.target = self.target.absolute()
        self._graves.mkdir(parents=True)

    @property
    def _control(self) -> Path:
        return self.directory / "control"

    @property
    def _journal(self) -> Path:
        return self.directory / "journal"

    @property
    def _graves(self) -> Path:
        return self.directory / "graves"

    def environment(self, *, keep_journal: bool = False) -> dict[str, str]:
        """The environment of the program that is to have the faults."""
        variables = {
            "LD_PRELOAD": str(self.library),
            "FAULT_PATH": str(self.target),
            "FAULT_CONTROL": str(self._control),
        }
        if keep_journal:
            variables |= {"FAULT_JOURNAL": str(self._journal), "FAULT_GRAVES": str(self._graves)}
        return variables

    def fail(self, *calls: Call, error: Error = "EIO", every: int = 1, torn: bool = False) -> None:
        """From now on these calls fail: each, or each n-th. With `torn` a write that fails has done its first half."""
        lines = [f"{call} {error} {every}{' torn' if torn else ''}\n" for call in calls]
        # In one step, so that the program never reads half of it.
        draft = self._control.with_suffix(".draft")
        draft.write_text("".join(lines))
        draft.rename(self._control)

    def heal(self) -> None:
        """From now on nothing fails."""
        self._control.unlink(missing_ok=True)

    @contextmanager
    def failing(self, *calls: Call, error: Error = "EIO", every: int = 1, torn: bool = False) -> Iterator[None]:
        self.fail(*calls, error=error, every=every, torn=torn)
        try:
            yield
        finally:
            self.heal()

    def lose_power(self, rng: Random | None = None) -> journal.Lost:
        """Take back what the program, which is dead, has not synced: all, or a part by chance."""
        return journal.lose_power(self.target, self._journal, self._graves, rng)

    def garble_last_write(self, rng: Random) -> int:
        """Spoil the end of the last write that was not synced; gives how many bytes, 0 when all was synced."""
        return journal.garble_last_write(self.target, self._journal, self._graves, rng)
