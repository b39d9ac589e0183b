"""QoS 1 and 2 with the broker as receiver: what it acknowledges and how, repeats, exactly once over a reconnect."""

import pytest

from protocol import requests
from protocol.answers import Puback, Pubcomp, Publish, Pubrec
from protocol.client import Client, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.wire import PacketType, Property, Version

P = PacketType


def send_publish(client: Client, topic: str, payload: bytes, qos: int, packet_id: int, *, dup: bool = False) -> None:
    client.send(requests.publish(client.version, topic, payload, qos=qos, packet_id=packet_id, dup=dup))


def watched(net: Network, version: Version) -> tuple[Client, Client, str]:
    """A publisher, a subscriber with QoS 2, and the topic between them."""
    topic = unique("t")
    subscriber = net.connect(version)
    subscriber.subscribe(topic, qos=2)
    return net.connect(version), subscriber, topic


@in_v3("MQTT-3.3.4-1", "MQTT-2.3.1-6", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
@in_v5("MQTT-3.3.4-1", "MQTT-2.2.1-5", "MQTT-4.3.2-4", "MQTT-4.3.3-8", "MQTT-4.3.3-11", "MQTT-3.4.2-1", "MQTT-3.5.2-1")
@both_versions
def test_publish_is_answered_as_its_qos_says_under_its_identifier(net: Network, version: Version) -> None:
    publisher, subscriber, topic = watched(net, version)
    send_publish(publisher, topic, b"1", 1, 0x1234)
    puback = publisher.expect(Puback)
    assert (puback.packet_id, puback.code) == (0x1234, 0)
    send_publish(publisher, topic, b"2", 2, 0xFFFF)
    pubrec = publisher.expect(Pubrec)
    assert (pubrec.packet_id, pubrec.code) == (0xFFFF, 0)
    publisher.acknowledge(P.PUBREL, 0xFFFF)
    pubcomp = publisher.expect(Pubcomp)
    assert (pubcomp.packet_id, pubcomp.code) == (0xFFFF, 0)
    publisher.publish(topic, b"0")
    publisher.barrier()
    assert sorted(subscriber.receive_payloads(3)) == [b"0", b"1", b"2"]


@in_v3("MQTT-4.3.2-2", "MQTT-2.3.1-3")
@in_v5("MQTT-4.3.2-5")
@both_versions
@pytest.mark.parametrize("dup", [False, True])
def test_an_identifier_of_qos_1_stands_for_a_new_message_once_acknowledged(
    net: Network, version: Version, dup: bool
) -> None:
    publisher, subscriber, topic = watched(net, version)
    publisher.publish(topic, b"first", qos=1, packet_id=5)
    publisher.publish(topic, b"second", qos=1, packet_id=5, dup=dup)
    assert subscriber.receive_payloads(2) == [b"first", b"second"]


@in_v3("MQTT-4.3.3-2")
@in_v5("MQTT-4.3.3-10", "MQTT-4.3.3-8")
@both_versions
def test_repeats_of_a_qos_2_message_are_acknowledged_and_not_passed_on(net: Network, version: Version) -> None:
    publisher, subscriber, topic = watched(net, version)
    send_publish(publisher, topic, b"once", 2, 7)
    for _ in range(3):
        assert publisher.expect(Pubrec).packet_id == 7
        send_publish(publisher, topic, b"once", 2, 7, dup=True)
    assert publisher.expect(Pubrec).packet_id == 7
    publisher.release(7)
    assert subscriber.receive().payload == b"once"
    fence(publisher, subscriber, qos=2)


@in_v3("MQTT-4.3.3-2", "MQTT-2.3.1-3")
@in_v5("MQTT-4.3.3-12")
@both_versions
@pytest.mark.parametrize("dup", [False, True])
def test_an_identifier_of_qos_2_stands_for_a_new_message_once_completed(
    net: Network, version: Version, dup: bool
) -> None:
    publisher, subscriber, topic = watched(net, version)
    publisher.publish(topic, b"first", qos=2, packet_id=5)
    publisher.publish(topic, b"second", qos=2, packet_id=5, dup=dup)
    assert subscriber.receive_payloads(2) == [b"first", b"second"]
    fence(publisher, subscriber, qos=2)


@in_v3("MQTT-4.3.3-2", "MQTT-3.1.2-4", "MQTT-4.1.0-1")
@in_v5("MQTT-4.3.3-10", "MQTT-3.1.2-5")
@both_versions
@pytest.mark.parametrize("how", ["reset", "DISCONNECT", "takeover"])
def test_a_qos_2_message_is_passed_on_once_even_when_repeated_after_a_reconnect(
    net: Network, version: Version, how: str
) -> None:
    _, subscriber, topic = watched(net, version)
    publisher = net.resume(version, unique())
    send_publish(publisher, topic, b"once", 2, 9)
    publisher.expect(Pubrec)
    if how == "reset":
        publisher.reset()
    elif how == "DISCONNECT":
        publisher.disconnect()
    again = net.resume(version, publisher.client_id)
    send_publish(again, topic, b"once", 2, 9, dup=True)
    assert again.expect(Pubrec).packet_id == 9
    again.release(9)
    assert subscriber.receive().payload == b"once"
    fence(again, subscriber, qos=2)


@in_v3("MQTT-4.3.3-2", "MQTT-4.4.0-1")
@in_v5("MQTT-4.3.3-11", "MQTT-3.1.2-5")
@both_versions
def test_a_pubrel_after_a_reconnect_completes_the_exchange(net: Network, version: Version) -> None:
    _, subscriber, topic = watched(net, version)
    publisher = net.resume(version, unique())
    send_publish(publisher, topic, b"x", 2, 9)
    publisher.expect(Pubrec)
    publisher.reset()
    again = net.resume(version, publisher.client_id)
    again.release(9)
    again.publish(topic, b"y", qos=2, packet_id=9)
    assert subscriber.receive_payloads(2) == [b"x", b"y"]


@in_v3("MQTT-3.1.2-6", "MQTT-4.3.3-2")
@in_v5("MQTT-3.1.2-4", "MQTT-4.3.3-12")
@both_versions
def test_a_clean_session_forgets_the_identifiers_of_qos_2(net: Network, version: Version) -> None:
    _, subscriber, topic = watched(net, version)
    publisher = net.resume(version, unique())
    send_publish(publisher, topic, b"first", 2, 9)
    publisher.expect(Pubrec)
    publisher.disconnect()
    again = net.connect(version, publisher.client_id)
    again.publish(topic, b"second", qos=2, packet_id=9)
    # Whether a message goes on when it arrives or when it is released is the broker's choice.
    received = subscriber.receive().payload
    assert (subscriber.receive().payload if received == b"first" else received) == b"second"
    fence(again, subscriber, qos=2)


@in_v5("MQTT-3.7.2-1")
def test_an_unknown_pubrel_is_answered_with_a_pubcomp_that_says_so(net: Network) -> None:
    client = net.connect(V5)
    client.acknowledge(P.PUBREL, 4711)
    pubcomp = client.expect(Pubcomp)
    assert (pubcomp.packet_id, pubcomp.code) == (4711, 0x92)
    client.barrier()


@in_v3("MQTT-4.3.3-2")
def test_an_unknown_pubrel_is_answered_with_a_pubcomp_before_version_5(net: Network) -> None:
    client = net.connect(V3)
    client.acknowledge(P.PUBREL, 4711)
    assert client.expect(Pubcomp).packet_id == 4711
    client.barrier()


@in_v3("MQTT-2.3.1-2", "MQTT-2.3.1-6")
@in_v5("MQTT-2.2.1-5", "MQTT-2.2.1-4")
@both_versions
def test_identifiers_of_client_and_server_are_apart(net: Network, version: Version) -> None:
    # Both sides use the same identifier at the same time, for a message each.
    topic = unique("t")
    client = net.connect(version)
    client.subscribe(topic, qos=2)
    other = net.connect(version)
    other.publish(topic, b"from outside", qos=2)
    message = client.expect(Publish)
    assert message.packet_id is not None
    client.publish(topic, b"own", qos=2, packet_id=message.packet_id)
    client.complete(message)
    assert client.receive().payload == b"own"
    client.barrier()


@in_v3("MQTT-4.3.3-2", "MQTT-4.6.0-6", "MQTT-2.3.1-6")
@in_v5("MQTT-4.3.3-8", "MQTT-4.6.0-5", "MQTT-2.2.1-5")
@both_versions
def test_acknowledgements_follow_the_order_of_the_messages(net: Network, version: Version) -> None:
    publisher, subscriber, topic = watched(net, version)
    identifiers = [900, 3, 65_535, 1, 42]
    batch = b"".join(
        requests.publish(version, topic, str(each).encode(), qos=2, packet_id=each) for each in identifiers
    )
    publisher.send(batch)
    assert [publisher.expect(Pubrec).packet_id for _ in identifiers] == identifiers
    for each in identifiers:
        publisher.acknowledge(P.PUBREL, each)
    assert [publisher.expect(Pubcomp).packet_id for _ in identifiers] == identifiers
    assert subscriber.receive_payloads(5) == [str(each).encode() for each in identifiers]


@in_v5("MQTT-4.3.3-13", "MQTT-4.3.3-11")
def test_the_exchange_of_an_expired_message_is_completed(net: Network) -> None:
    publisher, _, topic = watched(net, V5)
    properties = [(Property.MESSAGE_EXPIRY_INTERVAL, 0)]
    publisher.send(requests.publish(V5, topic, b"x", qos=2, packet_id=3, properties=properties))
    assert publisher.expect(Pubrec).packet_id == 3
    publisher.release(3)
    publisher.barrier()


@in_v5("MQTT-4.3.3-9")
def test_an_identifier_is_free_again_after_a_refusing_pubrec(net: Network) -> None:
    publisher, subscriber, topic = watched(net, V5)
    assert publisher.publish("$not/for/clients", b"refused", qos=2, packet_id=3) == 0x87
    publisher.publish(topic, b"taken", qos=2, packet_id=3)
    assert subscriber.receive().payload == b"taken"
    fence(publisher, subscriber, qos=2)


@in_v5("MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publisher_hears_that_nobody_subscribes(net: Network, qos: int) -> None:
    publisher, _, topic = watched(net, V5)
    assert publisher.publish(unique("nobody"), b"x", qos=qos) == 0x10
    assert publisher.publish(topic, b"x", qos=qos) == 0


@in_v3("MQTT-3.3.4-1", "MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["$mine/x", "$SYS/x", "$share/group/x", "$"])
def test_a_publish_to_a_dollar_topic_is_acknowledged_and_dropped_before_version_5(
    net: Network, topic: str, qos: int
) -> None:
    watcher = net.connect(V3)
    watcher.subscribe("$mine/#", qos=2)
    publisher = net.connect(V3)
    publisher.publish(topic, b"x", qos=qos)
    publisher.barrier()
    fence(publisher, watcher, qos=qos)


@in_v5("MQTT-3.3.4-1", "MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["$mine/x", "$SYS/x", "$share/group/x", "$"])
def test_a_publish_to_a_dollar_topic_is_not_authorized(net: Network, topic: str, qos: int) -> None:
    watcher = net.connect(V5)
    watcher.subscribe("$mine/#", qos=2)
    publisher = net.connect(V5)
    assert publisher.publish(topic, b"x", qos=qos) == (0x87 if qos else 0)
    publisher.barrier()
    fence(publisher, watcher, qos=qos)
