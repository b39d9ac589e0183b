"""The node clock: which dots a replica has seen, in a size that follows the number of actors (DottedDB §3.2).

An *entry* is `(base, bits)`: all of 1…base are seen, and bit k says that base + 1 + k is. Entries are normalised: bit
0 is clear.

Actors that left for good stand apart, in `past`: every member has what they wrote, so their entries are constant,
take no part in exchanges, and are kept only to tell their old dots from ones never heard of.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_SHIFT

__all__ = ["NOTHING", "Entry", "NodeClock", "covers", "has", "high", "lacking", "normalised", "union"]

Entry: TypeAlias = tuple[int, int]
NOTHING: Final[Entry] = (0, 0)


def normalised(base: int, bits: int) -> Entry:
    """The entry with the run of ones at the bottom of the bits taken into the base."""
    if bits & 1:
        run = (~bits & (bits + 1)).bit_length() - 1
        return base + run, bits >> run
    return base, bits


def has(entry: Entry, counter: int) -> bool:
    """Whether a counter is in an entry."""
    base, bits = entry
    return counter <= base or bool(bits >> (counter - base - 1) & 1)


def high(entry: Entry) -> int:
    """The highest counter in an entry."""
    return entry[0] + entry[1].bit_length()


def union(one: Entry, other: Entry) -> Entry:
    """What is in one of two entries."""
    if one[0] < other[0]:
        one, other = other, one
    base, bits = one
    return normalised(base, bits | other[1] >> (base - other[0]))


def covers(one: Entry, other: Entry) -> bool:
    """Whether all of the other entry is in the first."""
    return union(one, other) == one


def lacking(held: Entry, wanted: Entry) -> Iterator[int]:
    """The counters that are in the first entry and not in the second. What they share costs nothing."""
    for counter in range(wanted[0] + 1, high(held) + 1):
        if has(held, counter) and not has(wanted, counter):
            yield counter


class NodeClock:
    """All entries of a replica, by index of the actor. `bits` holds only those that are not zero."""

    __slots__ = ("bases", "bits", "past")

    def __init__(
        self,
        bases: dict[int, int] | None = None,
        bits: dict[int, int] | None = None,
        past: dict[int, Entry] | None = None,
    ) -> None:
        self.bases: dict[int, int] = {} if bases is None else bases
        self.bits: dict[int, int] = {} if bits is None else bits
        self.past: dict[int, Entry] = {} if past is None else past

    def copy(self) -> "NodeClock":
        """A clock that does not change with this one."""
        return NodeClock(dict(self.bases), dict(self.bits), dict(self.past))

    def seen(self, dot: int) -> bool:
        """Whether the dot is seen: its version is here, or superseded."""
        actor = dot & ACTOR_MASK
        counter = dot >> COUNTER_SHIFT
        base = self.bases.get(actor)
        if base is None:
            return actor in self.past and has(self.past[actor], counter)
        return counter <= base or bool(self.bits.get(actor, 0) >> (counter - base - 1) & 1)

    def entry(self, actor: int) -> Entry:
        """What is seen of an actor, whether it left or not."""
        base = self.bases.get(actor)
        if base is None:
            return self.past.get(actor, NOTHING)
        return base, self.bits.get(actor, 0)

    def live(self) -> dict[int, Entry]:
        """The entries that take part in exchanges."""
        bits = self.bits
        return {actor: (base, bits.get(actor, 0)) for actor, base in self.bases.items()}

    def set(self, actor: int, entry: Entry) -> None:
        """Replace the entry of an actor; one that had left is back."""
        self.past.pop(actor, None)
        self.bases[actor] = entry[0]
        if entry[1]:
            self.bits[actor] = entry[1]
        else:
            self.bits.pop(actor, None)

    def add(self, dot: int) -> None:
        """See one dot."""
        actor = dot & ACTOR_MASK
        base, bits = self.entry(actor)
        counter = dot >> COUNTER_SHIFT
        if counter > base:
            self.set(actor, normalised(base, bits | 1 << (counter - base - 1)))

    def merge(self, entries: Mapping[int, Entry]) -> None:
        """See all of these. An actor in `past` comes back only for dots that are new (see `State.reopen_for`)."""
        for actor, entry in entries.items():
            old = self.entry(actor)
            if entry != old and (merged := union(old, entry)) != old:
                self.set(actor, merged)

    def settle(self, actor: int) -> None:
        """Put an actor among those that left for good."""
        entry = self.entry(actor)
        self.bases.pop(actor, None)
        self.bits.pop(actor, None)
        if entry != NOTHING:
            self.past[actor] = entry
