"""After a join: what this node and the cluster both have is settled, and what this node alone has is told.

Nothing of what this node has is written into the metadata until the metadata of the cluster is here (`hold`). Then each
session that both have becomes one, kept settings are written where the cluster has none, and after that the usual ways
go on: a record for each session and each retained message, of which the later one counts. Each of these steps can be
done again, and finds done what was done; so a node that was killed in the middle begins this anew.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from strogoff.cluster.guard.begun import KEPT_PREFIX
from strogoff.cluster.guard.inventory import Kind, is_brokers_own, kind_of_row, placed, readable
from strogoff.cluster.guard.resolution import Outcome, Settled, of_row, of_topic
from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests
from strogoff.cluster.retained import EngineRetained, RetainedMessages
from strogoff.cluster.retained_record import RetainedTopic
from strogoff.cluster.sessions import Sessions
from strogoff.cluster.subscriber_record import SubscriberId, SubscriberRecord
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import SwcStore, rows_of
from strogoff.observe.logging import get_logger

__all__ = ["Settling"]

ROUNDS_MAX: Final = 5
RETRY_S: Final = 0.2
LOOK_S: Final = 0.02
REQUEST: Final = "all told"
TOLD_TIMEOUT_S: Final = 20.0
ANSWER_MARGIN_S: Final = 5.0
SESSIONS_AT_ONCE: Final = 200
RETAINED_A_PAGE: Final = 1_000
LINES_LOGGED_MAX: Final = 10_000

_log = get_logger("cluster.merge")


class Engine(EngineRetained, Protocol):
    """What is needed of the engine."""

    def kept_session(self, mountpoint: str, client_id: str) -> tuple[bytes, list[tuple[str, int, int]]] | None:
        """A session that lasts."""

    def make_session(self, session: bytes, subscriptions: Sequence[tuple[str, int, int]]) -> None:
        """Make a session, or add subscriptions to the one that is here."""

    def set_fences(self, sessions: Sequence[tuple[str, str]], fences: Sequence[tuple[str, int]]) -> None:
        """Say since when sessions that were made anew get all that nodes publish."""

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """Rows in the order of their keys."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Write rows."""


class Settling:
    """What there is to settle on the node `name`. `reachable`: the other nodes that can be reached."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        metadata: SwcStore,
        requests: Requests,
        sessions: Sessions,
        retained: RetainedMessages,
        reachable: Callable[[], Sequence[str]],
    ) -> None:
        self._engine = engine
        self._name = name
        self._metadata = metadata
        self._sessions = sessions
        self._retained = retained
        self._reachable = reachable
        self._requests = requests
        self._is_held = False
        requests.serve(REQUEST, self._asked_whether_all_is_told)

    def hold(self, *, held: bool) -> None:
        """Whether what this node has is kept back from the cluster."""
        self._is_held = held
        self._sessions.hold(held=held)
        self._retained.hold(held=held)
        moves = self._sessions.moves
        moves.united = (moves.united or {}) if held else None

    async def settle(self, sources: Callable[[], Sequence[Actor]]) -> list[Settled]:
        """Settle all. `sources`: the members that can be reached. Returns when what this node has is told. Raises
        `MetadataError`, `StoreError`, `ExchangeError`, `NoAnswerError` and `RemoteError`: do it again then.
        """
        await self._hear(sources)
        settled = [*await self._rows(), *await self._shared_sessions(), *await self._shared_topics()]
        for each in settled[:LINES_LOGGED_MAX]:
            _log.notice("settled", kind=each.kind.value, what=each.what, outcome=each.outcome.value, node=each.where)
        if len(settled) > LINES_LOGGED_MAX:
            _log.notice("more was settled that is not named", number=len(settled) - LINES_LOGGED_MAX)
        self.hold(held=False)
        await self._all_is_told()
        return settled

    async def _hear(self, sources: Callable[[], Sequence[Actor]]) -> None:
        """Return when what the members have is in the metadata here. One that was alone has told nobody before."""
        if await self._has_something():
            for actor in sources():
                await self._requests.ask(actor.name, REQUEST, {}, timeout_s=TOLD_TIMEOUT_S + ANSWER_MARGIN_S)
        for actor in sources():
            await self._metadata.exchange(actor)

    async def _has_something(self) -> bool:
        topics, cursor = self._engine.retained_page(None, 1)
        return bool(topics) or cursor is not None or bool(await self._sessions.records.lasting())

    async def _asked_whether_all_is_told(self, node: str, _: dict[str, Any]) -> dict[str, Any]:
        """A node that has joined wants to know all that this one has. One that joins itself tells it later, and settles
        what both have then: two such nodes must not wait for each other.
        """
        if self._is_held:
            return {}
        try:
            async with asyncio.timeout(TOLD_TIMEOUT_S):
                await self._all_is_told()
        except TimeoutError:
            raise RemoteError(f"{self._name} has not told {node} yet of all that it has: try again") from None
        return {}

    async def _all_is_told(self) -> None:
        while not (self._sessions.records.is_written and self._retained.is_written):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(LOOK_S)

    # -- settings and keys -----------------------------------------------------------------------------------

    async def _rows(self) -> list[Settled]:
        settled: list[Settled] = []
        for row, value in await asyncio.to_thread(lambda: list(rows_of(self._engine, KEPT_PREFIX))):
            key = row.removeprefix(KEPT_PREFIX)
            outcome = of_row(value, self._metadata.get(key))
            if outcome is Outcome.ADDED:
                await self._metadata.put(key, value)
            if outcome is not None:
                settled.append(Settled(kind_of_row(key), readable(key), outcome))
        return settled

    # -- sessions --------------------------------------------------------------------------------------------

    async def _shared_sessions(self) -> list[Settled]:
        adopted: set[SubscriberId] = set()
        for number in range(ROUNDS_MAX):
            if number:
                await asyncio.sleep(RETRY_S)
            # Those whose clients are connected here have come with the claims of these.
            come = [session for session, node in (self._sessions.moves.united or {}).items() if node == self._name]
            await self._sessions.records.take_home(come)
            shared = await self._sessions.records.elsewhere()
            if not shared:
                break
            for home in sorted({record.node for _, record in shared}):
                of_home = [(session, record) for session, record in shared if record.node == home]
                for begin in range(0, len(of_home), SESSIONS_AT_ONCE):
                    part = dict(of_home[begin : begin + SESSIONS_AT_ONCE])
                    adopted |= await self._unite(home, part, is_last=number == ROUNDS_MAX - 1)
        united = dict.fromkeys(adopted, self._name) | (self._sessions.moves.united or {})
        return [Settled(Kind.SESSIONS, placed(*each), Outcome.UNITED, node) for each, node in sorted(united.items())]

    async def _unite(
        self, home: str, records: dict[SubscriberId, SubscriberRecord], *, is_last: bool
    ) -> set[SubscriberId]:
        """Make one session of two: here, with the messages that the other node has before those that are here; or
        there, where the client is connected to that node; or, where that cannot be reached, here, and its messages come
        when it is back. Those of the last kind.
        """
        here: set[SubscriberId] = set()
        there: set[SubscriberId] = set()
        adopted: set[SubscriberId] = set()
        if home in self._reachable():
            here = await self._sessions.moves.fetch(home, records)
            there = await self._give(home, set(records) - here)
        if home not in self._reachable() or is_last:
            adopted = await self._adopt(home, {key: records[key] for key in records if key not in here | there})
        await self._sessions.records.take_home(here | adopted)
        return adopted

    async def _give(self, home: str, sessions: set[SubscriberId]) -> set[SubscriberId]:
        """Give sessions to a node; those that are there then."""
        if not sessions:
            return set()
        try:
            await self._sessions.moves.give(home, sessions)
        except (NoAnswerError, RemoteError) as error:
            _log.warning("sessions could not be united yet", node=home, sessions=len(sessions), reason=str(error))
        return {session for session in sessions if self._engine.kept_session(*session) is None}

    async def _adopt(self, home: str, records: dict[SubscriberId, SubscriberRecord]) -> set[SubscriberId]:
        """Take the subscriptions of sessions whose home cannot be reached, or does not let go of them."""
        adopted: list[SubscriberId] = []
        for session, record in records.items():
            subscriptions = [
                (topic_filter, each.options, each.identifier)
                for topic_filter, each in record.subscriptions.items()
                if not each.removed
            ]
            try:
                self._engine.make_session(record.session, subscriptions)
                adopted.append(session)
            except ValueError as error:
                _log.error("a session cannot be united", client_id=session.client_id, home=home, reason=str(error))
        if adopted:
            try:
                self._engine.set_fences(adopted, await self._sessions.moves.fence(None))
            except (RemoteError, TimeoutError) as error:
                _log.warning("sessions were united before all nodes know of them", reason=str(error))
        return set(adopted)

    # -- retained messages -----------------------------------------------------------------------------------

    async def _shared_topics(self) -> list[Settled]:
        settled: list[Settled] = []
        cursor: tuple[str, int] | None = None
        while True:
            page, cursor = self._engine.retained_page(cursor, RETAINED_A_PAGE)
            for mountpoint, topic, stamp, origin, _ in page:
                if is_brokers_own(topic):
                    # It has said something newer of itself meanwhile.
                    continue
                record = self._retained.record(RetainedTopic(mountpoint, topic))
                outcome = None if record is None else of_topic((stamp, origin), record.message_name)
                if outcome is not None:
                    settled.append(Settled(Kind.RETAINED, placed(mountpoint, topic), outcome))
            await asyncio.sleep(0)
            if cursor is None:
                return settled
