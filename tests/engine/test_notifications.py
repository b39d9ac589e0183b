"""Notifications: one test for each hook that only tells."""

import time
from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol.answers import Publish
from protocol.requests import Will
from protocol.wire import Property, Version
from strogoff._engine import HOOKS, MessageEvent, SessionEvent, SubscriptionEvent

ASKS = {"on_auth", "on_deliver", "on_unsubscribe"}
TELLS = [hook for hook in HOOKS if not hook.startswith("auth_") and hook not in ASKS]


@pytest.fixture
def telling(run: Callable[..., Running]) -> Running:
    """An engine that tells everything."""
    return run(hooks=TELLS)


def test_a_client_comes_and_goes(telling: Running) -> None:
    client = telling.connect(Version.V5, "c")
    for kind in ("on_register", "on_client_wakeup"):
        event = telling.event(SessionEvent)
        assert (event.kind, event.client_id, event.mountpoint, event.username) == (kind, "c", "", None)
        assert event.peer is not None
        assert (event.peer[0], event.protocol_version, event.reason) == ("127.0.0.1", 5, "")
    client.disconnect()
    gone = telling.event(SessionEvent)
    assert (gone.kind, gone.client_id, gone.reason) == ("on_client_gone", "c", "client disconnected")
    assert telling.unread_events() == []


@pytest.mark.parametrize("version", [Version.V3_1_1, Version.V5])
def test_a_session_that_stays_goes_offline_and_wakes_up(telling: Running, version: Version) -> None:
    telling.resume(version, "c").close()
    offline = telling.event(SessionEvent, kind="on_client_offline")
    assert (offline.client_id, offline.reason) == ("c", "connection lost")
    telling.resume(version, "c")
    telling.event(SessionEvent, kind="on_client_wakeup")
    telling.event(SessionEvent, kind="on_client_wakeup")


def test_a_session_expires(telling: Running) -> None:
    telling.connect(Version.V5, "c", properties=[(Property.SESSION_EXPIRY_INTERVAL, 1)]).close()
    expired = telling.event(SessionEvent, kind="on_session_expired")
    assert (expired.client_id, expired.peer) == ("c", None)
    assert telling.engine.session("c") is None


def test_a_takeover_says_so(telling: Running) -> None:
    old = telling.resume(Version.V5, "c")
    new = telling.resume(Version.V5, "c")
    old.expect_refusal(0x8E)
    new.barrier()
    kinds = [(event.kind, event.client_id) for event in telling.unread_events() if isinstance(event, SessionEvent)]
    assert kinds.count(("on_register", "c")) == 2
    assert ("on_client_gone", "c") not in kinds


def test_subscriptions_are_told_with_what_was_granted(telling: Running) -> None:
    client = telling.connect(Version.V5, "c")
    client.subscribe("a", "a/b/c/d/e/f/g/h/i/j/k", qos=1)
    made = telling.event(SubscriptionEvent)
    assert (made.kind, made.client_id, made.username) == ("on_subscribe", "c", None)
    assert made.filters == [("a", 1), ("a/b/c/d/e/f/g/h/i/j/k", 0x8F)]
    client.unsubscribe("a", "never")
    removed = telling.event(SubscriptionEvent, kind="on_topic_unsubscribed")
    assert removed.filters == [("a", 0)]


def test_subscriptions_that_end_with_their_session_are_told(telling: Running) -> None:
    client = telling.connect(Version.V5, "c")
    client.subscribe("a")
    client.disconnect()
    ended = telling.event(SubscriptionEvent, kind="on_topic_unsubscribed")
    assert (ended.client_id, ended.filters) == ("c", [("a", 0)])


def test_a_message_is_told_when_it_comes(telling: Running) -> None:
    client = telling.connect(Version.V5, "c")
    client.subscribe("t", qos=1)
    client.publish("t", b"x", qos=2, retain=True, properties=[(Property.USER_PROPERTY, ("k", "v"))])
    client.receive()
    came = telling.event(MessageEvent, kind="on_publish")
    assert (came.client_id, came.topic, came.payload, came.qos, came.retain) == ("c", "t", b"x", 2, True)
    assert (came.subscriber, came.reason, came.properties) == ("", "", [("user_property", ("k", "v"))])


def test_a_will_is_told_as_a_publish_of_its_client(telling: Running) -> None:
    telling.connect(Version.V5, "c", will=Will("w", b"gone")).reset()
    event = telling.event(MessageEvent, kind="on_publish")
    assert (event.client_id, event.topic, event.payload) == ("c", "w", b"gone")


def test_a_message_for_somebody_who_is_away_is_told(telling: Running) -> None:
    away = telling.resume(Version.V5, "away")
    away.subscribe("t", qos=1)
    away.disconnect()
    publisher = telling.connect(Version.V5)
    publisher.publish("t", b"0", qos=0)
    publisher.publish("t", b"1", qos=1)
    stored = telling.event(MessageEvent, kind="on_offline_message")
    assert (stored.client_id, stored.payload, stored.qos) == ("away", b"1", 1)
    eventually(lambda: stored_messages(telling) == 1, "one message is stored")


def stored_messages(running: Running) -> int:
    session = running.engine.session("away")
    return 0 if session is None else session.offline_messages


def test_a_message_that_a_full_queue_drops_is_told(run: Callable[..., Running]) -> None:
    running = run({"max_offline_messages": 0}, hooks=["on_message_drop"])
    away = running.resume(Version.V5, "away")
    away.subscribe("t", qos=1)
    away.disconnect()
    running.connect(Version.V5).publish("t", b"x", qos=1)
    dropped = running.event(MessageEvent)
    assert (dropped.kind, dropped.client_id, dropped.payload) == ("on_message_drop", "away", b"x")
    assert dropped.reason == "queue_full"


def test_a_message_that_expires_in_a_queue_is_told(run: Callable[..., Running]) -> None:
    running = run(hooks=["on_message_drop"])
    busy = running.connect(Version.V5, "busy", properties=[(Property.RECEIVE_MAXIMUM, 1)])
    busy.subscribe("t", qos=1)
    publisher = running.connect(Version.V5)
    publisher.publish("t", b"first", qos=1)
    publisher.publish("t", b"short-lived", qos=1, properties=[(Property.MESSAGE_EXPIRY_INTERVAL, 1)])
    first = busy.expect(Publish)
    time.sleep(1.05)  # what is tested is that this time passes
    busy.complete(first)
    dropped = running.event(MessageEvent)
    assert (dropped.kind, dropped.client_id, dropped.payload) == ("on_message_drop", "busy", b"short-lived")
    assert dropped.reason == "expired"
    busy.barrier()


def test_a_message_too_large_for_its_receiver_is_told(telling: Running) -> None:
    small = telling.connect(Version.V5, "small", properties=[(Property.MAXIMUM_PACKET_SIZE, 30)])
    small.subscribe("t", qos=1)
    telling.connect(Version.V5).publish("t", bytes(100), qos=1)
    dropped = telling.event(MessageEvent, kind="on_message_drop")
    assert (dropped.client_id, dropped.reason) == ("small", "max_packet_size_exceeded")
    small.barrier()
