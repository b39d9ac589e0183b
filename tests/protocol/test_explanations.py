"""Reason strings: sent to who can take them, left out where they would make a packet too large or are not wanted."""

from collections.abc import Iterator

import pytest

from protocol.answers import Connack, Puback, Pubrec, Suback
from protocol.client import Client, Network, unique
from protocol.marks import V3, V5, in_v3, in_v5
from protocol.requests import Filter, publish, subscribe
from protocol.scripted_engine import Request, scripted_engine
from protocol.wire import Properties, Property, Version
from strogoff._engine import PublishRequest, RegisterRequest, SubscribeRequest, Verdict

REASON = "there is much to say about this, " + "and more " * 20
SMALL: Properties = [(Property.MAXIMUM_PACKET_SIZE, 60)]
QUIET: Properties = [(Property.REQUEST_PROBLEM_INFORMATION, 0)]


def verdict(request: Request) -> Verdict:
    """Nobody named `stranger` may connect; nobody may publish to or subscribe below `secret/`."""
    refused = (
        (isinstance(request, RegisterRequest) and request.username == "stranger")
        or (isinstance(request, PublishRequest) and request.topic.startswith("secret/"))
        or (isinstance(request, SubscribeRequest) and any(each[0].startswith("secret/") for each in request.filters))
    )
    return Verdict.deny(0x87, REASON) if refused else Verdict.allow()


@pytest.fixture
def net() -> Iterator[Network]:
    with scripted_engine(["auth_on_publish", "auth_on_subscribe"], verdict) as network:
        yield network


def refused_publish(client: Client, qos: int) -> Puback | Pubrec:
    client.send(publish(client.version, "secret/x", b"x", qos=qos, packet_id=9))
    return client.expect(Puback) if qos == 1 else client.expect(Pubrec)


@in_v5("MQTT-3.4.2-1", "MQTT-3.5.2-1", "MQTT-3.3.4-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_publish_is_explained(net: Network, qos: int) -> None:
    answer = refused_publish(net.connect(V5), qos)
    assert (answer.code, answer.value(Property.REASON_STRING)) == (0x87, REASON)


@in_v5("MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3", "MQTT-3.1.2-24", "MQTT-3.1.2-29")
@pytest.mark.parametrize("properties", [SMALL, QUIET], ids=["too large", "not wanted"])
@pytest.mark.parametrize("qos", [1, 2])
def test_a_refused_publish_is_not_explained_where_that_is_of_no_use(
    net: Network, qos: int, properties: Properties
) -> None:
    client = net.connect(V5, properties=properties)
    answer = refused_publish(client, qos)
    assert (answer.code, answer.properties) == (0x87, ())
    client.barrier()


@in_v5("MQTT-3.9.2-1", "MQTT-3.9.2-2", "MQTT-3.1.2-24", "MQTT-3.1.2-29", "MQTT-3.8.4-7")
@pytest.mark.parametrize("properties", [SMALL, QUIET], ids=["too large", "not wanted"])
def test_a_refused_subscribe_is_not_explained_where_that_is_of_no_use(net: Network, properties: Properties) -> None:
    client = net.connect(V5, properties=properties)
    suback = client.subscribe("secret/#", "secret/x")
    assert (suback.codes, suback.properties) == ((0x87, 0x87), ())
    client.barrier()


@in_v3("MQTT-3.8.4-5", "MQTT-3.9.3-2")
def test_a_refused_subscribe_fails_before_version_5(net: Network) -> None:
    client = net.connect(V3)
    client.send(subscribe(V3, 5, [Filter("secret/#", 1)]))
    assert client.expect(Suback).codes == (0x80,)
    client.barrier()


@in_v3("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_refused_publish_ends_the_connection_in_version_3_1_1(net: Network, qos: int) -> None:
    client = net.connect(V3)
    client.send(publish(V3, "secret/x", b"x", qos=qos, packet_id=9 if qos else None))
    client.expect_closed()


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_refused_publish_is_acknowledged_in_version_3_1(net: Network, qos: int) -> None:
    client = net.connect(Version.V3_1)
    client.publish("secret/x", b"x", qos=qos)
    client.barrier()


@in_v5("MQTT-3.1.4-2", "MQTT-3.2.2-19", "MQTT-3.2.2-20")
@pytest.mark.parametrize("properties", [(), SMALL, QUIET], ids=["told", "too large", "not wanted"])
def test_a_refused_connect_is_explained_where_the_client_can_take_it(properties: Properties) -> None:
    with scripted_engine(["auth_on_register"], verdict) as net:
        client = net.open(V5)
        connack = client.handshake(unique(), username="stranger", properties=properties)
        assert isinstance(connack, Connack)
        assert connack.code == 0x87
        assert connack.value(Property.REASON_STRING) in ((None,) if properties == SMALL else (None, REASON))
        client.expect_closed()
