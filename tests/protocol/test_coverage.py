"""The table of normative statements and the marks of the tests agree."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol import coverage
from protocol.coverage import MarkCollector, Row


def test_every_statement_has_a_test_or_a_reason() -> None:
    program = Path(coverage.__file__)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_has_every_statement_that_binds_a_server() -> None:
    table = coverage.read_table()
    bound = {
        version: sum(key[0] == version and row.binds != "client" for key, row in table.items())
        for version in ("3.1.1", "5.0")
    }
    assert bound == {"3.1.1": 129, "5.0": 224}
    assert {row.binds for row in table.values()} == {"server", "both", "client"}


@pytest.mark.parametrize(
    ("row", "marked", "fault"),
    [
        (Row("both", "x", "tested"), ("5.0", "MQTT-0.0.0-1"), None),
        (Row("both", "x", "tested"), ("3.1.1", "MQTT-0.0.0-1"), "has no test"),
        (Row("both", "x", "tested"), ("5.0", "MQTT-0.0.0-2"), "is not in normative.csv"),
        (Row("both", "x", "some reason"), ("5.0", "MQTT-0.0.0-1"), "out of date"),
    ],
)
def test_what_does_not_fit_together_is_found(row: Row, marked: tuple[str, str], fault: str | None) -> None:
    collector = MarkCollector()
    collector.tests[marked].add("a test")
    found = coverage.faults({("5.0", "MQTT-0.0.0-1"): row}, collector)
    assert bool(found) is (fault is not None)
    assert fault is None or any(fault in sentence for sentence in found)
