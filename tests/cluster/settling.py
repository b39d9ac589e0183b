"""The end of a simulation: when nothing fails any more, all members become equal, and forget what they may."""

from itertools import pairwise
from typing import TYPE_CHECKING

from cluster.history import InvariantError, check_state, clock_of, versions_of
from strogoff.cluster.swc import Actor, Replica
from strogoff.cluster.swc.clock import covers, union
from strogoff.cluster.swc.messages import PageState, PullAnswer, decode

if TYPE_CHECKING:
    from cluster.simulator import Cluster

ROUNDS_MAX = 12
PULLS_MAX = 8
"""From so many others everybody pulls in one round."""


def settle(cluster: "Cluster") -> None:
    """No more faults. Raises `InvariantError` unless all members become equal and forget what they may."""
    members, known = heal(cluster)
    for number in range(ROUNDS_MAX + len(members) // PULLS_MAX):
        pull_around(cluster, members, number)
        if _same(cluster, members) and _forgotten(cluster, members):
            break
    _check_equal(cluster, members, known)
    _check_forgotten(cluster, members)
    _check_cost(cluster, members)


def level(cluster: "Cluster") -> None:
    """As far as being equal is concerned. In a large cluster it takes long until everybody has heard of everybody."""
    members, known = heal(cluster)
    pull_around(cluster, members, 0)
    _check_equal(cluster, members, known)


def heal(cluster: "Cluster") -> tuple[list[str], dict[Actor, tuple[int, int]]]:
    """Everything starts, is a member, and hears who the others are. The members, and what they know together."""
    cluster.heal()
    cluster.wires.clear()
    for name in [*cluster.nodes]:
        if cluster.nodes[name].actor not in cluster.members:
            _bring_back(cluster, name)
    for name in cluster.nodes:
        cluster.start(name)
    members = [name for name, node in cluster.nodes.items() if node.actor in cluster.members]
    for name in members:
        cluster.learn(name)
        cluster.flush(name)
    _deliver_all(cluster)
    return members, _known(cluster, members)


def _bring_back(cluster: "Cluster", name: str) -> None:
    """A node that was removed starts, pulls, is told that it is no member, and comes back as another actor."""
    cluster.start(name)
    replica = cluster.replica(name)
    assert replica is not None
    peers = [actor for actor in sorted(replica.members) if cluster.nodes[actor.name].actor == actor != replica.actor]
    if peers and cluster.replica(peers[0].name) is not None:
        cluster.pull(name, peers[0].name)
        cluster.flush(name)
        _deliver_all(cluster)
    cluster.rejoin(name)


def _deliver_all(cluster: "Cluster") -> None:
    while cluster.busy():
        for name in list(cluster.nodes):
            cluster.arrive(name)
            cluster.flush(name)


def _known(cluster: "Cluster", members: list[str]) -> dict[Actor, tuple[int, int]]:
    known: dict[Actor, tuple[int, int]] = {}
    for name in members:
        replica = cluster.replica(name)
        assert replica is not None
        for actor, entry in clock_of(replica).items():
            known[actor] = union(entry, known.get(actor, (0, 0)))
    return known


def pull_around(cluster: "Cluster", members: list[str], number: int) -> None:
    """Everybody pulls from everybody, or in a large cluster from some, others in the next round."""
    others = len(members) - 1
    if others <= PULLS_MAX or number:
        distances = [1 + (number * PULLS_MAX + at) % others for at in range(min(others, PULLS_MAX))] if others else []
    else:
        # What one knows, two know then, four, eight …
        distances = [1 << at for at in range(others.bit_length())]
    for distance in distances:
        for at, name in enumerate(members):
            peer = members[(at + distance) % len(members)]
            if peer != name:
                cluster.pull(name, peer)
                cluster.flush(name)
                _finish(cluster, name, peer)
    for name in members:
        replica = cluster.replica(name)
        assert replica is not None
        while replica.collect():
            pass
        cluster.flush(name)
        _deliver_all(cluster)


def _finish(cluster: "Cluster", name: str, peer: str) -> None:
    while cluster.on_wire(name, peer) or cluster.on_wire(peer, name):
        cluster.arrive(peer)
        cluster.flush(peer)
        cluster.arrive(name)
        cluster.flush(name)


def _same(cluster: "Cluster", members: list[str]) -> bool:
    replicas = [cluster.replica(name) for name in members]
    states = [(clock_of(replica), versions_of(replica)) for replica in replicas if replica is not None]
    first = _without_nothing(states[0][0])
    return all(_without_nothing(clock) == first and versions == states[0][1] for clock, versions in states)


def _forgotten(cluster: "Cluster", members: list[str]) -> bool:
    return all(not _left_over(replica) for name in members if (replica := cluster.replica(name)) is not None)


def _check_equal(cluster: "Cluster", members: list[str], known: dict[Actor, tuple[int, int]]) -> None:
    for name in members:
        replica = cluster.replica(name)
        assert replica is not None
        check_state(cluster.history, replica)
        clock = clock_of(replica)
        for actor, entry in known.items():
            if not covers(clock.get(actor, (0, 0)), entry):
                raise InvariantError(f"9: {replica.actor} has {clock.get(actor)} of {actor}, others had {entry}")
    if not _same(cluster, members):
        raise InvariantError("7: members are not equal")


def _check_forgotten(cluster: "Cluster", members: list[str]) -> None:
    for name in members:
        replica = cluster.replica(name)
        assert replica is not None
        left_over = _left_over(replica)
        if left_over:
            raise InvariantError(left_over)
        if sorted(replica.parts.state.objects) != sorted(_stored(cluster, name)):
            raise InvariantError(f"12: {replica.actor} has stored other objects than it has")


def _check_cost(cluster: "Cluster", members: list[str]) -> None:
    """Invariant 10: between equal replicas an exchange is one question and one answer, and moves nothing."""
    _deliver_all(cluster)
    for name, peer in pairwise(members):
        cluster.pull(name, peer)
        cluster.flush(name)
        cluster.arrive(peer)
        cluster.flush(peer)
        for _, data in cluster.on_wire(peer, name):
            answer = decode(data)
            if not isinstance(answer, PullAnswer) or answer.rows or answer.state is not PageState.LAST:
                raise InvariantError(f"10: {name} and {peer} are equal, and {answer} is said")
        cluster.arrive(name)
        cluster.flush(name)


def _stored(cluster: "Cluster", name: str) -> list[bytes]:
    disk = cluster.nodes[name].disk
    return [key[len(b"swc/o") + 1 :] for key, _ in disk.rows() if key.startswith(b"swc/o")]


def _without_nothing(clock: dict[Actor, tuple[int, int]]) -> dict[Actor, tuple[int, int]]:
    return {actor: entry for actor, entry in clock.items() if entry != (0, 0)}


def _left_over(replica: Replica) -> str:
    """What should have been forgotten."""
    parts = replica.parts
    clock = parts.state.clock
    retired = [parts.actors[index] for index in (*clock.bases, *parts.state.floors) if index not in parts.members]
    if retired:
        return f"11: {replica.actor} still has {retired} in its clock"
    if any(index not in parts.members for column in parts.watermark.columns.values() for index in column):
        return f"11: {replica.actor} still has actors that left in its watermark"
    if parts.state.keys_of:
        return f"12: {replica.actor} still has {len(parts.state.keys_of)} rows in its dot-key map"
    if parts.state.tombstones() or any(None in versions.values() for versions in versions_of(replica).values()):
        return f"12: {replica.actor} still has deletes"
    return ""
