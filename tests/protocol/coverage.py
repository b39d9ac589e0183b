"""Compares `normative.csv`, the table of all normative statements of MQTT 3.1.1 and 5.0, with the marks of the tests.

Run `python tests/protocol/coverage.py`. It prints statements that should be tested and are not, tests that name a
statement which is not in the table, and statements whose reason for having no test is out of date. Exit status 1 if
there are any.
"""

import contextlib
import csv
import io
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest

HERE = Path(__file__).parent
TABLE = HERE / "normative.csv"

Statement: TypeAlias = tuple[str, str]
"""Version and identifier, such as ("5.0", "MQTT-3.1.0-1")."""


@dataclass(slots=True, frozen=True)
class Row:
    """A line of the table. `status` is `tested`, or the reason why there is no test."""

    binds: str
    statement: str
    status: str


@dataclass(slots=True)
class MarkCollector:
    """A pytest plugin that notes which tests are marked with which statements."""

    tests: dict[Statement, set[str]] = field(default_factory=lambda: defaultdict(set))
    not_run: set[tuple[str, str]] = field(default_factory=set)
    """Tests, with a version, that have a mark for this version but do not run in it."""

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        runs: set[tuple[str, str]] = set()
        marked: set[tuple[str, str]] = set()
        for item in session.items:
            name = item.nodeid.partition("[")[0]
            for mark in item.iter_markers("normative"):
                version, *identifiers = mark.args
                marked.add((name, version))
                if _runs_in(item, version):
                    runs.add((name, version))
                    for identifier in identifiers:
                        self.tests[version, identifier].add(name)
        self.not_run = marked - runs


def _runs_in(item: pytest.Item, version: str) -> bool:
    """Whether this item runs in the version: told by its parameter `version`, else left to who wrote the mark."""
    if item.get_closest_marker("skip") is not None:
        return False
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "version" not in parameters or str(parameters["version"]) == version


def read_table(path: Path = TABLE) -> dict[Statement, Row]:
    """The table. Raises `ValueError` that names the line for a statement given twice or without wording or status."""
    table: dict[Statement, Row] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            key = (row["version"], row["id"])
            if key in table or not row["statement"] or not row["status"]:
                raise ValueError(f"{path.name}, line {line}: {' '.join(key)} is there twice or incomplete")
            table[key] = Row(row["binds"], row["statement"], row["status"])
    return table


def collect() -> MarkCollector:
    """Collect the tests of this folder without running them. Raises `RuntimeError` when that fails."""
    collector = MarkCollector()
    with contextlib.redirect_stdout(io.StringIO()):
        status = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", str(HERE)], plugins=[collector])
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest cannot collect {HERE}: run `pytest --collect-only {HERE}` to see why")
    return collector


def faults(table: dict[Statement, Row], collector: MarkCollector) -> list[str]:
    """What does not fit together, a sentence each."""
    found = []
    for key, tests in sorted(collector.tests.items()):
        name = " ".join(key)
        if key not in table:
            found.append(f"{name} is not in {TABLE.name}, but marked in {', '.join(sorted(tests))}")
        elif table[key].status != "tested":
            found.append(f"{name} has tests, so the reason for having none is out of date: {', '.join(sorted(tests))}")
    for key, row in table.items():
        if row.status == "tested" and key not in collector.tests:
            found.append(f"{' '.join(key)} has no test: {row.statement}")
    for test, version in sorted(collector.not_run):
        found.append(f"{test} is marked for {version}, but does not run in it")
    return found


def main() -> int:
    table, collector = read_table(), collect()
    found = faults(table, collector)
    for fault in found:
        print(fault)
    for version in ("3.1.1", "5.0"):
        rows = {key: row for key, row in table.items() if key[0] == version and row.binds != "client"}
        tested = sum(row.status == "tested" and key in collector.tests for key, row in rows.items())
        reasons = sum(row.status != "tested" for row in rows.values())
        print(f"MQTT {version}: {len(rows)} statements bind a server, {tested} are tested, {reasons} have a reason")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
