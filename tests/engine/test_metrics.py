"""Counters and gauges."""

import re

from engine.running import Running, eventually
from protocol.wire import Version


def test_a_snapshot_is_complete_and_well_formed(running: Running) -> None:
    metrics = running.engine.metrics()
    series = [(each.name, tuple(sorted(each.labels.items()))) for each in metrics]
    assert len(set(series)) == len(series), "no series is there twice"
    for each in metrics:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", each.name)
        assert each.kind in {"counter", "gauge"}
        assert each.description.endswith(".")
        assert each.value >= 0
    kinds = {(each.name, each.kind) for each in metrics}
    assert len({name for name, _ in kinds}) == len(kinds), "a name is either a counter or a gauge"


def test_traffic_is_counted_by_version_and_reason(running: Running) -> None:
    client = running.connect(Version.V5)
    old = running.connect(Version.V3_1_1)
    client.publish("t", bytes(100), qos=1)
    old.publish("t", qos=2)
    old.barrier()
    client.barrier()
    expected = [
        ("mqtt_pingreq_received", {}, 2),
        ("mqtt_publish_received", {"mqtt_version": "5"}, 1),
        ("mqtt_publish_received", {"mqtt_version": "4"}, 1),
        ("mqtt_puback_sent", {"mqtt_version": "5", "reason_code": "no_matching_subscribers"}, 1),
        ("mqtt_connack_sent", {"mqtt_version": "5", "reason_code": "success"}, 1),
    ]
    # A worker adds up its counters at the end of each turn, which may be after its answer has arrived.
    for name, labels, value in expected:
        eventually(lambda: running.metric(name, **labels) == value, f"{name} {labels} is {value}")  # noqa: B023
    eventually(lambda: running.metric("bytes_received") > 100 and running.metric("bytes_sent") > 0, "bytes are counted")


def test_gauges_follow_what_there_is(running: Running) -> None:
    client = running.connect(Version.V5)
    client.subscribe("a", "b/#")
    client.publish("r", b"x", qos=1, retain=True)
    gauges = ("queue_processes", "router_subscriptions", "retain_messages", "active_mqtt_connections")
    assert [running.metric(name) for name in gauges] == [1, 2, 1, 1]
    assert running.metric("router_memory") > 0
    assert running.metric("retain_memory") > 0


def test_a_reset_sets_counters_to_0_and_leaves_gauges(running: Running) -> None:
    client = running.connect(Version.V5)
    client.subscribe("a")
    client.barrier()
    eventually(lambda: running.metric("mqtt_pingreq_received") == 1, "the ping is counted")

    def is_all_zero() -> bool:
        # What a worker counted in the turn that it is just ending may come after a first reset.
        running.engine.reset_metrics()
        return not any(each.value for each in running.engine.metrics() if each.kind == "counter")

    eventually(is_all_zero, "the counters are 0")
    assert running.metric("router_subscriptions") == 1
    client.barrier()
    eventually(lambda: running.metric("mqtt_pingreq_received") == 1, "counting goes on")
