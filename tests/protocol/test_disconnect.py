"""DISCONNECT: its forms and codes, from the client and from the broker, and that the connection is closed after it."""

import pytest

from protocol import requests
from protocol.answers import Disconnect
from protocol.client import Network, fence, unique
from protocol.marks import V5, both_versions, in_v3, in_v5
from protocol.wire import Properties, Property, Version, packet


@in_v3("MQTT-3.14.4-1", "MQTT-3.14.1-1")
@in_v5("MQTT-3.14.4-1", "MQTT-3.14.4-2")
@both_versions
def test_the_broker_closes_after_a_disconnect_and_says_nothing_more(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.subscribe(unique("t"), qos=1)
    client.send_disconnect()
    client.expect_closed()


@in_v3("MQTT-3.14.4-2")
@in_v5("MQTT-3.14.4-1")
@both_versions
def test_what_a_client_sends_after_its_disconnect_is_not_processed(net: Network, version: Version) -> None:
    topic = unique("t")
    watcher = net.connect(version)
    watcher.subscribe(topic, qos=1)
    client = net.connect(version)
    client.send(requests.disconnect(version) + requests.publish(version, topic, b"x", qos=1, packet_id=1))
    client.expect_closed()
    fence(net.connect(version), watcher, qos=1)


@in_v5("MQTT-3.14.2-1")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packet(0xE0), id="without a reason code"),
        pytest.param(packet(0xE0, b"\x00"), id="without properties"),
        pytest.param(packet(0xE0, b"\x00\x00"), id="with a property length"),
        pytest.param(
            requests.disconnect(V5, 0x04, [(Property.REASON_STRING, "bye"), (Property.USER_PROPERTY, ("a", "b"))]),
            id="with an explanation",
        ),
        pytest.param(requests.disconnect(V5, 0x80), id="with an error"),
    ],
)
def test_every_form_of_disconnect_is_understood(net: Network, data: bytes) -> None:
    client = net.connect(V5)
    client.send(data)
    client.expect_closed()


@in_v5("MQTT-3.14.2-1", "MQTT-4.13.1-1")
@pytest.mark.parametrize("code", [0x01, 0x03, 0x18, 0x8D + 0x70])
def test_a_disconnect_with_a_code_that_is_not_defined_is_refused(net: Network, code: int) -> None:
    client = net.connect(V5)
    client.send_disconnect(code)
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-4.8.0-1")
def test_a_disconnect_with_a_body_is_refused_before_version_5(net: Network) -> None:
    topic = unique("will")
    watcher = net.connect(Version.V3_1_1)
    watcher.subscribe(topic)
    client = net.open(Version.V3_1_1)
    client.handshake(will=requests.Will(topic, b"violation"))
    client.send(packet(0xE0, b"\x00"))
    client.expect_closed()
    assert watcher.receive().payload == b"violation"


@in_v5("MQTT-3.14.2-1", "MQTT-3.14.2-2", "MQTT-3.14.4-1", "MQTT-3.14.4-2", "MQTT-4.13.1-1", "MQTT-4.13.2-1")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x00\x00", (0x81, 0x82), id="packet type 0"),
        pytest.param(b"\x81\x00", (0x81,), id="wrong flags"),
        pytest.param(requests.connect(V5, "again"), (0x82,), id="second CONNECT"),
        pytest.param(requests.publish(V5, "t", properties=[(Property.TOPIC_ALIAS, 1)]), (0x94,), id="topic alias"),
        pytest.param(requests.publish(V5, "a", qos=1, packet_id=0), (0x81, 0x82), id="identifier 0"),
    ],
)
def test_the_broker_says_why_it_disconnects_and_closes(net: Network, data: bytes, code: tuple[int, ...]) -> None:
    client = net.connect(V5)
    client.send(data + requests.pingreq() * 3)
    assert client.expect(Disconnect).code in code
    client.expect_closed()


@in_v5("MQTT-4.13.1-1")
@pytest.mark.parametrize(
    "properties",
    [
        pytest.param([(Property.SESSION_EXPIRY_INTERVAL, 1)] * 2, id="given twice"),
        pytest.param([(Property.CONTENT_TYPE, "x")], id="of another packet"),
    ],
)
def test_a_disconnect_with_wrong_properties_is_refused(net: Network, properties: Properties) -> None:
    client = net.connect(V5, properties=[(Property.SESSION_EXPIRY_INTERVAL, 10)])
    client.send_disconnect(properties=properties)
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-4.13.2-1")
@both_versions
def test_a_client_that_vanishes_in_the_middle_of_a_packet_costs_the_others_nothing(
    net: Network, version: Version
) -> None:
    topic = unique("t")
    watcher, publisher = net.connect(version), net.connect(version)
    watcher.subscribe(topic, qos=1)
    client = net.connect(version)
    client.send(requests.publish(version, topic, b"half" * 100, qos=1, packet_id=1)[:50])
    client.reset()
    publisher.publish(topic, b"whole", qos=1)
    assert watcher.receive().payload == b"whole"
    fence(publisher, watcher, qos=1)
