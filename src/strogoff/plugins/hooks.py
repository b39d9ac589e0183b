"""The hooks by VerneMQ's names: what kind each is, and which methods of a plugin serve them."""

import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = ["HOOKS", "Hook", "HookKind", "blocking", "hooks_of", "is_blocking"]

_BLOCKING = "_strogoff_blocking"

Function = TypeVar("Function", bound=Callable[..., Any])


class HookKind(enum.Enum):
    """What the answer of a hook means."""

    DECIDE = "decide"
    """The first that says something decides; when nobody does, the client is refused."""
    CHANGE = "change"
    """The first that says something may change the request; a refusal, an error or silence leave it as it is."""
    NOTIFY = "notify"
    """Everybody is told; nothing is answered."""


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook. `is_authorisation`: chosen by a listener's `authz_plugins`; of the rest, `auth_plugins` chooses."""

    name: str
    kind: HookKind
    when: str


HOOKS: Final[dict[str, Hook]] = {
    hook.name: hook
    for hook in (
        Hook("auth_on_register", HookKind.DECIDE, "a client connects"),
        Hook("auth_on_publish", HookKind.DECIDE, "a client publishes; also its will, when it connects"),
        Hook("auth_on_subscribe", HookKind.DECIDE, "a client subscribes"),
        Hook("on_auth", HookKind.DECIDE, "a client authenticates with a method of its own (MQTT 5)"),
        Hook("on_unsubscribe", HookKind.CHANGE, "a client unsubscribes"),
        Hook("on_deliver", HookKind.CHANGE, "a message is about to be sent to a client"),
        Hook("on_register", HookKind.NOTIFY, "a client was accepted"),
        Hook("on_publish", HookKind.NOTIFY, "a publish was accepted; also a will"),
        Hook("on_subscribe", HookKind.NOTIFY, "subscriptions were made, with the granted QoS"),
        Hook("on_topic_unsubscribed", HookKind.NOTIFY, "subscriptions were removed"),
        Hook("on_offline_message", HookKind.NOTIFY, "a message was stored for a client that is away"),
        Hook("on_client_wakeup", HookKind.NOTIFY, "a client got its session"),
        Hook("on_client_offline", HookKind.NOTIFY, "a client that will be waited for has gone"),
        Hook("on_client_gone", HookKind.NOTIFY, "a client has gone, and its session with it"),
        Hook("on_session_expired", HookKind.NOTIFY, "a session was kept long enough and is removed"),
        Hook("on_message_drop", HookKind.NOTIFY, "a message was dropped"),
        Hook("on_phase", HookKind.NOTIFY, "the node has entered another phase"),
    )
}
"""All hooks; those that decide come first."""


def blocking(function: Function) -> Function:
    """Mark a hook that waits (for a file, a database, another host) without `async`: it runs on a thread."""
    setattr(function, _BLOCKING, True)
    return function


def is_blocking(function: Callable[..., Any]) -> bool:
    """Whether a hook was marked with `blocking`."""
    return bool(getattr(function, _BLOCKING, False))


def hooks_of(plugin: object) -> dict[str, Callable[..., Any]]:
    """The hooks that a plugin serves, as bound methods by their names. Raises `TypeError` for a method that fits none.

    A public method that begins like a hook and is none is a slip that would otherwise show itself only by silence.
    """
    found: dict[str, Callable[..., Any]] = {}
    for name, method in inspect.getmembers(plugin, callable):
        if name in HOOKS:
            _check_signature(name, method)
            found[name] = method
        elif name.startswith(("auth_on_", "on_")):
            raise TypeError(f"{name} is not the name of a hook: expected one of {', '.join(HOOKS)}")
    return {name: found[name] for name in HOOKS if name in found}


def _check_signature(name: str, method: Callable[..., Any]) -> None:
    try:
        inspect.signature(method).bind(None)
    except TypeError:
        raise TypeError(f"{name} has to take one argument, the request") from None
    if inspect.iscoroutinefunction(method) and is_blocking(method):
        raise TypeError(f"{name} is marked as blocking and is async: it can be one of the two")
