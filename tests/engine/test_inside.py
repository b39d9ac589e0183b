"""Publishing and subscribing from inside."""

from collections.abc import Callable

import pytest

from engine.running import Running
from protocol.wire import Property, Version
from strogoff._engine import Message, MessageEvent

Properties = list[tuple[str, int | str | bytes | tuple[str, str]]]


def test_messages_from_inside_reach_clients_in_order(running: Running) -> None:
    client = running.connect(Version.V5)
    client.subscribe("a/#", qos=2)
    properties: Properties = [("content_type", "text"), ("user_property", ("k", "v"))]
    messages = [Message("a/0", b"0"), Message("a/1", b"1", 1, properties=properties), Message("nobody", b"2", 2)]
    assert running.engine.publish(messages) == [1, 1, 0]
    first, second = client.receive(), client.receive()
    assert (first.topic, first.payload, first.qos, first.properties) == ("a/0", b"0", 0, ())
    assert (second.topic, second.payload, second.qos) == ("a/1", b"1", 1)
    assert second.properties == ((Property.CONTENT_TYPE, "text"), (Property.USER_PROPERTY, ("k", "v")))


def test_topics_below_dollar_are_for_the_inside(running: Running) -> None:
    client = running.connect(Version.V3_1_1)
    client.subscribe("$SYS/#", "#")
    assert running.engine.publish([Message("$SYS/x", b"from inside")]) == [1]
    assert client.receive().payload == b"from inside"
    client.barrier()


def test_a_retained_message_from_inside_is_kept_and_expires(running: Running) -> None:
    running.engine.publish([Message("r", b"kept", retain=True, message_expiry=3_600)])
    (kept,) = running.engine.retained()
    assert (kept.topic, kept.payload, kept.qos, kept.mountpoint) == ("r", b"kept", 0, "")
    assert kept.expires_at is not None
    client = running.connect(Version.V5)
    client.subscribe("r")
    got = client.receive()
    assert got.retain
    expiry = got.value(Property.MESSAGE_EXPIRY_INTERVAL)
    assert isinstance(expiry, int)
    assert 3_590 <= expiry <= 3_600


@pytest.mark.parametrize(
    ("arguments", "options"),
    [(("a/+",), {}), (("",), {}), (("a", b"", 3), {}), (("a",), {"properties": [("no_such", 1)]})],
)
def test_a_message_that_cannot_be_published_is_not_made(arguments: tuple[str, ...], options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"topic|qos|no_such"):
        Message(*arguments, **options)  # type: ignore[arg-type]


def test_an_internal_subscriber_gets_messages_as_events(running: Running) -> None:
    engine = running.engine
    engine.subscribe("bridge", "a/#", 1)
    engine.subscribe("other", "a/b", 0)
    client = running.connect(Version.V5)
    client.publish("a/b", b"x", qos=2, retain=True, properties=[(Property.USER_PROPERTY, ("k", "v"))])
    for subscriber, qos in (("bridge", 1), ("other", 0)):
        event = running.event(MessageEvent, subscriber=subscriber)
        assert (event.kind, event.topic, event.payload, event.qos) == ("delivery", "a/b", b"x", qos)
        assert event.properties == [("user_property", ("k", "v"))]
    assert engine.unsubscribe("other", "a/b")
    assert not engine.unsubscribe("other", "a/b")
    assert not engine.unsubscribe("nobody", "a/b")
    client.publish("a/b", b"y", qos=1)
    running.event(MessageEvent, subscriber="bridge", payload=b"y")
    assert running.unread_events() == []


def test_internal_subscribers_are_no_sessions(running: Running) -> None:
    running.engine.subscribe("bridge", "#", 1)
    assert running.engine.sessions() == []
    assert running.engine.session_count() == (0, 0)
    assert running.engine.session("bridge") is None
    assert running.metric("router_subscriptions") == 1


def test_an_internal_subscription_has_a_mountpoint_and_may_be_shared(running: Running) -> None:
    engine = running.engine
    engine.subscribe("a", "t", mountpoint="tenant")
    engine.publish([Message("t", b"elsewhere"), Message("t", b"here", mountpoint="tenant")])
    assert running.event(MessageEvent).payload == b"here"
    engine.subscribe("one", "$share/g/s")
    engine.subscribe("two", "$share/g/s")
    engine.publish([Message("s", b"%d" % number) for number in range(10)])
    shared = [running.event(MessageEvent).payload for _ in range(10)]
    assert sorted(shared) == [b"%d" % number for number in range(10)]
    assert running.unread_events() == []


@pytest.mark.parametrize("topic_filter", ["", "a/#/b", "a+", "$share//x", "$share/g"])
def test_an_internal_subscription_to_no_filter_is_an_error_that_names_it(running: Running, topic_filter: str) -> None:
    with pytest.raises(ValueError, match="topic_filter"):
        running.engine.subscribe("bridge", topic_filter)
    with pytest.raises(ValueError, match="qos"):
        running.engine.subscribe("bridge", "a", 3)


def test_a_delivery_that_the_event_queue_cannot_take_is_counted(run: Callable[..., Running]) -> None:
    running = run({"event_queue_limit": 2})
    running.engine.subscribe("bridge", "t", 1)
    before = running.metric("queue_message_drop")
    running.engine.publish([Message("t", b"%d" % number) for number in range(5)])
    assert running.metric("queue_message_drop") - before == 3
    assert [running.event(MessageEvent).payload for _ in range(2)] == [b"0", b"1"]


def test_a_new_internal_subscription_gets_no_retained_messages(running: Running) -> None:
    running.engine.publish([Message("r", b"kept", retain=True)])
    running.engine.subscribe("bridge", "r")
    assert running.unread_events() == []
