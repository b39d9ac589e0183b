"""Listeners: opened on any port, refused with a reason, limited, closed."""

import socket
from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.answers import Connack
from protocol.client import Network, unique
from protocol.wire import Version
from strogoff._engine import Engine


def test_port_0_takes_a_free_port_and_tells_it(running: Running) -> None:
    listener = running.engine.open_listener("second", "tcp", "127.0.0.1", 0)
    assert listener.port > 0
    assert (listener.name, listener.kind, listener.address) == ("second", "tcp", "127.0.0.1")
    assert listener.status == "running"
    ports = {each.name: each.port for each in running.engine.listeners()}
    assert ports == {"default": running.port, "second": listener.port}
    network = Network(listener.port)
    network.connect(Version.V3_1_1).barrier()
    network.close()


def test_an_address_in_use_is_an_error_that_names_listener_and_port(running: Running) -> None:
    with pytest.raises(OSError, match=f"listener second: cannot listen on 127.0.0.1 port {running.port}"):
        running.engine.open_listener("second", "tcp", "127.0.0.1", running.port)
    assert [each.name for each in running.engine.listeners()] == ["default"]


@pytest.mark.parametrize(
    ("name", "kind", "address", "options", "message"),
    [
        ("default", "tcp", "127.0.0.1", {}, "default"),
        ("x", "tcp", "localhost", {}, "address"),
        ("x", "udp", "127.0.0.1", {}, "kind"),
        ("x", "tcp", "127.0.0.1", {"allowed_protocol_versions": [7]}, "allowed_protocol_versions"),
    ],
)
def test_a_listener_that_cannot_be_is_refused_by_the_name_of_what_is_wrong(
    running: Running, name: str, kind: str, address: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        running.engine.open_listener(name, kind, address, 0, **options)  # type: ignore[arg-type]


def test_an_engine_that_is_not_started_opens_no_listener() -> None:
    with pytest.raises(RuntimeError, match="is not started"):
        Engine().open_listener("default", "tcp", "127.0.0.1", 0)


def test_beyond_max_connections_a_client_waits_until_another_one_leaves(run: Callable[..., Running]) -> None:
    running = run(max_connections=2)
    first = running.connect(Version.V5)
    running.connect(Version.V5).barrier()
    third = running.open(Version.V5)
    third.send(requests.connect(Version.V5, unique()))
    assert third.poll(Connack, within=0.2) is None
    assert running.engine.listeners()[0].active_connections == 2
    first.disconnect()
    assert third.expect(Connack).code == 0


def test_a_listener_counts_those_who_are_there_and_those_who_came(running: Running) -> None:
    for _ in range(3):
        running.connect(Version.V3_1_1).disconnect()
    running.connect(Version.V3_1_1)

    def counts() -> tuple[int, int]:
        listener = running.engine.listeners()[0]
        return listener.active_connections, listener.all_connections

    eventually(lambda: counts() == (1, 4), "one connection is left of four")


@pytest.mark.parametrize("kill_sessions", [False, True])
def test_a_closed_listener_accepts_nobody_and_keeps_its_clients_if_wanted(
    running: Running, kill_sessions: bool
) -> None:
    client = running.connect(Version.V5)
    assert running.engine.close_listener("default", kill_sessions=kill_sessions)
    assert not running.engine.close_listener("default")
    assert running.engine.listeners() == []
    eventually(lambda: not accepts(running.port), "the port is closed")
    if kill_sessions:
        client.expect_refusal(0x8B, 0x98)
    else:
        client.barrier()


def test_a_closed_listener_may_be_opened_again(running: Running) -> None:
    running.engine.close_listener("default")
    eventually(lambda: not accepts(running.port), "the port is closed")
    again = running.engine.open_listener("default", "tcp", "127.0.0.1", running.port)
    assert again.port == running.port
    running.connect(Version.V5).barrier()


def test_a_listener_takes_only_the_versions_it_lists(run: Callable[..., Running]) -> None:
    running = run(versions=[4])
    running.connect(Version.V3_1_1).barrier()
    assert running.open(Version.V5).handshake().code == 0x84
    assert running.open(Version.V3_1).handshake().code == 1


def test_allow_anonymous_of_a_listener_overrides_the_setting(running: Running) -> None:
    strict = running.engine.open_listener("strict", "tcp", "127.0.0.1", 0, allow_anonymous=False)
    assert strict.allow_anonymous is False
    network = Network(strict.port)
    assert network.open(Version.V5).handshake().code == 0x87
    assert network.open(Version.V3_1_1).handshake().code == 5
    network.close()
    running.connect(Version.V5).barrier()


def test_topics_of_a_mountpoint_are_their_own(running: Running) -> None:
    tenant = running.engine.open_listener("tenant", "tcp", "127.0.0.1", 0, mountpoint="tenant")
    network = Network(tenant.port)
    inside, outside = network.connect(Version.V5, "same"), running.connect(Version.V5, "same")
    inside.subscribe("#")
    outside.subscribe("#")
    inside.publish("t", b"inside")
    outside.publish("t", b"outside")
    assert (inside.receive().payload, outside.receive().payload) == (b"inside", b"outside")
    inside.barrier()
    outside.barrier()
    network.close()


def test_a_connection_ends_with_its_lifetime(running: Running) -> None:
    short = running.engine.open_listener("short", "tcp", "127.0.0.1", 0, max_connection_lifetime=1)
    network = Network(short.port)
    network.connect(Version.V5).expect_refusal(0x98, 0xA0)
    network.close()


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except ConnectionRefusedError:
        return False
