"""What a command answers: parts of data (tables, texts, alerts), or a failure in a sentence.

Two forms in JSON: VerneMQ's, which is what a person gets with `--format=json` (`part_to_json`), and the one between a
node and its command line (`part_to_wire`), in which a column's name is written once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = [
    "Alert",
    "CommandError",
    "NotHereError",
    "Part",
    "Result",
    "Table",
    "Text",
    "Value",
    "part_from_wire",
    "part_to_json",
    "part_to_wire",
]

Value: TypeAlias = str | int | float | bool | None


class CommandError(Exception):
    """A command that failed. The message is for the operator: what was wrong, what was expected, what to do."""


class NotHereError(CommandError):
    """What the command is about is not on this node; another one may have it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns. Every row has one value for each column, in the order of the columns."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]

    def __post_init__(self) -> None:
        width = len(self.columns)
        assert all(len(row) == width for row in self.rows), f"a row that does not fit the columns {self.columns}"

    def records(self) -> list[dict[str, Value]]:
        """The rows as one mapping each."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Text:
    """Lines for a person. `table` is the same for a program, where there is such a thing; CSV prefers it."""

    text: str
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """Parts that want attention although the command did what it was asked."""

    parts: tuple[Text | Table, ...]


Part: TypeAlias = Table | Text | Alert


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one command. `notes` are for the operator's eyes (standard error), never for a pipe."""

    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @staticmethod
    def of(*parts: Part, notes: Sequence[str] = ()) -> "Result":
        """A result of these parts."""
        return Result(parts, tuple(notes))

    @staticmethod
    def done() -> "Result":
        """What a command says that has nothing else to say."""
        return Result((Text("Done"),))


def part_to_json(part: Part) -> dict[str, Any]:
    """One part in VerneMQ's JSON form."""
    match part:
        case Table():
            return {"type": "table", "table": part.records()}
        case Text():
            return {"type": "text", "text": part.text}
        case Alert():
            return {"type": "alert", "alert": [part_to_json(inner) for inner in part.parts]}


def part_to_wire(part: Part) -> dict[str, Any]:
    """One part as it travels over the admin socket: columns and rows apart, so nothing is said twice."""
    match part:
        case Table():
            return {"type": "table", "columns": part.columns, "rows": part.rows}
        case Text():
            table = {} if part.table is None else {"table": part_to_wire(part.table)}
            return {"type": "text", "text": part.text, **table}
        case Alert():
            return {"type": "alert", "parts": [part_to_wire(inner) for inner in part.parts]}


def part_from_wire(data: Mapping[str, Any]) -> Part:
    """The part that `part_to_wire` wrote. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    match data["type"]:
        case "table":
            return _table_from(data)
        case "text":
            table = data.get("table")
            return Text(str(data["text"]), None if table is None else _table_from(table))
        case "alert":
            parts = tuple(part_from_wire(inner) for inner in data["parts"])
            return Alert(tuple(part for part in parts if not isinstance(part, Alert)))
        case kind:
            raise ValueError(f"a part of the unknown type {kind!r}")


def _table_from(data: Mapping[str, Any]) -> Table:
    return Table(tuple(data["columns"]), [tuple(row) for row in data["rows"]])
