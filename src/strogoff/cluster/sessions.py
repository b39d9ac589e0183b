"""Sessions of a cluster: one for a client id, on the node where its client is or was last.

`claims` decides which connection has a client id, `moves` brings its session to its node, `records` knows where each
session is whose node is down. Here they meet: a session whose home is down is made anew from its record, and when that
home comes back what it has goes to the new home.
"""

import asyncio
import zlib
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, Final, Protocol, TypeAlias

from strogoff._engine import ClaimRequest, PeerInfo, SessionInfo
from strogoff.cluster.claims import Claims, EngineClaims
from strogoff.cluster.metadata import MetadataError, MetadataStore
from strogoff.cluster.moves import EngineMoves, KnownRoutes, Moves
from strogoff.cluster.records import EngineSessions, SubscriberRecords
from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests
from strogoff.cluster.subscriber_record import SubscriberId, SubscriberRecord
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

__all__ = ["Sessions"]

MOVE_TIMEOUT_S: Final = 10.0
GATHER_S: Final = 0.05
"""How long sessions that have another home are gathered, to go there together."""
AGAIN_S: Final = 1.0
AGAIN_MAX_S: Final = 30.0
"""Until sessions are offered again to their home, which could not take them: doubled each time."""
TAKEN_OVER: Final = 0x8E
SESSIONS_AT_ONCE: Final = 200

StartTask: TypeAlias = Callable[[Coroutine[Any, Any, None], str], object]

_log = get_logger("cluster.sessions")


class Engine(EngineClaims, EngineMoves, EngineSessions, Protocol):
    """What is needed of the engine."""

    def make_session(self, session: bytes, subscriptions: Sequence[tuple[str, int, int]]) -> None:
        """Make a session with an empty queue."""

    def set_fences(self, sessions: Sequence[tuple[str, str]], fences: Sequence[tuple[str, int]]) -> None:
        """Say since when sessions that were made anew get all that nodes publish."""

    def session(self, client_id: str, mountpoint: str = "") -> SessionInfo | None:
        """A session of this node."""

    def peers(self) -> Sequence[PeerInfo]:
        """The links to other nodes."""

    def disconnect(
        self, client_id: str, mountpoint: str = "", *, reason_code: int = 0x98, cleanup: bool = False
    ) -> bool:
        """End a session."""


class Sessions:
    """The sessions as one node sees them. `reachable`: the other nodes that can be reached."""

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        metadata: MetadataStore,
        requests: Requests,
        routes: KnownRoutes,
        reachable: Callable[[], Sequence[str]],
        answer_timeout_s: float,
        start_task: StartTask,
    ) -> None:
        self._engine = engine
        self._name = name
        self._reachable = reachable
        self._start_task = start_task
        self._is_held = False
        self._leaving: dict[str, set[SubscriberId]] = {}
        """Sessions of this node that have another home, by that."""
        self._gathering: set[str] = set()
        """Those homes to which they go in a moment."""
        self.moves = Moves(
            engine,
            name,
            requests=requests,
            routes=routes,
            reachable=reachable,
            holds=self._holds,
            timeout_s=MOVE_TIMEOUT_S,
        )
        self.records = SubscriberRecords(engine, name, metadata, is_going=self.moves.is_going, away=self._is_away)
        self._claims = Claims(
            engine,
            name,
            requests=requests,
            reachable=reachable,
            moves=self.moves,
            homes=self,
            timeout_s=answer_timeout_s,
            start_task=start_task,
        )

    def _holds(self, node: str) -> bool:
        """Whether messages for a node wait here since it cannot be reached."""
        return any(peer.name == node and peer.state != "reachable" and peer.held_bytes for peer in self._engine.peers())

    def series(self) -> list[Series]:
        """What is counted of sessions between nodes."""
        counts = (
            ("cluster_sessions_in", self.moves.come, "Sessions that came from other nodes with their clients."),
            ("cluster_sessions_out", self.moves.gone, "Sessions that went to other nodes."),
            (
                "cluster_sessions_failed",
                self.moves.failed,
                "Sessions that could not be brought here; they are where they were.",
            ),
            ("cluster_claims_refused", self._claims.refused, "Clients that could not get their client id, or session."),
        )
        records = "Sessions that outlast their connection, on all nodes."
        return [
            *(Series(name, "counter", value, description) for name, value, description in counts),
            Series("cluster_session_records", "gauge", self.records.count, records),
        ]

    # -- what happens around it ------------------------------------------------------------------------------

    def hold(self, *, held: bool) -> None:
        """Whether this node is joining: its sessions are not those that the other nodes mean by the same client ids,
        until they are made one.
        """
        self._is_held = held
        self._claims.is_joining = held
        self.records.hold(held=held)

    def reachable(self, node: str) -> None:
        """A node can be reached."""
        self._claims.reachable(node)
        self._start_task(self._return(node), f"sessions of {node}")

    def unreachable(self, node: str) -> None:
        """A node cannot be reached any more."""
        self._claims.unreachable(node)
        self.moves.unreachable(node)

    def keep(self, nodes: Collection[str]) -> None:
        """The other members are these."""
        self._claims.keep(nodes)
        self.records.watch(watched=bool(nodes))

    def claimed(self, requests: Sequence[ClaimRequest]) -> None:
        """Clients of this node claim their client ids."""
        self._claims.handle(requests)

    def changed(self) -> None:
        """Sessions of this node have changed."""
        self.records.changed()

    async def run(self) -> None:
        """Keep the records. Ends when it is cancelled."""
        await self.records.run()

    def removed(self, node: str, members: Collection[str]) -> None:
        """A node is no member any more: its sessions are made anew, each on one of the members."""
        self._start_task(self._take_over(node, sorted(members)), f"sessions of {node}")

    async def _take_over(self, node: str, members: Sequence[str]) -> None:
        own = [
            session
            for session, _ in self.records.of_home(node)
            if members[zlib.crc32("\0".join(session).encode()) % len(members)] == self._name
        ]
        for begin in range(0, len(own), SESSIONS_AT_ONCE):
            await self.settle([(session, False) for session in own[begin : begin + SESSIONS_AT_ONCE]])
        if own:
            _log.notice("sessions of a node that is no member any more are made anew", node=node, sessions=len(own))

    # -- when this node leaves -------------------------------------------------------------------------------

    async def hand_over(self, told: Callable[[int, int], None]) -> int:
        """Give all sessions that last to the other nodes, in turn; how many stay. `told`: how many went, of all.

        Meanwhile this node takes none, from nodes that leave too. What was on its way here goes on with the rest.
        """
        staying: set[tuple[str, str]] = set()
        refusing: set[str] = set()
        gone = 0
        self.moves.is_leaving = True
        try:
            while sessions := [session for session in await self.records.lasting() if session not in staying]:
                total = gone + len(staying) + len(sessions)
                for number, begin in enumerate(range(0, len(sessions), SESSIONS_AT_ONCE)):
                    part = sessions[begin : begin + SESSIONS_AT_ONCE]
                    kept = await self._give_to_one(part, number, refusing)
                    staying |= kept
                    gone += len(part) - len(kept)
                    told(gone, total)
        except BaseException:
            self.moves.is_leaving = False
            raise
        self.moves.is_leaving = not staying
        return len(staying)

    async def _give_to_one(self, part: Sequence[SubscriberId], turn: int, refusing: set[str]) -> set[tuple[str, str]]:
        """Give sessions to a node that takes them; those that stay. Nodes that do not are added to `refusing`."""
        while nodes := [node for node in self._reachable() if node not in refusing]:
            node = nodes[turn % len(nodes)]
            try:
                return await self.moves.give(node, part)
            except RemoteError as error:
                _log.warning("a node takes no sessions", node=node, sessions=len(part), reason=str(error))
                refusing.add(node)
            except NoAnswerError as error:
                _log.warning("sessions could not be handed over", sessions=len(part), reason=str(error))
                break
        return set(part)

    # -- sessions whose home is down -------------------------------------------------------------------------

    async def settle(self, sessions: Sequence[tuple[tuple[str, str], bool]]) -> None:
        """No node that can be reached has these sessions: those whose home is down are made anew, or forgotten where
        their client starts clean.
        """
        made: list[tuple[str, str]] = []
        for (mountpoint, client_id), is_clean_start in sessions:
            session = SubscriberId(mountpoint, client_id)
            record = self.records.get(session)
            if record is None or record.node in {self._name, *self._reachable()}:
                continue
            if is_clean_start:
                await self._forget(session)
            elif self._make_anew(session, record):
                made.append(session)
        if not made:
            return
        try:
            self._engine.set_fences(made, await self.moves.fence(None))
        except (RemoteError, TimeoutError) as error:
            # What their former home has got of it may come twice when it returns.
            _log.warning("sessions were made anew before all nodes know of them", sessions=len(made), reason=str(error))

    async def _forget(self, session: SubscriberId) -> None:
        try:
            await self.records.forget(session)
        except MetadataError as error:
            client_id = session.client_id
            _log.warning("that a session has ended cannot be written", client_id=client_id, reason=str(error))

    def _make_anew(self, session: SubscriberId, record: SubscriberRecord) -> bool:
        """Whether there is the session now, and was not before."""
        if self._engine.kept_session(*session) is not None:
            return False
        subscriptions = [
            (topic_filter, subscription.options, subscription.identifier)
            for topic_filter, subscription in record.subscriptions.items()
            if not subscription.removed
        ]
        client_id = session.client_id
        try:
            self._engine.make_session(record.session, subscriptions)
        except ValueError as error:
            _log.error("a session cannot be made anew", client_id=client_id, home=record.node, reason=str(error))
            return False
        _log.info("a session is made anew", client_id=client_id, home=record.node, subscriptions=len(subscriptions))
        return True

    def _is_away(self, session: SubscriberId, home: str | None) -> None:
        """A session of this node has another home by now, or has ended elsewhere."""
        if self._is_held:
            return
        info = self._engine.session(session.client_id, session.mountpoint)
        if info is None or info.is_online or self.moves.is_going(session):
            return
        if home is None:
            _log.info("a session has ended on another node", client_id=session.client_id)
            self._engine.disconnect(session.client_id, session.mountpoint, reason_code=TAKEN_OVER, cleanup=True)
            return
        self._leaving.setdefault(home, set()).add(session)
        if home not in self._gathering and home in self._reachable():
            self._gathering.add(home)
            self._start_task(self._give(home), f"sessions for {home}")

    def _home_of(self, session: SubscriberId) -> str | None:
        record = self.records.get(session)
        return None if record is None else record.node

    def _is_waiting_for(self, home: str, session: SubscriberId) -> bool:
        """Whether a session is here still, without a client, and has another home."""
        info = self._engine.session(session.client_id, session.mountpoint)
        return info is not None and not info.is_online and self._home_of(session) == home

    async def _return(self, home: str) -> None:
        """A node can be reached that may be the home of sessions which are here."""
        for session, _ in list(self.records.of_home(home)):
            self._is_away(session, home)

    async def _give(self, home: str) -> None:
        await asyncio.sleep(GATHER_S)
        self._gathering.discard(home)
        # What this node has said of a session since counts.
        gathered = self._leaving.pop(home, set())
        pause_s = AGAIN_S
        while sessions := [session for session in gathered if self._home_of(session) == home]:
            staying: Collection[tuple[str, str]] = sessions
            reason = ""
            try:
                staying = await self.moves.give(home, sessions)
            except (NoAnswerError, RemoteError) as error:
                reason = str(error)
            if not staying:
                return
            _log.warning(
                "sessions stay until their home can take them", home=home, sessions=len(staying), reason=reason
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)
            if home not in self._reachable():
                return
            gathered = {session for session in sessions if self._is_waiting_for(home, session)}
