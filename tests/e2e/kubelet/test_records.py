"""What the DNS of a cluster says, down to the bytes."""

import socket
import struct

import pytest

from e2e.kubelet.manifests import Service, ServicePort
from e2e.kubelet.records import AAAA, SRV, A, Endpoint, Names, answer, failure, names_of

BASE = "headless.test.svc.cluster.local"
PORTS = (ServicePort("mqtt", 1883, "mqtt"),)
ENDPOINTS = [Endpoint(f"b-{number}", f"10.88.0.{number}", (("mqtt", "TCP", 1883),)) for number in (1, 2)]
ZONE = names_of(
    [
        (Service("headless", "test", {}, True, True, PORTS), "", ENDPOINTS),
        (Service("client", "test", {}, False, False, PORTS), "10.96.0.9", []),
        (Service("nobody", "test", {}, True, False, PORTS), "", []),
    ]
)


def question(name: str, kind: int, *, flags: int = 0x0100) -> bytes:
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    return struct.pack("!HHHHHH", 7, flags, 1, 0, 0, 0) + wire + struct.pack("!HH", kind, 1)


def asked(name: str, kind: int, size_max: int = 512) -> tuple[int, list[bytes]]:
    """The code of the answer, and the data of its records."""
    message = question(name, kind)
    told = answer(message, ZONE.get, size_max=size_max)
    assert told is not None
    identifier, flags, questions, records, _, _ = struct.unpack_from("!HHHHHH", told)
    assert (identifier, questions, bool(flags & 0x8000), told[12 : len(message)]) == (7, 1, True, message[12:])
    at, found = len(message), []
    for _ in range(records):
        _, got, _, _, size = struct.unpack_from("!HHHIH", told, at)
        assert got == kind
        found.append(told[at + 12 : at + 12 + size])
        at += 12 + size
    assert at == len(told)
    return flags & 0x0F, found


def test_a_headless_service_has_the_addresses_of_its_pods() -> None:
    assert asked(BASE, A) == (0, [socket.inet_aton("10.88.0.1"), socket.inet_aton("10.88.0.2")])
    assert asked(BASE.upper(), A)[1]
    assert asked(f"b-2.{BASE}", A) == (0, [socket.inet_aton("10.88.0.2")])


def test_any_other_service_has_its_own_address() -> None:
    assert asked("client.test.svc.cluster.local", A) == (0, [socket.inet_aton("10.96.0.9")])


def test_a_port_of_a_service_has_the_names_of_its_pods() -> None:
    code, records = asked(f"_mqtt._tcp.{BASE}", SRV)
    assert (code, len(records)) == (0, 2)
    assert (
        records[0] == struct.pack("!HHH", 0, 100, 1883) + b"\x03b-1\x08headless\x04test\x03svc\x07cluster\x05local\x00"
    )


def test_a_name_without_records_of_a_kind_is_no_unknown_name() -> None:
    assert asked(BASE, AAAA) == (0, [])
    assert asked("nobody.test.svc.cluster.local", A) == (0, [])
    assert asked(f"b-3.{BASE}", A) == (3, [])


def test_what_does_not_fit_is_asked_for_over_tcp() -> None:
    many = {"many": Names([f"10.88.1.{number}" for number in range(1, 60)])}
    short = answer(question("many", A), many.get, size_max=512)
    assert short is not None
    assert struct.unpack_from("!H", short, 2)[0] & 0x0200
    assert len(short) < 512
    whole = answer(question("many", A), many.get, size_max=65_535)
    assert whole is not None
    assert struct.unpack_from("!H", whole, 6)[0] == 59


@pytest.mark.parametrize(
    "message", [b"", b"\0" * 11, question(BASE, A, flags=0x8100), question(BASE, A)[:-3], question(BASE, A)[:14]]
)
def test_what_is_no_question_gets_no_answer(message: bytes) -> None:
    assert answer(message, ZONE.get, size_max=512) is None
    assert failure(message) is None


def test_a_server_that_cannot_answer_says_so() -> None:
    told = failure(question(BASE, A))
    assert told is not None
    assert struct.unpack_from("!H", told, 2)[0] & 0x0F == 2
    unknown = answer(question(BASE, A, flags=0x2800), ZONE.get, size_max=512)
    assert unknown is not None
    assert struct.unpack_from("!H", unknown, 2)[0] & 0x0F == 4
