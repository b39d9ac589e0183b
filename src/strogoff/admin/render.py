r"""Parts of a result as text: VerneMQ's tables for people, its JSON and CSV for programs.

Client ids, user names and topics are chosen by strangers. What would steer a terminal, break a table or start a new
line is written as an escape (`\x1b`) in all three formats.
"""

import csv
import enum
import io
import json
import re
import unicodedata
from collections.abc import Sequence

from strogoff.admin.result import Alert, Part, Table, Text, Value, part_to_json

__all__ = ["Format", "printable", "render"]

# Control characters (C0, DEL, C1), separators that break a line, marks that turn the direction of writing, surrogates.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Format(enum.Enum):
    """The formats of `--format`."""

    HUMAN = "human"
    JSON = "json"
    CSV = "csv"


def render(parts: Sequence[Part], output: Format) -> str:
    """All parts in the format asked for; ends with a line end unless there is nothing to show."""
    match output:
        case Format.HUMAN:
            return "".join(_human(part) for part in parts)
        case Format.JSON:
            return _json(parts)
        case Format.CSV:
            return "".join(_csv(part) for part in parts)


def printable(text: str) -> str:
    """The text with everything that could steer a terminal written as an escape."""
    return _STEERING.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _human(part: Part) -> str:
    match part:
        case Table():
            return _human_table(part)
        case Text():
            return _lines(part.text)
        case Alert():
            return "".join(_human(inner) for inner in part.parts)


def _lines(text: str) -> str:
    """A text is made of lines on purpose; the rest of what steers a terminal is not wanted in it."""
    return "".join(f"{printable(line)}\n" for line in text.split("\n"))


def _human_table(table: Table) -> str:
    if not table.rows:
        return ""
    lines = [[_cell(value) for value in row] for row in (table.columns, *table.rows)]
    widths = [max(_width(cell) for cell in column) for column in zip(*lines, strict=True)]
    border = "+" + "+".join("-" * (width + 2) for width in widths) + "+\n"
    body = (
        "|"
        + "|".join(f" {cell}{' ' * (width - _width(cell))} " for cell, width in zip(line, widths, strict=True))
        + "|\n"
        for line in lines
    )
    return border + border.join(body) + border + "\n"


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return printable(value)
        case _:
            return str(value)


def _width(text: str) -> int:
    """How many columns of a terminal the text takes: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _json(parts: Sequence[Part]) -> str:
    data = [part_to_json(part) for part in parts]
    # One part stands alone, several make an array; no part is an empty array, so that the output is always JSON.
    text = json.dumps(data[0] if len(data) == 1 else data, ensure_ascii=False)
    # Everything outside ASCII that json leaves alone stands inside a string, where \u is an escape.
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def _csv(part: Part) -> str:
    match part:
        case Table():
            return _csv_table(part)
        case Text(table=Table() as table):
            return _csv_table(table)
        case Text():
            return _lines(part.text)
        case Alert():
            return "".join(_csv(inner) for inner in part.parts)


def _csv_table(table: Table) -> str:
    """RFC 4180 with line feeds; the columns' names stand there even when no row does."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerows([_cell(value) for value in row] for row in (table.columns, *table.rows))
    return buffer.getvalue()
