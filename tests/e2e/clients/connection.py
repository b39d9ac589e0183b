"""What the tests ask of an MQTT client, whichever library or program stands behind it.

A `Profile` says who connects and how, `Connection` is the connected client, `Message` is what goes in and comes out.
Every wait has the deadline `DEADLINE_S`; when it passes, `TimeoutError` or `queue.Empty` is raised.
"""

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

DEADLINE_S = 20.0
# Long enough to outlive a test, short enough that nothing is kept for ever.
SESSION_EXPIRY_S = 3600


class Version(enum.IntEnum):
    """Protocol versions, as CONNECT writes them."""

    MQTT_3_1 = 3
    MQTT_3_1_1 = 4
    MQTT_5 = 5


@dataclass(frozen=True, slots=True)
class Message:
    """An application message. What stands below `retain` needs MQTT 5."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    user_properties: tuple[tuple[str, str], ...] = ()
    response_topic: str | None = None
    correlation_data: bytes | None = None
    content_type: str | None = None

    def has_properties(self) -> bool:
        """Whether anything is set that only MQTT 5 carries."""
        return bool(self.user_properties or self.response_topic or self.correlation_data or self.content_type)


@dataclass(frozen=True, slots=True)
class Layers:
    """What lies between MQTT and TCP. `ca`: TLS, with a certificate of this authority."""

    is_websocket: bool = False
    ca: Path | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """Who connects to 127.0.0.1:`port`, and how.

    `keep`: the session outlives the connection, and one that is there goes on.
    """

    port: int
    client_id: str
    version: Version
    keep: bool = False
    will: Message | None = None
    layers: Layers = Layers()


class Connection(Protocol):
    """A client that is connected."""

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """Returns when the broker has granted it."""

    def publish(self, message: Message) -> None:
        """Returns when the message is acknowledged as its QoS demands."""

    def received(self) -> Message:
        """The next message, in the order of arrival."""

    def disconnect(self) -> None:
        """End the connection with DISCONNECT."""

    def vanish(self) -> None:
        """End the connection without DISCONNECT, as a client does that loses its power."""
