"""PROXY headers of both versions in front of listeners of every kind."""

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from certificates import CertificateAuthority
from engine.running import Running
from engine.secured import client_context, counted, listen, tls_config
from protocol import requests
from protocol.answers import Connack
from protocol.client import Client, Connection, dial, unique
from protocol.websocket import WebSocket
from protocol.wire import Version
from strogoff._engine import ListenerInfo, LogEvent, RegisterRequest, Verdict

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(host: str, port: int) -> bytes:
    family = "TCP6" if ":" in host else "TCP4"
    return f"PROXY {family} {host} {'::1' if ':' in host else '10.0.0.1'} {port} 1883\r\n".encode()


def v2(host: str, port: int, tlvs: bytes = b"", command: int = 0x21) -> bytes:
    addresses = socket.inet_aton(host) + socket.inet_aton("10.0.0.1") + struct.pack(">HH", port, 1883) + tlvs
    return SIGNATURE + struct.pack(">BBH", command, 0x11, len(addresses)) + addresses


def ssl_tlv(common_name: bytes, verify: int = 0) -> bytes:
    value = struct.pack(">BI", 0x07, verify) + struct.pack(">BH", 0x22, len(common_name)) + common_name
    return struct.pack(">BH", 0x20, len(value)) + value


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine that asks about every client."""
    return run({"allow_anonymous": False}, hooks=["auth_on_register"])


def register(running: Running, connection: Connection) -> RegisterRequest:
    """The CONNECT of a client on this connection, which is let in."""
    client = Client(connection, Version.V5)
    client.send(requests.connect(Version.V5, unique(), username="bob", password=b"p"))
    asked = running.event(RegisterRequest)
    running.engine.resolve(asked.ticket, Verdict.allow())
    assert client.expect(Connack).code == 0
    client.close()
    return asked


def behind(listener: ListenerInfo, header: bytes) -> socket.socket:
    connection = dial(listener.port)
    connection.sendall(header)
    return connection


@pytest.mark.parametrize(
    ("header", "peer"),
    [
        (v1("192.0.2.7", 4242), ("192.0.2.7", 4242)),
        (v1("2001:db8::7", 4242), ("2001:db8::7", 4242)),
        (v2("192.0.2.7", 4242), ("192.0.2.7", 4242)),
    ],
)
def test_the_client_of_the_proxy_is_who_the_header_says(asking: Running, header: bytes, peer: tuple[str, int]) -> None:
    listener = listen(asking, "tcp", proxy_protocol=True)
    assert register(asking, behind(listener, header)).peer == peer


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", v2("192.0.2.7", 1, command=0x20)])
def test_a_proxy_that_speaks_for_itself_is_the_peer(asking: Running, header: bytes) -> None:
    listener = listen(asking, "tcp", proxy_protocol=True)
    connection = behind(listener, header)
    peer = connection.getsockname()
    assert register(asking, connection).peer == peer


@pytest.mark.parametrize("kind", ["tcp", "ssl", "ws", "wss"])
def test_a_header_comes_before_all_other_layers_in_any_pieces(asking: Running, kind: str) -> None:
    authority = CertificateAuthority()
    options: dict[str, Any] = (
        {"tls": tls_config(authority.issue("localhost", ["localhost"]))} if kind in {"ssl", "wss"} else {}
    )
    listener = listen(asking, kind, proxy_protocol=True, **options)
    connection: Connection = dial(listener.port)
    for byte in v2("192.0.2.7", 4242, ssl_tlv(b"alice")):
        connection.sendall(bytes([byte]))
    if options:
        assert isinstance(connection, socket.socket)
        connection = client_context(authority).wrap_socket(connection, server_hostname="localhost")
    if kind in {"ws", "wss"}:
        connection = WebSocket(connection)
    asked = register(asking, connection)
    assert (asked.peer, asked.username) == (("192.0.2.7", 4242), "bob")


def test_a_verified_common_name_replaces_the_user_name_where_wanted(asking: Running) -> None:
    listener = listen(asking, "tcp", proxy_protocol=True, proxy_protocol_use_cn_as_username=True)
    good, bad = ssl_tlv(b"alice"), ssl_tlv(b"alice", verify=1)
    assert register(asking, behind(listener, v2("192.0.2.7", 1, good))).username == "alice"
    assert register(asking, behind(listener, v2("192.0.2.7", 1, bad))).username == "bob"
    assert register(asking, behind(listener, v1("192.0.2.7", 1))).username == "bob"


def test_a_header_and_the_packets_behind_it_may_come_at_once(running: Running) -> None:
    listener = listen(running, "tcp", proxy_protocol=True)
    packets = requests.connect(Version.V3_1_1, unique()) + b"\xc0\x00"
    with behind(listener, v1("192.0.2.7", 1) + packets) as connection:
        received = b""
        while len(received) < 6:
            received += connection.recv(100)
        assert received == b"\x20\x02\x00\x00\xd0\x00"
    counted(running, "bytes_received", len(packets))


@pytest.mark.parametrize(
    "bad",
    [
        requests.connect(Version.V3_1_1, "early"),
        b"PROXY TCP4 nobody nowhere 1 2\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x21\x11\xff\xff",
        v2("192.0.2.7", 1, b"\x20\x00\x09\x00"),
    ],
)
def test_no_good_header_no_connection(running: Running, bad: bytes) -> None:
    listener = listen(running, "tcp", proxy_protocol=True)
    with behind(listener, bad) as connection:
        assert connection.recv(1) == b""
    assert running.event(LogEvent).message.startswith("PROXY header failed: ")
    counted(running, "proxy_protocol_error", 1)


def test_a_session_tells_the_address_of_the_client_behind_the_proxy(running: Running) -> None:
    listener = listen(running, "tcp", proxy_protocol=True)
    client = Client(behind(listener, v1("192.0.2.7", 4242)), Version.V5)
    client.handshake()
    session = running.engine.session(client.client_id)
    assert session is not None
    assert (session.peer_host, session.peer_port) == ("192.0.2.7", 4242)
    client.close()
