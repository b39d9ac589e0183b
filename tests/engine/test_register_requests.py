"""`auth_on_register`: what Python is told of a CONNECT, and what each verdict makes of it."""

from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol import requests
from protocol.answers import Connack
from protocol.client import Client
from protocol.requests import Will
from protocol.wire import Property, Version
from strogoff._engine import PublishRequest, RegisterRequest, Verdict


@pytest.fixture
def closed(run: Callable[..., Running]) -> Running:
    """An engine that asks about every CONNECT."""
    return run({"allow_anonymous": False}, hooks=["auth_on_register"])


def ask(running: Running, version: Version, client_id: str = "c", **connect: object) -> tuple[Client, RegisterRequest]:
    client = running.open(version)
    client.send(requests.connect(version, client_id, **connect))  # type: ignore[arg-type]
    return client, running.event(RegisterRequest)


def test_a_request_tells_all_that_the_client_said(closed: Running) -> None:
    _client, request = ask(
        closed,
        Version.V5,
        "who",
        username="user",
        password=b"\x00secret",
        keep_alive=77,
        clean_start=False,
        properties=[(Property.SESSION_EXPIRY_INTERVAL, 9), (Property.USER_PROPERTY, ("k", "v"))],
    )
    assert (request.client_id, request.username, request.password) == ("who", "user", b"\x00secret")
    assert (request.keep_alive, request.clean_start, request.protocol_version) == (77, False, 5)
    assert (request.listener, request.mountpoint, request.peer[0]) == ("default", "", "127.0.0.1")
    assert request.properties == [("session_expiry_interval", 9), ("user_property", ("k", "v"))]


@pytest.mark.parametrize("version", Version)
def test_an_allowed_client_is_in(closed: Running, version: Version) -> None:
    client, request = ask(closed, version)
    assert (request.username, request.password, request.protocol_version) == (None, None, version)
    assert closed.engine.session("c") is None, "it is not in before the verdict"
    assert closed.engine.resolve(request.ticket, Verdict.allow())
    assert client.expect(Connack).code == 0
    client.barrier()


def test_packets_behind_the_connect_wait_for_the_verdict(closed: Running) -> None:
    client = closed.open(Version.V3_1_1)
    eager = requests.connect(Version.V3_1_1, "eager") + requests.publish(Version.V3_1_1, "t", qos=1, packet_id=1)
    client.flood(eager + requests.pingreq())
    request = closed.event(RegisterRequest)
    closed.engine.resolve(request.ticket, Verdict.allow())
    client.referee.sent(0x32, b"\x00\x01t\x00\x01")
    assert client.expect(Connack).code == 0
    eventually(lambda: closed.metric("mqtt_publish_received") == 1, "the publish is processed")


@pytest.mark.parametrize(
    ("version", "reason", "code"),
    [(Version.V5, 0x87, 0x87), (Version.V5, 0x8A, 0x8A), (Version.V3_1_1, 0x87, 5), (Version.V3_1_1, 0x86, 4)],
)
def test_a_denied_client_is_told_in_the_words_of_its_version(
    closed: Running, version: Version, reason: int, code: int
) -> None:
    client, request = ask(closed, version)
    assert closed.engine.resolve(request.ticket, Verdict.deny(reason, "not you"))
    connack = client.expect(Connack)
    assert connack.code == code
    assert connack.value(Property.REASON_STRING) == ("not you" if version is Version.V5 else None)
    client.expect_closed()


def test_a_code_that_does_not_belong_in_a_connack_is_not_sent(closed: Running) -> None:
    client, request = ask(closed, Version.V5)
    closed.engine.resolve(request.ticket, Verdict.deny(0x93))
    assert client.expect(Connack).code == 0x80


def test_a_verdict_may_rename_the_client_and_move_it(closed: Running) -> None:
    client, request = ask(closed, Version.V5, "plain", username="u")
    verdict = Verdict.allow(client_id="renamed", mountpoint="tenant", username="someone")
    closed.engine.resolve(request.ticket, verdict)
    assert client.expect(Connack).code == 0
    session = closed.engine.session("renamed", "tenant")
    assert session is not None
    assert (session.client_id, session.mountpoint, session.username) == ("renamed", "tenant", "someone")
    assert closed.engine.session("plain") is None


def test_anonymous_access_is_not_asked_for(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": True}, hooks=["auth_on_register"])
    running.connect(Version.V5).barrier()
    assert running.unread_events() == []


def test_without_the_hook_nobody_gets_in_where_anonymous_access_is_off(run: Callable[..., Running]) -> None:
    running = run({"allow_anonymous": False})
    assert running.open(Version.V5).handshake().code == 0x87


@pytest.mark.parametrize("allowed", [True, False])
def test_a_will_is_asked_for_before_the_client_is_in(run: Callable[..., Running], allowed: bool) -> None:
    running = run(hooks=["auth_on_publish"])
    client = running.open(Version.V5)
    will = Will("will/topic", b"gone", qos=1, retain=True)
    client.send(requests.connect(Version.V5, "c", will=will))
    request = running.event(PublishRequest)
    assert (request.is_will, request.topic, request.payload) == (True, "will/topic", b"gone")
    assert (request.qos, request.retain, request.client_id) == (1, True, "c")
    running.engine.resolve(request.ticket, Verdict.allow() if allowed else Verdict.deny())
    assert client.expect(Connack).code == (0 if allowed else 0x87)


def test_a_client_that_connects_twice_while_python_thinks_is_in_once(closed: Running) -> None:
    first, asked_first = ask(closed, Version.V5, "same")
    second, asked_second = ask(closed, Version.V5, "same")
    closed.engine.resolve(asked_second.ticket, Verdict.allow())
    assert second.expect(Connack).code == 0
    closed.engine.resolve(asked_first.ticket, Verdict.allow())
    assert first.expect(Connack).code == 0
    second.expect_refusal(0x8E)
    first.barrier()
    assert closed.engine.session_count() == (1, 0)
