"""What listeners of a configuration file limit and add: connections, versions, mountpoints, access, Unix sockets."""

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker_process import BrokerError, BrokerProcess, Setting, StartBroker, free_port
from protocol import requests
from protocol.answers import Connack, Publish
from protocol.client import Client
from protocol.wire import Version

NOT_AUTHORIZED = 0x87
UNSUPPORTED_PROTOCOL_VERSION = 0x84


@pytest.fixture
def own_broker(own_broker: StartBroker) -> StartBroker:
    """As everywhere, but all of its listeners are open."""

    def start(settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> BrokerProcess:
        broker = own_broker(settings, **more)
        broker.await_ready()
        return broker

    return start


@pytest.fixture
def port() -> int:
    """Of the listener that a test is about; the other one, of the broker process, has no options."""
    return free_port()


def code(port: int, client_id: str, version: Version = Version.V5) -> int:
    """The reason code of the answer to a CONNECT."""
    with Client(port, version) as client:
        client.send(requests.connect(version, client_id))
        return client.expect(Connack).code


def test_a_full_listener_lets_the_next_client_wait(own_broker: StartBroker, port: int) -> None:
    broker = own_broker({"listener.tcp.small": f"127.0.0.1:{port}", "listener.tcp.small.max_connections": 1})
    with Client(port, Version.V5) as first, Client(port, Version.V5) as second:
        first.handshake("first")
        second.send(requests.connect(Version.V5, "second"))
        second.expect_nothing()
        assert code(broker.port, "elsewhere") == 0
        first.disconnect()
        first.close()
        assert second.expect(Connack).code == 0


def test_clients_beyond_the_rate_wait_and_are_counted(own_broker: StartBroker, port: int) -> None:
    broker = own_broker({"listener.tcp.slow": f"127.0.0.1:{port}", "listener.tcp.slow.max_connection_rate": 5})
    for number in range(8):
        assert code(port, f"c{number}") == 0
    assert "counter.connection_rate_limited = 0" not in broker.admin("metrics", "show")


def test_a_listener_speaks_the_versions_it_is_allowed(own_broker: StartBroker, port: int) -> None:
    own_broker({"listener.tcp.old": f"127.0.0.1:{port}", "listener.tcp.old.allowed_protocol_versions": "4"})
    assert code(port, "old", Version.V3_1_1) == 0
    with Client(port, Version.V5) as client:
        client.send(requests.connect(Version.V5, "new"))
        client.expect_connect_refusal(UNSUPPORTED_PROTOCOL_VERSION)


def test_clients_of_a_mountpoint_have_topics_of_their_own(own_broker: StartBroker, port: int) -> None:
    broker = own_broker({"listener.tcp.tenant": f"127.0.0.1:{port}", "listener.tcp.tenant.mountpoint": "acme"})
    with (
        Client(port, Version.V5) as inside,
        Client(broker.port, Version.V5) as outside,
        Client(port, Version.V5) as publisher,
    ):
        inside.handshake("inside")
        inside.subscribe("#")
        outside.handshake("outside")
        outside.subscribe("#")
        publisher.handshake("publisher")
        publisher.publish("t", b"secret", qos=1)
        assert inside.expect(Publish).topic == "t"
        outside.expect_nothing()
    assert "acme" in broker.admin("listener", "show")


def test_a_listener_may_let_strangers_in_that_others_refuse(own_broker: StartBroker, port: int) -> None:
    broker = own_broker(
        {
            "allow_anonymous": False,
            "listener.tcp.open": f"127.0.0.1:{port}",
            "listener.tcp.open.allow_anonymous_override": True,
        }
    )
    assert code(port, "here") == 0
    assert code(broker.port, "everywhere else") == NOT_AUTHORIZED


def test_a_unix_socket_is_a_listener(own_broker: StartBroker, tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    broker = own_broker({"listener.tcp.local": f"local:{path}:0"})
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    with Client(connection, Version.V5) as client:
        client.handshake("local")
        shown = broker.admin("session", "show", "--client_id", "--listener")
        assert "tcp.local" in shown
    assert str(path) in broker.admin("listener", "show")
    broker.stop()
    assert not path.exists()


def test_a_listener_whose_certificate_is_missing_stops_the_start(own_broker: StartBroker, port: int) -> None:
    with pytest.raises(BrokerError, match=r"listener\.ssl\.x\.certfile"):
        own_broker(
            {
                "listener.ssl.x": f"127.0.0.1:{port}",
                "listener.ssl.x.certfile": "/nowhere/x.crt",
                "listener.ssl.x.keyfile": "/nowhere/x.key",
            }
        )


def test_listeners_are_opened_stopped_and_closed_while_the_broker_runs(own_broker: StartBroker, port: int) -> None:
    broker = own_broker()
    place = ("address=127.0.0.1", f"port={port}")
    assert broker.admin("listener", "start", *place, "--max_connections=7", "--mountpoint=acme") == "Done\n"
    assert row(broker, port) == ["mqtt", "running", "127.0.0.1", str(port), "acme", "7", "0", "0"]
    with Client(port, Version.V5) as client:
        client.handshake("stays")
        broker.admin("listener", "stop", *place)
        assert row(broker, port)[1] == "suspended"
        assert not is_open(port)
        client.barrier()
        broker.admin("listener", "restart", *place)
        assert code(port, "comes") == 0
        broker.admin("listener", "stop", *place, "--kill_sessions")
        client.expect_refusal(0x98)
    broker.admin("listener", "delete", *place)
    assert str(port) not in broker.admin("listener", "show")
    assert not is_open(port)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("start", "address=127.0.0.1", "port={taken}"), "in use"),
        (("start", "address=127.0.0.1", "port={free}", "--ssl"), "certfile"),
        (("start", "address=127.0.0.1", "port={free}", "--max_connections=many"), "max_connections"),
        (("start", "address=127.0.0.1", "port={free}", "--allowed_protocol_versions=9"), "allowed_protocol_versions"),
        (("stop", "address=127.0.0.1", "port={free}"), "no listener"),
        (("delete", "address=127.0.0.1", "port={free}"), "no listener"),
    ],
)
def test_a_command_about_listeners_that_fails_says_why(
    broker: BrokerProcess, port: int, words: tuple[str, ...], sentence: str
) -> None:
    before = broker.admin("listener", "show")
    with pytest.raises(BrokerError, match=sentence):
        broker.admin("listener", *(word.format(taken=broker.port, free=port) for word in words))
    assert len(broker.admin("listener", "show").splitlines()) == len(before.splitlines())


def row(broker: BrokerProcess, port: int) -> list[str]:
    """The cells of `listener show` for the listener on this port."""
    (line,) = (line for line in broker.admin("listener", "show").splitlines() if f" {port} " in line)
    return [cell.strip() for cell in line.strip("|").split("|")]


def is_open(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
