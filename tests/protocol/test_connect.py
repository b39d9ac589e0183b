"""CONNECT and CONNACK: protocol name and level, flags and fields, client ids, refusals, what may come when."""

from collections.abc import Callable

import pytest

from protocol import requests
from protocol.answers import Connack, Disconnect, Pingresp, Pubcomp, Suback, Unsuback
from protocol.client import NetWith, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Filter, Will
from protocol.wire import PacketType, Properties, Property, Version, binary, string, u8

FIRST_PACKETS: dict[str, Callable[[Version], bytes]] = {
    "PUBLISH": lambda version: requests.publish(version, "t", b"x"),
    "SUBSCRIBE": lambda version: requests.subscribe(version, 1, [Filter("#")]),
    "UNSUBSCRIBE": lambda version: requests.unsubscribe(version, 1, ["t"]),
    "PUBACK": lambda version: requests.acknowledge(PacketType.PUBACK, version, 1),
    "PUBREL": lambda version: requests.acknowledge(PacketType.PUBREL, version, 1),
    "PINGREQ": lambda _: requests.pingreq(),
    "DISCONNECT": requests.disconnect,
    "AUTH": lambda _: requests.auth(0x18, [(Property.AUTHENTICATION_METHOD, "m")]),
}


@in_v3("MQTT-3.1.4-4", "MQTT-3.2.0-1", "MQTT-7.1.1-1", "MQTT-7.0.0-2")
@in_v5("MQTT-3.1.4-5", "MQTT-3.2.0-1", "MQTT-3.2.2-8", "MQTT-4.2.0-1")
@both_versions
def test_a_valid_connect_is_confirmed_with_code_0(net: Network, version: Version) -> None:
    client = net.open(version)
    assert client.handshake().code == 0
    client.barrier()


def test_version_3_1_is_served(net: Network) -> None:
    topic = unique("t")
    client = net.connect(Version.V3_1)
    client.subscribe(topic, qos=2)
    for qos in range(3):
        client.publish(topic, bytes([qos]), qos=qos)
        assert client.receive().payload == bytes([qos])


@in_v3("MQTT-3.1.0-1")
@in_v5("MQTT-3.1.0-1", "MQTT-3.14.0-1", "MQTT-3.2.0-1")
@both_versions
@pytest.mark.parametrize("kind", FIRST_PACKETS)
def test_a_connection_that_opens_with_anything_but_connect_is_closed(net: Network, version: Version, kind: str) -> None:
    net.refused(version, FIRST_PACKETS[kind](version)).expect_closed()


@in_v3("MQTT-3.1.0-2")
@in_v5("MQTT-3.1.0-2", "MQTT-3.2.0-2")
@both_versions
def test_a_second_connect_ends_the_connection(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.connect(version, client.client_id))
    client.expect_refusal(0x82)


@in_v3("MQTT-3.1.2-1")
@in_v5("MQTT-3.1.2-1")
@both_versions
@pytest.mark.parametrize("name", ["", "mqtt", "MQTT2", "MQT", "HTTP"])
def test_a_wrong_protocol_name_is_refused(net: Network, version: Version, name: str) -> None:
    client = net.refused(version, requests.connect(version, unique(), protocol_name=name))
    connack = client.expect_or_close(Connack)
    assert connack is None or connack.code == (0x84 if version is V5 else 1)
    client.expect_closed()


@in_v3("MQTT-3.1.2-2", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_unsupported_protocol_level_is_refused_with_code_1(net: Network, level: int) -> None:
    client = net.refused(V3, requests.connect(V3, unique(), level=level))
    connack = client.expect(Connack)
    assert (connack.code, connack.session_present) == (1, False)
    client.expect_closed()


@in_v5("MQTT-3.1.2-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7")
@pytest.mark.parametrize("level", [6, 0x7F])
def test_a_protocol_version_of_the_future_is_refused_as_version_5_does(net: Network, level: int) -> None:
    client = net.refused(V5, requests.connect(V5, unique(), level=level))
    client.expect_connect_refusal(0x84)


@in_v3("MQTT-3.1.2-1")
@pytest.mark.parametrize("level", [4, 5])
def test_the_protocol_name_of_version_3_1_goes_with_its_level_only(net: Network, level: int) -> None:
    client = net.refused(Version.V3_1, requests.connect(Version.V3_1, unique(), level=level))
    connack = client.expect_or_close(Connack)
    assert connack is None or connack.code == 1
    client.expect_closed()


@in_v3("MQTT-3.1.2-2", "MQTT-3.2.2-5")
@in_v5("MQTT-3.1.2-2", "MQTT-3.2.2-7")
@pytest.mark.parametrize(("version", "allowed", "code"), [(V3, "5", 1), (V5, "3,4", 0x84)], ids=str)
def test_a_version_that_the_listener_does_not_allow_is_refused(
    net_with: NetWith, version: Version, allowed: str, code: int
) -> None:
    client = net_with({"listener.tcp.default.allowed_protocol_versions": allowed}).open(version)
    assert client.handshake().code == code
    client.expect_closed()


@in_v3("MQTT-3.1.2-18", "MQTT-3.1.2-20", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-16", "MQTT-3.1.2-18", "MQTT-3.1.4-1")
@both_versions
@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        pytest.param(0x02, string("user"), id="user name without its flag"),
        pytest.param(0x82, string("user") + binary(b"secret"), id="password without its flag"),
        pytest.param(0x02, b"\0", id="one byte too many"),
    ],
)
def test_fields_without_their_flag_are_refused(net: Network, version: Version, flags: int, fields: bytes) -> None:
    data = requests.connect(version, "", flags=flags, payload=string(unique()) + fields)
    net.refused(version, data).expect_connect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.2-19", "MQTT-3.1.2-21", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-17", "MQTT-3.1.2-19", "MQTT-3.1.4-1")
@both_versions
@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        pytest.param(0x82, b"", id="no user name"),
        pytest.param(0xC2, string("user"), id="no password"),
        pytest.param(0xC2, b"", id="neither"),
    ],
)
def test_flags_without_their_field_are_refused(net: Network, version: Version, flags: int, fields: bytes) -> None:
    data = requests.connect(version, "", flags=flags, payload=string(unique()) + fields)
    net.refused(version, data).expect_connect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.2-22", "MQTT-3.1.4-1")
def test_a_password_without_a_user_name_is_refused_before_version_5(net: Network) -> None:
    net.refused(V3, requests.connect(V3, unique(), password=b"secret")).expect_closed()


@in_v5("MQTT-3.1.2-19")
def test_a_password_without_a_user_name_is_allowed_in_version_5(net: Network) -> None:
    assert net.open(V5).handshake(password=b"secret").code == 0


@in_v3("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21")
@in_v5("MQTT-3.1.3-1", "MQTT-3.1.2-9", "MQTT-3.1.2-17", "MQTT-3.1.2-19")
@both_versions
def test_the_fields_of_connect_are_read_in_their_order(net: Network, version: Version) -> None:
    topic = unique("will/")
    watcher = net.connect(version)
    watcher.subscribe(topic)
    client = net.open(version)
    will = Will(topic, b"payload of the will")
    assert client.handshake(will=will, username="user", password=b"secret").code == 0
    client.close()
    message = watcher.receive()
    assert (message.topic, message.payload) == (topic, b"payload of the will")


@in_v3("MQTT-3.1.3-5", "MQTT-3.1.3-3", "MQTT-3.1.3-4")
@in_v5("MQTT-3.1.3-5", "MQTT-3.1.3-3", "MQTT-3.1.3-4")
@both_versions
@pytest.mark.parametrize(
    "client_id", ["0", "Z", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"]
)
def test_alphanumeric_client_ids_of_up_to_23_bytes_are_accepted(net: Network, version: Version, client_id: str) -> None:
    assert net.open(version).handshake(client_id).code == 0


@in_v3("MQTT-3.1.3-6")
@in_v5("MQTT-3.1.3-6", "MQTT-3.1.3-7", "MQTT-3.2.2-16")
@both_versions
def test_clients_without_an_id_get_one_each(net: Network, version: Version) -> None:
    clients = [net.connect(version, "") for _ in range(3)]
    for client in clients:
        client.barrier()
    if version is V5:
        names = {
            client.referee.connack.value(Property.ASSIGNED_CLIENT_IDENTIFIER)
            for client in clients
            if client.referee.connack
        }
        assert len(names) == 3
        assert None not in names
        assert "" not in names


@in_v5("MQTT-3.1.3-7", "MQTT-3.2.2-16")
def test_an_assigned_client_id_names_the_session(net: Network) -> None:
    topic = unique("t")
    expiry: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 300)]
    client = net.connect(V5, "", clean_start=False, properties=expiry)
    assert client.referee.connack is not None
    assigned = client.referee.connack.value(Property.ASSIGNED_CLIENT_IDENTIFIER)
    assert isinstance(assigned, str)
    client.subscribe(topic, qos=1)
    client.disconnect()
    net.connect(V5).publish(topic, b"kept", qos=1)
    again = net.open(V5)
    assert again.handshake(assigned, clean_start=False).session_present
    assert again.receive().payload == b"kept"


def test_a_client_that_brings_its_id_is_assigned_none(net: Network) -> None:
    assert net.open(V5).handshake().value(Property.ASSIGNED_CLIENT_IDENTIFIER) is None


@in_v3("MQTT-3.1.3-7", "MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
def test_an_empty_client_id_needs_a_clean_session_in_version_3_1_1(net: Network) -> None:
    client = net.open(V3)
    assert client.handshake("", clean_start=False).code == 2
    client.expect_closed()


def test_an_empty_client_id_is_refused_in_version_3_1(net: Network) -> None:
    client = net.open(Version.V3_1)
    assert client.handshake("").code == 2
    client.expect_closed()


@in_v3("MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@in_v5("MQTT-3.1.3-8", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
@both_versions
def test_a_client_id_beyond_the_configured_length_is_refused(net_with: NetWith, version: Version) -> None:
    net = net_with(max_client_id_size=30)
    assert net.open(version).handshake(unique().ljust(30, "x")).code == 0
    client = net.open(version)
    assert client.handshake(unique().ljust(31, "x")).code == (0x85 if version is V5 else 2)
    client.expect_closed()


@in_v3("MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@in_v5("MQTT-3.1.4-6", "MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
@both_versions
def test_what_a_refused_client_sent_after_connect_is_not_processed(net_with: NetWith, version: Version) -> None:
    closed = net_with(allow_anonymous=False)
    client = closed.open(version)
    data = requests.connect(version, unique())
    data += requests.subscribe(version, 1, [Filter("#")])
    data += requests.publish(version, unique("t"), b"x", qos=1, packet_id=2) + requests.pingreq()
    client.send(data)
    connack = client.expect(Connack)
    assert (connack.code, connack.session_present) == (0x87 if version is V5 else 5, False)
    client.expect_closed()


@in_v3("MQTT-3.2.2-6", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.4-1", "MQTT-3.2.2-7", "MQTT-4.7.0-1")
@both_versions
def test_a_wildcard_in_the_will_topic_is_refused(net: Network, version: Version) -> None:
    # 3.1.1 has no return code for it: the connection is closed without CONNACK.
    data = requests.connect(version, unique(), will=Will("will/+", b"x"))
    net.refused(version, data).expect_connect_refusal(0x81, 0x82, 0x90)


@in_v5("MQTT-3.1.4-1")
@pytest.mark.parametrize(
    ("properties", "codes"),
    [
        pytest.param([(Property.RECEIVE_MAXIMUM, 0)], (0x82,), id="Receive Maximum 0"),
        pytest.param([(Property.MAXIMUM_PACKET_SIZE, 0)], (0x82,), id="Maximum Packet Size 0"),
        pytest.param([(Property.REQUEST_PROBLEM_INFORMATION, 2)], (0x82,), id="Request Problem Information 2"),
        pytest.param([(Property.REQUEST_RESPONSE_INFORMATION, 7)], (0x82,), id="Request Response Information 7"),
        pytest.param([(Property.SESSION_EXPIRY_INTERVAL, 1)] * 2, (0x82,), id="given twice"),
        pytest.param([(Property.AUTHENTICATION_DATA, b"x")], (0x82,), id="data without a method"),
        pytest.param([(Property.TOPIC_ALIAS, 1)], (0x81, 0x82), id="of another packet"),
    ],
)
def test_connect_with_a_wrong_property_is_refused(net: Network, properties: Properties, codes: tuple[int, ...]) -> None:
    net.refused(V5, requests.connect(V5, unique(), properties=properties)).expect_connect_refusal(*codes)


@in_v5("MQTT-3.1.2-28")
@pytest.mark.parametrize("properties", [(), [(Property.REQUEST_RESPONSE_INFORMATION, 0)]], ids=["by default", "asked"])
def test_response_information_is_not_sent_unasked(net: Network, properties: Properties) -> None:
    assert net.open(V5).handshake(properties=properties).value(Property.RESPONSE_INFORMATION) is None


@in_v5("MQTT-3.1.2-29")
def test_problem_information_is_not_sent_to_a_client_that_wants_none(net: Network) -> None:
    # The referee refuses reason strings and user properties in all other packets; these provoke what could carry them.
    client = net.connect(V5, properties=[(Property.REQUEST_PROBLEM_INFORMATION, 0)])
    assert client.unsubscribe(unique("none")).codes == (0x11,)
    assert client.publish("$nobody/may", b"x", qos=1) == 0x87
    assert client.publish("$nobody/may", b"x", qos=2) == 0x87
    client.acknowledge(PacketType.PUBREL, 77)
    assert client.expect(Pubcomp).code == 0x92
    client.barrier()


@in_v5("MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.1.2-24")
@pytest.mark.parametrize("limit", [2, 5, 10, 20, 30, 60])
def test_connack_fits_the_maximum_packet_size_of_the_client(net_with: NetWith, net: Network, limit: int) -> None:
    # The referee measures the CONNACK, whatever it would like to explain. One that cannot fit is not sent.
    for network in (net, net_with(allow_anonymous=False)):
        client = network.open(V5)
        client.referee.agree([(Property.MAXIMUM_PACKET_SIZE, limit)])
        client.send(requests.connect(V5, unique(), properties=[(Property.MAXIMUM_PACKET_SIZE, limit)]))
        client.expect_or_close(Connack)


@in_v5("MQTT-3.2.2-8", "MQTT-3.2.2-9")
def test_connack_announces_no_limit_on_what_the_broker_supports(net: Network) -> None:
    connack = net.open(V5).handshake()
    assert connack.value(Property.MAXIMUM_QOS) is None
    for name in (
        Property.RETAIN_AVAILABLE,
        Property.WILDCARD_SUBSCRIPTION_AVAILABLE,
        Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        Property.SHARED_SUBSCRIPTION_AVAILABLE,
    ):
        assert connack.value(name) in (None, 1)


@both_versions
def test_a_connection_without_connect_is_closed_in_time(net_with: NetWith, version: Version) -> None:
    net = net_with(mqtt_connect_timeout=300)
    silent, slow = net.open(version), net.open(version)
    slow.send(requests.connect(version, unique())[:9])
    silent.expect_closed(timeout=3)
    slow.expect_closed(timeout=3)


@in_v3("MQTT-3.2.0-1")
@in_v5("MQTT-3.2.0-1", "MQTT-3.2.0-2")
@both_versions
def test_packets_that_follow_connect_at_once_are_answered_after_connack(net: Network, version: Version) -> None:
    client = net.open(version)
    data = requests.connect(version, unique()) + requests.pingreq()
    data += requests.subscribe(version, 9, [Filter(unique("t"), 2)]) + requests.unsubscribe(version, 10, ["none"])
    client.send(data)
    assert client.expect(Connack).code == 0
    client.expect(Pingresp)
    assert client.expect(Suback).packet_id == 9
    assert client.expect(Unsuback).packet_id == 10


@in_v3("MQTT-4.8.0-1")
@in_v5("MQTT-4.13.1-1", "MQTT-4.13.2-1")
@both_versions
def test_the_fault_of_one_client_costs_the_others_nothing(net: Network, version: Version) -> None:
    topic = unique("t")
    subscriber, publisher = net.connect(version), net.connect(version)
    subscriber.subscribe(topic, qos=1)
    for garbage in (
        b"\xff" * 100,
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(100),
        b"\x10\xff\xff\xff\x7f" + b"x" * 1000,
        u8(0x10),
    ):
        other = net.open(version)
        other.send(garbage)
        other.close()
    publisher.publish(topic, b"x", qos=1)
    assert subscriber.receive().payload == b"x"
    fence(publisher, subscriber)


@in_v5("MQTT-3.14.0-1")
def test_a_refused_client_gets_a_connack_and_no_disconnect(net_with: NetWith) -> None:
    client = net_with(allow_anonymous=False).open(V5)
    assert client.handshake().code == 0x87
    client.expect_closed()
    with pytest.raises(AssertionError):
        client.expect(Disconnect, timeout=0.1)
