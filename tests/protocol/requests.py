"""The packets that a client sends, as bytes. Every field can be given, also forbidden values."""

from collections.abc import Sequence
from dataclasses import dataclass

from protocol.wire import (
    PacketType,
    Properties,
    Version,
    binary,
    packet,
    property_block,
    string,
    u8,
    u16,
)

RESERVED_FLAGS = {PacketType.PUBREL: 2, PacketType.SUBSCRIBE: 2, PacketType.UNSUBSCRIBE: 2}
"""Flags of the fixed header that are not 0 where they are reserved (3.1.1 §2.2.2, 5.0 §2.1.3)."""


@dataclass(slots=True, frozen=True)
class Will:
    """The will of a CONNECT. `properties` are for version 5 only."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = ()


@dataclass(slots=True, frozen=True)
class Filter:
    """One topic filter of a SUBSCRIBE with its options; 3.1.1 knows only the QoS."""

    topic: str | bytes
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0

    def options(self, version: Version) -> int:
        if version < Version.V5:
            return self.qos
        return self.qos | self.no_local << 2 | self.retain_as_published << 3 | self.retain_handling << 4


def connect(
    version: Version,
    client_id: str | bytes,
    *,
    clean_start: bool = True,
    keep_alive: int = 60,
    will: Will | None = None,
    username: str | bytes | None = None,
    password: bytes | None = None,
    properties: Properties | bytes = (),
    flags: int | None = None,
    protocol_name: str | bytes | None = None,
    level: int | None = None,
    payload: bytes | None = None,
) -> bytes:
    """CONNECT. `flags`, `protocol_name`, `level` and `payload` replace what follows from the other arguments."""
    if flags is None:
        flags = clean_start << 1 | (username is not None) << 7 | (password is not None) << 6
        if will is not None:
            flags |= 0x04 | will.qos << 3 | will.retain << 5
    if protocol_name is None:
        protocol_name = "MQIsdp" if version is Version.V3_1 else "MQTT"
    head = string(protocol_name) + u8(version if level is None else level) + u8(flags) + u16(keep_alive)
    if version is Version.V5:
        head += property_block(properties)
    if payload is None:
        payload = string(client_id)
        if will is not None:
            payload += property_block(will.properties) if version is Version.V5 else b""
            payload += string(will.topic) + binary(will.payload)
        payload += b"" if username is None else string(username)
        payload += b"" if password is None else binary(password)
    return packet(PacketType.CONNECT << 4, head + payload)


def publish(
    version: Version,
    topic: str | bytes,
    payload: bytes = b"",
    *,
    qos: int = 0,
    packet_id: int | None = None,
    retain: bool = False,
    dup: bool = False,
    properties: Properties | bytes = (),
) -> bytes:
    """PUBLISH; a packet identifier is written when one is given, whatever the QoS."""
    body = string(topic) + (b"" if packet_id is None else u16(packet_id))
    body += property_block(properties) if version is Version.V5 else b""
    return packet(PacketType.PUBLISH << 4 | dup << 3 | qos << 1 | retain, body + payload)


def acknowledge(
    kind: PacketType,
    version: Version,
    packet_id: int,
    reason_code: int = 0,
    properties: Properties | bytes = (),
    *,
    flags: int | None = None,
) -> bytes:
    """PUBACK, PUBREC, PUBREL or PUBCOMP; in the short form when there is nothing to say."""
    body = u16(packet_id)
    if version is Version.V5 and (reason_code or properties):
        body += u8(reason_code) + (property_block(properties) if properties else b"")
    return packet(kind << 4 | (RESERVED_FLAGS.get(kind, 0) if flags is None else flags), body)


def subscribe(
    version: Version,
    packet_id: int,
    filters: Sequence[Filter],
    *,
    properties: Properties | bytes = (),
    flags: int = 2,
    options: int | None = None,
) -> bytes:
    """SUBSCRIBE; `options` replaces the options byte of every filter."""
    body = u16(packet_id) + (property_block(properties) if version is Version.V5 else b"")
    for each in filters:
        body += string(each.topic) + u8(each.options(version) if options is None else options)
    return packet(PacketType.SUBSCRIBE << 4 | flags, body)


def unsubscribe(
    version: Version,
    packet_id: int,
    filters: Sequence[str | bytes],
    *,
    properties: Properties | bytes = (),
    flags: int = 2,
) -> bytes:
    body = u16(packet_id) + (property_block(properties) if version is Version.V5 else b"")
    return packet(PacketType.UNSUBSCRIBE << 4 | flags, body + b"".join(string(each) for each in filters))


def pingreq(*, flags: int = 0) -> bytes:
    return packet(PacketType.PINGREQ << 4 | flags)


def disconnect(version: Version, reason_code: int = 0, properties: Properties | bytes = (), *, flags: int = 0) -> bytes:
    """DISCONNECT; with version 5 in the short form when there is nothing to say."""
    body = b""
    if version is Version.V5 and (reason_code or properties):
        body = u8(reason_code) + property_block(properties)
    return packet(PacketType.DISCONNECT << 4 | flags, body)


def auth(reason_code: int, properties: Properties | bytes = (), *, flags: int = 0) -> bytes:
    return packet(PacketType.AUTH << 4 | flags, u8(reason_code) + property_block(properties))
