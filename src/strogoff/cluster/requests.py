"""Requests to other nodes over the control lane: each ends with an answer, an error of the other node, or none in time.

The link delivers a message at most once and in order, and drops what was under way when it breaks. So a request whose
answer does not come may have been carried out or not; whoever asks has to know that.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from strogoff.observe.logging import get_logger

__all__ = ["Handler", "NoAnswerError", "RemoteError", "Requests"]

_VERSION: Final = 1
ANSWERS_MAX: Final = 1_000
"""Requests of others that are worked on at a time."""

Payload: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[[str, Payload], Awaitable[Payload]]
"""Answers a request of a node: its name and what it asks. Raises `RemoteError` to say no."""

_log = get_logger("cluster.requests")


class RemoteError(Exception):
    """The other node says no; the message is its reason."""


class NoAnswerError(Exception):
    """The other node cannot be reached, or did not answer in time: it may have done it or not."""


class Requests:
    """Both sides of requests. `send`: hands a message to the link to a node; False when it is down or full."""

    def __init__(self, send: Callable[[str, bytes], bool], tasks: asyncio.TaskGroup) -> None:
        self._send = send
        self._tasks = tasks
        self._handlers: dict[str, Handler] = {}
        self._waiting: dict[tuple[str, int], asyncio.Future[Payload]] = {}
        self._next_id = 1
        self._answering = 0

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of a kind with a function from now on."""
        self._handlers[kind] = handler

    async def ask(self, node: str, kind: str, payload: Payload, *, timeout_s: float) -> Payload:
        """Ask a node. Raises `RemoteError` and `NoAnswerError`."""
        request_id = self._next_id
        self._next_id += 1
        answer: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        self._waiting[node, request_id] = answer
        try:
            if not self._send(node, _encode("request", request_id, kind, payload)):
                raise NoAnswerError(f"{node} is not reachable")
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise NoAnswerError(f"{node} did not answer within {timeout_s:g} s") from None
        finally:
            del self._waiting[node, request_id]

    def receive(self, node: str, data: bytes) -> None:
        """A message has come over the control lane."""
        try:
            message = json.loads(data)
            version, what, request_id = message["version"], message["what"], message["id"]
            kind, payload = message["kind"], message["payload"]
            if version != _VERSION or not isinstance(request_id, int) or not isinstance(payload, dict):
                raise ValueError(f"version {version}")
        except (KeyError, TypeError, ValueError) as error:
            _log.error("a message of a peer was dropped", peer=node, reason=f"it cannot be read: {error!r}")
            return
        if what == "request":
            self._begin(node, request_id, str(kind), payload)
            return
        answer = self._waiting.get((node, request_id))
        if answer is None or answer.done():
            return
        if what == "answer":
            answer.set_result(payload)
        else:
            answer.set_exception(RemoteError(str(payload.get("reason", "no reason was given"))))

    def lost(self, node: str) -> None:
        """The link to a node is down: no answer will come."""
        for (asked, _), answer in self._waiting.items():
            if asked == node and not answer.done():
                answer.set_exception(NoAnswerError(f"the link to {node} went down"))

    def _begin(self, node: str, request_id: int, kind: str, payload: Payload) -> None:
        if self._answering >= ANSWERS_MAX:
            self._say_no(node, request_id, kind, f"{ANSWERS_MAX} requests are being answered already")
            return
        self._answering += 1
        self._tasks.create_task(self._answer(node, request_id, kind, payload), name=f"answer {kind} of {node}")

    async def _answer(self, node: str, request_id: int, kind: str, payload: Payload) -> None:
        try:
            handler = self._handlers.get(kind)
            if handler is None:
                self._say_no(node, request_id, kind, f"this node knows no requests '{kind}'")
                return
            answer = await handler(node, payload)
        except RemoteError as error:
            self._say_no(node, request_id, kind, str(error))
        except Exception as error:  # noqa: BLE001 - a defect in one answer must not end the node, and is told in full
            _log.exception("a request of a peer failed", peer=node, kind=kind, error=repr(error))
            self._say_no(node, request_id, kind, f"an internal error: {error!r}")
        else:
            self._send(node, _encode("answer", request_id, kind, answer))
        finally:
            self._answering -= 1

    def _say_no(self, node: str, request_id: int, kind: str, reason: str) -> None:
        self._send(node, _encode("error", request_id, kind, {"reason": reason}))


def _encode(what: str, request_id: int, kind: str, payload: Payload) -> bytes:
    message = {"version": _VERSION, "what": what, "id": request_id, "kind": kind, "payload": payload}
    return json.dumps(message, separators=(",", ":")).encode()
