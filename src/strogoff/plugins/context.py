"""How a plugin reaches the broker: publish, subscribe, sessions, tasks of its own, its log."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from strogoff._engine import AccessList, Message, MessageEvent, PasswordTable, SessionInfo, SubscriptionInfo
from strogoff.observe.logging import Logger, get_logger

__all__ = ["DetachedError", "Node", "PluginContext", "Receive"]

Receive: TypeAlias = Callable[[MessageEvent], Awaitable[None] | None]


class DetachedError(RuntimeError):
    """A plugin that is not on has asked for the broker."""


class Node(Protocol):
    """What the broker does for a plugin. Implemented by the plugin manager; a test may bring its own."""

    @property
    def name(self) -> str:
        """The node's name."""

    def publish(self, messages: list[Message]) -> list[int]:
        """Publish; how many subscriptions matched each."""

    def subscribe(self, plugin: str, topic_filter: str, receive: Receive, qos: int, mountpoint: str) -> None:
        """Subscribe for a plugin."""

    def unsubscribe(self, plugin: str, topic_filter: str, mountpoint: str) -> bool:
        """End a subscription of a plugin."""

    def session(self, client_id: str, mountpoint: str) -> SessionInfo | None:
        """What is known of a client."""

    def subscriptions(self, client_id: str, mountpoint: str) -> list[SubscriptionInfo]:
        """The subscriptions of a client."""

    def disconnect(self, client_id: str, mountpoint: str, reason_code: int) -> bool:
        """Close a connection."""

    async def reauthorize(self, client_id: str, mountpoint: str) -> list[str]:
        """Ask about the subscriptions again; those that were lost."""

    def create_task(self, plugin: str, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something for a plugin."""

    def set_access_list(self, plugin: str, access_list: AccessList) -> None:
        """Take over a plugin's rules."""

    def set_passwords(self, plugin: str, passwords: PasswordTable) -> None:
        """Take over a plugin's passwords."""

    async def start_bridges(self) -> None:
        """Run the node's bridges."""

    async def stop_bridges(self) -> None:
        """End them."""


class PluginContext:
    """A plugin's way to the broker. Whatever is begun through it ends when the plugin is disabled."""

    __slots__ = ("_node", "_plugin", "log")

    def __init__(self, plugin: str, node: Node | None = None) -> None:
        self._plugin = plugin
        self._node = node
        self.log: Logger = get_logger(f"plugin.{plugin}")

    @property
    def node_name(self) -> str:
        """The node's name, `name@host`."""
        return self._reachable.name

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        mountpoint: str = "",
        message_expiry: int | None = None,
    ) -> int:
        """Publish a message; hooks are not asked. How many subscriptions matched. `message_expiry`: seconds.

        Raises `ValueError` for a topic that is none.
        """
        message = Message(topic, payload, qos, retain=retain, mountpoint=mountpoint, message_expiry=message_expiry)
        return self._reachable.publish([message])[0]

    def subscribe(self, topic_filter: str, receive: Receive, *, qos: int = 0, mountpoint: str = "") -> None:
        """Have `receive`, sync or async, called with each message that matches.

        The subscription is the node's own business: it is in no client's session and no other node knows of it.
        """
        self._reachable.subscribe(self._plugin, topic_filter, receive, qos, mountpoint)

    def unsubscribe(self, topic_filter: str, *, mountpoint: str = "") -> bool:
        """End a subscription. False: there was none."""
        return self._reachable.unsubscribe(self._plugin, topic_filter, mountpoint)

    def session(self, client_id: str, *, mountpoint: str = "") -> SessionInfo | None:
        """What the node knows of a client, None for nothing."""
        return self._reachable.session(client_id, mountpoint)

    def subscriptions(self, client_id: str, *, mountpoint: str = "") -> list[SubscriptionInfo]:
        """The subscriptions of a client."""
        return self._reachable.subscriptions(client_id, mountpoint)

    def disconnect(self, client_id: str, *, mountpoint: str = "", reason_code: int = 0x98) -> bool:
        """Close a client's connection. False: there is no such session."""
        return self._reachable.disconnect(client_id, mountpoint, reason_code)

    async def reauthorize(self, client_id: str, *, mountpoint: str = "") -> list[str]:
        """Ask the plugins again about a client's subscriptions; the filters that it has lost thereby."""
        return await self._reachable.reauthorize(client_id, mountpoint)

    def create_task(self, work: Coroutine[Any, Any, None], *, name: str = "task") -> asyncio.Task[None]:
        """Run something beside the hooks until it ends or the plugin is disabled. What it raises is logged."""
        return self._reachable.create_task(self._plugin, work, name)

    def set_access_list(self, access_list: AccessList) -> None:
        """Give the engine the rules for publish and subscribe (for a plugin with `engine_policy`)."""
        self._reachable.set_access_list(self._plugin, access_list)

    def set_passwords(self, passwords: PasswordTable) -> None:
        """Give the engine the passwords (for a plugin with `engine_policy`)."""
        self._reachable.set_passwords(self._plugin, passwords)

    async def start_bridges(self) -> None:
        """Run the bridges that the configuration describes. Raises `ValueError` for what is wrong with it."""
        await self._reachable.start_bridges()

    async def stop_bridges(self) -> None:
        """End them."""
        await self._reachable.stop_bridges()

    @property
    def _reachable(self) -> Node:
        if self._node is None:
            raise DetachedError(f"the plugin {self._plugin} is not on, so it has no broker")
        return self._node
