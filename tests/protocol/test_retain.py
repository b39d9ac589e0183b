"""Retained messages: stored, replaced, deleted, and sent to subscribers as the version and the options say."""

import time

import pytest

from protocol.answers import Publish
from protocol.client import Client, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Filter
from protocol.wire import Properties, Property, Version


def retained_by(net: Network, version: Version, topic: str) -> list[Publish]:
    """What a new subscriber gets as retained messages of `topic`."""
    reader = net.connect(version)
    reader.subscribe(topic, qos=2)
    end = unique("end")
    reader.publish(end, b"", retain=True)
    reader.subscribe(end)
    reader.publish(end)
    found = []
    while (message := reader.receive()).topic != end:
        found.append(message)
    reader.barrier()
    return found


def retain(client: Client, topic: str, payload: bytes, qos: int = 1, properties: Properties = ()) -> None:
    client.publish(topic, payload, qos=qos, retain=True, properties=properties)


@in_v3("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8")
@in_v5("MQTT-3.3.1-5", "MQTT-3.3.1-9")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_goes_to_later_subscribers_with_its_qos(net: Network, version: Version, qos: int) -> None:
    topic = unique("t")
    retain(net.connect(version), topic, b"kept", qos)
    late = net.connect(version)
    late.subscribe(topic, qos=2)
    message = late.receive()
    assert (message.topic, message.payload, message.qos, message.retain) == (topic, b"kept", qos, True)
    late.barrier()


@in_v3("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-7")
@in_v5("MQTT-3.3.1-5")
@both_versions
@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 0), (2, 0), (1, 2)])
def test_only_the_last_retained_message_of_a_topic_is_kept(
    net: Network, version: Version, first: int, second: int
) -> None:
    topic = unique("t")
    publisher = net.connect(version)
    retain(publisher, topic, b"old", first)
    retain(publisher, topic, b"new", second)
    publisher.barrier()
    assert [(each.payload, each.qos) for each in retained_by(net, version, topic)] == [(b"new", second)]


@in_v3("MQTT-3.3.1-6")
@in_v5("MQTT-3.3.1-9")
@both_versions
def test_a_wildcard_subscription_gets_the_retained_message_of_each_matching_topic(
    net: Network, version: Version
) -> None:
    root = unique("t")
    publisher = net.connect(version)
    for name in ("a", "a/b", "a/b/c", "d", "$e"):
        retain(publisher, f"{root}/{name}", name.encode())
    for name, expected in (
        ("#", [b"$e", b"a", b"a/b", b"a/b/c", b"d"]),
        ("+", [b"$e", b"a", b"d"]),
        ("a/#", [b"a", b"a/b", b"a/b/c"]),
        ("+/b", [b"a/b"]),
        ("+/+/c", [b"a/b/c"]),
        ("a/b/c/#", [b"a/b/c"]),
        ("a/b/c/+", []),
    ):
        assert sorted(each.payload for each in retained_by(net, version, f"{root}/{name}")) == expected


@in_v3("MQTT-3.3.1-9")
@in_v5("MQTT-3.3.1-12")
@both_versions
def test_retain_is_cleared_for_subscriptions_that_exist(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=1)
    retain(publisher, topic, b"x")
    assert client.receive().retain is False
    retain(publisher, topic, b"")


@in_v5("MQTT-3.3.1-12", "MQTT-3.3.1-13")
@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("published", [False, True])
def test_retain_as_published_passes_the_flag_on(net: Network, as_published: bool, published: bool) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5), net.connect(V5)
    client.subscribe(Filter(topic, 1, retain_as_published=as_published))
    publisher.publish(topic, b"x", qos=1, retain=published)
    assert client.receive().retain is (published and as_published)


@in_v3("MQTT-3.3.1-8")
@in_v5("MQTT-3.3.1-9")
@both_versions
@pytest.mark.parametrize("as_published", [False, True])
def test_a_message_from_the_retained_store_says_so(net: Network, version: Version, as_published: bool) -> None:
    topic = unique("t")
    retain(net.connect(version), topic, b"x")
    client = net.connect(version)
    client.subscribe(Filter(topic, 1, retain_as_published=as_published))
    assert client.receive().retain is True


@in_v3("MQTT-3.3.1-10", "MQTT-3.3.1-11")
@in_v5("MQTT-3.3.1-6", "MQTT-3.3.1-7")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_retained_message_deletes_the_stored_one_and_is_passed_on(
    net: Network, version: Version, qos: int
) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    retain(publisher, topic, b"x")
    client.subscribe(topic, qos=2)
    assert client.receive().payload == b"x"
    retain(publisher, topic, b"", qos)
    message = client.receive()
    assert (message.payload, message.retain) == (b"", False)
    publisher.barrier()
    assert retained_by(net, version, topic) == []


@in_v3("MQTT-3.3.1-11")
@in_v5("MQTT-3.3.1-7")
@both_versions
def test_an_empty_message_is_not_stored_where_there_was_none(net: Network, version: Version) -> None:
    topic = unique("t")
    retain(net.connect(version), topic, b"")
    assert retained_by(net, version, topic) == []


@in_v3("MQTT-3.3.1-12")
@in_v5("MQTT-3.3.1-8")
@both_versions
@pytest.mark.parametrize("payload", [b"passes", b""])
def test_a_message_without_retain_leaves_the_stored_one_alone(net: Network, version: Version, payload: bytes) -> None:
    topic = unique("t")
    publisher = net.connect(version)
    retain(publisher, topic, b"kept")
    publisher.publish(topic, payload, qos=1)
    assert [each.payload for each in retained_by(net, version, topic)] == [b"kept"]


@in_v3("MQTT-3.8.4-3", "MQTT-3.3.1-6")
@in_v5("MQTT-3.3.1-9", "MQTT-3.8.4-4")
@both_versions
def test_every_subscribe_sends_the_retained_messages_again(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    retain(client, topic, b"x")
    for qos in (1, 1, 0, 2):
        client.subscribe(topic, qos=qos)
        message = client.receive()
        assert (message.payload, message.retain, message.qos) == (b"x", True, min(qos, 1))
    client.barrier()


@in_v5("MQTT-3.3.1-9", "MQTT-3.3.1-10", "MQTT-3.3.1-11", "MQTT-3.8.4-4")
@pytest.mark.parametrize(("handling", "first", "second"), [(0, True, True), (1, True, False), (2, False, False)])
def test_retain_handling_says_when_retained_messages_are_sent(
    net: Network, handling: int, first: bool, second: bool
) -> None:
    topic = unique("t")
    client = net.connect(V5)
    retain(client, topic, b"x")
    for expected in (first, second):
        client.subscribe(Filter(topic, 1, retain_handling=handling))
        if expected:
            assert client.receive().payload == b"x"
        client.barrier()
    client.unsubscribe(topic)
    client.subscribe(Filter(topic, 1, retain_handling=handling))
    if first:
        assert client.receive().payload == b"x"
    client.barrier()


@in_v5("MQTT-3.3.1-10")
def test_a_subscription_of_a_resumed_session_is_not_new(net: Network) -> None:
    topic = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(Filter(topic, 1, retain_handling=1))
    client.disconnect()
    retain(net.connect(V5), topic, b"x")
    again = net.resume(V5, client.client_id)
    assert again.receive().payload == b"x"
    again.subscribe(Filter(topic, 1, retain_handling=1))
    again.barrier()


@in_v5("MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20")
def test_a_retained_message_keeps_its_properties(net: Network) -> None:
    topic = unique("t")
    properties: Properties = [
        (Property.PAYLOAD_FORMAT_INDICATOR, 1),
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "answers"),
        (Property.CORRELATION_DATA, b"\x00\xff"),
        (Property.USER_PROPERTY, ("b", "1")),
        (Property.USER_PROPERTY, ("a", "2")),
    ]
    retain(net.connect(V5), topic, b"x", properties=properties)
    (message,) = retained_by(net, V5, topic)
    assert set(message.properties) == set(properties)
    assert message.values(Property.USER_PROPERTY) == [("b", "1"), ("a", "2")]


@in_v5("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_a_retained_message_expires(net: Network) -> None:
    short, long = unique("t"), unique("t")
    publisher = net.connect(V5)
    retain(publisher, short, b"x", properties=[(Property.MESSAGE_EXPIRY_INTERVAL, 1)])
    retain(publisher, long, b"x", properties=[(Property.MESSAGE_EXPIRY_INTERVAL, 100)])
    assert [each.payload for each in retained_by(net, V5, short)] == [b"x"]
    time.sleep(1.6)
    assert retained_by(net, V5, short) == []
    assert retained_by(net, V3, short) == []
    (message,) = retained_by(net, V5, long)
    remaining = message.value(Property.MESSAGE_EXPIRY_INTERVAL)
    assert remaining in (98, 99)


@in_v3("MQTT-3.8.4-4")
@in_v5("MQTT-3.8.4-5")
@both_versions
def test_each_filter_of_a_subscribe_gets_its_retained_messages(net: Network, version: Version) -> None:
    # Each filter is a request of its own: a topic that two of them match comes twice, and not three times.
    root = unique("t")
    client = net.connect(version)
    retain(client, f"{root}/a", b"x")
    client.subscribe(f"{root}/a", f"{root}/+", qos=1)
    assert [client.receive().topic for _ in range(2)] == [f"{root}/a"] * 2
    client.barrier()


@in_v3("MQTT-3.3.1-9")
@in_v5("MQTT-3.3.1-12")
@both_versions
def test_an_offline_session_finds_a_message_published_with_retain_once(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = net.connect(version)
    retain(publisher, topic, b"x")
    again = net.resume(version, client.client_id)
    message = again.receive()
    assert (message.payload, message.retain) == (b"x", False)
    again.barrier()
    fence(publisher, again)
