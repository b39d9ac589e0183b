"""Placeholders in values: `$(<file)` is the content of a file, `$(other.key)` the value of another key."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from strogoff.config.sources import Assignment

__all__ = ["CONTENT_BYTES_MAX", "PlaceholderError", "Placeholders", "content_of"]

CONTENT_BYTES_MAX = 1024 * 1024
TEXT_CHARACTERS_MAX = 1024 * 1024

_FILE = re.compile(r"\$\(<([^)\n]+)\)")
_KEY = re.compile(r"\$\(([^)<\n][^)\n]*)\)")


class PlaceholderError(ValueError):
    """A placeholder that cannot be replaced. The message says which and why."""


class Placeholders:
    """Replaces the placeholders in the texts of a set of assignments.

    `default_of` gives the default text of a key that is not assigned, None where there is none.
    """

    def __init__(self, assignments: Mapping[str, Assignment], default_of: Callable[[str], str | None]) -> None:
        self._assignments = assignments
        self._default_of = default_of
        self._texts: dict[str, str] = {}

    def text_of(self, key: str) -> str:
        """The text of an assigned key with nothing left to replace. Raises `PlaceholderError`."""
        return self._resolve(key, ())

    def _resolve(self, key: str, users: tuple[str, ...]) -> str:
        if key in self._texts:
            return self._texts[key]
        if key in users:
            raise PlaceholderError("these keys refer to one another: " + " -> ".join((*users, key)))
        assignment = self._assignments.get(key)
        if assignment is None:
            text, directory = self._default_of(key), "."
        else:
            text, directory = assignment.text, assignment.directory
        if text is None:
            raise PlaceholderError(f"$({key}) has no value: no key of this name is set")
        is_literal = assignment is not None and assignment.is_literal
        resolved = text if is_literal else self._replaced(text, directory, (*users, key))
        self._texts[key] = resolved
        return resolved

    def _replaced(self, text: str, directory: str, users: tuple[str, ...]) -> str:
        if file := _FILE.fullmatch(text):
            return content_of(Path(directory) / file[1].strip())
        if len(users) > 64 and _KEY.search(text):
            raise PlaceholderError("placeholders lead to one another more than 64 deep")
        parts: list[str] = []
        size, end = 0, 0
        for match in _KEY.finditer(text):
            replacement = self._resolve(match[1].strip(), users)
            parts += [text[end : match.start()], replacement]
            size += len(replacement)
            end = match.end()
            if size > TEXT_CHARACTERS_MAX:
                raise PlaceholderError(f"the value grows beyond {TEXT_CHARACTERS_MAX} characters")
        return "".join([*parts, text[end:]])


def content_of(path: Path) -> str:
    """The text of a file without the line end at its end. Raises `PlaceholderError` that names the file."""
    try:
        with path.open("rb") as file:
            content = file.read(CONTENT_BYTES_MAX + 1)
    except OSError as error:
        raise PlaceholderError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise PlaceholderError(f"{str(path)!r} is not a path") from None
    if len(content) > CONTENT_BYTES_MAX:
        raise PlaceholderError(f"{path} is larger than {CONTENT_BYTES_MAX} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise PlaceholderError(f"{path} is not UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")
