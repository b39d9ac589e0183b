"""The event queue: its descriptor, batches, and what happens when nobody takes anything out."""

from collections.abc import Callable

import pytest

from engine.running import Running, eventually, is_readable
from protocol import requests
from protocol.answers import Disconnect
from protocol.client import unique
from protocol.wire import Version
from strogoff._engine import HOOKS, Engine, LogEvent, MessageEvent, PublishRequest, RegisterRequest, SessionEvent


def test_the_descriptor_is_readable_while_events_wait_and_quiet_afterwards(run: Callable[..., Running]) -> None:
    running = run(hooks=["on_publish"])
    engine = running.engine
    assert not is_readable(engine.event_fd())
    client = running.connect(Version.V5)
    for number in range(5):
        client.publish("t", b"%d" % number)
    client.barrier()
    assert is_readable(engine.event_fd(), 5.0)
    first = engine.drain(2)
    assert is_readable(engine.event_fd()), "three wait"
    rest = engine.drain(100)
    payloads = [event.payload for event in first + rest if isinstance(event, MessageEvent)]
    assert payloads == [b"0", b"1", b"2", b"3", b"4"]
    assert not is_readable(engine.event_fd())
    assert engine.drain() == []


def test_a_hook_that_nobody_registered_gives_no_event(running: Running) -> None:
    client = running.connect(Version.V5)
    client.subscribe("t")
    client.publish("t", qos=0)
    client.receive()
    client.disconnect()
    assert running.unread_events() == []


def test_hooks_are_set_as_a_whole(run: Callable[..., Running]) -> None:
    running = run(hooks=["on_publish", "on_register"])
    running.engine.set_hooks(["on_register"])
    client = running.connect(Version.V5)
    client.publish("t")
    client.barrier()
    running.event(SessionEvent, kind="on_register")
    assert running.unread_events() == []


def test_every_hook_is_accepted_by_its_name_and_no_other_word(running: Running) -> None:
    assert len(set(HOOKS)) == len(HOOKS)
    running.engine.set_hooks(HOOKS)
    with pytest.raises(ValueError, match="on_nothing"):
        running.engine.set_hooks(["on_publish", "on_nothing"])


def test_a_full_queue_drops_notifications_and_counts_them(run: Callable[..., Running]) -> None:
    # Half of the room is kept for questions and deliveries.
    running = run({"event_queue_limit": 6}, hooks=["on_publish"])
    client = running.connect(Version.V5)
    for _ in range(10):
        client.publish("t", qos=1)
    assert running.metric("events_waiting") == 3
    eventually(lambda: running.metric("events_dropped") == 7, "seven events are dropped")
    assert len(running.engine.drain()) == 3


def test_the_bytes_of_messages_that_wait_for_python_are_limited(run: Callable[..., Running]) -> None:
    running = run({"event_queue_bytes": 100_000}, hooks=["on_publish"])
    client = running.connect(Version.V5)
    for _ in range(20):
        client.publish("t", bytes(10_000), qos=1)
    waiting = running.engine.drain()
    assert 1 <= len(waiting) <= 10
    eventually(lambda: running.metric("events_dropped") == 20 - len(waiting), "the others are dropped")
    client.publish("t", b"again", qos=1)
    assert running.event(MessageEvent).payload == b"again"


def test_a_question_that_a_full_queue_cannot_take_is_a_refusal(run: Callable[..., Running]) -> None:
    running = run({"event_queue_limit": 1}, hooks=["on_register", "auth_on_publish"])
    client = running.connect(Version.V5)
    assert client.publish("t", qos=1) >= 0x80
    assert isinstance(running.engine.drain()[0], SessionEvent)
    assert running.metric("hooks_waiting") == 0


def test_what_a_client_did_wrong_is_logged_once_with_peer_and_cause(running: Running) -> None:
    client = running.connect(Version.V5, "clumsy")
    client.send(b"\x36\x05\x00\x01a\x00\x01")
    assert client.expect(Disconnect).code == 0x81
    log = running.event(LogEvent)
    assert log.level in {"debug", "info", "warning"}
    assert "QoS" in " ".join([log.message, *log.fields.values()])
    assert log.fields["client_id"] == "clumsy"
    assert log.fields["peer"].startswith("127.0.0.1")
    assert not any(isinstance(event, LogEvent) for event in running.engine.drain())


def test_an_engine_is_collected_without_being_stopped() -> None:
    engine = Engine()
    engine.start()
    engine.open_listener("default", "tcp", "127.0.0.1", 0)
    del engine
    Engine().stop()


def test_requests_have_tickets_of_their_own(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register", "auth_on_publish"])
    for _ in range(3):
        running.open(Version.V5).send(requests.connect(Version.V5, unique()))
    tickets = {running.event(RegisterRequest).ticket for _ in range(3)}
    assert len(tickets) == 3
    assert not any(isinstance(event, PublishRequest) for event in running.unread_events())
