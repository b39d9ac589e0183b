"""Enhanced authentication where Python knows the method: challenge and response, failure, authenticating again."""

from collections.abc import Iterator

import pytest

from protocol import requests
from protocol.answers import Auth, Connack, Disconnect, Publish
from protocol.client import Client, Network, unique
from protocol.marks import V5, in_v5
from protocol.scripted_engine import Request, scripted_engine
from protocol.wire import Properties, Property
from strogoff._engine import AuthRequest, Verdict

METHOD = "challenge"
NAME = Property.AUTHENTICATION_METHOD
DATA = Property.AUTHENTICATION_DATA
CHALLENGE, ANSWER, FAREWELL = b"what is it?", b"\x00it\xff", b"so be it"


def verdict(request: Request) -> Verdict:
    """The method of these tests: a first word is answered with a challenge, the right answer with a farewell."""
    assert isinstance(request, AuthRequest)
    if request.method != METHOD:
        return Verdict.deny(0x8C)
    if request.data == ANSWER and request.reason_code == 0x18:
        return Verdict.allow(data=FAREWELL)
    if request.data == b"hello":
        return Verdict.continue_authentication(CHALLENGE)
    return Verdict.deny(0x87, "the answer is wrong, " + "very " * 50 + "wrong")


@pytest.fixture
def net() -> Iterator[Network]:
    with scripted_engine(["on_auth"], verdict) as network:
        yield network


def method(data: bytes | None) -> Properties:
    return [(NAME, METHOD)] if data is None else [(NAME, METHOD), (DATA, data)]


def challenged(net: Network, *more: tuple[Property, int]) -> Client:
    """A client whose CONNECT was answered with the challenge."""
    client = net.open(V5)
    properties = [*method(b"hello"), *more]
    client.referee.agree(properties)
    client.send(requests.connect(V5, unique(), properties=properties))
    auth = client.expect(Auth)
    assert (auth.code, auth.value(NAME), auth.value(DATA)) == (0x18, METHOD, CHALLENGE)
    return client


def accepted(net: Network) -> Client:
    client = challenged(net)
    client.send(requests.auth(0x18, method(ANSWER)))
    assert client.expect(Connack).code == 0
    return client


@in_v5("MQTT-4.12.0-2", "MQTT-4.12.0-3", "MQTT-4.12.0-5", "MQTT-3.2.0-1", "MQTT-3.15.2-1", "MQTT-3.15.1-1")
def test_the_right_answer_to_a_challenge_is_accepted(net: Network) -> None:
    client = challenged(net)
    client.send(requests.auth(0x18, method(ANSWER)))
    connack = client.expect(Connack)
    assert (connack.code, connack.value(NAME), connack.value(DATA)) == (0, METHOD, FAREWELL)
    client.barrier()


@in_v5("MQTT-4.12.0-4", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
def test_a_wrong_answer_to_a_challenge_is_refused(net: Network) -> None:
    client = challenged(net)
    client.send(requests.auth(0x18, method(b"wrong")))
    assert client.expect(Connack).code == 0x87
    client.expect_closed()


@in_v5("MQTT-4.12.0-1")
def test_a_method_that_nobody_knows_is_refused(net: Network) -> None:
    client = net.open(V5)
    assert client.handshake(properties=[(NAME, "unheard-of")]).code == 0x8C
    client.expect_closed()


@in_v5("MQTT-4.12.0-6")
def test_a_client_without_a_method_is_not_asked(net: Network) -> None:
    connack = net.open(V5).handshake()
    assert (connack.code, connack.value(NAME), connack.value(DATA)) == (0, None, None)


@in_v5("MQTT-4.12.0-5", "MQTT-4.13.1-1")
def test_another_method_in_auth_than_in_connect_is_refused(net: Network) -> None:
    client = challenged(net)
    client.send(requests.auth(0x18, [(NAME, "another"), (DATA, ANSWER)]))
    client.expect_connect_refusal(0x82, 0x8C)


@in_v5("MQTT-3.1.2-30", "MQTT-3.2.0-1")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(requests.pingreq(), id="PINGREQ"),
        pytest.param(requests.publish(V5, "t", b"x"), id="PUBLISH"),
        pytest.param(requests.subscribe(V5, 1, [requests.Filter("t")]), id="SUBSCRIBE"),
        pytest.param(requests.connect(V5, "again"), id="CONNECT"),
        pytest.param(requests.auth(0x19, method(ANSWER)), id="AUTH that begins again"),
    ],
)
def test_nothing_but_auth_may_follow_a_challenge(net: Network, data: bytes) -> None:
    client = challenged(net)
    client.send(data)
    client.expect_connect_refusal(0x82, silence_allowed=True)


@in_v5("MQTT-3.1.2-30")
def test_a_client_may_disconnect_instead_of_answering(net: Network) -> None:
    client = challenged(net)
    client.send_disconnect()
    client.expect_closed()


@in_v5("MQTT-4.12.1-1", "MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-1")
def test_a_client_may_authenticate_again(net: Network) -> None:
    topic = unique("t")
    client = accepted(net)
    client.subscribe(topic)
    client.send(requests.auth(0x19, method(b"hello")))
    challenge = client.expect(Auth)
    assert (challenge.code, challenge.value(NAME), challenge.value(DATA)) == (0x18, METHOD, CHALLENGE)
    # Messages go on meanwhile.
    net.connect(V5).publish(topic, b"x", qos=1)
    assert client.expect(Publish).payload == b"x"
    client.send(requests.auth(0x18, method(ANSWER)))
    success = client.expect(Auth)
    assert (success.code, success.value(NAME), success.value(DATA)) == (0x00, METHOD, FAREWELL)
    client.barrier()


@in_v5("MQTT-4.12.1-2", "MQTT-4.13.2-1", "MQTT-3.14.2-1")
@pytest.mark.parametrize("step", ["first word", "answer"])
def test_a_client_that_fails_to_authenticate_again_is_disconnected(net: Network, step: str) -> None:
    client = accepted(net)
    if step == "answer":
        client.send(requests.auth(0x19, method(b"hello")))
        client.expect(Auth)
        client.send(requests.auth(0x18, method(b"wrong")))
    else:
        client.send(requests.auth(0x19, method(b"wrong")))
    assert client.expect(Disconnect).code == 0x87
    client.expect_closed()


@in_v5("MQTT-4.12.1-1", "MQTT-4.12.0-5", "MQTT-4.12.1-2", "MQTT-4.13.1-1")
def test_authenticating_again_by_another_method_is_refused(net: Network) -> None:
    client = accepted(net)
    client.send(requests.auth(0x19, [(NAME, "another")]))
    client.expect_refusal(0x82, 0x8C)


@in_v5("MQTT-4.13.1-1")
def test_an_answer_that_nobody_asked_for_is_a_protocol_error(net: Network) -> None:
    client = accepted(net)
    client.send(requests.auth(0x18, method(ANSWER)))
    client.expect_refusal(0x82)


@in_v5("MQTT-3.15.2-2", "MQTT-3.15.2-3", "MQTT-3.2.2-19", "MQTT-3.2.2-20", "MQTT-3.1.2-24")
def test_an_auth_carries_no_explanation_that_the_client_cannot_take(net: Network) -> None:
    # The referee measures each packet; the refusal has a reason string far beyond the limit.
    client = challenged(net, (Property.MAXIMUM_PACKET_SIZE, 60))
    client.send(requests.auth(0x18, method(b"wrong")))
    connack = client.expect(Connack)
    assert (connack.code, connack.value(Property.REASON_STRING)) == (0x87, None)
    client.expect_closed()
