"""From the engine's events to the plugins and back: verdicts in batches, deadlines, notifications.

Runs on the event loop. A batch of events is handled in one go; verdicts of plain functions go back to the engine in one
call. What has to be awaited becomes a task of its own under the deadline `plugins.hook_timeout`, after which the
engine has refused by itself.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, TypeAlias

from strogoff._engine import (
    AuthRequest,
    DeliverRequest,
    Engine,
    MessageEvent,
    PublishRequest,
    RegisterRequest,
    SessionEvent,
    SubscribeRequest,
    SubscriptionEvent,
    UnsubscribeRequest,
    Verdict,
)
from strogoff.observe.counters import Counters
from strogoff.observe.logging import get_logger
from strogoff.plugins.chain import Chains, Link, ask, ask_about_deliveries, verdict_without_answer
from strogoff.plugins.requests import Change, Delivery
from strogoff.plugins.verdict import OK

__all__ = ["Dispatcher", "PluginEvent", "Request"]

Request: TypeAlias = (
    RegisterRequest | PublishRequest | SubscribeRequest | UnsubscribeRequest | AuthRequest | DeliverRequest
)
PluginEvent: TypeAlias = Request | SessionEvent | SubscriptionEvent | MessageEvent

SLOW_CALL_S: Final = 0.1
"""A function that holds up the event loop for so long is told in the log: meanwhile nobody else is answered."""

_HOOK_OF: Final[dict[type, str]] = {
    RegisterRequest: "auth_on_register",
    PublishRequest: "auth_on_publish",
    SubscribeRequest: "auth_on_subscribe",
    UnsubscribeRequest: "on_unsubscribe",
    AuthRequest: "on_auth",
}

_log = get_logger("plugins")

StartTask: TypeAlias = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
Post: TypeAlias = Callable[[Link, Any], None]


class Dispatcher:
    """Asks the chains. `start_task` runs what waits; `post` puts a notification into the mailbox of a plugin."""

    def __init__(
        self,
        engine: Engine,
        chains: Chains,
        counters: Counters,
        *,
        hook_timeout_s: Callable[[], float],
        start_task: StartTask,
        post: Post,
    ) -> None:
        self._engine = engine
        self._chains = chains
        self._counters = counters
        self._hook_timeout_s = hook_timeout_s
        self._start_task = start_task
        self._post = post

    def handle(self, events: Iterable[PluginEvent]) -> None:
        """Handle a batch of events, in order."""
        verdicts: list[tuple[int, Verdict]] = []
        begin = time.perf_counter()
        for event in events:
            if isinstance(event, DeliverRequest):
                self._deliver(event, verdicts)
            elif isinstance(event, SessionEvent | SubscriptionEvent | MessageEvent):
                self.notify(event.kind, event)
            else:
                self._decide(_HOOK_OF[type(event)], event, verdicts)
            end = time.perf_counter()
            if end - begin > SLOW_CALL_S:
                self._tell_slow(event, end - begin)
            begin = end
        if verdicts:
            self._engine.resolve_all(verdicts)

    def notify(self, hook: str, event: object) -> None:
        """Tell everybody who listens. One that fails harms nobody."""
        for link in self._chains.links(hook):
            if link.waits:
                self._post(link, event)
                continue
            try:
                link.function(event)
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises is told, and the others are told the event
                self.failed(link, error)

    async def decide(self, hook: str, request: Request) -> Verdict:
        """The verdict on a request that does not come from the engine, under the same deadline."""
        verdicts: list[tuple[int, Verdict]] = []
        links = self._chains.links(hook, request.listener)
        otherwise = verdict_without_answer(hook)
        answer = ask(links, request, otherwise=otherwise, on_failure=otherwise, failed=self.failed)
        if isinstance(answer, Verdict):
            return answer
        await self._decide_in_time(hook, request, answer, otherwise, verdicts.append)
        return verdicts[0][1]

    def failed(self, link: Link, error: Exception) -> None:
        """Note that a hook has raised."""
        self._counters.add("plugin_hook_errors", plugin=link.plugin, hook=link.hook)
        _log.exception("a hook failed", plugin=link.plugin, hook=link.hook, error=repr(error))

    def _decide(self, hook: str, request: Any, verdicts: list[tuple[int, Verdict]]) -> None:
        links = self._chains.links(hook, request.listener)
        otherwise = verdict_without_answer(hook)
        answer = ask(links, request, otherwise=otherwise, on_failure=otherwise, failed=self.failed)
        if isinstance(answer, Verdict):
            verdicts.append((request.ticket, answer))
            return
        work = self._decide_in_time(hook, request, answer, otherwise, self._resolve)
        self._start_task(work, f"{hook} of {request.client_id}")

    def _resolve(self, resolved: tuple[int, Verdict]) -> None:
        self._engine.resolve(*resolved)

    async def _decide_in_time(
        self,
        hook: str,
        request: Any,
        answer: Coroutine[Any, Any, Verdict],
        otherwise: Verdict,
        resolve: Callable[[tuple[int, Verdict]], object],
    ) -> None:
        verdict = otherwise
        try:
            async with asyncio.timeout(self._hook_timeout_s()):
                verdict = await answer
        except TimeoutError:
            self._timed_out(hook, request.client_id)
        resolve((request.ticket, verdict))

    def _deliver(self, request: DeliverRequest, verdicts: list[tuple[int, Verdict]]) -> None:
        links = self._chains.links("on_deliver")
        deliveries = [
            Delivery(
                request.client_id,
                message.topic,
                message.payload,
                message.qos,
                message.retain,
                request.mountpoint,
                request.username,
                request.listener,
                message.properties,
            )
            for message in request.messages
        ]
        changes = ask_about_deliveries(links, deliveries, self.failed)
        if isinstance(changes, list):
            verdicts.append((request.ticket, _verdict_on_deliveries(request, changes)))
        else:
            self._start_task(self._deliver_in_time(request, changes), f"on_deliver of {request.client_id}")

    async def _deliver_in_time(
        self, request: DeliverRequest, waiting: Coroutine[Any, Any, list[Change | None]]
    ) -> None:
        verdict = OK
        try:
            async with asyncio.timeout(self._hook_timeout_s()):
                verdict = _verdict_on_deliveries(request, await waiting)
        except TimeoutError:
            self._timed_out("on_deliver", request.client_id)
        self._engine.resolve(request.ticket, verdict)

    def _timed_out(self, hook: str, client_id: str) -> None:
        plugins = ",".join(link.plugin for link in self._chains.links(hook) if link.waits)
        self._counters.add("plugin_hook_timeouts", plugin=plugins, hook=hook)
        _log.warning("a hook took longer than plugins.hook_timeout", hook=hook, plugins=plugins, client_id=client_id)

    def _tell_slow(self, event: Any, seconds: float) -> None:
        hook = _HOOK_OF.get(type(event)) or str(getattr(event, "kind", "on_deliver"))
        plugins = ",".join(link.plugin for link in self._chains.links(hook) if not link.waits)
        self._counters.add("plugin_hook_slow_calls", plugin=plugins, hook=hook)
        _log.warning(
            "a hook held up all others: let it be async, or mark it with @blocking",
            hook=hook,
            plugins=plugins,
            ms=round(seconds * 1_000),
        )


def _verdict_on_deliveries(request: DeliverRequest, changes: list[Change | None]) -> Verdict:
    if not any(changes):
        return OK
    return request.accept(
        [None if change is None else (change.topic, change.payload, change.properties) for change in changes]
    )
