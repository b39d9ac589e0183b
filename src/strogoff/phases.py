"""The phases of a node: one table, from which the broker runs, `node phase` tells, and the documentation is drawn."""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["PHASES", "IllegalPhaseChangeError", "NodeHealth", "Phase", "PhaseHistory", "PhaseRow"]


class Phase(enum.Enum):
    """Where a node is between start and stop."""

    START = "start"
    BOOTING = "booting"
    DISCOVERING = "discovering"
    JOINING = "joining"
    SYNCING = "syncing"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One phase: what happens in it, whether clients are served, and which phases may come next."""

    phase: Phase
    what: str
    listeners_open: bool
    next: tuple[Phase, ...]


# Draining is reached from everywhere: a node that is told to stop while it starts stops properly, too.
PHASES: dict[Phase, PhaseRow] = {
    row.phase: row
    for row in (
        PhaseRow(Phase.START, "nothing has happened yet", listeners_open=False, next=(Phase.BOOTING, Phase.DRAINING)),
        PhaseRow(
            Phase.BOOTING,
            "data directory locked, admin socket opened, store opened, engine started",
            listeners_open=False,
            next=(Phase.DISCOVERING, Phase.DRAINING),
        ),
        PhaseRow(Phase.DISCOVERING, "peers are looked for", listeners_open=False, next=(Phase.JOINING, Phase.DRAINING)),
        PhaseRow(Phase.JOINING, "membership is changed", listeners_open=False, next=(Phase.SYNCING, Phase.DRAINING)),
        PhaseRow(Phase.SYNCING, "metadata is exchanged", listeners_open=False, next=(Phase.READY, Phase.DRAINING)),
        PhaseRow(Phase.READY, "clients are served", listeners_open=True, next=(Phase.DRAINING,)),
        PhaseRow(
            Phase.DRAINING,
            "listeners closed, clients told, queues flushed",
            listeners_open=False,
            next=(Phase.STOPPED,),
        ),
        PhaseRow(Phase.STOPPED, "the engine has ended", listeners_open=False, next=()),
    )
}


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """What the health of a node is judged by. `listeners`: of each its kind, and whether it runs.

    `cluster_obstacles`: why the cluster is not ready; empty while it is. `unreachable`: names of members. `has_served`:
    whether the node was ready since it was started. `waits_for`: what it lacks before it serves clients, at its start.
    """

    phase: Phase
    listeners: Sequence[tuple[str, bool]] = ()
    cluster_obstacles: Sequence[str] = ()
    unreachable: Sequence[str] = ()
    has_served: bool = False
    waits_for: Sequence[str] = ()


class IllegalPhaseChangeError(AssertionError):
    """A defect of the broker: a change of phase that the table does not have."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A phase and the time it was entered, in seconds since the Unix epoch."""

    phase: Phase
    entered_at: float


class PhaseHistory:
    """Which phases a node has been through. `clock`: seconds since the Unix epoch."""

    __slots__ = ("_clock", "_passages")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._passages = [Passage(Phase.START, clock())]

    @property
    def current(self) -> Phase:
        """The phase the node is in."""
        return self._passages[-1].phase

    @property
    def passages(self) -> tuple[Passage, ...]:
        """All phases until now, in order."""
        return tuple(self._passages)

    def enter(self, phase: Phase) -> PhaseRow:
        """Change the phase. Raises `IllegalPhaseChangeError` for a step that is not in the table."""
        if phase not in PHASES[self.current].next:
            raise IllegalPhaseChangeError(f"{self.current.value} is not followed by {phase.value}")
        self._passages.append(Passage(phase, self._clock()))
        return PHASES[phase]
