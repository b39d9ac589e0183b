"""Whether a node starts a cluster, joins one, or waits: decided from what it has found so far. Pure.

A driver asks over and over, with what it knows by then::

    decision = decide(own, found, waited, manner)

The rule is made so that nodes which start for the first time at the same time come to one cluster, whatever the order
in which they see each other:

1. A cluster of several nodes beats everything else. It is joined.
2. A node that is a cluster of one, and has been for longer, is joined by new ones. Of two such nodes the one that has
   nothing to lose joins the other, and of equals the one with the higher name.
3. Among new nodes one is the *seed*, and no other starts a cluster: the node that the configuration names, the pod with
   the first ordinal of a StatefulSet, or else the one with the lowest name. It starts the cluster when it cannot
   overlook another: everybody has answered, or its patience is over.
"""

import enum
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = [
    "SETTLE_S",
    "Decision",
    "Found",
    "Join",
    "Manner",
    "Own",
    "Reason",
    "Said",
    "Standing",
    "StartAlone",
    "Wait",
    "Waited",
    "decide",
    "in_order",
    "ordinal_of",
]

SETTLE_S: Final = 1.0
"""How long what was found has to stay the same before the first pod of a StatefulSet trusts that it has seen all."""


class Standing(enum.Enum):
    """What a node is in its cluster."""

    NEW = "new"
    """It has never been in one."""
    ALONE = "alone"
    """It is a cluster of one."""
    MEMBER = "member"
    """It is in a cluster with others."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a node says of itself. `cluster`: its identity, which means nothing for a new one. `members`: how many there
    are, itself included. `is_settled`: it lets others join. `looks`: it joins others by itself. `state`: what it has of
    clients, in words.
    """

    name: str
    standing: Standing
    cluster: int
    members: int = 1
    is_settled: bool = True
    looks: bool = True
    state: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A place where a node may be. `place`: as people should read it. `name`: of the node, empty while nobody knows.
    `said`: what it says of itself, None while it does not answer. `error`: why it does not.
    """

    place: str
    name: str
    said: Said | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Own:
    """This node, `NEW` or `ALONE`."""

    name: str
    standing: Standing
    cluster: int
    state: str = ""


@dataclass(frozen=True, slots=True)
class Manner:
    """How the rule is set.

    `is_complete`: what was found has the names of all nodes, whether they answer or not. `patience_s`: how long nodes
    that do not answer, or do not show, are waited for. `expect`: how many nodes there have to be, 0 for any number.
    `seed`: the only node that may start a cluster, empty for the lowest. `first_ordinal`: of a StatefulSet.
    `start_alone_after_s`: when a node that is not the seed starts alone all the same; None for never.
    """

    is_complete: bool
    patience_s: float
    expect: int = 0
    seed: str = ""
    first_ordinal: int = 0
    start_alone_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Waited:
    """Seconds: since the node began to look; since it was told first where nodes may be, None while it was not; since
    that has last changed.
    """

    since_start_s: float
    since_told_s: float | None
    since_change_s: float


@dataclass(frozen=True, slots=True)
class Reason:
    """What a node waits for. `detail`: changes more often than the reason, and is no news."""

    what: str
    detail: str = ""

    def __str__(self) -> str:
        """Both."""
        return f"{self.what}: {self.detail}" if self.detail else self.what


@dataclass(frozen=True, slots=True)
class StartAlone:
    """This node is a cluster of one from now on."""

    why: str


@dataclass(frozen=True, slots=True)
class Join:
    """This node joins the cluster of another one."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be said yet."""

    reasons: Sequence[Reason]


Decision: TypeAlias = StartAlone | Join | Wait


def decide(own: Own, found: Sequence[Found], waited: Waited, manner: Manner, trouble: str = "") -> Decision:
    """What a node that is in no cluster with others does. `trouble`: why nobody can say where nodes may be."""
    assert own.standing is not Standing.MEMBER, "who is in a cluster with others has found it"
    answers = [each.said for each in found if each.said is not None]
    silent = [each for each in found if each.said is None]
    is_patient = waited.since_told_s is None or waited.since_told_s < manner.patience_s
    members = [said for said in answers if said.standing is Standing.MEMBER and said.cluster != own.cluster]
    if members:
        return _join_largest(members)
    if own.standing is Standing.ALONE:
        return _alone(own, answers, silent, waited, manner, trouble)
    alone = [said for said in answers if said.standing is Standing.ALONE]
    if alone:
        # Somebody who has not answered yet may be in a larger cluster.
        return Wait([_silence(each) for each in silent]) if silent and is_patient else _join_first(alone)
    return _among_new(own, found, waited, manner, trouble)


def _join_largest(members: Sequence[Said]) -> Decision:
    """Of several clusters the one with the most members; of equals any, but the same for all that see them."""
    largest = min(members, key=lambda said: (-said.members, said.cluster))
    inside = [said for said in members if said.cluster == largest.cluster]
    settled = [said.name for said in inside if said.is_settled]
    if not settled:
        names = ", ".join(in_order(said.name for said in inside))
        return Wait([Reason(f"{names}, which has a cluster and does not let others in yet")])
    return Join(in_order(settled)[0], f"it is in a cluster of {largest.members}")


def _rank(said: Said) -> tuple[bool, bool, object]:
    """Who joins whom of nodes alone: those with a higher rank those with a lower one."""
    return said.looks, not said.state, _natural(said.name)


def _join_first(alone: Sequence[Said]) -> Decision:
    first = min(alone, key=_rank)
    if not first.is_settled:
        return Wait([Reason(f"{first.name}, which is a cluster of one and does not let others in yet")])
    return Join(first.name, "it has started the cluster")


def _alone(
    own: Own, answers: Sequence[Said], silent: Sequence[Found], waited: Waited, manner: Manner, trouble: str
) -> Decision:
    """A node that is a cluster of one already."""
    rank = _rank(Said(own.name, own.standing, own.cluster, state=own.state))
    before = [said for said in answers if said.standing is Standing.ALONE and _rank(said) < rank]
    if before:
        return _join_first(before)
    if waited.since_told_s is None and waited.since_start_s < manner.patience_s:
        return Wait([_untold(trouble)])
    if silent and (waited.since_told_s or 0.0) < manner.patience_s and waited.since_told_s is not None:
        return Wait([_silence(each) for each in silent])
    return StartAlone("it is a cluster of one already, and there is no other that it could join")


def _among_new(own: Own, found: Sequence[Found], waited: Waited, manner: Manner, trouble: str) -> Decision:
    """Nobody has a cluster yet."""
    known = {each.name: each for each in found if each.name}
    first = _seed(own, known, manner)
    answering = known[first].said if first in known else None
    after_s = manner.start_alone_after_s
    is_told_to = after_s is not None and waited.since_start_s >= after_s
    if first != own.name:
        if is_told_to and answering is None:
            return StartAlone(f"{first} has not come within cluster.discovery.start_alone_after")
        if answering is not None:
            return Wait([Reason(f"{first}, which starts the cluster and has not done so yet")])
        detail = known[first].error if first in known else "it has not been found"
        awaited = [Reason(f"{first}, which alone may start the cluster", detail)]
        return Wait([*awaited, _untold(trouble)] if trouble or waited.since_told_s is None else awaited)
    if reasons := _obstacles(own, found, waited, manner, trouble):
        if is_told_to:
            return StartAlone("cluster.discovery.start_alone_after is over")
        return Wait(reasons)
    return StartAlone("it is the first of the nodes that were found, and none of them has a cluster")


def _seed(own: Own, known: "dict[str, Found]", manner: Manner) -> str:
    """The node that may start a cluster: its name, or how it is recognised."""
    if manner.seed:
        return manner.seed
    if not manner.is_complete:
        ordinal = ordinal_of(own.name)
        if ordinal is not None and ordinal > manner.first_ordinal:
            return re.sub(r"-[0-9]+\.", f"-{manner.first_ordinal}.", own.name, count=1)
    return in_order([own.name, *known])[0]


def _obstacles(own: Own, found: Sequence[Found], waited: Waited, manner: Manner, trouble: str) -> Sequence[Reason]:
    """Why the seed does not start the cluster yet."""
    if waited.since_told_s is None:
        return [_untold(trouble)]
    silent = [_silence(each) for each in found if each.said is None]
    if manner.expect:
        lacking = manner.expect - 1 - len(found) + len(silent)
        wanted = Reason(f"{lacking} more nodes (cluster.discovery.expect = {manner.expect})")
        return [wanted, *silent] if lacking > 0 else []
    if silent or manner.is_complete:
        others = silent
    elif found and ordinal_of(own.name) == manner.first_ordinal and waited.since_change_s >= SETTLE_S:
        others = []
    else:
        others = [Reason(f"other nodes, for {manner.patience_s:g} s (cluster.discovery.patience)")]
    return others if waited.since_told_s < manner.patience_s else []


def _untold(trouble: str) -> Reason:
    return Reason("word of where other nodes are", trouble)


def _silence(found: Found) -> Reason:
    called = found.name or f"the node at {found.place}"
    return Reason(f"an answer of {called}", found.error)


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order that decides: numbers in them count as numbers, so that node-2 comes before node-10."""
    return sorted(names, key=_natural)


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    # The text breaks ties between numbers with leading zeros.
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def ordinal_of(name: str) -> int | None:
    """The number of a pod of a StatefulSet, by the host of its name (`broker-2.brokers.default.svc...`); None if it is
    no such name.
    """
    host = name.partition("@")[2]
    label, dot, _ = host.partition(".")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        number = re.search(r"-([0-9]+)$", label)
        return int(number[1]) if dot and number else None
    return None
