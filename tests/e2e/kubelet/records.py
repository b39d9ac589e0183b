"""The names of a cluster: what its DNS knows of services and pods, and how a question is answered, in bytes."""

import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from e2e.kubelet.manifests import Service

DOMAIN = "cluster.local"
TTL_S = 5

A, AAAA, SRV, ANY = 1, 28, 33, 255
_IN = 1
_RESPONSE_AUTHORITATIVE = 0x8400
_RECURSION_DESIRED, _RECURSION_AVAILABLE, _TRUNCATED = 0x0100, 0x0080, 0x0200
_NO_ERROR, _FORMAT_ERROR, SERVER_FAILURE, _NO_SUCH_NAME, _NOT_IMPLEMENTED = 0, 1, 2, 3, 4
_QUESTION_AT = struct.pack("!H", 0xC00C)
UDP_SIZE_MAX = 512


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pod that a service has: its host name, its address, and the numbers of the service's ports there by name."""

    host_name: str
    address: str
    ports: tuple[tuple[str, str, int], ...] = ()
    """Name, protocol, and number."""


@dataclass(slots=True)
class Names:
    """What is known of one name."""

    addresses: list[str] = field(default_factory=list)
    services: list[tuple[int, str]] = field(default_factory=list)
    """Port and target of each SRV record."""


Lookup: TypeAlias = Callable[[str], Names | None]


def names_of(services: Sequence[tuple[Service, str, Sequence[Endpoint]]]) -> dict[str, Names]:
    """All names of services. Each has an address, unless it is headless, and pods, of which the DNS may tell."""
    zone: dict[str, Names] = {}
    for service, address, endpoints in services:
        base = f"{service.name}.{service.namespace}.svc.{DOMAIN}"
        own = zone.setdefault(base, Names())
        if not service.is_headless:
            own.addresses.append(address)
            for port in service.ports:
                _add_port(zone, base, (port.name, port.protocol, port.number), base)
            continue
        for endpoint in endpoints:
            target = f"{endpoint.host_name}.{base}"
            own.addresses.append(endpoint.address)
            zone.setdefault(target, Names()).addresses.append(endpoint.address)
            for port_of_pod in endpoint.ports:
                _add_port(zone, base, port_of_pod, target)
    return zone


def _add_port(zone: dict[str, Names], base: str, port: tuple[str, str, int], target: str) -> None:
    name, protocol, number = port
    zone[base].services.append((number, target))
    if name:
        zone.setdefault(f"_{name}._{protocol.lower()}.{base}", Names()).services.append((number, target))


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody wants to know. `wire`: as it stood in the message."""

    identifier: int
    flags: int
    name: str
    kind: int
    wire: bytes


def read_question(message: bytes) -> Question | None:
    """None for what is no question with an identifier."""
    if len(message) < 12:
        return None
    identifier, flags, questions = struct.unpack_from("!HHH", message)
    if flags & 0x8000 or questions != 1:
        return None
    labels, at = [], 12
    while at < len(message) and message[at]:
        size = message[at]
        if size > 63 or at + 1 + size > len(message):
            return None
        labels.append(message[at + 1 : at + 1 + size].decode("latin-1").lower())
        at += 1 + size
    if at + 5 > len(message):
        return None
    (kind,) = struct.unpack_from("!H", message, at + 1)
    return Question(identifier, flags, ".".join(labels), kind, message[12 : at + 5])


def answer(message: bytes, lookup: Lookup, *, size_max: int) -> bytes | None:
    """The answer to one question; what is no question gets none. What does not fit is left out, and that is said."""
    question = read_question(message)
    if question is None:
        return None
    if question.flags & 0x7800:
        return _message(question, _NOT_IMPLEMENTED, [])
    names = lookup(question.name)
    if names is None:
        return _message(question, _NO_SUCH_NAME, [])
    records: list[bytes] = []
    if question.kind in (A, ANY):
        records += [_record(A, socket.inet_aton(address)) for address in names.addresses]
    if question.kind in (SRV, ANY):
        records += [_record(SRV, struct.pack("!HHH", 0, 100, port) + _name(target)) for port, target in names.services]
    whole = _message(question, _NO_ERROR, records)
    return whole if len(whole) <= size_max else _message(question, _NO_ERROR, [], is_truncated=True)


def failure(message: bytes) -> bytes | None:
    """What a server says that cannot answer now."""
    question = read_question(message)
    return None if question is None else _message(question, SERVER_FAILURE, [])


def _message(question: Question, code: int, records: Sequence[bytes], *, is_truncated: bool = False) -> bytes:
    flags = _RESPONSE_AUTHORITATIVE | _RECURSION_AVAILABLE | (question.flags & _RECURSION_DESIRED) | code
    flags |= _TRUNCATED if is_truncated else 0
    header = struct.pack("!HHHHHH", question.identifier, flags, 1, len(records), 0, 0)
    return header + question.wire + b"".join(records)


def _record(kind: int, data: bytes) -> bytes:
    return _QUESTION_AT + struct.pack("!HHIH", kind, _IN, TTL_S, len(data)) + data


def _name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
