"""Nodes of a cluster and their clients, for the tests with real processes; the profile of hypothesis for the others."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_process import Setting
from cluster.clients import Connect, NetworkOf, StartNode
from cluster.real_nodes import ClusterNode, make_node
from hypothesis_profiles import load_profile
from protocol.client import Client, Network
from protocol.marks import V5

load_profile()


@pytest.fixture
def started(tmp_path: Path) -> Iterator[StartNode]:
    """A call that starts a node: its name, and settings with `__` for a dot."""
    with ExitStack() as stack:

        def start(name: str, *, family: str = "vmq", **more: Setting) -> ClusterNode:
            node = make_node(tmp_path, name, family=family, **more)
            stack.callback(node.broker.stop)
            node.broker.start()
            return node

        yield start


@pytest.fixture
def at() -> Iterator[NetworkOf]:
    """Gives what opens clients of a node."""
    with ExitStack() as stack:

        def network(node: ClusterNode) -> Network:
            network = Network(node.broker.port)
            stack.callback(network.close)
            return network

        yield network


@pytest.fixture
def connect(at: NetworkOf) -> Connect:
    def to(node: ClusterNode, client_id: str | None = None, /) -> Client:
        return at(node).connect(V5) if client_id is None else at(node).resume(V5, client_id)

    return to
