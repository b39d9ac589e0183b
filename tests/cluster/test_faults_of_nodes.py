"""Nodes on hosts of their own, under load, that are killed, lose their disks, are taken out, and come back.

Each test is one story, and at the end everything that was acknowledged must have arrived, in order, QoS 2 once.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from broker_process import Setting
from cluster.fabric import cut, why_impossible
from cluster.hosted_nodes import SCALE, HostedCluster, HostedNode, hosted_cluster
from cluster.load import CLIENT_PORT
from cluster.real_nodes import eventually
from protocol.answers import Publish
from protocol.client import Client, Network, dial, unique
from protocol.marks import V5
from strogoff.cli.exit_codes import ExitCode

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))

Crash: TypeAlias = Callable[[HostedNode], None]
FormCluster: TypeAlias = Callable[..., HostedCluster]

NO_MATCHING_SUBSCRIBERS = 0x10
HELD = 100


@pytest.fixture
def formed(tmp_path: Path) -> Iterator[FormCluster]:
    """A call that makes a cluster: how many nodes, and settings with `__` for a dot."""
    with ExitStack() as stack:

        def form(size: int, **more: Setting) -> HostedCluster:
            return stack.enter_context(hosted_cluster(tmp_path, size, **more))

        yield form


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedCluster]:
    """A cluster of three that each test leaves as it was."""
    with hosted_cluster(tmp_path_factory.mktemp("nodes"), 3) as cluster:
        yield cluster


def resumed(node: HostedNode, client_id: str) -> Client:
    """A client with a session that lasts, on a node."""
    return Network(CLIENT_PORT, lambda port: node.host.run(dial, port)).resume(V5, client_id)


def take_out(remover: HostedNode, node: HostedNode) -> None:
    assert remover.broker.admin("cluster", "leave", f"node={node.name}").strip() == "Done"


@pytest.mark.parametrize("crash", [HostedNode.kill, HostedNode.lose_power])
def test_sessions_of_a_killed_node_get_what_was_published_meanwhile(cluster: HostedCluster, crash: Crash) -> None:
    """A node is killed and comes back with its data, again and again, while clients on the others publish."""
    one, two, three = cluster.nodes
    with cluster.load([one, two]):
        for _ in range(max(1, round(2 * SCALE))):
            crash(three)
            cluster.await_down(one, three)
            cluster.goes_on(cluster.subscribers[0], cluster.publishers[1])
            cluster.goes_on(cluster.subscribers[1], cluster.publishers[0])
            three.start()
            cluster.await_whole()


def test_what_a_killed_node_acknowledged_is_delivered_elsewhere(cluster: HostedCluster) -> None:
    """The publishers' node is killed in mid-load and stays away: subscribers elsewhere have what it acknowledged."""
    one, two, three = cluster.nodes
    with cluster.load([one], [two, three], every_s=0.002):
        one.broker.kill()
        cluster.publishers[0].abandon()
        cluster.await_down(two, one)
        assert three.sees(two, down=(one,))
    one.start()
    cluster.await_whole()


def test_publishers_whose_node_is_killed_go_on_after_its_return(cluster: HostedCluster) -> None:
    """Clients send again what was not acknowledged before their node was killed: QoS 2 arrives once everywhere."""
    one, two, _ = cluster.nodes
    with cluster.load([one], every_s=0.02):
        for _ in range(max(1, round(2 * SCALE))):
            one.broker.kill()
            one.start()
            for subscriber in cluster.subscribers:
                cluster.goes_on(subscriber, cluster.publishers[0])
        cluster.await_whole()
    assert two.sees(*(node for node in cluster.nodes if node is not two))


@pytest.mark.parametrize("crash", [HostedNode.kill, HostedNode.lose_power])
def test_all_nodes_are_killed_at_once_and_come_back(cluster: HostedCluster, crash: Crash) -> None:
    """A data centre goes dark: what was acknowledged before is in the sessions when all nodes are back."""
    with cluster.load(every_s=0.005):
        cluster.kill_at_once()
        for publisher in cluster.publishers:
            publisher.abandon()
        for node in cluster.nodes:
            crash(node)
        for node in cluster.nodes:
            node.start()
        cluster.await_whole()


def test_a_subscription_deleted_while_a_node_was_away_does_not_come_back(cluster: HostedCluster) -> None:
    """A node remembers what the others subscribe to. What has been deleted meanwhile ends with its return."""
    one, two, three = cluster.nodes
    topic = unique("deleted/")
    with cluster.connected(one) as subscriber, cluster.connected(two) as other:
        subscriber.subscribe(topic, qos=1)
        with cluster.connected(three) as publisher:
            eventually(lambda: publisher.publish(topic, qos=1) == 0, "the route is known")
        three.broker.kill()
        cluster.await_down(one, three)
        subscriber.unsubscribe(topic)
        three.start()
        with cluster.connected(three) as publisher:
            eventually(lambda: publisher.publish(topic, qos=1) == NO_MATCHING_SUBSCRIBERS, "the route is gone")
            cluster.await_whole()
            assert publisher.publish(topic, qos=1) == NO_MATCHING_SUBSCRIBERS
        eventually(lambda: other.publish(topic, qos=1) == NO_MATCHING_SUBSCRIBERS, "it is gone elsewhere")


def test_a_node_with_a_wiped_disk_joins_again_and_is_heard(cluster: HostedCluster) -> None:
    """Same name, empty disk. What it writes from then on is new to its peers, though it counts from the beginning."""
    one, two, three = cluster.nodes
    with cluster.load():
        pass
    three.broker.kill()
    three.wipe()
    cluster.await_down(one, three)
    with cluster.load([one, two], [one, two]):
        three.start()
        assert three.join(two) == "Done"
        cluster.await_whole()
    with cluster.load():
        pass


def test_a_node_taken_out_while_it_was_cut_off_stops_when_the_link_heals(formed: FormCluster) -> None:
    """It ran on meanwhile, and believes it is a member: the others do not let it in, and it ends."""
    cluster = formed(3)
    one, two, three = cluster.nodes
    with cluster.load([one, two], [one, two]):
        with cut(*cluster.ways([one, two], [three])):
            cluster.await_down(one, three)
            cluster.await_down(two, three)
            take_out(one, three)
            cluster.await_whole(without=(three,))
        assert three.broker.await_end() == ExitCode.REMOVED
        assert one.sees(two)
        assert two.sees(one)


def test_a_node_taken_out_while_dead_joins_as_a_new_one(formed: FormCluster) -> None:
    """With its data it is refused, and ends; started again it is a new member under the same name."""
    cluster = formed(3)
    one, two, three = cluster.nodes
    three.broker.kill()
    cluster.await_down(one, three)
    take_out(one, three)
    cluster.await_whole(without=(three,))
    three.host.run(three.broker.launch)
    assert three.broker.await_end() == ExitCode.REMOVED
    assert one.sees(two)
    three.start()
    assert three.join(one) == "Done"
    cluster.await_whole()
    with cluster.load():
        pass


def test_a_removal_that_a_node_slept_through_is_not_undone_by_it(formed: FormCluster) -> None:
    """While one node is away another one is taken out; the returning node learns of it and brings nobody back."""
    cluster = formed(4)
    one, two, three, four = cluster.nodes
    three.broker.kill()
    four.broker.kill()
    cluster.await_down(one, three, four)
    take_out(one, four)
    eventually(lambda: two.sees(one, down=(three,)), "both know")
    with cluster.load([one, two], [one, two]):
        three.start()
        cluster.await_whole(without=(four,))
    two.broker.stop()
    two.start()
    cluster.await_whole(without=(four,))


def test_five_nodes_are_restarted_one_after_the_other_under_load(formed: FormCluster) -> None:
    """An upgrade: each node stops and starts again. Nothing is lost, and each client connects again once."""
    cluster = formed(5)
    with cluster.load(every_s=0.03):
        for node in cluster.nodes:
            others = [other for other in cluster.nodes if other is not node]
            node.broker.stop()
            node.start()
            eventually(lambda node=node, others=others: node.sees(*others), f"{node.name} is back")  # type: ignore[misc]
        cluster.await_whole()
        for client in (*cluster.subscribers, *cluster.publishers):
            eventually(lambda client=client: client.connections >= 2, f"{client.name} is back")  # type: ignore[misc]
    assert {client.connections for client in (*cluster.subscribers, *cluster.publishers)} == {2}


def test_a_session_does_not_return_to_its_client_before_what_a_third_node_held_for_it(cluster: HostedCluster) -> None:
    """Its home was down and comes back, and the node that holds messages for it reaches it later than the others."""
    one, two, three = cluster.nodes
    topic, client = unique("held/"), unique("c")
    subscriber = resumed(three, client)
    subscriber.subscribe(topic, qos=1)
    subscriber.disconnect()
    with cluster.connected(one) as publisher:
        eventually(lambda: publisher.publish(topic, b"before", qos=1) == 0, "the route is known")
        three.broker.kill()
        cluster.await_down(one, three)
        cluster.await_down(two, three)
        for number in range(HELD):
            assert publisher.publish(topic, b"%d" % number, qos=1) == 0
    subscriber = resumed(two, client)
    since = two.broker.log_size()
    with cut(*cluster.ways([one], [three])):
        three.start()
        eventually(lambda: two.links().get(three.name) == "reachable", "its home is back")
        # It is not brought here without them, as it would be at once.
        eventually(lambda: "cannot reach" in two.broker.log_tail(since), "it waits")
    found: set[bytes] = set()

    def has_all() -> bool:
        while (publish := subscriber.poll(Publish, 0.05)) is not None:
            found.add(publish.payload)
        return {b"%d" % number for number in range(HELD)} <= found

    eventually(has_all, "all of them come", 30)
    subscriber.close()
    cluster.await_whole()


def test_a_group_goes_on_when_the_node_of_a_member_is_killed(formed: FormCluster) -> None:
    """Three members on three nodes share a subscription; one node is killed and comes back with its session."""
    cluster = formed(3, shared_subscription_policy="random")
    one, two, three = cluster.nodes
    topic = unique("group/")
    for node in cluster.nodes:
        cluster.subscribe(node, f"$share/g/{topic}/#")
    publisher = cluster.publish(one, topic)
    for member in cluster.subscribers:
        cluster.goes_on(member, publisher)
    three.broker.kill()
    cluster.await_down(one, three)
    for member in cluster.subscribers[:2]:
        cluster.goes_on(member, publisher)
    three.start()
    cluster.await_whole()
    cluster.goes_on(cluster.subscribers[2], publisher)
    publisher.end()
    names = [member.name for member in cluster.subscribers]
    eventually(lambda: not cluster.ledger.missing(publisher.streams, *names), "nothing is missing", 30)
    cluster.end_clients()
    cluster.ledger.judge_group(names, publisher.streams)
    assert two.sees(one, three)
