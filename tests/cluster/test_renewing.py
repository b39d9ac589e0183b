"""Nodes that go on under a new incarnation, and members that know them, do not know them yet, or have taken them out.

The links are played: what a node sends is there at once, and each is a guest of the others.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from cluster.awaiting import DEADLINE_S, until
from strogoff._engine import Engine
from strogoff.cluster.identity import Identity
from strogoff.cluster.members import MEMBERS_PREFIX, Member, merged
from strogoff.cluster.membership import Membership
from strogoff.cluster.merge import by_prefix
from strogoff.cluster.removal import Removal
from strogoff.cluster.renewing import Renewing, Verdict, judged
from strogoff.cluster.requests import Requests
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import Hooks, SwcStore
from strogoff.cluster.terms import terms_of
from strogoff.config import load

NOWHERE = ("127.0.0.1:1",)
CLUSTER = 9
LEFT = Identity("left@h", 5, CLUSTER, former=(3, 4))


def record(
    name: str, incarnation: int, epoch: int = 1, *, former: tuple[int, ...] = (), is_removed: bool = False
) -> Member:
    return Member(name, incarnation, NOWHERE, epoch, is_removed=is_removed, former=former)


@dataclass(slots=True)
class Node:
    """A node with its members, which asks and is asked."""

    membership: Membership
    renewing: Renewing
    told_by: list[str]
    why_again: list[str]

    def knows(self, name: str) -> Member:
        return self.membership.members[name]


@dataclass(slots=True)
class Net:
    """Nodes that are guests of each other."""

    directory: Path
    tasks: asyncio.TaskGroup
    stack: contextlib.AsyncExitStack
    nodes: dict[str, Node] = field(default_factory=dict)
    sent: list[tuple[str, str]] = field(default_factory=list)
    """From whom and to whom."""

    async def add(self, identity: Identity, *members: Member) -> Node:
        node = await self.stack.enter_async_context(self._running(identity, members))
        self.nodes[identity.name] = node
        for one in self.nodes.values():
            for other in self.nodes:
                one.membership.set_link(other, "guest", "")
        return node

    @contextlib.asynccontextmanager
    async def _running(self, identity: Identity, members: tuple[Member, ...]) -> AsyncIterator[Node]:
        engine = Engine({"workers": 1, "store.segment_bytes": 1 << 20})
        engine.open_store(str(self.directory / identity.name))
        engine.start()
        engine.start_cluster(identity.name, identity.incarnation_bytes)
        terms = terms_of(load(overrides=["cluster.advertised_address=127.0.0.1:1"]))
        membership = Membership(engine, identity.name, terms, lambda _: None)
        metadata = SwcStore(
            engine,
            actor=identity.actor,
            members=[identity.actor],
            rows=(),
            merge=by_prefix({MEMBERS_PREFIX: merged}),
            hooks=Hooks(lambda *_: False, lambda _: None, lambda: None),
        )

        def send(to: str, data: bytes) -> bool:
            self.sent.append((identity.name, to))
            asyncio.get_running_loop().call_soon(self.nodes[to].membership.requests.receive, identity.name, data)
            return True

        writing = asyncio.create_task(metadata.run())
        membership.begin(identity, metadata, Requests(send, self.tasks))
        await membership.write(*members)
        metadata.watch(MEMBERS_PREFIX, lambda _: membership.tell_change())
        membership.read()
        told_by: list[str] = []
        why_again: list[str] = []
        renewing = Renewing(membership, Removal(membership, told_by.append), why_again.append)
        renewing.begin()
        working = asyncio.create_task(renewing.run())
        try:
            yield Node(membership, renewing, told_by, why_again)
        finally:
            for task in (working, writing):
                task.cancel()
            await asyncio.wait([working, writing])
            engine.stop()


def played(directory: Path, scenario: Callable[[Net], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        async with asyncio.timeout(2 * DEADLINE_S), asyncio.TaskGroup() as tasks, contextlib.AsyncExitStack() as stack:
            await scenario(Net(directory, tasks, stack))

    asyncio.run(play())


@pytest.mark.parametrize("known_as", [3, 4, 5])
def test_a_member_notes_the_incarnation_of_a_node_that_it_knows_by_another(tmp_path: Path, known_as: int) -> None:
    async def scenario(net: Net) -> None:
        one = await net.add(Identity("one@h", 1, CLUSTER), record("one@h", 1), record("left@h", known_as))
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 3))
        await until(lambda: not left.membership.is_guest)
        assert one.knows("left@h").incarnation == left.knows("left@h").incarnation == LEFT.incarnation
        assert one.knows("left@h").epoch == left.knows("left@h").epoch > 1
        assert not left.told_by

    played(tmp_path, scenario)


def test_a_member_notes_the_incarnation_of_a_node_that_has_lost_the_one_that_it_had_told(tmp_path: Path) -> None:
    """Its machine went down twice in a second: it remembers only those before."""

    async def scenario(net: Net) -> None:
        told = record("left@h", 6, 3, former=(3, 4))
        one = await net.add(Identity("one@h", 1, CLUSTER), record("one@h", 1), told)
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 4))
        await until(lambda: not left.membership.is_guest)
        assert one.knows("left@h") == left.knows("left@h") == record("left@h", 5, 4, former=(3, 4))

    played(tmp_path, scenario)


def test_a_node_that_members_know_by_a_later_incarnation_takes_another_one(tmp_path: Path) -> None:
    """An older copy of its store was put in its place."""

    async def scenario(net: Net) -> None:
        later = record("left@h", 6, 3, former=(3, 4, 5))
        one = await net.add(Identity("one@h", 1, CLUSTER), record("one@h", 1), later)
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 4))
        await until(lambda: left.why_again)
        assert left.membership.identity.former == (3, 4, 5)
        assert one.knows("left@h") == later
        assert not left.told_by

    played(tmp_path, scenario)


def test_a_node_learns_what_incarnations_members_have_now(tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        await net.add(Identity("one@h", 8, CLUSTER), record("one@h", 8, 2), record("left@h", 3), record("two@h", 2))
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 3))
        await until(lambda: not left.membership.is_guest)
        assert left.membership.others() == ["one@h", "two@h"]
        assert left.knows("one@h").actor == Actor("one@h", 8)

    played(tmp_path, scenario)


@pytest.mark.parametrize("removed_as", [3, 4, 5])
def test_a_node_that_was_taken_out_under_an_earlier_incarnation_is_told(tmp_path: Path, removed_as: int) -> None:
    async def scenario(net: Net) -> None:
        gone = record("left@h", removed_as, 2, is_removed=True)
        await net.add(Identity("one@h", 1, CLUSTER), record("one@h", 1), gone)
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 3))
        await until(lambda: left.told_by)
        assert left.told_by == ["one@h"]
        assert left.membership.is_guest

    played(tmp_path, scenario)


def test_a_member_that_is_behind_does_not_end_a_node_that_has_joined_since(tmp_path: Path) -> None:
    """It knows that an earlier node of this name was taken out; another member knows the present one."""

    async def scenario(net: Net) -> None:
        earlier = record("left@h", 2, 7, is_removed=True)
        one = await net.add(Identity("one@h", 1, CLUSTER), record("one@h", 1), earlier)
        left = await net.add(LEFT, record("one@h", 1), record("two@h", 6), record("left@h", 3))
        await until(lambda: ("one@h", "left@h") in net.sent)
        await net.add(Identity("two@h", 6, CLUSTER), record("two@h", 6), record("left@h", 3))
        await until(lambda: not left.membership.is_guest)
        assert not left.told_by
        assert one.knows("left@h") == earlier

    played(tmp_path, scenario)


def test_a_node_of_another_cluster_is_not_let_in(tmp_path: Path) -> None:
    async def scenario(net: Net) -> None:
        one = await net.add(Identity("one@h", 1, CLUSTER + 1), record("one@h", 1), record("left@h", 3))
        left = await net.add(LEFT, record("one@h", 1), record("left@h", 3))
        await until(lambda: ("one@h", "left@h") in net.sent)
        assert left.membership.is_guest
        assert one.knows("left@h").incarnation == 3

    played(tmp_path, scenario)


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        (None, Verdict.NOT_KNOWN),
        (record("left@h", 2), Verdict.NOT_KNOWN),
        (record("left@h", 2, former=(1,), is_removed=True), Verdict.NOT_KNOWN),
        (record("left@h", 5, former=(3, 4)), Verdict.MEMBER),
        (record("left@h", 4), Verdict.MEMBER),
        (record("left@h", 6, former=(3,)), Verdict.MEMBER),
        (record("left@h", 4, is_removed=True), Verdict.REMOVED),
        (record("left@h", 6, former=(3,), is_removed=True), Verdict.REMOVED),
        (record("left@h", 6, former=(5,)), Verdict.OUTDATED),
        (record("left@h", 6, former=(5,), is_removed=True), Verdict.REMOVED),
    ],
)
def test_only_a_record_with_an_incarnation_in_common_says_anything(known: Member | None, verdict: Verdict) -> None:
    assert judged(known, record("left@h", 5, former=(3, 4))) is verdict
