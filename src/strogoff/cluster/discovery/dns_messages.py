"""Questions for the addresses of a name, and their answers, as bytes of DNS (RFC 1035). Pure."""

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["AAAA", "NO_SUCH_NAME", "OK", "A", "Answer", "BadMessageError", "answer_of", "question"]

A: Final = 1
AAAA: Final = 28
OK: Final = 0
NO_SUCH_NAME: Final = 3

_INTERNET: Final = 1
_IS_ANSWER: Final = 0x8000
_IS_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_HEADER: Final = struct.Struct(">HHHHHH")
_LABEL_MAX: Final = 63
_NAME_MAX: Final = 253
_POINTER: Final = 0xC0
_WIDTHS: Final = {A: 4, AAAA: 16}


class BadMessageError(ValueError):
    """Bytes that are no answer to the question, or a name that is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`code`: of the response, 0 for success. `addresses`: of the kind that was asked for, as people write them."""

    code: int
    is_truncated: bool
    addresses: Sequence[str]


def question(identifier: int, name: str, kind: int) -> bytes:
    """Ask for the addresses of a name. Raises `BadMessageError` for a name that is none."""
    return _HEADER.pack(identifier, _RECURSION_DESIRED, 1, 0, 0, 0) + _question(name, kind)


def _question(name: str, kind: int) -> bytes:
    try:
        labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    except UnicodeEncodeError:
        raise BadMessageError(f"{name!r} is no name of DNS") from None
    if len(name.rstrip(".")) > _NAME_MAX or not all(0 < len(label) <= _LABEL_MAX for label in labels):
        raise BadMessageError(f"{name!r} is no name of DNS")
    return b"".join(bytes([len(label)]) + label for label in labels) + struct.pack(">BHH", 0, kind, _INTERNET)


def answer_of(message: bytes, asked: bytes) -> Answer:
    """What a message says to the question `asked`. Raises `BadMessageError` if it is no answer to that."""
    try:
        identifier, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    except struct.error:
        raise BadMessageError("it is too short") from None
    if not flags & _IS_ANSWER or message[:2] != asked[:2] or questions != 1:
        raise BadMessageError(f"it answers another question ({identifier})")
    body = asked[_HEADER.size :]
    end = _HEADER.size + len(body)
    if message[_HEADER.size : end].lower() != body.lower():
        raise BadMessageError("it answers another question")
    kind = int.from_bytes(body[-4:-2], "big")
    return Answer(flags & 0x000F, bool(flags & _IS_TRUNCATED), _addresses(message, end, answers, kind))


def _addresses(message: bytes, at: int, count: int, kind: int) -> list[str]:
    """Those of all records, whatever name they belong to: aliases lead from the one that was asked to theirs."""
    found = []
    for _ in range(count):
        at = _behind_name(message, at)
        try:
            kind_here, _, _, width = struct.unpack_from(">HHIH", message, at)
        except struct.error:
            raise BadMessageError("it ends in a record") from None
        at += 10
        value = message[at : at + width]
        at += width
        if len(value) < width:
            raise BadMessageError("it ends in a record")
        if kind_here == kind and width == _WIDTHS[kind]:
            found.append(str(ipaddress.ip_address(value)))
    return found


def _behind_name(message: bytes, at: int) -> int:
    while True:
        if at >= len(message):
            raise BadMessageError("it ends in a name")
        length = message[at]
        if length & _POINTER == _POINTER:
            return at + 2
        if length > _LABEL_MAX:
            raise BadMessageError("it has a name that cannot be read")
        at += 1 + length
        if length == 0:
            return at
