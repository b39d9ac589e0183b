"""SUBSCRIBE and SUBACK: codes, replacement, overlapping filters, No Local, subscription identifiers."""

import pytest

from protocol import requests
from protocol.answers import Suback
from protocol.client import NetWith, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Filter
from protocol.wire import Properties, Property, Version, one_property, packet, property_block, u16


def identifier(number: int) -> Properties:
    return [(Property.SUBSCRIPTION_IDENTIFIER, number)]


@in_v3("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-2.3.1-7", "MQTT-3.9.3-2")
@in_v5("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-2.2.1-6", "MQTT-3.9.3-2", "MQTT-3.8.4-6", "MQTT-3.2.2-10")
@both_versions
@pytest.mark.parametrize("packet_id", [1, 2, 0x1234, 0xFFFF])
def test_a_subscribe_is_answered_under_its_identifier(net: Network, version: Version, packet_id: int) -> None:
    client = net.connect(version)
    for qos in range(3):
        suback = client.subscribe(unique("t") + "/+/#", qos=qos, packet_id=packet_id)
        assert (suback.packet_id, suback.codes) == (packet_id, (qos,))


@in_v3("MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1")
@in_v5("MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.8.4-7", "MQTT-3.9.3-1", "MQTT-3.9.3-2")
@both_versions
def test_several_filters_get_one_answer_with_a_code_each_in_their_order(net: Network, version: Version) -> None:
    root = unique("t")
    client = net.connect(version)
    granted = [2, 0, 1, 1, 0, 2, 2]
    suback = client.subscribe(*(Filter(f"{root}/{number}", qos) for number, qos in enumerate(granted)))
    assert suback.codes == tuple(granted)
    client.barrier()
    for number, qos in enumerate(granted):
        client.publish(f"{root}/{number}", b"x", qos=2)
        assert client.receive().qos == qos


@in_v3("MQTT-3.8.4-4")
@in_v5("MQTT-3.8.4-5", "MQTT-3.8.4-3")
@both_versions
def test_filters_of_one_request_are_handled_one_after_the_other(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    assert client.subscribe(Filter(topic, 2), Filter(topic, 0), Filter(topic, 1)).codes == (2, 0, 1)
    client.publish(topic, b"x", qos=2)
    assert client.receive().qos == 1
    client.barrier()


@in_v3("MQTT-3.8.3-3", "MQTT-4.8.0-1")
@in_v5("MQTT-3.8.3-2", "MQTT-4.13.1-1")
@both_versions
def test_a_subscribe_without_a_filter_is_refused(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.subscribe(version, 1, []))
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-3.8.4-3")
@in_v5("MQTT-3.8.4-3")
@both_versions
def test_the_same_filter_again_replaces_the_subscription(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    for qos in (0, 2, 1):
        client.subscribe(topic, qos=qos)
        publisher.publish(topic, b"x", qos=2)
        assert client.receive().qos == qos
        client.barrier()
    client.unsubscribe(topic)
    publisher.publish(topic, b"x", qos=2)
    fence(publisher, client, qos=2)


@in_v3("MQTT-3.8.4-3")
@in_v5("MQTT-3.8.4-4")
@both_versions
def test_no_message_is_lost_while_a_subscription_is_replaced(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=1)
    stream = b"".join(
        requests.publish(version, topic, str(number).encode(), qos=1, packet_id=number + 1) for number in range(100)
    )
    publisher.send(stream)
    client.send(b"".join(requests.subscribe(version, number + 1, [Filter(topic, 1)]) for number in range(50)))
    assert client.receive_payloads(100) == [str(number).encode() for number in range(100)]
    for number in range(50):
        assert client.expect(Suback).packet_id == number + 1


@in_v3("MQTT-3.3.5-1")
@in_v5("MQTT-3.3.4-2")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_overlapping_subscriptions_get_one_copy_at_the_highest_qos(net: Network, version: Version, qos: int) -> None:
    root = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(Filter(f"{root}/+", 0), Filter(f"{root}/#", qos), Filter(f"{root}/a", 0))
    publisher.publish(f"{root}/a", b"x", qos=2)
    assert client.receive().qos == qos
    fence(publisher, client, qos=2)


@in_v5("MQTT-3.3.4-3", "MQTT-3.3.4-4")
def test_the_copy_for_overlapping_subscriptions_lists_all_their_identifiers(net: Network) -> None:
    root = unique("t")
    client, publisher = net.connect(V5), net.connect(V5)
    client.subscribe(f"{root}/#", qos=1, properties=identifier(1))
    client.subscribe(f"{root}/+", qos=2, properties=identifier(268_435_455))
    client.subscribe(f"{root}/a", qos=0)
    client.subscribe(f"{root}/b", qos=0, properties=identifier(200))
    publisher.publish(f"{root}/a", b"x", qos=2)
    message = client.receive()
    assert message.qos == 2
    found = message.values(Property.SUBSCRIPTION_IDENTIFIER)
    assert sorted(each for each in found if isinstance(each, int)) == [1, 268_435_455]
    fence(publisher, client, qos=2)


@in_v5("MQTT-3.3.4-3", "MQTT-3.8.4-3")
def test_a_replaced_subscription_has_the_identifier_of_the_last_request(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5)
    for properties, expected in ((identifier(5), [5]), (identifier(6), [6]), ((), [])):
        client.subscribe(topic, properties=properties)
        client.publish(topic, b"x")
        assert client.receive().values(Property.SUBSCRIPTION_IDENTIFIER) == expected


@in_v5("MQTT-3.3.4-3")
def test_all_filters_of_one_request_share_its_identifier_also_in_an_offline_session(net: Network) -> None:
    root = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(f"{root}/a", f"{root}/b", qos=1, properties=identifier(77))
    client.disconnect()
    publisher = net.connect(V5)
    publisher.publish(f"{root}/a", b"x", qos=1)
    again = net.resume(V5, client.client_id)
    assert again.receive().value(Property.SUBSCRIPTION_IDENTIFIER) == 77
    publisher.publish(f"{root}/b", b"x", qos=1)
    assert again.receive().value(Property.SUBSCRIPTION_IDENTIFIER) == 77


@in_v5("MQTT-3.3.4-3")
def test_a_retained_message_names_the_subscription_that_asked_for_it(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5)
    client.publish(topic, b"x", qos=1, retain=True)
    client.subscribe(topic, properties=identifier(9))
    assert client.receive().values(Property.SUBSCRIPTION_IDENTIFIER) == [9]


@in_v5("MQTT-4.13.1-1")
@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(one_property(Property.SUBSCRIPTION_IDENTIFIER, 0), id="0"),
        pytest.param(one_property(Property.SUBSCRIPTION_IDENTIFIER, 1) * 2, id="given twice"),
        pytest.param(b"\x0b\xff\xff\xff\xff\x01", id="five bytes"),
    ],
)
def test_a_wrong_subscription_identifier_is_refused(net: Network, properties: bytes) -> None:
    client = net.connect(V5)
    client.send(packet(0x82, u16(1) + property_block(properties) + b"\0\1t\0"))
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-3.8.3-3")
def test_no_local_keeps_a_client_from_hearing_itself(net: Network) -> None:
    topic = unique("t")
    client, other = net.connect(V5), net.connect(V5)
    client.subscribe(Filter(topic, 1, no_local=True))
    client.publish(topic, b"own", qos=1)
    client.barrier()
    other.publish(topic, b"of another", qos=1)
    assert client.receive().payload == b"of another"
    client.barrier()


@in_v5("MQTT-3.8.3-3", "MQTT-3.3.4-3")
def test_no_local_on_one_filter_does_not_silence_another(net: Network) -> None:
    root = unique("t")
    client = net.connect(V5)
    client.subscribe(Filter(f"{root}/#", 2, no_local=True), properties=identifier(1))
    client.subscribe(Filter(f"{root}/a", 1), properties=identifier(2))
    client.publish(f"{root}/a", b"x", qos=2)
    message = client.receive()
    assert (message.qos, message.values(Property.SUBSCRIPTION_IDENTIFIER)) == (1, [2])
    client.barrier()


@in_v5("MQTT-3.8.3-3")
def test_a_client_without_no_local_hears_itself(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5)
    client.subscribe(topic, qos=1)
    client.publish(topic, b"own", qos=1)
    assert client.receive().payload == b"own"


@in_v3("MQTT-3.8.4-5", "MQTT-3.9.3-2")
@in_v5("MQTT-3.8.4-7", "MQTT-3.9.3-2")
@both_versions
def test_a_filter_deeper_than_allowed_fails_alone(net_with: NetWith, version: Version) -> None:
    client = net_with(topic_max_depth=3).connect(version)
    assert client.subscribe("a/b/c", "a/b/c/d", "+/#", qos=1).codes == (1, 0x8F if version is V5 else 0x80, 1)
    client.barrier()


@in_v3("MQTT-3.8.4-5")
@in_v5("MQTT-3.8.4-7", "MQTT-3.9.3-2")
@both_versions
def test_subscriptions_beyond_the_limit_of_a_client_fail(net_with: NetWith, version: Version) -> None:
    client = net_with(max_subscriptions_per_client=2).connect(version)
    topics = [unique("t") for _ in range(3)]
    assert client.subscribe(*topics, qos=1).codes == (1, 1, 0x97 if version is V5 else 0x80)
    # Replacing one is always possible, and so is a new one in the place of another.
    assert client.subscribe(topics[0], qos=2).codes == (2,)
    client.unsubscribe(topics[1])
    assert client.subscribe(topics[2], qos=2).codes == (2,)


@in_v3("MQTT-4.5.0-1")
@in_v5("MQTT-4.5.0-1")
@both_versions
def test_each_of_many_subscribers_gets_its_copy(net: Network, version: Version) -> None:
    root = unique("t")
    clients = [net.connect(V5 if number % 2 else V3) for number in range(12)]
    for number, client in enumerate(clients):
        client.subscribe((f"{root}/a", f"{root}/+", f"{root}/#")[number % 3], qos=number // 2 % 3)
    publisher = net.connect(version)
    publisher.publish(f"{root}/a", b"x", qos=2)
    for number, client in enumerate(clients):
        message = client.receive()
        assert (message.payload, message.qos) == (b"x", number // 2 % 3)
        client.barrier()
