"""Enhanced authentication: what happens on the wire where the broker supports no method."""

import pytest

from protocol import requests
from protocol.client import Network, unique
from protocol.marks import V5, in_v5
from protocol.requests import Filter, Will
from protocol.wire import Properties, Property, one_property

METHOD: Properties = [(Property.AUTHENTICATION_METHOD, "SCRAM-SHA-256")]
METHOD_AND_DATA: Properties = [*METHOD, (Property.AUTHENTICATION_DATA, b"n,,n=user,r=nonce")]


@in_v5("MQTT-4.12.0-1", "MQTT-4.12.0-4", "MQTT-4.13.2-1", "MQTT-3.2.2-7")
@pytest.mark.parametrize("properties", [METHOD, METHOD_AND_DATA], ids=["method", "method and data"])
def test_an_unknown_authentication_method_is_refused(net: Network, properties: Properties) -> None:
    client = net.open(V5)
    assert client.handshake(properties=properties).code == 0x8C
    client.expect_closed()


@in_v5("MQTT-4.12.0-1", "MQTT-3.1.2-30", "MQTT-3.1.4-6")
def test_nothing_is_processed_while_an_authentication_is_refused(net: Network) -> None:
    topic = unique("t")
    watcher = net.connect(V5)
    watcher.subscribe(topic)
    client = net.open(V5)
    client.referee.agree(METHOD)
    data = requests.connect(V5, unique(), properties=METHOD, will=Will(topic, b"never"))
    client.send(data + requests.subscribe(V5, 1, [Filter(topic)]) + requests.publish(V5, topic, b"x"))
    client.expect_connect_refusal(0x8C)
    watcher.barrier()


@in_v5("MQTT-4.12.0-7", "MQTT-4.13.1-1", "MQTT-4.12.0-6")
@pytest.mark.parametrize("code", [0x18, 0x19])
def test_an_auth_of_a_client_that_named_no_method_is_a_protocol_error(net: Network, code: int) -> None:
    client = net.connect(V5)
    client.send(requests.auth(code, METHOD))
    client.expect_refusal(0x82)


@in_v5("MQTT-4.12.0-6")
def test_a_client_without_a_method_sees_nothing_of_authentication(net: Network) -> None:
    connack = net.open(V5).handshake()
    assert connack.value(Property.AUTHENTICATION_METHOD) is None
    assert connack.value(Property.AUTHENTICATION_DATA) is None


@in_v5("MQTT-3.15.2-1", "MQTT-4.13.1-1")
@pytest.mark.parametrize("code", [0x01, 0x80, 0xFF])
def test_an_auth_with_a_reason_code_that_is_not_defined_is_refused(net: Network, code: int) -> None:
    client = net.connect(V5)
    client.send(requests.auth(code, METHOD))
    client.expect_refusal(0x81, 0x82)


@in_v5("MQTT-4.13.1-1")
@pytest.mark.parametrize(
    "properties",
    [
        pytest.param(b"", id="no method"),
        pytest.param(one_property(Property.AUTHENTICATION_METHOD, "m") * 2, id="two methods"),
        pytest.param(one_property(Property.CONTENT_TYPE, "m"), id="of another packet"),
    ],
)
def test_an_auth_with_wrong_properties_is_refused(net: Network, properties: bytes) -> None:
    client = net.connect(V5)
    client.send(requests.auth(0x19, properties))
    client.expect_refusal(0x81, 0x82)
