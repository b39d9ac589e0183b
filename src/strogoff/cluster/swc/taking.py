"""The taking side of an exchange: pages are put aside until the last one has come, then they become part of the state
at once.

Half an exchange is worth nothing: a version taken without all that the giver knew when it gave would be ahead of the
clock.

A *partial* exchange puts rows of the keys aside that the giver listed. A *whole* one, for a replica so far behind
that what it lacks has been collected, makes a complete copy of the giver beside the state, and then joins the two. In
the copy a key that was deleted is simply missing, and the join drops what the giver has seen and does not hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from strogoff.cluster.swc.clock import NOTHING, Entry, NodeClock, covers, union
from strogoff.cluster.swc.container import decoded, sync
from strogoff.cluster.swc.dots import Actor
from strogoff.cluster.swc.messages import PullAnswer
from strogoff.cluster.swc.state import Edit, State

__all__ = ["Taking", "join_whole", "needs_whole"]


@dataclass(slots=True)
class Taking:
    """An exchange that runs. `generation`: under which a whole copy is stored. `staged`: rows of a partial exchange."""

    peer: Actor
    exchange: int
    whole: bool
    generation: int = 0
    giving: int = 0
    position: int = 0
    staged: dict[bytes, bytes] = field(default_factory=dict)
    staged_bytes: int = 0
    copy: State = field(default_factory=State)

    def awaits(self, sender: Actor, answer: PullAnswer) -> bool:
        """Whether this is the page that comes next."""
        asked = (self.peer, self.exchange, self.position)
        return (sender, answer.exchange, answer.position) == asked and self.giving in {0, answer.giving}

    def stage(self, key: bytes, row: bytes) -> None:
        """Put a row of a partial exchange aside."""
        self.staged[key] = row
        self.staged_bytes += len(key) + len(row)


def needs_whole(state: State, theirs: NodeClock, floors: Mapping[int, Entry]) -> bool:
    """Whether something that is lacking here has been collected at the giver.

    `theirs`: its clock, in the indices of this replica, as is `floors`.
    """
    clock = state.clock
    if any(not covers(clock.entry(actor), floor) for actor, floor in floors.items()):
        return True
    return any(not covers(clock.entry(actor), entry) for actor, entry in theirs.past.items())


def join_whole(state: State, copy: State, members: set[int], own: int) -> list[Edit]:
    """Make of the copy of a giver its join with the state of this replica; in what the copy differs from it now."""
    ours, theirs = state.clock, copy.clock
    _join_clocks(state, copy, members, own)
    edits = []
    for key, mine in state.objects.items():
        row = copy.objects.get(key)
        if row != mine:
            versions = sync(decoded(mine), ours.seen, {} if row is None else decoded(row), theirs.seen)
            edits.append(copy.replace(key, row, versions))
    if any(ours.bases.values()) or ours.bits or ours.past:
        for key, row in list(copy.objects.items()):
            if key not in state.objects:
                versions = {dot: value for dot, value in decoded(row).items() if not ours.seen(dot)}
                edits.append(copy.replace(key, row, versions))
    edits += [copy.forget(dot) for dot in list(copy.keys_of) if copy.collected(dot)]
    return [edit for edit in edits if edit is not None]


def _join_clocks(state: State, copy: State, members: set[int], own: int) -> None:
    ours, theirs = state.clock, copy.clock
    joined = NodeClock()
    floors: dict[int, Entry] = {}
    for actor in sorted({*ours.bases, *ours.past, *theirs.bases, *theirs.past}):
        entry = ours.entry(actor) if actor == own else union(ours.entry(actor), theirs.entry(actor))
        # Of an actor that left for good one side may have more than the other had when it settled. Then it has not
        # settled.
        settled = [clock.past[actor] for clock in (ours, theirs) if actor in clock.past]
        if actor not in members and entry in settled:
            joined.past[actor] = entry
        elif actor in members or entry != NOTHING:
            joined.set(actor, entry)
            floor = NOTHING
            for collected in (*settled, state.floors.get(actor, NOTHING), copy.floors.get(actor, NOTHING)):
                floor = union(floor, collected)
            if floor != NOTHING:
                floors[actor] = floor
    copy.clock, copy.floors = joined, floors
