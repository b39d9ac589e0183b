"""Chains: which plugins are asked for a hook, in which order, and what their answers come to.

Asking is synchronous as long as the plugins are: a request that plain functions decide costs no task. The first
awaitable answer turns the rest of that one chain into a coroutine, which the caller runs; nobody else waits for it.
"""

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from strogoff._engine import Verdict
from strogoff.plugins.hooks import HOOKS, HookKind, is_blocking
from strogoff.plugins.requests import Change, Delivery
from strogoff.plugins.verdict import NEXT, OK, ReasonCode, deny

__all__ = ["NOBODY_DECIDED", "Chains", "Decided", "Link", "ask", "ask_about_deliveries"]

NOBODY_DECIDED: Final[Verdict] = deny(ReasonCode.NOT_AUTHORIZED)

Failed: TypeAlias = "Callable[[Link, Exception], None]"
Decided: TypeAlias = Verdict | Coroutine[Any, Any, Verdict]
RunBlocking: TypeAlias = Callable[[Callable[..., Any], Any], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Link:
    """One plugin's function for one hook. `waits`: calling it does not give the answer but something to await."""

    plugin: str
    hook: str
    function: Callable[[Any], Any]
    waits: bool = False

    @classmethod
    def of(cls, plugin: str, hook: str, method: Callable[[Any], Any], run_blocking: RunBlocking) -> "Link":
        """A link to a method; one that blocks is run by `run_blocking`."""
        if is_blocking(method):

            def on_thread(request: Any) -> Awaitable[Any]:
                return run_blocking(method, request)

            return cls(plugin, hook, on_thread, waits=True)
        return cls(plugin, hook, method, inspect.iscoroutinefunction(method))


class NoVerdictError(TypeError):
    """A hook returned something that is no answer."""

    def __init__(self, answer: object) -> None:
        super().__init__(f"expected a verdict, NEXT or None, not {answer!r:.200}")


def ask(links: Sequence[Link], request: Any, *, otherwise: Verdict, on_failure: Verdict, failed: Failed) -> Decided:
    """Ask the plugins in order. `otherwise`: the verdict when nobody decides, `on_failure`: when one fails."""
    for position, link in enumerate(links):
        try:
            answer = link.function(request)
            if answer is None or answer is NEXT:
                continue
            if type(answer) is Verdict:
                return answer
            if inspect.isawaitable(answer):
                return _ask_on(links, position, answer, request, otherwise, on_failure, failed)
            raise NoVerdictError(answer)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises refuses, and is told
            failed(link, error)
            return on_failure
    return otherwise


async def _ask_on(
    links: Sequence[Link],
    position: int,
    waiting: Awaitable[Any],
    request: Any,
    otherwise: Verdict,
    on_failure: Verdict,
    failed: Failed,
) -> Verdict:
    link = links[position]
    try:
        answer = await waiting
        if type(answer) is Verdict:
            return answer
        if answer is not None and answer is not NEXT:
            raise NoVerdictError(answer)
    except Exception as error:  # noqa: BLE001 - as above
        failed(link, error)
        return on_failure
    rest = ask(links[position + 1 :], request, otherwise=otherwise, on_failure=on_failure, failed=failed)
    return rest if isinstance(rest, Verdict) else await rest


def ask_about_deliveries(
    links: Sequence[Link], deliveries: Sequence[Delivery], failed: Failed
) -> list[Change | None] | Coroutine[Any, Any, list[Change | None]]:
    """Ask the plugins about each message; the first that gives a change decides about that message.

    A failure leaves the message as it is. A coroutine as soon as one plugin waits.
    """
    if any(link.waits for link in links):
        return _ask_about_each(links, deliveries, failed)
    changes: list[Change | None] = []
    for delivery in deliveries:
        change: Change | None = None
        for link in links:
            try:
                answer = link.function(delivery)
                if answer is not None and answer is not NEXT:
                    change = _change(answer)
                    break
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises leaves the message alone, and is told
                failed(link, error)
                break
        changes.append(change)
    return changes


async def _ask_about_each(links: Sequence[Link], deliveries: Sequence[Delivery], failed: Failed) -> list[Change | None]:
    changes: list[Change | None] = []
    for delivery in deliveries:
        change: Change | None = None
        for link in links:
            try:
                answer = link.function(delivery)
                if inspect.isawaitable(answer):
                    answer = await answer
                if answer is not None and answer is not NEXT:
                    change = _change(answer)
                    break
            except Exception as error:  # noqa: BLE001 - as above
                failed(link, error)
                break
        changes.append(change)
    return changes


def _change(answer: object) -> Change | None:
    if isinstance(answer, Change):
        return answer
    if answer is OK:
        return None
    raise TypeError(f"expected delivery.change(...), OK, NEXT or None, not {answer!r:.200}")


@dataclass(frozen=True, slots=True)
class Choice:
    """The plugins that a listener names: None leaves the node's chain."""

    authentication: tuple[str, ...] | None = None
    authorisation: tuple[str, ...] | None = None

    def of(self, hook: str) -> tuple[str, ...] | None:
        """The names that hold for a hook; hooks other than `auth_*` are everybody's."""
        if hook == "auth_on_register":
            return self.authentication
        return self.authorisation if hook in {"auth_on_publish", "auth_on_subscribe"} else None


EVERYBODY: Final = Choice()


@dataclass(slots=True)
class Chains:
    """All chains in force. Looked up per request, so each chain is put together once."""

    choices: Mapping[str, Choice] = field(default_factory=dict)
    _links: dict[str, dict[str, Link]] = field(default_factory=dict)
    """Plugin -> hook -> link, in the order of activation."""
    _chains: dict[tuple[str, str], tuple[Link, ...]] = field(default_factory=dict)

    def add(self, plugin: str, links: Iterable[Link]) -> None:
        """Put a plugin at the end of all its chains."""
        self._links[plugin] = {link.hook: link for link in links}
        self._chains.clear()

    def remove(self, plugin: str) -> None:
        """Take a plugin out of all chains."""
        self._links.pop(plugin, None)
        self._chains.clear()

    def choose(self, choices: Mapping[str, Choice]) -> None:
        """Take over what the listeners choose."""
        self.choices = dict(choices)
        self._chains.clear()

    def order(self, plugins: Sequence[str]) -> None:
        """Bring the plugins into this order; those not named stay behind, in the order they had."""
        rank = {name: position for position, name in enumerate(plugins)}
        self._links = dict(sorted(self._links.items(), key=lambda item: rank.get(item[0], len(rank))))
        self._chains.clear()

    def links(self, hook: str, listener: str = "") -> tuple[Link, ...]:
        """The plugins that are asked for a hook by clients of a listener."""
        key = (hook, listener)
        chain = self._chains.get(key)
        if chain is None:
            chain = self._chains[key] = self._chain(hook, self.choices.get(listener, EVERYBODY).of(hook))
        return chain

    def hooks(self) -> list[str]:
        """The hooks that some plugin serves."""
        return [hook for hook in HOOKS if any(hook in links for links in self._links.values())]

    def _chain(self, hook: str, chosen: tuple[str, ...] | None) -> tuple[Link, ...]:
        names = self._links if chosen is None else [name for name in chosen if name in self._links]
        return tuple(self._links[name][hook] for name in names if hook in self._links[name])


def verdict_without_answer(hook: str) -> Verdict:
    """What holds when nobody decides, or the one who was asked fails."""
    return NOBODY_DECIDED if HOOKS[hook].kind is HookKind.DECIDE else OK
