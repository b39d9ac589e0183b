"""The types of the values: what texts a key accepts and what they mean.

A type is written in the key table as `flag`, `integer(1..65535)`, `enum(fifo,lifo)`; alternatives are joined by `|`:
`integer(1..)|infinity`. `type_named` turns that into an object with `read(text) -> Reading`.

What values are in Python: flags are `bool`; integers, byte sizes (bytes), percent, spans (seconds) and durations
(milliseconds) are `int`; enums, strings, files and directories are `str`; lists are tuples. The words that mean "no
limit" or "never" (`infinity`, `never`, `client`, `unlimited`, `off` beside a number) are `None`.
"""

import dataclasses
import enum
import functools
import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

from strogoff.config.addresses import Address, UnixSocket, read_address
from strogoff.config.quantities import bytes_of, duration_ms_of, span_seconds_of
from strogoff.config.socket_options import SocketOptions, read_socket_options

__all__ = ["INHERIT", "Inherit", "NotOfTypeError", "Reading", "Value", "ValueType", "type_named"]

INTEGER_MAX = 2**63 - 1
TEXT_SHOWN_MAX = 60


class Inherit(enum.Enum):
    """The value that means "as the level above": `-1` where the type says so."""

    INHERIT = "inherit"


INHERIT = Inherit.INHERIT

Value: TypeAlias = (
    bool | int | str | tuple[int, ...] | tuple[str, ...] | Address | UnixSocket | SocketOptions | Inherit | None
)


class NotOfTypeError(ValueError):
    """A text that the type does not accept. The message tells what was expected and what came; `detail` more, or ""."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(f"{message} ({detail})" if detail else message)
        self.detail = detail


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """A value and, where the text means something that its author may not have meant, a sentence about it."""

    value: Value
    remark: str | None = None


class ValueType(Protocol):
    """What a key accepts."""

    @property
    def expected(self) -> str:
        """What is accepted, to be read after "expected"."""

    def read(self, text: str) -> Reading:
        """The value of a text. Raises `NotOfTypeError`."""


def _refuse(expected: str, text: str, detail: str = "") -> NotOfTypeError:
    shown = text if len(text) <= TEXT_SHOWN_MAX else text[:TEXT_SHOWN_MAX] + "..."
    return NotOfTypeError(f"expected {expected}, not {shown!r}", detail)


def _remark_on_cap(text: str, high: int) -> str:
    return f"{text} is more than can be used; {high} is in force"


FLAG_WORDS = {
    **dict.fromkeys(("on", "true", "yes", "1"), True),
    **dict.fromkeys(("off", "false", "no", "0"), False),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """On or off, in the words that people use for it, in any case."""

    expected: str = "on or off"

    def read(self, text: str) -> Reading:
        """A `bool`."""
        value = FLAG_WORDS.get(text.lower())
        if value is None:
            raise _refuse(self.expected, text)
        return Reading(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Integer:
    """A whole number in a range. A number above the end of a `capped` range means that end."""

    low: int = -INTEGER_MAX
    high: int = INTEGER_MAX
    capped: bool = False

    @property
    def expected(self) -> str:
        """Names the ends of the range that somebody set."""
        if self.low == -INTEGER_MAX:
            return "a whole number"
        if self.high == INTEGER_MAX:
            return f"a whole number of at least {self.low}"
        return f"a whole number from {self.low} to {self.high}"

    def read(self, text: str) -> Reading:
        """An `int`."""
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            raise _refuse(self.expected, text)
        number = int(text)
        if self.capped and number > self.high:
            return Reading(self.high, _remark_on_cap(text, self.high))
        if not self.low <= number <= self.high:
            raise _refuse(self.expected, text)
        return Reading(number)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of some words, in any case; the value is the word as it is spelt here."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        """Lists the words."""
        return self.words[0] if len(self.words) == 1 else ", ".join(self.words[:-1]) + f" or {self.words[-1]}"

    def read(self, text: str) -> Reading:
        """A `str`."""
        for word in self.words:
            if word.lower() == text.lower():
                return Reading(word)
        raise _refuse(self.expected, text)


@dataclasses.dataclass(frozen=True, slots=True)
class Word:
    """One word beside another type, with the value that it stands for."""

    expected: str
    value: Value

    def read(self, text: str) -> Reading:
        """The word's value."""
        if text.lower() != self.expected:
            raise _refuse(self.expected, text)
        return Reading(self.value)


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """Any text that passes a pattern; without one, any text."""

    expected: str = "a text"
    pattern: str | None = None

    def read(self, text: str) -> Reading:
        """A `str`."""
        if "\0" in text or (self.pattern is not None and not re.fullmatch(self.pattern, text)):
            raise _refuse(self.expected, text)
        return Reading(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Quantity:
    """A number with a unit, read by a function that raises `ValueError`; `capped` as for `Integer`."""

    expected: str
    convert: Callable[[str], int]
    low: int = 0
    high: int = INTEGER_MAX
    capped: bool = False
    remarks: Callable[[str], str | None] | None = None

    def read(self, text: str) -> Reading:
        """An `int` in the unit of the key."""
        try:
            number = self.convert(text)
        except ValueError as error:
            raise _refuse(self.expected, text, str(error)) from None
        if self.capped and number > self.high:
            return Reading(self.high, _remark_on_cap(text, self.high))
        if not self.low <= number <= self.high:
            raise _refuse(self.expected, text)
        return Reading(number, self.remarks(text) if self.remarks else None)


@dataclasses.dataclass(frozen=True, slots=True)
class ListOf:
    """`a,b,c` or `[a,b,c]`, blanks allowed, each item of one type, the items all different unless `count` is given."""

    item: ValueType
    count: int | None = None

    @property
    def expected(self) -> str:
        """Names the items."""
        number = "" if self.count is None else f"{self.count} "
        return f"a list of {number}items joined by commas, each {self.item.expected}"

    def read(self, text: str) -> Reading:
        """A tuple."""
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        parts = [part.strip() for part in inner.split(",")] if inner.strip() else []
        values = [self._read_item(part, text) for part in parts]
        if self.count is not None and len(values) != self.count:
            raise _refuse(self.expected, text)
        if self.count is None:
            values = list(dict.fromkeys(values))
        numbers = tuple(value for value in values if isinstance(value, int))
        words = tuple(value for value in values if isinstance(value, str))
        return Reading(numbers or words)

    def _read_item(self, part: str, text: str) -> Value:
        try:
            return self.item.read(part).value
        except NotOfTypeError:
            raise _refuse(self.expected, text) from None


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to bind to; Unix sockets only where `unix` says so."""

    unix: bool = False

    @property
    def expected(self) -> str:
        """Shows how addresses are written."""
        socket = ", local:PATH:0" if self.unix else ""
        return f"an address such as 127.0.0.1:1883, [::1]:1883, HOST:1883, 1883{socket}"

    def read(self, text: str) -> Reading:
        """An `Address` or a `UnixSocket`."""
        try:
            address = read_address(text)
        except ValueError as error:
            raise _refuse(self.expected, text, str(error)) from None
        if isinstance(address, UnixSocket) and not self.unix:
            raise _refuse(self.expected, text)
        return Reading(address)


@dataclasses.dataclass(frozen=True, slots=True)
class SocketOptionList:
    """Options of listening sockets."""

    expected: str = "options of sockets such as [{nodelay, true}, {backlog, 1024}]"

    def read(self, text: str) -> Reading:
        """`SocketOptions`."""
        try:
            return Reading(read_socket_options(text))
        except ValueError as error:
            raise _refuse(self.expected, text, str(error)) from None


@dataclasses.dataclass(frozen=True, slots=True)
class AnyOf:
    """Several types; the first that accepts a text reads it."""

    types: tuple[ValueType, ...]

    @property
    def expected(self) -> str:
        """All of them."""
        return " or ".join(part.expected for part in self.types)

    def read(self, text: str) -> Reading:
        """The value of the first type that accepts the text."""
        detail = ""
        for part in self.types:
            try:
                return part.read(text)
            except NotOfTypeError as error:
                detail = detail or error.detail
        raise _refuse(self.expected, text, detail)


WORDS: dict[str, Value] = {
    "infinity": None,
    "never": None,
    "client": None,
    "unlimited": None,
    "off": None,
    "auto": "auto",
}


def _percent_of(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,3})\s*%?", text)
    if not match:
        raise ValueError
    return int(match[1])


def _months_remark(text: str) -> str | None:
    if text.endswith("m"):
        return f"{text!r} means months of 28 days, as in VerneMQ; write min for minutes, or the days (28d)"
    if text.endswith("y"):
        return f"{text!r} means years of 336 days, as in VerneMQ; write the days (365d) if you mean more"
    return None


def _integer(arguments: str) -> ValueType:
    if not arguments:
        return Integer()
    limits, _, word = arguments.partition(" ")
    low, _, high = limits.partition("..")
    return Integer(int(low), int(high) if high else INTEGER_MAX, capped=word == "capped")


def _bytes(arguments: str) -> ValueType:
    if not arguments:
        return Quantity("a size such as 512, 64KB or 256MB", bytes_of)
    limits, _, word = arguments.partition(" ")
    low, _, high = limits.partition("..")
    span = f"from {low} to {high} bytes" if high else f"of at least {low} bytes"
    expected = f"a size {span}, in bytes or with a unit such as KB or MB"
    return Quantity(expected, bytes_of, int(low), int(high) if high else INTEGER_MAX, capped=word == "capped")


def _sizes(arguments: str) -> ValueType:
    return ListOf(_bytes(""), count=int(arguments.removeprefix("*")))


def _span(_arguments: str) -> ValueType:
    return Quantity("a time such as 90s, 30min, 1h30min, 2d or 1w", span_seconds_of, remarks=_months_remark)


def _words(arguments: str) -> ValueType:
    item: ValueType = Choice(tuple(arguments.split(","))) if arguments else Text("a word", r"[^,\[\]\s]+")
    return ListOf(item)


def _integers(arguments: str) -> ValueType:
    if arguments.startswith("*"):
        return ListOf(Integer(0), count=int(arguments[1:]))
    return ListOf(_Allowed(tuple(int(number) for number in arguments.split(","))))


@dataclasses.dataclass(frozen=True, slots=True)
class _Allowed:
    """One of some numbers."""

    numbers: tuple[int, ...]

    @property
    def expected(self) -> str:
        """Lists the numbers."""
        return "one of " + ", ".join(str(number) for number in self.numbers)

    def read(self, text: str) -> Reading:
        """An `int`."""
        reading = Integer().read(text)
        if reading.value not in self.numbers:
            raise _refuse(self.expected, text)
        return reading


_BUILDERS: dict[str, Callable[[str], ValueType]] = {
    "flag": lambda _: Flag(),
    "integer": _integer,
    "enum": lambda arguments: Choice(tuple(arguments.split(","))),
    "string": lambda arguments: Text("one character", ".") if arguments else Text(),
    "secret": lambda _: Text(),
    "file": lambda _: Text("the path of a file"),
    "directory": lambda _: Text("the path of a directory"),
    "nodename": lambda _: Text("a node name written NAME@HOST", r"[^@\s/#+]{1,64}@[^@\s/#+]{1,255}"),
    "address": lambda _: Endpoint(),
    "listening": lambda _: Endpoint(unix=True),
    "bytesize": _bytes,
    "bytesizes": _sizes,
    "socketoptions": lambda _: SocketOptionList(),
    "span": _span,
    "duration": lambda _: Quantity("a duration such as 1h30m or 500ms", duration_ms_of),
    "percent": lambda _: Quantity("a percentage from 0% to 100%", _percent_of, 0, 100),
    "integers": _integers,
    "words": _words,
    "inherit": lambda _: Word("-1", INHERIT),
}


@functools.cache
def type_named(specification: str) -> ValueType:
    """The type that a text of the key table describes. Raises `ValueError` for one that nobody knows."""
    parts = tuple(_part_named(part) for part in specification.split("|"))
    return parts[0] if len(parts) == 1 else AnyOf(parts)


def _part_named(specification: str) -> ValueType:
    match = re.fullmatch(r"([a-z]+)(?:\((.+)\))?", specification)
    if not match:
        raise ValueError(f"{specification!r} is not a type")
    name, arguments = match[1], match[2] or ""
    if name in _BUILDERS:
        return _BUILDERS[name](arguments)
    if name in WORDS:
        return Word(name, WORDS[name])
    raise ValueError(f"{specification!r} is not a type")
