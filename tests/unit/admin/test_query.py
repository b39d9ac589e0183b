"""Columns, conditions and limits of the commands that show rows."""

import pytest

from strogoff.admin.arguments import Call
from strogoff.admin.query import Row, query_of
from strogoff.admin.result import CommandError, Table

FIELDS = {"client_id": "the client", "is_online": "connected", "qos": "the QoS", "user": "the user"}
ROW: Row = {"client_id": "sensor-1", "is_online": True, "qos": 1, "user": None}


def _call(*flags: tuple[str, str | None]) -> Call:
    return Call(flags=flags)


def test_without_bare_fields_the_default_columns_are_shown() -> None:
    query = query_of(_call(("qos", "1")), FIELDS, ("client_id", "user"))
    assert query.columns == ("client_id", "user")


def test_bare_fields_are_the_only_columns_in_the_order_asked_for_and_once() -> None:
    query = query_of(_call(("qos", None), ("client_id", None), ("qos", None)), FIELDS, ("client_id",))
    assert query.columns == ("qos", "client_id")


@pytest.mark.parametrize(
    ("field", "value", "holds"),
    [
        ("client_id", "sensor-1", True),
        ("client_id", "sensor", False),
        ("client_id", "~^sensor-[0-9]+$", True),
        ("client_id", "~ens", True),
        ("client_id", "~^ens", False),
        ("is_online", "true", True),
        ("is_online", "false", False),
        ("qos", "1", True),
        ("qos", "2", False),
        ("user", "", True),
        ("user", "somebody", False),
    ],
)
def test_a_condition_compares_the_written_form(field: str, value: str, holds: bool) -> None:
    assert query_of(_call((field, value)), FIELDS, ("client_id",)).accepts(ROW) is holds


def test_all_conditions_must_hold() -> None:
    assert not query_of(_call(("qos", "1"), ("client_id", "x")), FIELDS, ("client_id",)).accepts(ROW)
    assert not query_of(_call(("client_id", "~^s"), ("client_id", "~2$")), FIELDS, ("client_id",)).accepts(ROW)


def test_only_equality_names_one_value() -> None:
    query = query_of(_call(("client_id", "~x"), ("qos", "1")), FIELDS, ("client_id",))
    assert query.exactly("client_id") is None
    assert query.exactly("qos") == "1"


@pytest.mark.parametrize("pattern", ["~(", "~" + "a" * 2000, "~*"])
def test_a_bad_pattern_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(CommandError, match="--client_id"):
        query_of(_call(("client_id", pattern)), FIELDS, ("client_id",))


def test_the_limit_cuts_rows_off_and_says_so() -> None:
    query = query_of(_call(("limit", "2")), FIELDS, ("client_id",))
    whole = query.result([ROW] * 2)
    assert whole.notes == ()
    cut = query.result([ROW] * 3)
    assert isinstance(cut.parts[0], Table)
    assert len(cut.parts[0].rows) == 2
    assert cut.notes == ("only the first 2 rows are shown: ask for more with --limit=N",)


def test_a_limit_must_be_a_number() -> None:
    with pytest.raises(CommandError, match="--limit=0: expected a whole number, 1 or more"):
        query_of(_call(("limit", "0")), FIELDS, ("client_id",))
