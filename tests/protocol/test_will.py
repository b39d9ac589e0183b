"""The will: when it is published and when not, how, and which wills a CONNECT may carry."""

import time

import pytest

from protocol import requests
from protocol.answers import Connack
from protocol.client import Client, NetWith, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Will
from protocol.wire import Properties, Property, Version, property_block, string

DELAY_1_S: Properties = [(Property.WILL_DELAY_INTERVAL, 1)]


def watcher_of(net: Network, version: Version, topic: str, qos: int = 2) -> Client:
    client = net.connect(version)
    client.subscribe(topic, qos=qos)
    return client


def break_connection(client: Client, how: str) -> None:
    """End a connection in one of the ways that are not a DISCONNECT of the client."""
    if how == "connection closed":
        client.close()
    elif how == "connection reset":
        client.reset()
    else:
        client.send(b"\x00\x00")


@in_v3("MQTT-3.1.2-8", "MQTT-3.1.2-16")
@in_v5("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-14")
@both_versions
@pytest.mark.parametrize("how", ["connection closed", "connection reset", "protocol violation"])
def test_the_will_is_published_when_the_connection_ends_without_disconnect(
    net: Network, version: Version, how: str
) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.connect(version, will=Will(topic, b"gone", qos=1))
    break_connection(client, how)
    message = watcher.receive()
    assert (message.topic, message.payload, message.qos, message.retain) == (topic, b"gone", 1, False)
    late = watcher_of(net, version, topic)
    late.barrier()


@in_v3("MQTT-3.1.2-8")
@in_v5("MQTT-3.1.2-8")
@both_versions
def test_the_will_is_published_when_the_keep_alive_runs_out(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic, b"silent"), keep_alive=1)
    assert watcher.receive().payload == b"silent"


@in_v3("MQTT-3.1.2-8", "MQTT-3.1.4-2")
@in_v5("MQTT-3.1.2-8", "MQTT-3.1.4-3")
@both_versions
def test_the_will_is_published_when_a_new_session_takes_the_connection_over(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.connect(version, will=Will(topic, b"replaced"))
    net.connect(version, client.client_id)
    assert watcher.receive().payload == b"replaced"
    watcher.barrier()


@in_v3("MQTT-3.1.2-8")
@both_versions
def test_the_will_is_kept_back_at_a_takeover_where_the_operator_says_so(net_with: NetWith, version: Version) -> None:
    net = net_with(suppress_lwt_on_session_takeover=True)
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.connect(version, will=Will(topic, b"replaced"))
    second = net.connect(version, client.client_id)
    client.expect_refusal(0x8E)
    fence(second, watcher)


@in_v3("MQTT-3.14.4-3", "MQTT-3.1.2-8", "MQTT-3.1.2-10")
@in_v5("MQTT-3.14.4-3", "MQTT-3.1.2-8", "MQTT-3.1.2-10")
@both_versions
def test_a_normal_disconnect_discards_the_will(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.connect(version, will=Will(topic, b"never"))
    client.disconnect()
    fence(net.connect(version), watcher)


@in_v5("MQTT-3.1.2-8", "MQTT-3.14.2-1")
@pytest.mark.parametrize("code", [0x04, 0x80, 0x81, 0x99])
def test_a_disconnect_with_any_other_reason_code_publishes_the_will(net: Network, code: int) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    client = net.connect(V5, will=Will(topic, b"wanted"))
    client.disconnect(code)
    assert watcher.receive().payload == b"wanted"


@in_v3("MQTT-3.1.2-10")
@in_v5("MQTT-3.1.2-10")
@both_versions
def test_a_published_will_is_gone_from_the_session(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.open(version)
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 300)]
    client.handshake(clean_start=False, will=Will(topic, b"once"), properties=lasting)
    client.reset()
    assert watcher.receive().payload == b"once"
    again = net.resume(version, client.client_id)
    again.reset()
    third = net.resume(version, client.client_id)
    fence(third, watcher, qos=0)


@in_v3("MQTT-3.1.2-12")
@in_v5("MQTT-3.1.2-7")
@both_versions
def test_a_client_that_comes_back_without_a_will_leaves_none(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 300)]
    client = net.open(version)
    client.handshake(clean_start=False, will=Will(topic, b"of the first connection"), properties=lasting)
    client.disconnect()
    again = net.resume(version, client.client_id)
    again.send(b"\x00\x00")
    again.expect_refusal(0x81, 0x82)
    fence(net.connect(version), watcher)


@in_v3("MQTT-3.1.2-14", "MQTT-3.1.2-9")
@in_v5("MQTT-3.1.2-12", "MQTT-3.1.2-9")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_will_is_published_with_its_qos(net: Network, version: Version, qos: int) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic, b"x", qos=qos)).close()
    assert watcher.receive().qos == qos


@in_v3("MQTT-3.1.2-17")
@in_v5("MQTT-3.1.2-15")
@both_versions
def test_a_retained_will_is_stored(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic, b"stays", qos=1, retain=True)).close()
    assert watcher.receive().retain is False
    late = watcher_of(net, version, topic)
    message = late.receive()
    assert (message.payload, message.retain) == (b"stays", True)
    late.publish(topic, b"", qos=1, retain=True)


@in_v3("MQTT-3.1.2-16")
@in_v5("MQTT-3.1.2-14")
@both_versions
def test_a_will_that_is_not_retained_leaves_the_retained_message_alone(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic, b"passes", qos=1)).close()
    watcher.receive()
    late = watcher_of(net, version, topic)
    late.barrier()


@in_v3("MQTT-3.1.2-9", "MQTT-3.1.2-10")
@in_v5("MQTT-3.1.2-9")
@both_versions
def test_a_will_may_be_empty(net: Network, version: Version) -> None:
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic)).close()
    assert watcher.receive().payload == b""


@in_v3("MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.2-15", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.4-1")
@both_versions
@pytest.mark.parametrize("bits", [0x08, 0x10, 0x18, 0x20, 0x38])
def test_will_bits_without_the_will_flag_are_refused(net: Network, version: Version, bits: int) -> None:
    net.refused(version, requests.connect(version, unique(), flags=0x02 | bits)).expect_connect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.2-14", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-12", "MQTT-3.1.4-1")
@both_versions
def test_will_qos_3_is_refused(net: Network, version: Version) -> None:
    data = requests.connect(version, unique(), will=Will(unique("will"), b"x", qos=3))
    net.refused(version, data).expect_connect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.2-11", "MQTT-3.1.2-9", "MQTT-3.1.4-1")
@in_v5("MQTT-3.1.2-9", "MQTT-3.1.4-1")
@both_versions
@pytest.mark.parametrize("flag", [False, True])
def test_the_will_fields_are_there_exactly_when_the_will_flag_is(net: Network, version: Version, flag: bool) -> None:
    fields = (property_block([]) if version is V5 else b"") + string("will") + string("x")
    data = requests.connect(
        version, "", flags=0x06 if flag else 0x02, payload=string(unique()) + (b"" if flag else fields)
    )
    net.refused(version, data).expect_connect_refusal(0x81, 0x82)


@in_v3("MQTT-3.1.3-10")
@in_v5("MQTT-3.1.3-11")
@both_versions
def test_an_empty_will_topic_is_refused(net: Network, version: Version) -> None:
    data = requests.connect(version, unique(), will=Will("", b"x"))
    net.refused(version, data).expect_connect_refusal(0x81, 0x82, 0x90)


@in_v5("MQTT-3.1.3-10")
def test_the_properties_of_the_will_are_passed_on(net: Network) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    passed_on: Properties = [
        (Property.PAYLOAD_FORMAT_INDICATOR, 1),
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "answers"),
        (Property.CORRELATION_DATA, b"\x00\xff"),
        (Property.USER_PROPERTY, ("b", "1")),
        (Property.USER_PROPERTY, ("a", "2")),
        (Property.USER_PROPERTY, ("b", "3")),
    ]
    net.connect(V5, will=Will(topic, b"text", properties=passed_on)).close()
    message = watcher.receive()
    assert set(message.properties) == set(passed_on)
    assert message.values(Property.USER_PROPERTY) == [("b", "1"), ("a", "2"), ("b", "3")]


@in_v5("MQTT-3.1.2-8")
def test_a_delayed_will_is_published_after_its_delay(net: Network) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    client = net.open(V5)
    client.handshake(
        will=Will(topic, b"late", properties=DELAY_1_S), properties=[(Property.SESSION_EXPIRY_INTERVAL, 300)]
    )
    client.reset()
    began = time.monotonic()
    assert watcher.receive().payload == b"late"
    assert time.monotonic() - began > 0.8


@in_v5("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_reconnect_within_the_delay_cancels_the_will(net: Network) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    client = net.open(V5)
    client.handshake(
        will=Will(topic, b"never", properties=DELAY_1_S), properties=[(Property.SESSION_EXPIRY_INTERVAL, 300)]
    )
    client.reset()
    again = net.resume(V5, client.client_id)
    assert again.referee.connack is not None
    assert again.referee.connack.session_present
    time.sleep(1.3)
    fence(again, watcher)


@in_v5("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_takeover_that_continues_the_session_cancels_the_delayed_will(net: Network) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    client = net.open(V5)
    client.handshake(
        will=Will(topic, b"never", properties=DELAY_1_S), properties=[(Property.SESSION_EXPIRY_INTERVAL, 300)]
    )
    again = net.resume(V5, client.client_id)
    client.expect_refusal(0x8E)
    time.sleep(1.3)
    fence(again, watcher)


@in_v5("MQTT-3.1.2-8")
@pytest.mark.parametrize("ended_by", ["a new session", "the expiry of the session"])
def test_the_end_of_the_session_publishes_a_delayed_will_at_once(net: Network, ended_by: str) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    expiry = 300 if ended_by == "a new session" else 1
    will = Will(topic, b"now", properties=[(Property.WILL_DELAY_INTERVAL, 200)])
    client = net.open(V5)
    client.handshake(will=will, properties=[(Property.SESSION_EXPIRY_INTERVAL, expiry)])
    client.reset()
    if ended_by == "a new session":
        net.connect(V5, client.client_id)
    assert watcher.receive().payload == b"now"


@in_v5("MQTT-3.1.2-8")
def test_a_delay_is_of_no_use_to_a_session_that_does_not_last(net: Network) -> None:
    topic = unique("will")
    watcher = watcher_of(net, V5, topic)
    will = Will(topic, b"now", properties=[(Property.WILL_DELAY_INTERVAL, 200)])
    net.connect(V5, will=will).reset()
    assert watcher.receive().payload == b"now"


@in_v3("MQTT-3.1.2-8")
@both_versions
def test_a_refused_client_leaves_no_will(net_with: NetWith, version: Version) -> None:
    net = net_with(max_client_id_size=30)
    topic = unique("will")
    watcher = watcher_of(net, version, topic)
    client = net.open(version)
    client.handshake(unique().ljust(31, "x"), will=Will(topic, b"never"))
    client.expect_closed()
    fence(net.connect(version), watcher)


@in_v3("MQTT-3.1.2-8")
@in_v5("MQTT-3.1.2-8")
@both_versions
def test_a_will_reaches_an_offline_session(net: Network, version: Version) -> None:
    topic = unique("will")
    sleeper = net.resume(version, unique())
    sleeper.subscribe(topic, qos=1)
    sleeper.disconnect()
    watcher = watcher_of(net, version, topic)
    net.connect(version, will=Will(topic, b"x", qos=1)).close()
    watcher.receive()
    assert net.resume(version, sleeper.client_id).receive().payload == b"x"


def test_a_will_of_version_3_reaches_version_5_and_the_other_way_round(net: Network) -> None:
    for sender, receiver in ((V3, V5), (V5, V3)):
        topic = unique("will")
        watcher = watcher_of(net, receiver, topic)
        client = net.open(sender)
        assert isinstance(client.handshake(will=Will(topic, b"x", qos=2)), Connack)
        client.close()
        assert watcher.receive().payload == b"x"
