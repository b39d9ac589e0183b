"""A node that leaves its cluster: its clients go, its sessions go to the other nodes, then it is taken out and stops.

It may be begun anew wherever it has stopped: what has gone has gone, and what is left goes with the next try.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from strogoff.cluster.joining import ClusterError
from strogoff.cluster.node import ClusterNode
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.observe.logging import get_logger

__all__ = ["Leaving"]

SUMMARY_INTERVAL_S: Final = 5.0
TIMEOUT_S: Final = 60.0
ANSWER_S: Final = 3_600.0
"""Handing over millions of sessions takes its time; a node that goes out of reach ends the wait at once."""
LOOK_S: Final = 0.05
FLUSH_S: Final = 0.5
"""The answer to the node that asked goes out before this one stops."""

Tell = Callable[[str], None]

_log = get_logger("cluster.leaving")


class Listeners(Protocol):
    """What is needed of the MQTT listeners."""

    def stop_all(self, *, kill_sessions: bool) -> None:
        """Accept nobody any more; with `kill_sessions` also end the connections."""


class EngineSessionCount(Protocol):
    """What is needed of the engine."""

    def session_count(self) -> tuple[int, int]:
        """Sessions online and offline."""


class Leaving:
    """How this node leaves, and how it has another one leave. `has_left`: told when it has, with all that it had given
    away; `stop`: ends this node.
    """

    def __init__(
        self,
        engine: EngineSessionCount,
        cluster: ClusterNode,
        listeners: Listeners,
        *,
        node_name: str,
        has_left: Callable[[], None],
        stop: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._listeners = listeners
        self._node_name = node_name
        self._has_left = has_left
        self._stop = stop
        self._is_leaving = asyncio.Lock()

    def serve(self) -> None:
        """Let other nodes ask this one to leave."""
        self._cluster.requests.serve("leave", self._asked)

    async def leave(
        self,
        node: str,
        *,
        kills_sessions: bool,
        tell: Tell,
        interval_s: float = SUMMARY_INTERVAL_S,
        timeout_s: float = TIMEOUT_S,
    ) -> str:
        """Have a node leave that can be reached; what to tell the operator. Raises `ClusterError`."""
        if node == self._node_name:
            return await self._leave(
                kills_sessions=kills_sessions, tell=tell, interval_s=interval_s, timeout_s=timeout_s
            )
        payload = {"kill_sessions": kills_sessions, "interval": interval_s, "timeout": timeout_s}
        tell(f"{node} leaves; its log tells how far it is")
        try:
            answer = await self._cluster.requests.ask(node, "leave", payload, timeout_s=ANSWER_S)
        except RemoteError as error:
            raise ClusterError(str(error)) from None
        except NoAnswerError as error:
            # The link may end before the answer is here, as it is no member any more.
            if not kills_sessions or not await self._cluster.removal.has_gone(node):
                raise ClusterError(str(error)) from None
            return "Done"
        return str(answer.get("done", "Done"))

    async def _asked(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        _log.notice("asked to leave", by=node)
        try:
            interval_s, timeout_s = float(payload["interval"]), float(payload["timeout"])
            done = await self._leave(
                kills_sessions=bool(payload["kill_sessions"]),
                tell=lambda _: None,
                interval_s=interval_s,
                timeout_s=timeout_s,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"a request that cannot be read: {error!r}") from None
        except ClusterError as error:
            raise RemoteError(str(error)) from None
        return {"done": done}

    async def _leave(self, *, kills_sessions: bool, tell: Tell, interval_s: float, timeout_s: float) -> str:
        if self._is_leaving.locked():
            raise ClusterError(f"{self._node_name} is leaving already: its log tells how far it is")
        async with self._is_leaving:
            if not self._cluster.reachable():
                raise ClusterError(f"{self._node_name} reaches no other node that could take its sessions")
            self._listeners.stop_all(kill_sessions=kills_sessions)
            _log.notice("leaving: nobody is let in any more", ends_connections=kills_sessions)
            if not kills_sessions:
                return (
                    f"Done! {self._node_name} lets nobody in any more, and its clients stay. Use -k to end their "
                    "connections, hand their sessions over and take it out"
                )
            await self._clients_gone(timeout_s)
            await self._hand_over(tell, interval_s)
            await self._cluster.removal.leave()
            self._has_left()
        tell(f"{self._node_name} has left and stops")
        asyncio.get_running_loop().call_later(FLUSH_S, self._stop, "it has left its cluster")
        return "Done"

    async def _clients_gone(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (online := self._engine.session_count()[0]) > 0:
            if time.monotonic() > deadline:
                raise ClusterError(f"{online} clients of {self._node_name} are connected still: try again")
            await asyncio.sleep(LOOK_S)

    async def _hand_over(self, tell: Tell, interval_s: float) -> None:
        told_at = 0.0

        def told(gone: int, total: int) -> None:
            nonlocal told_at
            if gone == total or time.monotonic() >= told_at + interval_s:
                told_at = time.monotonic()
                tell(f"Migrated {gone}/{total} sessions")
                _log.notice("sessions are handed over", gone=gone, of=total)

        staying = await self._cluster.sessions.hand_over(told)
        if staying:
            raise ClusterError(
                f"{staying} sessions of {self._node_name} could not be handed over, which its log explains: try again"
            )
