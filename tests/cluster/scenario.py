"""Scripts that a person can read: steps of the simulator, a few that stand for several of them, and what is expected.

nodes N                     the cluster has N members, n1 to nN, which know each other and hold nothing; the first line
broadcast N                 N persists and sends what waits, and it arrives
exchange A B                A pulls from B, page by page, until it has ended; both collect
everybody                   everybody who runs pulls from everybody else who does, and collects
partition A B | C           no message passes between the sides until `heal`
unchecked                   from here on the invariants are broken on purpose
wipe-tail N                 N dies and loses what its disk has not synced, unnoticed
start-as-before N           N starts as the actor that it was, whatever its disk has lost
retire N                    N goes on as a new actor
fails COMMAND               the core refuses the command

expect N K V …              N has these values of K, in any order, or none: -
tombstones N COUNT          keys of N that are nothing but deletes
actors N COUNT              actors in the clock of N, without those that left for good
condition N CONDITION       as `Condition` names them, with a hyphen
ended N HOW                 how the latest exchange of N ended: partial, whole, or the reason of the refusal
equal                       all members have the same
"""

from pathlib import Path

from cluster.history import clock_of, versions_of
from cluster.simulator import Cluster
from strogoff.cluster.hlc import unstamped
from strogoff.cluster.swc import Actor, LostHistoryError, Pulled, Replica
from strogoff.cluster.swc.limits import Limits

__all__ = ["SCENARIOS", "UnexpectedError", "run_scenario"]

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


class UnexpectedError(AssertionError):
    """A line of a script expects something else. The message names the line."""


def run_scenario(path: Path) -> None:
    """Run a script. Raises `UnexpectedError`."""
    scenario: Scenario | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if scenario is None:
            assert words[0] == "nodes", f"{path.name}:{number}: a script begins with the number of nodes"
            scenario = Scenario(int(words[1]))
            continue
        try:
            scenario.do(words)
        except UnexpectedError as error:
            raise UnexpectedError(f"{path.name}:{number}: {line}: {error}") from None


class Scenario:
    """A cluster that does what a script says."""

    def __init__(self, nodes: int) -> None:
        self.cluster = Cluster(nodes, Limits())

    def do(self, words: list[str]) -> None:
        command = getattr(self, words[0].replace("-", "_"), None)
        if command is None:
            self.cluster.step(" ".join(words))
        else:
            command(*words[1:])

    def replica(self, name: str) -> Replica:
        replica = self.cluster.replica(name)
        assert replica is not None, f"{name} does not run"
        return replica

    # -- several steps ---------------------------------------------------------------------------------------

    def broadcast(self, name: str) -> None:
        self.cluster.step(f"flush {name}")
        for other in self.cluster.nodes:
            while self.cluster.on_wire(name, other):
                self.cluster.step(f"deliver {name} {other} 0")

    def exchange(self, name: str, peer: str) -> None:
        self.cluster.step(f"pull {name} {peer}")
        self.cluster.step(f"flush {name}")
        while self.cluster.on_wire(name, peer) or self.cluster.on_wire(peer, name):
            for node in (peer, name):
                self.cluster.step(f"arrive {node}")
                self.cluster.step(f"flush {node}")
        for node in (name, peer):
            self.cluster.step(f"collect {node}")
            self.cluster.step(f"flush {node}")

    def everybody(self) -> None:
        running = [name for name, node in self.cluster.nodes.items() if node.replica is not None]
        for name in running:
            for peer in running:
                if name != peer:
                    self.exchange(name, peer)

    def partition(self, *words: str) -> None:
        sides = [side.split() for side in " ".join(words).split("|")]
        for side in sides:
            for other in sides:
                if side is not other:
                    for one in side:
                        for node in other:
                            self.cluster.step(f"cut {one} {node}")

    def wipe_tail(self, name: str) -> None:
        self.cluster.step(f"lose {name} 0")

    def unchecked(self) -> None:
        self.cluster.check = self.cluster.history.strict = False

    def start_as_before(self, name: str) -> None:
        self.cluster.nodes[name].clean = True
        self.cluster.step(f"start {name}")

    def retire(self, name: str) -> None:
        cluster = self.cluster
        node, replica = cluster.nodes[name], self.replica(name)
        former, node.actor = node.actor, Actor(name, cluster.incarnation())
        replica.retire(node.actor)
        cluster.members = (cluster.members - {former}) | {node.actor}
        for other in cluster.nodes:
            cluster.step(f"learn {other}")

    def fails(self, *words: str) -> None:
        try:
            self.do(list(words))
        except LostHistoryError:
            return
        raise UnexpectedError("it does not")

    # -- expectations ----------------------------------------------------------------------------------------

    def expect(self, name: str, key: str, *values: str) -> None:
        held = sorted(unstamped(value)[1].decode() for value in self.replica(name).values(key.encode()))
        if held != sorted(value for value in values if value != "-"):
            raise UnexpectedError(f"it has {' '.join(held) or 'none'}")

    def tombstones(self, name: str, count: str) -> None:
        _compare(self.replica(name).parts.state.tombstones(), int(count))

    def actors(self, name: str, count: str) -> None:
        _compare(len(self.replica(name).parts.state.clock.bases), int(count))

    def condition(self, name: str, condition: str) -> None:
        _compare(self.replica(name).condition.value.replace(" ", "-"), condition)

    def ended(self, name: str, how: str) -> None:
        ended = self.cluster.ended.get(name)
        if isinstance(ended, Pulled):
            _compare("whole" if ended.whole else "partial", how)
        else:
            _compare("not" if ended is None else ended.reason.name.lower().replace("_", "-"), how)

    def equal(self) -> None:
        replicas = [node.replica for node in self.cluster.nodes.values() if node.actor in self.cluster.members]
        states = [
            ({actor: entry for actor, entry in clock_of(replica).items() if entry != (0, 0)}, versions_of(replica))
            for replica in replicas
            if replica is not None
        ]
        if len(states) < len(self.cluster.members) or any(state != states[0] for state in states):
            raise UnexpectedError(f"they have {states}")


def _compare(found: object, expected: object) -> None:
    if found != expected:
        raise UnexpectedError(f"it is {found}")
