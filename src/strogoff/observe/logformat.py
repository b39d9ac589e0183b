"""Log lines: text for people, one JSON object a line for programs. Nothing in a field can start a line of its own."""

import enum
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["JsonFormatter", "Layout", "TextFormatter"]

_PLAIN = re.compile(r"[^\s\"'=\\\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_COLOURS = ((logging.ERROR, "\x1b[31m"), (logging.WARNING, "\x1b[33m"), (25, "\x1b[1m"), (logging.INFO, "\x1b[32m"))
_FAINT, _PLAIN_AGAIN = "\x1b[2m", "\x1b[0m"
_RESERVED = frozenset({"time", "level", "logger", "message", "exception"})


class Layout(enum.Enum):
    """The two forms of a line."""

    TEXT = "text"
    JSON = "json"


class TextFormatter(logging.Formatter):
    """`2026-11-23T03:51:55.123Z info    broker: listener open  listener=default`.

    `colours`: for a terminal that shows them. `place`: with the part of the program that speaks (`broker:`).
    """

    def __init__(self, *, colours: bool = False, place: bool = True) -> None:
        super().__init__()
        self._colours = colours
        self._place = place

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the lines of a trace."""
        level = record.levelname.lower()
        time = _time(record)
        if self._colours:
            colour = next((code for number, code in _COLOURS if record.levelno >= number), _FAINT)
            time, level = f"{_FAINT}{time}{_PLAIN_AGAIN}", f"{colour}{level:<7}{_PLAIN_AGAIN}"
        fields = " ".join(f"{name}={_value(value)}" for name, value in _fields(record).items())
        place = f"{record.name.rpartition('.')[2]}: " if self._place else ""
        line = f"{time} {level:<7} {place}{_sentence(record.getMessage())}" + (f"  {fields}" if fields else "")
        trace = _exception(self, record)
        return f"{line}\n{trace}" if trace else line


class JsonFormatter(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, then the fields; `exception` is a trace."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        head = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # A field cannot take the place of the line's own entries.
        fields = {f"{name}_" if name in _RESERVED else name: value for name, value in _fields(record).items()}
        trace = _exception(self, record)
        return json.dumps({**head, **fields, **({"exception": trace} if trace else {})}, default=str)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, Mapping) else {}


def _value(value: object) -> str:
    """A value without quotes where it is one plain word, else as a JSON string, in which nothing steers a terminal."""
    text = "true" if value is True else "false" if value is False else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def _sentence(message: str) -> str:
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in message)


def _exception(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    return "\n".join(_sentence(line) for line in formatter.formatException(record.exc_info).split("\n"))
