"""Keep alive: PINGREQ, the time after which a silent client is cut off, and the broker's own limit."""

import time

import pytest

from protocol import requests
from protocol.answers import Pingresp
from protocol.client import NetWith, Network, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.wire import Property, Version


@in_v3("MQTT-3.12.4-1")
@in_v5("MQTT-3.12.4-1")
@both_versions
def test_each_pingreq_is_answered(net: Network, version: Version) -> None:
    client = net.connect(version)
    client.send(requests.pingreq() * 20)
    for _ in range(20):
        client.expect(Pingresp)
    client.barrier()


@in_v3("MQTT-3.1.2-24")
@in_v5("MQTT-3.1.2-22", "MQTT-3.2.2-22", "MQTT-4.13.2-1", "MQTT-3.14.2-1")
@both_versions
def test_a_silent_client_is_cut_off_after_one_and_a_half_keep_alive_intervals(net: Network, version: Version) -> None:
    began = time.monotonic()
    client = net.connect(version, keep_alive=1)
    client.expect_refusal(0x8D)
    assert 1.3 < time.monotonic() - began < 3.0


@in_v3("MQTT-3.1.2-24", "MQTT-3.1.2-23")
@in_v5("MQTT-3.1.2-22", "MQTT-3.1.2-20")
@both_versions
def test_any_packet_keeps_a_connection_alive(net: Network, version: Version) -> None:
    pinging, publishing = net.connect(version, keep_alive=1), net.connect(version, keep_alive=1)
    for _ in range(4):
        time.sleep(0.5)
        pinging.barrier()
        publishing.send(requests.publish(version, unique("t"), b"x"))
    pinging.barrier()
    publishing.barrier()


@in_v3("MQTT-3.1.2-24")
@in_v5("MQTT-3.1.2-22")
@both_versions
def test_what_the_client_receives_does_not_keep_its_connection_alive(net: Network, version: Version) -> None:
    topic = unique("t")
    client, publisher = net.connect(version, keep_alive=1), net.connect(version)
    client.subscribe(topic)
    began = time.monotonic()
    while time.monotonic() - began < 1.2:
        publisher.publish(topic, b"x")
        client.receive()
        time.sleep(0.1)
    client.expect_refusal(0x8D)


@in_v3("MQTT-3.1.2-24")
@in_v5("MQTT-3.1.2-22", "MQTT-3.2.2-22")
@both_versions
def test_keep_alive_0_turns_the_limit_off(net: Network, version: Version) -> None:
    client = net.connect(version, keep_alive=0)
    time.sleep(2.0)
    client.barrier()


@in_v5("MQTT-3.1.2-21", "MQTT-3.2.2-21")
@pytest.mark.parametrize("asked", [0, 3, 65_535])
def test_a_keep_alive_beyond_the_limit_is_replaced_and_enforced(net_with: NetWith, asked: int) -> None:
    net = net_with(max_keep_alive=1)
    client = net.connect(V5, keep_alive=asked)
    assert client.referee.connack is not None
    assert client.referee.connack.value(Property.SERVER_KEEP_ALIVE) == 1
    client.expect_refusal(0x8D)


@in_v5("MQTT-3.2.2-22")
def test_a_keep_alive_within_the_limit_is_the_clients(net_with: NetWith, net: Network) -> None:
    assert net_with(max_keep_alive=100).open(V5).handshake(keep_alive=100).value(Property.SERVER_KEEP_ALIVE) is None
    assert net.open(V5).handshake(keep_alive=0).value(Property.SERVER_KEEP_ALIVE) is None


@in_v3("MQTT-3.1.2-24")
def test_a_client_that_the_broker_cannot_tell_its_keep_alive_is_not_cut_off_early(net_with: NetWith) -> None:
    client = net_with(max_keep_alive=1).connect(V3, keep_alive=4)
    time.sleep(2.0)
    client.barrier()
