"""What a node waits for before it fetches the queue of a session: the nodes as objects, requests as they are."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from strogoff.cluster.moves import EngineMoves, Moves
from strogoff.cluster.requests import RemoteError, Requests

NODES = ("new", "old", "third")
HEARD = (1, 7)
"""A position in the stream of subscriptions of the new node."""


class Node:
    """What `Moves` needs of a node, and what a test sets: who is there, what is heard, what is taken of which lane."""

    def __init__(self, name: str, nodes: "dict[str, Node]", tasks: asyncio.TaskGroup, timeout_s: float) -> None:
        self.name = name
        self.nodes = nodes
        self.is_there = True
        self.heard: tuple[int, int] = HEARD
        self.filled, self.taken = 0, 0
        self.held_for: set[str] = set()
        """Nodes for which there are messages here, and which cannot be reached from here."""
        self.clock = 0
        self.did: list[str] = []
        self.requests = Requests(self._send, tasks)
        nodes[name] = self
        self.moves = Moves(
            cast("EngineMoves", self),
            name,
            requests=self.requests,
            routes=self,
            reachable=lambda: [other for other in nodes if other != name and nodes[other].is_there],
            holds=lambda other: other in self.held_for,
            timeout_s=timeout_s,
        )

    def _send(self, node: str, data: bytes) -> bool:
        if not self.nodes[node].is_there:
            return False
        asyncio.get_running_loop().call_soon(self.nodes[node].requests.receive, self.name, data)
        return True

    def changed(self) -> None:
        self.did.append("told")

    def position(self, _node: str) -> tuple[int, int]:
        return HEARD

    def has_heard(self, _node: str, position: tuple[int, int]) -> bool:
        return self.heard >= position

    def pass_turns(self, _timeout_ms: int) -> bool:
        self.did.append("turns passed")
        return True

    def lane_filled(self, peer: str) -> int:
        self.did.append(f"lane to {peer} read")
        return self.filled

    def lane_taken(self, _peer: str, position: int) -> bool:
        return self.taken >= position

    def begin_move(self, _mountpoint: str, _client_id: str) -> None:
        self.did.append("asked for a session, which is not here")

    def observe_stamp(self, _stamp: int) -> None:
        pass

    def abandon_moves(self, _sessions: object) -> None:
        pass

    def stamp(self) -> int:
        self.clock += 1
        return self.clock


Test = Callable[[Node, Node, Node], Coroutine[Any, Any, None]]


def run(test: Test, *, timeout_s: float = 5.0) -> None:
    async def with_nodes() -> None:
        async with asyncio.TaskGroup() as tasks:
            nodes: dict[str, Node] = {}
            new, old, third = (Node(name, nodes, tasks, timeout_s) for name in NODES)
            await test(new, old, third)

    asyncio.run(with_nodes())


async def stays_open(fence: asyncio.Task[Any]) -> bool:
    await asyncio.wait([fence], timeout=0.2)
    return not fence.done()


def test_a_fence_has_the_stamp_of_each_node_and_was_preceded_by_what_was_subscribed() -> None:
    async def test(new: Node, old: Node, third: Node) -> None:
        third.clock = 40
        assert sorted(await new.moves.fence("old")) == [("new", 1), ("old", 1), ("third", 41)]
        assert new.did == ["told", "turns passed", "lane to old read"]
        assert third.did == ["turns passed", "lane to old read"]
        # Nothing is on its way from the old node to itself.
        assert old.did == ["turns passed"]

    run(test)


def test_a_fence_waits_for_a_node_that_has_not_heard_of_the_subscriptions() -> None:
    async def test(new: Node, _old: Node, third: Node) -> None:
        third.heard = (1, 6)
        fence = asyncio.ensure_future(new.moves.fence("old"))
        assert await stays_open(fence)
        assert not third.did, "what it routed before it heard is looked at afterwards"
        third.heard = HEARD
        await fence

    run(test)


@pytest.mark.parametrize("slow", ["new", "third"])
def test_a_fence_waits_until_the_old_node_has_what_a_node_had_sent_to_it_alone(slow: str) -> None:
    async def test(new: Node, _old: Node, _third: Node) -> None:
        node = new.nodes[slow]
        node.filled = 9
        fence = asyncio.ensure_future(new.moves.fence("old"))
        assert await stays_open(fence)
        node.taken = 9
        await fence

    run(test)


def test_a_node_that_goes_away_meanwhile_is_not_waited_for() -> None:
    async def test(new: Node, _old: Node, third: Node) -> None:
        third.heard = (1, 6)
        fence = asyncio.ensure_future(new.moves.fence("old"))
        assert await stays_open(fence)
        third.is_there = False
        new.requests.lost("third")
        assert sorted(await fence) == [("new", 1), ("old", 1)]
        third.heard = HEARD

    run(test)


def test_a_node_that_is_there_and_does_not_hear_makes_the_move_fail() -> None:
    async def test(new: Node, _old: Node, third: Node) -> None:
        third.heard = (1, 6)
        with pytest.raises((RemoteError, TimeoutError)):
            await new.moves.fence("old")

    run(test, timeout_s=0.3)


def test_without_an_old_node_no_lane_is_waited_for() -> None:
    async def test(new: Node, old: Node, third: Node) -> None:
        assert sorted(await new.moves.fence(None)) == [("new", 1), ("old", 1), ("third", 1)]
        assert [node.did[-1] for node in (new, old, third)] == ["turns passed"] * 3

    run(test)


SESSIONS = [("", "client")]


@pytest.mark.parametrize("holder", ["new", "third"])
@pytest.mark.parametrize("is_awaited", [True, False])
def test_a_session_is_not_asked_for_while_a_node_holds_messages_for_the_old_one(holder: str, is_awaited: bool) -> None:
    async def test(new: Node, old: Node, _third: Node) -> None:
        node = new.nodes[holder]
        node.held_for.add("old")
        bringing = asyncio.ensure_future(new.moves.bring("old", SESSIONS, is_awaited=is_awaited))
        assert await stays_open(bringing)
        assert not old.did
        node.held_for.clear()
        assert not await bringing
        assert old.did == ["asked for a session, which is not here"]

    run(test)


@pytest.mark.parametrize("holder", ["new", "third"])
def test_messages_that_stay_held_keep_a_session_where_it_is_unless_its_client_waits(holder: str) -> None:
    async def test(new: Node, old: Node, _third: Node) -> None:
        new.nodes[holder].held_for.add("old")
        assert await new.moves.bring("old", SESSIONS) == set(SESSIONS)
        assert not old.did
        assert not await new.moves.bring("old", SESSIONS, is_awaited=True)
        assert old.did == ["asked for a session, which is not here"]

    run(test, timeout_s=0.3)


def test_a_node_that_goes_away_with_what_it_holds_is_not_waited_for_any_longer() -> None:
    async def test(new: Node, old: Node, third: Node) -> None:
        third.held_for.add("old")
        bringing = asyncio.ensure_future(new.moves.bring("old", SESSIONS))
        assert await stays_open(bringing)
        third.is_there = False
        new.requests.lost("third")
        assert not await bringing
        assert old.did
        third.held_for.clear()

    run(test)
