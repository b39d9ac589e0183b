"""What a node has before it joins, and what is looked at after."""

from collections.abc import Callable
from pathlib import Path

from broker_process import BrokerError
from cluster.clients import Connect
from cluster.real_nodes import ClusterNode
from protocol.client import Client

QUEUED = 20


def away(node: ClusterNode, connect: Connect, client_id: str, *filters: str) -> None:
    """Leave a session on a node."""
    client = connect(node, client_id)
    client.subscribe(*filters, qos=2)
    client.disconnect()


def sent(node: ClusterNode, connect: Connect, topic: str, what: str, number: int = QUEUED) -> list[bytes]:
    """Publish to it, acknowledged."""
    publisher = connect(node)
    payloads = [f"{what} {each}".encode() for each in range(number)]
    for each, payload in enumerate(payloads):
        publisher.publish(topic, payload, qos=1 + each % 2)
    publisher.disconnect()
    return payloads


def retained(node: ClusterNode, connect: Connect, topic: str) -> bytes:
    client = connect(node)
    client.subscribe(topic)
    payload = client.receive().payload
    client.disconnect()
    return payload


def resumed(node: ClusterNode, connect: Connect, client_id: str) -> Client:
    client = connect(node, client_id)
    assert client.referee.connack is not None
    assert client.referee.connack.session_present
    return client


def archives(node: ClusterNode) -> list[Path]:
    return sorted(node.broker.data_directory.glob("before-*.tar"))


def is_quiet(condition: Callable[[], bool]) -> bool:
    """Whether it holds; a node that starts again does not answer meanwhile."""
    try:
        return condition()
    except BrokerError:
        return False
