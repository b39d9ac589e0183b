"""Retained messages over a restart: they are there, with all that belongs to them; those that were deleted are not."""

import pytest

from durability.node import Node, session_present
from durability.restarts import Halves, over_a_restart, over_restarts
from protocol.answers import Publish
from protocol.client import Client, unique
from protocol.marks import V3, V5, both_versions
from protocol.wire import Properties, Property, Version


def retained(node: Node, version: Version, topic_filter: str, count: int) -> list[Publish]:
    """So many retained messages and no more, as a new subscriber gets them."""
    client = node.net.connect(version)
    client.subscribe(topic_filter, qos=2)
    found = [client.receive() for _ in range(count)]
    client.barrier()
    assert all(each.retain for each in found)
    return found


def publisher_of(node: Node, version: Version) -> Client:
    return node.net.connect(version)


@both_versions
@over_a_restart("stop", "kill")
def test_a_retained_message_survives_a_restart_with_its_qos(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, version)
    for qos in (1, 2):
        publisher.publish(f"{topic}/{qos}", b"%d" % qos, qos=qos, retain=True)
    yield
    found = sorted(retained(node, version, f"{topic}/#", 2), key=lambda each: each.topic)
    assert [(each.topic, each.payload, each.qos) for each in found] == [
        (f"{topic}/1", b"1", 1),
        (f"{topic}/2", b"2", 2),
    ]


@both_versions
@over_a_restart("stop")
def test_a_retained_message_of_qos_0_survives_a_stop(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, version)
    publisher.publish(topic, b"x", retain=True)
    publisher.barrier()
    yield
    (message,) = retained(node, version, topic, 1)
    assert (message.payload, message.qos) == (b"x", 0)


@over_a_restart("kill")
def test_the_properties_of_a_retained_message_survive_a_kill(node: Node) -> Halves:
    topic = unique("t")
    properties: Properties = [
        (Property.PAYLOAD_FORMAT_INDICATOR, 1),
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "answers/here"),
        (Property.CORRELATION_DATA, b"\x00\xff"),
        (Property.USER_PROPERTY, ("color", "red")),
    ]
    node.net.connect(V5).publish(topic, b"x", qos=1, retain=True, properties=properties)
    yield
    (message,) = retained(node, V5, topic, 1)
    assert sorted(map(str, message.properties)) == sorted(map(str, properties))


@both_versions
@over_restarts(("kill", 0), ("stop", 0))
def test_the_last_retained_message_of_a_topic_is_the_one_that_survives(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, version)
    for payload in (b"first", b"second"):
        publisher.publish(topic, payload, qos=1, retain=True)
    yield
    assert retained(node, version, topic, 1)[0].payload == b"second"
    node.net.connect(version).publish(topic, b"third", qos=1, retain=True)
    yield
    assert retained(node, version, topic, 1)[0].payload == b"third"


@both_versions
@over_a_restart("stop", "kill")
def test_a_deleted_retained_message_stays_deleted(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, version)
    for name in ("deleted", "kept", "back"):
        publisher.publish(f"{topic}/{name}", b"x", qos=1, retain=True)
    for name in ("deleted", "back"):
        publisher.publish(f"{topic}/{name}", b"", qos=1, retain=True)
    publisher.publish(f"{topic}/back", b"y", qos=1, retain=True)
    yield
    found = {each.topic: each.payload for each in retained(node, version, f"{topic}/#", 2)}
    assert found == {f"{topic}/kept": b"x", f"{topic}/back": b"y"}


@over_a_restart("stop")
def test_a_message_deleted_by_an_operator_stays_deleted(node: Node) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, V3)
    for name in ("deleted", "kept"):
        publisher.publish(f"{topic}/{name}", b"x", qos=1, retain=True)
    node.broker.admin("retain", "delete", "--topic", f"{topic}/deleted")
    yield
    assert retained(node, V3, f"{topic}/#", 1)[0].topic == f"{topic}/kept"


@over_a_restart("kill", later_s=400)
def test_a_retained_message_expires_while_the_broker_is_down(node: Node) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, V5)
    for name, seconds in (("short", 60), ("long", 1_000)):
        expiry: Properties = [(Property.MESSAGE_EXPIRY_INTERVAL, seconds)]
        publisher.publish(f"{topic}/{name}", b"x", qos=1, retain=True, properties=expiry)
    publisher.publish(f"{topic}/for-ever", b"x", qos=1, retain=True)
    begun = node.now
    yield
    found = {each.topic: each for each in retained(node, V5, f"{topic}/#", 2)}
    assert found.keys() == {f"{topic}/long", f"{topic}/for-ever"}
    left = found[f"{topic}/long"].value(Property.MESSAGE_EXPIRY_INTERVAL)
    assert isinstance(left, int)
    assert abs(1_000 - (node.now - begun) - left) <= 3
    assert found[f"{topic}/for-ever"].value(Property.MESSAGE_EXPIRY_INTERVAL) is None


@both_versions
@over_a_restart("kill")
def test_a_retained_message_that_was_deleted_is_still_in_the_queues(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = node.net.resume(version, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = publisher_of(node, version)
    publisher.publish(topic, b"x", qos=1, retain=True)
    publisher.publish(topic, b"", qos=1, retain=True)
    yield
    retained(node, version, topic, 0)
    client = node.net.resume(version, client.client_id)
    assert client.receive_payloads(2) == [b"x", b""]


@both_versions
@over_restarts(("kill", 0), ("stop", 0))
def test_a_retained_message_that_a_subscriber_has_taken_is_still_retained(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher_of(node, version).publish(topic, b"x", qos=1, retain=True)
    client = node.net.resume(version, unique())
    client.subscribe(topic, qos=1)
    assert client.receive().payload == b"x"
    client.disconnect()
    yield
    assert retained(node, version, topic, 1)[0].payload == b"x"
    yield
    assert retained(node, version, topic, 1)[0].payload == b"x"


@both_versions
@over_a_restart("kill")
def test_a_retained_message_on_its_way_to_a_subscriber_comes_again(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher_of(node, version).publish(topic, b"x", qos=1, retain=True)
    client = node.net.resume(version, unique())
    client.subscribe(topic, qos=1)
    packet_id = client.expect(Publish).packet_id
    yield
    client = node.net.resume(version, client.client_id)
    assert session_present(client)
    again = client.receive()
    assert (again.payload, again.packet_id, again.dup, again.retain) == (b"x", packet_id, True, True)
    client.barrier()


@over_a_restart("kill")
def test_a_thousand_retained_messages_survive_a_kill(node: Node) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, V3)
    for number in range(1_000):
        publisher.publish(f"{topic}/{number}", b"%d" % number * 20, qos=1, retain=True)
    yield
    found = {each.topic: each.payload for each in retained(node, V3, f"{topic}/#", 1_000)}
    assert found == {f"{topic}/{number}": b"%d" % number * 20 for number in range(1_000)}


@pytest.mark.parametrize("wildcard", ["+/a", "#", "a/+"])
@over_a_restart("kill")
def test_wildcards_find_retained_messages_after_a_kill(node: Node, wildcard: str) -> Halves:
    topic = unique("t")
    publisher = publisher_of(node, V3)
    publisher.publish(f"{topic}/a/a", b"x", qos=1, retain=True)
    yield
    assert retained(node, V3, f"{topic}/{wildcard}", 1)[0].payload == b"x"
