"""A node with something to lose: a session with messages that wait for it over several segments, retained messages."""

from dataclasses import dataclass, field
from pathlib import Path

from broker_process import Setting
from durability.node import Node, StartNode, session_present
from protocol.client import Network, unique
from protocol.marks import V5
from protocol.wire import Properties, Property

__all__ = ["SETTINGS", "Populated", "populate"]

SETTINGS: dict[str, Setting] = {
    "max_offline_messages": -1,
    "max_online_messages": -1,
    "store.segment_bytes": "64KB",
    "store.sync": "always",
}
MESSAGES = 60
PADDING = b"." * 3_000


@dataclass(slots=True)
class Populated:
    """The node, and what its store has to give."""

    node: Node
    topic: str = field(default_factory=unique)
    client_id: str = field(default_factory=unique)
    payloads: list[bytes] = field(default_factory=list)

    def publish(self, count: int) -> None:
        """More messages for the session, which is away; each is acknowledged."""
        publisher = self.node.net.connect(V5)
        for _ in range(count):
            payload = b"<%s %d>" % (self.topic.encode(), len(self.payloads)) + PADDING
            assert publisher.publish(self.topic, payload, qos=1) == 0
            self.payloads.append(payload)
        publisher.disconnect()

    def keeps_everything(self, net: Network | None = None, *, without: tuple[int, ...] = ()) -> None:
        """The node (or the one that `net` leads to) has session, messages and retained message; it has them no more."""
        net = net or self.node.net
        client = net.resume(V5, self.client_id)
        assert session_present(client)
        expected = [payload for number, payload in enumerate(self.payloads) if number not in without]
        assert client.receive_payloads(len(expected)) == expected
        client.barrier()
        client.disconnect()
        late = net.connect(V5)
        late.subscribe(f"{self.topic}/kept", qos=1)
        assert late.receive().payload == b"kept"
        late.disconnect()

    def place_of(self, number: int) -> tuple[Path, int]:
        """The file and the offset at which a message lies."""
        mark = self.payloads[number][: -len(PADDING)]
        for segment in self.node.segments():
            at = segment.read_bytes().find(mark)
            if at >= 0:
                return segment, at
        raise AssertionError(f"no file has {mark!r}")

    def spoil(self, number: int) -> Path:
        """Flip one bit of a message in its file; gives the file."""
        segment, at = self.place_of(number)
        content = bytearray(segment.read_bytes())
        content[at + 10] ^= 0x10
        segment.write_bytes(content)
        return segment


def populate(node_with: StartNode, **settings: Setting) -> Populated:
    """Such a node, running, with all of it synced."""
    state = Populated(node_with({**SETTINGS, **settings}))
    # Longer than the tests take, which have copies of it.
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 86_400)]
    client = state.node.net.connect(V5, state.client_id, clean_start=False, properties=lasting)
    client.subscribe(state.topic, qos=1)
    client.disconnect()
    publisher = state.node.net.connect(V5)
    publisher.publish(f"{state.topic}/kept", b"kept", qos=1, retain=True)
    publisher.disconnect()
    state.publish(MESSAGES)
    return state
