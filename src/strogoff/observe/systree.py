"""The `$SYS` tree: every metric as a message, at an interval, in one batch.

VerneMQ's topics are `$SYS/<node>/<metric, "_" written "/">`. Beside them stand the classic topics (`$SYS/broker/...`)
that dashboards for other brokers know; they speak of the node that the subscriber is connected to.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from strogoff import version
from strogoff._engine import Engine, Message
from strogoff.observe.metrics import MetricsSource, Series, aggregated

__all__ = ["INTERVAL_S_MIN", "Systree", "SystreeSettings", "messages"]

INTERVAL_S_MIN = 0.1
"""The shortest interval; a few hundred messages more often than this are a load of their own."""

# Classic topic -> the metric behind it.
_CLASSIC = {
    "bytes/received": "bytes_received",
    "bytes/sent": "bytes_sent",
    "publish/messages/received": "mqtt_publish_received",
    "publish/messages/sent": "mqtt_publish_sent",
    "publish/messages/dropped": "queue_message_drop",
    "retained messages/count": "retain_messages",
    "subscriptions/count": "router_subscriptions",
}


@dataclass(frozen=True, slots=True)
class SystreeSettings:
    """The `systree_*` keys. `interval_s`: 0 publishes nothing."""

    enabled: bool
    interval_s: float
    mountpoint: str
    qos: int
    retain: bool

    @property
    def wait_s(self) -> float | None:
        """How long to wait before each publication; None: until the settings change."""
        return max(self.interval_s, INTERVAL_S_MIN) if self.enabled and self.interval_s > 0 else None


class Systree:
    """The publisher. `settings` is asked before each round; `reconfigure` makes a wait under old settings end."""

    name = "$SYS tree"

    def __init__(
        self, engine: Engine, metrics: MetricsSource, node: str, settings: Callable[[], SystreeSettings]
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._node = node
        self._settings = settings
        self._changed = asyncio.Event()

    def reconfigure(self) -> None:
        """Look at the settings again now."""
        self._changed.set()

    async def run(self, _broker: object = None) -> None:
        """Publish until cancelled. Switched off, it sleeps until the settings change."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(self._settings().wait_s):
                    await self._changed.wait()
            except TimeoutError:
                self.publish()

    def publish(self) -> int:
        """One publication now; how many messages it had."""
        sessions, uptime_s = self._engine.session_count(), self._metrics.uptime_s()
        batch = messages(self._node, self._metrics.snapshot(), sessions, uptime_s, self._settings())
        self._engine.publish(batch)
        return len(batch)


def messages(
    node: str, series: Iterable[Series], sessions: tuple[int, int], uptime_s: float, settings: SystreeSettings
) -> list[Message]:
    """One publication: all topics with their values. `sessions`: how many are online, how many are offline."""
    values = {row.name: row.value for row in aggregated(series)}
    topics: dict[str, str] = {f"$SYS/{node}/{name.replace('_', '/')}": str(value) for name, value in values.items()}
    topics |= {f"$SYS/broker/{name}": text for name, text in _classic(values, sessions, uptime_s).items()}
    return [
        Message(topic, text.encode(), settings.qos, retain=settings.retain, mountpoint=settings.mountpoint)
        for topic, text in topics.items()
    ]


def _classic(values: Mapping[str, int], sessions: tuple[int, int], uptime_s: float) -> dict[str, str]:
    online, offline = sessions
    topics = {
        "version": f"strogoff version {version()}",
        "uptime": f"{int(uptime_s)} seconds",
        "clients/connected": str(online),
        "clients/disconnected": str(offline),
        "clients/total": str(online + offline),
    }
    return topics | {topic: str(values[name]) for topic, name in _CLASSIC.items() if name in values}
