"""A node that holds something refuses to join under `strict`, and says what it is. Real processes."""

import time

import pytest

from broker_process import BrokerError
from cluster.clients import Connect, StartNode, tables
from cluster.real_nodes import ClusterNode
from strogoff.store.files import log_files, store_of


def holdings(node: ClusterNode) -> dict[str, int]:
    """What the node says that it holds, of that which there is."""
    _, held = tables(node.broker.admin("node", "history", "--format=csv"))
    return {row["holds"]: int(row["number"]) for row in held if row["number"] != "0"}


def outlook(node: ClusterNode, other: ClusterNode) -> tuple[dict[str, int], dict[str, str]]:
    """What a join would meet: here, and there."""
    text = node.broker.admin("cluster", "join", f"discovery-node={other.address}", "--dry-run", "--format=csv")
    held, said = tables(text)
    name, to = said[0].keys()
    return {row["holds"]: int(row["number"]) for row in held if row["number"] != "0"}, {
        row[name]: row[to] for row in said
    }


def give_state(node: ClusterNode, connect: Connect) -> None:
    client = connect(node, "lasting")
    client.subscribe("a/#", "b", qos=1)
    client.disconnect()
    publisher = connect(node)
    for number in range(3):
        publisher.publish("b", b"%d" % number, qos=1)
    publisher.publish("kept", b"x", qos=1, retain=True)
    publisher.disconnect()


STATE = {"sessions": 1, "subscriptions": 2, "retained": 1}


def test_a_node_with_state_refuses_and_says_what_it_holds(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    give_state(two, connect)
    assert holdings(two) == STATE
    with pytest.raises(BrokerError) as refused:
        two.join(one)
    for part in (
        "two@127.0.0.1 refuses to join: it holds 1 session (lasting; 3 messages wait), 2 subscriptions (",
        "1 retained message (kept)",
        "Ways on: ",
    ):
        assert part in str(refused.value)
    two.broker.await_log("refused to join a cluster")
    assert '"level": "warning"' in next(
        line for line in two.broker.log_tail().splitlines() if "refused to join a cluster" in line
    )
    assert one.links() == {one.name: "self"}
    assert two.links() == {two.name: "self"}
    assert connect(two, "lasting").receive_payloads(3) == [b"0", b"1", b"2"]


def test_what_the_broker_does_for_itself_and_clean_sessions_are_no_obstacle(
    started: StartNode, connect: Connect
) -> None:
    one = started("one")
    two = started("two", systree_retain=True, systree_interval=100)
    connect(two).subscribe("a")
    two.broker.await_ready()
    while "internal" not in holdings(two):
        pass
    assert set(holdings(two)) == {"internal"}
    assert two.join(one) == "Done"


def test_a_bridge_that_is_on_from_the_first_start_is_no_obstacle(started: StartNode) -> None:
    one = started("one")
    bridge = {"vmq_bridge__tcp__away": "127.0.0.1:1", "vmq_bridge__tcp__away__topic__1": "all/# both 1"}
    two = started("two", plugins__vmq_bridge=True, **bridge)
    two.broker.await_ready()
    assert set(holdings(two)) <= {"internal"}
    assert two.join(one) == "Done"


def test_a_dry_run_tells_what_there_is_here_and_there_and_changes_nothing(started: StartNode, connect: Connect) -> None:
    one, two, three = started("one"), started("two"), started("three")
    assert three.join(one) == "Done"
    give_state(two, connect)
    before = [(path.name, path.stat().st_size) for path in log_files(store_of(two.broker.data_directory))]
    held, said = outlook(two, one)
    assert held == STATE
    assert said["reached"] == said["would let it in"] == "true"
    assert said["members"] == f"{one.name},{three.name}"
    assert said["problem"] == ""
    assert said["with strict this node would"] == "refuse to join"
    assert two.links() == {two.name: "self"}
    assert set(one.links()) == {one.name, three.name}
    assert [(path.name, path.stat().st_size) for path in log_files(store_of(two.broker.data_directory))] == before
    assert holdings(two) == STATE


def test_a_dry_run_tells_why_the_other_node_would_refuse(started: StartNode) -> None:
    one, two = started("one"), started("two", allow_multiple_sessions=True)
    _, said = outlook(two, one)
    assert (said["reached"], said["would let it in"]) == ("true", "false")
    assert "allow_multiple_sessions must be the same on all nodes" in said["problem"]


def test_a_dry_run_tells_that_a_node_cannot_be_reached(started: StartNode) -> None:
    one, two = started("one", distributed_cookie="a"), started("two", distributed_cookie="b")
    _, said = outlook(two, one)
    assert said["reached"] == "false"
    assert "distributed_cookie" in said["problem"]


def test_a_dry_run_of_a_member_says_in_which_cluster_it_is(started: StartNode) -> None:
    one, two, three = started("one"), started("two"), started("three")
    assert two.join(one) == "Done"
    _, said = outlook(two, three)
    assert f"{two.name} is in a cluster with {one.name} already" in said["problem"]
    assert two.sees(one)


def test_a_join_that_was_refused_is_not_tried_again(started: StartNode) -> None:
    one, two = started("one", allow_multiple_sessions=True), started("two")
    with pytest.raises(BrokerError, match="allow_multiple_sessions must be the same"):
        two.join(one)
    one.broker.stop()
    one.broker.settings = {**one.broker.settings, "allow_multiple_sessions": False}
    one.broker.start()
    # A try in the background would be made within a second.
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        assert one.links() == {one.name: "self"}
        time.sleep(0.1)
    assert "tried again" not in two.broker.log_tail()
    assert two.join(one) == "Done"
