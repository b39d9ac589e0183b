"""UNSUBSCRIBE and UNSUBACK: exact filters, codes, and what is delivered afterwards."""

import pytest

from protocol import requests
from protocol.answers import Publish, Pubrel
from protocol.client import Network, fence, unique
from protocol.marks import V5, both_versions, in_v3, in_v5
from protocol.wire import PacketType, Version

P = PacketType


@in_v3("MQTT-3.10.4-4", "MQTT-2.3.1-7", "MQTT-3.10.4-2")
@in_v5("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-2.2.1-6", "MQTT-3.10.4-2", "MQTT-3.11.3-2")
@both_versions
@pytest.mark.parametrize("packet_id", [1, 0xFFFF])
def test_an_unsubscribe_is_answered_and_ends_the_flow(net: Network, version: Version, packet_id: int) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=1)
    publisher.publish(topic, b"before", qos=1)
    assert client.receive().payload == b"before"
    unsuback = client.unsubscribe(topic, packet_id=packet_id)
    assert unsuback.packet_id == packet_id
    assert unsuback.codes == ((0,) if version is V5 else ())
    publisher.publish(topic, b"after", qos=1)
    fence(publisher, client, qos=1)


@in_v3("MQTT-3.10.4-5")
@in_v5("MQTT-3.10.4-5", "MQTT-3.11.3-2")
@both_versions
def test_an_unsubscribe_of_nothing_is_answered(net: Network, version: Version) -> None:
    client = net.connect(version)
    assert client.unsubscribe(unique("none")).codes == ((0x11,) if version is V5 else ())
    client.barrier()


@in_v3("MQTT-3.10.4-1")
@in_v5("MQTT-3.10.4-1")
@both_versions
@pytest.mark.parametrize(
    ("subscribed", "named"),
    [("a/+", "a/b"), ("a/b", "a/+"), ("a/#", "a/+"), ("a/b", "a/B"), ("a/b", "a/b/"), ("a/#", "#"), ("+/b", "+/+")],
)
def test_only_the_very_filter_is_removed(net: Network, version: Version, subscribed: str, named: str) -> None:
    root = unique("t")
    client = net.connect(version)
    client.subscribe(f"{root}/{subscribed}", qos=1)
    assert client.unsubscribe(f"{root}/{named}").codes == ((0x11,) if version is V5 else ())
    client.publish(f"{root}/a/b", b"x", qos=1)
    assert client.receive().payload == b"x"
    assert client.unsubscribe(f"{root}/{subscribed}").codes == ((0,) if version is V5 else ())
    client.publish(f"{root}/a/b", b"x", qos=1)
    client.barrier()


@in_v3("MQTT-3.10.4-6")
@in_v5("MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2")
@both_versions
def test_several_filters_get_one_answer_with_a_code_each_in_their_order(net: Network, version: Version) -> None:
    root = unique("t")
    client = net.connect(version)
    client.subscribe(f"{root}/a", f"{root}/b", f"{root}/c", qos=1)
    unsuback = client.unsubscribe(f"{root}/x", f"{root}/a", f"{root}/y", f"{root}/b", f"{root}/a")
    assert unsuback.codes == ((0x11, 0, 0x11, 0, 0x11) if version is V5 else ())
    for name in "abc":
        client.publish(f"{root}/{name}", name.encode(), qos=1)
    assert client.receive().payload == b"c"
    client.barrier()


@in_v3("MQTT-3.10.3-2", "MQTT-4.8.0-1")
@in_v5("MQTT-3.10.3-2", "MQTT-4.13.1-1")
@both_versions
def test_an_unsubscribe_without_a_filter_is_refused(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.unsubscribe(version, 1, []))
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-3.10.4-3")
@in_v5("MQTT-3.10.4-3")
@both_versions
def test_deliveries_under_way_are_completed(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=2)
    for qos in (1, 2, 2):
        publisher.publish(topic, b"x", qos=qos)
    first, second, third = (client.expect(Publish) for _ in range(3))
    client.acknowledge(P.PUBREC, third.packet_id)
    client.expect(Pubrel)
    client.unsubscribe(topic)
    client.complete(first)
    client.complete(second)
    client.acknowledge(P.PUBCOMP, third.packet_id)
    fence(publisher, client, qos=2)


@in_v3("MQTT-3.10.4-3", "MQTT-4.4.0-1")
@in_v5("MQTT-3.10.4-3", "MQTT-4.4.0-1")
@both_versions
def test_a_delivery_under_way_is_sent_again_after_a_reconnect_although_unsubscribed(
    net: Network, version: Version
) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(topic, qos=1)
    net.connect(version).publish(topic, b"x", qos=1)
    first = client.expect(Publish)
    client.unsubscribe(topic)
    client.reset()
    again = net.resume(version, client.client_id)
    second = again.receive()
    assert (second.packet_id, second.payload, second.dup) == (first.packet_id, b"x", True)
    again.barrier()


@in_v3("MQTT-3.10.4-2", "MQTT-3.1.2-4")
@in_v5("MQTT-3.10.4-2", "MQTT-3.1.2-5")
@both_versions
def test_a_removed_subscription_stays_removed_in_a_kept_session(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(topic, qos=1)
    client.unsubscribe(topic)
    client.disconnect()
    net.connect(version).publish(topic, b"x", qos=1)
    again = net.resume(version, client.client_id)
    assert again.referee.connack is not None
    assert again.referee.connack.session_present
    again.barrier()


@in_v5("MQTT-3.10.4-1")
@both_versions
def test_a_shared_subscription_is_removed_by_its_whole_filter(net: Network, version: Version) -> None:
    topic = unique("t")
    name = f"$share/{unique('g')}/{topic}"
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(name, qos=1)
    assert client.unsubscribe(topic).codes == ((0x11,) if version is V5 else ())
    publisher.publish(topic, b"x", qos=1)
    assert client.receive().payload == b"x"
    assert client.unsubscribe(name).codes == ((0,) if version is V5 else ())
    publisher.publish(topic, b"x", qos=1)
    fence(publisher, client, qos=1)
