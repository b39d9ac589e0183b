"""Flow control: Receive Maximum and Maximum Packet Size, both ways."""

import pytest

from protocol import requests
from protocol.answers import Disconnect, Pingresp, Puback, Pubcomp, Publish, Pubrec, Pubrel, Suback
from protocol.client import Client, NetWith, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Filter
from protocol.wire import PacketType, Properties, Property, Version

P = PacketType


def receive_maximum(value: int) -> Properties:
    return [(Property.RECEIVE_MAXIMUM, value)]


def packet_limit(value: int) -> Properties:
    return [(Property.MAXIMUM_PACKET_SIZE, value)]


# -- the client's Receive Maximum ----------------------------------------------------------------------------------


@in_v5("MQTT-3.3.4-9", "MQTT-4.9.0-1", "MQTT-4.9.0-2")
@pytest.mark.parametrize("maximum", [1, 2, 5])
@pytest.mark.parametrize("qos", [1, 2])
def test_no_more_messages_are_open_than_the_client_takes(net: Network, maximum: int, qos: int) -> None:
    # The referee objects to the first message beyond the maximum.
    topic = unique("t")
    client, publisher = net.connect(V5, properties=receive_maximum(maximum)), net.connect(V5)
    client.subscribe(topic, qos=qos)
    for number in range(12):
        publisher.publish(topic, bytes([number]), qos=qos)
    waiting = [client.expect(Publish) for _ in range(maximum)]
    client.barrier()
    payloads = []
    while waiting:
        message = waiting.pop(0)
        payloads.append(message.payload)
        client.complete(message)
        if len(payloads) + len(waiting) < 12:
            waiting.append(client.expect(Publish))
    assert payloads == [bytes([number]) for number in range(12)]
    client.barrier()


@in_v5("MQTT-4.9.0-2", "MQTT-3.3.4-9")
def test_a_qos_2_message_stays_open_until_pubcomp(net: Network) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5, properties=receive_maximum(1)), net.connect(V5)
    client.subscribe(topic, qos=2)
    publisher.publish(topic, b"1", qos=2)
    publisher.publish(topic, b"2", qos=2)
    first = client.expect(Publish)
    client.acknowledge(P.PUBREC, first.packet_id)
    client.expect(Pubrel)
    client.barrier()
    client.acknowledge(P.PUBCOMP, first.packet_id)
    assert client.receive().payload == b"2"


@in_v5("MQTT-4.9.0-2", "MQTT-4.4.0-2")
@pytest.mark.parametrize(("qos", "kind"), [(1, P.PUBACK), (2, P.PUBREC)])
def test_a_refused_message_makes_room_for_the_next(net: Network, qos: int, kind: PacketType) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5, properties=receive_maximum(1)), net.connect(V5)
    client.subscribe(topic, qos=qos)
    publisher.publish(topic, b"1", qos=qos)
    publisher.publish(topic, b"2", qos=qos)
    client.acknowledge(kind, client.expect(Publish).packet_id, 0x80)
    assert client.receive().payload == b"2"


@in_v5("MQTT-3.3.4-10", "MQTT-4.9.0-3")
def test_everything_else_is_served_while_the_window_is_full(net: Network) -> None:
    topic = unique("t")
    client, publisher = net.connect(V5, properties=receive_maximum(1)), net.connect(V5)
    client.subscribe(topic, qos=2)
    publisher.publish(topic, b"1", qos=2)
    publisher.publish(topic, b"2", qos=2)
    first = client.expect(Publish)
    assert client.subscribe(unique("t"), qos=1).codes == (1,)
    assert client.unsubscribe(unique("t")).codes == (0x11,)
    assert client.publish(unique("t"), b"x", qos=1) == 0x10
    assert client.publish(unique("t"), b"x", qos=2) == 0x10
    client.barrier()
    client.acknowledge(P.PUBREC, first.packet_id)
    client.expect(Pubrel)
    client.acknowledge(P.PUBCOMP, first.packet_id)
    assert client.receive().payload == b"2"


@in_v5("MQTT-3.3.4-9", "MQTT-4.9.0-1")
def test_a_resumed_session_respects_the_new_receive_maximum(net: Network) -> None:
    topic = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    publisher = net.connect(V5)
    for number in range(6):
        publisher.publish(topic, bytes([number]), qos=1)
    for _ in range(6):
        client.expect(Publish)
    client.reset()
    again = net.resume(V5, client.client_id, properties=receive_maximum(2))
    assert again.receive_payloads(6) == [bytes([number]) for number in range(6)]
    again.barrier()


@in_v3("MQTT-2.3.1-4")
def test_max_inflight_messages_limits_the_window_before_version_5(net_with: NetWith) -> None:
    net = net_with(max_inflight_messages=3)
    topic = unique("t")
    client, publisher = net.connect(V3), net.connect(V3)
    client.subscribe(topic, qos=1)
    for number in range(6):
        publisher.publish(topic, bytes([number]), qos=1)
    first = [client.expect(Publish) for _ in range(3)]
    client.barrier()
    for message in first:
        client.complete(message)
    assert client.receive_payloads(3) == [b"\3", b"\4", b"\5"]


# -- the broker's Receive Maximum ----------------------------------------------------------------------------------


def open_exchanges(client: Client, topic: str, count: int) -> None:
    """Begin `count` exchanges of QoS 2 and leave them open."""
    for packet_id in range(1, count + 1):
        client.send(requests.publish(V5, topic, b"x", qos=2, packet_id=packet_id))
        assert client.expect(Pubrec).packet_id == packet_id


@in_v5("MQTT-3.3.4-7", "MQTT-4.13.1-1")
def test_more_open_messages_than_the_broker_takes_end_the_connection(net_with: NetWith) -> None:
    client = net_with(receive_max_broker=5).connect(V5)
    assert client.referee.connack is not None
    assert client.referee.connack.value(Property.RECEIVE_MAXIMUM) == 5
    topic = unique("t")
    open_exchanges(client, topic, 5)
    client.send(requests.publish(V5, topic, b"x", qos=2, packet_id=6))
    assert client.expect(Disconnect).code == 0x93
    client.expect_closed()


@in_v5("MQTT-3.3.4-7", "MQTT-3.3.4-8", "MQTT-4.9.0-3")
def test_within_its_receive_maximum_the_broker_takes_any_number_of_messages(net_with: NetWith) -> None:
    client = net_with(receive_max_broker=5).connect(V5)
    topic = unique("t")
    open_exchanges(client, topic, 4)
    for _ in range(20):
        client.publish(topic, b"x", qos=1, packet_id=100)
        client.publish(topic, b"x", qos=2, packet_id=101)
        client.publish(topic, b"x")
    client.send(requests.publish(V5, topic, b"x", qos=2, packet_id=1, dup=True))
    assert client.expect(Pubrec).packet_id == 1
    for packet_id in range(1, 5):
        client.release(packet_id)
    client.barrier()


# -- the client's Maximum Packet Size ------------------------------------------------------------------------------


@in_v5("MQTT-3.1.2-24", "MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_too_large_for_a_client_is_dropped_for_it_alone(net: Network, qos: int) -> None:
    topic = unique("t")
    small, large, publisher = net.connect(V5, properties=packet_limit(100)), net.connect(V5), net.connect(V5)
    small.subscribe(topic, qos=qos)
    large.subscribe(topic, qos=qos)
    for payload in (b"before", b"x" * 200, b"after"):
        assert publisher.publish(topic, payload, qos=qos) == 0
    assert small.receive_payloads(2) == [b"before", b"after"]
    assert large.receive_payloads(3) == [b"before", b"x" * 200, b"after"]


@in_v5("MQTT-3.1.2-24", "MQTT-3.1.2-25")
def test_a_message_of_exactly_the_maximum_size_is_delivered(net: Network) -> None:
    topic = unique("t")
    overhead = 2 + 2 + len(topic) + 2 + 1
    client, publisher = net.connect(V5, properties=packet_limit(100)), net.connect(V5)
    client.subscribe(topic, qos=1)
    publisher.publish(topic, b"x" * (100 - overhead + 1), qos=1)
    publisher.publish(topic, b"y" * (100 - overhead), qos=1)
    message = client.receive()
    assert (message.payload[:1], message.size) == (b"y", 100)


@in_v5("MQTT-3.1.2-25")
def test_a_dropped_message_does_not_fill_the_window(net: Network) -> None:
    topic = unique("t")
    client = net.connect(V5, properties=[*packet_limit(100), *receive_maximum(1)])
    publisher = net.connect(V5)
    client.subscribe(topic, qos=1)
    for _ in range(5):
        publisher.publish(topic, b"x" * 200, qos=1)
    publisher.publish(topic, b"fits", qos=1)
    assert client.receive().payload == b"fits"


@in_v5("MQTT-3.1.2-24", "MQTT-3.1.2-25")
def test_a_message_too_large_is_dropped_from_the_queue_of_a_resumed_session_too(net: Network) -> None:
    topic = unique("t")
    client = net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    publisher = net.connect(V5)
    publisher.publish(topic, b"x" * 200, qos=1)
    client.expect(Publish)
    client.reset()
    publisher.publish(topic, b"y" * 200, qos=1)
    publisher.publish(topic, b"fits", qos=1)
    again = net.resume(V5, client.client_id, properties=packet_limit(100))
    assert again.receive().payload == b"fits"
    again.barrier()


@in_v5(
    *("MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.6.2-2", "MQTT-3.6.2-3"),
    *("MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2"),
    "MQTT-3.1.2-24",
)
@pytest.mark.parametrize("limit", [16, 20, 30, 60])
def test_explanations_are_left_out_of_answers_that_would_be_too_large(net_with: NetWith, limit: int) -> None:
    # Each answer may have something to explain; the referee measures each against the limit.
    client = net_with(topic_max_depth=3).connect(V5, properties=packet_limit(limit))
    assert client.publish("$not/for/clients", b"x", qos=1) == 0x87
    assert client.publish("a/b/c/d", b"x", qos=2) == 0x90
    client.acknowledge(P.PUBREC, 4711)
    assert client.expect(Pubrel).code == 0x92
    client.acknowledge(P.PUBREL, 4711)
    assert client.expect(Pubcomp).code == 0x92
    assert client.subscribe("a/b/c/d").codes == (0x8F,)
    assert client.unsubscribe(unique("none")).codes == (0x11,)
    client.barrier()


@in_v5("MQTT-3.14.2-3", "MQTT-3.14.2-4", "MQTT-3.1.2-24")
@pytest.mark.parametrize("limit", [16, 20, 30, 60])
def test_a_disconnect_fits_the_maximum_packet_size_of_the_client(net: Network, limit: int) -> None:
    client = net.connect(V5, properties=packet_limit(limit))
    client.send(b"\x00\x00")
    client.expect_or_close(Disconnect)
    client.expect_closed()


# -- the broker's Maximum Packet Size ------------------------------------------------------------------------------


@in_v5("MQTT-3.2.2-15", "MQTT-4.13.1-1")
@pytest.mark.parametrize("whole", [False, True])
def test_a_packet_too_large_for_the_broker_ends_the_connection(net_with: NetWith, whole: bool) -> None:
    client = net_with(max_message_size=1000).connect(V5)
    assert client.referee.connack is not None
    assert client.referee.connack.value(Property.MAXIMUM_PACKET_SIZE) == 1000
    data = requests.publish(V5, unique("t"), b"x" * 1000)
    # The size is known from the header: the broker need not wait for the rest.
    client.send(data if whole else data[:5])
    client.expect_refusal(0x95)


@in_v3("MQTT-4.8.0-1")
def test_a_packet_too_large_for_the_broker_closes_the_connection_before_version_5(net_with: NetWith) -> None:
    client = net_with(max_message_size=1000).connect(V3)
    client.send(requests.publish(V3, unique("t"), b"x" * 1000)[:5])
    client.expect_closed()


@in_v5("MQTT-3.2.2-15")
@both_versions
def test_a_packet_of_exactly_the_maximum_size_is_taken(net_with: NetWith, version: Version) -> None:
    net = net_with(max_message_size=1000)
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic)
    overhead = len(requests.publish(version, topic, b"x" * 900)) - 900
    data = requests.publish(version, topic, b"x" * (1000 - overhead))
    assert len(data) == 1000
    publisher.send(data)
    assert len(client.receive().payload) == 1000 - overhead
    fence(publisher, client)


@in_v5("MQTT-3.2.2-15")
def test_without_a_limit_none_is_announced(net: Network) -> None:
    assert net.open(V5).handshake().value(Property.MAXIMUM_PACKET_SIZE) is None


# -- clients that do not read --------------------------------------------------------------------------------------


@in_v3("MQTT-4.5.0-1")
@in_v5("MQTT-4.5.0-1")
@both_versions
def test_a_client_that_does_not_read_delays_nobody(net: Network, version: Version) -> None:
    topic = unique("t")
    deaf, client, publisher = net.connect(version), net.connect(version), net.connect(version)
    deaf.subscribe(topic)
    client.subscribe(topic, qos=1)
    for number in range(100):
        publisher.publish(topic, bytes([number]) * 100_000, qos=1)
        assert client.receive().payload[:1] == bytes([number])


@both_versions
def test_a_client_that_sends_without_reading_delays_nobody(net: Network, version: Version) -> None:
    # Its answers pile up: the broker may slow this client down, and no other.
    rude, client = net.connect(version), net.connect(version)
    rude.flood(requests.pingreq() * 50_000)
    for _ in range(20):
        client.send(requests.pingreq())
        client.expect(Pingresp)
    assert client.subscribe(unique("t")).codes == (0,)


@both_versions
def test_a_batch_of_requests_in_one_segment_is_answered_in_order(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    data = requests.subscribe(version, 1, [Filter(topic, 1)])
    data += b"".join(requests.publish(version, topic, b"x", qos=1, packet_id=each) for each in range(2, 52))
    client.send(data)
    assert client.expect(Suback).packet_id == 1
    assert [client.expect(Puback).packet_id for _ in range(50)] == list(range(2, 52))
    assert client.receive_payloads(50) == [b"x"] * 50
