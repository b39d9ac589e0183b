"""Nodes that find their cluster by themselves, as processes, each on a loopback address of its own."""

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from broker_process import BrokerProcess, Setting, free_port
from cluster.real_nodes import LINK_TIMEOUT_MS, ClusterNode, eventually

__all__ = ["Network", "await_one_cluster", "network", "phase_of", "seconds_to_ready", "waits_for"]


@dataclass(slots=True)
class Network:
    """Nodes on addresses of one loopback network that no other test uses, all with the same port."""

    directory: Path
    stack: ExitStack
    prefix: str = field(default_factory=lambda: f"127.{1 + secrets.randbelow(250)}.{secrets.randbelow(250)}")
    port: int = field(default_factory=free_port)
    nodes: list[ClusterNode] = field(default_factory=list)

    def address(self, number: int) -> str:
        return f"{self.prefix}.{number + 1}"

    def name(self, number: int) -> str:
        return f"n{number}@{self.address(number)}"

    def names(self, *numbers: int) -> str:
        """The nodes of a list, as the configuration has them."""
        return ",".join(f"{self.name(number)}:{self.port}" for number in numbers)

    def node(
        self,
        number: int,
        settings: Mapping[str, Setting] | None = None,
        *,
        name: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> ClusterNode:
        """A node that is not started yet."""
        name = name or self.name(number)
        lines: dict[str, Setting] = {
            "nodename": name,
            "listener.vmq.default": f"{self.address(number)}:{self.port}",
            "cluster.link_timeout": LINK_TIMEOUT_MS,
            "store.segment_bytes": "256KB",
            "cluster.discovery.retry_max": 1_000,
            **(settings or {}),
        }
        broker = BrokerProcess(self.directory / f"n{number}", lines, environment=environment or {})
        node = ClusterNode(broker, name, self.port)
        self.nodes.append(node)
        self.stack.callback(broker.stop)
        return node

    def named(self, *numbers: int, **more: Setting) -> list[ClusterNode]:
        """Nodes that know each other by a list."""
        settings: dict[str, Setting] = {
            "cluster.discovery": "static",
            "cluster.discovery.static.nodes": self.names(*numbers),
            **{key.replace("__", "."): value for key, value in more.items()},
        }
        return [self.node(number, settings) for number in numbers]


def network(directory: Path) -> Iterator[Network]:
    """For a fixture."""
    with ExitStack() as stack:
        yield Network(directory, stack)


def phase_of(node: ClusterNode) -> str:
    """The phase of a node; empty while it does not answer."""
    done = node.broker.program("vmq-admin", "node", "phase")
    return done.stdout.strip() if done.returncode == 0 else ""


def waits_for(node: ClusterNode) -> str:
    """What a node says of its readiness."""
    done = node.broker.program("vmq-admin", "node", "status", "--format=json")
    rows = json.loads(done.stdout)["table"] if done.returncode == 0 else []
    return next((str(row["Value"]) for row in rows if row["Status"] == "ready"), "")


def seconds_to_ready(*nodes: ClusterNode) -> float:
    """From the moment at which the last of them began until all are ready. What the machine needs to start so many
    programs is not in it.
    """
    began, ended = [], []
    for node in nodes:
        node.broker.await_ready()
        lines = [json.loads(line) for line in node.broker.log_tail().splitlines() if line.startswith("{")]
        at = {line["phase"]: datetime.fromisoformat(line["time"]) for line in lines if line["message"] == "phase"}
        began.append(at["booting"])
        ended.append(at["ready"])
    return (max(ended) - max(began)).total_seconds()


def await_one_cluster(*nodes: ClusterNode) -> None:
    """Return when each of them is ready and sees all others."""
    for node in nodes:
        eventually(lambda node=node: phase_of(node) == "ready", f"{node.name} is ready")  # type: ignore[misc]
        others = [other for other in nodes if other is not node]
        eventually(lambda node=node, others=others: node.sees(*others), f"{node.name} sees all")  # type: ignore[misc]
