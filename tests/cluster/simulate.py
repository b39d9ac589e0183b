"""Simulates clusters until the time is over: `python tests/cluster/simulate.py --seconds 3600 --seed 1 --replicas 3-9`.

Each run has a seed of its own. A run that fails is told by its seed, and as the shortest script found that fails alike.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parent.parent))

from cluster.schedule import Schedule
from cluster.simulator import SMALL, Cluster
from strogoff.cluster.swc.limits import Limits

Script = list[str]


class FailedRunError(AssertionError):
    """A run has failed. The message is the script."""


def cluster_for(seed: int, replicas: int, *, check: bool = True) -> Cluster:
    """A cluster as the seed has it: every third with limits as nodes have them, the others with tiny ones."""
    return Cluster(replicas, Limits() if seed % 3 == 0 else SMALL, check=check)


def run(seed: int, replicas: int, steps: int) -> Cluster:
    """One run. Raises `FailedRunError` with the shortest script that was found to fail."""
    cluster = cluster_for(seed, replicas)
    schedule = Schedule(cluster, Random(seed))
    script: Script = []
    try:
        for _ in range(steps):
            script.append(schedule.next())
            cluster.step(script[-1])
        script.append("settle")
        cluster.step("settle")
    except Exception as error:
        short = shrink(script, lambda shorter: failure(seed, replicas, shorter), failure(seed, replicas, script))
        shown = "\n".join(["", f"# seed {seed}, {replicas} replicas: {failure(seed, replicas, short)}", *short])
        raise FailedRunError(shown) from error
    return cluster


def failure(seed: int, replicas: int, script: Script) -> str:
    """How a script fails; "" when it does not."""
    try:
        cluster_for(seed, replicas).run(script)
    except Exception as error:  # noqa: BLE001 - any error is a failure
        return f"{type(error).__name__} {error}"
    return ""


def shrink(script: Script, fails: "object", reason: str, seconds: float = 20) -> Script:
    """A short part of a script that fails with the same invariant or the same kind of error: halves, quarters … are
    left out."""
    assert callable(fails)
    deadline = time.monotonic() + seconds
    kind = _kind(reason)
    size = max(len(script) // 2, 1)
    while size and time.monotonic() < deadline:
        at, shorter = 0, False
        while at < len(script) and time.monotonic() < deadline:
            candidate = script[:at] + script[at + size :]
            if _kind(str(fails(candidate))) == kind:
                script, shorter = candidate, True
            else:
                at += size
        if not shorter or size > 1:
            size = size // 2 if size > 1 else 0
    return script


def _kind(reason: str) -> str:
    return reason.partition(":" if reason.startswith("InvariantError") else " ")[0]


def seeds(first: int, replicas: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Seeds with the numbers of replicas that they are run with."""
    seed = first
    while True:
        yield seed, Random(seed).randint(*replicas)
        seed += 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Simulate clusters of the metadata's core.")
    parser.add_argument("--seconds", type=float, default=60, help="how long (60)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--replicas", default="3-6", help="how many replicas, a number or a range (3-6)")
    parser.add_argument("--steps", type=int, default=400, help="steps of a run (400)")
    parser.add_argument("--once", action="store_true", help="run the first seed alone")
    options = parser.parse_args()
    low, _, up = options.replicas.partition("-")
    deadline = time.monotonic() + options.seconds
    runs = pulls = wholes = writes = 0
    for seed, replicas in seeds(options.seed, (int(low), int(up or low))):
        try:
            cluster = run(seed, replicas, options.steps)
        except FailedRunError as error:
            print(error)
            return 1
        runs, pulls, wholes = runs + 1, pulls + cluster.pulls, wholes + cluster.wholes
        writes += len(cluster.history.writes)
        if options.once or time.monotonic() > deadline:
            break
    print(f"{runs} runs from seed {options.seed}: {writes} writes, {pulls} exchanges, {wholes} of them whole; all held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
