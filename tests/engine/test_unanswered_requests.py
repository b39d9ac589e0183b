"""Requests that Python answers too late, twice, or not at all; clients that do not wait; too many questions."""

import time
from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.answers import Connack, Puback, Suback
from protocol.client import DEADLINE_S
from protocol.requests import Filter
from protocol.wire import Version
from strogoff._engine import PublishRequest, RegisterRequest, SubscribeRequest, Verdict

AUTH_HOOKS = ["auth_on_register", "auth_on_publish", "auth_on_subscribe"]


@pytest.fixture
def hasty(run: Callable[..., Running]) -> Running:
    """An engine that waits a tenth of a second for verdicts."""
    return run({"plugins.hook_timeout": 100}, hooks=AUTH_HOOKS)


def test_a_connect_without_a_verdict_is_refused(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False, "plugins.hook_timeout": 100}, hooks=AUTH_HOOKS)
    client = running.open(Version.V5)
    before = time.monotonic()
    assert client.handshake().code >= 0x80
    assert 0.1 <= time.monotonic() - before < DEADLINE_S
    client.expect_closed()
    late = running.event(RegisterRequest)
    assert not running.engine.resolve(late.ticket, Verdict.allow())
    assert running.engine.session_count() == (0, 0)


def test_a_publish_without_a_verdict_is_refused_and_the_client_goes_on(hasty: Running) -> None:
    receiver, client = hasty.connect(Version.V5), hasty.connect(Version.V5)
    hasty.engine.set_hooks([])
    receiver.subscribe("#")
    hasty.engine.set_hooks(AUTH_HOOKS)
    assert client.publish("t", qos=1) >= 0x80
    late = hasty.event(PublishRequest)
    assert not hasty.engine.resolve(late.ticket, Verdict.allow())
    client.barrier()
    receiver.barrier()


def test_a_subscribe_without_a_verdict_is_refused(hasty: Running) -> None:
    client = hasty.connect(Version.V5)
    assert client.subscribe("a", "b").codes[0] >= 0x80
    assert not hasty.engine.resolve(hasty.event(SubscribeRequest).ticket, Verdict.allow())
    assert hasty.engine.subscriptions(client.client_id) == []


def test_a_ticket_is_good_once(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    client = running.connect(Version.V5)
    client.send(requests.publish(Version.V5, "t", qos=1, packet_id=1))
    ticket = running.event(PublishRequest).ticket
    assert running.engine.resolve(ticket, Verdict.allow())
    assert not running.engine.resolve(ticket, Verdict.deny())
    assert client.expect(Puback).code == 0x10
    client.barrier()


def test_a_ticket_that_was_never_given_is_nobodys(running: Running) -> None:
    assert not running.engine.resolve(0, Verdict.allow())
    assert not running.engine.resolve((1 << 64) - 1, Verdict.allow())


def test_what_a_client_sent_before_it_left_still_gets_its_verdict(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    receiver, client = running.connect(Version.V5), running.connect(Version.V5, "leaver")
    receiver.subscribe("#")
    last_words = requests.publish(Version.V5, "t", b"last words") + requests.disconnect(Version.V5)
    client.send(last_words)
    client.close()
    request = running.event(PublishRequest)
    assert running.engine.resolve(request.ticket, Verdict.allow())
    assert receiver.receive().payload == b"last words"
    eventually(lambda: running.engine.session("leaver") is None, "the session ended")
    assert running.metric("hooks_waiting") == 0


def test_a_client_that_left_before_its_connect_was_decided_leaves_no_session(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False}, hooks=["auth_on_register"])
    client = running.open(Version.V5)
    client.send(requests.connect(Version.V5, "leaver"))
    request = running.event(RegisterRequest)
    client.close()
    running.engine.resolve(request.ticket, Verdict.allow())
    eventually(lambda: running.engine.listeners()[0].active_connections == 0, "the connection is gone")
    assert running.engine.session_count() == (0, 0)
    assert running.metric("hooks_waiting") == 0


def test_a_session_taken_over_while_it_waits_does_not_publish(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    receiver, old = running.connect(Version.V5), running.connect(Version.V5, "same")
    receiver.subscribe("#")
    old.send(requests.publish(Version.V5, "t", qos=1, packet_id=1))
    ticket = running.event(PublishRequest).ticket
    new = running.connect(Version.V5, "same")
    old.expect_refusal(0x8E)
    running.engine.resolve(ticket, Verdict.allow())
    new.barrier()
    receiver.barrier()


def test_more_questions_than_allowed_are_refusals_at_once(run: Callable[..., Running]) -> None:
    running = run({"max_pending_hooks": 1}, hooks=AUTH_HOOKS)
    first, second = running.connect(Version.V5), running.connect(Version.V5)
    first.send(requests.publish(Version.V5, "t", qos=1, packet_id=1))
    ticket = running.event(PublishRequest).ticket
    assert second.publish("t", qos=1) >= 0x80
    assert second.subscribe("t").codes[0] >= 0x80
    running.engine.configure({"allow_anonymous": False})
    third = running.open(Version.V5)
    third.send(requests.connect(Version.V5, "third"))
    assert third.expect(Connack).code == 0x89
    eventually(lambda: running.metric("hook_overload") == 3, "each is counted")
    running.engine.resolve(ticket, Verdict.allow())
    assert first.expect(Puback).code == 0x10
    second.send(requests.subscribe(Version.V5, 1, [Filter("t")]))
    running.engine.resolve(running.event(SubscribeRequest).ticket, Verdict.allow())
    assert second.expect(Suback).codes == (0,)
