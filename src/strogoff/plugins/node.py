"""The broker as plugins see it: what they may ask of it, and the end of it all when one is disabled."""

import asyncio
import inspect
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from strogoff._engine import (
    AccessList,
    Engine,
    Message,
    MessageEvent,
    PasswordTable,
    SessionInfo,
    SubscribeRequest,
    SubscriptionInfo,
)
from strogoff.plugins.access import AccessControl
from strogoff.plugins.chain import Link
from strogoff.plugins.context import Receive
from strogoff.plugins.running import RunningPlugin

if TYPE_CHECKING:
    from strogoff.plugins.manager import PluginManager

__all__ = ["PluginNode"]

PREFIX = "plugin:"


class PluginNode:
    """Implements `strogoff.plugins.context.Node` for all plugins of a node."""

    def __init__(self, engine: Engine, manager: "PluginManager", name: str, access: AccessControl) -> None:
        self._engine = engine
        self._manager = manager
        self._name = name
        self._access = access
        self._plugins: dict[str, RunningPlugin] = {}
        self._subscribers: dict[str, Link] = {}

    @property
    def name(self) -> str:
        """The node's name."""
        return self._name

    def add(self, running: RunningPlugin) -> None:
        """From now on the plugin may ask."""
        self._plugins[running.name] = running

    def remove(self, running: RunningPlugin) -> None:
        """Forget the plugin and end its subscriptions."""
        for mountpoint, topic_filter in list(running.subscribers):
            self.unsubscribe(running.name, topic_filter, mountpoint)
        self._access.forget(running.name)
        self._plugins.pop(running.name, None)

    def publish(self, messages: list[Message]) -> list[int]:
        """As `Engine.publish`."""
        return self._engine.publish(messages)

    def subscribe(self, plugin: str, topic_filter: str, receive: Receive, qos: int, mountpoint: str) -> None:
        """Subscribe from inside; again with the same filter replaces the receiver."""
        running = self._plugins[plugin]
        self.unsubscribe(plugin, topic_filter, mountpoint)
        running.subscribers_made += 1
        subscriber = f"{PREFIX}{plugin}/{running.subscribers_made}"
        self._engine.subscribe(subscriber, topic_filter, qos, mountpoint=mountpoint)
        running.subscribers[mountpoint, topic_filter] = subscriber
        self._subscribers[subscriber] = Link(plugin, "subscription", receive, inspect.iscoroutinefunction(receive))

    def unsubscribe(self, plugin: str, topic_filter: str, mountpoint: str) -> bool:
        """End a subscription of a plugin."""
        running = self._plugins.get(plugin)
        subscriber = running.subscribers.pop((mountpoint, topic_filter), None) if running else None
        if subscriber is None:
            return False
        self._subscribers.pop(subscriber, None)
        return self._engine.unsubscribe(subscriber, topic_filter, mountpoint=mountpoint)

    def own_subscriptions(self) -> list[str]:
        """What plugins subscribe to from inside, in words."""
        return [
            f"{name} subscribes to {topic_filter}"
            for name, running in self._plugins.items()
            for _, topic_filter in running.subscribers
        ]

    def received(self, event: MessageEvent) -> None:
        """Hand a message over to the plugin that subscribed."""
        link = self._subscribers.get(event.subscriber)
        if link is None:
            return
        if link.waits:
            self._manager.post(link, event)
            return
        try:
            link.function(event)
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is told
            self._manager.dispatcher.failed(link, error)

    def session(self, client_id: str, mountpoint: str) -> SessionInfo | None:
        """As `Engine.session`."""
        return self._engine.session(client_id, mountpoint)

    def subscriptions(self, client_id: str, mountpoint: str) -> list[SubscriptionInfo]:
        """As `Engine.subscriptions`."""
        return self._engine.subscriptions(client_id, mountpoint)

    def disconnect(self, client_id: str, mountpoint: str, reason_code: int) -> bool:
        """As `Engine.disconnect`."""
        return self._engine.disconnect(client_id, mountpoint, reason_code=reason_code)

    async def reauthorize(self, client_id: str, mountpoint: str) -> list[str]:
        """Ask `auth_on_subscribe` again about each subscription; those that are refused are removed."""
        session = self._engine.session(client_id, mountpoint)
        if session is None:
            return []
        lost: list[str] = []
        for subscription in self._engine.subscriptions(client_id, mountpoint):
            request = SubscribeRequest(
                listener=session.listener or "",
                mountpoint=mountpoint,
                client_id=client_id,
                username=session.username,
                filters=[(subscription.topic, subscription.qos)],
                protocol_version=session.protocol,
            )
            verdict = await self._manager.dispatcher.decide("auth_on_subscribe", request)
            is_allowed = verdict.is_allowed and all(code < 0x80 for _, code in verdict.filters or ())
            if not is_allowed and self._engine.unsubscribe_client(client_id, subscription.topic, mountpoint):
                lost.append(subscription.topic)
        return lost

    def create_task(self, plugin: str, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something for a plugin."""
        return self._plugins[plugin].start_task(self._manager.task_group, work, name)

    async def start_bridges(self) -> None:
        """Run the node's bridges."""
        await self._manager.bridges.start(self._manager.task_group)

    async def stop_bridges(self) -> None:
        """End them."""
        await self._manager.bridges.stop()

    def set_access_list(self, plugin: str, access_list: AccessList) -> None:
        """As `AccessControl.set_access_list`."""
        self._access.set_access_list(plugin, access_list)

    def set_passwords(self, plugin: str, passwords: PasswordTable) -> None:
        """As `AccessControl.set_passwords`."""
        self._access.set_passwords(plugin, passwords)
