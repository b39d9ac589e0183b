"""The packets that a server sends, parsed strictly: what the specification forbids raises `ViolationError`.

Only what can be seen in one packet is checked here; `referee` judges a packet by what went before it.
"""

from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.wire import PacketType, Property, PropertyValue, Reader, Version, ViolationError


@dataclass(slots=True, frozen=True, kw_only=True)
class Answer:
    """A packet from the server: `size` is the whole packet on the wire in bytes."""

    size: int = field(repr=False)
    properties: tuple[tuple[Property, PropertyValue], ...] = ()

    def values(self, name: Property) -> list[PropertyValue]:
        """Every value of a property, in wire order."""
        return [value for each, value in self.properties if each is name]

    def value(self, name: Property) -> PropertyValue | None:
        """The value of a property that may be there once, or None."""
        found = self.values(name)
        return found[0] if found else None


@dataclass(slots=True, frozen=True, kw_only=True)
class Connack(Answer):
    session_present: bool
    code: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Publish(Answer):
    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int | None


@dataclass(slots=True, frozen=True, kw_only=True)
class Acknowledgement(Answer):
    packet_id: int
    code: int


class Puback(Acknowledgement):
    __slots__ = ()


class Pubrec(Acknowledgement):
    __slots__ = ()


class Pubrel(Acknowledgement):
    __slots__ = ()


class Pubcomp(Acknowledgement):
    __slots__ = ()


@dataclass(slots=True, frozen=True, kw_only=True)
class Suback(Answer):
    packet_id: int
    codes: tuple[int, ...]


@dataclass(slots=True, frozen=True, kw_only=True)
class Unsuback(Answer):
    """`codes` is empty before version 5."""

    packet_id: int
    codes: tuple[int, ...]


@dataclass(slots=True, frozen=True, kw_only=True)
class Pingresp(Answer):
    pass


@dataclass(slots=True, frozen=True, kw_only=True)
class Disconnect(Answer):
    code: int


@dataclass(slots=True, frozen=True, kw_only=True)
class Auth(Answer):
    code: int


AnyAnswer: TypeAlias = Connack | Publish | Acknowledgement | Suback | Unsuback | Pingresp | Disconnect | Auth

_PUBLISH_CODES = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASE_CODES = frozenset({0x00, 0x92})
# fmt: off
REASON_CODES: dict[PacketType, frozenset[int]] = {
    PacketType.CONNACK: frozenset({
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
        0x9B, 0x9C, 0x9D, 0x9F,
    }),
    PacketType.PUBACK: _PUBLISH_CODES,
    PacketType.PUBREC: _PUBLISH_CODES,
    PacketType.PUBREL: _RELEASE_CODES,
    PacketType.PUBCOMP: _RELEASE_CODES,
    PacketType.SUBACK: frozenset({0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),
    PacketType.UNSUBACK: frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),
    PacketType.DISCONNECT: frozenset({
        0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
        0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
    }),
    PacketType.AUTH: frozenset({0x00, 0x18}),
}
"""What a server may say in version 5: the tables of reason codes of §3.2.2.2 to §3.15.2.1."""
# fmt: on

_OLD_CONNACK_CODES = frozenset(range(6))
_OLD_SUBACK_CODES = frozenset({0, 1, 2, 0x80})
_ACKNOWLEDGEMENTS: dict[PacketType, type[Acknowledgement]] = {
    PacketType.PUBACK: Puback,
    PacketType.PUBREC: Pubrec,
    PacketType.PUBREL: Pubrel,
    PacketType.PUBCOMP: Pubcomp,
}
_RESERVED = {PacketType.PUBREL: 2}


def parse(version: Version, first_byte: int, body: bytes, size: int) -> AnyAnswer:
    """One packet from the server. Raises `ViolationError` for anything that the specification does not let it send."""
    try:
        kind = PacketType(first_byte >> 4)
    except ValueError as error:
        raise ViolationError(f"the server sent a packet of the forbidden type {first_byte >> 4}") from error
    reader = Reader(kind.name, body)
    if kind is PacketType.PUBLISH:
        return _publish(version, first_byte & 0x0F, reader, size)
    if first_byte & 0x0F != _RESERVED.get(kind, 0):
        raise reader.fail(f"has the flags {first_byte & 0x0F:04b} in its fixed header")
    answer = _other(version, kind, reader, size)
    reader.end()
    return answer


def _other(version: Version, kind: PacketType, reader: Reader, size: int) -> AnyAnswer:
    if kind is PacketType.CONNACK:
        return _connack(version, reader, size)
    if kind in _ACKNOWLEDGEMENTS:
        packet_id = reader.packet_id()
        code, properties = _reason(version, kind, reader)
        return _ACKNOWLEDGEMENTS[kind](packet_id=packet_id, code=code, properties=properties, size=size)
    if kind is PacketType.SUBACK:
        return _suback(version, reader, size)
    if kind is PacketType.UNSUBACK:
        return _unsuback(version, reader, size)
    if kind is PacketType.PINGRESP:
        return Pingresp(size=size)
    if version is Version.V5 and kind is PacketType.DISCONNECT:
        code, properties = _reason(version, kind, reader)
        return Disconnect(code=code, properties=properties, size=size)
    if version is Version.V5 and kind is PacketType.AUTH:
        code, properties = _reason(version, kind, reader)
        return Auth(code=code, properties=properties, size=size)
    raise ViolationError(f"the server sent {kind.name}, which a server may not send in MQTT {version}")


def _publish(version: Version, flags: int, reader: Reader, size: int) -> Publish:
    qos = flags >> 1 & 3
    dup = bool(flags & 8)
    if qos == 3:
        raise reader.fail("has QoS 3")
    if qos == 0 and dup:
        raise reader.fail("has DUP 1 with QoS 0")
    topic = reader.string("topic name")
    if set(topic) & set("+#"):
        raise reader.fail(f"has a wildcard in its topic name {topic!r}")
    packet_id = reader.packet_id() if qos else None
    properties = reader.properties(PacketType.PUBLISH) if version is Version.V5 else ()
    if not topic and Property.TOPIC_ALIAS not in {name for name, _ in properties}:
        raise reader.fail("has an empty topic name and no topic alias")
    response_topic = next((value for name, value in properties if name is Property.RESPONSE_TOPIC), "")
    if isinstance(response_topic, str) and set(response_topic) & set("+#"):
        raise reader.fail(f"has a wildcard in its response topic {response_topic!r}")
    return Publish(
        topic=topic,
        payload=reader.rest(),
        qos=qos,
        retain=bool(flags & 1),
        dup=dup,
        packet_id=packet_id,
        properties=properties,
        size=size,
    )


def _connack(version: Version, reader: Reader, size: int) -> Connack:
    flags = reader.u8("acknowledge flags")
    if flags & 0xFE or (flags and version is Version.V3_1):
        raise reader.fail(f"has the acknowledge flags {flags:08b}")
    code = reader.u8("code")
    if code not in (REASON_CODES[PacketType.CONNACK] if version is Version.V5 else _OLD_CONNACK_CODES):
        raise reader.fail(f"has the code 0x{code:02x}")
    if code and flags:
        raise reader.fail("refuses and says that a session is present")
    properties = reader.properties(PacketType.CONNACK) if version is Version.V5 else ()
    return Connack(session_present=bool(flags), code=code, properties=properties, size=size)


def _reason(
    version: Version, kind: PacketType, reader: Reader
) -> tuple[int, tuple[tuple[Property, PropertyValue], ...]]:
    """The reason code and properties that end a packet of version 5; each may be left out where it says nothing."""
    if version < Version.V5:
        return 0, ()
    code = reader.u8("reason code") if reader.left else 0
    if code not in REASON_CODES[kind]:
        raise reader.fail(f"has the reason code 0x{code:02x}")
    return code, reader.properties(kind) if reader.left else ()


def _codes(kind: PacketType, reader: Reader, allowed: frozenset[int]) -> tuple[int, ...]:
    codes = tuple(reader.rest())
    wrong = [f"0x{code:02x}" for code in codes if code not in allowed]
    if wrong or not codes:
        raise reader.fail(f"has the codes {', '.join(wrong)}" if wrong else "has no code")
    return codes


def _suback(version: Version, reader: Reader, size: int) -> Suback:
    packet_id = reader.packet_id()
    if version < Version.V5:
        codes = _codes(PacketType.SUBACK, reader, _OLD_SUBACK_CODES)
        return Suback(packet_id=packet_id, codes=codes, size=size)
    properties = reader.properties(PacketType.SUBACK)
    codes = _codes(PacketType.SUBACK, reader, REASON_CODES[PacketType.SUBACK])
    return Suback(packet_id=packet_id, codes=codes, properties=properties, size=size)


def _unsuback(version: Version, reader: Reader, size: int) -> Unsuback:
    packet_id = reader.packet_id()
    if version < Version.V5:
        return Unsuback(packet_id=packet_id, codes=(), size=size)
    properties = reader.properties(PacketType.UNSUBACK)
    codes = _codes(PacketType.UNSUBACK, reader, REASON_CODES[PacketType.UNSUBACK])
    return Unsuback(packet_id=packet_id, codes=codes, properties=properties, size=size)
