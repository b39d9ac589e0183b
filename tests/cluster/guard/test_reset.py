"""A node archives what it has and joins empty; what is when it is killed on the way. Real processes."""

import time
from pathlib import Path

import pytest

from cluster.clients import Connect, StartNode, clients_of, metric
from cluster.guard.state import archives, away, is_quiet, resumed, sent
from cluster.real_nodes import ClusterNode, eventually, make_node

QUEUED = 10


def reset(node: ClusterNode, other: ClusterNode) -> str:
    return node.broker.admin("cluster", "join", f"discovery-node={other.address}", "--policy=reset").strip()


def await_joined(one: ClusterNode, two: ClusterNode) -> None:
    eventually(lambda: is_quiet(lambda: one.sees(two) and two.sees(one)), "they see each other")
    two.broker.await_log('"message": "joined"')


def restored(archive: Path, directory: Path) -> ClusterNode:
    """A new node with what an archive has."""
    node = make_node(directory, "restored")
    node.broker.directory.mkdir()
    node.broker.data_directory.mkdir(mode=0o700)
    done = node.broker.program("strogoff", "store", "restore", f"--data-dir={node.broker.data_directory}", str(archive))
    assert done.returncode == 0, done.stderr
    return node


def test_all_is_archived_and_the_node_joins_empty(started: StartNode, connect: Connect, tmp_path: Path) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "lasting", "a/+")
    waiting = sent(two, connect, "a/b", "early", QUEUED)
    connect(two).publish("kept", b"x", qos=1, retain=True)
    connect(one).publish("kept/by/one", b"y", qos=1, retain=True)
    said = reset(two, one)
    assert "starts again" in said
    await_joined(one, two)
    (archive,) = archives(two)
    assert str(archive) in said
    assert not clients_of(two)
    assert not (two.broker.data_directory / "store.archived").exists()
    eventually(lambda: metric(two, "retain_messages") == 1, "it has what the cluster has")
    assert metric(one, "retain_messages") == 1
    for what in ("1 session (lasting; 10 messages wait)", "1 subscription (a/+)", "1 retained message (kept)"):
        two.broker.await_log(f'"what": "{what}"')
    two.broker.restart()
    eventually(lambda: one.sees(two) and two.sees(one), "it stays a member")
    assert archives(two) == [archive]
    with restored(archive, tmp_path).broker as broker:
        again = ClusterNode(broker, "restored", 0)
        assert resumed(again, connect, "lasting").receive_payloads(QUEUED) == waiting
        assert metric(again, "retain_messages") == 1


def test_what_was_archived_comes_back_with_a_merge(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "lasting", "a/+")
    waiting = sent(two, connect, "a/b", "early", QUEUED)
    reset(two, one)
    await_joined(one, two)
    (archive,) = archives(two)
    two.broker.stop()
    words = ("store", "restore", "--replace", f"--data-dir={two.broker.data_directory}", str(archive))
    assert two.broker.program("strogoff", *words).returncode == 0
    two.broker.start()
    words = ("cluster", "join", f"discovery-node={one.address}", "--policy=merge")
    assert two.broker.admin(*words).strip().endswith("Done")
    await_joined(one, two)
    assert resumed(one, connect, "lasting").receive_payloads(QUEUED) == waiting


def test_a_node_that_holds_nothing_joins_at_once(started: StartNode) -> None:
    one, two = started("one"), started("two")
    assert reset(two, one) == "Done"
    assert not archives(two)


@pytest.mark.parametrize("killed_at", [0.0, 0.3, 0.5, 0.55, 0.6, 0.7, 0.9])
def test_a_node_that_is_killed_on_the_way_joins_empty_with_all_in_the_archive(
    started: StartNode, connect: Connect, tmp_path: Path, killed_at: float
) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "lasting", "a/+")
    waiting = sent(two, connect, "a/b", "early", QUEUED)
    reset(two, one)
    time.sleep(killed_at)
    two.kill()
    two.broker.start()
    await_joined(one, two)
    assert not clients_of(two)
    (archive,) = archives(two)
    with restored(archive, tmp_path).broker as broker:
        again = ClusterNode(broker, "restored", 0)
        assert resumed(again, connect, "lasting").receive_payloads(QUEUED) == waiting
