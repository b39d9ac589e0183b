"""What of a replica lies in the store, below one prefix.

    a                  who I am, which generation of objects is valid, the table of actors, and those that left for good
    c                  the node clock
    f                  the floors
    o GENERATION KEY   an object: its row, with this replica's indices of actors

A generation is one byte. A complete copy of a peer is written under a new one, and becomes valid with the row `a`
that names it; rows of any other generation are left-overs, to be erased. The dot-key map is rebuilt from the objects,
the watermark is heard again.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from strogoff.cluster.swc.clock import Entry, NodeClock
from strogoff.cluster.swc.container import DamagedRowError, dots_of
from strogoff.cluster.swc.dots import ACTOR_MASK, Actor, ActorTable
from strogoff.cluster.swc.state import State
from strogoff.cluster.swc.wire import DecodeError, Reader, actors_bytes, entries_bytes

__all__ = [
    "GENERATIONS",
    "DamagedStoreError",
    "Loaded",
    "actors_row",
    "clock_row",
    "floors_row",
    "load",
    "object_prefix",
]

GENERATIONS: Final = 256

_VERSION: Final = 1
_SELF: Final = struct.Struct("<BHB")


class DamagedStoreError(Exception):
    """The store holds something that no replica has written. The message names the key."""


@dataclass(slots=True)
class Loaded:
    """A replica as it lay in the store. `own`: the index of the actor it was. `left_over`: keys to be erased."""

    actors: ActorTable
    own: int
    generation: int
    state: State
    left_over: list[bytes] = field(default_factory=list)


def object_prefix(prefix: bytes, generation: int) -> bytes:
    """What the keys of a generation's objects begin with."""
    return prefix + b"o" + bytes((generation,))


def actors_row(own: int, generation: int, actors: Iterable[Actor], past: Mapping[int, Entry]) -> bytes:
    """The row `a`."""
    return _SELF.pack(_VERSION, own, generation) + actors_bytes(enumerate(actors)) + entries_bytes(past)


def clock_row(clock: NodeClock) -> bytes:
    """The row `c`."""
    return entries_bytes(clock.live())


def floors_row(floors: Mapping[int, Entry]) -> bytes:
    """The row `f`."""
    return entries_bytes(floors)


def load(prefix: bytes, rows: Iterable[tuple[bytes, bytes]]) -> Loaded | None:
    """The replica that these rows make, in the order of their keys; None for none at all.

    Raises `DamagedStoreError`.
    """
    loading = _Loading(len(prefix))
    for key, row in rows:
        try:
            loading.add(key, row)
        except (DecodeError, DamagedRowError, struct.error, IndexError) as error:
            raise DamagedStoreError(
                f"the row {key!r} of the cluster's metadata cannot be read ({error}): restore the store from a backup, "
                "or wipe the data directory and let the node join again"
            ) from error
    if loading.table:
        state = State(loading.objects, loading.clock, loading.floors)
        actors = ActorTable(tuple(loading.table.values()))
        return Loaded(actors, loading.own, loading.generation, state, loading.left_over)
    if loading.objects or loading.left_over:
        raise DamagedStoreError(f"the row {prefix + b'a'!r} of the cluster's metadata is missing, and others are there")
    return None


@dataclass(slots=True)
class _Loading:
    """Takes one row after the other. `size`: of the prefix."""

    size: int
    own: int = 0
    generation: int = -1
    table: dict[int, Actor] = field(default_factory=dict)
    clock: NodeClock = field(default_factory=NodeClock)
    floors: dict[int, Entry] = field(default_factory=dict)
    objects: dict[bytes, bytes] = field(default_factory=dict)
    left_over: list[bytes] = field(default_factory=list)

    def add(self, key: bytes, row: bytes) -> None:
        """A row. Whose table of actors is missing fails at the first that mentions one."""
        match key[self.size : self.size + 1]:
            case b"o":
                self._object(key, row)
            case b"a":
                self._identity(row)
            case b"c":
                for actor, entry in Reader(row).entries(self.table)[0].items():
                    self.clock.set(actor, entry)
            case b"f":
                self.floors = Reader(row).entries(self.table)[0]
            case _:
                raise DecodeError("a row of an unknown kind")

    def _object(self, key: bytes, row: bytes) -> None:
        if key[self.size + 1] != self.generation:
            self.left_over.append(key)
            return
        if any(dot & ACTOR_MASK not in self.table for dot in dots_of(row)):
            raise DecodeError("a dot of nobody")
        self.objects[key[self.size + 2 :]] = row

    def _identity(self, row: bytes) -> None:
        reader = Reader(row)
        version, self.own, self.generation = reader.take(_SELF)
        self.table = reader.actors()
        self.clock.past = reader.entries(self.table)[0]
        if version != _VERSION or list(self.table) != list(range(len(self.table))) or self.own not in self.table:
            raise DecodeError("no table of actors, or one of another version")
