"""Log lines to the letter."""

import json
import logging
import sys

import pytest

from strogoff.observe.logformat import JsonFormatter, TextFormatter


def _record(message: str, number: int = logging.INFO, /, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("strogoff.broker", number, __file__, 1, "%s", (message,), None)
    record.created = 1_700_000_000.1239
    record.fields = fields
    return record


def test_a_text_line_is_time_level_sentence_and_fields() -> None:
    line = TextFormatter().format(_record("listener open", listener="default", port=1883, tls=False, peer="a b"))
    assert (
        line
        == '2023-11-14T22:13:20.123Z info    broker: listener open  listener=default port=1883 tls=false peer="a b"'
    )


def test_a_text_line_without_fields_ends_with_its_sentence() -> None:
    line = TextFormatter().format(_record("ready", logging.WARNING))
    assert line == "2023-11-14T22:13:20.123Z warning broker: ready"


def test_a_simple_line_does_not_say_which_part_of_the_program_speaks() -> None:
    assert TextFormatter(place=False).format(_record("ready")) == "2023-11-14T22:13:20.123Z info    ready"


def test_colours_are_for_terminals() -> None:
    assert "\x1b[" not in TextFormatter().format(_record("x"))
    line = TextFormatter(colours=True).format(_record("x", logging.ERROR, a=1))
    assert line == "\x1b[2m2023-11-14T22:13:20.123Z\x1b[0m \x1b[31merror  \x1b[0m broker: x  a=1"


def test_a_json_line_is_one_object_with_the_fields_beside_the_rest() -> None:
    assert json.loads(JsonFormatter().format(_record("ready", node="a@b", listeners=2, up=True, none=None))) == {
        "time": "2023-11-14T22:13:20.123Z",
        "level": "info",
        "logger": "strogoff.broker",
        "message": "ready",
        "node": "a@b",
        "listeners": 2,
        "up": True,
        "none": None,
    }


def test_a_field_cannot_take_the_place_of_what_every_line_has() -> None:
    data = json.loads(JsonFormatter().format(_record("ready", level="none", time=0)))
    assert (data["level"], data["level_"], data["time_"]) == ("info", "none", 0)


@pytest.mark.parametrize(
    "hostile", ["a\nb", "x\r\n2023-11-14 info  forged", "\x1b]0;title\x07", "\u202e", "", 'say "a"']
)
def test_a_client_id_cannot_forge_a_line_or_steer_the_terminal(hostile: str) -> None:
    for line in (
        TextFormatter().format(_record("client connected", client_id=hostile)),
        TextFormatter().format(_record(hostile)),
        JsonFormatter().format(_record("client connected", client_id=hostile)),
    ):
        assert line.isprintable()
    assert TextFormatter().format(_record("m", id=hostile)).endswith(f"m  id={json.dumps(hostile)}")


def test_an_exception_brings_its_trace() -> None:
    try:
        raise ValueError("no\x1b good")
    except ValueError:
        record = _record("failed", logging.ERROR)
        record.exc_info = sys.exc_info()
    text = TextFormatter().format(record)
    assert text.split("\n")[0].endswith("error   broker: failed")
    assert text.endswith("ValueError: no\\u001b good")
    trace = json.loads(JsonFormatter().format(record))["exception"]
    assert trace.startswith("Traceback (most recent call last):")
