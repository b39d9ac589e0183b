"""Whether the node is well, as data: what the health paths and `node health` answer, and why."""

from dataclasses import dataclass

from strogoff.config.listeners import TYPE_NAMES
from strogoff.phases import NodeHealth, Phase

__all__ = ["Health", "cluster", "listeners", "live", "node", "ping", "ready", "started"]


@dataclass(frozen=True, slots=True)
class Health:
    """A verdict: well when there is no reason against it."""

    reasons: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def ping(_state: NodeHealth) -> Health:
    """The HTTP listener answers, which is all that is asked."""
    return Health()


def live(state: NodeHealth) -> Health:
    """Whether a restart would help: a process that answers here and has not stopped is alive."""
    return Health(("the node has stopped",)) if state.phase is Phase.STOPPED else Health()


def started(state: NodeHealth) -> Health:
    """Whether the start is over: the node has served clients, whatever has happened since."""
    return Health() if state.has_served else Health((_unready(state),))


def ready(state: NodeHealth) -> Health:
    """Whether clients should be sent here: the node serves them, and its cluster is ready."""
    if state.phase is not Phase.READY:
        return Health((_unready(state),))
    return Health(tuple(state.cluster_obstacles) + listeners(state).reasons)


def _unready(state: NodeHealth) -> str:
    waits = f" and waits for {', '.join(state.waits_for)}" if state.waits_for else ""
    return f"the node is in the phase {state.phase.value}{waits}"


def node(state: NodeHealth) -> Health:
    """VerneMQ's `/health`: the node is a member of its cluster, and its listeners run."""
    joined = state.phase in {Phase.SYNCING, Phase.READY}
    reasons = () if joined else ("Node has not joined cluster",)
    return Health(reasons + listeners(state).reasons)


def listeners(state: NodeHealth) -> Health:
    """Whether every listener runs."""
    if state.phase is not Phase.READY:
        return Health((f"Listeners are not ready: the node is in the phase {state.phase.value}",))
    stopped = [TYPE_NAMES.get(kind, kind) for kind, is_running in state.listeners if not is_running]
    return Health((f"Listeners are not ready: [{','.join(stopped)}]",)) if stopped else Health()


def cluster(state: NodeHealth) -> Health:
    """Whether all nodes that are known are online, and the listeners here run. A node without peers is all there is."""
    offline = ("At least one node is offline", *(f"{name} cannot be reached" for name in state.unreachable))
    return Health((offline if state.unreachable else ()) + node(state).reasons)
