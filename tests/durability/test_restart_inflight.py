"""Exchanges that a restart interrupts, in both directions: identifiers, DUP, PUBREC and PUBREL."""

import pytest

from durability.node import Node, session_present
from durability.restarts import Halves, over_a_restart, over_restarts
from protocol import requests
from protocol.answers import Puback, Pubcomp, Publish, Pubrec, Pubrel
from protocol.client import Client, unique
from protocol.marks import V5, both_versions
from protocol.wire import PacketType, Property, Version


def subscribed(node: Node, version: Version, topic: str, qos: int) -> Client:
    client = node.net.resume(version, unique())
    client.subscribe(topic, qos=qos)
    return client


def returned(node: Node, client: Client) -> Client:
    again = node.net.resume(client.version, client.client_id)
    assert session_present(again)
    return again


# -- from the broker to a subscriber ---------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("qos", [1, 2])
@over_a_restart("stop", "kill")
def test_what_was_not_acknowledged_comes_again_with_dup_and_its_identifier(
    node: Node, version: Version, qos: int
) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, qos)
    node.net.connect(version).publish(topic, b"x", qos=qos)
    first = client.expect(Publish)
    assert not first.dup
    yield
    client = returned(node, client)
    second = client.receive()
    assert (second.payload, second.qos, second.dup, second.packet_id) == (b"x", qos, True, first.packet_id)
    client.barrier()


@both_versions
@pytest.mark.parametrize("qos", [1, 2])
@over_a_restart("kill")
def test_what_was_on_the_way_comes_first_and_then_what_waited(node: Node, version: Version, qos: int) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, qos)
    publisher = node.net.connect(version)
    for number in range(3):
        publisher.publish(topic, b"%d" % number, qos=qos)
    on_the_way = [client.expect(Publish) for _ in range(3)]
    client.close()
    for number in range(3, 6):
        publisher.publish(topic, b"%d" % number, qos=qos)
    yield
    client = returned(node, client)
    came = [client.receive() for _ in range(6)]
    assert [each.payload for each in came] == [b"%d" % number for number in range(6)]
    assert [each.packet_id for each in came[:3]] == [each.packet_id for each in on_the_way]
    assert [each.dup for each in came] == [True] * 3 + [False] * 3


@both_versions
@over_a_restart("stop")
def test_a_hole_in_the_window_stays_a_hole(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, 1)
    publisher = node.net.connect(version)
    for number in range(3):
        publisher.publish(topic, b"%d" % number, qos=1)
    first, second, third = (client.expect(Publish) for _ in range(3))
    client.acknowledge(PacketType.PUBACK, first.packet_id)
    client.barrier()
    yield
    client = returned(node, client)
    came = [client.receive(), client.receive()]
    assert [each.packet_id for each in came] == [second.packet_id, third.packet_id]
    assert all(each.dup for each in came)
    client.barrier()


@both_versions
@over_a_restart("stop", "kill")
def test_after_pubrec_pubrel_comes_again_and_the_message_does_not(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, 2)
    node.net.connect(version).publish(topic, b"x", qos=2)
    packet_id = client.expect(Publish).packet_id
    client.acknowledge(PacketType.PUBREC, packet_id)
    assert client.expect(Pubrel).packet_id == packet_id
    yield
    client = returned(node, client)
    assert client.expect(Pubrel).packet_id == packet_id
    client.acknowledge(PacketType.PUBCOMP, packet_id)
    client.barrier()


@both_versions
@over_a_restart("stop")
def test_a_completed_exchange_is_over_after_a_stop(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, 2)
    publisher = node.net.connect(version)
    publisher.publish(topic, b"1", qos=2)
    publisher.publish(topic, b"2", qos=1)
    client.receive()
    client.receive()
    client.barrier()
    yield
    client = returned(node, client)
    client.barrier()


@both_versions
@over_a_restart("kill")
def test_an_identifier_that_is_still_in_use_is_not_given_to_another_message(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, 2)
    publisher = node.net.connect(version)
    for payload in (b"released", b"sent"):
        publisher.publish(topic, payload, qos=2)
    released, sent = client.expect(Publish), client.expect(Publish)
    client.acknowledge(PacketType.PUBREC, released.packet_id)
    client.expect(Pubrel)
    yield
    client = returned(node, client)
    assert client.expect(Pubrel).packet_id == released.packet_id
    assert client.expect(Publish).packet_id == sent.packet_id
    publisher = node.net.connect(version)
    for _ in range(3):
        publisher.publish(topic, b"new", qos=2)
    fresh = [client.expect(Publish).packet_id for _ in range(3)]
    assert len({released.packet_id, sent.packet_id, *fresh}) == 5


@over_a_restart("kill")
def test_a_smaller_receive_maximum_after_a_kill_holds_for_redeliveries(node: Node) -> Halves:
    topic = unique("t")
    client = subscribed(node, V5, topic, 1)
    publisher = node.net.connect(V5)
    for number in range(4):
        publisher.publish(topic, b"%d" % number, qos=1)
    ids = [client.expect(Publish).packet_id for _ in range(4)]
    yield
    # The referee of the client fails the test when more than one is on the way.
    client = node.net.resume(V5, client.client_id, properties=[(Property.RECEIVE_MAXIMUM, 1)])
    came = [client.receive() for _ in range(4)]
    assert [(each.payload, each.packet_id, each.dup) for each in came] == [
        (b"%d" % number, packet_id, True) for number, packet_id in enumerate(ids)
    ]


@both_versions
@over_restarts(("kill", 0), ("kill", 0))
def test_the_window_survives_two_kills(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = subscribed(node, version, topic, 2)
    node.net.connect(version).publish(topic, b"x", qos=2)
    packet_id = client.expect(Publish).packet_id
    yield
    assert returned(node, client).expect(Publish).packet_id == packet_id
    yield
    client = returned(node, client)
    again = client.expect(Publish)
    assert (again.packet_id, again.dup, again.payload) == (packet_id, True, b"x")
    client.complete(again)
    client.barrier()


# -- from a publisher to the broker ------------------------------------------------------------------------------------


def publish_until_pubrec(client: Client, topic: str, payload: bytes, packet_id: int, *, dup: bool = False) -> None:
    client.send(requests.publish(client.version, topic, payload, qos=2, packet_id=packet_id, dup=dup))
    pubrec = client.expect(Pubrec)
    assert (pubrec.packet_id, pubrec.code < 0x80) == (packet_id, True)


@both_versions
@over_a_restart("stop", "kill")
def test_a_repeated_qos_2_publish_is_not_passed_on_twice(node: Node, version: Version) -> Halves:
    topic = unique("t")
    subscriber = subscribed(node, version, topic, 2)
    subscriber.disconnect()
    publisher = node.net.resume(version, unique())
    publish_until_pubrec(publisher, topic, b"x", 7)
    yield
    publisher = returned(node, publisher)
    publish_until_pubrec(publisher, topic, b"x", 7, dup=True)
    publisher.release(7)
    subscriber = returned(node, subscriber)
    assert subscriber.receive().payload == b"x"
    subscriber.barrier()


@both_versions
@over_a_restart("kill")
def test_a_repetition_is_known_even_if_nobody_durable_got_the_message(node: Node, version: Version) -> Halves:
    topic = unique("t")
    publisher = node.net.resume(version, unique())
    publish_until_pubrec(publisher, topic, b"x", 7)
    yield
    subscriber = node.net.connect(version)
    subscriber.subscribe(topic, qos=2)
    publisher = returned(node, publisher)
    publish_until_pubrec(publisher, topic, b"x", 7, dup=True)
    publisher.release(7)
    subscriber.barrier()


@both_versions
@over_a_restart("kill")
def test_pubrel_after_a_kill_is_answered_with_success(node: Node, version: Version) -> Halves:
    topic = unique("t")
    subscriber = subscribed(node, version, topic, 2)
    publisher = node.net.resume(version, unique())
    publish_until_pubrec(publisher, topic, b"x", 65_535)
    subscriber.close()
    yield
    publisher = returned(node, publisher)
    publisher.release(65_535)
    subscriber = returned(node, subscriber)
    assert subscriber.receive().payload == b"x"
    subscriber.barrier()


@both_versions
@over_a_restart("stop")
def test_an_identifier_that_was_released_before_a_stop_is_free(node: Node, version: Version) -> Halves:
    topic = unique("t")
    subscriber = subscribed(node, version, topic, 2)
    subscriber.disconnect()
    publisher = node.net.resume(version, unique())
    publisher.publish(topic, b"1", qos=2, packet_id=7)
    yield
    publisher = returned(node, publisher)
    publisher.publish(topic, b"2", qos=2, packet_id=7)
    assert returned(node, subscriber).receive_payloads(2) == [b"1", b"2"]


@both_versions
@over_a_restart("kill")
def test_several_identifiers_of_one_publisher_survive_a_kill(node: Node, version: Version) -> Halves:
    topic = unique("t")
    subscriber = subscribed(node, version, topic, 2)
    subscriber.disconnect()
    publisher = node.net.resume(version, unique())
    for packet_id in (3, 1, 2):
        publish_until_pubrec(publisher, topic, b"%d" % packet_id, packet_id)
    publisher.acknowledge(PacketType.PUBREL, 1)
    publisher.expect(Pubcomp)
    yield
    publisher = returned(node, publisher)
    for packet_id in (3, 2):
        publish_until_pubrec(publisher, topic, b"%d" % packet_id, packet_id, dup=True)
        publisher.release(packet_id)
    subscriber = returned(node, subscriber)
    assert subscriber.receive_payloads(3) == [b"3", b"1", b"2"]
    subscriber.barrier()


@both_versions
@over_a_restart("kill")
def test_a_message_acknowledged_at_qos_1_needs_no_repetition(node: Node, version: Version) -> Halves:
    topic = unique("t")
    subscriber = subscribed(node, version, topic, 1)
    subscriber.disconnect()
    publisher = node.net.resume(version, unique())
    for number in range(50):
        publisher.send(requests.publish(version, topic, b"%d" % number, qos=1, packet_id=number + 1))
    acknowledged = {publisher.expect(Puback).packet_id for _ in range(50)}
    yield
    assert acknowledged == set(range(1, 51))
    assert returned(node, subscriber).receive_payloads(50) == [b"%d" % number for number in range(50)]
