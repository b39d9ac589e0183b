"""Shared subscriptions: which filters are accepted, and that exactly one member of a group gets a message."""

import time

import pytest

from protocol import requests
from protocol.answers import Disconnect, Publish, Pubrel, Suback
from protocol.client import DEADLINE_S, Client, Network, fence, unique
from protocol.marks import V5, both_versions, in_v5
from protocol.requests import Filter
from protocol.wire import PacketType, Property, Version

P = PacketType


def drained(members: list[Client], publisher: Client, qos: int) -> list[list[Publish]]:
    """What each member has received, read up to a last message to each."""
    received = []
    for member in members:
        topic = unique("end/")
        member.subscribe(topic, qos=qos)
        publisher.publish(topic, qos=qos)
        messages = []
        while (message := member.receive()).topic != topic:
            messages.append(message)
        received.append(messages)
    return received


@in_v5("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_one_member_of_a_group_gets_each_message(net: Network, version: Version, qos: int) -> None:
    topic, group = unique("t"), unique("g")
    members = [net.connect(version) for _ in range(3)]
    alone, publisher = net.connect(version), net.connect(version)
    for member in members:
        assert member.subscribe(f"$share/{group}/{topic}", qos=qos).codes == (qos,)
    alone.subscribe(topic, qos=qos)
    payloads = [str(number).encode() for number in range(60)]
    for payload in payloads:
        publisher.publish(topic, payload, qos=qos)
    received = drained(members, publisher, qos)
    together = sorted(int(each.payload) for messages in received for each in messages)
    assert together == list(range(60))
    assert sum(bool(messages) for messages in received) > 1, "one member got everything"
    assert alone.receive_payloads(60) == payloads


@in_v5("MQTT-4.8.2-1")
def test_groups_and_filters_are_independent(net: Network) -> None:
    root, group = unique("t"), unique("g")
    client, publisher = net.connect(V5), net.connect(V5)
    for topic_filter in (f"$share/{group}a/{root}/#", f"$share/{group}b/{root}/#", f"$share/{group}a/{root}/+"):
        client.subscribe(topic_filter, qos=1)
    publisher.publish(f"{root}/x", b"x", qos=1)
    assert client.receive_payloads(3) == [b"x"] * 3
    client.unsubscribe(f"$share/{group}a/{root}/#")
    publisher.publish(f"{root}/x", b"y", qos=1)
    assert client.receive_payloads(2) == [b"y"] * 2
    fence(publisher, client, qos=1)


@in_v5("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@both_versions
@pytest.mark.parametrize(
    "topic_filter",
    [
        "$share",
        "$share/",
        "$share//t",
        "$share/g",
        "$share/g/",
        "$share/+/t",
        "$share/#",
        "$share/g#/t",
        "$share/a+b/t",
    ],
)
def test_an_ill_formed_shared_filter_is_refused(net: Network, version: Version, topic_filter: str) -> None:
    client = net.connect(version)
    client.send(requests.subscribe(version, 1, [Filter(topic_filter)]))
    if topic_filter == "$share":
        # Without a separator this is a filter like any other under `$`.
        assert client.expect(Suback).codes == (0,)
    else:
        client.expect_filter_refused()


@in_v5("MQTT-3.8.3-4", "MQTT-4.13.1-1")
def test_no_local_on_a_shared_subscription_is_a_protocol_error(net: Network) -> None:
    client = net.connect(V5)
    client.send(requests.subscribe(V5, 1, [Filter("$share/g/t", no_local=True)]))
    assert client.expect(Disconnect).code == 0x82
    client.expect_closed()


@in_v5("MQTT-4.8.2-3")
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_a_shared_message_is_delivered_at_no_more_than_the_granted_qos(net: Network, granted: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5), net.connect(V5)
    client.subscribe(f"$share/{unique('g')}/{topic}", qos=granted)
    publisher.publish(topic, b"x", qos=2)
    assert client.receive().qos == granted


def test_a_shared_subscription_gets_no_retained_messages(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5)
    client.publish(topic, b"x", qos=1, retain=True)
    client.subscribe(f"$share/{unique('g')}/{topic}", qos=1)
    client.barrier()


def group_of_two(net: Network, topic: str) -> tuple[Client, Client]:
    """Two members of a group, the first with a session that is kept."""
    name = f"$share/{unique('g')}/{topic}"
    first, second = net.resume(V5, unique()), net.connect(V5)
    first.subscribe(name, qos=2)
    second.subscribe(name, qos=2)
    return first, second


def chosen(members: list[Client]) -> tuple[Client, Publish]:
    """The member that gets the next message, and the message, not acknowledged yet."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        for member in members:
            message = member.poll(Publish)
            if message is not None:
                return member, message
    raise AssertionError("no member of the group got the message")


def one_for(net: Network, topic: str, member: Client, other: Client) -> Publish:
    """Publish until `member` is the chosen one; the other completes what it gets."""
    publisher = net.connect(V5)
    for number in range(50):
        publisher.publish(topic, str(number).encode(), qos=2)
        receiver, message = chosen([member, other])
        if receiver is member:
            return message
        receiver.complete(message)
    raise AssertionError("50 messages, and not one of them for this member of the group")


@in_v5("MQTT-4.8.2-4")
@pytest.mark.parametrize("stage", ["PUBLISH sent", "PUBREC received"])
def test_a_qos_2_delivery_is_finished_with_the_member_it_began_with(net: Network, stage: str) -> None:
    topic = unique("t")
    first, second = group_of_two(net, topic)
    message = one_for(net, topic, first, second)
    if stage == "PUBREC received":
        first.acknowledge(P.PUBREC, message.packet_id)
        first.expect(Pubrel)
    first.reset()
    again = net.resume(V5, first.client_id)
    if stage == "PUBREC received":
        assert again.expect(Pubrel).packet_id == message.packet_id
        again.acknowledge(P.PUBCOMP, message.packet_id)
    else:
        repeated = again.receive()
        assert (repeated.packet_id, repeated.payload, repeated.dup) == (message.packet_id, message.payload, True)
    again.barrier()
    second.barrier()


@in_v5("MQTT-4.8.2-5")
def test_a_qos_2_delivery_ends_with_the_session_of_its_member(net: Network) -> None:
    topic = unique("t")
    first, second = group_of_two(net, topic)
    one_for(net, topic, first, second)
    first.disconnect(properties=[(Property.SESSION_EXPIRY_INTERVAL, 0)])
    publisher = net.connect(V5)
    publisher.publish(topic, b"next", qos=2)
    assert second.receive().payload == b"next"
    fence(publisher, second, qos=2)


@in_v5("MQTT-4.8.2-6")
@pytest.mark.parametrize("kind", [P.PUBACK, P.PUBREC])
def test_a_message_that_its_member_refuses_is_offered_to_no_one_else(net: Network, kind: PacketType) -> None:
    topic = unique("t")
    name = f"$share/{unique('g')}/{topic}"
    members = [net.connect(V5), net.connect(V5)]
    qos = 1 if kind is P.PUBACK else 2
    for member in members:
        member.subscribe(name, qos=qos)
    publisher = net.connect(V5)
    publisher.publish(topic, b"refused", qos=qos)
    member, message = chosen(members)
    member.acknowledge(kind, message.packet_id, 0x83)
    member.barrier()
    for member in members:
        fence(publisher, member, qos=qos)


@both_versions
def test_a_group_serves_on_when_a_member_leaves(net: Network, version: Version) -> None:
    topic = unique("t")
    name = f"$share/{unique('g')}/{topic}"
    members = [net.connect(version) for _ in range(3)]
    publisher = net.connect(version)
    for member in members:
        member.subscribe(name, qos=1)
    members[0].disconnect()
    members[1].unsubscribe(name)
    for number in range(20):
        publisher.publish(topic, str(number).encode(), qos=1)
    assert members[2].receive_payloads(20) == [str(number).encode() for number in range(20)]
    fence(publisher, members[1], qos=1)
