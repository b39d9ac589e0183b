"""The limit of open files: raised as far as the system lets it, and told when it is too low."""

import io
import json
import resource

import pytest

from strogoff.descriptors import DESCRIPTORS_RESERVED, raise_descriptor_limit
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LogPlan, LogWriter, level_number


class Limits:
    """The system's two calls, with limits of the test's own. `refusal` is what the second one raises."""

    def __init__(self, soft: int, hard: int, refusal: Exception | None = None) -> None:
        self.now = (soft, hard)
        self.refusal = refusal

    def getrlimit(self, _which: int) -> tuple[int, int]:
        return self.now

    def setrlimit(self, _which: int, limits: tuple[int, int]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.now = limits


def _raised(monkeypatch: pytest.MonkeyPatch, limits: Limits, connections_max: int | None) -> list[dict[str, object]]:
    monkeypatch.setattr(resource, "getrlimit", limits.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", limits.setrlimit)
    stream = io.StringIO()
    with LogWriter([LogPlan(level_number("debug"), Layout.JSON)], stream=stream):
        raise_descriptor_limit(connections_max)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1_024, 100_000)
    assert _raised(monkeypatch, limits, 10_000) == []
    assert limits.now == (100_000, 100_000)


def test_a_limit_below_the_connections_is_told_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = _raised(monkeypatch, Limits(1_024, 4_096), 10_000)
    assert (line["level"], line["limit"], line["needed"]) == ("warning", 4_096, 10_000 + DESCRIPTORS_RESERVED)


@pytest.mark.parametrize(
    ("hard", "connections_max"),
    [(10_000 + DESCRIPTORS_RESERVED, 10_000), (resource.RLIM_INFINITY, 10_000), (4_096, None)],
)
def test_a_limit_that_is_enough_is_not_mentioned(
    monkeypatch: pytest.MonkeyPatch, hard: int, connections_max: int | None
) -> None:
    assert _raised(monkeypatch, Limits(1_024, hard), connections_max) == []


def test_a_system_that_refuses_is_told_of_and_the_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(1_024, 100_000, PermissionError("not permitted"))
    refused, too_low = _raised(monkeypatch, limits, 10_000)
    assert refused["reason"] == "not permitted"
    assert too_low["limit"] == 1_024
