"""Wills over a restart: at their time, once, and not when their client has come back."""

import pytest

from durability.node import Node, break_off, session_present
from durability.restarts import Halves, over_a_restart, over_restarts
from protocol.answers import Publish
from protocol.client import DEADLINE_S, Client, unique
from protocol.marks import V5, both_versions
from protocol.requests import Will
from protocol.wire import Properties, Property, Version

DAY_S = 86_400


class Watch:
    """A durable subscriber of one topic, which gets what was published there whenever that was."""

    def __init__(self, node: Node, topic: str) -> None:
        self.node = node
        self._client_id = unique()
        client = self._connect()
        client.subscribe(topic, qos=2)
        client.disconnect()

    def saw(self, within_s: float = DEADLINE_S) -> Publish:
        """The next message, which comes within this time."""
        client = self._return()
        message = client.receive(within_s)
        client.disconnect()
        return message

    def saw_nothing(self) -> None:
        client = self._return()
        client.expect_nothing()
        client.disconnect()

    def _return(self) -> Client:
        client = self._connect()
        assert session_present(client)
        return client

    def _connect(self) -> Client:
        lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, DAY_S)]
        return self.node.net.connect(V5, self._client_id, clean_start=False, properties=lasting)


def with_will(
    node: Node, topic: str, *, delay_s: int = 0, expiry_s: int = DAY_S, retain: bool = False, more: Properties = ()
) -> Client:
    delay: Properties = [(Property.WILL_DELAY_INTERVAL, delay_s)] if delay_s else []
    will = Will(topic, b"gone", qos=1, retain=retain, properties=[*delay, *more])
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, expiry_s)]
    return node.net.connect(V5, unique(), clean_start=False, will=will, properties=lasting)


def come_back(node: Node, client: Client) -> Client:
    """Connect again, without a will."""
    again = node.net.resume(V5, client.client_id)
    assert session_present(again)
    return again


def test_a_delayed_will_is_published_at_its_time_after_a_restart(node: Node) -> None:
    topic = unique("will")
    watch = Watch(node, topic)
    client = with_will(node, topic, delay_s=1_000)
    break_off(client)
    begun = node.now
    node.restart("stop", later_s=500)
    watch.saw_nothing()
    node.settle()
    node.restart("kill", later_s=494)
    assert watch.saw(within_s=20).payload == b"gone"
    assert 999 <= node.now - begun <= 1_015


@over_restarts(("kill", 500), ("kill", 600))
def test_a_will_whose_time_came_while_the_broker_was_down_is_published_at_the_start_and_once(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    break_off(with_will(node, topic, delay_s=400))
    watch.saw_nothing()
    yield
    assert watch.saw().payload == b"gone"
    yield
    watch.saw_nothing()


@over_restarts(("kill", 500), ("kill", 600))
def test_a_client_that_comes_back_after_a_restart_cancels_its_will(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    client, other = (with_will(node, topic, delay_s=1_000) for _ in range(2))
    break_off(client)
    break_off(other)
    yield
    come_back(node, client).disconnect()
    watch.saw_nothing()
    yield
    assert watch.saw().payload == b"gone"
    watch.saw_nothing()


@both_versions
@over_restarts(("kill", 500), ("kill", 600))
def test_the_will_of_a_client_that_was_connected_at_the_kill_is_published_once(node: Node, version: Version) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, DAY_S)] if version is V5 else ()
    node.net.connect(version, unique(), clean_start=False, will=Will(topic, b"gone", qos=1), properties=lasting)
    yield
    assert watch.saw().payload == b"gone"
    yield
    watch.saw_nothing()


@over_restarts(("kill", 500), ("kill", 600))
def test_a_delayed_will_of_a_client_that_was_connected_at_the_kill_may_be_cancelled(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    client, _ = (with_will(node, topic, delay_s=580) for _ in range(2))
    yield
    come_back(node, client).disconnect()
    watch.saw_nothing()
    yield
    assert watch.saw().payload == b"gone"
    watch.saw_nothing()


@over_a_restart("kill", later_s=500)
def test_a_will_that_was_cancelled_before_a_kill_stays_cancelled(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    client = with_will(node, topic, delay_s=400)
    break_off(client)
    come_back(node, client).disconnect()
    yield
    watch.saw_nothing()


@over_a_restart("kill", later_s=500)
def test_a_client_that_said_goodbye_has_no_will_after_a_kill(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    with_will(node, topic).disconnect()
    yield
    watch.saw_nothing()


@over_a_restart("kill", later_s=500)
def test_a_will_is_published_before_its_time_when_the_session_ends(node: Node) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    client = with_will(node, topic, delay_s=1_000, expiry_s=60)
    break_off(client)
    yield
    assert watch.saw().payload == b"gone"
    assert not session_present(node.net.resume(V5, client.client_id))


@pytest.mark.parametrize("is_down", [True, False], ids=["time came while down", "connected at the kill"])
@over_a_restart("kill", later_s=500)
def test_the_properties_of_a_will_survive_a_kill(node: Node, is_down: bool) -> Halves:
    topic = unique("will")
    watch = Watch(node, topic)
    more: Properties = [
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "answers/here"),
        (Property.CORRELATION_DATA, b"\x00\xff"),
        (Property.USER_PROPERTY, ("color", "red")),
    ]
    client = with_will(node, topic, delay_s=400 if is_down else 0, more=more)
    if is_down:
        break_off(client)
    yield
    message = watch.saw()
    assert (message.payload, message.qos) == (b"gone", 1)
    assert sorted(map(str, message.properties)) == sorted(map(str, more))


@over_a_restart("kill", later_s=500)
def test_a_retained_will_is_retained_after_a_kill(node: Node) -> Halves:
    topic = unique("will")
    break_off(with_will(node, topic, delay_s=400, retain=True))
    yield
    late = node.net.connect(V5)
    late.subscribe(topic, qos=1)
    message = late.receive()
    assert (message.payload, message.retain) == (b"gone", True)
