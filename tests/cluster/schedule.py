"""Makes scripts for the simulator by chance: steps that make sense where the cluster is, and faults of all kinds
among them."""

from collections.abc import Callable
from random import Random

from cluster.simulator import Cluster

KEYS = 6
REMOVED_MAX = 3
JOINED_MAX = 4

_Make = Callable[["Schedule"], str]


class Schedule:
    """Draws one step after the other. `faults`: which kinds of faults there are, by their names in `FAULTS`."""

    def __init__(self, cluster: Cluster, random: Random, faults: frozenset[str] | None = None) -> None:
        self.cluster = cluster
        self.random = random
        chosen = frozenset(fault for fault in FAULTS if random.random() < 0.6) if faults is None else faults
        self.weights = {**STEPS, **{step: weight for fault in sorted(chosen) for step, weight in FAULTS[fault].items()}}
        self.joined = 0

    def next(self) -> str:
        """A step."""
        names = list(self.weights)
        while True:
            (step,) = self.random.choices(names, [self.weights[name] for name in names])
            line = getattr(self, f"_{step}", self._of_node)(step)
            if line:
                return str(line)

    def _name(self) -> str:
        return self.random.choice(list(self.cluster.nodes))

    def _of_node(self, step: str) -> str:
        return f"{step} {self._name()}"

    def _put(self, step: str) -> str:
        return f"{step} {self._name()} k{self.random.randrange(KEYS)} v{self.random.randrange(1000)}"

    def _delete(self, step: str) -> str:
        return f"{step} {self._name()} k{self.random.randrange(KEYS)}"

    def _lose(self, step: str) -> str:
        return f"{step} {self._name()} {self.random.randrange(4)}"

    def _pair(self, step: str) -> str:
        one, other = self._name(), self._name()
        return f"{step} {one} {other}" if one != other else ""

    _pull = _cut = _pair

    def _message(self, step: str) -> str:
        wires = self.cluster.busy()
        if not wires:
            return ""
        wire = self.random.choice(wires)
        # Mostly in their order, as links have it.
        number = 0 if self.random.random() < 0.6 else self.random.randrange(len(self.cluster.on_wire(*wire)))
        return f"{step} {wire[0]} {wire[1]} {number}"

    _deliver = _drop = _copy = _message

    def _alone(self, step: str) -> str:
        return step

    _heal = _calm = _alone

    def _join(self, step: str) -> str:
        if self.joined >= JOINED_MAX:
            return ""
        self.joined += 1
        return f"{step} j{self.joined}"

    def _leave(self, step: str) -> str:
        gone = len(self.cluster.nodes) - len(self.cluster.members)
        return self._of_node(step) if gone < REMOVED_MAX else ""


STEPS: dict[str, float] = {
    "put": 12,
    "delete": 6,
    "flush": 16,
    "deliver": 30,
    "arrive": 6,
    "pull": 6,
    "collect": 5,
    "start": 5,
    "sync": 3,
    "calm": 1.5,
}
FAULTS: dict[str, dict[str, float]] = {
    "loss": {"drop": 6},
    "doubling": {"copy": 4},
    "partition": {"cut": 2, "heal": 0.5},
    "death": {"stop": 0.7, "half": 0.7},
    "power": {"lose": 1.0},
    "disk": {"wipe": 0.3},
    "members": {"join": 0.5, "leave": 0.4, "rejoin": 0.7, "readd": 0.7, "learn": 8},
    "patience": {"repeat": 2, "cancel": 0.5},
}
