"""The log writer: levels, files, rotation, and that it never makes anybody wait."""

import gzip
import io
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from strogoff.observe.logfile import RotatingFile
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LEVELS, LogPlan, LogWriter, get_logger

log = get_logger("test")


def _messages(text: str) -> list[str]:
    return [json.loads(line)["message"] for line in text.splitlines()]


def test_each_place_gets_its_levels() -> None:
    stream = io.StringIO()
    with LogWriter([LogPlan(LEVELS["notice"], Layout.JSON)], stream=stream):
        log.debug("debug")
        log.info("info")
        log.notice("notice", a=1)
        log.warning("warning")
        log.error("error")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["message"]) for line in lines] == [
        ("notice", "notice"),
        ("warning", "warning"),
        ("error", "error"),
    ]
    assert lines[0]["a"] == 1


def test_the_lowest_level_holds_for_all_places() -> None:
    stream = io.StringIO()
    with LogWriter([LogPlan(LEVELS["debug"], Layout.JSON)], level=LEVELS["error"], stream=stream):
        log.warning("warning")
        log.error("error")
    assert _messages(stream.getvalue()) == ["error"]


def test_errors_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    stream = io.StringIO()
    errors = RotatingFile(tmp_path / "log" / "error.log")
    with LogWriter(
        [LogPlan(LEVELS["info"], Layout.JSON), LogPlan(LEVELS["error"], Layout.TEXT, errors)], stream=stream
    ):
        log.info("fine")
        log.error("broken", file="x")
    assert _messages(stream.getvalue()) == ["fine", "broken"]
    assert (tmp_path / "log" / "error.log").read_text().endswith("error   test: broken  file=x\n")


def test_what_asyncio_reports_is_in_the_log_too() -> None:
    stream = io.StringIO()
    with LogWriter([LogPlan(LEVELS["info"], Layout.JSON)], stream=stream):
        logging.getLogger("asyncio").error("Exception in callback")
    assert _messages(stream.getvalue()) == ["Exception in callback"]


def test_without_places_nothing_is_written_and_nobody_minds() -> None:
    with LogWriter([]):
        log.error("unheard")


@pytest.mark.parametrize(
    ("compress", "read"), [(False, Path.read_bytes), (True, lambda path: gzip.decompress(path.read_bytes()))]
)
def test_a_file_is_rotated_by_size_and_old_ones_go(
    tmp_path: Path, compress: bool, read: Callable[[Path], bytes]
) -> None:
    path = tmp_path / "console.log"
    file = RotatingFile(path, size_max=1_000, keep=2, compress=compress)
    with LogWriter([LogPlan(LEVELS["info"], Layout.JSON, file)]):
        for number in range(60):
            log.info("counted", number=number)
    ending = ".gz" if compress else ""
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "console.log",
        f"console.log.1{ending}",
        f"console.log.2{ending}",
    ]
    texts = [read(tmp_path / f"console.log.{number}{ending}").decode() for number in (2, 1)] + [path.read_text()]
    assert all(len(text) <= 1_000 for text in texts)
    numbers = [json.loads(line)["number"] for text in texts for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 60))


def test_a_log_that_stands_still_stops_nobody_and_the_loss_is_counted_and_told() -> None:
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(30)
            return super().write(text)

    stream = Stuck()
    writer = LogWriter([LogPlan(LEVELS["info"], Layout.JSON)], stream=stream)
    with writer:
        for number in range(10_500):
            log.info("counted", number=number)
        assert 400 <= writer.dropped <= 500
        gate.set()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0]["number"] == 0
    assert sum(line.get("dropped", 0) for line in lines) == writer.dropped


def test_a_writer_that_cannot_finish_gives_up_in_time() -> None:
    gate = threading.Event()

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(30)
            return super().write(text)

    writer = LogWriter([LogPlan(LEVELS["info"], Layout.TEXT)], stream=Stuck())
    try:
        with writer:
            log.info("stuck")
            writer.close(timeout_s=0.05)
            gate.set()
    finally:
        gate.set()


def test_the_names_of_the_levels_are_those_of_the_configuration() -> None:
    assert [logging.getLevelName(number) for name, number in LEVELS.items() if name != "all"] == list(LEVELS)[1:]
