"""What a replica is made of: the parts that its own writes, its exchanges and its collection all work on."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from strogoff.cluster.swc.clock import Entry
from strogoff.cluster.swc.dots import Actor, ActorTable
from strogoff.cluster.swc.giving import Giver
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.pending import Pending
from strogoff.cluster.swc.sorted_keys import SortedKeys
from strogoff.cluster.swc.state import Edit, State
from strogoff.cluster.swc.watermark import Watermark
from strogoff.cluster.swc.wire import entries_bytes

__all__ = ["Condition", "Parts"]


class Condition(enum.Enum):
    """Whether a replica may write."""

    SOUND = "sound"
    LOST_HISTORY = "lost history"
    """A peer knows more of this replica's actor, or of what it has seen, than the replica does. It must retire that
    actor before it writes again."""


@dataclass(slots=True)
class Parts:
    """The parts. `own`: the index of this replica's actor. The flags say which rows of the store have to be written."""

    actors: ActorTable
    own: int
    members: set[int]
    generation: int
    state: State
    pending: Pending
    giver: Giver
    limits: Limits
    watermark: Watermark = field(default_factory=Watermark)
    order: SortedKeys = field(default_factory=SortedKeys)
    condition: Condition = Condition.SOUND
    identity_changed: bool = False
    clock_changed: bool = False
    floors_changed: bool = False
    digest: int | None = None

    def edited(self, edits: Sequence[Edit], *, local: bool = False) -> None:
        """Objects have changed: tell the store, the watchers, and those who page through the keys."""
        add = self.order.add
        for key, old, _ in edits:
            if old is None:
                add(key)
        self.pending.edited(edits, local=local)

    def others(self) -> list[int]:
        """The members but this replica."""
        return sorted(self.members - {self.own})

    def intern(self, actors: Iterable[tuple[int, Actor]]) -> dict[int, int]:
        """A peer's index -> this replica's, for all of a peer's table. Raises `TooManyActorsError`."""
        before = len(self.actors)
        indices = {theirs: self.actors.intern(actor) for theirs, actor in actors}
        if len(self.actors) != before:
            self.identity_changed = True
        return indices

    def find(self, actors: Iterable[tuple[int, Actor]]) -> dict[int, int]:
        """The same for the actors that are known; the others are left out."""
        found = {}
        for theirs, actor in actors:
            index = self.actors.find(actor)
            if index is not None:
                found[theirs] = index
        return found

    def retired(self) -> list[int]:
        """Actors in the clock that are no members, and of which it has not been agreed that all is known."""
        return [actor for actor in self.state.clock.bases if actor not in self.members]

    def past_digest(self) -> int:
        """Equal on replicas that know the same of the actors that left for good."""
        if self.digest is None:
            past = self.state.clock.past
            ordered = sorted((self.actors[index], entry) for index, entry in past.items())
            content = b"".join(
                [
                    actor.name.encode() + actor.incarnation.to_bytes(8, "little") + _entry_bytes(entry)
                    for actor, entry in ordered
                ]
            )
            self.digest = int.from_bytes(blake2b(content, digest_size=8).digest(), "little")
        return self.digest

    def settle(self, actor: int) -> list[Edit]:
        """An actor left for good, and every member has all that it wrote."""
        edits = self.state.settle(actor)
        self.watermark.settle(actor)
        self.past_changed()
        self.clock_changed = self.floors_changed = True
        return edits

    def past_changed(self) -> None:
        """Other actors than before have left for good."""
        self.digest = None
        self.identity_changed = True


def _entry_bytes(entry: Entry) -> bytes:
    return entries_bytes({0: entry})
