"""What a node that starts waits for, against a cluster that a test moves."""

import asyncio
import time
from dataclasses import dataclass, field

from strogoff.cluster.starting import in_step
from strogoff.cluster.swc_store import ExchangeError


@dataclass
class Members:
    """`up`: can be reached. `routes`: have told their routes. `failures`: fetches that fail first.
    `retained_after`: so often it is asked in vain whether all retained messages are there.
    """

    names: list[str]
    up: set[str] = field(default_factory=set)
    routes: set[str] = field(default_factory=set)
    failures: int = 0
    retained_after: int = 0
    fetched: list[str] = field(default_factory=list)

    def others(self) -> list[str]:
        return self.names

    def reachable(self) -> list[str]:
        return [name for name in self.names if name in self.up]

    def has_routes_of(self, name: str) -> bool:
        return name in self.routes

    def lacks_retained(self) -> bool:
        self.retained_after -= 1
        return self.retained_after >= 0

    async def fetch_metadata_of(self, name: str) -> None:
        if self.failures:
            self.failures -= 1
            raise ExchangeError("the link was lost")
        self.fetched.append(name)


async def _wait(members: Members, *, sync_s: float = 30.0, link_s: float = 30.0, stopping: bool = False) -> list[str]:
    async with asyncio.timeout(20):
        return list(await in_step(members, sync_timeout_s=sync_s, link_timeout_s=link_s, is_stopping=lambda: stopping))


def test_a_node_alone_does_not_wait() -> None:
    began = time.monotonic()
    assert asyncio.run(_wait(Members([]))) == []
    assert time.monotonic() - began < 1


def test_it_waits_for_retained_messages_but_not_for_ever() -> None:
    members = Members(["two"], up={"two"}, routes={"two"}, retained_after=5)
    assert asyncio.run(_wait(members)) == []
    assert members.retained_after < 0
    members = Members(["two"], up={"two"}, routes={"two"}, retained_after=1_000_000)
    assert asyncio.run(_wait(members, sync_s=0.3)) == []


def test_it_waits_for_metadata_and_routes_of_all() -> None:
    async def scenario() -> None:
        members = Members(["two", "three"], up={"two"}, routes={"two"}, failures=1)
        waiting = asyncio.ensure_future(_wait(members))
        while not members.fetched:
            assert not waiting.done()
            await asyncio.sleep(0.005)
        assert not waiting.done()
        members.up.add("three")
        while len(members.fetched) < 2:
            assert not waiting.done()
            await asyncio.sleep(0.005)
        assert not waiting.done()
        members.routes.add("three")
        assert await waiting == []

    asyncio.run(scenario())


def test_who_cannot_be_reached_is_not_waited_for_longer_than_a_link_may_be_silent() -> None:
    members = Members(["two", "three"], up={"two"}, routes={"two"})
    assert asyncio.run(_wait(members, link_s=0.1)) == ["three"]


def test_who_can_be_reached_and_says_nothing_is_not_waited_for_without_end() -> None:
    members = Members(["two"], up={"two"})
    assert asyncio.run(_wait(members, sync_s=0.1, link_s=0.05)) == ["two"]


def test_a_node_that_is_told_to_stop_does_not_wait() -> None:
    assert asyncio.run(_wait(Members(["two"]), stopping=True)) == ["two"]
