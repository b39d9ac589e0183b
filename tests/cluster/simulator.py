"""A cluster of replicas without network, disk and time: every step is one line of text, and nothing else happens.

A step that makes no sense where it stands (a message that is not there, a node that is down) does nothing. So any
selection of the lines of a script is a script again, which is what lets a failing one shrink.

    put N K V | delete N K          a local write                     flush N     persist, then send what waits
    half N                          persist, send nothing, and die    stop N      die; what was persisted stays
    lose N J                        die, and lose all but J of the batches that were not synced
    wipe N                          die, and lose the disk            sync N      sync the disk
    start N                         start with what the disk has; as a new actor after `lose` and `wipe`
    deliver A B I | drop A B I | copy A B I     the I-th message on its way from A to B comes, is lost, is doubled
    arrive N                        all messages on their way to N come
    cut A B | heal                  messages from A to B are lost from now on; no longer
    pull A B | repeat A | cancel A | collect A
    join N | leave N | learn N      N becomes a member, is removed; N hears who the members are
    rejoin N                        N, which was removed, comes back as a new actor
    readd N                         N was removed by mistake: it is a member again, as the actor that it was
    calm                            those that run pull from each other and collect; nothing is lost that is not cut
    level                           no more faults: everything starts, hears and pulls, until all is equal
    settle                          no more faults: everything starts, hears, pulls and collects, until all is equal
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.disk import Disk
from cluster.history import (
    History,
    Write,
    check_against,
    check_collected,
    check_grown,
    check_state,
    clock_of,
    collected,
)
from cluster.settling import level, pull_around, settle
from strogoff.cluster.hlc import HybridClock, stamped, unstamped
from strogoff.cluster.merge import latest
from strogoff.cluster.swc import Actor, Pulled, Refused, Replica
from strogoff.cluster.swc.container import dots_of
from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_SHIFT
from strogoff.cluster.swc.limits import Limits

CHECKED_WITH_MAX = 4
SKEW_MS = 3_600_000

SMALL = Limits(
    page_bytes=150,
    staged_bytes_max=600,
    collected_max=3,
    erased_max=2,
    givings_max=2,
    columns_max=2,
    messages_max=10_000,
)


@dataclass(slots=True)
class Node:
    """A node: its disk, whether it runs, and what it believes of the membership."""

    name: str
    actor: Actor
    view: frozenset[Actor]
    skew_ms: int
    disk: Disk = field(default_factory=Disk)
    replica: Replica | None = None
    clean: bool = True
    stamps: HybridClock = field(default_factory=HybridClock)


class Cluster:
    """The simulated cluster. `nodes`: how many there are at first; they are members of each other and hold nothing."""

    def __init__(self, nodes: int, limits: Limits = SMALL, *, check: bool = True) -> None:
        self.limits = limits
        self.check = check
        self.history = History()
        self.time_ms = 1_000_000_000
        self.starts = 0
        self.nodes: dict[str, Node] = {}
        self.wires: dict[str, dict[str, list[tuple[Actor, bytes]]]] = {}
        self.cuts: set[tuple[str, str]] = set()
        self.members: frozenset[Actor] = frozenset()
        self.removed: set[str] = set()
        self.pulls = 0
        self.ended: dict[str, Pulled | Refused] = {}
        self.wholes = 0
        names = [f"n{number}" for number in range(1, nodes + 1)]
        self.members = frozenset(Actor(name, self.incarnation()) for name in names)
        for actor in sorted(self.members):
            self._add(actor)

    def incarnation(self) -> int:
        self.starts += 1
        return self.starts

    def _add(self, actor: Actor) -> None:
        # Some clocks are right, some hours early, some hours late.
        skew_ms = (0, SKEW_MS, -SKEW_MS, 7 * SKEW_MS)[len(self.nodes) % 4]
        self.nodes[actor.name] = Node(actor.name, actor, self.members, skew_ms)
        self.start(actor.name)

    # -- steps -----------------------------------------------------------------------------------------------

    def run(self, script: Iterable[str]) -> None:
        for line in script:
            self.step(line)

    def step(self, line: str) -> None:
        """Do one step, and check what must hold after it."""
        name, *arguments = line.split()
        self.time_ms += 1
        before = self._before(arguments)
        getattr(self, name)(*arguments)
        if before is not None and self.check:
            self._check(*before)

    def _before(self, arguments: list[str]) -> tuple[Node, Replica, dict[Actor, tuple[int, int]]] | None:
        for argument in reversed(arguments[:2]):
            node = self.nodes.get(argument)
            if node is not None and node.replica is not None:
                return node, node.replica, clock_of(node.replica)
        return None

    def _check(self, node: Node, replica: Replica, clock: dict[Actor, tuple[int, int]]) -> None:
        if node.replica is not replica:
            return
        check_grown(clock, clock_of(replica), replica.actor)
        check_state(self.history, replica)
        others = self.running(node.name)
        check_against(replica, others)
        for other in others[:CHECKED_WITH_MAX]:
            check_against(other, [replica])

    def running(self, but: str = "") -> list[Replica]:
        return [node.replica for node in self.nodes.values() if node.replica is not None and node.name != but]

    def replica(self, name: str) -> Replica | None:
        node = self.nodes.get(name)
        return None if node is None else node.replica

    # Steps are methods by their names; all of their arguments are text.

    def put(self, name: str, key: str, value: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            node = self.nodes[name]
            old = replica.get(key.encode())
            wall = self.time_ms + node.skew_ms
            stamp = node.stamps.now(wall) if old is None else node.stamps.after(unstamped(old)[0], wall)
            self._write(replica, key.encode(), stamped(stamp, value.encode()))

    def delete(self, name: str, key: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            self._write(replica, key.encode(), None)

    def _write(self, replica: Replica, key: bytes, value: bytes | None) -> None:
        parts = replica.parts
        row = parts.state.objects.get(key)
        superseded = () if row is None else dots_of(row)
        if value is None:
            if not replica.values(key):
                return
            replica.delete(key)
        else:
            replica.put(key, value)
        former = tuple((parts.actors[dot & ACTOR_MASK], dot >> COUNTER_SHIFT) for dot in superseded)
        counter = parts.state.clock.bases[parts.own]
        self.history.write((replica.actor, counter), Write(key, value, former))

    def flush(self, name: str) -> None:
        node = self.nodes.get(name)
        while node is not None and node.replica is not None:
            if not self._flush(node, node.replica, send=True):
                break

    def _flush(self, node: Node, replica: Replica, *, send: bool) -> bool:
        output = replica.take()
        node.disk.write(output.writes)
        own = replica.parts.state.clock.bases[replica.parts.own]
        self.history.tell(replica.actor, own)
        for ended in output.ended:
            self.ended[node.name] = ended
            if isinstance(ended, Pulled):
                self.pulls += 1
                self.wholes += ended.whole
        if send:
            for peer, data in output.messages:
                if (node.name, peer.name) not in self.cuts:
                    wires = self.wires.setdefault(peer.name, {})
                    wires.setdefault(node.name, []).append((replica.actor, data))
        return output.more

    def half(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.replica is not None:
            self._flush(node, node.replica, send=False)
            self.stop(name)

    def stop(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None:
            node.replica = None

    def lose(self, name: str, kept: str) -> None:
        node = self.nodes.get(name)
        if node is not None:
            self.stop(name)
            node.disk.lose(int(kept))
            node.clean = False

    def wipe(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None:
            self.stop(name)
            node.disk = Disk()
            node.clean = False

    def sync(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None:
            node.disk.sync()

    def start(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is None or node.replica is not None:
            return
        if not node.clean:
            self._replace(node)
        node.replica = Replica(
            node.actor,
            members=node.view,
            nonce=self.incarnation() << 32,
            rows=node.disk.rows(),
            resolve=latest,
            limits=self.limits,
        )
        node.clean = True
        self._flush(node, node.replica, send=False)

    def _replace(self, node: Node) -> None:
        """The node is another actor from now on, in the place of the former if that is a member."""
        former, node.actor = node.actor, Actor(node.name, self.incarnation())
        if former in self.members:
            self.members = (self.members - {former}) | {node.actor}
            node.view = self.members
        else:
            node.view = (node.view - {former}) | {node.actor}

    def deliver(self, sender: str, receiver: str, number: str) -> None:
        messages = self.on_wire(sender, receiver)
        if messages:
            self._arrive(receiver, *messages.pop(int(number) % len(messages)))

    def on_wire(self, sender: str, receiver: str) -> list[tuple[Actor, bytes]]:
        """The messages on their way from one node to another, the oldest first."""
        return self.wires.get(receiver, {}).get(sender, [])

    def busy(self) -> list[tuple[str, str]]:
        """Senders and receivers between which messages are on their way."""
        return [
            (sender, receiver)
            for receiver, wires in self.wires.items()
            for sender, messages in wires.items()
            if messages
        ]

    def _arrive(self, receiver: str, sender: Actor, data: bytes) -> None:
        """A link has proved who is at its other end: a message of a former life of a node is one of its former
        actor."""
        replica = self.replica(receiver)
        if replica is not None:
            replica.receive(sender, data)

    def drop(self, sender: str, receiver: str, number: str) -> None:
        messages = self.on_wire(sender, receiver)
        if messages:
            messages.pop(int(number) % len(messages))

    def copy(self, sender: str, receiver: str, number: str) -> None:
        messages = self.on_wire(sender, receiver)
        if messages:
            messages.append(messages[int(number) % len(messages)])

    def arrive(self, name: str) -> None:
        for messages in self.wires.pop(name, {}).values():
            for message in messages:
                self._arrive(name, *message)

    def cut(self, sender: str, receiver: str) -> None:
        self.cuts.add((sender, receiver))

    def heal(self) -> None:
        self.cuts.clear()

    def pull(self, name: str, peer: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            for actor in replica.members:
                if actor.name == peer and actor != replica.actor:
                    replica.pull(actor)
                    break

    def repeat(self, name: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            replica.repeat()

    def cancel(self, name: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            replica.cancel()

    def collect(self, name: str) -> None:
        replica = self.replica(name)
        if replica is not None:
            before = collected(replica)
            replica.collect()
            if self.check:
                check_collected(replica, before, self.running(name))

    def join(self, name: str) -> None:
        if name not in self.nodes:
            actor = Actor(name, self.incarnation())
            self.members |= {actor}
            self._add(actor)

    def leave(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.actor in self.members and len(self.members) > 1:
            self.members -= {node.actor}

    def learn(self, name: str) -> None:
        """A removed node hears nothing: the others do not speak to it."""
        node = self.nodes.get(name)
        if node is not None and node.actor in self.members:
            node.view = self.members
            if node.replica is not None:
                node.replica.set_members(self.members)

    def readd(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.replica is not None and node.actor not in self.members:
            self.members |= {node.actor}
            self.learn(name)

    def rejoin(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is not None and node.replica is not None and node.actor not in self.members:
            self._flush(node, node.replica, send=False)
            node.actor = Actor(name, self.incarnation())
            node.replica.retire(node.actor)
            self.members |= {node.actor}
            node.view = self.members
            node.replica.set_members(self.members)

    def calm(self) -> None:
        """A while without faults for those that run, so that there is something to collect."""
        members = [name for name, node in self.nodes.items() if node.replica is not None and node.actor in self.members]
        if len(members) > 1:
            pull_around(self, members, 0)

    def level(self) -> None:
        """No more faults. Raises `InvariantError` unless all members become equal."""
        level(self)

    def settle(self) -> None:
        """No more faults. Raises `InvariantError` unless all members become equal and forget what they may."""
        settle(self)
