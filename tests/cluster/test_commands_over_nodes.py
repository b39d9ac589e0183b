"""`vmq-admin` on one node about what others have."""

import csv
import io

import pytest

from cluster.clients import Connect, StartNode, clustered, metric, stopped
from cluster.real_nodes import ClusterNode, eventually


def rows(node: ClusterNode, *words: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(node.broker.admin(*words, "--format=csv"))))


def online(node: ClusterNode, *words: str) -> set[tuple[str, str]]:
    found = rows(node, "session", "show", "--node", "--client_id", "--is_online=true", *words)
    return {(row["node"], row["client_id"]) for row in found}


@pytest.fixture
def two(started: StartNode) -> list[ClusterNode]:
    return clustered(started, "one", "two")


def test_sessions_of_all_nodes_are_shown_on_each_and_one_node_is_asked_by_its_name(
    two: list[ClusterNode], connect: Connect
) -> None:
    one, other = two
    connect(one, "anna"), connect(other, "bert")
    everybody = {(one.name, "anna"), (other.name, "bert")}
    assert online(one) == everybody
    assert online(other) == everybody
    assert online(one, f"--node={other.name}") == {(other.name, "bert")}
    assert online(one, f"--node={one.name}") == {(one.name, "anna")}
    assert online(one, "--node=~^two") == {(other.name, "bert")}


def test_a_node_that_is_none_is_named_with_those_that_are(two: list[ClusterNode]) -> None:
    done = two[0].broker.program("vmq-admin", "session", "show", "--node=three@127.0.0.1")
    assert done.returncode == 1
    assert f"--node=three@127.0.0.1: no such node; the cluster has {two[0].name}, {two[1].name}" in done.stderr


def test_a_client_is_disconnected_wherever_it_is(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(other, "anna"), connect(other, "bert"), connect(one, "cora")
    assert one.broker.admin("session", "disconnect", "client-id=anna").strip() == "Done"
    assert online(one) == {(other.name, "bert"), (one.name, "cora")}
    assert other.broker.admin("session", "disconnect", "clients", "client-ids=bert,cora", "--cleanup").strip() == "Done"
    assert online(one) == set()
    done = one.broker.program("vmq-admin", "session", "disconnect", "client-id=nobody")
    assert (done.returncode, "no session of nobody" in done.stderr) == (1, True)


def test_a_subscription_is_removed_wherever_its_session_is(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(other, "anna").subscribe("tea", qos=1)
    done = one.broker.program("vmq-admin", "session", "unsubscribe", "client-id=anna", "topic=coffee")
    assert (done.returncode, f"{other.name}: anna has not subscribed to coffee" in done.stderr) == (1, True)
    assert one.broker.admin("session", "unsubscribe", "client-id=anna", "topic=tea").strip() == "Done"
    assert rows(one, "session", "show", "--topic", "--client_id=anna") == []


def test_clients_of_another_node_are_ended_in_a_batch(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(one, "anna"), connect(other, "bert"), connect(other, "cora")
    said = one.broker.admin("session", "disconnect", "batch", "count=5", f"--node={other.name}")
    assert said.strip() == "2 clients disconnected"
    assert online(one) == {(one.name, "anna")}


def test_what_each_node_retains_is_shown_beside_the_node(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(one, "anna").publish("state/lamp", b"on", qos=1, retain=True)
    eventually(lambda: rows(other, "retain", "show"), "the other node has the message")
    wanted = [{"node": node.name, "payload": "on", "topic": "state/lamp"} for node in two]
    assert rows(one, "retain", "show", "--node") == wanted
    assert rows(one, "retain", "show", f"--node={other.name}", "--topic") == [{"topic": "state/lamp"}]
    assert rows(one, "retain", "show", "--topic") == [{"topic": "state/lamp"}]


def test_metrics_of_all_nodes_have_the_node_as_label(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(other, "anna").publish("tea", b"", qos=1)
    eventually(lambda: metric(other, "mqtt_publish_received"), "it is counted")
    lines = one.broker.admin("metrics", "show", "--node").splitlines()
    assert f"counter.mqtt_publish_received[node={one.name}] = 0" in lines
    assert f"counter.mqtt_publish_received[node={other.name}] = 1" in lines
    lines = one.broker.admin("metrics", "show", f"--node={other.name}").splitlines()
    assert f"counter.mqtt_publish_received[node={other.name}] = 1" in lines
    assert not [line for line in lines if one.name in line]


def test_a_key_is_set_on_another_node_and_on_all(two: list[ClusterNode]) -> None:
    one, other = two
    one.broker.admin("set", "max_inflight_messages=7", f"--node={other.name}")
    shown = {row["node"]: row["max_inflight_messages"] for row in rows(one, "show", "max_inflight_messages", "--all")}
    assert shown == {one.name: "20", other.name: "7"}
    results = rows(one, "set", "max_inflight_messages=9", "--all")
    assert [(row["Node"], row["Result"]) for row in results] == [(one.name, "ok"), (other.name, "ok")]
    assert [row["max_inflight_messages"] for row in rows(other, "show", "max_inflight_messages", "--all")] == ["9", "9"]


def test_what_a_silent_node_would_have_said_is_told_to_be_missing(two: list[ClusterNode], connect: Connect) -> None:
    one, other = two
    connect(one, "anna")
    with stopped(other):
        eventually(lambda: one.sees(down=(other,)), "the other node is down")
        done = one.broker.program("vmq-admin", "session", "show", "--client_id")
        assert (done.returncode, "anna" in done.stdout) == (0, True)
        assert f"{other.name} is left out: {other.name} is not reachable" in done.stderr
        done = one.broker.program("vmq-admin", "session", "show", f"--node={other.name}")
        assert (done.returncode, "is not reachable" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("retain", "show", "--node", "--payload"), "lit"),
        (("metrics", "show", "--node"), "counter.mqtt_publish_received[node=one@127.0.0.1] = 1"),
        (("show", "max_inflight_messages", "--all"), "one@127.0.0.1"),
        (("set", "max_inflight_messages=9", "--all"), "one@127.0.0.1"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_every_command_over_nodes_says_what_it_has_and_whom_it_could_not_ask(
    two: list[ClusterNode], connect: Connect, words: tuple[str, ...], said: str
) -> None:
    one, other = two
    connect(one, "anna").publish("lamp", b"lit", qos=1, retain=True)
    other.broker.kill()
    eventually(lambda: one.sees(down=(other,)), "the other node is down")
    done = one.broker.program("vmq-admin", *words)
    assert (done.returncode, said in done.stdout) == (0, True)
    assert f"{other.name} is left out: {other.name} is not reachable" in done.stderr
    named = [word for word in words if word not in ("--node", "--all")]
    done = one.broker.program("vmq-admin", *named, f"--node={other.name}")
    assert (done.returncode, f"{other.name} is not reachable" in done.stderr, done.stdout) == (1, True, "")


def test_members_tell_their_phase_how_they_reach_this_node_and_how_far_they_are(two: list[ClusterNode]) -> None:
    one, other = two

    def told() -> dict[str, tuple[str, str, str]]:
        shown = rows(one, "cluster", "show")
        return {row["Node"]: (row["phase"], row["link_back"], row["behind"]) for row in shown}

    wanted = {one.name: ("ready", "", ""), other.name: ("ready", "reachable", "0")}
    eventually(lambda: told() == wanted, "both are in step")
    with stopped(other):
        eventually(lambda: one.sees(down=(other,)), "the other node is down")
        assert told() == {one.name: ("ready", "", ""), other.name: ("", "", "")}


def test_a_node_with_another_rule_for_client_ids_may_not_join(started: StartNode) -> None:
    one, other = started("one"), started("two", allow_multiple_sessions="on")
    done = other.broker.program("vmq-admin", "cluster", "join", f"discovery-node={one.address}")
    assert done.returncode == 1
    assert f"{one.name} refuses to let {other.name} join: allow_multiple_sessions must be the same" in done.stderr
    assert one.sees()
    assert other.sees()
