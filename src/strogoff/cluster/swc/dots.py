"""Actors and dots: who wrote, and the name of one write.

A dot is an integer, `counter << 16 | actor`, where the actor is an index into the replica's own table: integers are
small, hash fast and need no allocation of their own in a row's head. Indices never leave a replica without the table
they refer to.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "ACTORS_MAX",
    "ACTOR_MASK",
    "COUNTER_MAX",
    "COUNTER_SHIFT",
    "NAME_BYTES_MAX",
    "Actor",
    "ActorTable",
    "TooManyActorsError",
]

COUNTER_SHIFT: Final = 16
ACTOR_MASK: Final = (1 << COUNTER_SHIFT) - 1
ACTORS_MAX: Final = 1 << COUNTER_SHIFT
"""Actors that one data directory may ever hear of. A node that loses its disk once an hour needs seven years for
them."""
COUNTER_MAX: Final = (1 << 47) - 1
NAME_BYTES_MAX: Final = 255


class Actor(NamedTuple):
    """A node and one life of its data directory. The incarnation is minted by the caller, from 64 random bits."""

    name: str
    incarnation: int

    def __str__(self) -> str:
        return f"{self.name}#{self.incarnation:x}"


class TooManyActorsError(Exception):
    """More actors than indices: somebody invents actors."""


class ActorTable:
    """The actors a replica has heard of, in the order in which it did. An index is never given to another actor."""

    __slots__ = ("_actors", "_indices")

    def __init__(self, actors: tuple[Actor, ...] = ()) -> None:
        self._actors = list(actors)
        self._indices = {actor: index for index, actor in enumerate(actors)}

    def __len__(self) -> int:
        return len(self._actors)

    def __getitem__(self, index: int) -> Actor:
        return self._actors[index]

    def __iter__(self) -> Iterator[Actor]:
        return iter(self._actors)

    def find(self, actor: Actor) -> int | None:
        """The index of an actor that is known."""
        return self._indices.get(actor)

    def intern(self, actor: Actor) -> int:
        """The index of an actor, which is known from now on. Raises `TooManyActorsError`."""
        index = self._indices.get(actor)
        if index is None:
            index = len(self._actors)
            if index >= ACTORS_MAX:
                raise TooManyActorsError(f"{actor} is one actor more than the {ACTORS_MAX} that can be told apart")
            self._actors.append(actor)
            self._indices[actor] = index
        return index
