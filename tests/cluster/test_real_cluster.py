"""Membership with real processes: nodes join, come and go, lose their disks, and are taken out."""

import os
import signal

import pytest

from broker_process import BrokerError
from cluster.clients import Connect, StartNode, clients_of, metric
from cluster.real_nodes import LINK_TIMEOUT_MS, ClusterNode, eventually
from strogoff.cli.exit_codes import ExitCode

LOST = 5


@pytest.fixture
def three(started: StartNode) -> tuple[ClusterNode, ClusterNode, ClusterNode]:
    """A cluster of three."""
    one, two, three = started("one"), started("two"), started("three")
    assert two.join(one) == "Done"
    assert three.join(two) == "Done"
    eventually(lambda: one.sees(two, three) and two.sees(one, three) and three.sees(one, two), "all see all")
    return one, two, three


def test_a_node_alone_is_a_cluster_of_one(started: StartNode) -> None:
    assert started("one").links() == {"one@127.0.0.1": "self"}


def test_a_cluster_is_there_again_after_a_restart_of_all(three: tuple[ClusterNode, ...]) -> None:
    for node in three:
        node.broker.stop()
    for node in three:
        node.broker.start()
    one, two, last = three
    eventually(lambda: one.sees(two, last) and two.sees(one, last) and last.sees(one, two), "all see all again")


def test_a_node_that_is_killed_counts_as_down_and_comes_back(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    assert (metric(one, "cluster_members"), metric(one, "cluster_members_reachable")) == (3, 3)
    last.broker.kill()
    eventually(lambda: one.sees(two, down=(last,)) and two.sees(one, down=(last,)), "it counts as down")
    assert (metric(one, "cluster_members"), metric(one, "cluster_members_reachable")) == (3, 2)
    last.broker.start()
    eventually(lambda: one.sees(two, last) and last.sees(one, two), "it is back")


def test_a_node_that_is_silent_counts_as_down_within_the_link_timeout(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    os.kill(last.broker.pid, signal.SIGSTOP)
    try:
        eventually(lambda: one.sees(two, down=(last,)), "it counts as down", timeout_s=2 + LINK_TIMEOUT_MS / 1_000)
    finally:
        os.kill(last.broker.pid, signal.SIGCONT)
    eventually(lambda: one.sees(two, last) and last.sees(one, two), "it is back")


def test_a_node_that_lost_its_disk_comes_back_under_its_name(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    last.broker.kill()
    last.wipe()
    last.broker.start()
    assert last.links() == {last.name: "self"}
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    assert last.join(one) == "Done"
    eventually(lambda: one.sees(two, last) and two.sees(one, last) and last.sees(one, two), "all see all again")


def test_a_node_that_was_taken_out_while_it_was_away_learns_of_it(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    last.broker.kill()
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    assert one.broker.admin("cluster", "leave", f"node={last.name}").strip() == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "the others know")
    last.broker.launch()
    assert last.broker.await_end() == ExitCode.REMOVED
    last.broker.await_log("was taken out of its cluster while it was away")
    assert one.sees(two)


def test_a_node_that_was_taken_out_puts_its_state_away_and_may_join_again(
    three: tuple[ClusterNode, ...], connect: Connect
) -> None:
    one, two, last = three
    publisher = connect(last)
    connect(last, "lasting").subscribe("t", qos=1)
    publisher.publish("kept", b"x", qos=1, retain=True)
    eventually(lambda: metric(one, "cluster_session_records") == 1, "the others know of the session")
    last.broker.kill()
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    assert one.broker.admin("cluster", "leave", f"node={last.name}").strip() == "Done"
    one.broker.admin("retain", "delete", "--topic=kept")
    eventually(lambda: one.sees(two) and two.sees(one), "the others know")
    last.broker.launch()
    assert last.broker.await_end() == ExitCode.REMOVED
    last.broker.start()
    last.broker.await_log("begins empty and alone")
    assert last.links() == {last.name: "self"}
    assert metric(last, "retain_messages") == 0
    assert not clients_of(last)
    (away,) = last.broker.data_directory.glob("store.removed-*")
    assert list(away.glob("*.log"))
    assert last.join(one) == "Done"
    eventually(lambda: one.sees(two, last) and last.sees(one, two), "it is a member again")
    # What was deleted meanwhile has not come back with it.
    assert metric(last, "retain_messages") == metric(one, "retain_messages") == 0
    last.broker.stop()
    last.broker.start()
    eventually(lambda: last.sees(one, two), "it stays one")


def test_the_others_join_and_leave_while_one_is_down(started: StartNode) -> None:
    one, two = started("one"), started("two")
    assert two.join(one) == "Done"
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "it counts as down")
    three = started("three")
    assert three.join(one) == "Done"
    two.broker.start()
    eventually(lambda: two.sees(one, three) and three.sees(one, two), "the two have found each other")


def test_a_node_with_a_session_refuses_to_join_and_says_why(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    connect(two, "lasting").disconnect()
    with pytest.raises(BrokerError, match=r"two@127\.0\.0\.1 refuses to join: it holds 1 session \(lasting\)"):
        two.join(one)
    assert one.links() == {one.name: "self"}
    assert two.links() == {two.name: "self"}
    connect(two, "lasting").disconnect()


def test_a_wrong_cookie_is_told_by_name(started: StartNode) -> None:
    one, two = started("one", distributed_cookie="a"), started("two", distributed_cookie="b")
    with pytest.raises(BrokerError, match=r"cannot reach one@127\.0\.0\.1 .*distributed_cookie"):
        two.join(one)
    assert one.links() == {one.name: "self"}


def test_an_address_where_another_node_answers_is_told(started: StartNode) -> None:
    one, two = started("one"), started("two")
    with pytest.raises(BrokerError, match=r"one@127\.0\.0\.1 answers there"):
        two.broker.admin("cluster", "join", f"discovery-node=other@127.0.0.1:{one.cluster_port}")


@pytest.mark.parametrize("target", ["one", "one@127.0.0.1:x", "@127.0.0.1"])
def test_a_node_that_has_no_name_is_refused(started: StartNode, target: str) -> None:
    with pytest.raises(BrokerError, match="write NAME@HOST"):
        started("one").broker.admin("cluster", "join", f"discovery-node={target}")


def test_a_node_of_a_cluster_joins_no_other_one(started: StartNode) -> None:
    one, two, three = started("one"), started("two"), started("three")
    assert two.join(one) == "Done"
    with pytest.raises(BrokerError, match=r"two@127\.0\.0\.1 is in a cluster with one@127\.0\.0\.1 already"):
        two.join(three)


def test_a_member_keeps_its_name(started: StartNode) -> None:
    one, two = started("one"), started("two")
    assert two.join(one) == "Done"
    two.broker.stop()
    two.broker.settings = {**two.broker.settings, "nodename": "other@127.0.0.1"}
    two.broker.launch()
    assert two.broker.await_end() != 0
    assert "set nodename back" in two.broker.log_tail()


def test_a_node_whose_machine_went_down_is_a_member_still(three: tuple[ClusterNode, ...], connect: Connect) -> None:
    one, two, last = three
    connect(last, "before").subscribe("before", qos=1)
    eventually(lambda: metric(one, "cluster_session_records") == 1, "the others know of the session")
    last.lose_power()
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    last.broker.start()
    last.broker.await_log("writes under a new incarnation")
    eventually(lambda: last.sees(one, two) and one.sees(two, last) and two.sees(one, last), "it is back")
    assert "without being in step" not in last.broker.log_tail()
    # What it writes under its new incarnation reaches the others.
    connect(last, "after").subscribe("after", qos=1)
    eventually(lambda: metric(two, "cluster_session_records") == 2, "the others know of the new session")
    last.broker.restart()
    eventually(lambda: last.sees(one, two) and one.sees(two, last), "it is back once more")


def test_a_cluster_whose_machines_all_went_down_is_there_again(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    for node in three:
        node.lose_power()
    for node in three:
        node.broker.start()
    eventually(lambda: one.sees(two, last) and two.sees(one, last) and last.sees(one, two), "all see all again")


def test_a_node_that_was_taken_out_after_its_machine_went_down_learns_of_it(three: tuple[ClusterNode, ...]) -> None:
    one, two, last = three
    last.lose_power()
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    assert one.broker.admin("cluster", "leave", f"node={last.name}").strip() == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "the others know")
    last.broker.launch()
    assert last.broker.await_end() == ExitCode.REMOVED
    last.broker.start()
    last.broker.await_log("begins empty and alone")
    assert last.links() == {last.name: "self"}
    assert last.join(one) == "Done"
    eventually(lambda: one.sees(two, last) and two.sees(one, last) and last.sees(one, two), "it is a member again")


def test_a_node_whose_store_has_lost_what_others_have_seen_starts_again(started: StartNode, connect: Connect) -> None:
    """An older copy of its store is put in its place, and it writes something before it meets the other node."""
    one, two = started("one"), started("two")
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "they are a cluster")
    two.broker.stop()
    two.copy_store()
    two.broker.start()
    publisher = connect(two)
    for number in range(LOST):
        publisher.publish(f"lost/{number}", b"x", qos=1, retain=True)
    eventually(lambda: metric(one, "retain_messages") == LOST, "the other node has them")
    two.broker.kill()
    one.broker.stop()
    two.put_copy_back()
    two.broker.start()
    assert metric(two, "retain_messages") == 0
    connect(two).publish("new", b"x", qos=1, retain=True)
    since = two.broker.log_size()
    one.broker.start()
    two.broker.await_log("has lost what other nodes have seen")
    two.broker.await_log("starting again")
    eventually(lambda: '"message": "ready"' in two.broker.log_tail(since), "it is ready again")
    eventually(lambda: one.sees(two) and two.sees(one), "they are a cluster again")
    for node in (one, two):
        eventually(lambda node=node: metric(node, "retain_messages") == LOST + 1, "nothing is missing")  # type: ignore[misc]
    connect(two).publish("newer", b"x", qos=1, retain=True)
    eventually(lambda: metric(one, "retain_messages") == LOST + 2, "what it writes reaches the other one")
    two.broker.restart()
    eventually(lambda: one.sees(two) and two.sees(one), "it stays one")
    assert two.broker.log_path.read_text().count("starting again") == 1


def test_a_node_that_has_an_older_copy_of_its_store_from_before_its_machine_went_down_starts_again(
    started: StartNode, connect: Connect
) -> None:
    """The other node knows it by an incarnation of which the copy does not know."""
    one, two = started("one"), started("two")
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "they are a cluster")
    two.broker.stop()
    two.copy_store()
    two.broker.start()
    two.lose_power()
    two.broker.start()
    eventually(lambda: one.sees(two) and two.sees(one), "they are a cluster again")
    two.broker.kill()
    two.put_copy_back()
    two.broker.start()
    connect(two).publish("alone", b"x", qos=1, retain=True)
    two.broker.await_log("starting again")
    eventually(lambda: metric(one, "retain_messages") == 1, "what it wrote meanwhile is there")
    eventually(lambda: one.sees(two), "they are a cluster once more")


def test_a_node_whose_place_another_one_has_taken_is_not_let_in(started: StartNode) -> None:
    one, two = started("one"), started("two")
    assert two.join(one) == "Done"
    two.lose_power()
    former = two.broker.data_directory.rename(two.broker.directory / "former")
    two.broker.start()
    eventually(lambda: one.sees(down=(two,)), "it counts as down")
    assert two.join(one) == "Done"
    eventually(lambda: one.sees(two) and two.sees(one), "it has its place")
    two.broker.stop()
    two.wipe()
    former.rename(two.broker.data_directory)
    two.broker.start()
    two.broker.await_log("a member does not know this node by its incarnation")
    assert one.sees(down=(two,))
    assert two.sees(down=(one,))


def test_nodes_that_were_taken_out_do_not_keep_each_other_in(three: tuple[ClusterNode, ...]) -> None:
    """Each of the two takes the other for a member; the one that has taken them out says otherwise once it is there."""
    one, *others = three
    for node in others:
        node.lose_power()
    eventually(lambda: one.sees(down=tuple(others)), "they count as down")
    for node in others:
        assert one.broker.admin("cluster", "leave", f"node={node.name}").strip() == "Done"
    one.broker.stop()
    two, last = others
    two.broker.start()
    last.broker.start()
    eventually(lambda: two.sees(last, down=(one,)) and last.sees(two, down=(one,)), "they have found each other")
    one.broker.start()
    for node in others:
        assert node.broker.await_end() == ExitCode.REMOVED
    assert one.links() == {one.name: "self"}
