"""WebSocket listeners: the request, its limits, proxies in front, TLS below, slow readers."""

import time
from collections.abc import Callable

import pytest

from certificates import CertificateAuthority
from engine.running import Running, eventually
from engine.secured import client_context, counted, dial_tls, listen, network, over_websocket, tls_config
from protocol import requests
from protocol.client import Client, dial, unique
from protocol.websocket import PING, PONG, Answer, Headers, WebSocket, frame, request
from protocol.wire import Version
from strogoff._engine import ListenerInfo, LogEvent, RegisterRequest, Verdict


def answer(listener: ListenerInfo, data: bytes) -> Answer:
    """What a request is answered; the connection is to end behind a refusal."""
    with dial(listener.port) as connection:
        connection.sendall(data)
        got = Answer(connection)
        while got.status != 101 and connection.recv(4_096):
            pass
        return got


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("/other"), 404),
        (request().replace(b"GET", b"POST"), 405),
        (request(headers={"Sec-WebSocket-Version": "8"}), 426),
        (request(headers={"Upgrade": None}), 426),
        (request(headers={"Sec-WebSocket-Key": "short"}), 400),
        (request("/mqtt?" + "x" * 8_000), 414),
        (request(headers={"X": "y" * 4_097}), 431),
        (request(headers={f"X-{number}": "y" for number in range(200)}), 431),
        (request("/mqtt/?token=1"), 101),
        (request(headers={"X": "y" * 4_096}), 101),
    ],
)
def test_a_request_is_answered_with_the_status_for_its_fault(running: Running, data: bytes, status: int) -> None:
    assert answer(listen(running, "ws"), data).status == status
    if status != 101:
        assert running.event(LogEvent).message.startswith("WebSocket upgrade failed: ")
        counted(running, "websocket_error", 1)


def test_the_limits_of_a_request_are_those_of_the_listener(running: Running) -> None:
    listener = listen(running, "ws", max_request_line_length=100, max_header_value_length=64)
    assert answer(listener, request("/mqtt?" + "x" * 100)).status == 414
    assert answer(listener, request(headers={"X": "y" * 65})).status == 431
    assert answer(listener, request()).status == 101


def test_compression_is_not_agreed_to(running: Running) -> None:
    offered: Headers = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
    assert "sec-websocket-extensions" not in answer(listen(running, "ws"), request(headers=offered)).headers


def test_what_is_no_http_is_refused_at_once(running: Running) -> None:
    listener = listen(running, "ws")
    with Client(dial(listener.port), Version.V3_1_1) as client:
        client.send(requests.connect(Version.V3_1_1, unique()))
        client.expect_closed()
    assert "does not speak HTTP" in running.event(LogEvent).message


def test_a_request_that_trickles_in_ends_at_its_deadline(run: Callable[..., Running]) -> None:
    running = run({"mqtt_connect_timeout": 300})
    listener = listen(running, "ws")
    start = time.monotonic()
    with dial(listener.port) as connection:
        connection.settimeout(0.05)
        for byte in request() * 3:
            try:
                connection.sendall(bytes([byte]))
                if connection.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert 0.25 < time.monotonic() - start < 3
    assert "mqtt_connect_timeout" in running.event(LogEvent).message


def test_websocket_over_tls(running: Running) -> None:
    authority = CertificateAuthority()
    config = tls_config(authority.issue("localhost", ["localhost"]))
    listener = listen(running, "wss", tls=config)
    clients = network(listener, over_websocket(dial_tls(client_context(authority))))
    client = clients.connect(Version.V5)
    client.subscribe("t", qos=1)
    for size in (1, 20_000, 200_000):
        client.publish("t", b"x" * size, qos=1)
        message = client.receive()
        assert len(message.payload) == size
        client.complete(message)
    assert running.engine.disconnect(client.client_id)
    client.expect_refusal(0x98)
    clients.close()


def test_a_slow_reader_gets_all_of_its_frames_and_its_pong(run: Callable[..., Running]) -> None:
    running = run({"max_online_messages": -1, "max_queued_bytes": 0})
    listener = listen(running, "ws", send_buffer=8_192)
    websocket = WebSocket(dial(listener.port))
    slow, publisher = Client(websocket, Version.V5), running.connect(Version.V5)
    slow.handshake()
    slow.subscribe("t", qos=0)
    payloads = [number.to_bytes(4, "big") * (1 + number * 20) for number in range(400)]
    for payload in payloads:
        publisher.publish("t", payload)
    publisher.barrier()
    websocket.connection.sendall(frame(PING, b"still there?"))
    assert [slow.receive().payload for _ in payloads] == payloads
    slow.barrier()
    assert list(websocket.controls) == [(PONG, b"still there?")]
    slow.close()


def test_connections_are_counted_by_their_family(running: Running) -> None:
    clients = network(listen(running, "ws"), over_websocket())
    clients.connect(Version.V5)
    running.connect(Version.V5)
    running.connect(Version.V5)
    counted(running, "active_mqttws_connections", 1)
    counted(running, "active_mqtt_connections", 2)
    clients.close()
    eventually(lambda: running.metric("active_mqttws_connections") == 0, "it is counted out")


# -- proxies ----------------------------------------------------------------------------------------------------------


def register_through(running: Running, listener: ListenerInfo, headers: Headers) -> RegisterRequest:
    """The CONNECT of a client that comes through a proxy which sends these headers."""
    with Client(WebSocket(dial(listener.port), headers), Version.V5) as client:
        client.send(requests.connect(Version.V5, unique(), username="bob", password=b"p"))
        asked = running.event(RegisterRequest)
        running.engine.resolve(asked.ticket, Verdict.allow())
        return asked


def test_the_client_of_a_trusted_proxy_is_the_first_one_forwarded(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register"])
    listener = listen(running, "ws", proxy_xff=(["127.0.0.1"], None))
    asked = register_through(running, listener, {"X-Forwarded-For": "192.0.2.7, 10.0.0.1", "X-SSL-Client-CN": "alice"})
    assert (asked.peer[0], asked.username, asked.listener_kind) == ("192.0.2.7", "bob", "ws")
    named = listen(running, "ws", "named", proxy_xff=(["127.0.0.1"], "X-SSL-Client-CN"))
    asked = register_through(running, named, {"X-Forwarded-For": "2001:db8::1", "x-ssl-client-cn": "alice"})
    assert (asked.peer[0], asked.username) == ("2001:db8::1", "alice")
    assert answer(named, request(headers={"X-Forwarded-For": "192.0.2.7"})).status == 400


def test_who_is_no_trusted_proxy_or_forwards_nobody_is_refused(running: Running) -> None:
    forwarded: Headers = {"X-Forwarded-For": "192.0.2.7"}
    strangers = listen(running, "ws", "strangers", proxy_xff=(["127.0.0.2"], None))
    assert answer(strangers, request(headers=forwarded)).status == 403
    trusted = listen(running, "ws", "trusted", proxy_xff=(["127.0.0.1"], None))
    assert answer(trusted, request()).status == 400
    assert answer(trusted, request(headers={"X-Forwarded-For": "unknown"})).status == 400
    assert answer(trusted, request(headers=forwarded)).status == 101
