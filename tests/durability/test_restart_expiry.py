"""Time goes on while the broker is down: expiry of messages and sessions, by the wall clock.

The clock of the restarted process is moved (`later_s`), so that nobody has to wait.
"""

import pytest

from durability.node import Node, session_present, wait_until
from durability.restarts import Halves, over_a_restart, over_restarts
from protocol.answers import Publish
from protocol.client import Client, unique
from protocol.marks import V3, V5
from protocol.wire import Properties, Property

NO_MATCHING_SUBSCRIBERS = 0x10
DAY_S = 86_400


def lasting(seconds: int) -> Properties:
    return [(Property.SESSION_EXPIRY_INTERVAL, seconds)]


def expiring(seconds: int) -> Properties:
    return [(Property.MESSAGE_EXPIRY_INTERVAL, seconds)]


def session_of(node: Node, seconds: int, topic: str | None = None) -> Client:
    """A client of version 5 whose session lasts so long after its connection."""
    client = node.net.connect(V5, unique(), clean_start=False, properties=lasting(seconds))
    client.subscribe(topic or unique("t"), qos=1)
    return client


def is_there(node: Node, client_id: str, seconds: int) -> bool:
    """Whether the session is still there; it begins anew with this expiry."""
    client = node.net.connect(V5, client_id, clean_start=False, properties=lasting(seconds))
    present = session_present(client)
    client.disconnect()
    return present


@over_a_restart("stop", "kill", later_s=400)
def test_a_message_expires_while_the_broker_is_down(node: Node) -> Halves:
    topic = unique("t")
    client = session_of(node, DAY_S, topic)
    client.disconnect()
    publisher = node.net.connect(V5)
    publisher.publish(topic, b"short", qos=1, properties=expiring(60))
    publisher.publish(topic, b"long", qos=1, properties=expiring(1_000))
    publisher.publish(topic, b"for ever", qos=1)
    yield
    client = node.net.resume(V5, client.client_id)
    assert client.receive_payloads(2) == [b"long", b"for ever"]
    client.barrier()


def check_left(node: Node, message: Publish, seconds: int, begun: float) -> None:
    """The message says how much is left of these seconds, which were counted from `begun`."""
    left = message.value(Property.MESSAGE_EXPIRY_INTERVAL)
    assert isinstance(left, int)
    assert abs(seconds - (node.now - begun) - left) <= 3


@over_restarts(("kill", 400), ("kill", 300))
def test_the_remaining_expiry_of_a_message_is_sent(node: Node) -> Halves:
    topic = unique("t")
    client = session_of(node, DAY_S, topic)
    client.disconnect()
    begun = node.now
    node.net.connect(V5).publish(topic, b"x", qos=1, properties=expiring(1_000))
    yield
    yield
    check_left(node, node.net.resume(V5, client.client_id).receive(), 1_000, begun)


@over_a_restart("kill", later_s=400)
def test_a_message_expires_after_the_restart_that_it_survived(node: Node) -> Halves:
    topic = unique("t")
    client = session_of(node, DAY_S, topic)
    client.disconnect()
    publisher = node.net.connect(V5)
    publisher.publish(topic, b"soon", qos=1, properties=expiring(402))
    begun = node.now
    publisher.publish(topic, b"later", qos=1, properties=expiring(1_000))
    yield
    wait_until(lambda: node.now > begun + 403, "the time of the first message")
    client = node.net.resume(V5, client.client_id)
    assert client.receive_payloads(1) == [b"later"]
    client.barrier()


@over_a_restart("stop", "kill", later_s=400)
def test_a_session_expires_while_the_broker_is_down(node: Node) -> Halves:
    short, long = session_of(node, 60), session_of(node, 1_000)
    for client in (short, long):
        client.disconnect()
    yield
    assert not is_there(node, short.client_id, 60)
    assert is_there(node, long.client_id, 1_000)


@over_restarts(("kill", 400), ("kill", 300))
def test_the_time_of_a_session_does_not_begin_anew_with_a_restart(node: Node) -> Halves:
    shorter, longer = session_of(node, 600), session_of(node, 1_000)
    for client in (shorter, longer):
        client.disconnect()
    yield
    yield
    assert not is_there(node, shorter.client_id, 1)
    assert is_there(node, longer.client_id, 1)


def test_a_session_expires_after_the_restart_that_it_survived(node: Node) -> None:
    topic = unique("t")
    session_of(node, 1_000, topic).disconnect()
    begun = node.now
    node.settle()
    node.restart("kill", later_s=997)
    publisher = node.net.connect(V5)
    wait_until(
        lambda: publisher.publish(topic, b"x", qos=1) == NO_MATCHING_SUBSCRIBERS, "the session is gone", timeout_s=15
    )
    assert 999 < node.now - begun < 1_015


@over_a_restart("kill", later_s=400)
def test_a_session_that_was_connected_at_the_kill_gets_its_whole_time(node: Node) -> Halves:
    topic = unique("t")
    client = session_of(node, 430, topic)
    yield
    assert is_there(node, client.client_id, 430)


@over_a_restart("kill", later_s=4_000 * DAY_S)
def test_the_longest_expiry_interval_means_never_also_after_a_kill(node: Node) -> Halves:
    client = session_of(node, 0xFFFFFFFF)
    client.disconnect()
    yield
    assert is_there(node, client.client_id, 0xFFFFFFFF)


@over_a_restart("kill", later_s=400)
def test_the_interval_that_disconnect_gave_counts_after_a_kill(node: Node) -> Halves:
    shortened, lengthened = session_of(node, 1_000), session_of(node, 60)
    shortened.disconnect(properties=lasting(60))
    lengthened.disconnect(properties=lasting(1_000))
    yield
    assert not is_there(node, shortened.client_id, 1)
    assert is_there(node, lengthened.client_id, 1)


@over_restarts(("kill", 2_000), ("stop", 2_000), persistent_client_expiration="1h")
def test_persistent_client_expiration_counts_while_the_broker_is_down(node: Node) -> Halves:
    client, returning = (node.net.resume(V3, unique()) for _ in range(2))
    client.disconnect()
    returning.disconnect()
    yield
    again = node.net.resume(V3, returning.client_id)
    assert session_present(again)
    again.disconnect()
    yield
    assert not session_present(node.net.resume(V3, client.client_id))
    assert session_present(node.net.resume(V3, returning.client_id))


@over_a_restart("kill", later_s=4_000 * DAY_S)
def test_without_persistent_client_expiration_sessions_of_version_3_stay(node: Node) -> Halves:
    client = node.net.resume(V3, unique())
    client.disconnect()
    yield
    assert session_present(node.net.resume(V3, client.client_id))


@over_a_restart("kill", later_s=400)
def test_an_expired_session_takes_its_messages_along(node: Node) -> Halves:
    topic = unique("t")
    client = session_of(node, 60, topic)
    client.disconnect()
    other = session_of(node, 1_000, topic)
    other.disconnect()
    node.net.connect(V5).publish(topic, b"x", qos=1)
    yield
    again = node.net.resume(V5, client.client_id)
    assert not session_present(again)
    again.subscribe(topic, qos=1)
    again.barrier()
    assert node.net.resume(V5, other.client_id).receive().payload == b"x"


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "on the way"])
@over_a_restart("kill", later_s=400)
def test_messages_from_before_and_after_a_restart_have_their_own_time_left(node: Node, waits: bool) -> Halves:
    topic = unique("t")
    client = session_of(node, DAY_S, topic)
    if waits:
        client.disconnect()
    begun = node.now
    node.net.connect(V5).publish(topic, b"before", qos=1, properties=expiring(5_000))
    yield
    begun_later = node.now
    node.net.connect(V5).publish(topic, b"after", qos=1, properties=expiring(5_000))
    client = node.net.resume(V5, client.client_id)
    check_left(node, client.receive(), 5_000, begun)
    check_left(node, client.receive(), 5_000, begun_later)
