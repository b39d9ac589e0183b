"""The chart on the stand-in: nodes in pods become one cluster, and stay one, whatever is done to the pods.

Meanwhile clients publish through the service, and what was acknowledged to them must arrive. `make pods` tells each
story again and again.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e.kubelet.brokers import CHART_NAME, IMAGE, ROUNDS, Brokers, chart, only_in_long_run
from e2e.kubelet.network import why_impossible
from e2e.kubelet.stand_in import stand_in

pytestmark = [
    pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible())),
    pytest.mark.parametrize("turn", range(ROUNDS)),
]

NAME: Final = CHART_NAME


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    with stand_in(tmp_path, IMAGE) as kubernetes:
        brokers = Brokers(kubernetes, NAME)
        try:
            yield brokers
        finally:
            brokers.end_clients()


@pytest.mark.parametrize("policy", ["Parallel", pytest.param("OrderedReady", marks=only_in_long_run)])
def test_three_pods_become_one_cluster(brokers: Brokers, policy: str, turn: int) -> None:
    brokers.install(chart(3, statefulset={"podManagementPolicy": policy}), 3)
    brokers.await_one_cluster(3)
    with brokers.load(is_once=True):
        brokers.goes_on("after the installation")


def test_a_cluster_grows_and_shrinks_under_load(brokers: Brokers, turn: int) -> None:
    """1, 3, 5, 2, and 3 again, of which the last pod comes back with the volume of a node that has left."""
    brokers.install(chart(1), 1)
    with brokers.load():
        for replicas in (3, 5, 2, 3):
            brokers.kubernetes.scale(NAME, replicas)
            brokers.kubernetes.await_pods(NAME, replicas, 120)
            brokers.await_one_cluster(replicas)
            brokers.goes_on(f"with {replicas} pods")


def test_an_update_replaces_all_pods_under_load(brokers: Brokers, turn: int) -> None:
    before = brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    with brokers.load():
        brokers.kubernetes.apply(chart(3, config={"max_inflight_messages": 50}))
        after = brokers.kubernetes.await_pods(NAME, 3, 120)
        assert all(after[name].uid != before[name].uid for name in before)
        brokers.await_one_cluster(3)
        brokers.goes_on("after the update")
    assert "50" in brokers.admin(0, "show", "max_inflight_messages")


def test_a_pod_that_is_deleted_and_one_that_crashes_come_back(brokers: Brokers, turn: int) -> None:
    before = brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    with brokers.load():
        brokers.kubernetes.delete_pod(f"{NAME}-1")
        brokers.kubernetes.eventually(lambda: brokers.is_new(f"{NAME}-1", before), "it is made anew", 60)
        brokers.kubernetes.await_pods(NAME, 3)
        brokers.await_one_cluster(3)
        brokers.goes_on("after the deletion")
        brokers.kubernetes.crash(f"{NAME}-2")
        brokers.kubernetes.eventually(lambda: brokers.kubernetes.pods()[f"{NAME}-2"].restarts == 1, "it is run again")
        brokers.kubernetes.await_pods(NAME, 3)
        brokers.await_one_cluster(3)
        brokers.goes_on("after the crash")


@pytest.mark.parametrize("keeps_volumes", [True, False])
def test_a_machine_is_lost(brokers: Brokers, keeps_volumes: bool, turn: int) -> None:
    """With its volume its sessions come back. Without, what waited for them there is lost, so none is there."""
    before = brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    with brokers.load():
        homes = set(brokers.homes().values())
        lost = next(name for name in before if (name in homes) == keeps_volumes)
        brokers.kubernetes.lose_node(lost, keeps_volumes=keeps_volumes)
        brokers.kubernetes.eventually(lambda: brokers.is_new(lost, before), "it is made anew", 60)
        brokers.kubernetes.await_pods(NAME, 3, 120)
        brokers.await_one_cluster(3)
        brokers.goes_on("after the loss")


def test_a_wrong_configuration_stops_an_update_at_the_first_pod_and_says_what_is_wrong(
    brokers: Brokers, turn: int
) -> None:
    brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    with brokers.load():
        brokers.kubernetes.apply(chart(3, config={"max_inflight_mesages": 50}))
        kubernetes = brokers.kubernetes
        kubernetes.eventually(lambda: getattr(kubernetes.pods().get(f"{NAME}-2"), "restarts", 0) >= 3, "it fails", 60)
        pods = kubernetes.pods()
        broken = pods[f"{NAME}-2"].containers["strogoff"]
        assert broken.exit_code == 3
        assert "max_inflight_mesages" in broken.last_line
        assert [pod.is_ready for pod in pods.values()] == [True, True, False]
        brokers.goes_on("with two of three")
        kubernetes.apply(chart(3, config={"max_inflight_messages": 50}))
        kubernetes.await_pods(NAME, 3, 120)
        brokers.await_one_cluster(3)
        brokers.goes_on("when it is right again")
