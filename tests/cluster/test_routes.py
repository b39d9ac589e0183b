"""What nodes tell each other of their subscriptions, over a network that loses messages: in the end each knows all."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence

import pytest

from strogoff.cluster import routes as module
from strogoff.cluster.kept_routes import KeptRoutes, Route, RouteName
from strogoff.cluster.routes import Cursor, Routes, is_about_routes


class Store:
    """Rows in memory."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.writes = 0

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        keys = sorted(key for key in self.rows if key.startswith(prefix) and (after is None or key > after))
        return [(key, self.rows[key]) for key in keys[:limit]]

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        assert not wait, "nobody waits for it"
        self.writes += len(changes)
        for key, value in changes:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value


class Engine:
    """Subscriptions of a node, and what it was told of others."""

    def __init__(self) -> None:
        self.own: dict[RouteName, tuple[int, bool]] = {}
        self.dirty: dict[RouteName, None] = {}
        self.is_overflown = False
        self.others: dict[str, dict[RouteName, tuple[int, bool]]] = {}
        self.calls: list[tuple[int, int, bool]] = []

    def set(self, topic_filter: str, members: int = 1, group: str | None = None, *, is_online: bool = True) -> None:
        name = ("", topic_filter, group)
        if members:
            self.own[name] = (members, is_online)
        else:
            self.own.pop(name, None)
        self.dirty[name] = None

    def local_routes(self, *, after: Cursor | None = None, limit: int = 1_000) -> tuple[list[Route], Cursor | None]:
        names = sorted(self.own, key=repr)
        begin = 0 if after is None else sum(repr(name) <= after[0] for name in names)
        page = names[begin : begin + min(limit, 3)]
        cursor = (repr(page[-1]), 0) if begin + len(page) < len(names) else None
        return [(*name, *self.own[name]) for name in page], cursor

    def route_changes(self, limit: int = 1_000) -> tuple[list[Route], bool]:
        taken = list(self.dirty)[:limit]
        for name in taken:
            del self.dirty[name]
        is_overflown, self.is_overflown = self.is_overflown, False
        return [(*name, *self.own.get(name, (0, False))) for name in taken], is_overflown

    def set_routes(
        self, peer: str, *, add: Sequence[Route] = (), remove: Sequence[RouteName] = (), replace: bool = False
    ) -> int | None:
        if peer not in self.others:
            return None
        self.calls.append((len(add), len(remove), replace))
        known = self.others[peer]
        added = {route[:3]: route[3:] for route in add}
        kept = {} if replace else {name: value for name, value in known.items() if name not in remove}
        self.others[peer] = kept | added
        return 0


class Cluster:
    """Nodes a and b. What is sent waits until it is carried; `is_down`: nothing can be sent."""

    def __init__(self, names: str = "ab") -> None:
        self.under_way: deque[tuple[str, str, bytes]] = deque()
        self.is_down = False
        self.engines = {name: Engine() for name in names}
        self.stores = {name: Store() for name in names}
        self.routes = {
            name: Routes(engine, KeptRoutes(self.stores[name]), self._sender(name))
            for name, engine in self.engines.items()
        }
        for name in names:
            self.engines[name].others = {other: {} for other in names if other != name}

    def _sender(self, sender: str) -> Callable[[str, bytes], bool]:
        def send(to: str, data: bytes) -> bool:
            if not self.is_down:
                self.under_way.append((sender, to, data))
            return not self.is_down

        return send

    def up(self) -> None:
        self.is_down = False
        for name, routes in self.routes.items():
            for other in self.engines[name].others:
                routes.reachable(other)

    def down(self) -> None:
        self.is_down = True
        self.under_way.clear()
        for name, routes in self.routes.items():
            for other in self.engines[name].others:
                routes.unreachable(other)

    def carry(self, *, is_lost: Callable[[], bool] = lambda: False) -> None:
        while self.under_way:
            sender, to, data = self.under_way.popleft()
            assert is_about_routes(data)
            if not is_lost():
                self.routes[to].receive(sender, data)

    def is_agreed(self) -> bool:
        return all(
            told == self.engines[other].own for engine in self.engines.values() for other, told in engine.others.items()
        )

    async def settle(self, timeout_s: float = 5.0) -> None:
        """Carry everything until each knows all of the other."""
        async with asyncio.timeout(timeout_s):
            while not self.is_agreed():
                await asyncio.sleep(0.001)
                self.carry()


def run(test: Callable[[Cluster], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a coroutine function with two nodes whose tasks run."""
    monkeypatch.setattr(module, "CHECK_INTERVAL_S", 0.02)
    monkeypatch.setattr(module, "RETRY_S", 0.005)

    async def main() -> None:
        cluster = Cluster()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(routes.run()) for routes in cluster.routes.values()]
            await test(cluster)  # type: ignore[misc]
            for task in running:
                task.cancel()

    asyncio.run(main())


def test_all_of_it_is_told_when_a_link_comes_up_and_changes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        for number in range(20):
            cluster.engines["a"].set(f"t/{number}")
        cluster.engines["a"].set("t/0", 7, "group", is_online=False)
        assert not cluster.routes["b"].is_complete("a")
        cluster.up()
        await cluster.settle()
        assert cluster.engines["b"].others["a"]["", "t/0", "group"] == (7, False)
        assert cluster.routes["b"].is_complete("a")
        cluster.engines["a"].set("t/0", 0)
        cluster.engines["a"].set("new")
        cluster.routes["a"].changed()
        cluster.carry()
        assert cluster.is_agreed()

    run(test, monkeypatch)


def test_a_link_that_flaps_without_a_change_has_nothing_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.engines["a"].set("t")
        cluster.up()
        await cluster.settle()
        before = len(cluster.engines["b"].calls)
        for _ in range(3):
            cluster.down()
            cluster.up()
            await asyncio.sleep(0.05)
            cluster.carry()
        assert len(cluster.engines["b"].calls) == before
        cluster.down()
        cluster.engines["a"].set("u")
        cluster.routes["a"].changed()
        assert not cluster.is_agreed()
        cluster.up()
        await cluster.settle()

    run(test, monkeypatch)


def test_a_full_list_ends_what_is_no_more_and_has_no_gap_for_what_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        for number in range(10):
            cluster.engines["a"].set(f"t/{number}")
        cluster.up()
        await cluster.settle()
        cluster.down()
        cluster.engines["a"].set("t/3", 0)
        cluster.engines["a"].is_overflown = True
        cluster.routes["a"].changed()
        cluster.up()
        staying = {("", f"t/{number}", None) for number in range(10) if number != 3}
        while not cluster.is_agreed():
            await asyncio.sleep(0)
            cluster.carry()
            assert staying <= set(cluster.engines["b"].others["a"])

    run(test, monkeypatch)


def test_messages_that_get_lost_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        draw = random.Random(7)
        cluster.up()
        for round_number in range(60):
            for engine in cluster.engines.values():
                for _ in range(draw.randrange(4)):
                    engine.set(f"t/{draw.randrange(15)}", draw.choice([0, 1, 1]))
            for name, routes in cluster.routes.items():
                if cluster.engines[name].dirty:
                    routes.changed()
            if draw.random() < 0.15:
                cluster.down()
            elif cluster.is_down:
                cluster.up()
            await asyncio.sleep(0)
            cluster.carry(is_lost=lambda: draw.random() < 0.1)
            if round_number % 20 == 19:
                cluster.up()
                await cluster.settle()

    run(test, monkeypatch)


def test_a_node_that_is_no_member_is_forgotten_and_believed_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        cluster.engines["a"].set("t")
        cluster.up()
        await cluster.settle()
        del cluster.engines["b"].others["a"]
        cluster.routes["b"].keep(set())
        await asyncio.sleep(0.05)
        cluster.carry()
        cluster.engines["b"].others["a"] = {}
        cluster.routes["b"].reachable("a")
        await cluster.settle()

    run(test, monkeypatch)


def test_large_names_are_spread_over_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(cluster: Cluster) -> None:
        for number in range(30):
            cluster.engines["a"].set(f"{number}/" + "x" * 60_000)
        cluster.routes["a"].changed()
        cluster.up()
        largest = 0
        while not cluster.is_agreed():
            await asyncio.sleep(0)
            largest = max([largest, *(len(data) for _, _, data in cluster.under_way)])
            cluster.carry()
        assert largest < 400_000
        for number in range(30):
            cluster.engines["a"].set(f"{number}/" + "x" * 60_000, 0)
        cluster.routes["a"].changed()
        assert len(cluster.under_way) > 3
        cluster.carry()
        assert cluster.is_agreed()

    run(test, monkeypatch)


@pytest.mark.parametrize(
    "data",
    [
        b'{"routes":',
        b'{"routes":2,"kind":"page","stream":1,"seq":1,"list":[]}',
        b'{"routes":1}',
        b'{"routes":1,"kind":"page","stream":"x","seq":1,"list":[]}',
        b'{"routes":1,"kind":"begin","stream":1,"seq":0,"list":7}',
    ],
)
def test_what_cannot_be_read_is_dropped(data: bytes) -> None:
    engine = Engine()
    engine.others["a"] = {}
    Routes(engine, KeptRoutes(Store()), lambda _node, _data: True).receive("a", data)
    assert engine.others["a"] == {}


@pytest.mark.parametrize(
    "entry", ["[1]", '["","t",null,1]', '["",7,null,1,true]', '["","t",null,"many",true]', "{}", "7"]
)
def test_a_bad_route_has_the_message_dropped_and_the_stream_asked_for_anew(entry: str) -> None:
    engine, sent = Engine(), list[bytes]()
    engine.others["a"] = {}

    def send(_node: str, data: bytes) -> bool:
        sent.append(data)
        return True

    routes = Routes(engine, KeptRoutes(Store()), send)
    routes.receive("a", b'{"routes":1,"kind":"begin","stream":1,"seq":0,"list":[]}')
    routes.receive("a", f'{{"routes":1,"kind":"page","stream":1,"seq":1,"list":[{entry}]}}'.encode())
    assert engine.others["a"] == {}
    routes.receive("a", b'{"routes":1,"kind":"check","stream":1,"seq":2,"list":[]}')
    assert [b'"ask"' in data for data in sent] == [True]


async def settled(cluster: Cluster) -> None:
    """Let the nodes of a cluster tell each other everything."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(routes.run()) for routes in cluster.routes.values()]
        cluster.up()
        await cluster.settle()
        await asyncio.sleep(0.01)
        cluster.carry()
        for task in running:
            task.cancel()


def kept(store: Store, node: str) -> set[str]:
    return {route[1] for page in KeptRoutes(store).of(node) for route in page}


def test_what_a_node_has_told_is_there_after_a_restart() -> None:
    cluster = Cluster()
    for topic_filter in ("x", "y/+", "z"):
        cluster.engines["a"].set(topic_filter)
    asyncio.run(settled(cluster))
    assert kept(cluster.stores["b"], "a") == {"x", "y/+", "z"}
    engine = Engine()
    engine.others = {"a": {}}
    Routes(engine, KeptRoutes(cluster.stores["b"]), lambda _node, _data: False).keep({"a"})
    assert engine.others["a"] == cluster.engines["a"].own


def test_changes_are_kept_and_what_is_told_again_is_not_written_again() -> None:
    cluster = Cluster()
    cluster.engines["a"].set("x")
    cluster.engines["a"].set("y")
    asyncio.run(settled(cluster))
    cluster.engines["a"].set("y", 0)
    cluster.engines["a"].set("z")
    cluster.routes["a"].changed()
    cluster.carry()
    assert kept(cluster.stores["b"], "a") == {"x", "z"}
    before = cluster.stores["b"].writes
    KeptRoutes(cluster.stores["b"]).replace("a", cluster.engines["a"].own)
    assert cluster.stores["b"].writes == before


def test_nothing_is_kept_of_a_node_that_is_no_member_any_more() -> None:
    store = Store()
    routes = KeptRoutes(store)
    for node in ("a", "ab", "b"):
        routes.change(node, [("", f"f/{number}", None, 1, True) for number in range(3)], [])
    routes.forget_but({"ab"})
    assert {node: len(kept(store, node)) for node in ("a", "ab", "b")} == {"a": 0, "ab": 3, "b": 0}
