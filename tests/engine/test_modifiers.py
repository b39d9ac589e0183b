"""What a verdict on a CONNECT or a PUBLISH may change beyond who the client is: limits, session, waiting."""

import time
from collections.abc import Callable

import pytest

from engine.running import Running
from protocol import requests
from protocol.answers import Connack, Puback
from protocol.client import Client
from protocol.wire import Property, Version
from strogoff._engine import AuthRequest, PublishRequest, RegisterRequest, SubscribeRequest, UnsubscribeRequest, Verdict


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine that asks about every CONNECT."""
    return run({"allow_anonymous": False}, hooks=["auth_on_register"])


def connect(running: Running, version: Version = Version.V5, client_id: str = "c", **modifiers: object) -> Client:
    """A client that was let in with modifiers; its CONNACK is in its referee."""
    client = running.open(version)
    client.client_id = client_id
    client.send(requests.connect(version, client_id, clean_start=True))
    request = running.event(RegisterRequest)
    running.engine.resolve(request.ticket, RegisterRequest.accept(**modifiers))  # type: ignore[arg-type]
    assert client.expect(Connack).code == 0
    return client


def connack(running: Running, **modifiers: object) -> Connack:
    client = running.open(Version.V5)
    client.send(requests.connect(Version.V5, "c"))
    request = running.event(RegisterRequest)
    running.engine.resolve(request.ticket, RegisterRequest.accept(**modifiers))  # type: ignore[arg-type]
    return client.expect(Connack)


def test_limits_are_told_in_the_connack(asking: Running) -> None:
    told = connack(
        asking,
        max_message_size=5_000,
        receive_max_broker=7,
        topic_alias_max_client=3,
        session_expiry_interval=60,
        user_properties=[("region", "north"), ("region", "east")],
        response_information="answers/c",
    )
    properties = dict(told.properties)
    assert properties[Property.MAXIMUM_PACKET_SIZE] == 5_000
    assert properties[Property.RECEIVE_MAXIMUM] == 7
    assert properties[Property.TOPIC_ALIAS_MAXIMUM] == 3
    assert properties[Property.SESSION_EXPIRY_INTERVAL] == 60
    assert properties[Property.RESPONSE_INFORMATION] == "answers/c"
    texts = [value for name, value in told.properties if name == Property.USER_PROPERTY]
    assert texts == [("region", "north"), ("region", "east")]


def test_a_larger_packet_than_the_verdict_allows_ends_the_connection(asking: Running) -> None:
    client = connect(asking, Version.V3_1_1, max_message_size=100)
    client.publish("t", b"x" * 50, qos=1)
    client.send(requests.publish(client.version, "t", b"x" * 200))
    client.expect_closed()


def test_a_window_of_one_gives_one_message_at_a_time(asking: Running) -> None:
    client = connect(asking, Version.V3_1_1, max_inflight_messages=1)
    client.subscribe("t", qos=1)
    for number in range(3):
        client.publish("t", b"%d" % number, qos=1)
    info = asking.engine.session("c")
    assert info is not None
    assert (info.waiting_acks, info.online_messages) == (1, 2)
    assert client.receive_payloads(3) == [b"0", b"1", b"2"]


def test_a_session_may_be_made_to_last(asking: Running) -> None:
    client = connect(asking, session_expiry_interval=100, max_offline_messages=2)
    client.subscribe("t", qos=1)
    client.close()
    publisher = connect(asking, client_id="pub")
    for number in range(4):
        publisher.publish("t", b"%d" % number, qos=1)
    info = asking.engine.session("c")
    assert info is not None
    assert (info.session_expiry_interval, info.offline_messages) == (100, 2)


def test_a_session_may_be_made_clean(asking: Running) -> None:
    client = asking.open(Version.V3_1_1)
    client.send(requests.connect(Version.V3_1_1, "c", clean_start=False))
    asking.engine.resolve(asking.event(RegisterRequest).ticket, RegisterRequest.accept(clean_start=True))
    assert client.expect(Connack).code == 0
    info = asking.engine.session("c")
    assert info is not None
    assert info.clean_session


def test_a_connection_may_be_given_an_end(asking: Running) -> None:
    client = connect(asking, Version.V3_1_1, max_connection_lifetime=1)
    client.expect_closed()


def test_subscriptions_may_be_limited(asking: Running) -> None:
    client = connect(asking, max_subscriptions_per_client=1)
    assert list(client.subscribe("a", "b").codes) == [0, 0x97]


def test_a_publisher_may_be_slowed_down(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    client = running.connect(Version.V5)
    client.send(requests.publish(client.version, "t", b"1"))
    begin = time.monotonic()
    running.engine.resolve(running.event(PublishRequest).ticket, PublishRequest.accept(throttle=300))
    client.barrier()
    assert time.monotonic() - begin >= 0.29


@pytest.mark.parametrize(
    ("modifiers", "sentence"),
    [
        ({"max_inflight_messages": 65_536}, "max_inflight_messages: expected a whole number from 0 to 65535"),
        ({"queue_type": "heap"}, "queue_type: expected one of fifo lifo"),
        ({"client_id": ""}, "client_id: must not be empty"),
        ({"username": "a\0b"}, "username"),
        ({"user_properties": [("k", "v" * 70_000)]}, "user_properties: longer than 65535 bytes"),
    ],
)
def test_a_modifier_that_cannot_be_is_named(modifiers: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        RegisterRequest.accept(**modifiers)  # type: ignore[arg-type]


def test_a_throttle_has_an_end() -> None:
    with pytest.raises(ValueError, match="throttle: expected at most 3600000 ms"):
        PublishRequest.accept(throttle=3_600_001)


def test_requests_can_be_made_to_test_what_answers_them() -> None:
    register = RegisterRequest(client_id="c", username="u", password=b"p", peer=("10.0.0.1", 5))
    assert (register.client_id, register.username, register.password, register.peer) == (
        "c",
        "u",
        b"p",
        ("10.0.0.1", 5),
    )
    publish = PublishRequest(topic="a/b", payload=b"x", properties=[("content_type", "text")])
    assert (publish.topic, publish.payload, publish.properties) == ("a/b", b"x", [("content_type", "text")])
    assert SubscribeRequest(filters=[("a", 1)]).filters == [("a", 1)]
    assert UnsubscribeRequest(filters=["a"]).filters == ["a"]
    assert AuthRequest(method="m", data=b"d").data == b"d"
    with pytest.raises(ValueError, match="protocol_version: expected 3, 4 or 5"):
        PublishRequest(protocol_version=6)
    with pytest.raises(ValueError, match="filters: expected 1, one for each in the request, not 2"):
        SubscribeRequest(filters=[("a", 1)]).accept(filters=[("a", 1), ("b", 1)])


def test_verdicts_can_be_looked_at() -> None:
    assert Verdict.allow().is_allowed
    refused = Verdict.deny(0x97, "enough")
    assert (refused.is_allowed, refused.reason_code, repr(refused)) == (False, 0x97, "Verdict(deny 0x97)")
    assert SubscribeRequest(filters=[("a", 1)]).accept(filters=[("b", 0)]).filters == [("b", 0)]


def test_many_requests_are_answered_at_once(run: Callable[..., Running]) -> None:
    running = run(hooks=["auth_on_publish"])
    clients = [running.connect(Version.V5) for _ in range(20)]
    for client in clients:
        client.send(requests.publish(client.version, "t", b"x", qos=1, packet_id=client.next_packet_id()))
    tickets = [running.event(PublishRequest).ticket for _ in clients]
    assert running.engine.resolve_all([(ticket, Verdict.allow()) for ticket in [*tickets, 12345]]) == 20
    assert [client.expect(Puback).code for client in clients] == [0x10] * 20
