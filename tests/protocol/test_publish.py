"""PUBLISH of version 5: properties passed on, message expiry, topic aliases in both directions."""

import time

import pytest

from protocol import requests
from protocol.answers import Puback
from protocol.client import Client, NetWith, Network, fence, unique
from protocol.marks import V3, V5, in_v3, in_v5
from protocol.wire import Properties, Property

P = Property


@in_v5("MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18", "MQTT-3.3.2-20")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_properties_are_passed_on_unchanged_and_in_order(net: Network, qos: int) -> None:
    topic = unique("t")
    properties: Properties = [
        (P.USER_PROPERTY, ("z", "first")),
        (P.PAYLOAD_FORMAT_INDICATOR, 1),
        (P.USER_PROPERTY, ("a", "second")),
        (P.CONTENT_TYPE, "application/json; charset=utf-8"),
        (P.RESPONSE_TOPIC, "answers/to/me"),
        (P.CORRELATION_DATA, bytes(range(256))),
        (P.USER_PROPERTY, ("z", "first")),
        (P.USER_PROPERTY, ("", "")),
    ]
    client = net.connect(V5)
    client.subscribe(topic, qos=2)
    client.publish(topic, b"{}", qos=qos, properties=properties)
    message = client.receive()
    assert set(message.properties) == set(properties)
    assert message.values(P.USER_PROPERTY) == [("z", "first"), ("a", "second"), ("z", "first"), ("", "")]


@in_v5("MQTT-3.3.2-4")
@pytest.mark.parametrize("indicator", [None, 0, 1])
def test_the_payload_format_indicator_is_passed_on(net: Network, indicator: int | None) -> None:
    topic = unique("t")
    client = net.connect(V5)
    client.subscribe(topic)
    client.publish(topic, b"x", properties=[] if indicator is None else [(P.PAYLOAD_FORMAT_INDICATOR, indicator)])
    assert client.receive().value(P.PAYLOAD_FORMAT_INDICATOR) == indicator


@in_v5("MQTT-3.3.2-17")
def test_properties_survive_the_queue_of_an_offline_session(net: Network) -> None:
    topic = unique("t")
    properties: Properties = [(P.CONTENT_TYPE, "a/b"), (P.USER_PROPERTY, ("k", "v")), (P.USER_PROPERTY, ("k", "w"))]
    client = net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    net.connect(V5).publish(topic, b"x", qos=1, properties=properties)
    assert set(net.resume(V5, client.client_id).receive().properties) == set(properties)


@in_v3("MQTT-4.5.0-1")
def test_a_version_3_subscriber_gets_the_message_without_its_properties(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V3)
    client.subscribe(topic, qos=1)
    net.connect(V5).publish(topic, b"x", qos=1, properties=[(P.USER_PROPERTY, ("k", "v"))])
    assert client.receive().payload == b"x"


@in_v5("MQTT-3.3.4-6", "MQTT-4.13.1-1")
def test_a_subscription_identifier_in_a_publish_of_a_client_is_a_protocol_error(net: Network) -> None:
    client = net.connect(V5)
    client.send(requests.publish(V5, "t", properties=[(P.SUBSCRIPTION_IDENTIFIER, 1)]))
    client.expect_refusal(0x82)


@in_v5("MQTT-3.3.2-14", "MQTT-4.7.0-1")
@pytest.mark.parametrize("response_topic", ["a/+", "#", "a#"])
def test_a_response_topic_with_a_wildcard_is_refused(net: Network, response_topic: str) -> None:
    client = net.connect(V5)
    client.send(requests.publish(V5, "t", properties=[(P.RESPONSE_TOPIC, response_topic)]))
    client.expect_refusal(0x81, 0x82, 0x90)


# -- expiry --------------------------------------------------------------------------------------------------------


@in_v5("MQTT-3.3.2-5")
def test_a_message_that_expired_in_the_queue_is_not_delivered(net: Network) -> None:
    topic = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = net.connect(V5)
    for qos in (1, 2):
        publisher.publish(topic, b"short-lived", qos=qos, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 1)])
        publisher.publish(topic, b"lasting", qos=qos, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 100)])
    time.sleep(1.6)
    again = net.resume(V5, client.client_id)
    assert again.receive_payloads(2) == [b"lasting"] * 2
    fence(publisher, again, qos=1)


@in_v5("MQTT-3.3.2-6")
def test_the_expiry_interval_is_passed_on_less_the_time_waited(net: Network) -> None:
    topic = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    publisher = net.connect(V5)
    publisher.publish(topic, b"live", qos=1, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 100)])
    assert client.receive().value(P.MESSAGE_EXPIRY_INTERVAL) in (99, 100)
    client.disconnect()
    publisher.publish(topic, b"waits", qos=1, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 100)])
    publisher.publish(topic, b"never expires", qos=1)
    time.sleep(1.6)
    again = net.resume(V5, client.client_id)
    assert again.receive().value(P.MESSAGE_EXPIRY_INTERVAL) in (98, 99)
    assert again.receive().value(P.MESSAGE_EXPIRY_INTERVAL) is None


@in_v5("MQTT-3.3.2-5", "MQTT-3.3.4-9")
def test_a_message_that_waits_for_the_window_of_its_subscriber_expires(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5, properties=[(P.RECEIVE_MAXIMUM, 1)])
    client.subscribe(topic, qos=1)
    publisher = net.connect(V5)
    publisher.publish(topic, b"in flight", qos=1, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 1)])
    publisher.publish(topic, b"expires", qos=1, properties=[(P.MESSAGE_EXPIRY_INTERVAL, 1)])
    publisher.publish(topic, b"lasts", qos=1)
    time.sleep(1.6)
    assert client.receive_payloads(2) == [b"in flight", b"lasts"]


# -- topic aliases, client to server -------------------------------------------------------------------------------


def publish_by_alias(client: Client, topic: str, alias: int, payload: bytes = b"x") -> None:
    client.send(requests.publish(V5, topic, payload, properties=[(P.TOPIC_ALIAS, alias)]))


@in_v5("MQTT-3.3.2-12", "MQTT-3.2.2-17")
def test_every_alias_up_to_the_announced_maximum_is_accepted(net_with: NetWith) -> None:
    net = net_with(topic_alias_max_client=10)
    root = unique("t")
    watcher, client = net.connect(V5), net.connect(V5)
    assert client.referee.connack is not None
    assert client.referee.connack.value(P.TOPIC_ALIAS_MAXIMUM) == 10
    watcher.subscribe(f"{root}/#")
    for alias in range(1, 11):
        publish_by_alias(client, f"{root}/{alias}", alias)
    for alias in range(10, 0, -1):
        publish_by_alias(client, "", alias, b"again")
    expected = [f"{root}/{alias}" for alias in [*range(1, 11), *range(10, 0, -1)]]
    assert [watcher.receive().topic for _ in range(20)] == expected
    client.barrier()


@in_v5("MQTT-3.3.2-12")
def test_an_alias_can_be_given_to_another_topic(net_with: NetWith) -> None:
    net = net_with(topic_alias_max_client=10)
    root = unique("t")
    watcher, client = net.connect(V5), net.connect(V5)
    watcher.subscribe(f"{root}/#")
    for topic in (f"{root}/a", "", f"{root}/b", ""):
        publish_by_alias(client, topic, 3)
    assert [watcher.receive().topic for _ in range(4)] == [f"{root}/{name}" for name in "aabb"]


@in_v5("MQTT-3.3.2-12", "MQTT-3.3.1-5")
def test_an_alias_works_with_qos_and_retain(net_with: NetWith) -> None:
    net = net_with(topic_alias_max_client=10)
    topic = unique("t")
    client = net.connect(V5)
    publish_by_alias(client, topic, 1)
    for qos in (1, 2):
        client.publish("", b"kept", qos=qos, retain=True, properties=[(P.TOPIC_ALIAS, 1)])
        client.subscribe(topic, qos=2)
        message = client.receive()
        assert (message.topic, message.payload, message.qos) == (topic, b"kept", qos)
        client.unsubscribe(topic)


@in_v5("MQTT-3.3.2-8", "MQTT-3.2.2-17", "MQTT-3.2.2-18", "MQTT-3.3.2-9", "MQTT-4.13.1-1")
@pytest.mark.parametrize(
    ("maximum", "alias"),
    [
        pytest.param(10, 0, id="alias 0"),
        pytest.param(10, 11, id="above the maximum"),
        pytest.param(10, 65_535, id="far above the maximum"),
        pytest.param(0, 1, id="none allowed"),
    ],
)
def test_a_wrong_topic_alias_is_refused(net_with: NetWith, maximum: int, alias: int) -> None:
    client = net_with(topic_alias_max_client=maximum).connect(V5)
    publish_by_alias(client, "t", alias)
    client.expect_refusal(0x94)


@in_v5("MQTT-3.3.2-8", "MQTT-4.13.1-1")
def test_an_alias_that_was_never_set_is_refused(net_with: NetWith) -> None:
    # 5.0 §3.3.2.3.4 calls this a protocol error; brokers also answer Topic Alias invalid.
    client = net_with(topic_alias_max_client=10).connect(V5)
    publish_by_alias(client, "", 5)
    client.expect_refusal(0x82, 0x94)


@in_v5("MQTT-3.3.2-8", "MQTT-4.13.1-1")
def test_an_empty_topic_name_without_an_alias_is_a_protocol_error(net: Network) -> None:
    client = net.connect(V5)
    client.send(requests.publish(V5, "", b"x"))
    client.expect_refusal(0x81, 0x82, 0x90)


@in_v5("MQTT-3.3.2-7")
def test_aliases_do_not_outlive_their_connection(net_with: NetWith) -> None:
    net = net_with(topic_alias_max_client=10)
    client = net.resume(V5, unique())
    publish_by_alias(client, unique("t"), 1)
    client.barrier()
    client.disconnect()
    again = net.resume(V5, client.client_id)
    assert again.referee.connack is not None
    assert again.referee.connack.session_present
    publish_by_alias(again, "", 1)
    again.expect_refusal(0x82, 0x94)


# -- topic aliases, server to client -------------------------------------------------------------------------------


@in_v5("MQTT-3.1.2-26", "MQTT-3.3.2-11", "MQTT-3.3.2-8")
def test_the_broker_uses_aliases_up_to_what_the_client_takes(net_with: NetWith) -> None:
    # The referee checks each alias; here also that they are used, and stand for the right topics.
    net = net_with(topic_alias_max_broker=10)
    root = unique("t")
    client, publisher = net.connect(V5, properties=[(P.TOPIC_ALIAS_MAXIMUM, 3)]), net.connect(V5)
    client.subscribe(f"{root}/#", qos=1)
    topics = [f"{root}/{number % 5}" for number in range(25)]
    for number, topic in enumerate(topics):
        publisher.publish(topic, str(number).encode(), qos=1)
    used: dict[int, str] = {}
    for number, topic in enumerate(topics):
        message = client.receive()
        alias = message.value(P.TOPIC_ALIAS)
        if isinstance(alias, int):
            used[alias] = message.topic or used[alias]
        assert (message.topic or used.get(int(str(alias)), "")) == topic
        assert message.payload == str(number).encode()
    assert used
    assert max(used) <= 3


@in_v5("MQTT-3.1.2-27", "MQTT-3.3.2-11")
@pytest.mark.parametrize("properties", [(), [(P.TOPIC_ALIAS_MAXIMUM, 0)]], ids=["not given", "0"])
def test_the_broker_uses_no_aliases_where_the_client_takes_none(net_with: NetWith, properties: Properties) -> None:
    net = net_with(topic_alias_max_broker=10)
    topic = unique("t")
    client = net.connect(V5, properties=properties)
    client.subscribe(topic)
    for _ in range(5):
        client.publish(topic, b"x")
        assert client.receive().value(P.TOPIC_ALIAS) is None


@in_v5("MQTT-3.3.2-7", "MQTT-3.1.2-26")
def test_the_broker_names_its_aliases_anew_after_a_reconnect(net_with: NetWith) -> None:
    net = net_with(topic_alias_max_broker=10)
    topic = unique("t")
    aliases: Properties = [(P.TOPIC_ALIAS_MAXIMUM, 5)]
    client = net.resume(V5, unique(), properties=aliases)
    client.subscribe(topic, qos=1)
    publisher = net.connect(V5)
    for _ in range(3):
        publisher.publish(topic, b"x", qos=1)
        client.receive()
    publisher.publish(topic, b"unacknowledged", qos=1)
    client.reset()
    publisher.publish(topic, b"queued", qos=1)
    again = net.resume(V5, client.client_id, properties=aliases)
    assert again.receive_payloads(2) == [b"unacknowledged", b"queued"]
    first = again.referee.aliases
    assert set(first.values()) <= {topic}


@in_v5("MQTT-3.4.2-1")
def test_a_topic_deeper_than_allowed_is_refused_by_name(net_with: NetWith) -> None:
    client = net_with(topic_max_depth=3).connect(V5)
    assert client.publish("a/b/c", b"x", qos=1) in (0, 0x10)
    assert client.publish("a/b/c/d", b"x", qos=1) == 0x90
    assert client.publish("a/b/c/d", b"x", qos=2) == 0x90
    client.barrier()


@in_v3("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_topic_deeper_than_allowed_closes_the_connection_before_version_5(net_with: NetWith, qos: int) -> None:
    client = net_with(topic_max_depth=3).connect(V3)
    client.send(requests.publish(V3, "a/b/c/d", b"x", qos=qos, packet_id=1 if qos else None))
    client.expect_closed()


@in_v5("MQTT-3.3.4-1")
def test_a_large_payload_passes_unchanged(net: Network) -> None:
    topic = unique("t")
    payload = bytes(range(256)) * 8_192
    client = net.connect(V5)
    client.subscribe(topic, qos=1)
    client.send(requests.publish(V5, topic, payload, qos=1, packet_id=1))
    assert client.receive().payload == payload
    assert client.expect(Puback).packet_id == 1
