"""Pods of the chart find one another although something is in the way: names, the API, a machine, or their own past."""

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
LOOKING: Final = "nobody says where other nodes are"


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    with stand_in(tmp_path, IMAGE) as kubernetes:
        brokers = Brokers(kubernetes, NAME)
        try:
            yield brokers
        finally:
            brokers.end_clients()


def await_log(brokers: Brokers, text: str, *ordinals: int) -> None:
    """Return when each of these pods has logged it."""
    kubernetes = brokers.kubernetes
    for ordinal in ordinals:
        name = f"{NAME}-{ordinal}"
        kubernetes.eventually(
            lambda name=name: name in kubernetes.pods() and text in kubernetes.log(name),  # type: ignore[misc]
            f"{name} logs {text}",
        )


def test_pods_wait_for_a_name_server_that_fails_at_first(brokers: Brokers, turn: int) -> None:
    brokers.kubernetes.names.is_failing = True
    brokers.kubernetes.apply(chart(3))
    await_log(brokers, LOOKING, 0, 1, 2)
    assert not any(pod.is_ready for pod in brokers.kubernetes.pods().values())
    brokers.kubernetes.names.is_failing = False
    brokers.kubernetes.await_pods(NAME, 3)
    brokers.await_one_cluster(3)


@only_in_long_run
def test_pods_that_find_one_another_by_the_api_wait_for_it(brokers: Brokers, turn: int) -> None:
    brokers.kubernetes.api.is_failing = True
    brokers.kubernetes.apply(chart(3, discovery="kubernetes"))
    await_log(brokers, LOOKING, 0, 1, 2)
    brokers.kubernetes.api.is_failing = False
    brokers.kubernetes.await_pods(NAME, 3)
    brokers.await_one_cluster(3)


def test_pods_start_no_cluster_without_the_first_one(brokers: Brokers, turn: int) -> None:
    """It alone may, so that there are not two. It comes when the others have waited for it for a while."""
    brokers.kubernetes.hold(f"{NAME}-0")
    brokers.kubernetes.apply(chart(3))
    await_log(brokers, "waits for its cluster", 1, 2)
    assert [pod.is_ready for pod in brokers.kubernetes.pods().values()] == [False, False]
    brokers.kubernetes.let_go()
    brokers.kubernetes.await_pods(NAME, 3)
    brokers.await_one_cluster(3)


def test_a_cluster_of_which_all_pods_end_at_once_comes_back_with_all_that_waits(brokers: Brokers, turn: int) -> None:
    before = brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    with brokers.load(is_once=True), brokers.subscribers_away():
        brokers.publish_for_those_away(30)
        for name in before:
            brokers.kubernetes.delete_pod(name)
        for name in before:
            brokers.kubernetes.eventually(lambda name=name: brokers.is_new(name, before), f"{name} is made anew")  # type: ignore[misc]
        after = brokers.kubernetes.await_pods(NAME, 3, 120)
        assert not {pod.address for pod in after.values()} & {pod.address for pod in before.values()}
        brokers.await_one_cluster(3)


@only_in_long_run
def test_a_pod_without_a_volume_takes_its_place_again(brokers: Brokers, turn: int) -> None:
    before = brokers.install(chart(3, persistentVolume={"enabled": False}), 3)
    brokers.await_one_cluster(3)
    for ordinal in (2, 0):
        name = f"{NAME}-{ordinal}"
        brokers.kubernetes.delete_pod(name)
        brokers.kubernetes.eventually(lambda name=name: brokers.is_new(name, before), f"{name} is made anew", 60)  # type: ignore[misc]
        brokers.kubernetes.await_pods(NAME, 3)
        brokers.await_one_cluster(3)


@only_in_long_run
def test_a_pod_that_cannot_ask_whether_it_is_scaled_down_stays_a_member_and_comes_back_as_one(
    brokers: Brokers, turn: int
) -> None:
    brokers.install(chart(3), 3)
    brokers.await_one_cluster(3)
    brokers.kubernetes.api.is_failing = True
    brokers.kubernetes.scale(NAME, 2)
    brokers.kubernetes.await_pods(NAME, 2)
    brokers.kubernetes.eventually(lambda: brokers.links(0).get(f"{NAME}-2") == "down", "it is a member that is away")
    brokers.kubernetes.api.is_failing = False
    brokers.kubernetes.scale(NAME, 3)
    brokers.kubernetes.await_pods(NAME, 3)
    brokers.await_one_cluster(3)
