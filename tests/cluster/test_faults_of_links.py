"""Three nodes on hosts of their own, under load, while the network between them fails in all the ways that it has.

Each test is one story. Whatever happens, at the end every subscriber has got what was acknowledged to the publishers,
in order, QoS 2 once (`HostedCluster.load`), and all nodes agree on who belongs to the cluster (`await_whole`).
"""

import random
import socket
import time
from collections.abc import Iterator

import pytest

from cluster.fabric import cut, why_impossible
from cluster.hosted_nodes import CLUSTER_PORT, LINK_TIMEOUT_S, SCALE, HostedCluster, hosted_cluster
from cluster.load import CLIENT_PORT

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedCluster]:
    """A cluster of three that each test leaves as it was."""
    with hosted_cluster(tmp_path_factory.mktemp("links"), 3) as cluster:
        yield cluster


def test_a_link_that_is_cut_and_healed_loses_and_doubles_nothing(cluster: HostedCluster) -> None:
    """Nothing passes between two nodes for longer than the link timeout; the third reaches both."""
    one, two, three = cluster.nodes
    with cluster.load():
        with cut(*cluster.ways([one], [two])):
            cluster.await_down(one, two)
            cluster.await_down(two, one)
            assert three.sees(one, two)
            cluster.linger()
        cluster.await_whole()


@pytest.mark.parametrize(("source", "target"), [(0, 1), (1, 0)], ids=["there", "back"])
def test_a_link_that_carries_one_direction_only_counts_as_down(
    cluster: HostedCluster, source: int, target: int
) -> None:
    """What one node sends to another is lost, what comes back is not: both learn that they cannot talk."""
    a, b = cluster.nodes[source], cluster.nodes[target]
    with cluster.load():
        with cut(cluster.way(a, b)):
            cluster.await_down(a, b)
            cluster.await_down(b, a)
            cluster.linger()
        cluster.await_whole()


def test_a_link_that_flaps_loses_and_doubles_nothing(cluster: HostedCluster) -> None:
    """A link is cut again and again, one way or both, for less and for more than the link timeout."""
    one, two, _ = cluster.nodes
    dice = random.Random(5)
    both = cluster.ways([one], [two])
    with cluster.load():
        for cut_s in (0.2, 0.5, 1.2, 0.3, 1.6, 0.2):
            with cut(*dice.choice([both, both[:1], both[1:]])):
                time.sleep(cut_s * SCALE)
            time.sleep(dice.uniform(0.05, 0.4) * SCALE)
        cluster.await_whole()


def test_a_slow_and_narrow_link_delays_and_loses_nothing(cluster: HostedCluster) -> None:
    """A link takes 50 ms each way and carries 128 KB a second: it stays up, and everything arrives in order."""
    one, two, three = cluster.nodes
    ways = cluster.ways([one], [two])
    with cluster.load():
        for way in ways:
            way.delay_s, way.bytes_per_s = 0.05, 128_000
        try:
            time.sleep(2 * SCALE)
            assert one.sees(two, three)
            for subscriber in cluster.subscribers:
                for publisher in cluster.publishers:
                    cluster.goes_on(subscriber, publisher)
        finally:
            for way in ways:
                way.delay_s, way.bytes_per_s = 0.0, 0.0
        cluster.await_whole()


def test_a_blocked_cluster_port_counts_as_down(cluster: HostedCluster) -> None:
    """A filter drops the cluster port between two nodes and nothing else; clients cross the same link."""
    one, two, _ = cluster.nodes
    ways = cluster.ways([one], [two])
    with cluster.load():
        for way in ways:
            way.cut_port = CLUSTER_PORT
        try:
            cluster.await_down(one, two)
            cluster.await_down(two, one)
            one.host.run(socket.create_connection, (two.host.address, CLIENT_PORT), LINK_TIMEOUT_S).close()
        finally:
            for way in ways:
                way.cut_port = 0
        cluster.await_whole()


def test_two_sides_of_a_partition_go_on_and_find_together(cluster: HostedCluster) -> None:
    """One node is cut off from the two others. Both sides go on publishing, and after that all have everything."""
    one, two, three = cluster.nodes
    with cluster.load():
        with cut(*cluster.ways([one, two], [three])):
            cluster.await_down(one, three)
            cluster.await_down(two, three)
            cluster.await_down(three, one, two)
            for subscriber, publisher in ((0, 1), (1, 0), (0, 0), (2, 2)):
                cluster.goes_on(cluster.subscribers[subscriber], cluster.publishers[publisher])
            cluster.linger()
        cluster.await_whole()


def test_a_subscription_made_during_a_partition_is_known_after_it(cluster: HostedCluster) -> None:
    """A client subscribes and another one unsubscribes while their node is cut off; afterwards routes agree."""
    one, two, three = cluster.nodes
    with cluster.load() as topic:
        with cut(*cluster.ways([one, two], [three])):
            cluster.await_down(one, three)
            cluster.await_down(three, one, two)
            late = cluster.subscribe(three, f"{topic}/+")
            cluster.subscribers.remove(late)
        cluster.await_whole()
        try:
            for publisher in cluster.publishers:
                cluster.goes_on(late, publisher)
        finally:
            late.end()
        for publisher in cluster.publishers:
            for stream in publisher.streams:
                cluster.ledger.judge_order(late.name, stream, cluster.ledger.delivered(late.name, stream))


def test_a_node_that_stands_still_holds_nobody_up_and_gets_what_it_missed(cluster: HostedCluster) -> None:
    """A node is stopped for longer than the link timeout. The others go on, and it gets everything, once."""
    one, two, three = cluster.nodes
    with cluster.load():
        with three.standing_still():
            cluster.await_down(one, three)
            cluster.await_down(two, three)
            cluster.goes_on(cluster.subscribers[0], cluster.publishers[1])
            cluster.goes_on(cluster.subscribers[1], cluster.publishers[0])
            cluster.linger()
        cluster.await_whole()
