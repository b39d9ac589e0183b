"""Sessions go to the node that their clients have come to.

The new node leads. It gets the session without its messages, so that its subscriptions are here from then on; sees to
it that all nodes know of that, and that what they had sent to the old node alone has come there; fetches the messages;
has the old node let go of the subscriptions; fetches what has come meanwhile; puts all into the queue, and when that is
kept the old node ends its session. A message that came to both nodes in between has one name on both, so it is there
once.

Until its last step the old node has all that it had. A move that fails is given up on both sides, and may begin anew.
"""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from strogoff._engine import StoreError
from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests
from strogoff.cluster.subscriber_record import SubscriberId
from strogoff.observe.logging import get_logger

__all__ = ["Moves"]

SESSIONS_A_MOVE: Final = 200
PART_BYTES: Final = 192 * 1_024
PACKED_BYTES: Final = 256 * 1_024
TURN_MS: Final = 1_000
LOOK_S: Final = 0.002
LOOK_AT_HELD_S: Final = 0.02
GIVE_TIMEOUT_S: Final = 60.0
AWAITED_S: Final = 3.0
"""How long a client waits for its session at most since messages for it are held by a node that cannot pass them on."""
KEPT_KEY: Final = b"cluster/moved"
"""A row whose writing tells that all that was written before is kept."""

_log = get_logger("cluster.moves")


Sessions: TypeAlias = Sequence[tuple[str, str]]


class EngineMoves(Protocol):
    """What is needed of the engine."""

    def kept_session(self, mountpoint: str, client_id: str) -> tuple[bytes, list[tuple[str, int, int]]] | None:
        """A session that lasts."""

    def begin_move(self, mountpoint: str, client_id: str) -> bytes | None:
        """A session without its messages."""

    def pack_messages(
        self, mountpoint: str, client_id: str, *, after: int = 0, size: int = 262_144
    ) -> tuple[bytes, int, bool] | None:
        """Some of its messages."""

    def close_moves(self, sessions: Sessions) -> None:
        """They get no more messages."""

    def end_moves(self, sessions: Sessions) -> None:
        """They are on the other node."""

    def abandon_moves(self, sessions: Sessions) -> None:
        """They stay."""

    def take_session(self, data: bytes) -> None:
        """Take a session without its messages."""

    def take_messages(self, mountpoint: str, client_id: str, data: bytes) -> None:
        """Take some of its messages."""

    def finish_move(self, mountpoint: str, client_id: str, *, whole: bool) -> None:
        """Nothing more comes."""

    def pass_turns(self, timeout_ms: int) -> bool:
        """Wait until what was routed before is handed over."""

    def lane_filled(self, peer: str) -> int:
        """How far the data lane to a peer is filled."""

    def lane_taken(self, peer: str, position: int) -> bool:
        """Whether the peer has taken it up to there."""

    def stamp(self) -> int:
        """The stamp of something that happens now."""

    def observe_stamp(self, stamp: int) -> None:
        """Another node has given this stamp."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Write rows."""


class KnownRoutes(Protocol):
    """What is needed of the routes."""

    def changed(self) -> None:
        """Tell the other nodes what has changed."""

    def position(self, node: str) -> tuple[int, int] | None:
        """How far the stream to a node is; None while not all of it is told."""

    def has_heard(self, node: str, position: tuple[int, int]) -> bool:
        """Whether this node has heard a stream as far."""


class _Packed(NamedTuple):
    after: int
    data: bytes
    until: int
    is_all: bool


class Moves:
    """The moves of one node. `reachable`: the other nodes. `timeout_s`: how long one may take for each step.

    `holds`: whether there are messages here for a node which cannot be reached.
    """

    def __init__(
        self,
        engine: EngineMoves,
        name: str,
        *,
        requests: Requests,
        routes: KnownRoutes,
        reachable: Callable[[], Sequence[str]],
        holds: Callable[[str], bool],
        timeout_s: float,
    ) -> None:
        self._engine = engine
        self._name = name
        self._requests = requests
        self._routes = routes
        self._reachable = reachable
        self._holds = holds
        self._timeout_s = timeout_s
        self._coming: set[SubscriberId] = set()
        self._going: dict[SubscriberId, str] = {}
        self._packed: dict[SubscriberId, _Packed] = {}
        self.is_leaving = False
        """Whether this node gives all its sessions away: it takes none then, as nobody would hand them on."""
        self.united: dict[SubscriberId, str] | None = None
        """Notes, while it is there, sessions that were here and have become one with one of another node, or have gone
        there; and the node that has them now.
        """
        self.come = self.gone = self.failed = 0
        """Sessions that have come from other nodes, gone to them, and could not be brought here."""
        for kind, handler in (
            ("move begin", self._asked_to_begin),
            ("move next", self._asked_for_messages),
            ("move close", self._asked_to_close),
            ("move end", self._asked_to_end),
            ("move abandon", self._asked_to_abandon),
            ("move take", self._asked_to_take),
            ("move held", self._asked_to_pass_on),
            ("fence", self._asked_for_fence),
        ):
            requests.serve(kind, handler)

    # -- what happens around it ------------------------------------------------------------------------------

    def unreachable(self, node: str) -> None:
        """A node cannot be reached any more: what was on its way there stays."""
        staying = [session for session, to in self._going.items() if to == node]
        self._engine.abandon_moves(staying)
        self._forget(staying)

    def is_going(self, session: SubscriberId) -> bool:
        """Whether a session is on its way to another node."""
        return session in self._going

    async def at_rest(self, sessions: Iterable[tuple[str, str]]) -> None:
        """Wait until none of these sessions is on its way to another node. Gives up after a while."""
        waited_for = {SubscriberId(*session) for session in sessions}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timeout_s):
                await _until(lambda: not waited_for & self._going.keys())

    # -- the new node ----------------------------------------------------------------------------------------

    async def bring(
        self, node: str, sessions: Iterable[tuple[str, str]], *, is_awaited: bool = False
    ) -> set[tuple[str, str]]:
        """Bring sessions of a node here. Those that could not be brought although the node can be reached.

        `is_awaited`: their clients wait. The others wait themselves while messages for the node are held elsewhere.
        """
        _, failed = await self._bring_all(node, sessions, is_awaited=is_awaited)
        return failed if node in self._reachable() else set()

    async def fetch(self, node: str, sessions: Iterable[tuple[str, str]]) -> set[SubscriberId]:
        """As `bring`. Those that have come."""
        come, _ = await self._bring_all(node, sessions, is_awaited=False)
        return come

    async def _bring_all(
        self, node: str, sessions: Iterable[tuple[str, str]], *, is_awaited: bool
    ) -> tuple[set[SubscriberId], set[tuple[str, str]]]:
        """Those that have come, and those that could not. The node does not have the others, or has their clients."""
        come: set[SubscriberId] = set()
        failed: set[tuple[str, str]] = set()
        wanted = [SubscriberId(*session) for session in sessions]
        for begin in range(0, len(wanted), SESSIONS_A_MOVE):
            part = wanted[begin : begin + SESSIONS_A_MOVE]
            free = [session for session in part if session not in self._coming]
            failed.update(set(part) - set(free))
            self._coming.update(free)
            try:
                has_come, has_failed = await self._bring(node, free, is_awaited=is_awaited)
                come |= has_come
                failed |= has_failed
            finally:
                self._coming.difference_update(free)
        self.failed += len(failed)
        return come, failed

    async def _bring(
        self, node: str, wanted: Sequence[SubscriberId], *, is_awaited: bool
    ) -> tuple[set[SubscriberId], set[SubscriberId]]:
        coming: list[SubscriberId] = []
        ours: list[SubscriberId] = []
        try:
            if wanted:
                await self._passed_on(node, is_awaited=is_awaited)
            answer = await self._ask(node, "begin", wanted)
            # What is written of the sessions from now on is later than what the old node has written.
            self._engine.observe_stamp(int(answer["stamp"]))
            packed = _packed_sessions(answer, len(wanted))
            busy = {session for session, data in zip(wanted, packed, strict=True) if data == "busy"}
            for session, data in zip(wanted, packed, strict=True):
                if data is not None and session not in busy:
                    if self.united is not None and self._engine.kept_session(*session) is not None:
                        ours.append(session)
                    self._engine.take_session(_bytes(data))
                    coming.append(session)
            if not coming:
                return set(), busy
            await self.fence(node)
            until = {session: await self._fetch(node, session, 0) for session in coming}
            await self._ask(node, "close", coming)
            for session in coming:
                await self._fetch(node, session, until[session])
                self._engine.finish_move(*session, whole=True)
            await asyncio.to_thread(self._engine.store_write, [(KEPT_KEY, b"")], wait=True)
            await self._ask(node, "end", coming)
        except (NoAnswerError, RemoteError, StoreError, TimeoutError, ValueError, KeyError) as error:
            _log.warning(
                "sessions could not be brought here", node=node, sessions=len(wanted), reason=str(error) or "too slow"
            )
            await self._give_up(node, coming)
            return set(), set(wanted)
        self.come += len(coming)
        if self.united is not None:
            self.united.update(dict.fromkeys(ours, self._name))
        _log.info("sessions have come", node=node, sessions=len(coming))
        return set(coming), busy

    async def _passed_on(self, old: str, *, is_awaited: bool) -> None:
        """Return when no node holds messages for the old one that it cannot pass on: they need the session there.

        A client that waits gets its session all the same after a while. Raises `RemoteError` otherwise.
        """
        timeout_s = min(AWAITED_S, self._timeout_s) if is_awaited else self._timeout_s
        others = [node for node in self._reachable() if node != old]
        outcomes = await asyncio.gather(
            self._held_no_more(old, timeout_s), *(self._ask_to_pass_on(node, old, timeout_s) for node in others)
        )
        holding = [node for node, is_done in zip([self._name, *others], outcomes, strict=True) if not is_done]
        if not holding:
            return
        reason = f"{', '.join(holding)} cannot reach {old} and has messages for it"
        if not is_awaited:
            raise RemoteError(reason)
        _log.warning("sessions are brought here before all of their messages are there", node=old, reason=reason)

    async def _ask_to_pass_on(self, node: str, old: str, timeout_s: float) -> bool:
        payload = {"to": old, "timeout_ms": int(timeout_s * 1_000)}
        try:
            answer = await self._requests.ask(node, "move held", payload, timeout_s=timeout_s + self._timeout_s)
        except NoAnswerError:
            return True
        return answer.get("passed") is True

    async def _held_no_more(self, old: str, timeout_s: float) -> bool:
        """Whether nothing is held here for a node, or is no more in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await _until(lambda: not self._holds(old), LOOK_AT_HELD_S)
                return True
        return False

    async def _asked_to_pass_on(self, _node: str, payload: dict[str, Any]) -> dict[str, Any]:
        old, timeout_ms = payload.get("to"), payload.get("timeout_ms")
        if not isinstance(old, str) or not isinstance(timeout_ms, int):
            raise RemoteError("a request that cannot be read")
        return {"passed": await self._held_no_more(old, min(timeout_ms / 1_000, self._timeout_s))}

    async def _give_up(self, node: str, coming: Sequence[SubscriberId]) -> None:
        for session in coming:
            try:
                self._engine.finish_move(*session, whole=False)
            except KeyError:
                continue
        try:
            await self._ask(node, "abandon", coming)
        except (NoAnswerError, RemoteError) as error:
            # The old node gives it up as well when it sees that this one cannot be reached.
            _log.info("a node was not told that sessions stay there", node=node, reason=str(error))

    async def _fetch(self, node: str, session: SubscriberId, after: int) -> int:
        """Fetch the messages of a session behind the first so many; how many there are."""
        while True:
            data = b""
            while True:
                payload = {"session": session, "after": after, "offset": len(data)}
                answer = await self._requests.ask(node, "move next", payload, timeout_s=self._timeout_s)
                part = _bytes(answer.get("data"))
                data += part
                if not answer.get("more"):
                    break
                if not part:
                    raise ValueError("an answer without bytes")
            await asyncio.to_thread(self._engine.take_messages, *session, data)
            until = int(answer["until"])
            if answer.get("all"):
                return until
            if until <= after:
                raise ValueError("an answer without messages")
            after = until

    async def fence(self, old: str | None) -> list[tuple[str, int]]:
        """Return when all nodes route to this one what is for its subscribers, and the old node has what they had sent
        to it alone. The nodes, each with a stamp after which that is so. Raises `RemoteError` and `TimeoutError`.
        """
        self._routes.changed()
        async with asyncio.timeout(self._timeout_s):
            stamps = await asyncio.gather(*(self._fence_of(node, old) for node in self._reachable()))
            await self._passed(old)
        return [(self._name, self._engine.stamp()), *(stamp for stamp in stamps if stamp is not None)]

    async def _fence_of(self, node: str, old: str | None) -> tuple[str, int] | None:
        await _until(lambda: self._routes.position(node) is not None or node not in self._reachable())
        payload = {"position": self._routes.position(node), "to": old}
        try:
            answer = await self._requests.ask(node, "fence", payload, timeout_s=self._timeout_s)
            return node, int(answer["stamp"])
        except (NoAnswerError, RemoteError) as error:
            if node in self._reachable():
                raise RemoteError(f"{node} has not heard of the subscriptions: {error}") from None
            return None

    async def _passed(self, old: str | None) -> None:
        """What this node has for the old one has come there."""
        await asyncio.to_thread(self._engine.pass_turns, TURN_MS)
        if old is not None and old != self._name:
            filled = self._engine.lane_filled(old)
            await _until(lambda: self._engine.lane_taken(old, filled))

    async def _ask(self, node: str, step: str, sessions: Sequence[SubscriberId]) -> dict[str, Any]:
        payload = {"sessions": sessions}
        return await self._requests.ask(node, f"move {step}", payload, timeout_s=self._timeout_s)

    async def _asked_to_take(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        if self.is_leaving:
            raise RemoteError(f"{self._name} is about to leave, and takes no sessions")
        return {"failed": list(await self.bring(node, _sessions(payload)))}

    # -- the old node ----------------------------------------------------------------------------------------

    async def give(self, node: str, sessions: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Have a node take sessions of this one. Those that stay. Raises `NoAnswerError` and `RemoteError`."""
        staying: set[tuple[str, str]] = set()
        wanted = [SubscriberId(*session) for session in sessions]
        for begin in range(0, len(wanted), SESSIONS_A_MOVE):
            payload = {"sessions": wanted[begin : begin + SESSIONS_A_MOVE]}
            answer = await self._requests.ask(node, "move take", payload, timeout_s=GIVE_TIMEOUT_S)
            staying.update(_sessions({"sessions": answer.get("failed")}))
        return staying

    async def _asked_to_begin(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        answer: list[str | None] = []
        for session in _sessions(payload):
            if session in self._coming or self._going.get(session, node) != node:
                answer.append("busy")
                continue
            data = self._engine.begin_move(*session)
            if data is not None:
                self._going[session] = node
            answer.append(None if data is None else _text(data))
        return {"sessions": answer, "stamp": self._engine.stamp()}

    async def _asked_for_messages(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        (session,) = self._on_their_way(node, {"sessions": [payload.get("session")]})
        after, offset = payload.get("after"), payload.get("offset")
        if not isinstance(after, int) or not isinstance(offset, int) or after < 0 or offset < 0:
            raise RemoteError("a place in a queue that cannot be read")
        packed = self._packed.get(session)
        if packed is None or packed.after != after or offset == 0:
            found = await asyncio.to_thread(self._engine.pack_messages, *session, after=after, size=PACKED_BYTES)
            if found is None:
                raise RemoteError(f"the session of {session.client_id} has ended")
            packed = self._packed[session] = _Packed(after, *found)
        part = packed.data[offset : offset + PART_BYTES]
        has_more = offset + len(part) < len(packed.data)
        return {"data": _text(part), "more": has_more, "until": packed.until, "all": packed.is_all}

    async def _asked_to_close(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        self._engine.close_moves(self._on_their_way(node, payload))
        await asyncio.to_thread(self._engine.pass_turns, TURN_MS)
        return {}

    async def _asked_to_end(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        gone = self._on_their_way(node, payload)
        self._engine.end_moves(gone)
        self._forget(gone)
        self.gone += len(gone)
        if self.united is not None:
            self.united.update(dict.fromkeys(gone, node))
        _log.info("sessions have gone", node=node, sessions=len(gone))
        return {}

    async def _asked_to_abandon(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        staying = [session for session in _sessions(payload) if self._going.get(session) == node]
        self._engine.abandon_moves(staying)
        self._forget(staying)
        return {}

    async def _asked_for_fence(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        position, old = payload.get("position"), payload.get("to")
        if not isinstance(position, list) or len(position) != 2 or not isinstance(old, str | None):
            raise RemoteError("a fence that cannot be read")
        try:
            async with asyncio.timeout(self._timeout_s):
                await _until(lambda: self._routes.has_heard(node, (position[0], position[1])))
                await self._passed(old)
        except TimeoutError:
            raise RemoteError(f"{self._name} has not heard of all subscriptions in time") from None
        return {"stamp": self._engine.stamp()}

    def _on_their_way(self, node: str, payload: dict[str, Any]) -> list[SubscriberId]:
        """The sessions of a request. Raises `RemoteError` if one is not on its way to the node."""
        sessions = _sessions(payload)
        for session in sessions:
            if self._going.get(session) != node:
                raise RemoteError(f"the session of {session.client_id} is not on its way to {node}")
        return sessions

    def _forget(self, sessions: Iterable[SubscriberId]) -> None:
        for session in sessions:
            self._going.pop(session, None)
            self._packed.pop(session, None)


async def _until(holds: Callable[[], bool], look_s: float = LOOK_S) -> None:
    """Return when it holds. It is looked at again and again, since neither routes nor links tell of it."""
    while not holds():  # noqa: ASYNC110 - see above
        await asyncio.sleep(look_s)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: Any) -> bytes:
    """Raises `ValueError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, binascii.Error) as error:
        raise ValueError(f"an answer that cannot be read: {error}") from None


def _packed_sessions(answer: dict[str, Any], count: int) -> list[str | None]:
    """Raises `ValueError`."""
    packed = answer.get("sessions")
    if not isinstance(packed, list) or len(packed) != count:
        raise ValueError("an answer that cannot be read")
    return packed


def _sessions(payload: dict[str, Any]) -> list[SubscriberId]:
    """Raises `RemoteError`."""
    sessions = []
    given = payload.get("sessions")
    if not isinstance(given, list):
        raise RemoteError("sessions that cannot be read")
    for each in given:
        if not (isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) for part in each)):
            raise RemoteError("a session that cannot be read")
        sessions.append(SubscriberId(*each))
    return sessions
