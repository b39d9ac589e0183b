"""All writes that were ever made in a simulated cluster, and what they say a replica must hold.

The state of a replica is a function of the dots in its clock: of each key, those versions that no write in the clock
has superseded. That one sentence holds at every moment, whatever was lost, repeated or cut off before, and covers the
invariants on claims, lost values and resurrected deletes. It is checked here against writes that the core was told,
not against the core.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from strogoff.cluster.swc import Actor, Replica
from strogoff.cluster.swc.clock import Entry, covers, has, high
from strogoff.cluster.swc.container import decoded
from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_SHIFT

Dot = tuple[Actor, int]


class InvariantError(AssertionError):
    """The core has done what it must never do. The message begins with the number of the invariant."""


@dataclass(slots=True)
class Write:
    """One write: `value` None is a delete. `told`: a peer, or a store that survives, may know of it."""

    key: bytes
    value: bytes | None
    superseded: tuple[Dot, ...]
    told: bool = False


@dataclass(slots=True)
class History:
    """The writes by their dots. `strict`: a dot that names two writes is an error of the core, and not of its store."""

    writes: dict[Dot, Write] = field(default_factory=dict)
    counters: dict[Actor, int] = field(default_factory=dict)
    strict: bool = True

    def write(self, dot: Dot, write: Write) -> None:
        """A replica made a write. A dot may be made again only if nobody can know of the first."""
        former = self.writes.get(dot)
        if former is not None and former.told and self.strict:
            raise InvariantError(f"1: {dot} has named {former} and now names {write}")
        self.writes[dot] = write

    def tell(self, actor: Actor, up_to: int) -> None:
        """The writes of an actor up to a counter are out."""
        for counter in range(self.counters.get(actor, 0) + 1, up_to + 1 if self.strict else 0):
            self.writes[actor, counter].told = True
        self.counters[actor] = max(up_to, self.counters.get(actor, 0))

    def expected(self, clock: dict[Actor, Entry]) -> dict[bytes, dict[Dot, bytes | None]]:
        """What a replica with this clock holds, deletes included that it may have forgotten."""
        versions: dict[bytes, dict[Dot, bytes | None]] = {}
        gone: set[Dot] = set()
        for (actor, counter), write in self.writes.items():
            entry = clock.get(actor)
            if entry is not None and has(entry, counter):
                versions.setdefault(write.key, {})[actor, counter] = write.value
                gone.update(write.superseded)
                for former, number in write.superseded:
                    if not has(clock.get(former, (0, 0)), number):
                        raise InvariantError(
                            f"3: {actor},{counter} is seen, {former},{number} that it superseded is not"
                        )
        return {key: {dot: value for dot, value in dots.items() if dot not in gone} for key, dots in versions.items()}


def clock_of(replica: Replica) -> dict[Actor, Entry]:
    """A replica's clock by actors, with those that left for good."""
    parts = replica.parts
    clock = parts.state.clock
    return {parts.actors[index]: clock.entry(index) for index in (*clock.bases, *clock.past)}


def versions_of(replica: Replica) -> dict[bytes, dict[Dot, bytes | None]]:
    """A replica's versions by dots of actors."""
    parts = replica.parts
    return {
        key: {(parts.actors[dot & ACTOR_MASK], dot >> COUNTER_SHIFT): value for dot, value in decoded(row).items()}
        for key, row in parts.state.objects.items()
    }


def check_state(history: History, replica: Replica) -> None:
    """Invariants 3, 8, 9: a replica holds what its clock says, and nothing else."""
    clock = clock_of(replica)
    held = versions_of(replica)
    for key, expected in history.expected(clock).items():
        versions = held.pop(key, {})
        for dot in versions:
            if dot not in expected:
                raise InvariantError(f"8: {replica.actor} holds {key!r} at {dot}, which was superseded")
        for dot, value in expected.items():
            _check_version(replica, key, dot, value, versions)
    if held:
        raise InvariantError(f"3: {replica.actor} holds {held}, which its clock has not seen")
    if clock[replica.actor][1]:
        raise InvariantError(f"2: {replica.actor} has gaps in its own entry")
    state = replica.parts.state
    for local, key in state.keys_of.items():
        if key not in state.objects or local not in decoded(state.objects[key]):
            raise InvariantError(f"12: {replica.actor} keeps a row for {local} of {key!r}, which has no such version")


def _check_version(
    replica: Replica, key: bytes, dot: Dot, value: bytes | None, versions: dict[Dot, bytes | None]
) -> None:
    """A version that is seen and not superseded is there; only a delete that all members have is not needed."""
    state = replica.parts.state
    index = replica.parts.actors.find(dot[0])
    assert index is not None
    local = dot[1] << COUNTER_SHIFT | index
    collected = state.collected(local)
    if dot not in versions and value is not None:
        raise InvariantError(f"3: {replica.actor} has seen {dot} and does not hold {key!r}")
    if dot not in versions and not collected:
        raise InvariantError(f"6: {replica.actor} forgot the delete {dot} of {key!r} before all have it")
    if dot in versions and versions[dot] != value:
        raise InvariantError(f"1: {replica.actor} holds {versions[dot]!r} at {dot}, written was {value!r}")
    if dot in versions and not collected and state.keys_of.get(local) != key:
        raise InvariantError(f"6: {replica.actor} does not know the key of {dot}, {key!r}")


def check_grown(before: dict[Actor, Entry], after: dict[Actor, Entry], actor: Actor) -> None:
    """Invariant 2: entries only grow."""
    for other, entry in before.items():
        if not covers(after.get(other, (0, 0)), entry):
            raise InvariantError(f"2: {actor} knew {entry} of {other} and now {after.get(other)}")


def check_against(replica: Replica, others: Iterable[Replica]) -> None:
    """Invariants 2 and 5 between replicas that run: what one says of another is not more than the other has."""
    parts = replica.parts
    columns = parts.watermark.columns
    for other in others:
        theirs = other.parts.state.clock
        index = parts.actors.find(other.actor)
        if index is None:
            continue
        if high(parts.state.clock.entry(index)) > other.parts.state.clock.bases[other.parts.own]:
            raise InvariantError(f"2: {replica.actor} knows more of {other.actor} than it does itself")
        for actor, base in columns.get(index, {}).items():
            known = other.parts.actors.find(parts.actors[actor])
            if base > (0 if known is None else theirs.entry(known)[0]):
                raise InvariantError(
                    f"5: {replica.actor} believes {other.actor} has {base} of {parts.actors[actor]}, it has less"
                )


def collected(replica: Replica) -> dict[int, Entry]:
    """What a replica believes that all members have seen."""
    state = replica.parts.state
    return {**state.floors, **state.clock.past}


def check_collected(replica: Replica, before: dict[int, Entry], others: Iterable[Replica]) -> None:
    """Invariant 6: what a replica has just collected, every member has. `before`: what it had collected before."""
    parts = replica.parts
    for other in others:
        index = parts.actors.find(other.actor)
        if index is None or index not in parts.members:
            continue
        for actor, floor in collected(replica).items():
            if floor == before.get(actor):
                continue
            known = other.parts.actors.find(parts.actors[actor])
            if not covers((0, 0) if known is None else other.parts.state.clock.entry(known), floor):
                raise InvariantError(
                    f"6: {replica.actor} collected {floor} of {parts.actors[actor]}, {other.actor} has less"
                )
