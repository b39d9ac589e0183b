"""A broker that is killed under load again and again: what it has acknowledged is delivered, as it was promised.

The long run is `make crash`. These variables of the environment change what is run:

STROGOFF_CRASH_KILLS  so many kills, in one run
STROGOFF_CRASH_SYNC   `store.sync` of that run (interval)
STROGOFF_CRASH_SEED   the seed; without it the long run takes any, and prints it
"""

import os
import secrets
from random import Random

import pytest

from broker_process import Setting
from durability.crash import CrashPlan, CrashRun
from durability.ledger import told
from durability.node import StartNode

SEED = 1870
RUNS = [("interval", 10), ("always", 2), ("never", 2)]
if "STROGOFF_CRASH_KILLS" in os.environ:
    SEED = secrets.randbelow(1_000_000)
    RUNS = [(os.environ.get("STROGOFF_CRASH_SYNC", "interval"), int(os.environ["STROGOFF_CRASH_KILLS"]))]
SEED = int(os.environ.get("STROGOFF_CRASH_SEED", SEED))

# Small segments make the store clean up while it is killed.
SETTINGS: dict[str, Setting] = {"max_offline_messages": -1, "max_online_messages": -1, "store.segment_bytes": "64KB"}


@pytest.mark.parametrize(("sync", "kills"), RUNS)
def test_what_was_acknowledged_is_delivered_however_often_the_broker_is_killed(
    node_with: StartNode, sync: str, kills: int
) -> None:
    node = node_with({**SETTINGS, "store.sync": sync})
    run = CrashRun(node.broker, CrashPlan(kills), Random(SEED))
    ledger = run.run()
    counts = ledger.counts
    print(f"seed {SEED}, {kills} kills and {run.early_kills} while it started, {dict(counts)}")
    problems = ledger.judge()
    assert not problems, told(problems)
    # There was something to lose.
    assert counts["accepted"] > 50 * kills
    assert counts["arrivals"] > 200 * kills
    assert counts["redeliveries"] > kills
    node.broker.stop()
    checked = node.strogoff("store", "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
