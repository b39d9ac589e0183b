"""The metadata store over the engine's store: what is acknowledged is persisted and replicated."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.awaiting import DEADLINE_S, until
from strogoff._engine import Engine
from strogoff.cluster.merge import by_prefix
from strogoff.cluster.metadata import Event, MetadataStore, MetadataUnavailableError, Origin
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import ExchangeError, Hooks, SwcStore, rows_of
from unit.stores import content_of


@dataclass(slots=True)
class Net:
    """A network between stores in one process that delivers at once, or drops."""

    stores: dict[Actor, SwcStore] = field(default_factory=dict)
    is_cut: bool = False
    removed: list[Actor] = field(default_factory=list)
    lost: list[Actor] = field(default_factory=list)

    def hooks(self, own: Actor) -> Hooks:
        def send(actor: Actor, data: bytes) -> bool:
            if self.is_cut or actor not in self.stores:
                return False
            asyncio.get_running_loop().call_soon(self.stores[actor].receive, own, data)
            return True

        return Hooks(send, self.removed.append, lambda: self.lost.append(own))


@contextlib.asynccontextmanager
async def store_in(directory: Path, net: Net, actor: Actor, members: list[Actor]) -> AsyncIterator[SwcStore]:
    """A store that runs, over an engine of its own."""
    engine = Engine({"workers": 1, "store.segment_bytes": 1 << 20})
    engine.open_store(str(directory))
    engine.start()
    store = SwcStore(
        engine, actor=actor, members=members, rows=list(rows_of(engine)), merge=by_prefix({}), hooks=net.hooks(actor)
    )
    net.stores[actor] = store
    running = asyncio.create_task(store.run())
    try:
        yield store
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        del net.stores[actor]
        engine.stop()


A, B = Actor("a@h", 1), Actor("b@h", 2)


def test_it_is_a_metadata_store(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_in(tmp_path / "a", Net(), A, [A]) as store:
            assert isinstance(store, MetadataStore)

    asyncio.run(scenario())


def test_what_is_put_is_there_after_a_restart_and_what_is_deleted_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_in(tmp_path / "a", Net(), A, [A]) as store:
            await asyncio.gather(*(store.put(b"k/%03d" % number, b"%d" % number) for number in range(500)))
            assert await store.delete(b"k/007")
            assert not await store.delete(b"k/007")
        async with store_in(tmp_path / "a", Net(), A, [A]) as store:
            assert store.get(b"k/007") is None
            assert store.get(b"k/008") == b"8"
            assert len(store.scan(b"k/")) == 499
            assert store.scan(b"k/", after=b"k/497", limit=5) == [(b"k/498", b"498"), (b"k/499", b"499")]

    asyncio.run(scenario())


def test_a_write_reaches_a_member_and_those_who_watch_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        net = Net()
        async with store_in(tmp_path / "a", net, A, [A, B]) as a, store_in(tmp_path / "b", net, B, [A, B]) as b:
            seen: list[Event] = []
            b.watch(b"k", seen.extend)
            a.reachable(B)
            b.reachable(A)
            await a.put(b"k", b"1")
            await a.put(b"other", b"x")
            await until(lambda: b.get(b"other") == b"x")
            await a.delete(b"k")
            await until(lambda: b.get(b"k") is None)
            assert [(event.key, event.new, event.origin) for event in seen] == [
                (b"k", b"1", Origin.REMOTE),
                (b"k", None, Origin.REMOTE),
            ]

    asyncio.run(scenario())


def test_what_was_missed_while_a_link_was_down_comes_with_the_next_exchange(tmp_path: Path) -> None:
    async def scenario() -> None:
        net = Net(is_cut=True)
        async with store_in(tmp_path / "a", net, A, [A, B]) as a, store_in(tmp_path / "b", net, B, [A, B]) as b:
            await a.put_all((b"k/%d" % number, b"x" * 100) for number in range(3_000))
            assert b.get(b"k/0") is None
            net.is_cut = False
            b.reachable(A)
            pulled = await asyncio.wait_for(b.exchange(A), DEADLINE_S)
            assert pulled.keys == 3_000
            assert len(b.scan(b"k/", limit=10_000)) == 3_000

    asyncio.run(scenario())


def test_events_since_a_revision_go_on_with_those_to_come(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_in(tmp_path / "a", Net(), A, [A]) as store:
            await store.put(b"a", b"1")
            revision = store.revision
            await store.put(b"b", b"2")
            keys = []
            writing = asyncio.create_task(store.put(b"c", b"3"))
            async for event in store.events_since(revision):
                keys.append(event.key)
                if len(keys) == 2:
                    break
            assert keys == [b"b", b"c"]
            await writing

    asyncio.run(scenario())


def test_an_exchange_that_does_not_come_to_its_end_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        net = Net()
        async with store_in(tmp_path / "a", net, A, [A, B]) as a, store_in(tmp_path / "b", net, B, [B]):
            with pytest.raises(ExchangeError, match="b@h is not reachable"):
                await a.exchange(B)
            a.reachable(B)
            with pytest.raises(ExchangeError, match="b@h refused to exchange metadata: NOT_A_MEMBER"):
                await a.exchange(B)
            assert net.removed
            net.is_cut = True
            waiting = asyncio.create_task(a.exchange(B))
            await asyncio.sleep(0.05)
            a.unreachable(B)
            with pytest.raises(ExchangeError, match="the link to b@h is down"):
                await waiting

    asyncio.run(scenario())


def test_bytes_that_are_no_message_change_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        net = Net()
        async with store_in(tmp_path / "a", net, A, [A, B]) as a:
            await a.put(b"k", b"1")
            for data in (b"", b"\x00", b"\xff" * 100):
                a.receive(B, data)
            assert a.get(b"k") == b"1"

    asyncio.run(scenario())


def test_a_value_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_in(tmp_path / "a", Net(), A, [A]) as store:
            with pytest.raises(MetadataUnavailableError, match="bytes of key"):
                await store.put(b"k", bytes(9 << 20))
            await store.put(b"k", b"small")

    asyncio.run(scenario())


def test_a_store_that_has_lost_what_others_have_seen_goes_on_as_another_actor(tmp_path: Path) -> None:
    """What it has written since the loss might bear the dots of what was lost: it becomes the work of the new actor."""
    again = Actor(A.name, 9)

    async def scenario() -> None:
        net = Net()
        async with store_in(tmp_path / "b", net, B, [A, B]) as b:
            async with store_in(tmp_path / "a", net, A, [A, B]) as a:
                await a.put(b"kept", b"x")
            shutil.copytree(tmp_path / "a", tmp_path / "copy")
            async with store_in(tmp_path / "a", net, A, [A, B]) as a:
                await a.put_all((b"lost/%d" % number, b"x") for number in range(3))
                await until(lambda: len(b.scan(b"")) == 4)
            net.is_cut = True
            async with store_in(tmp_path / "copy", net, A, [A, B]) as a:
                await a.put(b"new", b"x")
                net.is_cut = False
                a.reachable(B)
                await until(lambda: net.lost)
                with pytest.raises(MetadataUnavailableError):
                    await a.put(b"refused", b"x")
                net.is_cut = True
                await a.retire(again, (b"who", b"again"))
                assert a.actor == again
            net.is_cut = False
            b.set_members([again, B])
            async with store_in(tmp_path / "copy", net, again, [again, B]) as a:
                a.reachable(B)
                b.reachable(again)
                await until(lambda: len(a.scan(b"")) == len(b.scan(b"")) == 5)
                assert a.scan(b"") == b.scan(b"")
                await a.put(b"newer", b"x")
                await until(lambda: b.get(b"newer"))
        assert content_of(tmp_path / "copy")[b"who"] == b"again"

    asyncio.run(scenario())
