"""The engine's events in the log, and what a flood of them does."""

import json
from io import StringIO

import pytest

from strogoff.observe.enginelog import BURST_MAX, LINES_PER_S, EngineLog
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LogPlan, LogWriter, get_logger, level_number


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _logged(stream: StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_becomes_a_line_with_its_level_and_fields() -> None:
    stream = StringIO()
    with LogWriter([LogPlan(level_number("debug"), Layout.JSON)], stream=stream):
        EngineLog(get_logger("engine")).write("error", "connection refused", {"peer": "192.0.2.1:5"})
    (line,) = _logged(stream)
    assert (line["level"], line["message"], line["peer"]) == ("error", "connection refused", "192.0.2.1:5")
    assert line["logger"] == "strogoff.engine"


@pytest.mark.parametrize(
    ("as_warning", "reason_code", "level"),
    [(True, "0x8D", "warning"), (False, "0x8D", "info"), (False, "0x81", "warning")],
)
def test_a_client_that_fell_silent_is_a_warning_or_an_information(
    as_warning: bool, reason_code: str, level: str
) -> None:
    stream = StringIO()
    with LogWriter([LogPlan(level_number("debug"), Layout.JSON)], stream=stream):
        log = EngineLog(get_logger("engine"), keep_alive_as_warning=as_warning)
        log.write("warning", "connection closed", {"reason_code": reason_code})
    assert [line["level"] for line in _logged(stream)] == [level]


def test_a_flood_is_cut_off_counted_and_told_when_it_is_over() -> None:
    stream, clock = StringIO(), Clock()
    with LogWriter([LogPlan(level_number("debug"), Layout.JSON)], stream=stream):
        log = EngineLog(get_logger("engine"), clock=clock)
        for _ in range(int(BURST_MAX) + 500):
            log.write("warning", "malformed packet", {})
        assert log.suppressed == 500
        clock.now += 1.0
        for _ in range(int(LINES_PER_S) + 1):
            log.write("warning", "malformed packet", {})
        assert log.suppressed == 501
    messages = [line["message"] for line in _logged(stream)]
    assert messages.count("malformed packet") == BURST_MAX + LINES_PER_S
    told = [line for line in _logged(stream) if "left out of the log" in str(line["message"])]
    assert [line["number"] for line in told] == [500]
