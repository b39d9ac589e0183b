"""What the health paths say, as a table of states."""

import pytest

from strogoff import health
from strogoff.phases import NodeHealth, Phase

RUNNING = (("tcp", True), ("ssl", True))
STOPPED = (("tcp", True), ("ssl", False), ("ws", False))


@pytest.mark.parametrize(
    ("state", "node", "ready", "live"),
    [
        (NodeHealth(Phase.BOOTING), False, False, True),
        (NodeHealth(Phase.JOINING), False, False, True),
        (NodeHealth(Phase.SYNCING), False, False, True),
        (NodeHealth(Phase.READY, RUNNING), True, True, True),
        (NodeHealth(Phase.READY, STOPPED), False, False, True),
        (NodeHealth(Phase.DRAINING, RUNNING), False, False, True),
        (NodeHealth(Phase.STOPPED), False, False, False),
    ],
)
def test_a_node_is_well_when_it_serves_clients(state: NodeHealth, node: bool, ready: bool, live: bool) -> None:
    assert (health.node(state).is_well, health.ready(state).is_well, health.live(state).is_well) == (node, ready, live)
    assert health.cluster(state).is_well is node
    assert health.ping(state).is_well


@pytest.mark.parametrize("phase", [Phase.READY, Phase.DRAINING])
def test_a_start_that_is_over_stays_over(phase: Phase) -> None:
    assert health.started(NodeHealth(phase, STOPPED, ("the cluster is not ready",), has_served=True)).is_well
    assert not health.started(NodeHealth(Phase.DRAINING)).is_well


def test_reasons_name_what_is_in_the_way() -> None:
    assert health.node(NodeHealth(Phase.JOINING)).reasons[0] == "Node has not joined cluster"
    assert health.ready(NodeHealth(Phase.BOOTING)).reasons == ("the node is in the phase booting",)
    waiting = NodeHealth(Phase.SYNCING, waits_for=("what two subscribes to", "retained messages"))
    expected = ("the node is in the phase syncing and waits for what two subscribes to, retained messages",)
    assert health.ready(waiting).reasons == health.started(waiting).reasons == expected
    stopped = NodeHealth(Phase.READY, STOPPED)
    assert health.listeners(stopped).reasons == ("Listeners are not ready: [mqtts,mqttws]",)


def test_a_cluster_that_is_not_ready_keeps_clients_away_and_restarts_nobody() -> None:
    why = ("the cluster is not ready: 1 of 3 nodes can be reached", "two cannot be reached")
    state = NodeHealth(Phase.READY, RUNNING, why, ("two",))
    assert health.ready(state).reasons == why
    assert health.cluster(state).reasons == ("At least one node is offline", "two cannot be reached")
    assert health.node(state).is_well
    assert health.live(state).is_well
