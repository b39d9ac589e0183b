"""Nodes in pods that an operator joins: their names and volumes stay, their addresses change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.kubelet.brokers import Brokers, only_in_long_run
from e2e.kubelet.containers import Image
from e2e.kubelet.example import HEADLESS, NAME, example
from e2e.kubelet.network import why_impossible
from e2e.kubelet.stand_in import stand_in

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    with stand_in(tmp_path, Image(("strogoff",), ("start",))) as kubernetes:
        brokers = Brokers(kubernetes, NAME)
        try:
            yield brokers
        finally:
            brokers.end_clients()


def join(brokers: Brokers, ordinal: int) -> None:
    first = f"strogoff@{NAME}-0.{HEADLESS}.test.svc.cluster.local"
    assert brokers.admin(ordinal, "cluster", "join", f"discovery-node={first}").strip() == "Done"


@pytest.mark.parametrize("policy", ["OrderedReady", pytest.param("Parallel", marks=only_in_long_run)])
def test_nodes_that_were_joined_stay_one_cluster_when_their_pods_get_new_addresses(
    brokers: Brokers, policy: str
) -> None:
    before = brokers.install(example(3, policy=policy), 3)
    for ordinal in (1, 2):
        join(brokers, ordinal)
    brokers.await_one_cluster(3)
    with brokers.load():
        brokers.kubernetes.delete_pod(f"{NAME}-1")
        brokers.kubernetes.eventually(
            lambda: brokers.kubernetes.pods().get(f"{NAME}-1") != before[f"{NAME}-1"], "its end begins"
        )
        after = brokers.kubernetes.await_pods(NAME, 3)
        assert after[f"{NAME}-1"].address != before[f"{NAME}-1"].address
        brokers.await_one_cluster(3)
        brokers.goes_on("after the restart")
