"""When the cluster counts as ready: the rule as a table, and what is told when."""

import asyncio

import pytest

from strogoff.cluster import readiness
from strogoff.cluster.readiness import Readiness, ReadyWhen, View, is_quorum


@pytest.mark.parametrize(
    ("members", "present", "all_there", "majority"),
    [
        (1, 1, True, True),
        (2, 2, True, True),
        (2, 1, False, True),
        (3, 3, True, True),
        (3, 2, False, True),
        (3, 1, False, False),
        (4, 3, False, True),
        (4, 2, False, False),
        (5, 3, False, True),
        (5, 2, False, False),
        (6, 3, False, False),
    ],
)
def test_the_rules(members: int, present: int, all_there: bool, majority: bool) -> None:
    verdicts = [is_quorum(rule, present, members) for rule in (ReadyWhen.ALL, ReadyWhen.MAJORITY, ReadyWhen.ANY)]
    assert verdicts == [all_there, majority, True]


class Cluster:
    """Three members, of whom `away` cannot be reached."""

    def __init__(self) -> None:
        self.away: list[str] = []
        self.rule = ReadyWhen.MAJORITY
        self.told: list[str | None] = []
        self.readiness = Readiness(lambda: View(3, self.away), lambda: self.rule, self.told.append)

    def look(self, *away: str) -> None:
        self.away = list(away)
        self.readiness.look()


async def _told(cluster: Cluster, count: int) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while len(cluster.told) < count:
        assert asyncio.get_running_loop().time() < deadline, cluster.told
        await asyncio.sleep(0.005)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "GRACE_S", 0.05)


def test_nothing_is_told_before_the_node_has_met_the_others() -> None:
    cluster = Cluster()
    cluster.look("two", "three")
    assert (cluster.told, cluster.readiness.is_ready) == ([], True)


def test_a_node_that_has_met_nobody_says_so_when_it_begins() -> None:
    cluster = Cluster()
    cluster.away = ["two", "three"]
    cluster.readiness.begin()
    assert cluster.told == ["the cluster is not ready: 1 of 3 nodes can be reached"]
    assert cluster.readiness.reasons() == (
        "the cluster is not ready: 1 of 3 nodes can be reached",
        "two cannot be reached",
        "three cannot be reached",
    )


@pytest.mark.usefixtures("short_grace")
def test_a_loss_counts_after_a_moment_and_the_return_at_once() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        cluster.readiness.begin()
        cluster.look("two", "three")
        assert cluster.told == []
        await _told(cluster, 1)
        assert not cluster.readiness.is_ready
        cluster.look("three")
        assert cluster.told == ["the cluster is not ready: 1 of 3 nodes can be reached", None]
        assert cluster.readiness.reasons() == ()

    asyncio.run(scenario())


def test_a_loss_that_is_over_at_once_is_not_told() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        cluster.readiness.begin()
        cluster.look("two", "three")
        cluster.look("three")
        cluster.readiness.end()
        assert cluster.told == []

    asyncio.run(scenario())


@pytest.mark.usefixtures("short_grace")
def test_another_rule_holds_from_then_on() -> None:
    async def scenario() -> None:
        cluster = Cluster()
        cluster.readiness.begin()
        cluster.look("three")
        assert cluster.readiness.is_ready
        cluster.rule = ReadyWhen.ALL
        cluster.readiness.look()
        await _told(cluster, 1)
        cluster.rule = ReadyWhen.ANY
        cluster.readiness.look()
        assert cluster.told[1:] == [None]

    asyncio.run(scenario())
