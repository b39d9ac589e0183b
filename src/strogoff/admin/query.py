"""Columns and filters of the commands that walk many rows: `--FIELD` shows, `--FIELD=VALUE` selects."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind
from strogoff.admin.result import CommandError, Result, Table, Value

__all__ = ["LIMIT_DEFAULT", "Query", "Row", "field_flags", "limit_flags", "query_of"]

Row = Mapping[str, Value]

LIMIT_DEFAULT = 100
PATTERN_SIZE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--FIELD=VALUE`. `pattern` where the value began with `~`."""

    field: str
    text: str
    pattern: re.Pattern[str] | None

    def holds(self, row: Row) -> bool:
        """Whether the row's field is the value, in its written form, or has a match of the pattern."""
        text = _written(row[self.field])
        return text == self.text if self.pattern is None else self.pattern.search(text) is not None


@dataclass(frozen=True, slots=True)
class Query:
    """Which columns of which rows, and how many."""

    columns: tuple[str, ...]
    conditions: tuple[Condition, ...]
    limit: int

    def mentions(self, fields: Iterable[str]) -> bool:
        """Whether any of the fields is shown or asked about."""
        return not set(fields).isdisjoint({*self.columns, *(condition.field for condition in self.conditions)})

    def exactly(self, field: str) -> str | None:
        """The one value that the field must have, None when a pattern or nothing is asked of it."""
        return next((each.text for each in self.conditions if each.field == field and each.pattern is None), None)

    def among(self, fields: Iterable[str], row: Row) -> bool:
        """Whether the row satisfies the conditions on these fields; others are not looked at."""
        names = set(fields)
        return all(condition.holds(row) for condition in self.conditions if condition.field in names)

    def accepts(self, row: Row) -> bool:
        """Whether the row satisfies all conditions."""
        return all(condition.holds(row) for condition in self.conditions)

    def result(self, rows: Sequence[Row]) -> Result:
        """The table of the rows. One row more than the limit says that there are more, and the operator is told."""
        table = Table(self.columns, [tuple(row[column] for column in self.columns) for row in rows[: self.limit]])
        if len(rows) <= self.limit:
            return Result.of(table)
        return Result.of(table, notes=[f"only the first {self.limit} rows are shown: ask for more with --limit=N"])


def limit_flags() -> tuple[Flag, ...]:
    """The flags that such commands share."""
    return (
        Flag("limit", f"rows at most, of each node that answers ({LIMIT_DEFAULT})", metavar="N"),
        Flag("rowtimeout", "accepted and not needed: no row is ever left out for being slow", metavar="MS"),
    )


def field_flags(fields: Mapping[str, str]) -> tuple[Flag, ...]:
    """A flag for each field: name and help."""
    return tuple(Flag(name, text, kind=FlagKind.FIELD) for name, text in fields.items())


def query_of(call: Call, fields: Mapping[str, str], default_columns: Sequence[str]) -> Query:
    """The query that the flags make. Raises `CommandError` for a pattern or number that is none."""
    asked = [(name, value) for name, value in call.flags if name in fields]
    columns = tuple(dict.fromkeys(name for name, value in asked if value is None)) or tuple(default_columns)
    conditions = tuple(_condition(name, value) for name, value in asked if value is not None)
    call.integer("rowtimeout", 100)
    return Query(columns, conditions, call.integer("limit", LIMIT_DEFAULT, minimum=1))


def _condition(field: str, value: str) -> Condition:
    if not value.startswith("~"):
        return Condition(field, value, None)
    if len(value) > PATTERN_SIZE_MAX:
        raise CommandError(f"--{field}: the regular expression is longer than {PATTERN_SIZE_MAX} characters")
    try:
        return Condition(field, value, re.compile(value[1:]))
    except (re.error, RecursionError, OverflowError) as error:
        raise CommandError(f"--{field}={value}: not a regular expression ({error})") from None


def _written(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)
