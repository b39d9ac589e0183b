"""MQTT over WebSocket: 3.1.1 and 5.0, section 6, and what RFC 6455 says about frames."""

from collections.abc import Callable, Iterator

import pytest

from engine.running import Running
from protocol import requests
from protocol.answers import Pingresp
from protocol.client import PEER_MAY_BE_SILENT, Client, dial, unique
from protocol.marks import V5, both_versions, in_v3, in_v5
from protocol.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Answer,
    WebSocket,
    close_code,
    frame,
    request,
)
from protocol.wire import Version

pytestmark = pytest.mark.skipif(PEER_MAY_BE_SILENT, reason="needs a WebSocket listener of this engine")

PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where an engine speaks WebSocket."""
    with Running() as running:
        yield running.engine.open_listener("ws", "ws", "127.0.0.1", 0, max_ws_frame_size=100_000).port


@pytest.fixture
def upgrade(port: int) -> Iterator[Callable[..., WebSocket]]:
    """Makes WebSocket connections that are closed when the test ends."""
    opened: list[WebSocket] = []

    def connect(**headers: str | None) -> WebSocket:
        opened.append(WebSocket(dial(port), {name.replace("_", "-"): value for name, value in headers.items()}))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def connected(upgrade: Callable[..., WebSocket]) -> Callable[[Version], tuple[WebSocket, Client]]:
    """Makes clients whose CONNECT is accepted."""

    def connect(version: Version) -> tuple[WebSocket, Client]:
        websocket = upgrade()
        client = Client(websocket, version)
        assert client.handshake().code == 0
        return websocket, client

    return connect


Connected = Callable[[Version], tuple[WebSocket, Client]]


@both_versions
@in_v3("MQTT-6.0.0-1")
@in_v5("MQTT-6.0.0-1")
def test_a_text_frame_ends_the_connection_with_1003(connected: Connected, version: Version) -> None:
    websocket, client = connected(version)
    websocket.connection.sendall(frame(TEXT, PINGREQ))
    client.expect_refusal(0x82)
    opcode, payload = websocket.controls[-1]
    assert (opcode, close_code(payload)) == (CLOSE, 1003)


@both_versions
@in_v3("MQTT-6.0.0-2")
@in_v5("MQTT-6.0.0-2")
def test_packets_may_begin_and_end_anywhere_in_frames(upgrade: Callable[..., WebSocket], version: Version) -> None:
    websocket = upgrade()
    packets = requests.connect(version, unique()) + PINGREQ * 3
    for start in range(0, len(packets), 3):
        websocket.connection.sendall(frame(BINARY, packets[start : start + 3]))
    # A message in pieces with a ping between them, an empty piece, and several packets in the last one.
    pieces = frame(BINARY, b"\xc0", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"", fin=False)
    websocket.connection.sendall(pieces + frame(CONTINUATION, b"\x00" + PINGREQ * 100))
    answers = b""
    while answers.count(PINGRESP) < 104:
        data = websocket.recv()
        assert data, "the connection is to live on"
        answers += data
    assert answers[0] == 0x20
    assert list(websocket.controls) == [(PONG, b"?")]


@both_versions
@in_v3("MQTT-6.0.0-3", "MQTT-6.0.0-4")
@in_v5("MQTT-6.0.0-3", "MQTT-6.0.0-4")
@pytest.mark.parametrize(("offered", "chosen"), [("mqtt", "mqtt"), ("chat, mqtt", "mqtt"), ("mqttv3.1", "mqttv3.1")])
def test_the_subprotocol_is_one_that_the_client_offers(
    upgrade: Callable[..., WebSocket], version: Version, offered: str, chosen: str
) -> None:
    websocket = upgrade(Sec_WebSocket_Protocol=offered)
    assert websocket.answer.headers["sec-websocket-protocol"] == chosen
    assert Client(websocket, version).handshake().code == 0


@both_versions
@in_v3("MQTT-6.0.0-3")
@in_v5("MQTT-6.0.0-3")
@pytest.mark.parametrize("offered", [None, "chat"])
def test_a_client_that_does_not_offer_mqtt_is_refused(port: int, version: Version, offered: str | None) -> None:
    with dial(port) as connection:
        connection.sendall(request(headers={"Sec-WebSocket-Protocol": offered}))
        assert Answer(connection).status == 400
        assert connection.recv(1) == b"", version


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(BINARY, PINGREQ, mask=b""), 1002),
        (frame(BINARY | 0x40, PINGREQ), 1002),
        (frame(CONTINUATION, PINGREQ), 1002),
        (frame(BINARY, b"", fin=False) + frame(BINARY, b""), 1002),
        (frame(PING, b"", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(0x3, b""), 1002),
        (frame(0xB, b""), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (b"\x82\xfe\x00\x01", 1002),
        (frame(BINARY, b"x" * 100_001), 1009),
        (b"\x82\xff\x00\x00\x00\xff\xff\xff\xff\xff", 1009),
    ],
)
def test_a_frame_that_breaks_the_rules_ends_the_connection_with_the_code_for_it(
    connected: Connected, bad: bytes, code: int
) -> None:
    websocket, client = connected(V5)
    # What came before it is served first.
    client.send(PINGREQ)
    websocket.connection.sendall(bad)
    client.expect(Pingresp)
    client.expect_refusal(0x82)
    assert [close_code(payload) for opcode, payload in websocket.controls if opcode == CLOSE] == [code]


def test_a_ping_is_answered_with_its_payload_and_a_pong_with_nothing(connected: Connected) -> None:
    websocket, client = connected(V5)
    for payload in (b"", b"x" * 125):
        websocket.connection.sendall(frame(PONG, b"y") + frame(PING, payload))
        client.barrier()
        assert websocket.controls.popleft() == (PONG, payload)
    assert not websocket.controls


@pytest.mark.parametrize(("code", "answered"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001)])
def test_a_close_frame_is_answered_and_the_connection_ends(connected: Connected, code: bytes, answered: int) -> None:
    websocket, client = connected(V5)
    websocket.connection.sendall(frame(CLOSE, code))
    client.expect_closed()
    assert [close_code(payload) for _, payload in websocket.controls] == [answered]
    assert websocket.connection.recv(1) == b""


def test_after_the_clients_disconnect_the_broker_closes_in_order(connected: Connected) -> None:
    websocket, client = connected(V5)
    client.send_disconnect()
    assert websocket.next_frame() == (CLOSE, (1000).to_bytes(2, "big"))
    websocket.connection.sendall(frame(CLOSE, b"\x03\xe8"))
    assert websocket.connection.recv(1) == b""


@pytest.mark.parametrize("size", [0, 1, 120, 125, 126, 65_535, 65_536, 90_000])
def test_a_payload_of_any_size_goes_both_ways(connected: Connected, size: int) -> None:
    _, client = connected(V5)
    topic = unique("t/")
    client.subscribe(topic, qos=1)
    payload = bytes(index % 251 for index in range(size))
    client.publish(topic, payload, qos=1)
    assert client.receive().payload == payload


def test_packets_that_come_with_the_request_are_served(port: int) -> None:
    with dial(port) as connection:
        packets = requests.connect(V5, unique()) + PINGREQ
        connection.sendall(request() + frame(BINARY, packets))
        answer = Answer(connection)
        received = answer.rest
        while PINGRESP not in received:
            data = connection.recv(4_096)
            assert data
            received += data


def test_a_message_larger_than_a_frame_may_come_in_several(connected: Connected) -> None:
    websocket, client = connected(V5)
    topic = unique("t/")
    client.subscribe(topic)
    packet = requests.publish(V5, topic, b"z" * 250_000)
    cuts = range(0, len(packet), 90_000)
    for start in cuts:
        is_last = start + 90_000 >= len(packet)
        opcode = BINARY if start == 0 else CONTINUATION
        websocket.connection.sendall(frame(opcode, packet[start : start + 90_000], fin=is_last))
    assert client.receive().payload == b"z" * 250_000
