"""Sessions: kept, resumed, discarded, taken over, expired; and what CONNACK says of them."""

import time

import pytest

from protocol.answers import Connack, Disconnect
from protocol.client import Client, Network, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.wire import Properties, Property, Version


def session_present(client: Client) -> bool:
    connack = client.referee.connack
    assert isinstance(connack, Connack)
    return connack.session_present


@in_v3("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.4-3", "MQTT-3.2.2-2", "MQTT-4.1.0-1", "MQTT-4.5.0-1")
@in_v5("MQTT-3.1.2-5", "MQTT-3.1.2-23", "MQTT-3.1.4-4", "MQTT-3.2.2-3", "MQTT-4.5.0-1")
@both_versions
@pytest.mark.parametrize("end", ["DISCONNECT", "connection lost"])
def test_a_kept_session_has_its_subscriptions_and_what_came_meanwhile(net: Network, version: Version, end: str) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(f"{topic}/one", qos=1)
    client.subscribe(f"{topic}/two", qos=2)
    if end == "DISCONNECT":
        client.disconnect()
    else:
        client.reset()
    publisher = net.connect(version)
    publisher.publish(f"{topic}/one", b"1", qos=1)
    publisher.publish(f"{topic}/two", b"2", qos=2)
    again = net.resume(version, client.client_id)
    assert session_present(again)
    assert sorted(again.receive_payloads(2)) == [b"1", b"2"]
    publisher.publish(f"{topic}/one", b"live", qos=1)
    assert again.receive().payload == b"live"
    again.barrier()


@in_v3("MQTT-3.1.2-4", "MQTT-3.2.2-3")
@in_v5("MQTT-3.1.2-6", "MQTT-3.2.2-3")
@both_versions
def test_a_first_connect_begins_a_new_session(net: Network, version: Version) -> None:
    client = net.resume(version, unique())
    assert not session_present(client)
    client.barrier()


@in_v3("MQTT-3.1.2-6", "MQTT-3.2.2-1", "MQTT-3.1.4-3")
@in_v5("MQTT-3.1.2-4", "MQTT-3.2.2-2", "MQTT-3.1.4-4")
@both_versions
def test_a_clean_start_discards_the_stored_session(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = net.connect(version)
    publisher.publish(topic, b"waits", qos=1)
    fresh = net.connect(version, client.client_id)
    assert not session_present(fresh)
    publisher.publish(topic, b"for nobody", qos=1)
    fresh.barrier()
    fresh.disconnect()
    again = net.resume(version, client.client_id)
    assert not session_present(again)
    again.barrier()


@in_v3("MQTT-3.1.2-6", "MQTT-3.2.2-3")
@in_v5("MQTT-4.1.0-2", "MQTT-3.2.2-3")
@both_versions
def test_a_session_that_is_not_to_last_ends_with_its_connection(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    client.subscribe(topic, qos=1)
    client.disconnect()
    net.connect(version).publish(topic, b"x", qos=1)
    again = net.resume(version, client.client_id)
    assert not session_present(again)
    again.barrier()


@in_v5("MQTT-3.1.2-5", "MQTT-4.1.0-2")
def test_a_version_5_session_without_an_expiry_interval_ends_with_its_connection(net: Network) -> None:
    client = net.connect(V5, unique(), clean_start=False)
    client.subscribe(unique("t"), qos=1)
    client.disconnect()
    assert not session_present(net.connect(V5, client.client_id, clean_start=False))


@in_v5("MQTT-3.1.2-4", "MQTT-3.1.2-23")
def test_a_clean_start_with_an_expiry_interval_begins_a_session_that_is_kept(net: Network) -> None:
    topic = unique("t")
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 300)]
    client = net.connect(V5, unique(), clean_start=True, properties=lasting)
    client.subscribe(topic, qos=1)
    client.disconnect()
    net.connect(V5).publish(topic, b"x", qos=1)
    again = net.resume(V5, client.client_id)
    assert session_present(again)
    assert again.receive().payload == b"x"


@in_v3("MQTT-3.1.3-2")
@in_v5("MQTT-3.1.3-2")
@both_versions
def test_sessions_are_told_apart_by_client_id_alone(net: Network, version: Version) -> None:
    topic = unique("t")
    name = unique()
    first, other_case = net.resume(version, name + "a"), net.resume(version, name + "A")
    assert not session_present(other_case)
    first.subscribe(topic, qos=1)
    other_case.barrier()
    first.disconnect()
    other_case.disconnect()
    net.connect(version).publish(topic, b"x", qos=1)
    other_again, first_again = net.resume(version, name + "A"), net.resume(version, name + "a")
    other_again.barrier()
    assert first_again.receive().payload == b"x"


@in_v3("MQTT-3.1.4-2")
@in_v5("MQTT-3.1.4-3", "MQTT-4.13.2-1", "MQTT-3.14.2-1")
@both_versions
def test_a_second_connection_with_the_same_client_id_ends_the_first(net: Network, version: Version) -> None:
    first = net.connect(version)
    second = net.connect(version, first.client_id)
    first.expect_refusal(0x8E)
    second.barrier()


@in_v3("MQTT-3.1.4-2", "MQTT-3.1.2-4", "MQTT-3.2.2-2")
@in_v5("MQTT-3.1.4-3", "MQTT-3.1.2-5", "MQTT-3.2.2-3")
@both_versions
def test_a_takeover_continues_the_session_with_all_its_messages(net: Network, version: Version) -> None:
    topic = unique("t")
    first = net.resume(version, unique())
    first.subscribe(topic, qos=1)
    publisher = net.connect(version)
    publisher.publish(topic, b"1", qos=1)
    first.receive()
    first.barrier()
    second = net.resume(version, first.client_id)
    first.expect_refusal(0x8E)
    assert session_present(second)
    publisher.publish(topic, b"2", qos=1)
    assert second.receive().payload == b"2"
    second.barrier()


@in_v3("MQTT-3.1.4-2")
@in_v5("MQTT-3.1.4-3")
@pytest.mark.parametrize(("old", "new"), [(V3, V5), (V5, V3)], ids=str)
def test_a_client_may_come_back_with_another_version(net: Network, old: Version, new: Version) -> None:
    topic = unique("t")
    first = net.resume(old, unique())
    first.subscribe(topic, qos=2)
    second = net.resume(new, first.client_id)
    first.expect_refusal(0x8E)
    assert session_present(second)
    net.connect(old).publish(topic, b"x", qos=2)
    assert second.receive().payload == b"x"


@in_v3("MQTT-4.1.0-2")
@in_v5("MQTT-4.1.0-1", "MQTT-4.1.0-2")
@both_versions
def test_a_session_expires_after_its_connection_and_not_before(net: Network, version: Version) -> None:
    topic = unique("t")
    if version is V5:
        client = net.connect(V5, unique(), clean_start=False, properties=[(Property.SESSION_EXPIRY_INTERVAL, 1)])
    else:
        client = net.connect(V3, unique())
    client.subscribe(topic, qos=1)
    time.sleep(1.2)
    publisher = net.connect(version)
    publisher.publish(topic, b"x", qos=1)
    assert client.receive().payload == b"x"
    client.disconnect()
    deadline = time.monotonic() + 5
    if version is V5:
        # The interval is over one second after the end: not at once, and not never.
        while publisher.publish(topic, b"x", qos=1) != 0x10:
            assert time.monotonic() < deadline, "the session has not expired"
            time.sleep(0.05)
    assert not session_present(net.resume(version, client.client_id))


@in_v5("MQTT-4.1.0-1", "MQTT-3.1.2-23")
def test_a_session_is_there_until_its_expiry_interval_is_over(net: Network) -> None:
    one_second: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 2)]
    client = net.connect(V5, unique(), clean_start=False, properties=one_second)
    client.disconnect()
    assert session_present(net.connect(V5, client.client_id, clean_start=False, properties=one_second))


@in_v5("MQTT-3.1.2-23", "MQTT-4.1.0-2")
def test_the_largest_expiry_interval_means_never(net: Network) -> None:
    forever: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 0xFFFFFFFF)]
    client = net.connect(V5, unique(), clean_start=False, properties=forever)
    client.disconnect()
    assert session_present(net.connect(V5, client.client_id, clean_start=False, properties=forever))


@in_v5("MQTT-3.1.2-23", "MQTT-4.1.0-2")
@pytest.mark.parametrize(("at_connect", "at_disconnect", "kept"), [(300, 0, False), (1, 300, True)])
def test_disconnect_may_change_the_session_expiry_interval(
    net: Network, at_connect: int, at_disconnect: int, *, kept: bool
) -> None:
    properties: Properties = [(Property.SESSION_EXPIRY_INTERVAL, at_connect)]
    client = net.connect(V5, unique(), clean_start=False, properties=properties)
    client.disconnect(properties=[(Property.SESSION_EXPIRY_INTERVAL, at_disconnect)])
    if kept:
        time.sleep(1.3)
    assert session_present(net.resume(V5, client.client_id)) is kept


@in_v5("MQTT-4.13.1-1", "MQTT-3.14.2-2")
def test_disconnect_may_not_make_a_session_last_that_was_not_to(net: Network) -> None:
    client = net.connect(V5)
    client.send_disconnect(properties=[(Property.SESSION_EXPIRY_INTERVAL, 10)])
    assert client.expect(Disconnect).code == 0x82
    client.expect_closed()


@in_v3("MQTT-3.1.2-7")
@in_v5("MQTT-3.1.2-4")
@both_versions
def test_retained_messages_are_no_part_of_the_session(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.connect(version)
    client.publish(topic, b"stays", qos=1, retain=True)
    client.disconnect()
    again = net.connect(version, client.client_id)
    again.subscribe(topic)
    assert again.receive().payload == b"stays"
    again.publish(topic, b"", qos=1, retain=True)


@in_v3("MQTT-3.1.2-5")
@in_v5("MQTT-3.1.2-23")
@both_versions
def test_messages_for_an_offline_session_keep_their_order(net: Network, version: Version) -> None:
    topic = unique("t")
    client = net.resume(version, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = net.connect(version)
    payloads = [str(number).encode() for number in range(100)]
    for number, payload in enumerate(payloads):
        publisher.publish(topic, payload, qos=1 + number % 2)
    again = net.resume(version, client.client_id)
    received = again.receive_payloads(100)
    # Order holds among messages of the same QoS.
    assert [each for each in received if int(each) % 2] == payloads[1::2]
    assert [each for each in received if not int(each) % 2] == payloads[0::2]
    again.barrier()
