"""`on_deliver` and `on_unsubscribe`: what Python may change of messages to a client, and of an UNSUBSCRIBE."""

from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.client import Client
from protocol.wire import Version
from strogoff._engine import DeliverRequest, SubscriptionEvent, UnsubscribeRequest, Verdict


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine that asks about messages on their way to clients."""
    return run(hooks=["on_deliver"])


def receiver(running: Running, version: Version = Version.V5) -> Client:
    client = running.connect(version, "receiver")
    client.subscribe("#", qos=1)
    return client


def test_a_request_tells_who_gets_what(asking: Running) -> None:
    receiver(asking)
    asking.connect(Version.V5, "pub").publish("a", b"x", qos=1)
    request = asking.event(DeliverRequest)
    assert (request.client_id, request.listener, request.protocol_version) == ("receiver", "default", 5)
    (message,) = request.messages
    assert (message.topic, message.payload, message.qos, message.retain) == ("a", b"x", 1, False)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_waits_and_goes_out_changed(asking: Running, qos: int) -> None:
    client, publisher = receiver(asking), asking.connect(Version.V5)
    publisher.publish("a", b"x", qos=qos)
    request = asking.event(DeliverRequest)
    client.barrier()
    changed = ("b/c", b"changed", [("user_property", ("by", "plugin"))])
    assert asking.engine.resolve(request.ticket, request.accept([changed]))
    message = client.receive()
    assert (message.topic, message.payload, message.qos) == ("b/c", b"changed", qos)


def test_messages_keep_their_order_and_are_asked_about_together(asking: Running) -> None:
    client, publisher = receiver(asking), asking.connect(Version.V5)
    publisher.publish("t", b"first")
    request = asking.event(DeliverRequest)
    for number in range(100):
        publisher.publish("t", b"%d" % number)
    publisher.barrier()
    counts = []
    while True:
        counts.append(len(request.messages))
        asking.engine.resolve(request.ticket, Verdict.allow())
        if sum(counts) == 101:
            break
        request = asking.event(DeliverRequest)
    assert counts == [1, 64, 36]
    assert client.receive_payloads(101) == [b"first", *(b"%d" % number for number in range(100))]


def test_one_receiver_waits_and_the_others_do_not(asking: Running) -> None:
    client, other = receiver(asking), asking.connect(Version.V5, "other")
    other.subscribe("t")
    asking.connect(Version.V5).publish("t", b"x")
    asked = {}
    for _ in range(2):
        request = asking.event(DeliverRequest)
        asked[request.client_id] = request
    asking.engine.resolve(asked["other"].ticket, Verdict.allow())
    assert other.receive().payload == b"x"
    client.barrier()


@pytest.mark.parametrize("verdict", [Verdict.allow(), Verdict.deny()])
def test_a_message_cannot_be_refused(asking: Running, verdict: Verdict) -> None:
    client = receiver(asking)
    asking.connect(Version.V5).publish("t", b"x")
    asking.engine.resolve(asking.event(DeliverRequest).ticket, verdict)
    assert client.receive().payload == b"x"


def test_without_an_answer_in_time_the_messages_go_out_as_they_are(run: Callable[..., Running]) -> None:
    running = run({"plugins.hook_timeout": 50}, hooks=["on_deliver"])
    client = receiver(running)
    running.connect(Version.V5).publish("t", b"x", qos=1)
    request = running.event(DeliverRequest)
    assert client.receive().payload == b"x"
    assert not running.engine.resolve(request.ticket, Verdict.allow())
    eventually(lambda: running.metric("hook_timeout") == 1, "the timeout is counted")


def test_a_session_keeps_what_its_client_was_not_given(asking: Running) -> None:
    client = asking.resume(Version.V5, "receiver")
    client.subscribe("#", qos=1)
    publisher = asking.connect(Version.V5)
    publisher.publish("t", b"x", qos=1)
    first = asking.event(DeliverRequest)
    client.close()
    eventually(lambda: asking.engine.session_count() == (1, 1), "the receiver is offline")
    asking.engine.resolve(first.ticket, first.accept([("too late", None, None)]))
    client = asking.resume(Version.V5, "receiver")
    again = asking.event(DeliverRequest)
    asking.engine.resolve(again.ticket, again.accept([("kept", None, None)]))
    assert client.receive().topic == "kept"


def test_a_retained_message_is_asked_about_too(asking: Running) -> None:
    asking.connect(Version.V5).publish("t", b"x", retain=True)
    client = receiver(asking)
    request = asking.event(DeliverRequest)
    assert [message.retain for message in request.messages] == [True]
    asking.engine.resolve(request.ticket, request.accept([(None, b"y", None)]))
    assert client.receive().payload == b"y"


def test_when_nobody_listens_any_more_messages_go_out_at_once(asking: Running) -> None:
    client = receiver(asking)
    asking.engine.set_hooks([])
    asking.connect(Version.V5).publish("t", b"x")
    assert client.receive().payload == b"x"


def test_an_answer_has_a_change_for_each_message(asking: Running) -> None:
    receiver(asking)
    asking.connect(Version.V5).publish("t", b"x")
    request = asking.event(DeliverRequest)
    with pytest.raises(ValueError, match="changes: expected 1, one for each message"):
        request.accept([])
    with pytest.raises(ValueError, match="topic"):
        request.accept([("a/#", None, None)])


def test_an_unsubscribe_may_be_changed(run: Callable[..., Running]) -> None:
    running = run(hooks=["on_unsubscribe", "on_topic_unsubscribed"])
    client = running.connect(Version.V5, "c")
    client.subscribe("real/a", "b")
    client.send(_unsubscribe(client, "a", "b"))
    request = running.event(UnsubscribeRequest)
    assert (request.client_id, request.filters) == ("c", ["a", "b"])
    running.engine.resolve(request.ticket, request.accept(filters=["real/a", "never"]))
    removed = running.event(SubscriptionEvent, kind="on_topic_unsubscribed")
    assert removed.filters == [("real/a", 0)]
    assert [subscription.topic for subscription in running.engine.subscriptions("c")] == ["b"]


def test_an_unsubscribe_cannot_be_refused(run: Callable[..., Running]) -> None:
    running = run(hooks=["on_unsubscribe"])
    client = running.connect(Version.V5, "c")
    client.subscribe("a")
    client.send(_unsubscribe(client, "a"))
    running.engine.resolve(running.event(UnsubscribeRequest).ticket, Verdict.deny())
    eventually(lambda: running.engine.subscriptions("c") == [], "the subscription is gone")


def test_a_client_may_be_unsubscribed_from_outside(running: Running) -> None:
    client = running.connect(Version.V5, "c")
    client.subscribe("a", "$share/g/b")
    assert running.engine.unsubscribe_client("c", "$share/g/b")
    assert not running.engine.unsubscribe_client("c", "$share/g/b")
    assert not running.engine.unsubscribe_client("nobody", "a")
    publisher = running.connect(Version.V5)
    assert publisher.publish("b", qos=1) == 0x10
    assert publisher.publish("a", qos=1) == 0
    assert client.receive().topic == "a"


def _unsubscribe(client: Client, *filters: str) -> bytes:
    return requests.unsubscribe(client.version, client.next_packet_id(), filters)
