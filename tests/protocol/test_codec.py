"""Codec: strings, fixed headers, packet identifiers, lengths and property blocks, well-formed and not."""

import pytest

from protocol import requests
from protocol.answers import Connack, Publish
from protocol.client import Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Filter, Will
from protocol.wire import (
    PacketType,
    Properties,
    Property,
    Version,
    one_property,
    packet,
    property_block,
    string,
    u8,
    u16,
    varint,
)

BAD_UTF8 = {
    "stray byte": b"a\xff",
    "overlong form": b"a\xc0\xaf",
    "cut sequence": b"a\xe2\x82",
    "surrogate": b"a\xed\xa0\x80",
    "surrogate pair": b"\xed\xa0\x81\xed\xb0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
}
WITH_ZERO = {"zero first": b"\0a", "zero inside": b"a\0b", "only zero": b"\0"}
ILL_FORMED = [pytest.param(value, id=name) for name, value in {**BAD_UTF8, **WITH_ZERO}.items()]
BOM = "\ufeff"


def connect_with(version: Version, field: str, text: bytes) -> bytes:
    """A CONNECT with this text in one of its string fields."""
    fields = {"client id": b"c", "will topic": b"t", "user name": b"u", field: text}
    payload = string(fields["client id"])
    payload += property_block([]) if version is V5 else b""
    payload += string(fields["will topic"]) + string("will") + string(fields["user name"])
    return requests.connect(version, "", flags=0x86, payload=payload)


@in_v3("MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-10", "MQTT-3.1.4-1")
@in_v5("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.1.3-4", "MQTT-3.1.3-12", "MQTT-3.1.3-11", "MQTT-3.1.4-1")
@both_versions
@pytest.mark.parametrize("text", ILL_FORMED)
@pytest.mark.parametrize("field", ["client id", "will topic", "user name"])
def test_connect_with_an_ill_formed_string_is_refused(net: Network, version: Version, field: str, text: bytes) -> None:
    net.refused(version, connect_with(version, field, text)).expect_connect_refusal(0x81)


@in_v3("MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.3.2-1", "MQTT-4.7.3-2")
@in_v5("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.3.2-1", "MQTT-4.7.3-2")
@both_versions
@pytest.mark.parametrize("text", ILL_FORMED)
def test_publish_with_an_ill_formed_topic_name_is_refused(net: Network, version: Version, text: bytes) -> None:
    client = net.connect(version)
    client.send(requests.publish(version, text, b"x"))
    client.expect_refusal(0x81)


@in_v3("MQTT-1.5.3-1", "MQTT-1.5.3-2", "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.7.3-2")
@in_v5("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.8.3-1", "MQTT-3.10.3-1", "MQTT-4.7.3-2")
@both_versions
@pytest.mark.parametrize("text", ILL_FORMED)
@pytest.mark.parametrize("kind", [PacketType.SUBSCRIBE, PacketType.UNSUBSCRIBE])
def test_an_ill_formed_topic_filter_is_refused(net: Network, version: Version, kind: PacketType, text: bytes) -> None:
    client = net.connect(version)
    if kind is PacketType.SUBSCRIBE:
        client.send(requests.subscribe(version, 1, [Filter(b"good"), Filter(text)]))
    else:
        client.send(requests.unsubscribe(version, 1, [b"good", text]))
    client.expect_refusal(0x81)


@in_v5("MQTT-1.5.4-1", "MQTT-1.5.4-2", "MQTT-3.3.2-13", "MQTT-3.3.2-19")
@pytest.mark.parametrize("text", ILL_FORMED)
@pytest.mark.parametrize("name", [Property.RESPONSE_TOPIC, Property.CONTENT_TYPE])
def test_publish_with_an_ill_formed_property_is_refused(net: Network, name: Property, text: bytes) -> None:
    client = net.connect(V5)
    client.send(requests.publish(V5, "t", properties=[(name, text)]))
    client.expect_refusal(0x81)


@in_v5("MQTT-1.5.7-1")
@pytest.mark.parametrize("text", ILL_FORMED)
@pytest.mark.parametrize("place", ["name", "value"])
def test_an_ill_formed_user_property_is_refused(net: Network, place: str, text: bytes) -> None:
    pair = string(text) + string(b"v") if place == "name" else string(b"n") + string(text)
    client = net.connect(V5)
    client.send(requests.publish(V5, "t", properties=u8(Property.USER_PROPERTY) + pair))
    client.expect_refusal(0x81)


@in_v3("MQTT-1.5.3-3", "MQTT-1.5.3-1")
@in_v5("MQTT-1.5.4-3", "MQTT-1.5.4-1")
@both_versions
def test_a_byte_order_mark_in_a_topic_is_data(net: Network, version: Version) -> None:
    name = unique("t")
    plain, marked = net.connect(version), net.connect(version)
    plain.subscribe(name)
    marked.subscribe(BOM + name, f"{name}/{BOM}x")
    publisher = net.connect(version)
    publisher.publish(BOM + name, b"first")
    publisher.publish(f"{name}/{BOM}x", b"inside")
    assert [marked.receive().topic for _ in range(2)] == [BOM + name, f"{name}/{BOM}x"]
    fence(publisher, plain)


@in_v3("MQTT-1.5.3-1")
@in_v5("MQTT-1.5.4-1", "MQTT-1.5.7-1")
@both_versions
def test_every_plane_of_unicode_passes_unchanged(net: Network, version: Version) -> None:
    topic = unique("t") + "/é \u0800 \ud7ff \ue000 \ufffd \U0001f40e \U0010ffff"
    client = net.connect(version)
    client.subscribe(topic)
    client.publish(topic, b"x")
    assert client.receive().topic == topic


REQUESTS_WITH_FIXED_FLAGS = {
    PacketType.PUBACK: 0,
    PacketType.PUBREC: 0,
    PacketType.PUBREL: 2,
    PacketType.PUBCOMP: 0,
    PacketType.SUBSCRIBE: 2,
    PacketType.UNSUBSCRIBE: 2,
    PacketType.PINGREQ: 0,
    PacketType.DISCONNECT: 0,
}


def with_flags(version: Version, kind: PacketType, flags: int) -> bytes:
    """A packet that is right but for the flags of its fixed header."""
    if kind is PacketType.SUBSCRIBE:
        return requests.subscribe(version, 1, [Filter("t")], flags=flags)
    if kind is PacketType.UNSUBSCRIBE:
        return requests.unsubscribe(version, 1, ["t"], flags=flags)
    if kind is PacketType.PINGREQ:
        return requests.pingreq(flags=flags)
    if kind is PacketType.DISCONNECT:
        return requests.disconnect(version, flags=flags)
    return requests.acknowledge(kind, version, 1, flags=flags)


@in_v3(
    *("MQTT-2.2.2-1", "MQTT-2.2.2-2", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1"),
)
@in_v5("MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1")
@both_versions
@pytest.mark.parametrize("kind", REQUESTS_WITH_FIXED_FLAGS)
def test_wrong_flags_in_the_fixed_header_end_the_connection(net: Network, version: Version, kind: PacketType) -> None:
    for flags in range(16):
        if flags != REQUESTS_WITH_FIXED_FLAGS[kind]:
            client = net.connect(version)
            client.send(with_flags(version, kind, flags))
            client.expect_refusal(0x81)


@in_v3("MQTT-2.2.2-2")
@in_v5("MQTT-2.1.3-1")
@both_versions
@pytest.mark.parametrize("flags", [1, 2, 4, 8, 15])
def test_connect_with_wrong_flags_in_the_fixed_header_is_refused(net: Network, version: Version, flags: int) -> None:
    good = requests.connect(version, unique())
    client = net.refused(version, u8(good[0] | flags) + good[1:])
    client.expect_connect_refusal(0x81, silence_allowed=True)


@in_v5("MQTT-3.15.1-1", "MQTT-2.1.3-1")
@pytest.mark.parametrize("flags", [1, 2, 4, 8, 15])
def test_auth_with_wrong_flags_is_refused(net: Network, flags: int) -> None:
    client = net.connect(V5)
    client.send(requests.auth(0x19, [(Property.AUTHENTICATION_METHOD, "m")], flags=flags))
    client.expect_refusal(0x81)


@in_v3("MQTT-3.1.2-3", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-3", "MQTT-3.1.4-1")
@both_versions
def test_the_reserved_connect_flag_must_be_zero(net: Network, version: Version) -> None:
    net.refused(version, requests.connect(version, unique(), flags=0x03)).expect_connect_refusal(0x81)


@in_v3("MQTT-2.3.1-1")
@in_v5("MQTT-2.2.1-3")
@both_versions
@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE", "PUBLISH QoS 1", "PUBLISH QoS 2"])
def test_packet_identifier_zero_is_refused(net: Network, version: Version, kind: str) -> None:
    client = net.connect(version)
    data = {
        "SUBSCRIBE": requests.subscribe(version, 0, [Filter("t")]),
        "UNSUBSCRIBE": requests.unsubscribe(version, 0, ["t"]),
        "PUBLISH QoS 1": requests.publish(version, "t", qos=1, packet_id=0),
        "PUBLISH QoS 2": requests.publish(version, "t", qos=2, packet_id=0),
    }
    client.send(data[kind])
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-2.3.1-1", "MQTT-2.3.1-4")
@in_v5("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
@both_versions
@pytest.mark.parametrize("qos", [1, 2])
def test_deliveries_carry_packet_identifiers_that_are_free_and_not_zero(
    net: Network, version: Version, qos: int
) -> None:
    topic = unique("t")
    client, publisher = net.connect(version), net.connect(version)
    client.subscribe(topic, qos=qos)
    for number in range(10):
        publisher.publish(topic, bytes([number]), qos=qos)
    messages = [client.expect(Publish) for _ in range(10)]
    assert len({message.packet_id for message in messages}) == 10
    for message in messages:
        client.complete(message)
    client.barrier()


@in_v3("MQTT-2.3.1-5")
@in_v5("MQTT-2.2.1-2", "MQTT-2.2.2-1")
@both_versions
def test_a_publish_with_qos_0_has_no_packet_identifier(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    client.subscribe(topic, qos=1)
    # If an identifier were expected here the first two bytes of the payload would be taken for it.
    client.publish(topic, b"\x00\x01\x00payload")
    message = client.receive()
    assert (message.payload, message.qos, message.packet_id) == (b"\x00\x01\x00payload", 0, None)


@in_v3("MQTT-3.3.1-4")
@in_v5("MQTT-3.3.1-4")
@both_versions
def test_publish_with_both_qos_bits_set_is_refused(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.publish(version, "t", qos=3, packet_id=1))
    client.expect_refusal(0x81)


@in_v3("MQTT-3.3.1-2")
@in_v5("MQTT-3.3.1-2")
@both_versions
def test_publish_with_dup_and_qos_0_is_refused(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.publish(version, "t", dup=True))
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-3.8.3-4")
@pytest.mark.parametrize("options", [0x03, 0x04, 0x08, 0x10, 0x40, 0x81, 0xFF])
def test_a_requested_qos_beyond_2_closes_the_connection(net: Network, options: int) -> None:
    client = net.connect(V3)
    client.send(requests.subscribe(V3, 1, [Filter("t")], options=options))
    client.expect_closed()


@in_v5("MQTT-3.8.3-5")
@pytest.mark.parametrize("options", [0x03, 0x30, 0x40, 0x80, 0xC1])
def test_reserved_subscription_options_are_refused(net: Network, options: int) -> None:
    client = net.connect(V5)
    client.send(requests.subscribe(V5, 1, [Filter("t")], options=options))
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-1.5.5-1")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc0\x80\x00", id="remaining length"),
        pytest.param(packet(0x82, u16(1) + b"\x80\x00" + string("t") + b"\0"), id="property length"),
        pytest.param(
            packet(0x82, u16(1) + varint(3) + b"\x0b\x81\x00" + string("t") + b"\0"), id="subscription identifier"
        ),
    ],
)
def test_a_variable_byte_integer_that_is_not_in_its_shortest_form_is_refused(net: Network, data: bytes) -> None:
    client = net.connect(V5)
    client.send(data)
    client.expect_refusal(0x81)


@in_v3("MQTT-4.8.0-1")
@in_v5("MQTT-4.13.1-1")
@both_versions
def test_a_remaining_length_of_five_bytes_is_refused_without_waiting_for_the_body(
    net: Network, version: Version
) -> None:
    client = net.connect(version)
    client.send(b"\x30\xff\xff\xff\xff")
    client.expect_refusal(0x81)


@in_v5("MQTT-2.2.2-1")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packet(0x82, u16(1) + string("t") + b"\0"), id="SUBSCRIBE"),
        pytest.param(packet(0x30, string("t")), id="PUBLISH"),
    ],
)
def test_a_packet_without_a_property_length_is_refused(net: Network, data: bytes) -> None:
    client = net.connect(V5)
    client.send(data)
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-2.2.2-1", "MQTT-3.2.2-1")
def test_answers_without_properties_say_so_with_a_property_length(net: Network) -> None:
    # The parser of the tests takes no CONNACK, SUBACK or UNSUBACK of version 5 without the property length.
    client = net.open(V5)
    assert client.handshake().code == 0
    assert client.subscribe("t").codes == (0,)
    assert client.unsubscribe("t").codes == (0,)


@in_v5("MQTT-4.13.1-1")
@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        pytest.param(b"\x7f\x00", (0x81, 0x82), id="unknown property"),
        pytest.param(one_property(Property.SERVER_KEEP_ALIVE, 5), (0x81, 0x82), id="of another packet"),
        pytest.param(one_property(Property.CONTENT_TYPE, "a") * 2, (0x82,), id="given twice"),
        pytest.param(one_property(Property.PAYLOAD_FORMAT_INDICATOR, 2), (0x81, 0x82), id="flag of value 2"),
        pytest.param(one_property(Property.CONTENT_TYPE, "abc")[:-1], (0x81,), id="cut off"),
        pytest.param(one_property(Property.MESSAGE_EXPIRY_INTERVAL, 1)[:-2], (0x81,), id="integer cut off"),
    ],
)
def test_publish_with_a_wrong_property_is_refused(net: Network, properties: bytes, codes: tuple[int, ...]) -> None:
    client = net.connect(V5)
    client.send(requests.publish(V5, "t", b"payload", properties=properties))
    client.expect_refusal(*codes)


def whole_packets(version: Version) -> dict[str, bytes]:
    """One packet of each kind in which nothing is optional at the end."""
    subscribe_properties: Properties = [(Property.SUBSCRIPTION_IDENTIFIER, 300), (Property.USER_PROPERTY, ("a", "b"))]
    return {
        "SUBSCRIBE": requests.subscribe(version, 1, [Filter("a/b")], properties=subscribe_properties),
        "UNSUBSCRIBE": requests.unsubscribe(version, 1, ["a/b"], properties=[(Property.USER_PROPERTY, ("a", "b"))]),
        "PUBACK": requests.acknowledge(PacketType.PUBACK, version, 1),
        "PUBREL": requests.acknowledge(PacketType.PUBREL, version, 1),
    }


@in_v3("MQTT-4.8.0-1", "MQTT-3.8.3-3", "MQTT-3.10.3-2")
@in_v5("MQTT-4.13.1-1", "MQTT-3.8.3-2", "MQTT-3.10.3-2")
@both_versions
@pytest.mark.parametrize("kind", ["SUBSCRIBE", "UNSUBSCRIBE", "PUBACK", "PUBREL"])
def test_a_packet_cut_short_anywhere_ends_the_connection(net: Network, version: Version, kind: str) -> None:
    whole = whole_packets(version)[kind]
    for size in range(len(whole) - 2):
        client = net.connect(version)
        client.send(packet(whole[0], whole[2 : 2 + size]))
        client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.4-1", "MQTT-3.1.2-19", "MQTT-3.1.2-21", "MQTT-3.1.2-9", "MQTT-3.1.3-3")
@in_v5("MQTT-3.1.4-1", "MQTT-3.1.2-17", "MQTT-3.1.2-19", "MQTT-3.1.2-9", "MQTT-3.1.3-3")
@both_versions
def test_connect_cut_short_anywhere_is_refused(net: Network, version: Version) -> None:
    properties = [(Property.SESSION_EXPIRY_INTERVAL, 5)]
    will = Will("will", b"payload", properties=[(Property.WILL_DELAY_INTERVAL, 5)])
    whole = requests.connect(version, unique(), will=will, username="user", password=b"secret", properties=properties)
    for size in range(len(whole) - 2):
        client = net.refused(version, packet(whole[0], whole[2 : 2 + size]))
        client.expect_connect_refusal(0x81, 0x82, silence_allowed=size < 7)


@in_v3("MQTT-4.8.0-1")
@in_v5("MQTT-4.13.1-1")
@both_versions
@pytest.mark.parametrize("first_byte", [0x00, 0x0F, 0x20, 0x90, 0xB0, 0xD0])
def test_a_packet_type_that_only_a_server_sends_or_nobody_ends_the_connection(
    net: Network, version: Version, first_byte: int
) -> None:
    client = net.connect(version)
    client.send(packet(first_byte, b"\x00\x01\x00"))
    client.expect_refusal(0x81, 0x82)


@in_v3("MQTT-4.8.0-1")
def test_auth_does_not_exist_before_version_5(net: Network) -> None:
    client = net.connect(V3)
    client.send(packet(0xF0, b"\x00\x00"))
    client.expect_closed()


@in_v3("MQTT-7.1.1-1")
@in_v5("MQTT-4.2.0-1")
@both_versions
def test_packets_are_read_from_the_stream_however_it_is_cut(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.open(version)
    stream = requests.connect(version, unique()) + requests.subscribe(version, 1, [Filter(topic, 1)])
    stream += requests.publish(version, topic, b"x" * 300, qos=1, packet_id=2) + requests.pingreq()
    for each in stream[:-3]:
        client.send(bytes([each]))
    client.send(stream[-3:])
    assert client.expect(Connack).code == 0
    message = client.receive()
    assert (message.topic, message.payload) == (topic, b"x" * 300)
