"""What people and programs see of a result, to the letter."""

import csv
import io
import json

import pytest

from strogoff.admin.render import Format, render
from strogoff.admin.result import Alert, Table, Text

NODES = Table(("Node", "Running"), [("VerneMQ@127.0.0.1", True), ("b@c", False)])


def test_a_table_for_people_has_a_border_after_every_row_and_a_blank_line_after_it() -> None:
    assert render([NODES], Format.HUMAN) == (
        "+-------------------+---------+\n"
        "| Node              | Running |\n"
        "+-------------------+---------+\n"
        "| VerneMQ@127.0.0.1 | true    |\n"
        "+-------------------+---------+\n"
        "| b@c               | false   |\n"
        "+-------------------+---------+\n"
        "\n"
    )


def test_a_table_without_rows_shows_nothing_to_people() -> None:
    assert render([Table(("a", "b"), [])], Format.HUMAN) == ""


def test_an_absent_value_is_an_empty_cell_for_people_and_null_in_json() -> None:
    table = Table(("peer", "port"), [(None, 1883)])
    assert "|      | 1883 |" in render([table], Format.HUMAN)
    assert json.loads(render([table], Format.JSON)) == {"type": "table", "table": [{"peer": None, "port": 1883}]}


def test_wide_characters_do_not_shift_the_borders() -> None:
    lines = render([Table(("id",), [("温度",), ("ab",)])], Format.HUMAN).split("\n")
    assert lines[3] == "| 温度 |"
    assert lines[5] == "| ab   |"


def test_text_and_alert_are_their_lines() -> None:
    assert render([Text("Done")], Format.HUMAN) == "Done\n"
    assert render([Alert((Text("look"), Text("here")))], Format.HUMAN) == "look\nhere\n"


def test_json_has_vernemqs_form() -> None:
    assert render([Text("Done")], Format.JSON) == '{"type": "text", "text": "Done"}\n'
    assert json.loads(render([Alert((Text("x"),))], Format.JSON)) == {
        "type": "alert",
        "alert": [{"type": "text", "text": "x"}],
    }
    assert json.loads(render([NODES], Format.JSON)) == {
        "type": "table",
        "table": [{"Node": "VerneMQ@127.0.0.1", "Running": True}, {"Node": "b@c", "Running": False}],
    }


def test_several_parts_are_a_json_array_and_none_is_an_empty_one() -> None:
    assert [part["type"] for part in json.loads(render([NODES, Text("x")], Format.JSON))] == ["table", "text"]
    assert json.loads(render([], Format.JSON)) == []


def test_csv_quotes_what_needs_it_and_names_the_columns_even_without_rows() -> None:
    assert render([Table(("id", "n"), [('a,"b"', 1)])], Format.CSV) == 'id,n\n"a,""b""",1\n'
    assert render([Table(("id", "n"), [])], Format.CSV) == "id,n\n"


def test_csv_prefers_the_table_behind_a_text() -> None:
    assert render([Text("counter.x = 1", Table(("name", "value"), [("x", 1)]))], Format.CSV) == "name,value\nx,1\n"


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "a\nb", "\x9b31m", "\u202eexe", "\u2028", "tab\there", "\x7f", "\ud800"]
)
def test_a_client_id_cannot_steer_the_terminal_or_break_the_table(hostile: str) -> None:
    table = Table(("client_id",), [(hostile,)])
    human = render([table], Format.HUMAN)
    assert hostile not in human
    assert len(human.split("\n")) == 7
    comma_separated = render([table], Format.CSV)
    assert hostile not in comma_separated
    assert len(list(csv.reader(io.StringIO(comma_separated)))) == 2
    as_json = render([table], Format.JSON)
    assert hostile not in as_json
    assert json.loads(as_json)["table"] == [{"client_id": hostile}]
