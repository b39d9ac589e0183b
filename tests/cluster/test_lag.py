"""How long messages have waited for another node, as `cluster show` and the metrics tell it."""

import csv
import io

from cluster.clients import Connect, StartNode, await_route, clustered, metric, stopped
from cluster.real_nodes import ClusterNode, eventually
from protocol.answers import Publish


def waiting(node: ClusterNode, other: ClusterNode) -> tuple[int, int]:
    """Milliseconds, and bytes, as `node` tells of what waits for `other`."""
    table = csv.DictReader(io.StringIO(node.broker.admin("cluster", "show", "--format=csv")))
    row = next(row for row in table if row["Node"] == other.name)
    return int(row["lag_ms"]), int(row["held_bytes"])


def test_the_lag_of_a_node_grows_while_it_stands_still_and_is_gone_afterwards(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("tea", qos=1)
    await_route(publisher, subscriber, "tea")
    eventually(lambda: waiting(one, two) == (0, 0), "nothing waits")
    with stopped(two):
        # It is acknowledged once the other node counts as down.
        publisher.publish("tea", b"late", qos=1)
        before, held = waiting(one, two)
        assert held > 0
        eventually(lambda: waiting(one, two)[0] > before + 500, "the lag grows")
        assert metric(one, "cluster_peer_oldest_age_ms") > before + 500
        assert metric(one, "cluster_peer_held_bytes") == held
    while subscriber.expect(Publish).payload != b"late":
        pass
    eventually(lambda: waiting(one, two) == (0, 0), "nothing waits any more")
    assert metric(one, "cluster_peer_oldest_age_ms") == 0


def test_a_metric_of_a_peer_carries_its_name(started: StartNode) -> None:
    one, two = clustered(started, "one", "two")
    labelled = one.broker.admin("metrics", "show", f"--peer={two.name}")
    assert "cluster_peer_oldest_age_ms" in labelled
