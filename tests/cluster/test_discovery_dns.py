"""The addresses of a name: questions and answers as bytes, and asked of a real name server."""

import asyncio
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.name_server import Zone, name_server
from strogoff.cluster.discovery.dns import DnsSource, resolver_of
from strogoff.cluster.discovery.dns_messages import AAAA, A, BadMessageError, answer_of, question
from strogoff.cluster.discovery.places import Place, SourceError

NAME = "brokers.iot.svc.cluster.local"


def reply(asked: bytes, *records: bytes, code: int = 0, flags: int = 0x8180) -> bytes:
    return asked[:2] + struct.pack(">HHHHH", flags | code, 1, len(records), 0, 0) + asked[12:] + b"".join(records)


def record(kind: int, value: bytes, name: bytes = b"\xc0\x0c") -> bytes:
    return name + struct.pack(">HHIH", kind, 1, 5, len(value)) + value


def test_addresses_of_both_kinds_are_read_and_aliases_are_followed() -> None:
    asked = question(7, NAME, A)
    alias = record(5, b"\x01x\xc0\x0c")
    message = reply(asked, alias, record(A, bytes([10, 0, 0, 1]), b"\x01x\x00"), record(A, bytes([10, 0, 0, 2])))
    assert answer_of(message, asked).addresses == ["10.0.0.1", "10.0.0.2"]
    asked = question(8, NAME + ".", AAAA)
    assert answer_of(reply(asked, record(AAAA, bytes(15) + b"\x01")), asked).addresses == ["::1"]


def test_what_a_server_says_beside_addresses_is_read() -> None:
    asked = question(7, NAME, A)
    assert answer_of(reply(asked, code=3), asked).code == 3
    assert answer_of(reply(asked, flags=0x8380), asked).is_truncated


@pytest.mark.parametrize("name", ["", "a..b", "x" * 64, ".".join(["x" * 50] * 6), "ü.example"])
def test_a_name_that_is_none_is_told(name: str) -> None:
    with pytest.raises(BadMessageError, match="no name of DNS"):
        question(1, name, A)


def test_an_answer_to_another_question_is_none() -> None:
    asked = question(7, NAME, A)
    for other in (question(8, NAME, A), question(7, "other.example", A), question(7, NAME, AAAA), asked):
        message = other if other is asked else reply(other)
        with pytest.raises(BadMessageError):
            answer_of(message, asked)


@given(st.binary(max_size=80), st.integers(0, 5))
def test_no_bytes_do_any_harm(tail: bytes, count: int) -> None:
    asked = question(7, NAME, A)
    message = asked[:2] + struct.pack(">HHHHH", 0x8180, 1, count, 0, 0) + asked[12:] + tail
    try:
        answer_of(message, asked)
    except BadMessageError:
        return


def test_the_name_servers_of_the_system_are_read() -> None:
    text = "# c\nnameserver 10.0.0.10\nnameserver ::1 ; x\nsearch iot.svc.cluster.local svc.cluster.local.\n"
    text += "options ndots:5\n"
    resolver = resolver_of(text)
    assert resolver.servers == [("10.0.0.10", 53), ("::1", 53)]
    assert resolver.names("brokers") == ["brokers.iot.svc.cluster.local", "brokers.svc.cluster.local", "brokers"]
    assert resolver.names("brokers.") == ["brokers."]
    assert resolver_of("").names("a.b") == ["a.b"]


@pytest.fixture
def zone() -> Iterator[Zone]:
    with name_server(Zone({NAME: ["10.0.0.2", "10.0.0.10"]})) as zone:
        yield zone


def look(zone: Zone, name: str = NAME) -> list[Place]:
    return list(asyncio.run(DnsSource(name, port=44053, server=zone.place).look()))


def test_nodes_are_at_the_addresses_of_the_name(zone: Zone) -> None:
    assert look(zone) == [Place("", "10.0.0.2:44053", NAME), Place("", "10.0.0.10:44053", NAME)]


def test_as_many_addresses_as_no_datagram_holds_are_all_found(zone: Zone) -> None:
    zone.addresses[NAME] = [f"10.0.{high}.{low}" for high in range(4) for low in range(50)]
    assert len(look(zone)) == 200


def test_a_name_that_is_not_known_yet_is_told(zone: Zone) -> None:
    with pytest.raises(SourceError, match=r"other\.example has no address yet.*publishNotReadyAddresses"):
        look(zone, "other.example")
    zone.addresses[NAME] = []
    with pytest.raises(SourceError, match="has no address yet"):
        look(zone)


def test_a_server_that_cannot_answer_is_told(zone: Zone) -> None:
    zone.server.is_failing = True
    with pytest.raises(SourceError, match=rf"127\.0\.0\.1 port {zone.port} cannot answer for {NAME} \(code 2\)"):
        look(zone)


def test_a_server_that_is_silent_is_told_and_a_stop_does_not_wait_for_it(zone: Zone) -> None:
    zone.server.is_silent = True
    with pytest.raises(SourceError, match="no answer of the name server"):
        look(zone)

    async def stopped() -> None:
        looking = asyncio.ensure_future(DnsSource(NAME, port=1, server=zone.place).look())
        await asyncio.sleep(0.1)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    began = time.monotonic()
    asyncio.run(stopped())
    assert time.monotonic() - began < 0.8


def test_a_server_that_is_not_there_is_told() -> None:
    with pytest.raises(SourceError, match="the name server 127"):
        look(Zone())


def test_a_system_without_name_servers_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        asyncio.run(DnsSource(NAME, port=1, resolv_conf=tmp_path / "none").look())
    (tmp_path / "empty").write_text("search x\n")
    with pytest.raises(SourceError, match="names no name server"):
        asyncio.run(DnsSource(NAME, port=1, resolv_conf=tmp_path / "empty").look())
