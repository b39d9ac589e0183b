"""What a replica knows: objects, node clock, dot-key map, and up to where it has been collected.

The invariant that everything rests on: **for each dot in the clock, all that its write superseded is in the clock
too, and none of it is among the versions.** So the state is a function of the set of dots seen, two states have a
least upper bound, and each change below takes the state to another one that some order of the same writes could have
led to.

A change is returned as edits `(key, row before, row after)`; the replica makes persistent writes and events of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from strogoff.cluster.swc.clock import NOTHING, Entry, NodeClock, covers, has, high, lacking, union
from strogoff.cluster.swc.container import (
    DELETED,
    HEAD,
    LIVE,
    SEVERAL,
    Versions,
    decoded,
    dots_of,
    encoded,
    sync,
)
from strogoff.cluster.swc.dotkeys import DotKeys
from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_SHIFT
from strogoff.cluster.swc.limits import GAP_MAX
from strogoff.cluster.swc.messages import Item

__all__ = ["Edit", "State"]

Edit: TypeAlias = tuple[bytes, bytes | None, bytes | None]

_STEP: Final = 1 << COUNTER_SHIFT


class State:
    """The state. `floors`: which dots of each actor are collected, since all members have seen them."""

    __slots__ = ("clock", "floors", "keys_of", "objects")

    def __init__(
        self,
        objects: dict[bytes, bytes] | None = None,
        clock: NodeClock | None = None,
        floors: dict[int, Entry] | None = None,
    ) -> None:
        self.objects: dict[bytes, bytes] = {} if objects is None else objects
        self.clock = NodeClock() if clock is None else clock
        self.floors: dict[int, Entry] = {} if floors is None else floors
        self.keys_of = DotKeys()
        for key, row in self.objects.items():
            self._note(key, dots_of(row))

    def _note(self, key: bytes, dots: Iterable[int]) -> None:
        for dot in dots:
            if not self.collected(dot):
                self.keys_of[dot] = key

    def collected(self, dot: int) -> bool:
        """Whether every member is known to have seen the dot."""
        actor = dot & ACTOR_MASK
        floor = self.floors.get(actor)
        return actor in self.clock.past or (floor is not None and has(floor, dot >> COUNTER_SHIFT))

    def write(self, key: bytes, value: bytes | None, dot: int) -> tuple[Edit, tuple[int, ...]]:
        """A write of this replica supersedes all versions here. Returns their dots; the caller advances the clock."""
        old = self.objects.get(key)
        superseded: tuple[int, ...] = ()
        if old is not None:
            superseded = (HEAD.unpack_from(old)[1],) if old[0] != SEVERAL else dots_of(old)
            for former in superseded:
                self.keys_of.pop(former, None)
        new = HEAD.pack(DELETED, dot) if value is None else HEAD.pack(LIVE, dot) + value
        self.objects[key] = new
        self.keys_of[dot] = key
        return (key, old, new), superseded

    def apply(
        self, sender: int, first: int, items: Sequence[Item], indices: Mapping[int, int]
    ) -> tuple[list[Edit], int]:
        """Writes of another replica, with its indices of actors. Returns also how many had to be left out.

        Left out is a write that supersedes something not seen here: applied, it would be ahead of the clock. Its dot
        stays missing, so that an exchange brings it.
        """
        clock, objects, keys_of = self.clock, self.objects, self.keys_of
        bases, bits = clock.bases, clock.bits
        edits: list[Edit] = []
        left_out = 0
        dot = (first << COUNTER_SHIFT | sender) - _STEP
        for key, value, theirs in items:
            dot += _STEP
            ahead = (dot >> COUNTER_SHIFT) - bases[sender]
            if ahead != 1 and (ahead < 1 or clock.seen(dot)):
                continue
            superseded = self._seen(theirs, indices) if theirs else theirs
            if superseded is None or ahead > GAP_MAX:
                left_out += 1
                continue
            old = objects.get(key)
            if old is None or (old[0] != SEVERAL and (HEAD.unpack_from(old)[1],) == superseded):
                new = HEAD.pack(DELETED, dot) if value is None else HEAD.pack(LIVE, dot) + value
            else:
                versions = decoded(old)
                for former in superseded:
                    versions.pop(former, None)
                versions[dot] = value
                new = encoded(versions)
            for former in superseded:
                keys_of.pop(former, None)
            keys_of[dot] = key
            objects[key] = new
            edits.append((key, old, new))
            if ahead == 1 and sender not in bits:
                bases[sender] += 1
            else:
                clock.add(dot)
        return edits, left_out

    def _seen(self, dots: tuple[int, ...], indices: Mapping[int, int]) -> tuple[int, ...] | None:
        """A peer's dots with the indices of this replica; None unless all are seen."""
        ours = []
        for dot in dots:
            actor = dot & ACTOR_MASK
            index = indices.get(actor)
            if index is None or not self.clock.seen(dot ^ actor ^ index):
                return None
            ours.append(dot ^ actor ^ index)
        return tuple(ours)

    def merge(self, key: bytes, theirs: bytes, seen_there: Callable[[int], bool]) -> Edit | None:
        """The join with what another replica has of a key. The caller merges the clock when it has merged all keys."""
        old = self.objects.get(key)
        if old == theirs:
            return None
        versions = sync({} if old is None else decoded(old), self.clock.seen, decoded(theirs), seen_there)
        return self.replace(key, old, versions)

    def replace(self, key: bytes, old: bytes | None, versions: Versions) -> Edit | None:
        """Put these versions in the place of a row; the edit, if that changes anything."""
        new = encoded(versions) if versions else None
        if new == old:
            return None
        if old is not None:
            for dot in dots_of(old):
                if dot not in versions:
                    self.keys_of.pop(dot, None)
        if new is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = new
            self._note(key, versions)
        return key, old, new

    def place(self, key: bytes, row: bytes) -> None:
        """Put a row in, as it is: a copy of another replica is being made."""
        old = self.objects.get(key)
        if old is not None:
            for dot in dots_of(old):
                self.keys_of.pop(dot, None)
        self.objects[key] = row
        dot = HEAD.unpack_from(row)[1]
        if row[0] == SEVERAL:
            self._note(key, dots_of(row))
        elif not self.collected(dot):
            self.keys_of[dot] = key

    def forget(self, dot: int) -> Edit | None:
        """Every member has seen this dot, so no exchange will ask for its key, and a delete has done its work."""
        key = self.keys_of.pop(dot, None)
        if key is None:
            return None
        old = self.objects[key]
        if old[0] == LIVE:
            return None
        versions = decoded(old)
        if versions[dot] is not None:
            return None
        del versions[dot]
        return self.replace(key, old, versions)

    def settle(self, actor: int) -> list[Edit]:
        """An actor left for good and all members have what it wrote."""
        edits = [self.forget(dot) for dot in self.keys_of.of(actor)]
        self.clock.settle(actor)
        self.floors.pop(actor, None)
        return [edit for edit in edits if edit is not None]

    def rename(self, former: int, first: int, actor: int) -> list[Edit]:
        """What one actor wrote behind its counter `first` was written by another, which has written nothing yet.

        Nobody else needs to know the dots by which these writes superseded others: who lacks the new dots asks for
        their keys, and gets these as they are here.
        """
        written, _ = self.clock.entry(former)
        edits = []
        for key, row in list(self.objects.items()):
            versions = {
                dot - (first << COUNTER_SHIFT) - former + actor
                if dot & ACTOR_MASK == former and dot >> COUNTER_SHIFT > first
                else dot: value
                for dot, value in decoded(row).items()
            }
            edits.append(self.replace(key, row, versions))
        self.clock.set(former, (min(first, written), 0))
        self.clock.set(actor, (max(written - first, 0), 0))
        floor, _ = self.floors.pop(former, NOTHING)
        if floor:
            self.floors[former] = (min(floor, first), 0)
        if floor > first:
            # Collected because the members had seen these dots: but those that bear them elsewhere are other writes.
            self.floors[actor] = (floor - first, 0)
        return [edit for edit in edits if edit is not None]

    def raise_floor(self, actor: int, floor: Entry) -> list[Edit]:
        """Forget these dots of an actor, and that is all that is ever known of them. They are seen here."""
        old = self.floors.get(actor, NOTHING)
        new = union(old, floor)
        if new == old:
            return []
        self.floors[actor] = new
        if high(new) - old[0] <= len(self.keys_of):
            dots = [counter << COUNTER_SHIFT | actor for counter in lacking(new, old)]
        else:
            dots = [dot for dot in self.keys_of.of(actor) if has(new, dot >> COUNTER_SHIFT)]
        return [edit for edit in map(self.forget, dots) if edit is not None]

    def reopen(self, actor: int) -> None:
        """An actor that had left for good is back, or has written more than was known when that was agreed."""
        entry = self.clock.past[actor]
        self.clock.set(actor, entry)
        self.floors[actor] = entry

    def reopen_for(self, entries: Mapping[int, Entry]) -> bool:
        """Reopen the actors of which these entries say more. Whether there are any."""
        past = self.clock.past
        more = [actor for actor in entries if actor in past and not covers(past[actor], entries[actor])]
        for actor in more:
            self.reopen(actor)
        return bool(more)

    def tombstones(self) -> int:
        """How many keys are nothing but deletes that some member may not have seen."""
        return sum(
            1
            for key in dict.fromkeys(self.keys_of.values())
            if not any(value is not None for value in decoded(self.objects[key]).values())
        )
