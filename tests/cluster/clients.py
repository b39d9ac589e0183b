"""Clients of several nodes, and what tests wait for between them."""

import csv
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeAlias

from broker_process import Setting
from cluster.real_nodes import ClusterNode, eventually
from protocol.answers import Publish
from protocol.client import Client, Network

StartNode: TypeAlias = Callable[..., ClusterNode]
NetworkOf: TypeAlias = Callable[[ClusterNode], Network]

ROUTE_DEADLINE_S = 10.0


class Connect(Protocol):
    """Connects a client to a node; with a client id its session outlives the connection."""

    def __call__(self, node: ClusterNode, client_id: str | None = None, /) -> Client: ...


def clustered(started: StartNode, *names: str, **more: Setting) -> list[ClusterNode]:
    """Nodes that have joined, and can reach one another."""
    nodes = [started(name, **more) for name in names]
    join(*nodes)
    return nodes


def join(*nodes: ClusterNode) -> None:
    """Make one cluster of nodes that run, and return when they can reach one another."""
    for node in nodes[1:]:
        assert node.join(nodes[0]) == "Done"
    for node in nodes:
        others = [other for other in nodes if other is not node]
        eventually(lambda node=node, others=others: node.sees(*others), f"{node.name} sees all")  # type: ignore[misc]


def metric(node: ClusterNode, name: str) -> int:
    lines = node.broker.admin("metrics", "show").splitlines()
    values = [line.rpartition("=")[2] for line in lines if f".{name} " in line]
    assert values, f"there is no metric {name}"
    return sum(int(value) for value in values)


def tables(text: str) -> list[list[dict[str, str]]]:
    """The tables of an answer in CSV about events, about what a node holds, or about what another one says."""
    found: list[list[list[str]]] = []
    for row in csv.reader(io.StringIO(text)):
        if row[0] in {"time", "holds"} or row[1].startswith("to "):
            found.append([])
        found[-1].append(row)
    return [[dict(zip(rows[0], row, strict=True)) for row in rows[1:]] for rows in found]


def clients_of(node: ClusterNode, *conditions: str) -> list[str]:
    """The client ids of the sessions that a node has itself."""
    words = ("session", "show", "--client_id", f"--node={node.name}", "--limit=100000", "--format=csv", *conditions)
    return node.broker.admin(*words).splitlines()[1:]


def await_route(publisher: Client, subscriber: Client, topic: str) -> None:
    """Return when what one client publishes reaches another; the subscription to the topic is there."""
    deadline = time.monotonic() + ROUTE_DEADLINE_S
    while True:
        publisher.publish(topic, b"route?")
        arrived = subscriber.poll(Publish, 0.1)
        if arrived is not None:
            break
        assert time.monotonic() < deadline, f"nothing on {topic} arrives"
    publisher.publish(topic, b"route!")
    while arrived.payload != b"route!":
        arrived = subscriber.receive()


@contextmanager
def stopped(node: ClusterNode) -> Iterator[None]:
    """The node does nothing meanwhile."""
    os.kill(node.broker.pid, signal.SIGSTOP)
    try:
        # The threads of a process stop one after the other.
        stats = list(Path(f"/proc/{node.broker.pid}/task").glob("*/stat"))
        eventually(lambda: all(") T " in stat.read_text() for stat in stats), "it stands still")
        yield
    finally:
        os.kill(node.broker.pid, signal.SIGCONT)
