"""How actors, entries and columns look in bytes, in messages and in the store alike; and a reader that trusts nobody.

All numbers are little-endian and of fixed width: decoding them is one call into C, which counts for more here than
the bytes.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import Final

from strogoff.cluster.swc.clock import Entry
from strogoff.cluster.swc.dots import ACTORS_MAX, COUNTER_MAX, Actor
from strogoff.cluster.swc.limits import GAP_MAX

__all__ = ["DecodeError", "Reader", "actors_bytes", "columns_bytes", "counters_bytes", "entries_bytes"]

_COUNT: Final = struct.Struct("<I")
_ACTOR: Final = struct.Struct("<HQB")
_ENTRY: Final = struct.Struct("<HBQH")
_COUNTER: Final = struct.Struct("<HQ")
_MEMBER: Final = struct.Struct("<H")


class DecodeError(ValueError):
    """Bytes that no replica writes."""


def actors_bytes(actors: Iterable[tuple[int, Actor]]) -> bytes:
    """A table of actors: the index and who it is."""
    parts = []
    for index, actor in actors:
        name = actor.name.encode()
        parts.append(_ACTOR.pack(index, actor.incarnation, len(name)) + name)
    return _COUNT.pack(len(parts)) + b"".join(parts)


def entries_bytes(entries: Mapping[int, Entry], flagged: Iterable[int] = ()) -> bytes:
    """Entries of a clock. `flagged`: the actors whose entry carries the flag."""
    parts = [_COUNT.pack(len(entries))]
    flags = frozenset(flagged)
    for actor, (base, bits) in entries.items():
        size = (bits.bit_length() + 7) >> 3
        parts.append(_ENTRY.pack(actor, actor in flags, base, size))
        if size:
            parts.append(bits.to_bytes(size, "little"))
    return b"".join(parts)


def counters_bytes(counters: Mapping[int, int]) -> bytes:
    """A counter for each actor: a version vector."""
    return _COUNT.pack(len(counters)) + b"".join([_COUNTER.pack(*item) for item in counters.items()])


class Reader:
    """Reads what the functions above write. What it makes is never larger than the bytes warrant."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, shape: struct.Struct) -> tuple[int, ...]:
        """The numbers of a structure. Raises `DecodeError`, as all of these do."""
        try:
            numbers = shape.unpack_from(self.data, self.at)
        except struct.error:
            raise DecodeError("bytes end early") from None
        self.at += shape.size
        return numbers

    def bytes(self, size: int) -> bytes:
        """So many bytes."""
        end = self.at + size
        if end > len(self.data):
            raise DecodeError("bytes end early")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def count(self, size_min: int) -> int:
        """A number of things that take at least so many bytes each."""
        (count,) = self.take(_COUNT)
        if count * size_min > len(self.data) - self.at:
            raise DecodeError("a count is larger than what follows")
        return count

    def end(self) -> None:
        """Nothing may follow."""
        if self.at != len(self.data):
            raise DecodeError("something follows the end")

    def actors(self) -> dict[int, Actor]:
        """A table of actors."""
        actors: dict[int, Actor] = {}
        for _ in range(self.count(_ACTOR.size)):
            index, incarnation, size = self.take(_ACTOR)
            try:
                actors[index] = Actor(self.bytes(size).decode(), incarnation)
            except UnicodeDecodeError:
                raise DecodeError("a name is no text") from None
        if len(set(actors.values())) != len(actors):
            raise DecodeError("an actor has two indices")
        return actors

    def entries(self, actors: Mapping[int, Actor]) -> tuple[dict[int, Entry], frozenset[int]]:
        """Entries of actors in the table, and the actors that are flagged."""
        entries: dict[int, Entry] = {}
        flagged: list[int] = []
        for _ in range(self.count(_ENTRY.size)):
            actor, flag, base, size = self.take(_ENTRY)
            bits = int.from_bytes(self.bytes(size), "little")
            if actor not in actors or flag > 1 or bits & 1 or bits.bit_length() > GAP_MAX:
                raise DecodeError("an entry that no clock has")
            if base + bits.bit_length() > COUNTER_MAX:
                raise DecodeError("a counter beyond all counters")
            entries[actor] = (base, bits)
            if flag:
                flagged.append(actor)
        return entries, frozenset(flagged)

    def counters(self, actors: Mapping[int, Actor]) -> dict[int, int]:
        """Counters of actors in the table."""
        counters: dict[int, int] = {}
        for _ in range(self.count(_COUNTER.size)):
            actor, counter = self.take(_COUNTER)
            if actor not in actors or counter > COUNTER_MAX:
                raise DecodeError("a counter that no actor has")
            counters[actor] = counter
        return counters

    def columns(self, actors: Mapping[int, Actor]) -> dict[int, dict[int, int]]:
        """Columns of a watermark: of each member what it is known to have."""
        columns: dict[int, dict[int, int]] = {}
        for _ in range(self.count(2 + _COUNT.size)):
            (member,) = self.take(_MEMBER)
            if member not in actors:
                raise DecodeError("a column of nobody")
            columns[member] = self.counters(actors)
        return columns


def columns_bytes(columns: Mapping[int, Mapping[int, int]]) -> bytes:
    """Columns of a watermark."""
    return _COUNT.pack(len(columns)) + b"".join(
        [_MEMBER.pack(member) + counters_bytes(column) for member, column in columns.items()]
    )


assert ACTORS_MAX <= 1 << 16, "an index takes two bytes"
