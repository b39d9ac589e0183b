"""Bridges of nodes that are a cluster: who runs them, who takes over, and how often a message is bridged."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.brokers import Mosquitto, bridge_rows, bridge_settings
from bridge.hearing import Clients, everything
from broker_process import Setting
from cluster.clients import await_route, metric
from cluster.real_nodes import ClusterNode, eventually, make_node
from protocol.answers import Publish
from protocol.marks import V3, V5


class Nodes:
    """Three nodes whose bridges are on from their first start, and that find each other by a list."""

    def __init__(self, directory: Path, remote: Mosquitto, stack: ExitStack, **options: Setting) -> None:
        options = {"mqtt_version": 4, **options}
        settings = bridge_settings(remote.port, "t/* both 1", **options)
        self.all = [make_node(directory, name) for name in ("a", "b", "c")]
        addresses = ",".join(node.address for node in self.all)
        for node in self.all:
            more = {"cluster.discovery": "static", "cluster.discovery.static.nodes": addresses}
            node.broker.settings = {**node.broker.settings, **more, **settings}
            stack.callback(node.broker.stop)
        for node in self.all:
            node.broker.launch()
        for node in self.all:
            node.broker.await_answer()

    def of(self, state: str) -> list[ClusterNode]:
        """Those whose bridge is in a state."""
        return [node for node in self.all if node.broker.is_alive() and self.state(node) == state]

    @staticmethod
    def state(node: ClusterNode) -> str:
        return bridge_rows(node.broker)["br"]["state"]

    def await_states(self, **counts: int) -> None:
        """Return when so many bridges are in these states."""
        alive = [node for node in self.all if node.broker.is_alive()]

        def as_wanted() -> bool:
            return Counter(self.state(node) for node in alive) == counts

        eventually(as_wanted, f"bridges are {counts}", 20.0)


@pytest.fixture
def nodes(tmp_path: Path, remote: Mosquitto) -> Iterator[Callable[..., Nodes]]:
    with ExitStack() as stack:
        yield lambda **options: Nodes(tmp_path, remote, stack, **options)


def bridged_once(clients: Clients, nodes: Nodes, remote: Mosquitto, count: int = 1) -> None:
    """A message of each node arrives so often there, and one from there so often at each node."""
    here = [clients(node.broker.port).connect(V5) for node in nodes.all if node.broker.is_alive()]
    there = clients(remote.port).connect(V3)
    for client in (*here, there):
        client.subscribe("t/#", qos=1)
    for one, other in itertools.permutations(here, 2):
        await_route(one, other, "t/route")
    for client in (*here, there):
        everything(client)
    for number, client in enumerate(here):
        client.publish("t/x", b"%d" % number, qos=1)
    there.publish("t/x", b"there", qos=1)
    sent = {b"%d" % number for number in range(len(here))}
    for client in here:
        assert Counter(everything(client)) == Counter({**dict.fromkeys(sent, 1), b"there": count})
    assert Counter(everything(there)) == Counter({**dict.fromkeys(sent, count), b"there": 1})


def test_one_node_runs_a_bridge_that_all_configure(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    three = nodes()
    three.await_states(connected=1, elsewhere=2)
    (runner,) = three.of("connected")
    assert {bridge_rows(node.broker)["br"]["node"] for node in three.all} == {runner.name}
    bridged_once(clients, three, remote)


@pytest.mark.parametrize("end", ["stop", "kill", "bridge stop"])
def test_another_node_takes_over_with_the_same_session(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients, end: str
) -> None:
    three = nodes()
    three.await_states(connected=1, elsewhere=2)
    (runner,) = three.of("connected")
    if end == "stop":
        runner.broker.stop()
        three.await_states(connected=1, elsewhere=1)
    elif end == "kill":
        runner.kill()
        three.await_states(connected=1, elsewhere=1)
    else:
        runner.broker.admin("bridge", "stop", "name=br")
        three.await_states(connected=1, elsewhere=1, stopped=1)
    bridged_once(clients, three, remote)
    ids = {line.rpartition(" as ")[2].split(" ")[0] for line in remote.log().splitlines() if ".br " in line}
    assert len([each for each in ids if each.endswith(".br")]) == 1
    if end == "bridge stop":
        return
    runner.broker.start()
    three.await_states(connected=1, elsewhere=2)
    bridged_once(clients, three, remote)


def test_what_a_killed_node_had_for_the_other_broker_goes_when_it_is_back(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    three = nodes(persistent_queue=True)
    three.await_states(connected=1, elsewhere=2)
    (runner,) = three.of("connected")
    listener = clients(remote.port).resume(V3, "listener")
    listener.subscribe("t/#", qos=1)
    listener.disconnect()
    remote.stop()
    publisher = clients(runner.broker.port).connect(V5)
    for number in range(100):
        publisher.publish("t/x", b"%d" % number, qos=1)
    runner.kill()
    remote.start()
    three.await_states(connected=1, elsewhere=1)
    runner.broker.start()
    three.await_states(connected=1, elsewhere=2)
    listener = clients(remote.port).resume(V3, "listener")
    assert everything(listener) == [b"%d" % number for number in range(100)]


def test_every_node_runs_it_where_that_is_asked_for(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    three = nodes(cluster="every", mqtt_version=5)
    three.await_states(connected=3)
    bridged_once(clients, three, remote, count=3)


def test_nodes_share_the_messages_where_that_is_asked_for(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    three = nodes(cluster="share", mqtt_version=5)
    three.await_states(connected=3)
    bridged_once(clients, three, remote)
    # Each node has sent what came to it.
    assert all(metric(node, "bridge_publish_out") > 0 for node in three.all)


def test_a_bridge_that_one_node_configures_otherwise_runs_there_too(
    nodes: Callable[..., Nodes], remote: Mosquitto
) -> None:
    three = nodes()
    three.await_states(connected=1, elsewhere=2)
    (other, _) = three.of("elsewhere")
    other.broker.admin("set", "vmq_bridge.tcp.br.client_id=own", "vmq_bridge.tcp.br.keepalive_interval=7")
    three.await_states(connected=2, elsewhere=1)


def test_a_bridge_goes_on_while_the_cluster_is_not_ready(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    """Clients may not publish then, which is the operator's wish; what the bridge brings is not theirs."""
    three = nodes(cluster="every", mqtt_version=5)
    three.await_states(connected=3)
    one, *others = three.all
    here = clients(one.broker.port).connect(V5)
    here.subscribe("t/#", qos=1)
    for node in others:
        node.kill()
    eventually(lambda: one.sees(down=tuple(others)), "the others are down")
    there = clients(remote.port).connect(V5)
    eventually(lambda: here.publish("elsewhere", qos=1) >= 0x80, "publishes of clients are refused")
    there.publish("t/in", b"x", qos=1)
    assert here.receive().payload == b"x"


def test_what_comes_while_a_node_has_stopped_its_bridge_goes_over_another_one_alone(
    nodes: Callable[..., Nodes], remote: Mosquitto, clients: Clients
) -> None:
    three = nodes(persistent_queue=True)
    three.await_states(connected=1, elsewhere=2)
    (runner,) = three.of("connected")
    listener = clients(remote.port).connect(V3)
    listener.subscribe("t/#", qos=1)
    runner.broker.admin("bridge", "stop")
    three.await_states(connected=1, elsewhere=1, stopped=1)
    publisher = clients(runner.broker.port).connect(V5)
    deadline = itertools.count()
    while listener.poll(Publish, 0.2) is None:
        assert next(deadline) < 50, "the other node has taken over"
        publisher.publish("t/route", b"route", qos=1)
    everything(listener)
    for number in range(20):
        publisher.publish("t/x", b"%d" % number, qos=1)
    assert everything(listener) == [b"%d" % number for number in range(20)]
    runner.broker.admin("bridge", "start")
    three.await_states(connected=1, elsewhere=2)
    assert everything(listener) == []
