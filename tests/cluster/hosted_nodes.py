"""Nodes of a cluster on hosts of their own, with clients under load, and how such a cluster is judged."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from broker_process import BrokerProcess, Setting
from cluster.fabric import Fabric, Host, Way
from cluster.ledger import Ledger, Stream
from cluster.load import CLIENT_PORT, Publisher, Subscriber
from cluster.real_nodes import LINK_TIMEOUT_MS, ClusterNode, eventually
from protocol.client import Client, Network, dial, unique
from protocol.marks import V5

CLUSTER_PORT = 44053
LINK_TIMEOUT_S = LINK_TIMEOUT_MS / 1_000
SCALE = float(os.environ.get("STROGOFF_SCENARIO_SCALE", "1"))
"""Faults last so many times as long: for longer runs than `make test` has time for."""

_NAMES = ("one", "two", "three", "four", "five")
_DELIVERY_DEADLINE_S = 30.0


@dataclass(slots=True)
class HostedNode(ClusterNode):
    """A node on a host of its own, where all nodes have the same ports."""

    host: Host

    def start(self) -> None:
        self.host.run(self.broker.start)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """The process does nothing meanwhile (SIGSTOP), its connections stay."""
        os.kill(self.broker.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.broker.pid, signal.SIGCONT)


@dataclass(slots=True)
class HostedCluster:
    """Nodes and the network between them."""

    fabric: Fabric
    nodes: list[HostedNode]
    ledger: Ledger = field(default_factory=Ledger)
    subscribers: list[Subscriber] = field(default_factory=list)
    publishers: list[Publisher] = field(default_factory=list)

    def ways(self, some: list[HostedNode], others: list[HostedNode]) -> list[Way]:
        """Both directions of every link between two groups of nodes."""
        return self.fabric.ways_between([node.host for node in some], [node.host for node in others])

    def way(self, source: HostedNode, target: HostedNode) -> Way:
        return self.fabric.way(source.host, target.host)

    def form(self) -> None:
        """Start the nodes and join them."""
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(HostedNode.start, self.nodes))
        for node in self.nodes[1:]:
            assert node.join(self.nodes[0]) == "Done"
        self.await_whole()

    def await_whole(self, *, without: tuple[HostedNode, ...] = (), down: tuple[HostedNode, ...] = ()) -> None:
        """Return when all nodes have the same members, and reach all but those that are down."""
        members = [node for node in self.nodes if node not in without]
        running = [node for node in members if node not in down]
        for node in running:
            others = [other for other in running if other is not node]
            eventually(lambda node=node, others=others: node.sees(*others, down=down), f"{node.name} sees all", 30)  # type: ignore[misc]

    def await_down(self, observer: HostedNode, *nodes: HostedNode) -> None:
        """Return when the links from a node to others count as down."""
        wanted = {node.name for node in nodes}
        eventually(
            lambda: wanted <= {name for name, link in observer.links().items() if link == "down"},
            f"{observer.name} counts {wanted} as down",
        )

    def kill_at_once(self) -> None:
        """Kill all nodes before one of them can notice that another one is gone.

        Otherwise the last ones acknowledge what only they have: messages for a node that is down wait in memory.
        """
        with ExitStack() as stack:
            for node in self.nodes:
                os.kill(node.broker.pid, signal.SIGSTOP)
                stack.callback(node.broker.kill)

    def linger(self) -> None:
        """Let a fault last on, in a run that has the time."""
        time.sleep(max(0.0, SCALE - 1))

    # -- load ------------------------------------------------------------------------------------------------

    @contextmanager
    def load(
        self,
        publishing: list[HostedNode] | None = None,
        subscribing: list[HostedNode] | None = None,
        *,
        every_s: float = 0.01,
    ) -> Iterator[str]:
        """On each node, or on these, a publisher, and a subscriber to all of them. At the end everything is judged.

        Gives the topic below which they publish.
        """
        topic = unique("load/")
        with self._ended_at_last():
            for node in self.nodes if subscribing is None else subscribing:
                self.subscribe(node, f"{topic}/#")
            for node in self.nodes if publishing is None else publishing:
                self.publish(node, topic, every_s=every_s)
            self.await_flow()
            yield topic
            self.settle()

    @contextmanager
    def _ended_at_last(self) -> Iterator[None]:
        self.ledger = Ledger()
        self.subscribers, self.publishers = [], []
        try:
            yield
        finally:
            self.end_clients()

    @contextmanager
    def connected(self, node: HostedNode) -> Iterator[Client]:
        """A client of the tests' own, on a node, that shows reason codes."""
        network = Network(CLIENT_PORT, lambda port: node.host.run(dial, port))
        try:
            yield network.connect(V5)
        finally:
            network.close()

    def subscribe(self, node: HostedNode, topic_filter: str, *, is_lasting: bool = True) -> Subscriber:
        """Connect a subscriber to a node and wait until it is there."""
        subscriber = Subscriber(self.ledger, node.host, unique("s"), topic_filter, is_lasting=is_lasting)
        self.subscribers.append(subscriber)
        subscriber.start()
        assert subscriber.is_subscribed.wait(10), f"{subscriber.name} is not subscribed"
        return subscriber

    def publish(self, node: HostedNode, topic: str, *, every_s: float = 0.01, broker: str = "127.0.0.1") -> Publisher:
        """Connect a publisher to a node; it begins at once."""
        publisher = Publisher(self.ledger, node.host, unique("p"), topic, every_s=every_s, broker=broker)
        self.publishers.append(publisher)
        publisher.start()
        return publisher

    def await_flow(self) -> None:
        """Return when each subscriber has got a message of each publisher, and what was acknowledged since counts.

        A subscription is not known to other nodes at once, so what was published meanwhile proves nothing.
        """
        begun = self.acknowledged_now()
        for subscriber in self.subscribers:
            for publisher in self.publishers:
                for stream in publisher.streams[1:]:
                    self.await_delivery(subscriber.name, stream, after=begun.get(stream, -1))
        for publisher in self.publishers:
            for stream in publisher.streams:
                firsts = [self.ledger.delivered(each.name, stream)[:1] for each in self.subscribers]
                self.ledger.begin(stream, max((first[0] for first in firsts if first), default=0))
        for stream in self.acknowledged_now():
            eventually(lambda stream=stream: self.ledger.acknowledged(stream), f"something of {stream} is acknowledged")  # type: ignore[misc]

    def acknowledged_now(self) -> dict[Stream, int]:
        """The last number of each stream that was acknowledged."""
        streams = [stream for publisher in self.publishers for stream in publisher.streams if stream.qos]
        return {stream: max(self.ledger.acknowledged(stream), default=-1) for stream in streams}

    def await_delivery(self, subscriber: str, stream: Stream, *, after: int) -> None:
        eventually(
            lambda: max(self.ledger.delivered(subscriber, stream), default=-1) > after,
            f"{subscriber} gets what comes after {after} of {stream}",
            _DELIVERY_DEADLINE_S,
        )

    def goes_on(self, subscriber: Subscriber, publisher: Publisher) -> None:
        """Return when the subscriber has got something that was published after this call."""
        for stream in publisher.streams[1:]:
            self.await_delivery(subscriber.name, stream, after=max(self.ledger.acknowledged(stream), default=-1))

    def settle(self) -> None:
        """End the publishers, wait until all that was acknowledged has arrived, end the subscribers, and judge."""
        for publisher in self.publishers:
            publisher.end()
        streams = [stream for publisher in self.publishers for stream in publisher.streams]
        for stream in streams:
            assert not stream.qos or self.ledger.acknowledged(stream), f"{stream}: nothing was acknowledged"
        self.await_nothing_missing(streams)
        self.end_clients()
        for subscriber in self.subscribers:
            self.ledger.judge(subscriber.name, streams)

    def await_nothing_missing(self, streams: list[Stream]) -> None:
        """Return when nothing is missing, or nothing more arrives: what is missing then, the judgement tells."""
        deadline = time.monotonic() + _DELIVERY_DEADLINE_S
        while any(self.ledger.missing(streams, each.name) for each in self.subscribers):
            if time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def end_clients(self) -> None:
        for publisher in self.publishers:
            publisher.abandon()
        for subscriber in self.subscribers:
            subscriber.end()


@contextmanager
def hosted_cluster(directory: Path, size: int, **more: Setting) -> Iterator[HostedCluster]:
    """Nodes that have joined. Settings with `__` for a dot. Everything ends with it, also after a failure."""
    with ExitStack() as stack:
        fabric = Fabric(size)
        stack.callback(fabric.close)
        cluster = HostedCluster(
            fabric, [_node(directory, *each, more) for each in zip(_NAMES, fabric.hosts, strict=False)]
        )
        stack.callback(_stop, cluster.nodes)
        stack.callback(cluster.end_clients)
        cluster.form()
        yield cluster


def _node(directory: Path, name: str, host: Host, more: dict[str, Setting]) -> HostedNode:
    full_name = f"{name}@{host.address}"
    settings: dict[str, Setting] = {
        "nodename": full_name,
        "listener.tcp.default": f"0.0.0.0:{CLIENT_PORT}",
        "listener.vmq.default": f"{host.address}:{CLUSTER_PORT}",
        "cluster.link_timeout": LINK_TIMEOUT_MS,
        # Both sides of a partition serve their clients.
        "cluster.ready_when": "any",
        "store.segment_bytes": "256KB",
        "max_offline_messages": -1,
        "max_online_messages": -1,
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return HostedNode(BrokerProcess(directory / name, settings, CLIENT_PORT), full_name, CLUSTER_PORT, host)


def _stop(nodes: list[HostedNode]) -> None:
    """Stop them at once. Raises what the first of them that did not end well says."""
    for node in nodes:
        if node.broker.is_alive():
            with suppress(ProcessLookupError):
                os.kill(node.broker.pid, signal.SIGCONT)
    with ThreadPoolExecutor(len(nodes)) as threads:
        list(threads.map(lambda node: node.broker.stop(), nodes))
