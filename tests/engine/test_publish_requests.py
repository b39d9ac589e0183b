"""`auth_on_publish`: what Python is told of a PUBLISH, and what each verdict makes of it."""

from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.answers import Puback, Pubrec
from protocol.client import Client
from protocol.wire import Property, Version
from strogoff._engine import PublishRequest, Verdict


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine that asks about every PUBLISH."""
    return run(hooks=["auth_on_publish"])


def listener(running: Running, version: Version = Version.V5) -> Client:
    client = running.connect(version)
    client.subscribe("#", qos=2)
    return client


def publish(running: Running, client: Client, **options: object) -> PublishRequest:
    client.send(requests.publish(client.version, "a/b", b"payload", **options))  # type: ignore[arg-type]
    return running.event(PublishRequest)


def test_a_request_tells_all_of_the_message(asking: Running) -> None:
    client = asking.connect(Version.V5, "pub")
    properties = [(Property.CONTENT_TYPE, "text"), (Property.USER_PROPERTY, ("k", "v"))]
    request = publish(asking, client, qos=1, packet_id=5, retain=True, properties=properties)
    assert (request.client_id, request.mountpoint, request.username) == ("pub", "", None)
    assert (request.topic, request.payload, request.qos, request.retain) == ("a/b", b"payload", 1, True)
    assert (request.is_will, request.protocol_version) == (False, 5)
    assert request.properties == [("content_type", "text"), ("user_property", ("k", "v"))]


def test_a_message_goes_on_when_it_is_allowed_and_not_before(asking: Running) -> None:
    receiver, client = listener(asking), asking.connect(Version.V5)
    request = publish(asking, client, qos=1, packet_id=5)
    receiver.barrier()
    assert client.poll(Puback) is None
    assert asking.engine.resolve(request.ticket, Verdict.allow())
    assert client.expect(Puback).code == 0
    assert receiver.receive().payload == b"payload"


def test_one_client_waits_and_the_others_go_on(asking: Running) -> None:
    waiting, other = asking.connect(Version.V5), asking.connect(Version.V5)
    request = publish(asking, waiting, qos=1, packet_id=1)
    for _ in range(3):
        other.barrier()
    asking.engine.resolve(request.ticket, Verdict.allow())
    waiting.expect(Puback)


def test_what_a_client_sends_while_it_waits_comes_after_in_order(asking: Running) -> None:
    receiver, client = listener(asking), asking.connect(Version.V3_1_1)
    for number in range(4):
        client.send(requests.publish(client.version, "t", b"%d" % number))
    for _ in range(4):
        request = asking.event(PublishRequest)
        assert asking.metric("hooks_waiting") == 1, "one question of one client at a time"
        asking.engine.resolve(request.ticket, Verdict.allow())
    assert receiver.receive_payloads(4) == [b"0", b"1", b"2", b"3"]


def test_a_verdict_changes_the_message(asking: Running) -> None:
    receiver, client = listener(asking), asking.connect(Version.V5)
    request = publish(asking, client, qos=2, packet_id=7)
    verdict = Verdict.allow(
        topic="new/topic",
        payload=b"new",
        qos=1,
        retain=True,
        properties=[("user_property", ("by", "plugin")), ("content_type", "new")],
    )
    asking.engine.resolve(request.ticket, verdict)
    assert client.expect(Pubrec).packet_id == 7, "the answer has the QoS that the client used"
    got = receiver.receive()
    assert (got.topic, got.payload, got.qos) == ("new/topic", b"new", 1)
    assert got.properties == ((Property.USER_PROPERTY, ("by", "plugin")), (Property.CONTENT_TYPE, "new"))
    assert [each.topic for each in asking.engine.retained()] == ["new/topic"]


def test_a_verdict_may_move_a_message_to_another_mountpoint(asking: Running) -> None:
    client = asking.connect(Version.V5)
    request = publish(asking, client, qos=1, packet_id=1, retain=True)
    asking.engine.resolve(request.ticket, Verdict.allow(mountpoint="tenant"))
    client.expect(Puback)
    assert [each.topic for each in asking.engine.retained(mountpoint="tenant")] == ["a/b"]
    assert asking.engine.retained() == []


@pytest.mark.parametrize("version", [Version.V3_1, Version.V5])
def test_a_denied_message_reaches_nobody_and_the_client_goes_on(asking: Running, version: Version) -> None:
    receiver, client = listener(asking), asking.connect(version)
    request = publish(asking, client, qos=1, packet_id=5)
    asking.engine.resolve(request.ticket, Verdict.deny(0x97, "too much"))
    puback = client.expect(Puback)
    assert puback.code == (0x97 if version is Version.V5 else 0)
    assert puback.value(Property.REASON_STRING) == ("too much" if version is Version.V5 else None)
    client.barrier()
    receiver.barrier()


def test_a_denied_message_costs_a_3_1_1_client_its_connection(asking: Running) -> None:
    receiver, client = listener(asking), asking.connect(Version.V3_1_1)
    request = publish(asking, client, qos=1, packet_id=5)
    asking.engine.resolve(request.ticket, Verdict.deny())
    client.expect_closed()
    receiver.barrier()


def test_a_code_that_does_not_belong_in_a_puback_is_not_sent(asking: Running) -> None:
    client = asking.connect(Version.V5)
    request = publish(asking, client, qos=1, packet_id=5)
    asking.engine.resolve(request.ticket, Verdict.deny(0x8A))
    assert client.expect(Puback).code == 0x80


@pytest.mark.parametrize(
    "wrong",
    [
        {"topic": "a/+"},
        {"topic": ""},
        {"qos": 3},
        {"properties": [("no_such_property", 1)]},
        {"properties": [("content_type", 1)]},
    ],
)
def test_a_verdict_that_no_message_can_have_is_not_made(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Verdict.allow(**wrong)  # type: ignore[arg-type]


def test_a_refusal_has_the_code_of_a_refusal() -> None:
    with pytest.raises(ValueError, match="reason_code"):
        Verdict.deny(0x10)


def test_the_rate_of_messages_is_limited_when_python_decides_too(run: Callable[..., Running]) -> None:
    running = run({"max_message_rate": 2}, hooks=["auth_on_publish"])
    client = running.connect(Version.V5)
    for number in range(1, 5):
        client.send(requests.publish(client.version, "t", qos=1, packet_id=number))
    for _ in range(4):
        running.engine.resolve(running.event(PublishRequest).ticket, Verdict.allow())
    for _ in range(4):
        client.expect(Puback)
    eventually(lambda: running.metric("message_rate_throttled") > 0, "the client had to wait")
