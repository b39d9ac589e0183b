"""The metadata store that `metadata_plugin = vmq_swc` names: a replica of Server Wide Clocks, driven.

The replica decides, this module does: it persists what the replica gives, then sends its messages and acknowledges
local writes, then tells those who watch. One task works that off in order, a batch at a time, so that writes which
come while a batch is on its way to the disk share the next one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strogoff._engine import StoreError
from strogoff.cluster.merge import Merge
from strogoff.cluster.metadata import Event, EventLog, MetadataUnavailableError, Watcher
from strogoff.cluster.swc import (
    Actor,
    BacklogFullError,
    Condition,
    DecodeError,
    LostHistoryError,
    Output,
    Pulled,
    RefusalReason,
    Refused,
    Replica,
    TooManyActorsError,
    ValueTooLargeError,
)
from strogoff.observe.logging import get_logger

__all__ = ["ROWS_PREFIX", "EngineStore", "ExchangeError", "Hooks", "SwcStore", "rows_of"]

ROWS_PREFIX: Final = b"swc/"
"""Keys of the engine's store that the replica has for its own."""
ROWS_AT_ONCE: Final = 10_000
SYNC_INTERVAL_S: Final = 5.0
"""Time between two exchanges with a random member, and half of it more at random."""
ANSWER_TIMEOUT_S: Final = 2.0
ASKED_MAX: Final = 5
"""Times that a page of an exchange is asked for before the exchange is given up."""
PERSIST_RETRY_S: Final = 0.5

_log = get_logger("metadata")


class EngineStore(Protocol):
    """What the store needs of the engine."""

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """Rows in the order of their keys."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Write rows, all of them or none."""


class ExchangeError(Exception):
    """An exchange did not come to its end. The message says with whom, and why."""


def rows_of(engine: EngineStore, prefix: bytes = ROWS_PREFIX) -> Iterable[tuple[bytes, bytes]]:
    """All rows with a prefix, in the order of their keys. Blocking. Raises `StoreError`."""
    after: bytes | None = None
    while True:
        rows = engine.store_scan(prefix, after=after, limit=ROWS_AT_ONCE)
        yield from rows
        if len(rows) < ROWS_AT_ONCE:
            return
        after = rows[-1][0]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a store needs of the cluster around it.

    `send`: hands a message to the link of a member; False when that is down or full, which the next exchange makes up
    for. `removed`: a member says that this node is none any more. `lost_history`: peers know more of this node than its
    store does, so it has to go on as another actor.
    """

    send: Callable[[Actor, bytes], bool]
    removed: Callable[[Actor], None]
    lost_history: Callable[[], None]


class SwcStore:
    """A `MetadataStore`. `rows`: what the engine's store holds, from `rows_of`. `unwritten`: rows that have to be there
    before anything of this store is, and are written with the first of it.
    """

    def __init__(
        self,
        engine: EngineStore,
        *,
        actor: Actor,
        members: Collection[Actor],
        rows: Iterable[tuple[bytes, bytes]],
        unwritten: Iterable[tuple[bytes, bytes]] = (),
        merge: Merge,
        hooks: Hooks,
    ) -> None:
        self._engine = engine
        self._hooks = hooks
        self._replica = Replica(
            actor,
            members=members,
            nonce=random.SystemRandom().getrandbits(64),
            rows=rows,
            resolve=merge,
            prefix=ROWS_PREFIX,
        )
        self._unwritten: list[tuple[bytes, bytes | None]] = list(unwritten)
        self._events = EventLog()
        self._new_events = asyncio.Event()
        self._work = asyncio.Event()
        self._written: list[asyncio.Future[None]] = []
        self._reachable: set[Actor] = set()
        self._behind: dict[Actor, None] = {}
        self._pulls: dict[Actor, list[asyncio.Future[Pulled]]] = {}
        self._asked = 0
        self._asked_at = 0.0
        self._failure: str | None = None
        self._random = random.Random()  # noqa: S311 - spreads exchanges over time

    # -- the interface of metadata ---------------------------------------------------------------------------

    async def put(self, key: bytes, value: bytes) -> None:
        """See `MetadataStore.put`."""
        await self.put_all([(key, value)])

    async def put_all(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Put many. What was put before one that fails stays."""
        self._check()
        try:
            for key, value in pairs:
                self._replica.put(key, value)
        except (ValueTooLargeError, BacklogFullError, LostHistoryError) as error:
            raise MetadataUnavailableError(str(error)) from None
        finally:
            self._work.set()
        await self._persisted()

    async def delete(self, key: bytes) -> bool:
        """See `MetadataStore.delete`."""
        self._check()
        try:
            deleted = self._replica.delete(key)
        except (BacklogFullError, LostHistoryError) as error:
            raise MetadataUnavailableError(str(error)) from None
        if deleted:
            await self._persisted()
        return deleted

    def get(self, key: bytes) -> bytes | None:
        """See `MetadataStore.get`."""
        return self._replica.get(key)

    def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """See `MetadataStore.scan`."""
        found: list[tuple[bytes, bytes]] = []
        for pair in self._replica.scan(prefix, after=after):
            if len(found) == limit:
                break
            found.append(pair)
        return found

    def watch(self, prefix: bytes, watcher: Watcher) -> Callable[[], None]:
        """See `MetadataStore.watch`."""
        return self._events.watch(prefix, watcher)

    @property
    def revision(self) -> int:
        """See `MetadataStore.revision`."""
        return self._events.revision

    async def events_since(self, revision: int, prefix: bytes = b"") -> AsyncIterator[Event]:
        """See `MetadataStore.events_since`."""
        while True:
            self._new_events.clear()
            events = self._events.since(revision, prefix)
            revision = self._events.revision
            for event in events:
                yield event
            if revision == self._events.revision:
                await self._new_events.wait()

    # -- the cluster -----------------------------------------------------------------------------------------

    @property
    def actor(self) -> Actor:
        """Who this node writes as."""
        return self._replica.actor

    def seen_of(self, actor: Actor) -> int:
        """How many of the writes of an actor are here, up to the first that is missing."""
        return self._replica.seen_of(actor)

    async def retire(self, actor: Actor, row: tuple[bytes, bytes]) -> None:
        """Go on as another actor, among the members as well, since writes of the former one are lost. What was written
        since the start is its work then. `row`: the caller's, written with that. Returns when both will survive.
        """
        self._replica.retire(actor, has_lost_history=True)
        self._unwritten.append(row)
        await self._persisted()

    def set_members(self, members: Collection[Actor]) -> None:
        """The members of the cluster from now on, this node among them."""
        if frozenset(members) == self._replica.members:
            return
        self._replica.set_members(members)
        self._reachable &= set(members)
        self._work.set()

    def reachable(self, actor: Actor) -> None:
        """The link to a member works: what either side has missed is exchanged."""
        self._reachable.add(actor)
        self._behind[actor] = None
        self._work.set()

    def unreachable(self, actor: Actor) -> None:
        """The link to a member is down."""
        self._reachable.discard(actor)
        self._behind.pop(actor, None)
        if self._replica.pulling == actor:
            self._replica.cancel()
            self._fail_pulls(actor, f"the link to {actor.name} is down")
            self._work.set()

    def receive(self, actor: Actor, data: bytes) -> None:
        """A message of a peer has come."""
        try:
            self._replica.receive(actor, data)
        except (DecodeError, TooManyActorsError) as error:
            _log.error("a message of a peer was dropped", peer=actor.name, reason=str(error), size=len(data))
            return
        if self._replica.pulling == actor:
            self._asked, self._asked_at = 1, asyncio.get_running_loop().time()
        if self._replica.condition is Condition.LOST_HISTORY:
            self._hooks.lost_history()
        self._work.set()

    async def exchange(self, actor: Actor) -> Pulled:
        """Fetch all that a reachable member knows now. Raises `ExchangeError`."""
        if actor not in self._reachable:
            raise ExchangeError(f"{actor.name} is not reachable")
        done: asyncio.Future[Pulled] = asyncio.get_running_loop().create_future()
        self._pulls.setdefault(actor, []).append(done)
        if self._replica.pulling == actor:
            # What that exchange has fetched already may be older than the call.
            self._replica.cancel()
        self._behind[actor] = None
        self._work.set()
        return await done

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        next_exchange = loop.time() + self._pause()
        try:
            while True:
                await self._work_off()
                self._pull_next()
                if loop.time() >= next_exchange:
                    next_exchange = loop.time() + self._pause()
                    self._pull_somebody()
                self._ask_again()
                if self._work.is_set():
                    continue
                until = min(
                    next_exchange, self._asked_at + ANSWER_TIMEOUT_S if self._replica.pulling else next_exchange
                )
                try:
                    async with asyncio.timeout_at(until):
                        await self._work.wait()
                except TimeoutError:
                    pass
        finally:
            self._end_waiting("the node is stopping")

    # -- working off -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise MetadataUnavailableError(f"metadata cannot be written now: {self._failure}")

    async def _persisted(self) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._written.append(done)
        self._work.set()
        await done

    async def _work_off(self) -> None:
        self._work.clear()
        while output := self._replica.take():
            written, self._written = self._written, []
            writes, self._unwritten = self._unwritten + output.writes, []
            try:
                if writes:
                    await self._persist(writes)
            except asyncio.CancelledError:
                self._written = written + self._written
                raise
            for done in written:
                if not done.done():
                    done.set_result(None)
            self._pass_on(output)
            # Others have a turn between two batches.
            await asyncio.sleep(0)

    async def _persist(self, writes: list[tuple[bytes, bytes | None]]) -> None:
        """Write until it works: the replica knows of it already, and nobody else may before the store does."""
        while True:
            try:
                await asyncio.to_thread(self._engine.store_write, writes, wait=True)
            except StoreError as error:
                if self._failure is None:
                    _log.error("metadata cannot be written and is tried again", reason=str(error), rows=len(writes))
                self._failure = str(error)
                await asyncio.sleep(PERSIST_RETRY_S)
            else:
                if self._failure is not None:
                    _log.warning("metadata is written again")
                self._failure = None
                return

    def _pass_on(self, output: Output) -> None:
        for actor, message in output.messages:
            self._hooks.send(actor, message)
        if output.reloaded:
            self._events.reset()
        if output.changes:
            self._events.add(output.changes)
        if output.reloaded or output.changes:
            self._new_events.set()
        for actor in output.behind:
            if actor in self._reachable:
                self._behind[actor] = None
        for ended in output.ended:
            self._exchange_ended(ended)

    def _exchange_ended(self, ended: Pulled | Refused) -> None:
        actor = ended.peer
        if isinstance(ended, Refused):
            self._fail_pulls(actor, f"{actor.name} refused to exchange metadata: {ended.reason.name}")
            if ended.reason is RefusalReason.NOT_A_MEMBER:
                self._hooks.removed(actor)
            return
        if ended.keys:
            _log.info("metadata exchanged", peer=actor.name, keys=ended.keys, whole=ended.whole)
        for done in self._pulls.pop(actor, ()):
            if not done.done():
                done.set_result(ended)
        while self._replica.collect():
            pass
        self._work.set()

    # -- exchanges -------------------------------------------------------------------------------------------

    def _pause(self) -> float:
        return SYNC_INTERVAL_S * (1 + self._random.random() / 2)

    def _pull_next(self) -> None:
        if self._replica.pulling is not None or not self._behind:
            return
        actor = next(iter(self._behind))
        del self._behind[actor]
        self._pull(actor)

    def _pull_somebody(self) -> None:
        if self._replica.pulling is None and self._reachable:
            self._pull(self._random.choice(sorted(self._reachable)))

    def _pull(self, actor: Actor) -> None:
        if actor not in self._reachable or actor not in self._replica.members:
            self._fail_pulls(actor, f"{actor.name} is not reachable")
            return
        self._replica.pull(actor)
        self._asked, self._asked_at = 1, asyncio.get_running_loop().time()
        self._work.set()

    def _ask_again(self) -> None:
        actor = self._replica.pulling
        if actor is None or asyncio.get_running_loop().time() < self._asked_at + ANSWER_TIMEOUT_S:
            return
        if self._asked >= ASKED_MAX:
            self._replica.cancel()
            self._fail_pulls(actor, f"{actor.name} did not answer in {ASKED_MAX * ANSWER_TIMEOUT_S:.0f} s")
        else:
            self._replica.repeat()
            self._asked += 1
            self._asked_at = asyncio.get_running_loop().time()
        self._work.set()

    def _fail_pulls(self, actor: Actor, reason: str) -> None:
        for done in self._pulls.pop(actor, ()):
            if not done.done():
                done.set_exception(ExchangeError(reason))

    def _end_waiting(self, reason: str) -> None:
        for done in self._written:
            if not done.done():
                done.set_exception(MetadataUnavailableError(reason))
        self._written.clear()
        for actor in list(self._pulls):
            self._fail_pulls(actor, reason)
