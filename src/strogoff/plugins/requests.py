"""What hooks are called with that does not come from the engine as it is: one delivery, and a change of phase."""

from dataclasses import dataclass, field
from typing import TypeAlias

from strogoff.phases import Phase

__all__ = ["Change", "Delivery", "PhaseChange", "Properties"]

Properties: TypeAlias = list[tuple[str, int | str | bytes | tuple[str, str]]]
"""Properties of a packet in wire order, by the specification's names in snake case."""


@dataclass(frozen=True, slots=True)
class Change:
    """A delivery with other contents; None leaves a part as it is. Made by `Delivery.change`."""

    topic: str | None = None
    payload: bytes | None = None
    properties: Properties | None = None


@dataclass(slots=True)
class Delivery:
    """`on_deliver`: a message on its way to one client. `client_id` and `username` are the receiver's."""

    client_id: str
    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    mountpoint: str = ""
    username: str | None = None
    listener: str = ""
    properties: Properties = field(default_factory=list)

    def change(
        self, *, topic: str | None = None, payload: bytes | None = None, properties: Properties | None = None
    ) -> Change:
        """Let this client get something else. `properties` replaces all of the message."""
        return Change(topic, payload, properties)


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """`on_phase`: the node has entered a phase. `at`: seconds since the Unix epoch."""

    phase: Phase
    previous: Phase
    at: float
    node: str
