"""The tests' own judge: what a server may not send is found, in one packet and over the course of a connection."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from protocol import requests
from protocol.answers import Connack, Publish, parse
from protocol.client import Client
from protocol.marks import V3, V5
from protocol.requests import Filter
from protocol.wire import Properties, Property, Version, ViolationError, packet, property_block, string, u16

CONNACK = {V3: b"\x20\x02\x00\x00", V5: b"\x20\x03\x00\x00\x00"}
RESUMED = {V3: b"\x20\x02\x01\x00", V5: b"\x20\x03\x01\x00\x00"}


def delivery(packet_id: int, *, flags: int = 2, alias: int | None = None, topic: str = "t") -> bytes:
    """A PUBLISH of version 5 as a server sends it."""
    properties: Properties = [] if alias is None else [(Property.TOPIC_ALIAS, alias)]
    return packet(0x30 | flags, string(topic) + (u16(packet_id) if flags & 6 else b"") + property_block(properties))


@pytest.mark.parametrize(
    ("version", "first_byte", "body"),
    [
        pytest.param(V3, 0x00, b"", id="packet type 0"),
        pytest.param(V3, 0x10, b"\x00", id="packet of a client"),
        pytest.param(V3, 0xE0, b"", id="DISCONNECT before version 5"),
        pytest.param(V3, 0xF0, b"", id="AUTH before version 5"),
        pytest.param(V5, 0x20, b"\x00\x00", id="CONNACK without a property length"),
        pytest.param(V3, 0x20, b"\x02\x00", id="CONNACK with a reserved flag"),
        pytest.param(V3, 0x20, b"\x01\x05", id="refusal with session present"),
        pytest.param(V3, 0x20, b"\x00\x06", id="CONNACK with an unknown code"),
        pytest.param(V5, 0x20, b"\x00\x8e\x00", id="CONNACK with a code of DISCONNECT"),
        pytest.param(V5, 0x20, b"\x00\x00\x03\x21\x00\x00", id="Receive Maximum 0"),
        pytest.param(V5, 0x20, b"\x00\x00\x02\x24\x02", id="Maximum QoS 2"),
        pytest.param(V5, 0x20, b"\x00\x00\x02\x01\x00", id="CONNACK with a property of PUBLISH"),
        pytest.param(V5, 0x20, b"\x00\x00\x06\x22\x00\x01\x22\x00\x01", id="property given twice"),
        pytest.param(V5, 0x20, b"\x00\x00\x80\x00", id="property length too long"),
        pytest.param(V3, 0x36, b"\x00\x01t\x00\x01", id="QoS 3"),
        pytest.param(V3, 0x38, b"\x00\x01t", id="DUP with QoS 0"),
        pytest.param(V3, 0x32, b"\x00\x01t\x00\x00", id="packet identifier 0"),
        pytest.param(V3, 0x30, b"\x00\x01#", id="wildcard in a topic name"),
        pytest.param(V3, 0x30, b"\x00\x00", id="empty topic name"),
        pytest.param(V3, 0x30, b"\x00\x01\xff", id="topic that is not UTF-8"),
        pytest.param(V3, 0x30, b"\x00\x01\x00", id="topic with a zero character"),
        pytest.param(V3, 0x30, b"\x00\x09t", id="topic cut off"),
        pytest.param(V3, 0x60, b"\x00\x01", id="PUBREL with flags 0"),
        pytest.param(V3, 0x40, b"\x00\x01\x00", id="PUBACK with a code before version 5"),
        pytest.param(V5, 0x40, b"\x00\x01\x92", id="PUBACK with a code of PUBREL"),
        pytest.param(V3, 0x90, b"\x00\x01\x03", id="SUBACK with an unknown code"),
        pytest.param(V5, 0x90, b"\x00\x01\x00", id="SUBACK without a code"),
        pytest.param(V3, 0xB0, b"\x00\x01\x00", id="UNSUBACK with a code before version 5"),
        pytest.param(V3, 0xD0, b"\x00", id="PINGRESP with a body"),
        pytest.param(V5, 0xE0, b"\x04", id="DISCONNECT with a code of clients"),
        pytest.param(V5, 0xE0, b"\x82\x05\x11\x00\x00\x00\x01", id="DISCONNECT with an expiry interval"),
        pytest.param(V5, 0xF0, b"\x19\x00", id="AUTH with a code of clients"),
    ],
)
def test_a_packet_that_no_server_may_send_is_a_violation(version: Version, first_byte: int, body: bytes) -> None:
    with pytest.raises(ViolationError):
        parse(version, first_byte, body, len(body) + 2)


class Script:
    """A server that answers whatever connects with fixed bytes, and then closes."""

    def __init__(self, answer: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer: bytes) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass

    def close(self) -> None:
        self._thread.join(5)
        self._listener.close()


@pytest.fixture
def opened() -> Iterator[list[Client | Script]]:
    """What a test opened; closed in reverse order, clients first."""
    things: list[Client | Script] = []
    yield things
    for each in reversed(things):
        each.close()


def served(opened: list[Client | Script], answer: bytes, properties: Properties = ()) -> Client:
    """A client of version 5 that sent CONNECT, SUBSCRIBE and PINGREQ to a server that answers with these bytes."""
    script = Script(answer)
    opened.append(script)
    client = Client(script.port, V5)
    opened.append(client)
    client.referee.agree(properties)
    data = requests.connect(V5, "c", properties=properties) + requests.subscribe(V5, 7, [Filter("a"), Filter("b")])
    client.send(data + requests.pingreq())
    return client


@pytest.mark.parametrize(
    ("answer", "properties"),
    [
        pytest.param(b"\xd0\x00", (), id="PINGRESP before CONNACK"),
        pytest.param(CONNACK[V5] * 2, (), id="second CONNACK"),
        pytest.param(b"\x20\x03\x00\x87\x00\xd0\x00", (), id="packet after a refusal"),
        pytest.param(CONNACK[V5] + b"\xe0\x01\x82\xd0\x00", (), id="packet after DISCONNECT"),
        pytest.param(b"\xf0\x02\x18\x00", (), id="AUTH without a method"),
        pytest.param(CONNACK[V5] + b"\x40\x02\x00\x01", (), id="PUBACK of nothing"),
        pytest.param(CONNACK[V5] + b"\x90\x05\x00\x08\x00\x00\x00", (), id="SUBACK of another request"),
        pytest.param(CONNACK[V5] + b"\x90\x04\x00\x07\x00\x00", (), id="SUBACK with a code too few"),
        pytest.param(CONNACK[V5] + b"\x90\x05\x00\x07\x00\x00\x00" * 2, (), id="second SUBACK"),
        pytest.param(CONNACK[V5] + b"\x62\x02\x00\x01", (), id="PUBREL of nothing"),
        pytest.param(CONNACK[V5] + delivery(1) * 2, (), id="identifier in use"),
        pytest.param(CONNACK[V5] + delivery(1, flags=0x0A), (), id="DUP in a new session"),
        pytest.param(
            CONNACK[V5] + delivery(1) + delivery(2), [(Property.RECEIVE_MAXIMUM, 1)], id="Receive Maximum exceeded"
        ),
        pytest.param(CONNACK[V5] + delivery(1, alias=1), (), id="alias where none is taken"),
        pytest.param(
            CONNACK[V5] + delivery(1, alias=1, topic=""), [(Property.TOPIC_ALIAS_MAXIMUM, 5)], id="unknown alias"
        ),
        pytest.param(
            CONNACK[V5] + delivery(1, topic="t" * 30), [(Property.MAXIMUM_PACKET_SIZE, 30)], id="packet too large"
        ),
        pytest.param(
            CONNACK[V5] + b"\x90\x09\x00\x07\x04\x1f\x00\x01x\x00\x00",
            [(Property.REQUEST_PROBLEM_INFORMATION, 0)],
            id="explanation not wanted",
        ),
    ],
)
def test_a_packet_that_does_not_fit_the_course_of_the_connection_is_a_violation(
    opened: list[Client | Script], answer: bytes, properties: Properties
) -> None:
    client = served(opened, answer, properties)
    with pytest.raises(ViolationError):
        client.expect_closed()


def test_a_packet_that_nothing_forbids_is_no_violation(opened: list[Client | Script]) -> None:
    client = served(
        opened, RESUMED[V5] + delivery(1, flags=0x0A) + delivery(2) + b"\x90\x05\x00\x07\x00\x00\x00\xd0\x00"
    )
    assert client.expect(Connack).session_present
    assert [client.expect(Publish).dup for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        pytest.param(CONNACK[V5], "barrier", id="no PINGRESP"),
        pytest.param(CONNACK[V5] + delivery(1) + b"\xd0\x00\xd0\x00", "barrier", id="unread message"),
        pytest.param(CONNACK[V5] + delivery(1), "expect_closed", id="unread message before the end"),
        pytest.param(CONNACK[V5] + b"\x32", "expect_closed", id="packet cut off by the end"),
        pytest.param(CONNACK[V5], "expect_nothing", id="end where nothing was to happen"),
    ],
)
def test_what_a_test_did_not_expect_fails_it(opened: list[Client | Script], answer: bytes, method: str) -> None:
    client = served(opened, answer)
    client.expect(Connack)
    with pytest.raises(AssertionError):
        getattr(client, method)()


def test_a_refusal_with_another_reason_code_fails_the_test(opened: list[Client | Script]) -> None:
    client = served(opened, CONNACK[V5] + b"\xe0\x01\x81")
    with pytest.raises(AssertionError):
        client.expect_refusal(0x82)


def test_a_scripted_server_is_closed_with_its_client() -> None:
    with closing(Script(b"")) as script, closing(Client(script.port, V3)) as client:
        client.expect_closed()
