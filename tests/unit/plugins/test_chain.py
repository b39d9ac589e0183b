"""The semantics of chains, as a table: what plugins answer one after the other, and what comes of it."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from strogoff.plugins import NEXT, OK, Change, Delivery, PublishRequest, Verdict, deny
from strogoff.plugins.chain import (
    NOBODY_DECIDED,
    Chains,
    Choice,
    Link,
    ask,
    ask_about_deliveries,
    verdict_without_answer,
)

CHANGED = PublishRequest.accept(topic="changed")
REFUSED = deny(0x97)
FAILED = deny(0x83)
ANSWERS: dict[str, object] = {"next": NEXT, "none": None, "ok": OK, "change": CHANGED, "deny": REFUSED, "odd": True}


class Asked:
    """Plugins made from words; who was asked and who failed."""

    def __init__(self, *words: str) -> None:
        self.asked: list[str] = []
        self.failures: list[tuple[str, str]] = []
        self.links = [Link(f"{number}", "auth_on_publish", self._function(word)) for number, word in enumerate(words)]

    def _function(self, word: str) -> Callable[[Any], Any]:
        is_async = word.startswith("async ")
        word = word.removeprefix("async ")

        def answer(_request: Any) -> Any:
            self.asked.append(word)
            if word == "raise":
                raise RuntimeError("a slip of the author")
            return ANSWERS[word]

        async def answer_later(request: Any) -> Any:
            await asyncio.sleep(0)
            return answer(request)

        return answer_later if is_async else answer

    def verdict(self) -> Verdict:
        def failed(link: Link, error: Exception) -> None:
            self.failures.append((link.plugin, type(error).__name__))

        decided = ask(self.links, PublishRequest(), otherwise=NOBODY_DECIDED, on_failure=FAILED, failed=failed)
        if isinstance(decided, Verdict):
            return decided

        async def wait() -> Verdict:
            return await decided

        return asyncio.run(wait())


TABLE: list[tuple[tuple[str, ...], Verdict, int]] = [
    # what the plugins answer, what comes of it, how many are asked
    ((), NOBODY_DECIDED, 0),
    (("next",), NOBODY_DECIDED, 1),
    (("none", "next", "none"), NOBODY_DECIDED, 3),
    (("ok",), OK, 1),
    (("ok", "deny"), OK, 1),
    (("next", "ok", "deny"), OK, 2),
    (("deny", "ok"), REFUSED, 1),
    (("next", "deny", "ok"), REFUSED, 2),
    (("change", "deny"), CHANGED, 1),
    (("next", "change"), CHANGED, 2),
    (("raise", "ok"), FAILED, 1),
    (("next", "raise", "ok"), FAILED, 2),
    (("odd", "ok"), FAILED, 1),
    (("next", "odd"), FAILED, 2),
]
ASYNC = [(tuple(f"async {word}" for word in words), verdict, count) for words, verdict, count in TABLE if words]
MIXED = [
    (("next", "async next", "change"), CHANGED, 3),
    (("async next", "next", "async deny", "ok"), REFUSED, 3),
    (("async next", "raise", "ok"), FAILED, 2),
    (("async odd", "ok"), FAILED, 1),
]


@pytest.mark.parametrize(("words", "verdict", "count"), [*TABLE, *ASYNC, *MIXED])
def test_what_plugins_answer_comes_to_one_verdict(words: tuple[str, ...], verdict: Verdict, count: int) -> None:
    asked = Asked(*words)
    assert asked.verdict() is verdict
    assert len(asked.asked) == count
    assert bool(asked.failures) == (verdict is FAILED)


def test_plain_functions_decide_without_a_task() -> None:
    assert isinstance(Asked("next", "ok").verdict(), Verdict)
    decided = ask(Asked("async ok").links, None, otherwise=OK, on_failure=OK, failed=lambda *_: None)
    assert inspect.iscoroutine(decided)
    assert asyncio.run(decided) is OK


@pytest.mark.parametrize(
    ("hook", "is_allowed"),
    [("auth_on_register", False), ("auth_on_publish", False), ("on_auth", False), ("on_unsubscribe", True)],
)
def test_nobody_who_decides_means_no_but_for_hooks_that_only_change(hook: str, is_allowed: bool) -> None:
    assert verdict_without_answer(hook).is_allowed is is_allowed


def test_each_delivery_is_changed_by_the_first_who_wants_to() -> None:
    def shout(delivery: Delivery) -> Change | None:
        return delivery.change(payload=b"LOUD") if delivery.topic == "loud" else None

    async def rename(delivery: Delivery) -> Change:
        return delivery.change(topic="renamed")

    def fail(_delivery: Delivery) -> Change:
        raise ValueError

    failures: list[str] = []
    deliveries = [Delivery("c", "loud"), Delivery("c", "quiet")]
    plain = ask_about_deliveries([Link("a", "on_deliver", shout)], deliveries, lambda *_: None)
    assert plain == [Change(payload=b"LOUD"), None]
    links = [Link("a", "on_deliver", shout), Link("b", "on_deliver", rename, waits=True)]
    waiting = ask_about_deliveries(links, deliveries, lambda *_: None)
    assert inspect.iscoroutine(waiting)
    assert asyncio.run(waiting) == [Change(payload=b"LOUD"), Change(topic="renamed")]
    broken = [Link("a", "on_deliver", fail), Link("b", "on_deliver", shout)]
    assert ask_about_deliveries(broken, deliveries, lambda link, _: failures.append(link.plugin)) == [None, None]
    assert failures == ["a", "a"]


def chains(**hooks: str) -> Chains:
    made = Chains()
    for plugin, served in hooks.items():
        made.add(plugin, [Link(plugin, hook, lambda _: None) for hook in served.split()])
    return made


def test_plugins_are_asked_in_the_order_in_which_they_were_enabled() -> None:
    made = chains(b="auth_on_publish", a="auth_on_publish on_phase")
    assert [link.plugin for link in made.links("auth_on_publish")] == ["b", "a"]
    made.remove("b")
    assert [link.plugin for link in made.links("auth_on_publish")] == ["a"]
    assert made.hooks() == ["auth_on_publish", "on_phase"]


def test_a_listener_chooses_who_decides_about_its_clients() -> None:
    made = chains(
        a="auth_on_register auth_on_publish on_register", b="auth_on_register auth_on_publish", c="on_register"
    )
    made.choose({"tcp.x": Choice(authentication=("b",), authorisation=("b", "a"))})
    assert [link.plugin for link in made.links("auth_on_register", "tcp.x")] == ["b"]
    assert [link.plugin for link in made.links("auth_on_publish", "tcp.x")] == ["b", "a"]
    assert [link.plugin for link in made.links("on_register", "tcp.x")] == ["a", "c"]
    assert [link.plugin for link in made.links("auth_on_register", "tcp.y")] == ["a", "b"]
