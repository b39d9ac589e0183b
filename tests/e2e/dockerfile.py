"""Reads a Dockerfile: its stages, and the instructions of each. And says what `.dockerignore` leaves out."""

import fnmatch
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

__all__ = ["Instruction", "Stage", "is_ignored", "read_dockerfile"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """`flags`: those with two dashes that stand before the rest. `text`: the rest."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def exec_form(self) -> list[str] | None:
        """The words of a JSON list; None for what a shell would read."""
        try:
            words = json.loads(self.text)
        except ValueError:
            return None
        return words if isinstance(words, list) else None

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


@dataclass(slots=True)
class Stage:
    image: str
    name: str | None
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction:
        """The one that holds."""
        return self.all(name)[-1]


def read_dockerfile(text: str) -> list[Stage]:
    stages: list[Stage] = []
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)(?:=(\S*))?\s+", rest):
            flags[match[1]] = match[2] or ""
            rest = rest[match.end() :]
        if name.upper() == "FROM":
            words = rest.split()
            stages.append(Stage(words[0], words[2] if len(words) == 3 and words[1].upper() == "AS" else None))
        else:
            stages[-1].instructions.append(Instruction(name.upper(), flags, rest.strip()))
    return stages


def is_ignored(path: str, ignore_file: Path) -> bool:
    """Whether a path (of the root of the context) is left out. The last line that fits decides."""
    ignored = False
    for line in ignore_file.read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        keeps = pattern.startswith("!")
        if _fits(path, pattern.removeprefix("!")):
            ignored = not keeps
    return ignored


def _fits(path: str, pattern: str) -> bool:
    """Whether the pattern names the path or a directory above it."""
    ways = [str(way) for way in (PurePosixPath(path), *PurePosixPath(path).parents) if str(way) != "."]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatch(PurePosixPath(way).name, pattern.removeprefix("**/")) for way in ways)
    return any(way.count("/") == pattern.count("/") and fnmatch.fnmatch(way, pattern) for way in ways)
