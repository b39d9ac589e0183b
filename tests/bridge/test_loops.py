"""Brokers that are bridged in circles: a message is everywhere once, and does not go round."""

from pathlib import Path

import pytest

from bridge.brokers import Bridged, Mosquitto, await_connected, bridge_rows, bridge_settings
from bridge.hearing import Clients, everything
from broker_process import BrokerProcess, free_port
from cluster.real_nodes import eventually
from protocol.marks import V5


def everywhere_once(clients: Clients, ports: list[int]) -> None:
    """What each broker's client publishes arrives once at the clients of all."""
    there = [clients(port).connect(V5) for port in ports]
    for client in there:
        client.subscribe("t/#", qos=1)
    for number, client in enumerate(there):
        client.publish("t/x", b"%d" % number, qos=1)
    for client in there:
        assert sorted(everything(client)) == [b"%d" % number for number in range(len(ports))]


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("levels", ["3,4,5", "3,4,5,131,132"])
def test_two_brokers_with_one_bridge(bridged: Bridged, clients: Clients, version: int, levels: str) -> None:
    """Whether the other one takes the levels of bridges or not."""
    other = bridged({"listener.tcp.allowed_protocol_versions": levels})
    broker = bridged(bridge_settings(other.port, "t/* both 1", mqtt_version=version))
    await_connected(broker)
    everywhere_once(clients, [broker.port, other.port])


def test_two_brokers_with_a_bridge_to_each_other(bridged: Bridged, clients: Clients) -> None:
    ports = [free_port(), free_port()]
    brokers = [
        bridged({"listener.tcp.more": f"127.0.0.1:{own}", **bridge_settings(other, "t/* out 1", mqtt_version=5)})
        for own, other in (ports, ports[::-1])
    ]
    await_connected(*brokers)
    everywhere_once(clients, ports)


@pytest.mark.parametrize("direction", ["out", "in", "both"])
def test_a_ring_of_three(bridged: Bridged, clients: Clients, direction: str) -> None:
    """Both ways there are two ways to each broker, so a message comes twice at most, and does not go on from there."""
    ports = [free_port() for _ in range(3)]
    brokers: list[BrokerProcess] = []
    for own, following in zip(ports, [*ports[1:], ports[0]], strict=True):
        settings = bridge_settings(following, f"t/* {direction} 1", mqtt_version=5)
        brokers.append(bridged({"listener.tcp.more": f"127.0.0.1:{own}", **settings}))
    await_connected(*brokers)
    if direction != "both":
        everywhere_once(clients, ports)
        return
    there = [clients(port).connect(V5) for port in ports]
    for client in there:
        client.subscribe("t/#", qos=1)
    there[0].publish("t/x", b"0", qos=1)
    assert [len(everything(client)) for client in there] == [1, 2, 2]


def test_a_ring_with_a_broker_that_knows_nothing_of_rings(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    """Two brokers bring each other everything, and each brings it to a mosquitto, too."""
    ports = [free_port(), free_port()]
    brokers = []
    for own, other in (ports, ports[::-1]):
        settings = {
            **bridge_settings(other, "t/* out 1", name="other", mqtt_version=5),
            **bridge_settings(remote.port, "t/* both 1", name="mosquitto", mqtt_version=5),
        }
        brokers.append(bridged({"listener.tcp.more": f"127.0.0.1:{own}", **settings}))
    await_connected(*brokers)
    there = [clients(port).connect(V5) for port in (*ports, remote.port)]
    for client in there:
        client.subscribe("t/#", qos=1)
    there[0].publish("t/x", b"0", qos=1)
    for client in there:
        got = everything(client)
        # By two ways it comes twice at most, whatever the number of ways round.
        assert 1 <= len(got) <= 2, got
    eventually(lambda: sum(int(bridge_rows(broker)["other"]["out/s"]) for broker in brokers) == 0, "it is quiet")


def test_mosquittos_bridge_gets_nothing_back(bridged: Bridged, clients: Clients, tmp_path: Path) -> None:
    """Mosquitto says that it is a bridge in MQTT 3.1.1: it is sent nothing that it has brought."""
    broker = bridged({"listener.tcp.allowed_protocol_versions": "3,4,5,131,132"})
    lines = [
        "connection up",
        f"address 127.0.0.1:{broker.port}",
        "topic t/# both 1",
        "try_private true",
        "bridge_protocol_version mqttv311",
    ]
    mosquitto = Mosquitto(tmp_path / "mosquitto", lines)
    mosquitto.start()
    try:
        eventually(lambda: "t/#" in broker.admin("session", "show", "--topic"), "mosquitto has subscribed")
        everywhere_once(clients, [broker.port, mosquitto.port])
    finally:
        mosquitto.stop()
