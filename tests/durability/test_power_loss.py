"""What `store.sync` promises when the power fails: what was not synced is taken back after the kill, all or in part.

`always`: whatever was acknowledged is there. `interval`: whatever was acknowledged more than two intervals before. A
plain kill loses nothing in any mode, which `test_crash.py` shows; the variables named there act here too.
"""

import os
from random import Random

import pytest

from broker_process import Setting
from durability.crash import CrashPlan, CrashRun
from durability.ledger import told
from durability.load import Pace
from durability.node import Node, StartNode, session_present, wait_until
from protocol.client import unique
from protocol.marks import V5

SETTINGS: dict[str, Setting] = {"max_offline_messages": -1, "max_online_messages": -1, "store.segment_bytes": "64KB"}
INTERVAL_MS = 150
CUTS = int(os.environ.get("STROGOFF_CRASH_KILLS", "3"))
SEED = int(os.environ.get("STROGOFF_CRASH_SEED", "1870"))
GRACE_S = 2 * INTERVAL_MS / 1_000


class PowerCuts:
    """What happens to the disk after each kill: everything unsynced is lost, or a part, or the last write is torn."""

    def __init__(self, node: Node) -> None:
        assert node.faults is not None
        self.faults = node.faults
        self.rng = Random(SEED)
        self.cuts = 0
        self.sectors = 0

    def cut(self) -> None:
        self.cuts += 1
        if self.cuts % 3 == 0:
            self.sectors += self.faults.garble_last_write(self.rng) > 0
        else:
            self.sectors += self.faults.lose_power(self.rng if self.cuts % 3 == 1 else None).sectors


def test_with_sync_always_what_was_acknowledged_survives_losses_of_power(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "always"}, journal=True)
    cuts = PowerCuts(node)
    plan = CrashPlan(CUTS, up_s=(0.3, 1.0))
    run = CrashRun(node.broker, plan, Random(SEED), Pace(gap_s=0.05), after_kill=cuts.cut)
    ledger = run.run()
    problems = ledger.judge()
    assert not problems, told(problems)
    assert cuts.sectors > 0, "nothing was lost, so nothing was shown"
    assert ledger.counts["accepted"] > 150


def test_with_sync_interval_what_was_acknowledged_two_intervals_ago_survives(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "interval", "store.sync_interval": INTERVAL_MS}, journal=True)
    cuts = PowerCuts(node)
    plan = CrashPlan(CUTS, up_s=(0.5, 1.2))
    run = CrashRun(node.broker, plan, Random(SEED), Pace(gap_s=0.05), after_kill=cuts.cut, expects_losses=True)
    ledger = run.run()
    problems = ledger.judge_losses(run.killed_at, GRACE_S)
    assert not problems, told(problems)
    assert cuts.sectors > 0, "nothing was lost, so nothing was shown"
    assert ledger.counts["accepted"] > 150


@pytest.mark.parametrize("qos", [1, 2])
def test_with_sync_always_a_message_is_on_the_disk_when_it_is_acknowledged(node_with: StartNode, qos: int) -> None:
    node = node_with({**SETTINGS, "store.sync": "always"}, journal=True)
    assert node.faults is not None
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = node.net.connect(V5)
    for number in range(20):
        publisher.publish(topic, b"%d" % number, qos=qos)
        publisher.publish(f"{topic}/kept", b"%d" % number, qos=qos, retain=True)
    node.broker.kill()
    node.faults.lose_power()
    node.start()
    client = node.net.resume(V5, client.client_id)
    assert session_present(client)
    assert client.receive_payloads(20) == [b"%d" % number for number in range(20)]
    late = node.net.connect(V5)
    late.subscribe(f"{topic}/kept", qos=1)
    assert late.receive().payload == b"19"


def test_with_sync_interval_a_message_is_on_the_disk_after_two_intervals(node_with: StartNode) -> None:
    node = node_with({"store.sync": "interval", "store.sync_interval": INTERVAL_MS}, journal=True)
    assert node.faults is not None
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    node.net.connect(V5).publish(topic, b"x", qos=1)
    due = node.now + GRACE_S
    wait_until(lambda: node.now > due, "two intervals")
    node.broker.kill()
    node.faults.lose_power()
    node.start()
    client = node.net.resume(V5, client.client_id)
    assert session_present(client)
    assert client.receive().payload == b"x"


def test_what_was_written_before_a_sync_failed_is_written_again(node_with: StartNode) -> None:
    """After a failed sync the kernel holds the pages for clean: another sync alone would save nothing of them."""
    node = node_with({**SETTINGS, "store.sync": "always"}, journal=True)
    assert node.faults is not None
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = node.net.connect(V5)
    assert publisher.publish(topic, b"before", qos=1) == 0
    accepted = [b"before"]
    with node.faults.failing("sync", every=2):
        for number in range(12):
            payload = b"%d" % number
            if publisher.publish(topic, payload, qos=1) < 0x80:
                accepted.append(payload)
    wait_until(lambda: publisher.publish(topic, b"after", qos=1) < 0x80, "messages are accepted again")
    accepted.append(b"after")
    node.broker.kill()
    node.faults.lose_power()
    node.start()
    client = node.net.resume(V5, client.client_id)
    assert client.receive_payloads(len(accepted)) == accepted
    client.barrier()


@pytest.mark.parametrize("seed", range(2))
def test_a_torn_end_is_cut_off_and_told(node_with: StartNode, seed: int) -> None:
    node = node_with({"store.sync": "never"}, journal=True)
    assert node.faults is not None
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = node.net.connect(V5)
    for number in range(20):
        publisher.publish(topic, b"%d" % number * 50, qos=1)
    node.broker.kill()
    spoilt = node.faults.garble_last_write(Random(seed))
    assert spoilt > 0
    since = node.broker.log_size()
    node.start()
    client = node.net.resume(V5, client.client_id)
    assert session_present(client)
    assert client.receive_payloads(19) == [b"%d" % number * 50 for number in range(19)]
    assert '"level": "warning"' in node.broker.log_tail(since)
    assert node.segments()[0].name in node.broker.log_tail(since)
