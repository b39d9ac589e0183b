"""A node joins a cluster and keeps what it has: what only it has, and what both have. Real processes."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from broker_process import BrokerError
from cluster.clients import Connect, NetworkOf, StartNode, clients_of, join, metric
from cluster.guard.rows import get_rows, put_rows
from cluster.guard.state import QUEUED, archives, away, is_quiet, resumed, retained, sent
from cluster.real_nodes import ClusterNode, eventually
from protocol.marks import V5

KILLS = 6
BOTH = ("shared-0", "shared-1")


def merge(node: ClusterNode, other: ClusterNode) -> list[str]:
    words = ("cluster", "join", f"discovery-node={other.address}", "--policy=merge")
    return node.broker.admin(*words).strip().splitlines()


def test_what_only_the_joiner_has_is_kept_and_becomes_the_clusters(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "only", "a/+")
    waiting = sent(two, connect, "a/b", "early")
    connect(two).publish("kept", b"of two", qos=1, retain=True)
    *lines, done = merge(two, one)
    assert done == "Done"
    (archive,) = archives(two)
    assert lines == [f"all that was here before is in {archive} (strogoff store restore)"]
    eventually(lambda: one.sees(two) and two.sees(one), "they see each other")
    eventually(lambda: metric(one, "retain_messages") == 1, "it is told of the retained message")
    assert retained(one, connect, "kept") == b"of two"
    waiting += sent(one, connect, "a/c", "late")
    client = resumed(one, connect, "only")
    assert client.receive_payloads(len(waiting)) == waiting
    client.barrier()
    two.broker.await_log('"policy": "merge"')


def test_sessions_that_both_have_become_one_with_all_messages_of_both(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    away(one, connect, "shared", "of/one", "of/both")
    away(two, connect, "shared", "of/two", "of/both")
    of_one = sent(one, connect, "of/one", "one")
    of_two = sent(two, connect, "of/two", "two")
    lines = merge(two, one)
    assert lines[:2] == [
        "sessions, united with the session of the cluster: 1",
        f"  shared, on {two.name}",
    ]
    eventually(lambda: one.sees(two) and two.sees(one), "they see each other")
    assert clients_of(one) + clients_of(two) == ["shared"]
    client = resumed(one, connect, "shared")
    assert client.receive_payloads(2 * QUEUED) == of_one + of_two
    publisher = connect(two)
    for topic in ("of/one", "of/two", "of/both"):
        publisher.publish(topic, topic.encode(), qos=1)
    assert client.receive_payloads(3) == [b"of/one", b"of/two", b"of/both"]
    client.barrier()
    assert "sessions" in two.broker.log_tail()
    two.broker.await_log('"what": "shared"')


@pytest.mark.parametrize("is_clean", [False, True])
def test_a_client_that_is_connected_to_the_cluster_gets_what_waits_on_the_joiner(
    started: StartNode,
    connect: Connect,
    at: NetworkOf,
    is_clean: bool,
) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "shared", "of/two")
    of_two = sent(two, connect, "of/two", "two")
    # With a clean start it asked for a new session before the two were one cluster, and so not in place of this one.
    client = at(one).connect(V5, "shared", clean_start=True) if is_clean else connect(one, "shared")
    client.subscribe("of/one", qos=1)
    merge(two, one)
    if is_clean:
        client.disconnect()
        client = resumed(one, connect, "shared")
    assert client.receive_payloads(QUEUED) == of_two
    client.barrier()
    connect(two).publish("of/two", b"now", qos=1)
    assert client.receive().payload == b"now"


def test_a_client_that_is_connected_to_the_joiner_keeps_its_session_and_gets_that_of_the_cluster(
    started: StartNode, connect: Connect
) -> None:
    one, two = started("one"), started("two")
    away(one, connect, "shared", "of/one")
    of_one = sent(one, connect, "of/one", "one")
    client = connect(two, "shared")
    client.subscribe("of/two", qos=1)
    merge(two, one)
    assert client.receive_payloads(QUEUED) == of_one
    connect(one).publish("of/two", b"now", qos=1)
    assert client.receive().payload == b"now"
    client.barrier()


def test_a_clean_start_on_the_joiner_does_not_end_the_session_that_the_cluster_has(
    started: StartNode, connect: Connect, at: NetworkOf
) -> None:
    one, two = started("one"), started("two")
    away(one, connect, "shared", "of/one")
    of_one = sent(one, connect, "of/one", "one")
    client = at(two).connect(V5, "shared", clean_start=True)
    assert two.join(one) == "Done"
    client.disconnect()
    assert resumed(two, connect, "shared").receive_payloads(QUEUED) == of_one


def test_a_session_whose_home_is_down_is_united_when_that_returns(started: StartNode, connect: Connect) -> None:
    one, two, three = started("one"), started("two"), started("three")
    join(one, three)
    away(three, connect, "shared", "of/three")
    of_three = sent(three, connect, "of/three", "three")
    away(two, connect, "shared", "of/two")
    of_two = sent(two, connect, "of/two", "two")
    eventually(lambda: metric(one, "cluster_session_records") == 1, "one knows of the session")
    three.broker.kill()
    eventually(lambda: one.sees(down=(three,)), "three is down")
    merge(two, one)
    connect(one).publish("of/three", b"meanwhile", qos=1)
    three.broker.start()
    eventually(lambda: three.sees(one, two) and two.sees(one, three), "all are there")
    eventually(lambda: clients_of(three) == [], "the session has gone to two")
    arrived = resumed(one, connect, "shared").receive_payloads(2 * QUEUED + 1)
    assert sorted(arrived) == sorted([*of_three, *of_two, b"meanwhile"])


def test_of_retained_messages_that_both_have_the_later_one_stays(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    connect(two).publish("r/cluster", b"two, earlier", qos=1, retain=True)
    connect(one).publish("r/joiner", b"one, earlier", qos=1, retain=True)
    time.sleep(0.01)
    connect(one).publish("r/cluster", b"one, later", qos=1, retain=True)
    connect(two).publish("r/joiner", b"two, later", qos=1, retain=True)
    lines = merge(two, one)
    assert "retained, the message of the cluster is the later one, and stays: 1" in lines
    assert "retained, the message of this node is the later one, and stays: 1" in lines
    for node in (one, two):
        eventually(lambda node=node: retained(node, connect, "r/cluster") == b"one, later", "the cluster's")  # type: ignore[misc]
        eventually(lambda node=node: retained(node, connect, "r/joiner") == b"two, later", "the joiner's")  # type: ignore[misc]


def test_two_nodes_that_merge_at_the_same_time_do_not_wait_for_each_other(started: StartNode, connect: Connect) -> None:
    nodes = one, two, three = started("one"), started("two"), started("three")
    waiting: list[bytes] = []
    for node in nodes:
        away(node, connect, "shared", f"of/{node.name}")
        waiting += sent(node, connect, f"of/{node.name}", node.name)
    with asked_to_merge(two, one) as first, asked_to_merge(three, one) as second:
        assert (first.wait(15), second.wait(15)) == (0, 0)
    eventually(lambda: one.sees(two, three) and two.sees(one, three) and three.sees(one, two), "all see all")
    eventually(lambda: sum(len(clients_of(node)) for node in nodes) == 1, "there is one session")
    client = resumed(one, connect, "shared")
    assert sorted(client.receive_payloads(len(waiting))) == sorted(waiting)
    client.barrier()
    for node in nodes:
        connect(one).publish(f"of/{node.name}", b"now", qos=1)
        assert client.receive().payload == b"now"


ROWS = {b"config/only_two": b"2", b"config/both": b"two", b"api_key/only_two": b"{}", b"api_key/both": b"{}"}


def test_of_settings_and_keys_that_both_have_those_of_the_cluster_stay(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "only", "a/+")
    waiting = sent(two, connect, "a/b", "early")
    for node, rows in ((one, {b"config/both": b"one", b"api_key/both": b"[]"}), (two, ROWS)):
        node.broker.stop()
        put_rows(node, rows)
        node.broker.start()
    with pytest.raises(BrokerError, match=r"2 settings of a cluster .* 2 API keys"):
        two.join(one)
    lines = merge(two, one)
    assert "starts again" in lines[-1]
    eventually(lambda: is_quiet(lambda: one.sees(two) and two.sees(one)), "they see each other")
    for what in ("config/both", "config/only_two", "api_key/both", "api_key/only_two"):
        two.broker.await_log(f'"what": "{what}"')
    two.broker.await_log('"message": "joined"')
    assert resumed(one, connect, "only").receive_payloads(QUEUED) == waiting
    for node in (one, two):
        node.broker.stop()
        rows = {key: value[8:] for key, value in get_rows(node).items() if key.startswith((b"config", b"api"))}
        node.broker.start()
        assert rows == ROWS | {b"config/both": b"one", b"api_key/both": b"[]"}


def test_what_is_left_of_an_earlier_cluster_does_not_come_into_the_next(started: StartNode, connect: Connect) -> None:
    one, two, former = started("one"), started("two"), started("former")
    join(two, former)
    away(two, connect, "passing", "a/+")
    eventually(lambda: metric(former, "cluster_session_records") == 1, "it has a record")
    former.broker.kill()
    eventually(lambda: two.sees(down=(former,)), "it is down")
    assert two.broker.admin("cluster", "leave", f"node={former.name}").strip() == "Done"
    connect(two, "passing").disconnect()
    two.broker.admin("session", "disconnect", "client-id=passing", "--cleanup")
    answer = two.join(one)
    assert "starts again" in answer
    eventually(lambda: is_quiet(lambda: one.sees(two) and two.sees(one)), "they see each other")
    two.broker.await_log('"message": "joined"')
    one.broker.stop()
    assert not [key for key in get_rows(one) if b"former" in key]
    one.broker.start()


def asked_to_merge(node: ClusterNode, other: ClusterNode) -> "subprocess.Popen[bytes]":
    program = Path(sys.executable).parent / "vmq-admin"
    return subprocess.Popen(
        [program, "cluster", "join", f"discovery-node={other.address}", "--policy=merge"],
        cwd=node.broker.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Both:
    """Two nodes with sessions, some of which both have, and what waits for each."""

    def __init__(self, one: ClusterNode, two: ClusterNode, connect: Connect) -> None:
        self.one, self.two, self._connect = one, two, connect
        self._topics: dict[str, list[str]] = {}
        self._waiting: dict[str, list[bytes]] = {}
        for name, node in (("one", one), ("two", two)):
            for client_id in (*BOTH, f"only-{name}"):
                topic = f"{name}/{client_id}"
                away(node, connect, client_id, topic)
                self._topics.setdefault(client_id, []).append(topic)
                self._waiting.setdefault(client_id, []).extend(sent(node, connect, topic, topic, 5))
        connect(two).publish("kept", b"of two", qos=1, retain=True)

    def are_one(self) -> bool:
        return is_quiet(lambda: self.one.sees(self.two) and self.two.sees(self.one))

    def judge(self) -> None:
        """Each session has got all that was acknowledged to either node, once, and what is published now."""
        eventually(lambda: metric(self.one, "retain_messages") == 1, "it is told of the retained message")
        assert retained(self.one, self._connect, "kept") == b"of two"
        for client_id, payloads in self._waiting.items():
            client = resumed(self.one, self._connect, client_id)
            assert sorted(client.receive_payloads(len(payloads))) == sorted(payloads)
            client.barrier()
            for topic in self._topics[client_id]:
                self._connect(self.two).publish(topic, b"now", qos=1)
                assert client.receive().payload == b"now"
            client.barrier()


def await_moment(moment: str | int, longest_s: float, *logs: tuple[ClusterNode, int]) -> None:
    """Return when one of the nodes has logged that since, or after a while at random."""
    if isinstance(moment, int):
        time.sleep(random.Random().random() * longest_s)
        return
    deadline = time.monotonic() + 10
    while not any(moment in node.broker.log_tail(since) for node, since in logs):
        assert time.monotonic() < deadline, f"nobody has logged '{moment}'"
        time.sleep(0.001)


@pytest.mark.parametrize("with_rows", [False, True])
@pytest.mark.parametrize(
    "moment",
    [
        "archived before it joins",
        "let a node join",
        "metadata exchanged",
        "sessions have come",
        "settled",
        *range(KILLS),
    ],
)
def test_a_node_that_is_killed_in_the_middle_comes_to_the_same_end(
    started: StartNode,
    connect: Connect,
    moment: str | int,
    with_rows: bool,
) -> None:
    one, two = started("one"), started("two")
    both = Both(one, two, connect)
    if with_rows:
        two.broker.stop()
        put_rows(two, ROWS)
        two.broker.start()
    since = two.broker.log_size()
    logs = ((one, one.broker.log_size()), (two, since))
    with asked_to_merge(two, one):
        try:
            await_moment(moment, 2.5 if with_rows else 1.0, *logs)
        finally:
            two.kill()
    two.broker.start()
    if not _soon(both.are_one):
        # It was killed before anything had begun.
        assert one.links() == {one.name: "self"}
        merge(two, one)
    eventually(both.are_one, "they see each other")
    eventually(lambda: '"message": "joined"' in two.broker.log_tail(since), "it has joined")
    both.judge()
    if with_rows:
        one.broker.stop()
        assert set(ROWS) <= set(get_rows(one))
        one.broker.start()


def _soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 4
    while not is_quiet(condition):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
