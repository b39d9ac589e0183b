"""Which pods a stateful set makes and ends next."""

import dataclasses

import pytest

from e2e.kubelet.example import example
from e2e.kubelet.manifests import StatefulSet, read_stateful_set
from e2e.kubelet.ordering import Create, Delete, Seen, next_steps


def of(replicas: int, *, policy: str = "OrderedReady", partition: int = 0, is_rolling: bool = True) -> StatefulSet:
    found = read_stateful_set(example(replicas, policy=policy)[0])
    return dataclasses.replace(found, partition=partition, is_rolling=is_rolling)


REVISION = of(1).template.revision
READY, STARTING = Seen(REVISION, is_ready=True), Seen(REVISION, is_ready=False)
ENDING = Seen(REVISION, is_ready=True, is_ending=True)
OLD, OLD_STARTING = Seen("old", is_ready=True), Seen("old", is_ready=False)


def steps(stateful_set: StatefulSet, *pods: Seen | None, is_update_complete: bool = True) -> list[Create | Delete]:
    seen = {ordinal: pod for ordinal, pod in enumerate(pods) if pod is not None}
    return next_steps(stateful_set, seen, is_update_complete=is_update_complete)


@pytest.mark.parametrize(
    ("pods", "wanted"),
    [
        ((), [Create(0)]),
        ((STARTING,), []),
        ((READY,), [Create(1)]),
        ((READY, READY, READY), []),
        # One in the middle is missing, or not ready any more: those above it wait.
        ((READY, None, READY), [Create(1)]),
        ((STARTING, None, READY), []),
        ((ENDING, None), []),
    ],
)
def test_ordered_pods_are_made_one_after_the_other(
    pods: tuple[Seen | None, ...], wanted: list[Create | Delete]
) -> None:
    assert steps(of(3), *pods) == wanted


def test_parallel_pods_are_made_at_once() -> None:
    parallel = of(3, policy="Parallel")
    assert steps(parallel) == [Create(0), Create(1), Create(2)]
    assert steps(parallel, STARTING, None, READY) == [Create(1)]


def test_ordered_pods_that_are_too_many_go_one_after_the_other_from_the_highest() -> None:
    assert steps(of(1), READY, READY, READY) == [Delete(2)]
    assert steps(of(1), READY, READY, ENDING) == []
    assert steps(of(1), READY, READY) == [Delete(1)]


def test_while_a_pod_that_stays_is_not_ready_no_other_goes() -> None:
    assert steps(of(1), STARTING, READY) == []


def test_of_those_too_many_an_unready_one_below_holds_up_an_unready_one_above() -> None:
    assert steps(of(1), READY, READY, STARTING) == [Delete(2)]
    assert steps(of(1), READY, STARTING, READY) == [Delete(2)]
    assert steps(of(1), READY, STARTING, STARTING) == []


def test_parallel_pods_that_are_too_many_go_at_once() -> None:
    assert steps(of(1, policy="Parallel"), READY, STARTING, READY) == [Delete(2), Delete(1)]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_an_update_goes_from_the_highest_down_one_at_a_time(policy: str) -> None:
    three = of(3, policy=policy)
    assert steps(three, OLD, OLD, OLD) == [Delete(2)]
    assert steps(three, OLD, OLD, STARTING) == []
    assert steps(three, OLD, OLD, READY) == [Delete(1)]
    assert steps(three, OLD, ENDING, READY) == []
    assert steps(three, OLD, READY, READY) == [Delete(0)]


def test_an_ordered_update_waits_for_a_broken_pod_and_a_parallel_one_replaces_it() -> None:
    assert steps(of(2), OLD, OLD_STARTING) == []
    assert steps(of(2, policy="Parallel"), OLD, OLD_STARTING) == [Delete(1)]


def test_pods_below_the_partition_are_not_updated_and_come_back_as_they_were() -> None:
    three = of(3, partition=2)
    assert steps(three, OLD, OLD, OLD) == [Delete(2)]
    assert steps(three, OLD, OLD, READY) == []
    assert steps(three, OLD, None, READY, is_update_complete=False) == [Create(1, is_former=True)]
    assert steps(three, OLD, OLD, None, is_update_complete=False) == [Create(2)]


def test_a_pod_has_to_be_ready_for_some_time_until_the_next_one_has_its_turn() -> None:
    fresh = dataclasses.replace(READY, is_available=False)
    assert steps(of(2), fresh) == []
    assert steps(of(2), OLD, fresh) == []
    assert steps(of(2), OLD, dataclasses.replace(READY, is_available=True)) == [Delete(0)]


def test_without_rolling_updates_nothing_is_replaced() -> None:
    assert steps(of(2, is_rolling=False), OLD, OLD) == []


def test_a_pod_that_will_never_run_again_is_made_anew() -> None:
    assert steps(of(1), Seen(REVISION, is_ready=False, has_failed=True)) == [Delete(0)]
