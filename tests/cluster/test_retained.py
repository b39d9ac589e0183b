"""Retained messages of nodes that missed some: they have what the others have. Real processes on the loopback."""

import time

import pytest

from cluster.clients import Connect, StartNode, clustered, metric, stopped
from cluster.real_nodes import ClusterNode, eventually
from protocol.answers import Publish
from protocol.wire import Property


def retained(node: ClusterNode, connect: Connect, topic_filter: str = "#") -> dict[str, bytes]:
    """What somebody gets who subscribes now."""
    client = connect(node)
    client.subscribe(topic_filter, qos=1)
    found = {}
    while (message := client.poll(Publish, 0.3)) is not None:
        found[message.topic] = message.payload
    client.close()
    return found


def agree(nodes: list[ClusterNode], connect: Connect, wanted: dict[str, bytes]) -> None:
    for node in nodes:
        eventually(lambda node=node: retained(node, connect) == wanted, f"{node.name} has what is retained")  # type: ignore[misc]


@pytest.fixture
def two(started: StartNode) -> list[ClusterNode]:
    return clustered(started, "one", "two")


def test_a_node_that_joins_gets_what_is_retained(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    publisher = connect(one)
    wanted = {f"t/{number}": b"%d" % number for number in range(500)} | {"large": b"x" * 1_500_000}
    for topic, payload in wanted.items():
        publisher.publish(topic, payload, qos=1, retain=True)
    publisher.publish("gone", b"x", qos=1, retain=True)
    publisher.publish("gone", b"", qos=1, retain=True)
    properties = [(Property.CONTENT_TYPE, "text"), (Property.MESSAGE_EXPIRY_INTERVAL, 3_600)]
    publisher.publish("rich", b"y", qos=1, retain=True, properties=properties)
    assert two.join(one) == "Done"
    eventually(lambda: metric(two, "retain_messages") == 502, "all messages are there", 30)
    late = connect(two)
    late.subscribe("rich", qos=1)
    message = late.receive()
    assert message.value(Property.CONTENT_TYPE) == "text"
    expiry = message.value(Property.MESSAGE_EXPIRY_INTERVAL)
    assert isinstance(expiry, int)
    assert 3_500 < expiry <= 3_600
    assert retained(two, connect) == wanted | {"rich": b"y"}
    eventually(lambda: metric(two, "cluster_retained_fetched") == 502, "it is counted")
    assert metric(two, "cluster_retained_missing") == 0


def test_a_node_that_was_away_learns_what_was_set_and_deleted(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    publisher = connect(one)
    for topic in ("stays", "replaced", "deleted"):
        publisher.publish(topic, b"before", qos=1, retain=True)
    agree(two, connect, dict.fromkeys(("stays", "replaced", "deleted"), b"before"))
    time.sleep(0.3)
    other.broker.kill()
    eventually(lambda: one.sees(down=(other,)), "the other node is down")
    for qos in (0, 1):
        publisher.publish("replaced", b"%d" % qos, qos=qos, retain=True)
    publisher.publish("new", b"new", qos=1, retain=True)
    publisher.publish("deleted", b"", qos=1, retain=True)
    time.sleep(0.3)
    other.broker.start()
    # It serves nobody before it has them.
    wanted = {"stays": b"before", "replaced": b"1", "new": b"new"}
    assert retained(other, connect) == wanted
    agree(two, connect, wanted)


def test_a_node_whose_disk_was_lost_gets_all_of_it_again(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    publisher = connect(other)
    wanted = {f"t/{number}": b"x" for number in range(50)}
    for topic, payload in wanted.items():
        publisher.publish(topic, payload, qos=1, retain=True)
    agree(two, connect, wanted)
    time.sleep(0.3)
    other.broker.stop()
    other.wipe()
    other.broker.start()
    if other.links().get(one.name) is None:
        assert other.join(one) == "Done"
    agree(two, connect, wanted)


def test_what_nodes_retain_apart_from_each_other_ends_as_the_latest_of_each_topic(
    two: list[ClusterNode], connect: Connect
) -> None:
    one, other = two
    for topic in ("a", "b", "c"):
        connect(one).publish(topic, b"before", qos=1, retain=True)
    agree(two, connect, dict.fromkeys(("a", "b", "c"), b"before"))
    time.sleep(0.3)
    writer = connect(other)
    with stopped(one):
        eventually(lambda: other.sees(down=(one,)), "the other node is away")
        writer.publish("a", b"other", qos=0, retain=True)
        writer.publish("b", b"", qos=0, retain=True)
        writer.publish("c", b"other", qos=0, retain=True)
        time.sleep(0.1)
    # It goes on before it has heard anything.
    first = connect(one)
    first.publish("c", b"one", qos=0, retain=True)
    first.barrier()
    eventually(lambda: one.sees(other) and other.sees(one), "they see each other")
    agree(two, connect, {"a": b"other", "c": b"one"})


def test_a_deletion_by_an_operator_reaches_all_nodes(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(other).publish("t", b"x", qos=1, retain=True)
    agree(two, connect, {"t": b"x"})
    time.sleep(0.3)
    one.broker.admin("retain", "delete", "--topic=t")
    agree(two, connect, {})
