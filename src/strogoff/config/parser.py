"""The file format: text in VerneMQ's syntax to assignments, with every error of a file in one go.

One `key = value` a line, `#` starts a comment, also inside an unquoted value. `'...'` is taken as it is, `'''...'''`
may span lines. `include PATH` puts other files (with `*` in the last part) in the place of the line. `$(<FILE)` and
`$(other.key)` are replaced later (`placeholders`), when it is known which value holds.

Messages never quote a value: it may be a password.
"""

import dataclasses
import re
from pathlib import Path

from strogoff.config.errors import Problem
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["FILE_BYTES_MAX", "INCLUDED_FILES_MAX", "INCLUDE_DEPTH_MAX", "ParsedFile", "parse_file", "parse_text"]

FILE_BYTES_MAX = 4 * 1024 * 1024
INCLUDE_DEPTH_MAX = 16
INCLUDED_FILES_MAX = 1_000
PROBLEMS_MAX = 200
"""So many problems of one file are told; whoever has more has the wrong file."""

_WORD = r"(?:[A-Za-z0-9_-]|\\\.)+"
_KEY = re.compile(rf"{_WORD}(?:\.{_WORD})*")
_INCLUDE = re.compile(r"include[ \t]+(?P<path>[A-Za-z0-9_.*/-]+)[ \t]*(?:#.*)?")
_AFTER_VALUE = re.compile(r"[ \t]*(?:#.*)?")
_BLANK = " \t"


@dataclasses.dataclass(slots=True)
class ParsedFile:
    """What a file and its includes say. `remarks` are likely slips: (place, key, sentence)."""

    assignments: list[Assignment] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    remarks: list[Problem] = dataclasses.field(default_factory=list)


def parse_file(path: Path) -> ParsedFile:
    """Read a file and what it includes. Never raises for what the files say: see `problems`."""
    parsed = ParsedFile()
    _FileReader(parsed).read(path, ())
    return parsed


def parse_text(text: str, name: str = "configuration", directory: Path = Path()) -> ParsedFile:
    """Read text as if it were a file called `name` in `directory` (where includes are looked for)."""
    parsed = ParsedFile()
    _Lines(_FileReader(parsed), name, directory, ()).read(text)
    return parsed


class _FileReader:
    """Opens a file and its includes, each below the one that includes it, with limits on depth and number."""

    def __init__(self, parsed: ParsedFile) -> None:
        self.parsed = parsed
        self._files_read = 0

    def read(self, path: Path, parents: tuple[Path, ...], where: str | None = None) -> None:
        """Read one file; `parents` are those that include it, `where` the line that does."""
        text = self._text_of(path, where)
        if text is not None:
            _Lines(self, str(path), path.parent, (*parents, _identity(path))).read(text)

    def include(self, pattern: str, directory: Path, parents: tuple[Path, ...], where: str) -> None:
        """Read the files that match; none is fine where the pattern has a `*`, and also where it has not."""
        folder, _, last = pattern.rpartition("/")
        if "*" in folder:
            self.refuse(where, f"include {pattern}: * is possible in the last part of the path only")
            return
        if len(parents) >= INCLUDE_DEPTH_MAX:
            self.refuse(where, f"include {pattern}: files include one another more than {INCLUDE_DEPTH_MAX} deep")
            return
        base = directory / (f"{folder}/" if pattern.startswith("/") and not folder else folder)
        for path in self._matching(base, last, where):
            if _identity(path) in parents:
                self.refuse(where, f"include {pattern}: {path} would include itself", "remove one of the includes")
                continue
            self._files_read += 1
            if self._files_read > INCLUDED_FILES_MAX:
                self.refuse(where, f"include {pattern}: more than {INCLUDED_FILES_MAX} files")
                return
            self.read(path, parents, where)

    def refuse(self, where: str, message: str, advice: str | None = None, key: str | None = None) -> None:
        """Note a problem."""
        if len(self.parsed.problems) < PROBLEMS_MAX:
            self.parsed.problems.append(Problem(where, message, key, advice))

    def _matching(self, base: Path, last: str, where: str) -> list[Path]:
        try:
            if "*" in last:
                return sorted(path for path in base.glob(last) if path.is_file())
            return [base / last] if last and (base / last).is_file() else []
        except (OSError, ValueError) as error:
            self.refuse(where, f"include {base / last}: {error}")
            return []

    def _text_of(self, path: Path, included_at: str | None) -> str | None:
        # A file that was named itself is the place; one that is included has the line of its include as the place.
        where, subject = (included_at, f"include {path}: ") if included_at else (str(path), "")
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            self.refuse(where, f"{subject}cannot be read: {error.strerror}", "check the path and the permissions")
            return None
        if len(content) > FILE_BYTES_MAX:
            self.refuse(where, f"{subject}larger than {FILE_BYTES_MAX} bytes", "is it a configuration file?")
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.refuse(f"{path}:{line}", "this line is not UTF-8 text", "save the file in the encoding UTF-8")
            return None


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


class _Lines:
    """The lines of one file."""

    def __init__(self, reader: _FileReader, name: str, directory: Path, parents: tuple[Path, ...]) -> None:
        self._reader = reader
        self._name = name
        self._directory = directory
        self._parents = parents
        self._lines: list[str] = []
        self._next = 0

    def read(self, text: str) -> None:
        """Read all lines."""
        self._lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        while self._next < len(self._lines):
            number, line = self._next + 1, self._lines[self._next].strip(_BLANK)
            self._next += 1
            if line and not line.startswith("#"):
                self._read_line(number, line)

    def _read_line(self, number: int, line: str) -> None:
        where = f"{self._name}:{number}"
        if include := _INCLUDE.fullmatch(line):
            self._reader.include(include["path"], self._directory, self._parents, where)
            return
        key, equals, rest = line.partition("=")
        key = key.strip(_BLANK)
        if not equals:
            self._reader.refuse(where, f"expected key = value, found {line[:60]!r}", "start a comment with #")
            return
        if not _KEY.fullmatch(key):
            expected = "words of letters, digits, _ and - joined by dots"
            self._reader.refuse(where, f"{key[:80]!r} is not a key: expected {expected}")
            return
        text = self._value(where, key, rest.lstrip(_BLANK))
        if text is not None:
            source = Source(Origin.FILE, where)
            self._reader.parsed.assignments.append(Assignment(key, text, source, str(self._directory)))

    def _value(self, where: str, key: str, rest: str) -> str | None:
        if rest.startswith("'''"):
            return self._triple_quoted(where, key, rest[3:])
        if rest.startswith("'"):
            return self._quoted(where, key, rest[1:])
        return self._plain(where, key, rest)

    def _plain(self, where: str, key: str, rest: str) -> str | None:
        text, hash_sign, _ = rest.partition("#")
        value = text.rstrip(_BLANK)
        if not value:
            self._reader.refuse(where, "has no value", "write '' for an empty one, or remove the line", key)
            return None
        if hash_sign and value == text:
            note = "the value ends before the #, although no blank stands there"
            self._remark(where, key, note, "put the value in single quotes to keep the #, or a blank before a comment")
        if len(value) >= 2 and value.startswith('"') and value.endswith('"'):
            self._remark(where, key, "the double quotes around the value are left out", "use single quotes")
            return value[1:-1]
        return value

    def _quoted(self, where: str, key: str, rest: str) -> str | None:
        value, quote, after = rest.partition("'")
        if not quote:
            self._reader.refuse(where, "the single quote is never closed", "put a ' at the end of the value", key)
            return None
        return value if self._ends_well(where, key, after) else None

    def _triple_quoted(self, where: str, key: str, rest: str) -> str | None:
        parts = [rest]
        while "'''" not in parts[-1]:
            if self._next == len(self._lines):
                self._reader.refuse(where, "the three single quotes are never closed", "put ''' after the value", key)
                return None
            parts.append(self._lines[self._next])
            self._next += 1
        last, _, after = parts[-1].partition("'''")
        value = "\n".join([*parts[:-1], last])
        # A fourth quote belongs to the value's end, which is trimmed of quotes and line ends anyway.
        return value.strip("\n'") if self._ends_well(where, key, after.lstrip("'")) else None

    def _ends_well(self, where: str, key: str, after: str) -> bool:
        if _AFTER_VALUE.fullmatch(after):
            return True
        advice = "a value in single quotes cannot hold a single quote; leave the outer quotes out if you can"
        self._reader.refuse(where, "there is text after the closing quote", advice, key)
        return False

    def _remark(self, where: str, key: str, message: str, advice: str) -> None:
        if len(self._reader.parsed.remarks) < PROBLEMS_MAX:
            self._reader.parsed.remarks.append(Problem(where, message, key, advice))
