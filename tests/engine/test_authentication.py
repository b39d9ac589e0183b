"""Enhanced authentication (MQTT 5 §4.12) on the wire, with Python as the method."""

from collections.abc import Callable

import pytest

from engine.running import Running
from protocol import requests
from protocol.answers import Auth, Connack
from protocol.client import Client
from protocol.wire import Property, PropertyValue, Version
from strogoff._engine import AuthRequest, Verdict


@pytest.fixture
def asking(run: Callable[..., Running]) -> Running:
    """An engine with somebody who handles authentication methods, and who would also answer other questions."""
    return run({"allow_anonymous": False}, hooks=["on_auth", "auth_on_register"])


def begin(running: Running, data: bytes | None = b"first") -> tuple[Client, AuthRequest]:
    client = running.open(Version.V5)
    properties: list[tuple[Property, PropertyValue]] = [(Property.AUTHENTICATION_METHOD, "M")]
    if data is not None:
        properties.append((Property.AUTHENTICATION_DATA, data))
    client.referee.agree(properties)
    client.send(requests.connect(Version.V5, "c", username="u", properties=properties))
    return client, running.event(AuthRequest)


def go_on(running: Running, client: Client, data: bytes, code: int = 0x18, method: str = "M") -> AuthRequest:
    client.send(auth(data, code, method))
    return running.event(AuthRequest)


def auth(data: bytes, code: int = 0x18, method: str = "M") -> bytes:
    return requests.auth(code, [(Property.AUTHENTICATION_METHOD, method), (Property.AUTHENTICATION_DATA, data)])


def accepted(running: Running) -> Client:
    client, request = begin(running)
    running.engine.resolve(request.ticket, Verdict.allow())
    assert client.expect(Connack).code == 0
    return client


def test_a_method_with_one_step_lets_the_client_in_with_its_last_word(asking: Running) -> None:
    client, request = begin(asking)
    assert (request.client_id, request.username, request.mountpoint) == ("c", "u", "")
    assert (request.method, request.data, request.reason_code) == ("M", b"first", 0)
    asking.engine.resolve(request.ticket, Verdict.allow(data=b"welcome"))
    connack = client.expect(Connack)
    assert connack.code == 0
    assert connack.value(Property.AUTHENTICATION_METHOD) == "M"
    assert connack.value(Property.AUTHENTICATION_DATA) == b"welcome"
    client.barrier()
    assert asking.unread_events() == [], "auth_on_register is not asked: the method has decided"


def test_a_method_with_several_rounds(asking: Running) -> None:
    client, request = begin(asking, None)
    assert request.data is None
    for number in range(3):
        asking.engine.resolve(request.ticket, Verdict.continue_authentication(b"challenge %d" % number))
        challenge = client.expect(Auth)
        assert challenge.code == 0x18
        assert challenge.value(Property.AUTHENTICATION_METHOD) == "M"
        assert challenge.value(Property.AUTHENTICATION_DATA) == b"challenge %d" % number
        request = go_on(asking, client, b"response %d" % number)
        assert (request.data, request.reason_code) == (b"response %d" % number, 0x18)
    asking.engine.resolve(request.ticket, Verdict.allow())
    assert client.expect(Connack).code == 0


@pytest.mark.parametrize("rounds", [0, 1])
def test_a_failed_authentication_is_refused_with_its_reason(asking: Running, rounds: int) -> None:
    client, request = begin(asking)
    for _ in range(rounds):
        asking.engine.resolve(request.ticket, Verdict.continue_authentication())
        client.expect(Auth)
        request = go_on(asking, client, b"wrong")
    asking.engine.resolve(request.ticket, Verdict.deny(0x8C, "no such method"))
    connack = client.expect(Connack)
    assert (connack.code, connack.value(Property.REASON_STRING)) == (0x8C, "no such method")
    client.expect_closed()
    assert asking.engine.session_count() == (0, 0)


def test_a_verdict_gives_the_client_the_name_that_the_method_found_out(asking: Running) -> None:
    client, request = begin(asking)
    asking.engine.resolve(request.ticket, Verdict.allow(username="real", mountpoint="tenant"))
    assert client.expect(Connack).code == 0
    session = asking.engine.session("c", "tenant")
    assert session is not None
    assert session.username == "real"


def test_a_method_that_nobody_handles_is_refused(running: Running) -> None:
    client = running.open(Version.V5)
    assert client.handshake(properties=[(Property.AUTHENTICATION_METHOD, "M")]).code == 0x8C
    client.expect_closed()


def test_another_method_in_the_middle_is_refused(asking: Running) -> None:
    client, request = begin(asking)
    asking.engine.resolve(request.ticket, Verdict.continue_authentication(b"?"))
    client.expect(Auth)
    client.send(auth(b"!", method="N"))
    client.expect_connect_refusal(0x82, 0x87, 0x8C)


def test_only_auth_may_come_in_the_middle(asking: Running) -> None:
    client, request = begin(asking)
    asking.engine.resolve(request.ticket, Verdict.continue_authentication(b"?"))
    client.expect(Auth)
    client.send(requests.publish(Version.V5, "t"))
    client.expect_closed()
    assert asking.engine.session_count() == (0, 0)


def test_a_client_that_does_not_go_on_is_closed(run: Callable[..., Running]) -> None:
    running = run({"mqtt_connect_timeout": 300}, hooks=["on_auth"])
    client, request = begin(running)
    running.engine.resolve(request.ticket, Verdict.continue_authentication(b"?"))
    client.expect(Auth)
    client.expect_closed()


def test_a_connected_client_authenticates_anew(asking: Running) -> None:
    client = accepted(asking)
    request = go_on(asking, client, b"again", 0x19)
    assert (request.data, request.reason_code, request.method) == (b"again", 0x19, "M")
    asking.engine.resolve(request.ticket, Verdict.continue_authentication(b"prove it"))
    assert client.expect(Auth).value(Property.AUTHENTICATION_DATA) == b"prove it"
    request = go_on(asking, client, b"proof")
    asking.engine.resolve(request.ticket, Verdict.allow(data=b"fine"))
    answer = client.expect(Auth)
    assert (answer.code, answer.value(Property.AUTHENTICATION_DATA)) == (0, b"fine")
    client.barrier()


def test_a_failed_re_authentication_ends_the_connection(asking: Running) -> None:
    client = accepted(asking)
    request = go_on(asking, client, b"again", 0x19)
    asking.engine.resolve(request.ticket, Verdict.deny(0x87))
    client.expect_refusal(0x87)


def test_a_re_authentication_without_an_answer_ends_the_connection(run: Callable[..., Running]) -> None:
    running = run({"plugins.hook_timeout": 200}, hooks=["on_auth"])
    client = accepted(running)
    go_on(running, client, b"again", 0x19)
    client.expect_refusal(0x80, 0x83, 0x87)
