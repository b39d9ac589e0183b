"""Retained messages as Python sees them."""

import time

import pytest

from engine.running import Running, eventually
from protocol.wire import Property, Version
from strogoff._engine import Message


@pytest.fixture
def keeping(running: Running) -> Running:
    """An engine with a few retained messages."""
    messages = [Message(topic, topic.encode(), retain=True) for topic in ("a", "a/b", "a/b/c", "b", "$SYS/x")]
    running.engine.publish([*messages, Message("a", b"tenant", retain=True, mountpoint="tenant")])
    return running


@pytest.mark.parametrize(
    ("topic_filter", "topics"),
    [
        ("#", ["a", "a/b", "a/b/c", "b"]),
        ("+", ["a", "b"]),
        ("a/#", ["a", "a/b", "a/b/c"]),
        ("+/b", ["a/b"]),
        ("$SYS/#", ["$SYS/x"]),
        ("nothing", []),
    ],
)
def test_a_filter_finds_what_it_matches(keeping: Running, topic_filter: str, topics: list[str]) -> None:
    assert sorted(each.topic for each in keeping.engine.retained(topic_filter)) == topics


def test_a_query_has_a_limit_and_a_mountpoint(keeping: Running) -> None:
    assert len(keeping.engine.retained(limit=2)) == 2
    assert keeping.engine.retained(limit=0) == []
    (message,) = keeping.engine.retained(mountpoint="tenant")
    assert (message.topic, message.payload, message.mountpoint) == ("a", b"tenant", "tenant")


def test_a_message_keeps_its_properties(running: Running) -> None:
    client = running.connect(Version.V5)
    client.publish("p", b"x", qos=1, retain=True, properties=[(Property.CONTENT_TYPE, "text")])
    (message,) = running.engine.retained("p")
    assert (message.qos, message.properties, message.expires_at) == (1, [("content_type", "text")], None)


def test_deleting_removes_one_message(keeping: Running) -> None:
    assert keeping.engine.delete_retained("a/b")
    assert not keeping.engine.delete_retained("a/b")
    assert not keeping.engine.delete_retained("b", mountpoint="tenant")
    assert sorted(each.topic for each in keeping.engine.retained()) == ["a", "a/b/c", "b"]
    assert keeping.metric("retain_messages") == 5


def test_a_query_with_no_filter_is_an_error_that_names_it(running: Running) -> None:
    with pytest.raises(ValueError, match="topic_filter"):
        running.engine.retained("a/#/b")


def test_what_has_expired_is_not_found_and_swept_away(running: Running) -> None:
    now = time.time()
    running.engine.publish([Message("short", retain=True, payload=b"x", message_expiry=1)])
    running.engine.publish([Message("long", retain=True, payload=b"x", message_expiry=100)])
    by_topic = {each.topic: each.expires_at for each in running.engine.retained()}
    assert by_topic["short"] == pytest.approx(now + 1, abs=1.0)
    assert running.engine.delete_expired_retained() == 0
    eventually(lambda: [each.topic for each in running.engine.retained()] == ["long"], "the short one expires")
    assert running.metric("retain_messages") == 2
    assert running.engine.delete_expired_retained() == 1
    assert running.metric("retain_messages") == 1


def test_beyond_the_limit_no_new_topic_is_retained(running: Running) -> None:
    running.engine.configure({"max_retained_messages": 1})
    running.engine.publish([Message("a", b"1", retain=True), Message("b", b"1", retain=True)])
    running.engine.publish([Message("a", b"2", retain=True)])
    assert [(each.topic, each.payload) for each in running.engine.retained()] == [("a", b"2")]
