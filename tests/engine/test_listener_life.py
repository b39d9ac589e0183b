"""Listeners of Unix sockets, listeners that are suspended, and what they limit."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.running import Running, eventually
from engine.secured import listen, network, over_unix
from engine.test_listeners import accepts
from protocol import requests
from protocol.answers import Connack
from protocol.client import Network, dial, unique
from protocol.wire import Version
from strogoff._engine import Engine, RegisterRequest, Verdict


def unix(running: Running, path: Path, name: str = "local") -> Network:
    running.engine.open_listener(name, "tcp", str(path), 0)
    return Network(0, over_unix(path))


def test_clients_of_a_unix_socket_are_local(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register"])
    path = tmp_path / "mqtt.sock"
    clients = unix(running, path)
    client = clients.open(Version.V5)
    client.send(requests.connect(Version.V5, unique()))
    asked = running.event(RegisterRequest)
    assert (asked.peer, asked.listener_address) == (("local", 0), (str(path), 0))
    running.engine.resolve(asked.ticket, Verdict.allow())
    assert client.expect(Connack).code == 0
    client.subscribe("t")
    client.publish("t", b"x" * 200_000)
    assert len(client.receive().payload) == 200_000
    session = running.engine.session(asked.client_id)
    assert session is not None
    assert session.peer_host == "local"
    info = {each.name: each for each in running.engine.listeners()}["local"]
    assert (info.address, info.port, info.active_connections) == (str(path), 0, 1)
    clients.close()


def test_a_unix_socket_is_taken_over_when_stale_and_refused_when_live(running: Running, tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    clients = unix(running, path)
    clients.connect(Version.V5).barrier()
    with pytest.raises(OSError, match=r"second: cannot listen on .*in use"):
        running.engine.open_listener("second", "tcp", str(path), 0)
    assert running.engine.close_listener("local")
    assert not path.exists()
    clients.close()


def test_a_stopped_engine_leaves_no_socket_behind(tmp_path: Path) -> None:
    path = tmp_path / "mqtt.sock"
    engine = Engine()
    engine.start()
    engine.open_listener("local", "tcp", str(path), 0)
    assert path.is_socket()
    engine.stop(1_000)
    assert not path.exists()


@pytest.mark.parametrize(("kind", "port"), [("ws", 0), ("tcp", 1883)])
def test_a_unix_socket_has_no_port_and_one_kind(running: Running, tmp_path: Path, kind: str, port: int) -> None:
    with pytest.raises(ValueError, match="Unix socket"):
        running.engine.open_listener("x", kind, str(tmp_path / "x"), port)  # type: ignore[arg-type]


def test_a_suspended_listener_keeps_its_clients_and_takes_others_when_it_is_resumed(running: Running) -> None:
    before = running.connect(Version.V5)
    for _ in range(20):
        assert running.engine.suspend_listener("default")
        assert not accepts(running.port)
        assert running.engine.listeners()[0].status == "suspended"
        info = running.engine.resume_listener("default")
        assert (info.status, info.port) == ("running", running.port)
        running.connect(Version.V5).disconnect()
    before.barrier()
    assert not running.engine.suspend_listener("nobody")
    with pytest.raises(ValueError, match="nobody"):
        running.engine.resume_listener("nobody")


def test_suspending_may_end_the_clients(running: Running) -> None:
    client = running.connect(Version.V5)
    assert running.engine.suspend_listener("default", kill_sessions=True)
    client.expect_refusal(0x98)


def test_a_suspended_listener_whose_port_was_taken_says_so(running: Running) -> None:
    running.engine.suspend_listener("default")
    with socket.create_server(("127.0.0.1", running.port)), pytest.raises(OSError, match="default: cannot listen"):
        running.engine.resume_listener("default")
    assert running.engine.listeners()[0].status == "suspended"
    running.engine.resume_listener("default")
    running.connect(Version.V5).barrier()


def test_a_closed_listener_is_gone_at_once(running: Running) -> None:
    for _ in range(20):
        assert running.engine.close_listener("default")
        assert not accepts(running.port)
        running.engine.open_listener("default", "tcp", "127.0.0.1", running.port)
    running.connect(Version.V5).barrier()


def test_connections_beyond_the_rate_wait_and_are_counted(running: Running) -> None:
    clients = network(listen(running, "tcp", max_connection_rate=10))
    start = time.monotonic()
    crowd = [clients.open(Version.V3_1_1) for _ in range(8)]
    for client in crowd:
        client.send(requests.connect(Version.V3_1_1, unique()))
    for client in crowd:
        assert client.expect(Connack).code == 0
    assert 0.65 < time.monotonic() - start < 3
    eventually(lambda: running.metric("connection_rate_limited") == 7, "seven had to wait")
    clients.close()


def test_one_client_within_the_rate_waits_for_nothing(running: Running) -> None:
    clients = network(listen(running, "tcp", max_connection_rate=1))
    clients.connect(Version.V5).barrier()
    assert running.metric("connection_rate_limited") == 0
    clients.close()


def test_options_of_sockets_are_taken(running: Running) -> None:
    options: dict[str, Any] = {
        "nodelay": False,
        "keepalive": True,
        "backlog": 5,
        "send_buffer": 50_000,
        "receive_buffer": 50_000,
    }
    listener = listen(running, "tcp", linger=1, reuse_port=True, **options)
    clients = network(listener)
    clients.connect(Version.V5).disconnect()
    clients.close()
    again = running.engine.open_listener("again", "tcp", "127.0.0.1", listener.port, reuse_port=True)
    assert again.port == listener.port


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        ("ssl", {}, ValueError, "tls: a listener of kind ssl needs it"),
        ("tcp", {"colour": "red"}, TypeError, "colour"),
        ("tcp", {"max_connection_rate": 0}, ValueError, "max_connection_rate"),
        ("tcp", {"backlog": "many"}, ValueError, "backlog"),
        ("tcp", {"proxy_xff": (["127.0.0.1"], None)}, ValueError, "proxy_xff"),
        ("ws", {"proxy_xff": (["localhost"], None)}, ValueError, "proxy_xff"),
        ("ws", {"max_ws_frame_size": -1}, ValueError, "max_ws_frame_size"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(
    running: Running, kind: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        listen(running, kind, **options)
    with dial(running.port):
        assert [each.name for each in running.engine.listeners()] == ["default"]
