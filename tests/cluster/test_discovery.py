"""Nodes find their cluster by a list of their names: in any order, late, alone, again, or told to stop."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clients import Connect, clients_of, metric
from cluster.looking_nodes import Network, await_one_cluster, network, phase_of, seconds_to_ready, waits_for
from cluster.real_nodes import ClusterNode, eventually

START_S = 5.0
"""From the start of all nodes until the last is ready."""
STOP_S = 5.0


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    yield from network(tmp_path)


def ready(*nodes: ClusterNode) -> None:
    for node in nodes:
        node.broker.await_ready()


def stops_at_once(node: ClusterNode) -> None:
    began = time.monotonic()
    node.broker.stop()
    assert time.monotonic() - began < STOP_S


def test_three_nodes_that_start_at_once_are_one_cluster_soon(net: Network) -> None:
    nodes = net.named(0, 1, 2)
    for node in nodes:
        node.broker.launch()
    assert seconds_to_ready(*nodes) < START_S
    await_one_cluster(*nodes)
    assert metric(nodes[1], "cluster_discovery_joins") == 1
    assert metric(nodes[0], "cluster_discovery_joins") == 0


def test_nodes_that_start_one_after_the_other_are_one_cluster(net: Network) -> None:
    nodes = net.named(0, 1, 2)
    for node in nodes:
        node.broker.launch()
        ready(node)
    await_one_cluster(*nodes)


@pytest.mark.parametrize("seed", range(3))
def test_nodes_that_start_with_any_delays_are_one_cluster(net: Network, seed: int) -> None:
    draw = random.Random(seed)
    nodes = net.named(0, 1, 2)
    draw.shuffle(nodes)
    for node in nodes:
        node.broker.launch()
        time.sleep(draw.uniform(0, 2))
    ready(*nodes)
    await_one_cluster(*nodes)


def test_the_others_wait_for_the_first_and_say_so(net: Network) -> None:
    first, *others = net.named(0, 1, 2)
    for node in others:
        node.broker.launch()
    expected = f"{first.name}, which alone may start the cluster"
    for node in others:
        eventually(lambda node=node: expected in waits_for(node), "it says for whom it waits")  # type: ignore[misc]
        assert phase_of(node) == "discovering"
    shown = json.loads(others[0].broker.admin("node", "discovery", "--format=json"))["table"]
    assert [(row["node"], row["standing"], bool(row["error"])) for row in shown] == [
        (first.name, "", True),
        (others[1].name, "new", False),
    ]
    # The second of them had all the patience there is.
    time.sleep(1.5)
    assert [phase_of(node) for node in others] == ["discovering", "discovering"]
    assert others[0].broker.log_tail().count("waits for its cluster") <= 3
    first.broker.launch()
    ready(first, *others)
    await_one_cluster(first, *others)


def test_a_node_that_was_told_to_start_alone_is_joined_by_the_first_when_that_comes(net: Network) -> None:
    first, other = net.named(0, 1, cluster__discovery__start_alone_after=1_500)
    other.broker.launch()
    ready(other)
    assert other.links() == {other.name: "self"}
    first.broker.launch()
    ready(first)
    await_one_cluster(first, other)
    assert metric(first, "cluster_discovery_joins") == 1


def test_a_node_that_had_to_start_alone_joins_later_by_itself(net: Network) -> None:
    (first,) = net.named(0, cluster__discovery__static__nodes=net.names(0, 1))
    first.broker.launch()
    ready(first)
    # It does not look for others, and has a cluster of its own.
    other = net.node(1)
    other.broker.launch()
    ready(other)
    await_one_cluster(first, other)


def test_a_node_whose_join_is_refused_says_why_once_serves_its_clients_and_goes_on_trying(
    net: Network, connect: Connect
) -> None:
    (first,) = net.named(0, cluster__discovery__static__nodes=net.names(0, 1))
    first.broker.launch()
    ready(first)
    client = connect(first, "lasting")
    other, last = net.node(1), net.node(2)
    for node in (other, last):
        node.broker.launch()
        ready(node)
    assert last.join(other) == "Done"
    eventually(lambda: metric(first, "cluster_discovery_joins_refused") >= 2, "it has tried twice")
    assert first.broker.log_tail().count("could not join") == 1
    assert first.links() == {first.name: "self"}
    client.disconnect()
    # Its next start does not keep its clients waiting for what may never come.
    first.broker.restart()
    eventually(lambda: metric(first, "cluster_discovery_joins_refused") >= 2, "it goes on trying")
    assert phase_of(first) == "ready"
    first.broker.admin("session", "disconnect", "client-id=lasting", "--cleanup")
    await_one_cluster(first, other, last)


@pytest.mark.parametrize(("policy", "sessions"), [("merge", ["lasting"]), ("reset", [])])
def test_what_a_node_that_joins_later_holds_goes_by_the_policy(
    net: Network, connect: Connect, policy: str, sessions: list[str]
) -> None:
    (first,) = net.named(0, cluster__discovery__static__nodes=net.names(0, 1), cluster__join_policy=policy)
    first.broker.launch()
    ready(first)
    connect(first, "lasting").disconnect()
    other, last = net.node(1), net.node(2)
    for node in (other, last):
        node.broker.launch()
        ready(node)
    assert last.join(other) == "Done"
    await_one_cluster(first, other, last)
    assert clients_of(first) == sessions


def test_a_node_whose_join_is_refused_at_its_start_waits_says_why_and_stops_at_once(net: Network) -> None:
    first, second = net.named(0, 1)
    second.broker.settings = {**second.broker.settings, "allow_multiple_sessions": True}
    for node in (first, second):
        node.broker.launch()
    reason = "allow_multiple_sessions must be the same on all nodes"
    eventually(lambda: reason in waits_for(second), "it says what is in the way")
    assert phase_of(second) == "joining"
    rows = json.loads(second.broker.admin("node", "health", "--format=json"))["table"]
    assert {row["check"]: row["ok"] for row in rows} == {
        "live": True,
        "started": False,
        "ready": False,
        "cluster": False,
    }
    stops_at_once(second)
    second.broker.settings = {**second.broker.settings, "allow_multiple_sessions": False}
    second.broker.launch()
    ready(second)
    await_one_cluster(first, second)


def test_a_node_that_looks_stops_at_once(net: Network) -> None:
    _, second, _ = net.named(0, 1, 2)
    second.broker.launch()
    eventually(lambda: phase_of(second) == "discovering", "it looks")
    stops_at_once(second)
    second.broker.launch()
    # A start that came to nothing is no reason to start alone.
    eventually(lambda: phase_of(second) == "discovering", "it looks again")
    time.sleep(1.5)
    assert phase_of(second) == "discovering"


def test_a_member_resumes_without_a_look(net: Network) -> None:
    nodes = net.named(0, 1, 2)
    for node in nodes:
        node.broker.launch()
    ready(*nodes)
    await_one_cluster(*nodes)
    for node in nodes:
        node.broker.stop()
    _, second, third = nodes
    for node in (second, third):
        node.broker.launch()
    await_one_cluster_but_first(nodes)
    assert metric(second, "cluster_discovery_looks") == 0


def await_one_cluster_but_first(nodes: list[ClusterNode]) -> None:
    first, second, third = nodes
    eventually(lambda: phase_of(second) == phase_of(third) == "ready", "the others are ready")
    eventually(lambda: second.sees(third, down=(first,)), "they see each other")


def test_a_node_that_lost_its_disk_finds_its_cluster_again(net: Network) -> None:
    nodes = net.named(0, 1, 2)
    for node in nodes:
        node.broker.launch()
    ready(*nodes)
    await_one_cluster(*nodes)
    first = nodes[0]
    first.kill()
    first.wipe()
    eventually(lambda: not nodes[1].sees(first, nodes[2]), "it counts as down")
    first.broker.launch()
    await_one_cluster(*nodes)


def test_a_node_serves_clients_before_it_has_found_its_cluster_if_it_is_told_to(net: Network, connect: Connect) -> None:
    first, second = net.named(0, 1, cluster__serve_before_ready=True)
    second.broker.start()
    client = connect(second)
    client.subscribe("t")
    client.publish("t", b"x")
    assert client.receive().payload == b"x"
    assert phase_of(second) == "discovering"
    client.disconnect()
    first.broker.launch()
    ready(first, second)
    await_one_cluster(first, second)


def test_nodes_with_one_name_tell_each_other_apart(net: Network) -> None:
    first, second = net.named(0, 1)
    double = net.node(
        2, {**second.broker.settings, "listener.vmq.default": f"{net.address(2)}:{net.port}"}, name=second.name
    )
    for node in (first, second):
        node.broker.launch()
    ready(first, second)
    double.broker.launch()
    expected = f"another name: the node at {net.address(1)}:{net.port} is {second.name} too"
    eventually(lambda: expected in waits_for(double), "it says what is in the way")
    eventually(lambda: first.sees(second) and second.sees(first), "the others are in touch")


def test_nodes_are_found_by_a_file_that_is_written_later(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    settings = {"cluster.discovery": "file", "cluster.discovery.file.path": str(path)}
    nodes = [net.node(number, settings) for number in range(2)]
    for node in nodes:
        node.broker.launch()
    for node in nodes:
        eventually(lambda node=node: "No such file" in waits_for(node), "it says what is missing")  # type: ignore[misc]
    path.write_text(net.names(0).replace(",", "\n") + "  # the first\n\n" + net.names(1) + "\n")
    ready(*nodes)
    await_one_cluster(*nodes)


def test_a_node_that_was_told_to_join_is_no_new_one_when_it_is_alone_later(net: Network) -> None:
    first, second = net.node(0), net.node(1)
    for node in (first, second):
        node.broker.launch()
        ready(node)
    assert second.join(first) == "Done"
    await_one_cluster(first, second)
    first.broker.stop()
    eventually(lambda: second.sees(down=(first,)), "it counts as down")
    assert second.broker.admin("cluster", "leave", f"node={first.name}").strip() == "Done"
    second.broker.stop()
    # As a new one it would wait for the first.
    names = {"cluster.discovery": "static", "cluster.discovery.static.nodes": net.names(0, 1)}
    second.broker.settings = {**second.broker.settings, **names}
    second.broker.launch()
    eventually(lambda: phase_of(second) == "ready", "it serves its clients")
    assert second.links() == {second.name: "self"}
