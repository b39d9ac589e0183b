"""Clusters with all kinds of faults, by chance: the invariants hold after every step, and in the end all members are
equal."""

from random import Random

import pytest

from cluster.schedule import FAULTS, Schedule
from cluster.simulate import FailedRunError, failure, run
from cluster.simulator import SMALL, Cluster
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.state import State

RUNS = 50


@pytest.mark.parametrize("first", range(1, 151, RUNS))
def test_small_clusters_hold_through_all_faults(first: int) -> None:
    for seed in range(first, first + RUNS):
        run(seed, 3 + seed % 3, 250)


def test_a_cluster_of_twenty_holds() -> None:
    run(7, 20, 300)


def test_two_hundred_replicas_become_equal() -> None:
    cluster = Cluster(200, Limits(), check=False)
    schedule = Schedule(cluster, Random(1), frozenset({"loss", "partition", "death", "power"}))
    schedule.weights["calm"] = 0
    schedule.weights["arrive"] = 30
    for _ in range(300):
        cluster.step(schedule.next())
    cluster.step("level")


def test_a_run_replays_exactly_from_its_seed() -> None:
    def script(seed: int) -> tuple[list[str], dict[object, object]]:
        cluster = Cluster(4, SMALL)
        schedule = Schedule(cluster, Random(seed), frozenset(FAULTS))
        lines = []
        for _ in range(200):
            lines.append(schedule.next())
            cluster.step(lines[-1])
        return lines, {name: node.disk.synced for name, node in cluster.nodes.items()}

    assert script(5) == script(5)


def test_a_failing_run_is_shown_as_a_short_script_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    # A defect: nothing is ever rebuilt of the dot-key map.
    monkeypatch.setattr(State, "_note", lambda *_: None)

    def run_some() -> None:
        for seed in range(1, 20):
            run(seed, 3, 200)

    with pytest.raises(FailedRunError) as failed:
        run_some()
    comment, *script = str(failed.value).strip().splitlines()
    assert len(script) < 20
    assert failure(int(comment.split()[2].rstrip(",")), 3, script).startswith("InvariantError 6:")
