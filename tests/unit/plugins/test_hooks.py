"""The methods of a plugin that are hooks, and slips that would otherwise show only by silence."""

from collections.abc import Callable
from typing import Any

import pytest

from strogoff.plugins import NEXT, Answer, Plugin, blocking
from strogoff.plugins.contract import command, commands_of
from strogoff.plugins.hooks import HOOKS, hooks_of, is_blocking


class Everywhere(Plugin):
    name = "everywhere"

    def auth_on_register(self, _request: Any) -> Answer:
        return NEXT

    async def auth_on_publish(self, _request: Any) -> Answer:
        return NEXT

    @blocking
    def auth_on_subscribe(self, _request: Any) -> Answer:
        return NEXT

    def on_phase(self, _change: Any) -> None:
        """Nothing."""

    def ordinary(self) -> None:
        """No hook."""

    @command("everywhere count", "Count.", arguments={"limit": "how far"}, required=["limit"])
    async def count(self, arguments: dict[str, str]) -> str:
        return arguments["limit"]


def test_methods_with_the_names_of_hooks_are_hooks() -> None:
    assert list(hooks_of(Everywhere())) == ["auth_on_register", "auth_on_publish", "auth_on_subscribe", "on_phase"]


def test_a_hook_may_be_marked_as_blocking() -> None:
    hooks = hooks_of(Everywhere())
    assert [name for name, method in hooks.items() if is_blocking(method)] == ["auth_on_subscribe"]


def with_method(name: str, method: Callable[..., Any]) -> Plugin:
    return type("Odd", (Plugin,), {"name": "odd", name: method})()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["on_registered", "auth_on_deliver", "on_"])
def test_a_name_that_is_nearly_a_hook_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is not the name of a hook: expected one of auth_on_register"):
        hooks_of(with_method(name, lambda _self, _request: None))


def test_a_hook_takes_one_argument() -> None:
    with pytest.raises(TypeError, match="on_publish has to take one argument"):
        hooks_of(with_method("on_publish", lambda _self, _one, _two: None))


def test_a_hook_cannot_be_async_and_blocking() -> None:
    async def wait(_self: Plugin, _request: object) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="it can be one of the two"):
        hooks_of(with_method("on_publish", blocking(wait)))


def test_commands_know_what_they_take() -> None:
    (declared,) = commands_of(Everywhere())
    assert (declared.path, declared.first_word, set(declared.required)) == ("everywhere count", "everywhere", {"limit"})


def test_the_hooks_are_vernemqs_and_one_more() -> None:
    assert len(HOOKS) == 17
    assert "on_phase" in HOOKS
