"""MQTT over WebSocket with the clients that people use, with and without TLS."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker, free_port
from certificates import CertificateAuthority
from e2e.clients.connection import Connection, Layers, Message, Profile, Version
from e2e.clients.mqttjs import MqttJs
from e2e.clients.paho_client import Paho

CLIENTS = {"paho-mqtt": Paho, "mqtt.js": MqttJs}
PAYLOADS = (b"", b"small", bytes(range(256)) * 1_024)
"""The last one takes several frames of some clients, and an extended length of all."""


@dataclass(frozen=True)
class Web:
    """A broker with a `ws` and a `wss` listener."""

    broker: BrokerProcess
    ports: dict[str, int]
    ca: Path


@pytest.fixture(scope="module")
def web(broker_with: StartBroker, tmp_path_factory: pytest.TempPathFactory) -> Web:
    directory, authority = tmp_path_factory.mktemp("certificates"), CertificateAuthority()
    certificate, key = authority.issue("localhost", ["localhost", "127.0.0.1"]).write(directory, "server")
    ports = {"ws": free_port(), "wss": free_port()}
    broker = broker_with(
        {
            "listener.ws.default": f"127.0.0.1:{ports['ws']}",
            "listener.wss.default": f"127.0.0.1:{ports['wss']}",
            "listener.wss.certfile": str(certificate),
            "listener.wss.keyfile": str(key),
        }
    )
    broker.await_ready()
    return Web(broker, ports, authority.write(directory))


@pytest.fixture
def connect(web: Web) -> Iterator[Callable[[str, str, str, Version], Connection]]:
    """`connect("paho-mqtt", "ws", client_id, version)`; all are disconnected when the test ends."""
    with ExitStack() as stack:

        def opened(name: str, scheme: str, client_id: str, version: Version) -> Connection:
            layers = Layers(is_websocket=True, ca=web.ca if scheme == "wss" else None)
            connection = CLIENTS[name](Profile(web.ports[scheme], client_id, version, layers=layers))
            stack.callback(connection.disconnect)
            return connection

        yield opened


@pytest.mark.parametrize("version", [Version.MQTT_3_1_1, Version.MQTT_5], ids=lambda version: version.name)
@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("name", CLIENTS)
def test_messages_go_there_and_back(
    web: Web,
    connect: Callable[[str, str, str, Version], Connection],
    name: str,
    scheme: str,
    version: Version,
) -> None:
    client_id = f"{scheme}-{name}-{version.name}"
    client = connect(name, scheme, client_id, version)
    topic = f"web/{client_id}"
    client.subscribe(topic, 1)
    for payload in PAYLOADS:
        message = Message(topic, payload, 1)
        client.publish(message)
        assert client.received() == message
    shown = web.broker.admin("session", "show", f"--client_id={client_id}", "--listener")
    assert f"{scheme}.default" in shown


@pytest.mark.parametrize(("name", "other"), [("paho-mqtt", "mqtt.js"), ("mqtt.js", "paho-mqtt")])
def test_clients_of_one_listener_reach_those_of_another(
    connect: Callable[[str, str, str, Version], Connection], name: str, other: str
) -> None:
    receiver = connect(name, "ws", f"to-{name}", Version.MQTT_5)
    receiver.subscribe(f"across/{name}", 2)
    sender = connect(other, "wss", f"from-{other}", Version.MQTT_5)
    for number in range(20):
        sender.publish(Message(f"across/{name}", b"%d" % number, 2))
    assert [receiver.received().payload for _ in range(20)] == [b"%d" % number for number in range(20)]
