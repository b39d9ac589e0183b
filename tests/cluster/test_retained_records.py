"""Records of retained messages, and what nodes make of them: two nodes in this process with engines of the test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.test_swc_store import Net, store_in, until
from strogoff.cluster.merge import latest
from strogoff.cluster.requests import Requests
from strogoff.cluster.retained import RETAINED_PREFIX, Cursor, Known, RetainedMessages
from strogoff.cluster.retained_record import DamagedRetainedError, RetainedRecord, RetainedTopic
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import SwcStore

U64 = st.integers(0, 2**64 - 1)
RECORDS = st.builds(RetainedRecord, U64, st.integers(0, 2**32 - 1), st.booleans(), U64, st.text(max_size=20))


@given(RECORDS)
def test_a_record_comes_back(record: RetainedRecord) -> None:
    assert RetainedRecord.decode(record.encode()) == record


@pytest.mark.parametrize("data", [b"", b"\0" * 20, b"\0" * 12 + b"\2" + b"\0" * 8, b"\0" * 21 + b"\xff"])
def test_what_is_no_record_is_told(data: bytes) -> None:
    with pytest.raises(DamagedRetainedError, match="no record of a retained message"):
        RetainedRecord.decode(data)


@given(RECORDS, RECORDS)
def test_of_two_records_the_one_of_the_later_message_counts(one: RetainedRecord, two: RetainedRecord) -> None:
    merged = RetainedRecord.decode(latest(b"", (one.encode(), two.encode())))
    assert merged.message_name == max(one.message_name, two.message_name)


@given(RECORDS)
def test_of_one_message_its_deletion_counts(record: RetainedRecord) -> None:
    there, deleted = record._replace(is_deleted=False), record._replace(is_deleted=True, node="other", expires_at=0)
    assert latest(b"", (there.encode(), deleted.encode())) == deleted.encode()


@dataclass
class Engine:
    """What each topic has: stamp, origin, whether it is deleted, expiry. `keeps`: whether it takes what others send."""

    origin: int
    others: "dict[str, Engine]" = field(default_factory=dict)
    known: dict[tuple[str, str], Known] = field(default_factory=dict)
    changes: set[tuple[str, str]] = field(default_factory=set)
    sent: int = 0
    room: int = 1_000
    keeps: bool = True
    clock: int = 1_000 << 16

    def publish(self, topic: str, *, deleted: bool = False, expires_at: int | None = None) -> None:
        self.known["", topic] = (self.stamp(), self.origin, deleted, expires_at)
        self.changes.add(("", topic))

    def take(self, topic: tuple[str, str], known: Known) -> None:
        if self.keeps and self.known.get(topic, (0, 0))[:2] < known[:2]:
            self.known[topic] = known

    def watch_retained(self, *, watched: bool) -> None:
        pass

    def retained_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str]], bool]:
        taken = [self.changes.pop() for _ in range(min(limit, len(self.changes)))]
        return taken, False

    def known_retained(self, mountpoint: str, topic: str) -> Known | None:
        return self.known.get((mountpoint, topic))

    def retained_page(
        self,
        after: Cursor | None = None,
        limit: int = 1_000,  # noqa: ARG002 - one page has all
    ) -> tuple[list[tuple[str, str, int, int, int | None]], Cursor | None]:
        assert after is None
        there = ((topic, known) for topic, known in self.known.items() if not known[2])
        return [(*topic, known[0], known[1], known[3]) for topic, known in there], None

    def forget_retained(self, mountpoint: str, topic: str, stamp: int, origin: int) -> bool:
        known = self.known.get((mountpoint, topic))
        if known is not None and known[:2] > (stamp, origin):
            return False
        self.known[mountpoint, topic] = (stamp, origin, True, None)
        return known is not None and not known[2]

    def send_retained(self, peer: str, topics: Sequence[tuple[str, str]]) -> int | None:
        part = topics[: self.room]
        for topic in part:
            known = self.known.get(topic)
            if known is not None and not known[2]:
                self.others[peer].take(topic, known)
                self.sent += 1
        return len(part)

    def lane_filled(self, peer: str) -> int:  # noqa: ARG002 - nothing is under way
        return 0

    def lane_taken(self, peer: str, position: int) -> bool:  # noqa: ARG002 - see above
        return True

    def stamp(self) -> int:
        self.clock += 1
        return self.clock


@dataclass
class TestNode:
    """One node."""

    __test__ = False

    name: str
    engine: Engine
    store: SwcStore
    retained: RetainedMessages
    requests: Requests
    reachable: list[str]
    net: Net

    def topics(self) -> set[str]:
        return {topic for (_, topic), known in self.engine.known.items() if not known[2]}

    def record(self, topic: str) -> RetainedRecord | None:
        return self.retained.record(RetainedTopic("", topic))

    def change(self, topic: str, *, deleted: bool = False, expires_at: int | None = None) -> None:
        self.engine.publish(topic, deleted=deleted, expires_at=expires_at)
        self.retained.changed()

    def counted(self, name: str) -> int:
        return next(int(series.value) for series in self.retained.series() if series.name == name)


A, B = Actor("a@h", 1), Actor("b@h", 2)


@contextlib.asynccontextmanager
async def two_nodes(directory: Path) -> AsyncIterator[tuple[TestNode, TestNode]]:
    """They are cut off from each other until `meet`."""
    net = Net(is_cut=True)
    nodes: dict[str, TestNode] = {}
    async with (
        store_in(directory / "a", net, A, [A, B]) as store_a,
        store_in(directory / "b", net, B, [A, B]) as store_b,
        asyncio.TaskGroup() as tasks,
    ):
        running = []
        for number, (actor, other, store) in enumerate([(A, B, store_a), (B, A, store_b)], 1):
            engine, reachable = Engine(number), list[str]()

            def send(node: str, data: bytes, own: str = actor.name) -> bool:
                asyncio.get_running_loop().call_soon(nodes[node].requests.receive, own, data)
                return True

            requests = Requests(send, tasks)
            retained = RetainedMessages(
                engine,
                actor.name,
                store,
                requests,
                others=lambda other=other: [other.name],  # type: ignore[misc]
                reachable=lambda reachable=reachable: reachable,  # type: ignore[misc]
            )
            retained.watch(watched=True)
            nodes[actor.name] = TestNode(actor.name, engine, store, retained, requests, reachable, net)
            running.append(tasks.create_task(retained.run()))
        a, b = nodes["a@h"], nodes["b@h"]
        a.engine.others, b.engine.others = {"b@h": b.engine}, {"a@h": a.engine}
        yield a, b
        for task in running:
            task.cancel()


def meet(a: TestNode, b: TestNode) -> None:
    a.net.is_cut = False
    a.reachable.append(b.name)
    b.reachable.append(a.name)
    a.store.reachable(B)
    b.store.reachable(A)
    a.retained.reachable(b.name)
    b.retained.reachable(a.name)


def test_what_a_node_missed_it_gets_and_what_was_deleted_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            a.engine.room = 3
            for number in range(10):
                a.change(f"t/{number}")
            b.change("of b")
            b.change("t/0")
            b.engine.known["", "t/0"] = (1, 2, False, None)
            await until(lambda: a.record("t/9") and b.record("of b"))
            meet(a, b)
            await until(lambda: a.topics() == b.topics() == {f"t/{number}" for number in range(10)} | {"of b"})
            assert a.engine.known["", "t/0"] == b.engine.known["", "t/0"]
            # A message is there as soon as it comes, and counted with the answer that it belongs to.
            await until(lambda: b.counted("cluster_retained_fetched") == 10)
            a.change("t/3", deleted=True)
            await until(lambda: "t/3" not in b.topics())
            await until(lambda: not b.retained.is_behind)
            assert b.counted("cluster_retained_missing") == 0

    asyncio.run(scenario())


def test_a_deletion_counts_against_what_is_older_and_not_against_what_is_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            for topic in ("kept", "deleted"):
                a.change(topic)
                b.engine.take(("", topic), a.engine.known["", topic])
            await until(lambda: a.record("kept") and a.record("deleted"))
            a.change("kept", deleted=True)
            b.engine.clock = a.engine.clock + 10
            b.change("kept")
            b.change("deleted", deleted=True)
            await until(lambda: b.record("kept"))
            meet(a, b)
            await until(lambda: a.topics() == b.topics() == {"kept"})
            await until(lambda: (record := a.record("deleted")) is not None and record.is_deleted)

    asyncio.run(scenario())


def test_a_message_that_no_member_has_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            a.change("lost")
            await until(lambda: a.record("lost"))
            del a.engine.known["", "lost"]
            meet(a, b)
            await until(lambda: (record := a.record("lost")) is not None and record.is_deleted)
            # It is counted once its record is written, which the other node may see earlier.
            await until(lambda: b.counted("cluster_retained_lost") == 1)
            assert not a.topics()
            assert not b.topics()

    asyncio.run(scenario())


def test_a_node_that_cannot_keep_a_message_does_not_take_it_for_lost(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            b.engine.keeps = False
            a.change("t")
            await until(lambda: a.record("t"))
            meet(a, b)
            await until(lambda: b.counted("cluster_retained_refused") == 1)
            await until(lambda: not b.retained.is_behind)
            assert a.topics() == {"t"}
            record = b.record("t")
            assert record is not None
            assert not record.is_deleted

    asyncio.run(scenario())


def test_records_of_what_is_over_are_swept_once_nobody_can_need_them(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            a.change("stays")
            a.change("deleted")
            a.change("expires", expires_at=(a.engine.clock >> 16) + 1_000)
            await until(lambda: all(a.record(topic) for topic in ("stays", "deleted", "expires")))
            a.change("deleted", deleted=True)
            await until(lambda: (record := a.record("deleted")) is not None and record.is_deleted)
            a.engine.clock += 120_000 << 16
            assert await a.retained.sweep() == 1
            assert a.record("expires") is None
            a.engine.clock += 24 * 3_600_000 << 16
            assert await a.retained.sweep() == 1
            assert a.record("deleted") is None
            assert [key for key, _ in a.store.scan(RETAINED_PREFIX)] == [b"retained/\0stays"]
            # One that was away all the while has both still.
            b.engine.known["", "deleted"] = (2, 1, False, None)
            meet(a, b)
            await until(lambda: b.topics() == {"deleted", "stays"})

    asyncio.run(scenario())


def test_a_node_that_was_away_while_a_deletion_was_swept_learns_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with two_nodes(tmp_path) as (a, b):
            a.change("t")
            meet(a, b)
            await until(lambda: b.topics() == {"t"})
            a.reachable.clear()
            b.reachable.clear()
            a.net.is_cut = True
            a.store.unreachable(B)
            b.store.unreachable(A)
            a.change("t", deleted=True)
            await until(lambda: (record := a.record("t")) is not None and record.is_deleted)
            a.engine.clock += 25 * 3_600_000 << 16
            assert await a.retained.sweep() == 1
            meet(a, b)
            await until(lambda: not b.topics())

    asyncio.run(scenario())
