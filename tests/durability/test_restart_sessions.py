"""What a session keeps over a restart and over a kill: that it is there, its subscriptions, its queue."""

import time

from durability.node import Node, session_present
from durability.restarts import Halves, over_a_restart, over_restarts
from protocol.answers import Publish
from protocol.client import DEADLINE_S, Client, fence, unique
from protocol.marks import V3, V5, both_versions
from protocol.requests import Filter
from protocol.wire import Properties, Property, Version


def away_with(node: Node, version: Version, *filters: str | Filter, qos: int = 1, properties: Properties = ()) -> str:
    """A session with these subscriptions whose client is not connected; gives the client id."""
    client = node.net.resume(version, unique())
    client.subscribe(*filters, qos=qos, properties=properties)
    client.disconnect()
    return client.client_id


def publish_numbers(node: Node, version: Version, topic: str, numbers: range) -> None:
    """Publish these numbers in order, at QoS 1, each until it is acknowledged."""
    publisher = node.net.connect(version)
    for number in numbers:
        publisher.publish(topic, b"%d" % number, qos=1)


def returned(node: Node, version: Version, client_id: str) -> Client:
    client = node.net.resume(version, client_id)
    assert session_present(client)
    return client


@both_versions
@over_a_restart("stop", "kill")
def test_a_kept_session_is_present_after_a_restart(node: Node, version: Version) -> Halves:
    offline = away_with(node, version, unique("t"))
    online = node.net.resume(version, unique()).client_id
    yield
    assert session_present(node.net.resume(version, offline))
    assert session_present(node.net.resume(version, online))
    assert not session_present(node.net.resume(version, unique()))


@both_versions
@over_a_restart("stop", "kill")
def test_subscriptions_survive_a_restart(node: Node, version: Version) -> Halves:
    topic = unique("t")
    offline = away_with(node, version, f"{topic}/+/b", f"{topic}/c/#", qos=2)
    online = node.net.resume(version, unique())
    online.subscribe(f"{topic}/#", qos=1)
    yield
    publisher = node.net.connect(version)
    publisher.publish(f"{topic}/a/b", b"1", qos=2)
    publisher.publish(f"{topic}/c/d", b"2", qos=2)
    first = returned(node, version, offline)
    assert [(each.payload, each.qos) for each in (first.receive(), first.receive())] == [(b"1", 2), (b"2", 2)]
    second = returned(node, version, online.client_id)
    assert [(each.payload, each.qos) for each in (second.receive(), second.receive())] == [(b"1", 1), (b"2", 1)]


@both_versions
@over_a_restart("stop", "kill")
def test_queued_messages_survive_a_restart_in_order(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client_id = away_with(node, version, topic, qos=2)
    publisher = node.net.connect(version)
    payloads = [str(number).encode() * 20 for number in range(100)]
    for number, payload in enumerate(payloads):
        publisher.publish(topic, payload, qos=1 + number % 2)
    yield
    client = returned(node, version, client_id)
    received = [client.receive() for _ in payloads]
    assert [each.payload for each in received if each.qos == 1] == payloads[0::2]
    assert [each.payload for each in received if each.qos == 2] == payloads[1::2]
    assert not any(each.dup for each in received)
    client.barrier()


@both_versions
@over_a_restart("kill")
def test_messages_queued_before_and_after_a_kill_come_in_one_order(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client_id = away_with(node, version, topic)
    publish_numbers(node, version, topic, range(5))
    yield
    publish_numbers(node, version, topic, range(5, 9))
    assert returned(node, version, client_id).receive_payloads(9) == [b"%d" % number for number in range(9)]


@both_versions
@over_restarts(("stop", 0), ("stop", 0))
def test_what_a_session_has_taken_does_not_come_again_after_a_stop(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client_id = away_with(node, version, topic, qos=2)
    publisher = node.net.connect(version)
    for payload in (b"1", b"2", b"3"):
        publisher.publish(topic, payload, qos=2)
    client = returned(node, version, client_id)
    assert client.receive().payload == b"1"
    assert client.expect(Publish).payload == b"2"
    client.close()
    yield
    client = returned(node, version, client_id)
    assert client.receive_payloads(2) == [b"2", b"3"]
    client.disconnect()
    yield
    client = returned(node, version, client_id)
    client.barrier()


@both_versions
@over_a_restart("stop", "kill")
def test_a_clean_session_leaves_nothing(node: Node, version: Version) -> Halves:
    topic = unique("t")
    kept = away_with(node, version, topic)
    clean = node.net.connect(version)
    clean.subscribe(topic, qos=1)
    node.net.connect(version).publish(topic, b"x", qos=1)
    assert clean.expect(Publish).payload == b"x"
    yield
    again = node.net.resume(version, clean.client_id)
    assert not session_present(again)
    again.barrier()
    assert returned(node, version, kept).receive().payload == b"x"


@both_versions
@over_a_restart("kill")
def test_a_session_that_was_discarded_stays_discarded(node: Node, version: Version) -> Halves:
    topic = unique("t")
    kept, discarded = away_with(node, version, topic), away_with(node, version, topic)
    node.net.connect(version).publish(topic, b"x", qos=1)
    node.net.connect(version, discarded).disconnect()
    yield
    assert not session_present(node.net.resume(version, discarded))
    assert returned(node, version, kept).receive().payload == b"x"


@over_a_restart("kill")
def test_a_session_that_disconnect_has_ended_stays_ended(node: Node) -> Halves:
    kept = away_with(node, V5, unique("t"))
    ended = node.net.resume(V5, unique())
    ended.disconnect(properties=[(Property.SESSION_EXPIRY_INTERVAL, 0)])
    yield
    assert not session_present(node.net.resume(V5, ended.client_id))
    assert session_present(node.net.resume(V5, kept))


@both_versions
@over_a_restart("stop", "kill")
def test_unsubscribed_stays_unsubscribed(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = node.net.resume(version, unique())
    client.subscribe(f"{topic}/kept", f"{topic}/given-up", qos=1)
    client.unsubscribe(f"{topic}/given-up")
    yield
    client = returned(node, version, client.client_id)
    publisher = node.net.connect(version)
    publisher.publish(f"{topic}/given-up", b"1", qos=1)
    publisher.publish(f"{topic}/kept", b"2", qos=1)
    assert client.receive().payload == b"2"
    fence(publisher, client, qos=1)


@both_versions
@over_a_restart("kill")
def test_a_subscription_that_was_replaced_has_its_last_qos(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client = node.net.resume(version, unique())
    client.subscribe(topic, qos=2)
    client.subscribe(topic, qos=1)
    yield
    client = returned(node, version, client.client_id)
    node.net.connect(version).publish(topic, b"x", qos=2)
    assert client.receive().qos == 1
    client.barrier()


@both_versions
@over_a_restart("kill")
def test_a_shared_subscription_survives_a_kill(node: Node, version: Version) -> Halves:
    topic = unique("t")
    members = [away_with(node, version, f"$share/crew/{topic}") for _ in range(2)]
    publisher = node.net.connect(version)
    publisher.publish(topic, b"before", qos=1)
    yield
    clients = [returned(node, version, member) for member in members]
    publisher = node.net.connect(version)
    for number in range(10):
        publisher.publish(topic, b"%d" % number, qos=1)
    got: list[bytes] = []
    deadline = time.monotonic() + DEADLINE_S
    while len(got) < 11 and time.monotonic() < deadline:
        for client in clients:
            if (publish := client.poll(Publish)) is not None:
                client.complete(publish)
                got.append(publish.payload)
    assert sorted(got) == sorted([b"before", *(b"%d" % number for number in range(10))])
    for client in clients:
        client.barrier()


@over_a_restart("kill")
def test_the_options_of_a_subscription_survive_a_kill(node: Node) -> Halves:
    topic = unique("t")
    own = Filter(f"{topic}/own", 1, no_local=True)
    kept = Filter(f"{topic}/kept", 1, retain_as_published=True)
    client_id = away_with(node, V5, own, kept)
    yield
    client = returned(node, V5, client_id)
    client.publish(f"{topic}/own", b"mine", qos=1)
    publisher = node.net.connect(V5)
    publisher.publish(f"{topic}/own", b"another's", qos=1)
    publisher.publish(f"{topic}/kept", b"retained", qos=1, retain=True)
    assert client.receive().payload == b"another's"
    message = client.receive()
    assert (message.payload, message.retain) == (b"retained", True)


@over_a_restart("kill")
def test_subscription_identifiers_survive_a_kill(node: Node) -> Halves:
    topic = unique("t")
    number: Properties = [(Property.SUBSCRIPTION_IDENTIFIER, 268_435_455)]
    client_id = away_with(node, V5, topic, properties=number)
    node.net.connect(V5).publish(topic, b"before", qos=1)
    yield
    node.net.connect(V5).publish(topic, b"after", qos=1)
    client = returned(node, V5, client_id)
    for payload in (b"before", b"after"):
        message = client.receive()
        assert (message.payload, message.values(Property.SUBSCRIPTION_IDENTIFIER)) == (payload, [268_435_455])


@over_a_restart("stop", "kill")
def test_the_properties_of_a_queued_message_survive(node: Node) -> Halves:
    topic = unique("t")
    properties: Properties = [
        (Property.PAYLOAD_FORMAT_INDICATOR, 1),
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "answers/here"),
        (Property.CORRELATION_DATA, b"\x00\x01\xff"),
        (Property.USER_PROPERTY, ("color", "red")),
        (Property.USER_PROPERTY, ("color", "blue")),
        (Property.USER_PROPERTY, ("", "")),
    ]
    client_id = away_with(node, V5, topic)
    node.net.connect(V5).publish(topic, b"x", qos=1, properties=properties)
    yield
    message = returned(node, V5, client_id).receive()
    assert sorted(map(str, message.properties)) == sorted(map(str, properties))
    users = message.values(Property.USER_PROPERTY)
    assert users == [("color", "red"), ("color", "blue"), ("", "")]


@both_versions
@over_a_restart("kill")
def test_a_message_for_many_sessions_is_kept_for_each_of_them(node: Node, version: Version) -> Halves:
    topic = unique("t")
    sessions = [away_with(node, version, topic, qos=1 + number % 2) for number in range(20)]
    node.net.connect(version).publish(topic, b"shared" * 100, qos=2)
    assert returned(node, version, sessions[0]).receive().payload == b"shared" * 100
    yield
    for number, client_id in enumerate(sessions[1:], start=1):
        message = returned(node, version, client_id).receive()
        assert (message.payload, message.qos) == (b"shared" * 100, 1 + number % 2)


@both_versions
@over_a_restart("kill")
def test_large_and_empty_messages_survive_a_kill(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client_id = away_with(node, version, topic)
    payloads = [b"", b"x", b"y" * 100_000, bytes(range(256)) * 8_192]
    publisher = node.net.connect(version)
    for payload in payloads:
        publisher.publish(topic, payload, qos=1)
    yield
    assert returned(node, version, client_id).receive_payloads(4) == payloads


@both_versions
@over_a_restart("kill")
def test_qos_0_is_not_kept(node: Node, version: Version) -> Halves:
    topic = unique("t")
    client_id = away_with(node, version, topic)
    publisher = node.net.connect(version)
    publisher.publish(topic, b"0")
    publisher.publish(topic, b"1", qos=1)
    yield
    client = returned(node, version, client_id)
    assert client.receive().payload == b"1"
    client.barrier()


@over_a_restart("kill")
def test_a_session_may_come_back_with_another_version_after_a_kill(node: Node) -> Halves:
    topic = unique("t")
    client_id = away_with(node, V5, topic)
    node.net.connect(V5).publish(topic, b"x", qos=1, properties=[(Property.CONTENT_TYPE, "text/plain")])
    yield
    client = returned(node, V3, client_id)
    assert client.receive().payload == b"x"


def queue_eight(node: Node) -> str:
    """A session that is away and would get eight messages; gives its client id."""
    topic = unique("t")
    client_id = away_with(node, V5, topic)
    publish_numbers(node, V5, topic, range(8))
    return client_id


@over_a_restart("kill", max_offline_messages=5, queue_type="fifo")
def test_a_full_queue_has_its_oldest_messages_after_a_restart(node: Node) -> Halves:
    client_id = queue_eight(node)
    yield
    client = returned(node, V5, client_id)
    assert client.receive_payloads(5) == [b"0", b"1", b"2", b"3", b"4"]
    client.barrier()


@over_a_restart("kill", max_offline_messages=5, queue_type="lifo")
def test_a_full_queue_has_its_newest_messages_after_a_restart_if_so_set(node: Node) -> Halves:
    client_id = queue_eight(node)
    yield
    client = returned(node, V5, client_id)
    assert client.receive_payloads(5) == [b"7", b"6", b"5", b"4", b"3"]
    client.barrier()


def add_four(node: Node, topic: str, client_id: str, kept: list[bytes]) -> None:
    """Four more messages for the session, which then has these."""
    publish_numbers(node, V5, topic, range(4, 8))
    client = returned(node, V5, client_id)
    assert client.receive_payloads(5) == kept
    client.barrier()


@over_a_restart("kill", max_offline_messages=5, queue_type="fifo")
def test_what_was_queued_before_a_kill_counts_for_the_limit(node: Node) -> Halves:
    topic = unique("t")
    client_id = away_with(node, V5, topic)
    publish_numbers(node, V5, topic, range(4))
    yield
    add_four(node, topic, client_id, [b"0", b"1", b"2", b"3", b"4"])


@over_a_restart("kill", max_offline_messages=5, queue_type="lifo")
def test_what_was_queued_before_a_kill_is_dropped_first_if_so_set(node: Node) -> Halves:
    topic = unique("t")
    client_id = away_with(node, V5, topic)
    publish_numbers(node, V5, topic, range(4))
    yield
    add_four(node, topic, client_id, [b"7", b"6", b"5", b"4", b"3"])
