"""The bytes of MQTT: data representations, packet types and the property table, written from the two specifications.

Writers take whatever they are given, since tests must be able to send what is wrong. `Reader` takes nothing that a
server may not send: it raises `ViolationError`, which fails the test that met it (3.1.1 §1.5 and 2, 5.0 §1.5 and 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias


class ViolationError(AssertionError):
    """The server sent something that the specification forbids."""


class Version(IntEnum):
    """Protocol levels as they stand in CONNECT."""

    V3_1 = 3
    V3_1_1 = 4
    V5 = 5

    def __str__(self) -> str:
        return {3: "3.1", 4: "3.1.1", 5: "5.0"}[self.value]


class PacketType(IntEnum):
    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    PUBREC = 5
    PUBREL = 6
    PUBCOMP = 7
    SUBSCRIBE = 8
    SUBACK = 9
    UNSUBSCRIBE = 10
    UNSUBACK = 11
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14
    AUTH = 15


class Property(IntEnum):
    """Property identifiers (5.0 §2.2.2.2)."""

    PAYLOAD_FORMAT_INDICATOR = 1
    MESSAGE_EXPIRY_INTERVAL = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    SUBSCRIPTION_IDENTIFIER = 11
    SESSION_EXPIRY_INTERVAL = 17
    ASSIGNED_CLIENT_IDENTIFIER = 18
    SERVER_KEEP_ALIVE = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    REQUEST_PROBLEM_INFORMATION = 23
    WILL_DELAY_INTERVAL = 24
    REQUEST_RESPONSE_INFORMATION = 25
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON_STRING = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER_PROPERTY = 38
    MAXIMUM_PACKET_SIZE = 39
    WILDCARD_SUBSCRIPTION_AVAILABLE = 40
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 41
    SHARED_SUBSCRIPTION_AVAILABLE = 42


PropertyValue: TypeAlias = int | str | bytes | tuple[str, str]
Properties: TypeAlias = Sequence[tuple[Property, PropertyValue]]

_P = Property
_ONE_BYTE = frozenset(
    {
        _P.PAYLOAD_FORMAT_INDICATOR,
        _P.REQUEST_PROBLEM_INFORMATION,
        _P.REQUEST_RESPONSE_INFORMATION,
        _P.MAXIMUM_QOS,
        _P.RETAIN_AVAILABLE,
        _P.WILDCARD_SUBSCRIPTION_AVAILABLE,
        _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        _P.SHARED_SUBSCRIPTION_AVAILABLE,
    }
)
_TWO_BYTES = frozenset({_P.SERVER_KEEP_ALIVE, _P.RECEIVE_MAXIMUM, _P.TOPIC_ALIAS_MAXIMUM, _P.TOPIC_ALIAS})
_FOUR_BYTES = frozenset(
    {_P.MESSAGE_EXPIRY_INTERVAL, _P.SESSION_EXPIRY_INTERVAL, _P.WILL_DELAY_INTERVAL, _P.MAXIMUM_PACKET_SIZE}
)
_BINARY = frozenset({_P.CORRELATION_DATA, _P.AUTHENTICATION_DATA})
_NEVER_ZERO = frozenset({_P.RECEIVE_MAXIMUM, _P.TOPIC_ALIAS, _P.MAXIMUM_PACKET_SIZE, _P.SUBSCRIPTION_IDENTIFIER})

_REASON = frozenset({_P.REASON_STRING, _P.USER_PROPERTY})
SERVER_PROPERTIES: dict[PacketType, frozenset[Property]] = {
    PacketType.CONNACK: _REASON
    | {
        _P.SESSION_EXPIRY_INTERVAL,
        _P.RECEIVE_MAXIMUM,
        _P.MAXIMUM_QOS,
        _P.RETAIN_AVAILABLE,
        _P.MAXIMUM_PACKET_SIZE,
        _P.ASSIGNED_CLIENT_IDENTIFIER,
        _P.TOPIC_ALIAS_MAXIMUM,
        _P.WILDCARD_SUBSCRIPTION_AVAILABLE,
        _P.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        _P.SHARED_SUBSCRIPTION_AVAILABLE,
        _P.SERVER_KEEP_ALIVE,
        _P.RESPONSE_INFORMATION,
        _P.SERVER_REFERENCE,
        _P.AUTHENTICATION_METHOD,
        _P.AUTHENTICATION_DATA,
    },
    PacketType.PUBLISH: frozenset(
        {
            _P.PAYLOAD_FORMAT_INDICATOR,
            _P.MESSAGE_EXPIRY_INTERVAL,
            _P.TOPIC_ALIAS,
            _P.RESPONSE_TOPIC,
            _P.CORRELATION_DATA,
            _P.USER_PROPERTY,
            _P.SUBSCRIPTION_IDENTIFIER,
            _P.CONTENT_TYPE,
        }
    ),
    PacketType.PUBACK: _REASON,
    PacketType.PUBREC: _REASON,
    PacketType.PUBREL: _REASON,
    PacketType.PUBCOMP: _REASON,
    PacketType.SUBACK: _REASON,
    PacketType.UNSUBACK: _REASON,
    # A server never names a session expiry interval here [MQTT-3.14.2-2].
    PacketType.DISCONNECT: _REASON | {_P.SERVER_REFERENCE},
    PacketType.AUTH: _REASON | {_P.AUTHENTICATION_METHOD, _P.AUTHENTICATION_DATA},
}


# -- writing -------------------------------------------------------------------------------------------------------


def u8(value: int) -> bytes:
    return value.to_bytes(1, "big")


def u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def varint(value: int) -> bytes:
    """A variable byte integer in its shortest form (5.0 §1.5.5)."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def binary(value: bytes) -> bytes:
    return u16(len(value)) + value


def string(value: str | bytes) -> bytes:
    """A length-prefixed string; `bytes` go out as they are, so that a string can be ill-formed."""
    return binary(value if isinstance(value, bytes) else value.encode())


def one_property(name: Property, value: PropertyValue) -> bytes:
    """One property: its identifier and its value in the form that the identifier prescribes."""
    head = varint(name)
    if isinstance(value, tuple):
        return head + string(value[0]) + string(value[1])
    if isinstance(value, str | bytes):
        return head + string(value)
    if name in _ONE_BYTE:
        return head + u8(value)
    if name in _TWO_BYTES:
        return head + u16(value)
    if name in _FOUR_BYTES:
        return head + u32(value)
    return head + varint(value)


def property_block(properties: Properties | bytes) -> bytes:
    """The property length and the properties; `bytes` stand for properties that a test wrote itself."""
    body = properties if isinstance(properties, bytes) else b"".join(one_property(*each) for each in properties)
    return varint(len(body)) + body


def packet(first_byte: int, body: bytes = b"") -> bytes:
    """A whole control packet; the remaining length is computed."""
    return u8(first_byte) + varint(len(body)) + body


# -- reading -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reader:
    """Reads fields from the body of one packet from the server; a breach is a `ViolationError` that names `what`."""

    what: str
    data: bytes
    at: int = 0

    def fail(self, why: str) -> ViolationError:
        return ViolationError(f"the server's {self.what} {why}; its body is {self.data.hex(' ') or 'empty'}")

    def take(self, size: int, field: str) -> bytes:
        if self.at + size > len(self.data):
            raise self.fail(f"ends inside its {field}")
        self.at += size
        return self.data[self.at - size : self.at]

    def u8(self, field: str) -> int:
        return self.take(1, field)[0]

    def u16(self, field: str) -> int:
        return int.from_bytes(self.take(2, field), "big")

    def u32(self, field: str) -> int:
        return int.from_bytes(self.take(4, field), "big")

    def packet_id(self) -> int:
        """A packet identifier, which is never 0 (3.1.1 [MQTT-2.3.1-1], 5.0 [MQTT-2.2.1-4])."""
        value = self.u16("packet identifier")
        if value == 0:
            raise self.fail("has packet identifier 0")
        return value

    def varint(self, field: str) -> int:
        """A variable byte integer of at most four bytes, in its shortest form [MQTT-1.5.5-1]."""
        value = 0
        for index in range(4):
            byte = self.u8(field)
            value |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                if byte == 0 and index > 0:
                    raise self.fail(f"encodes its {field} in more bytes than needed")
                return value
        raise self.fail(f"has more than four bytes in its {field}")

    def binary(self, field: str) -> bytes:
        return self.take(self.u16(field), field)

    def string(self, field: str) -> str:
        """A string of well-formed UTF-8 without U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2]."""
        raw = self.binary(field)
        try:
            value = raw.decode()
        except UnicodeDecodeError as error:
            raise self.fail(f"has a {field} that is not UTF-8") from error
        if "\0" in value:
            raise self.fail(f"has a zero character in its {field}")
        return value

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at, "payload")

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def end(self) -> None:
        if self.left:
            raise self.fail(f"has {self.left} bytes after its last field")

    def properties(self, kind: PacketType) -> tuple[tuple[Property, PropertyValue], ...]:
        """A property block of a packet from the server: known, allowed here, well-formed, repeated only if allowed."""
        size = self.varint("property length")
        inner = Reader(self.what, self.take(size, "properties"))
        found: list[tuple[Property, PropertyValue]] = []
        while inner.left:
            found.append(inner._property(kind))
        for name in {each for each, _ in found} - {Property.USER_PROPERTY, Property.SUBSCRIPTION_IDENTIFIER}:
            if sum(each is name for each, _ in found) > 1:
                raise self.fail(f"holds {name.name} more than once")
        return tuple(found)

    def _property(self, kind: PacketType) -> tuple[Property, PropertyValue]:
        number = self.varint("property identifier")
        if number not in set(Property):
            raise self.fail(f"holds the unknown property {number}")
        name = Property(number)
        if name not in SERVER_PROPERTIES.get(kind, frozenset()):
            raise self.fail(f"holds {name.name}, which a server may not put there")
        value = self._value(name)
        if name in _NEVER_ZERO and value == 0:
            raise self.fail(f"has {name.name} 0")
        if name in _ONE_BYTE and value not in (0, 1):
            raise self.fail(f"has {name.name} {value!r}, which is neither 0 nor 1")
        return name, value

    def _value(self, name: Property) -> PropertyValue:
        if name is Property.USER_PROPERTY:
            return self.string("user property name"), self.string("user property value")
        if name in _ONE_BYTE:
            return self.u8(name.name)
        if name in _TWO_BYTES:
            return self.u16(name.name)
        if name in _FOUR_BYTES:
            return self.u32(name.name)
        if name is Property.SUBSCRIPTION_IDENTIFIER:
            return self.varint(name.name)
        if name in _BINARY:
            return self.binary(name.name)
        return self.string(name.name)
