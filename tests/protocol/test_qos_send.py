"""QoS 1 and 2 with the broker as sender: identifiers, DUP, acknowledgements, resending after a reconnect, order."""

import time

import pytest

from protocol import requests
from protocol.answers import Publish, Pubrel
from protocol.client import Client, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.wire import PacketType, Properties, Property, Version

P = PacketType


def lasting_subscriber(net: Network, version: Version, topic: str, qos: int) -> Client:
    client = net.resume(version, unique())
    client.subscribe(topic, qos=qos)
    return client


@in_v3("MQTT-4.3.1-1", "MQTT-3.3.1-2", "MQTT-3.3.1-3")
@in_v5("MQTT-4.3.1-1", "MQTT-3.3.1-2", "MQTT-3.3.1-3")
@both_versions
def test_qos_0_is_delivered_with_dup_0(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=2)
    publisher.publish(topic, b"x")
    message = client.expect(Publish)
    assert (message.qos, message.dup) == (0, False)


@in_v3("MQTT-3.3.1-3", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
@in_v5("MQTT-3.3.1-3", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
@both_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_of_the_publisher_is_not_passed_on(net: Network, version: Version, qos: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=qos)
    publisher.publish(topic, b"x", qos=qos, dup=True)
    message = client.receive()
    assert (message.qos, message.dup) == (qos, False)
    client.barrier()


@in_v3("MQTT-2.3.1-6", "MQTT-4.3.3-1")
@in_v5("MQTT-2.2.1-5", "MQTT-4.3.3-4", "MQTT-3.6.2-1")
@both_versions
def test_a_pubrec_is_answered_with_a_pubrel_under_the_same_identifier(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    client.subscribe(topic, qos=2)
    net.connect(version).publish(topic, b"x", qos=2)
    message = client.expect(Publish)
    client.acknowledge(P.PUBREC, message.packet_id)
    pubrel = client.expect(Pubrel)
    assert (pubrel.packet_id, pubrel.code) == (message.packet_id, 0)
    client.acknowledge(P.PUBCOMP, message.packet_id)
    client.barrier()


@in_v3("MQTT-2.3.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
@in_v5("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.2-3", "MQTT-4.3.3-1", "MQTT-4.3.3-3", "MQTT-4.3.3-5")
@both_versions
def test_an_identifier_stays_in_use_until_its_exchange_is_complete(net: Network, version: Version) -> None:
    # The referee objects as soon as an identifier comes again that the client has not completed.
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=2)
    held = []
    for qos in (1, 2, 2):
        publisher.publish(topic, b"held", qos=qos)
        held.append(client.expect(Publish))
    client.acknowledge(P.PUBREC, held[2].packet_id)
    client.expect(Pubrel)
    for number in range(200):
        publisher.publish(topic, b"flows", qos=1 + number % 2)
        assert client.receive().packet_id not in {each.packet_id for each in held}
    client.complete(held[0])
    client.complete(held[1])
    client.acknowledge(P.PUBCOMP, held[2].packet_id)
    client.barrier()


@in_v3("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-2.3.1-4", "MQTT-4.6.0-1", "MQTT-4.6.0-6")
@in_v5("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-3", "MQTT-4.3.3-3", "MQTT-4.6.0-1")
@both_versions
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("how", ["DISCONNECT", "reset", "takeover"])
def test_unacknowledged_messages_are_sent_again_in_order_with_dup_and_the_same_identifiers(
    net: Network, version: Version, qos: int, how: str
) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, version, topic, qos)
    publisher = net.connect(version)
    for number in range(8):
        publisher.publish(topic, bytes([number]), qos=qos)
    first = [client.expect(Publish) for _ in range(8)]
    if how == "DISCONNECT":
        client.disconnect()
    elif how == "reset":
        client.reset()
    again = net.resume(version, client.client_id)
    second = [again.expect(Publish) for _ in range(8)]
    assert [(each.packet_id, each.payload) for each in second] == [(each.packet_id, each.payload) for each in first]
    assert all(each.dup for each in second)
    for message in second:
        again.complete(message)
    again.barrier()
    again.disconnect()
    net.resume(version, client.client_id).barrier()


@in_v3("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-1")
@in_v5("MQTT-4.4.0-1", "MQTT-3.3.1-1", "MQTT-4.3.2-3")
@both_versions
def test_only_what_was_not_acknowledged_is_sent_again(net: Network, version: Version) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, version, topic, 1)
    publisher = net.connect(version)
    for number in range(6):
        publisher.publish(topic, bytes([number]), qos=1)
    messages = [client.expect(Publish) for _ in range(6)]
    for message in messages[::2]:
        client.complete(message)
    client.barrier()
    client.reset()
    publisher.publish(topic, b"new", qos=1)
    again = net.resume(version, client.client_id)
    received = [again.receive() for _ in range(4)]
    assert [(each.payload, each.dup) for each in received] == [
        (b"\x01", True),
        (b"\x03", True),
        (b"\x05", True),
        (b"new", False),
    ]
    again.barrier()


@in_v3("MQTT-4.4.0-1", "MQTT-4.3.3-1", "MQTT-4.6.0-4", "MQTT-4.6.0-6")
@in_v5("MQTT-4.4.0-1", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-4.6.0-4")
@both_versions
def test_pubrel_is_sent_again_after_a_reconnect_and_publish_is_not(net: Network, version: Version) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, version, topic, 2)
    publisher = net.connect(version)
    for number in range(4):
        publisher.publish(topic, bytes([number]), qos=2)
    messages = [client.expect(Publish) for _ in range(4)]
    for message in messages[:3]:
        client.acknowledge(P.PUBREC, message.packet_id)
    assert [client.expect(Pubrel).packet_id for _ in range(3)] == [each.packet_id for each in messages[:3]]
    client.reset()
    again = net.resume(version, client.client_id)
    assert [again.expect(Pubrel).packet_id for _ in range(3)] == [each.packet_id for each in messages[:3]]
    fourth = again.expect(Publish)
    assert (fourth.packet_id, fourth.payload, fourth.dup) == (messages[3].packet_id, b"\x03", True)
    for message in messages[:3]:
        again.acknowledge(P.PUBCOMP, message.packet_id)
    again.complete(fourth)
    again.barrier()
    again.disconnect()
    net.resume(version, client.client_id).barrier()


@in_v3("MQTT-4.6.0-4", "MQTT-4.6.0-6")
@in_v5("MQTT-4.6.0-4")
@both_versions
def test_pubrels_follow_the_order_of_the_pubrecs(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=2)
    for number in range(5):
        publisher.publish(topic, bytes([number]), qos=2)
    identifiers = [client.expect(Publish).packet_id for _ in range(5)]
    mixed = [identifiers[index] for index in (3, 0, 4, 1, 2)]
    for packet_id in mixed:
        client.acknowledge(P.PUBREC, packet_id)
    assert [client.expect(Pubrel).packet_id for _ in range(5)] == mixed
    for packet_id in mixed:
        client.acknowledge(P.PUBCOMP, packet_id)
    client.barrier()


@in_v5("MQTT-4.4.0-1", "MQTT-4.3.2-3", "MQTT-4.3.3-3")
@in_v3("MQTT-4.3.2-1", "MQTT-4.3.3-1")
@both_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_is_sent_again_while_the_connection_lives(net: Network, version: Version, qos: int) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, version, topic, qos)
    publisher = net.connect(version)
    publisher.publish(topic, b"x", qos=qos)
    message = client.expect(Publish)
    for _ in range(3):
        client.barrier()
    fence(publisher, client, qos=qos)
    client.complete(message)
    client.barrier()


@in_v5("MQTT-4.4.0-2", "MQTT-4.3.3-4", "MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize(("qos", "kind"), [(1, P.PUBACK), (2, P.PUBREC)])
def test_a_refusing_acknowledgement_is_final(net: Network, qos: int, kind: PacketType) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, V5, topic, qos)
    publisher = net.connect(V5)
    publisher.publish(topic, b"refused", qos=qos)
    client.acknowledge(kind, client.expect(Publish).packet_id, 0x83)
    # No PUBREL may follow.
    client.barrier()
    client.reset()
    again = net.resume(V5, client.client_id)
    again.barrier()
    publisher.publish(topic, b"next", qos=qos)
    assert again.receive().payload == b"next"


@in_v5("MQTT-4.3.3-7")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_went_out_no_longer_expires(net: Network, qos: int) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, V5, topic, qos)
    net.connect(V5).publish(topic, b"x", qos=qos, properties=[(Property.MESSAGE_EXPIRY_INTERVAL, 1)])
    first = client.expect(Publish)
    client.reset()
    time.sleep(1.5)
    again = net.resume(V5, client.client_id)
    second = again.receive()
    assert (second.packet_id, second.payload, second.dup) == (first.packet_id, b"x", True)


@in_v3("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@in_v5("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_one_publisher_keep_their_order(net: Network, version: Version, qos: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=qos)
    payloads = [str(number).encode() for number in range(300)]
    for payload in payloads:
        publisher.publish(topic, payload, qos=qos)
    assert client.receive_payloads(300) == payloads


@in_v3("MQTT-4.6.0-6")
@in_v5("MQTT-4.6.0-5")
@both_versions
def test_order_is_kept_from_the_queue_of_an_offline_session_into_the_live_stream(
    net: Network, version: Version
) -> None:
    topic = unique("t")
    client = lasting_subscriber(net, version, topic, 1)
    client.disconnect()
    publisher = net.connect(version)
    payloads = [str(number).encode() for number in range(120)]
    for payload in payloads[:60]:
        publisher.publish(topic, payload, qos=1)
    again = net.resume(version, client.client_id)
    for payload in payloads[60:]:
        publisher.publish(topic, payload, qos=1)
    assert again.receive_payloads(120) == payloads


@in_v3("MQTT-3.8.4-6")
@in_v5("MQTT-3.8.4-8")
@both_versions
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("published", [0, 1, 2])
def test_a_message_is_delivered_at_the_lower_qos(net: Network, version: Version, published: int, granted: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=granted)
    publisher.publish(topic, b"x", qos=published)
    assert client.receive().qos == min(published, granted)


@in_v3("MQTT-4.5.0-1", "MQTT-3.8.4-6")
@in_v5("MQTT-4.5.0-1", "MQTT-3.8.4-8")
@pytest.mark.parametrize(("sender", "receiver"), [(V3, V5), (V5, V3)], ids=str)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_versions_talk_to_each_other(net: Network, sender: Version, receiver: Version, qos: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(receiver), net.connect(sender)
    client.subscribe(topic, qos=qos)
    publisher.publish(topic, b"x", qos=qos)
    message = client.receive()
    assert (message.topic, message.payload, message.qos, message.properties) == (topic, b"x", qos, ())


@both_versions
@pytest.mark.parametrize("kind", [P.PUBACK, P.PUBCOMP])
def test_an_acknowledgement_of_nothing_is_ignored(net: Network, version: Version, kind: PacketType) -> None:
    client = net.connect(version)
    client.acknowledge(kind, 4711)
    client.barrier()


@in_v5("MQTT-3.6.2-1")
def test_an_unknown_pubrec_is_answered_with_a_pubrel_that_says_so(net: Network) -> None:
    client = net.connect(V5)
    client.acknowledge(P.PUBREC, 4711)
    pubrel = client.expect(Pubrel)
    assert (pubrel.packet_id, pubrel.code) == (4711, 0x92)
    client.barrier()


def test_an_unknown_pubrec_is_answered_with_a_pubrel_before_version_5(net: Network) -> None:
    client = net.connect(V3)
    client.acknowledge(P.PUBREC, 4711)
    assert client.expect(Pubrel).packet_id == 4711
    client.acknowledge(P.PUBCOMP, 4711)
    client.barrier()


@in_v5("MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.7.2-1", "MQTT-4.13.1-1")
@pytest.mark.parametrize("kind", [P.PUBACK, P.PUBREC, P.PUBREL, P.PUBCOMP])
@pytest.mark.parametrize("code", [0x01, 0x8E, 0xFF])
def test_a_reason_code_that_is_not_defined_for_the_packet_is_refused(net: Network, kind: PacketType, code: int) -> None:
    client = net.connect(V5)
    client.acknowledge(kind, 1, code)
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-3.4.2-1")
def test_an_acknowledgement_may_be_written_in_each_of_its_forms(net: Network) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5), net.connect(V5)
    client.subscribe(topic, qos=1)
    told: Properties = [(Property.REASON_STRING, "fine"), (Property.USER_PROPERTY, ("a", "b"))]
    for rest in (b"", b"\x00", b"\x10\x00", requests.acknowledge(P.PUBACK, V5, 1, 0, told)[4:]):
        publisher.publish(topic, b"x", qos=1)
        message = client.expect(Publish)
        assert message.packet_id is not None
        head = bytes([0x40, 2 + len(rest)]) + message.packet_id.to_bytes(2, "big")
        client.send(head + rest)
        client.barrier()
    client.reset()
