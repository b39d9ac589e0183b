"""Nodes that leave their cluster while they can be reached. Real processes."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from broker_process import BrokerError
from cluster.clients import Connect, StartNode, await_route, clustered
from cluster.real_nodes import ClusterNode, eventually

CLIENTS = 30
QUEUED = 20


@pytest.mark.parametrize("asked", ["itself", "another"])
def test_a_node_that_leaves_hands_its_sessions_over_and_stops(started: StartNode, connect: Connect, asked: str) -> None:
    nodes = clustered(started, "one", "two", "three")
    one, two, three = nodes
    for number in range(CLIENTS):
        client = connect(two, f"kept-{number}")
        client.subscribe(f"own/{number}", "all", qos=2)
        if number % 2:
            client.disconnect()
    publisher = connect(one)
    for number in range(QUEUED):
        publisher.publish("all", b"%d" % number, qos=2)
    where = two if asked == "itself" else one
    told = where.broker.admin("cluster", "leave", f"node={two.name}", "-k")
    assert told.splitlines()[-1] == "Done"
    assert two.broker.await_end() == 0
    for node in (one, three):
        others = [other for other in (one, three) if other is not node]
        eventually(lambda node=node, others=others: node.sees(*others), "two is gone")  # type: ignore[misc]
    for number in range(CLIENTS):
        client = connect(nodes[0 if number % 2 else 2], f"kept-{number}")
        assert client.referee.connack is not None
        assert client.referee.connack.session_present
        # Those that were connected may have taken some of it before.
        wanted = [b"%d" % each for each in range(QUEUED)]
        if number % 2:
            assert client.receive_payloads(QUEUED) == wanted
        publisher.publish(f"own/{number}", b"still here", qos=1)
        while client.receive().payload != b"still here":
            pass
    # It starts as a cluster of one, and may join again.
    two.broker.start()
    eventually(two.sees, "two is alone")
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two, three), "all three are there")


def test_a_node_that_has_left_begins_empty_and_brings_nothing_old_back(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    publisher = connect(one)
    for round_number in range(2):
        for topic in ("stays", "goes"):
            publisher.publish(topic, b"%d" % round_number, qos=1, retain=True)
        assert two.broker.admin("retain", "show", "--format=csv").count("\n") == 3
        assert two.broker.admin("cluster", "leave", f"node={two.name}", "-k").splitlines()[-1] == "Done"
        assert two.broker.await_end() == 0
        publisher.publish("goes", b"", qos=1, retain=True)
        two.broker.start()
        two.broker.await_log("it begins empty")
        assert two.broker.admin("retain", "show") == ""
        # What it had is kept, for whoever wants to look, and does not add up.
        assert len(list(two.broker.data_directory.glob("store.left-*"))) == 1
        assert two.join(one) == "Done"
        eventually(lambda: one.sees(two), "it is a member again")
        eventually(lambda: "stays" in two.broker.admin("retain", "show"), "it has what there is")
        for node in (one, two):
            assert "goes" not in node.broker.admin("retain", "show")


def test_nodes_that_leave_at_the_same_time_lose_nothing_to_each_other(started: StartNode, connect: Connect) -> None:
    one, two, three = clustered(started, "one", "two", "three")
    # Each of them offers its sessions to the other one first.
    going = (one, three)
    names = {node.name: [f"{node.name[:3]}-{number}" for number in range(60)] for node in going}
    for node in going:
        for name in names[node.name]:
            client = connect(node, name)
            client.subscribe("all", qos=1)
            client.disconnect()
    publisher = connect(two)
    for number in range(5):
        publisher.publish("all", b"%d" % number, qos=1)

    def leave(node: ClusterNode) -> str:
        # It may have to be told again, when the other one has refused what it offered.
        for _ in range(10):
            with contextlib.suppress(BrokerError):
                return node.broker.admin("cluster", "leave", f"node={node.name}", "-k").splitlines()[-1]
        return "not left"

    with ThreadPoolExecutor(2) as executor:
        assert list(executor.map(leave, going)) == ["Done", "Done"]
    for node in going:
        assert node.broker.await_end() == 0
    eventually(two.sees, "both are gone")
    for name in (*names[one.name], *names[three.name]):
        client = connect(two, name)
        assert client.referee.connack is not None
        assert client.referee.connack.session_present, name
        assert client.receive_payloads(5) == [b"%d" % number for number in range(5)], name
        client.disconnect()


def test_without_k_a_node_lets_nobody_in_and_stays(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a", qos=1)
    await_route(publisher, subscriber, "a")
    told = one.broker.admin("cluster", "leave", f"node={two.name}")
    assert "Use -k" in told
    with pytest.raises(ConnectionRefusedError):
        connect(two)
    publisher.publish("a", b"still", qos=1)
    assert subscriber.receive().payload == b"still"
    assert one.sees(two)


def test_a_node_that_is_alone_cannot_leave(started: StartNode) -> None:
    one = started("one")
    with pytest.raises(BrokerError, match="reaches no other node"):
        one.broker.admin("cluster", "leave", f"node={one.name}", "-k")
