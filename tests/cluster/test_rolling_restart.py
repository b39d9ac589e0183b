"""An upgrade under libraries that people use: nothing is lost, and each client connects again once."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cluster.clients import StartNode, clustered
from cluster.ledger import Ledger
from cluster.real_nodes import ClusterNode, eventually
from e2e.clients.enduring import (
    Enduring,
    EnduringAiomqtt,
    EnduringGmqtt,
    EnduringMosquitto,
    EnduringMqttJs,
    EnduringPaho,
)
from protocol.client import unique

KINDS = (EnduringPaho, EnduringMqttJs, EnduringAiomqtt, EnduringGmqtt, EnduringMosquitto)


@pytest.fixture
def ended() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def await_delivery(ledger: Ledger, clients: list[Enduring], what: str) -> None:
    """Return when each client has got something of each publisher that was acknowledged after this call."""
    streams = [stream for client in clients for stream in client.streams]
    begun = {stream: max(ledger.acknowledged(stream), default=-1) for stream in streams}
    for client in clients:
        for stream in streams:
            eventually(
                lambda client=client, stream=stream: (  # type: ignore[misc]
                    max(ledger.delivered(client.name, stream), default=-1) > begun[stream]
                ),
                f"{what}: {client.name} gets what comes after {begun[stream]} of {stream}",
                30,
            )
    for stream in streams:
        eventually(
            lambda stream=stream: max(ledger.acknowledged(stream), default=-1) > begun[stream],  # type: ignore[misc]
            f"{what}: more of {stream} is acknowledged",
        )


def restart(node: ClusterNode, others: list[ClusterNode]) -> None:
    node.broker.stop()
    node.broker.start()
    eventually(lambda: node.sees(*others), f"{node.name} is back")


def test_nodes_are_restarted_one_after_the_other_under_clients_of_many_libraries(
    started: StartNode, ended: ExitStack
) -> None:
    # Whoever is away may miss nothing, however slow the machine is.
    nodes = clustered(started, "one", "two", "three", max_offline_messages=-1, max_online_messages=-1)
    ledger, topic = Ledger(), unique("rolling/")
    clients: list[Enduring] = []
    places: list[list[Enduring]] = [[], [], []]
    for turn, kind in enumerate(KINDS):
        place = turn % len(nodes)
        client = kind(ledger, f"{kind.__name__.lower()}-{turn}", nodes[place].broker.port, topic)
        client.start()
        ended.callback(client.close)
        assert client.is_subscribed.wait(20), f"{client.name} is not subscribed"
        clients.append(client)
        places[place].append(client)
    await_delivery(ledger, clients, "at the start")
    streams = [stream for client in clients for stream in client.streams]
    for stream in streams:
        ledger.begin(stream, max(ledger.acknowledged(stream)))
    for node, here in zip(nodes, places, strict=True):
        restart(node, [other for other in nodes if other is not node])
        for client in here:
            eventually(lambda client=client: client.connections == 2, f"{client.name} is back", 30)  # type: ignore[misc]
        await_delivery(ledger, clients, f"after the restart of {node.name}")
    for client in clients:
        client.end_publishing()
    for client in clients:
        eventually(lambda client=client: not ledger.missing(streams, client.name), f"{client.name} has all", 30)  # type: ignore[misc]
    assert {client.name: client.connections for client in clients} == {client.name: 2 for client in clients}
    for client in clients:
        ledger.judge(client.name, streams)
