"""The guard as a table: what a node holds, times the policy, times the other node. Partly real processes."""

import pytest

from broker_process import BrokerError, Setting
from cluster.clients import Connect, StartNode, clients_of, join, metric
from cluster.guard.rows import get_rows, put_rows
from cluster.guard.state import archives, away, is_quiet, retained, sent
from cluster.real_nodes import ClusterNode, eventually
from strogoff.cluster.guard.inventory import API_KEYS_PREFIX, Inventory, Kind, Tally
from strogoff.cluster.guard.policy import Course, Policy, course, policy_of
from strogoff.cluster.members import MEMBERS_PREFIX
from strogoff.config import load


def holding(kind: Kind | None) -> Inventory:
    """A node that has one thing of a kind."""
    tally = Tally("two@h")
    match kind:
        case Kind.INTERNAL:
            tally.internal(["vmq_bridge subscribes to a/#"])
        case Kind.SESSIONS:
            tally.session("", "c", waiting=1, subscriptions=0, filters=[])
        case Kind.SUBSCRIPTIONS:
            tally.session("", "c", waiting=0, subscriptions=1, filters=["a"])
        case Kind.RETAINED:
            tally.retained("", "t")
        case Kind.CONFIGURATION:
            tally.row(b"config/x")
        case Kind.API_KEYS:
            tally.row(API_KEYS_PREFIX + b"x")
        case Kind.MEMBERSHIP:
            tally.row(MEMBERS_PREFIX + b"one@h")
    return tally.inventory()


REFUSE, JOIN, ANEW, RESET = Course.REFUSE, Course.JOIN, Course.BEGIN_ANEW, Course.RESET


@pytest.mark.parametrize(
    ("kind", "strict", "merge", "reset"),
    [
        (None, JOIN, JOIN, JOIN),
        (Kind.INTERNAL, JOIN, JOIN, JOIN),
        (Kind.SESSIONS, REFUSE, JOIN, RESET),
        (Kind.SUBSCRIPTIONS, REFUSE, JOIN, RESET),
        (Kind.RETAINED, REFUSE, JOIN, RESET),
        (Kind.CONFIGURATION, REFUSE, ANEW, RESET),
        (Kind.API_KEYS, REFUSE, ANEW, RESET),
        (Kind.MEMBERSHIP, ANEW, ANEW, RESET),
    ],
)
def test_how_a_node_comes_into_a_cluster(kind: Kind | None, strict: Course, merge: Course, reset: Course) -> None:
    found = holding(kind)
    assert [course(found, policy) for policy in (Policy.STRICT, Policy.MERGE, Policy.RESET)] == [strict, merge, reset]


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ([], Policy.STRICT),
        (["vmq_swc.prevent_nonempty_join=on"], Policy.STRICT),
        (["vmq_swc.prevent_nonempty_join=off"], Policy.MERGE),
        (["cluster.join_policy=merge"], Policy.MERGE),
        (["cluster.join_policy=reset", "vmq_swc.prevent_nonempty_join=off"], Policy.RESET),
        (["cluster.join_policy=strict", "vmq_swc.prevent_nonempty_join=off"], Policy.STRICT),
    ],
)
def test_the_policy_is_that_of_its_key_or_what_vernemqs_key_means(settings: list[str], policy: Policy) -> None:
    assert policy_of(load(overrides=settings)) is policy


def test_the_variable_of_vernemqs_container_means_merge() -> None:
    variables = {"DOCKER_VERNEMQ_VMQ_SWC__PREVENT_NONEMPTY_JOIN": "off"}
    assert policy_of(load(environment=variables)) is Policy.MERGE


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["cluster.join_policy=reset", "vmq_swc.prevent_nonempty_join=off"], True),
        (["cluster.join_policy=merge", "vmq_swc.prevent_nonempty_join=on"], True),
        (["cluster.join_policy=merge", "vmq_swc.prevent_nonempty_join=off"], False),
        (["cluster.join_policy=strict", "vmq_swc.prevent_nonempty_join=on"], False),
        (["cluster.join_policy=reset"], False),
        (["vmq_swc.prevent_nonempty_join=off"], False),
    ],
)
def test_keys_that_say_different_things_are_told(settings: list[str], told: bool) -> None:  # a case
    texts = [note.text for note in load(overrides=settings).notes if "cluster.join_policy" in note.keys]
    assert bool(texts) is told
    if told:
        assert "holds, and not vmq_swc.prevent_nonempty_join" in texts[0]


# -- with real processes ---------------------------------------------------------------------------------------

OURS = {b"config/mine": b"two", b"config/both": b"two", API_KEYS_PREFIX + b"both": b"two"}
THEIRS = {b"config/both": b"one", API_KEYS_PREFIX + b"both": b"one"}
POLICIES = [policy.value for policy in Policy]


def full(started: StartNode, connect: Connect, name: str, rows: dict[bytes, bytes], **more: Setting) -> ClusterNode:
    """A node with something of each kind but an earlier membership."""
    node = started(name, **more)
    away(node, connect, "shared", f"of/{name}")
    sent(node, connect, f"of/{name}", name, 2)
    connect(node).publish("kept", name.encode(), qos=1, retain=True)
    node.broker.stop()
    put_rows(node, rows)
    node.broker.start()
    return node


def settings_of(node: ClusterNode) -> dict[bytes, bytes]:
    node.broker.stop()
    rows = {key: value[8:] for key, value in get_rows(node).items() if key.startswith((b"config/", API_KEYS_PREFIX))}
    node.broker.start()
    return rows


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("peer", ["empty", "with the same keys"])
def test_a_node_with_all_kinds_of_state(started: StartNode, connect: Connect, policy: str, peer: str) -> None:
    one = started("one") if peer == "empty" else full(started, connect, "one", THEIRS)
    two = full(started, connect, "two", OURS, cluster__join_policy=policy)
    if policy == "strict":
        with pytest.raises(
            BrokerError, match=r"two@127\.0\.0\.1 refuses to join: it holds .*--policy=merge.*--policy=reset"
        ):
            two.join(one)
        assert (one.links(), two.links()) == ({one.name: "self"}, {two.name: "self"})
        assert not archives(two)
        return
    assert "starts again" in two.join(one)
    eventually(lambda: is_quiet(lambda: one.sees(two) and two.sees(one)), "they see each other")
    two.broker.await_log('"message": "joined"')
    two.broker.await_answer()
    assert len(archives(two)) == 1
    is_merged, has_peer = policy == "merge", peer != "empty"
    queued = [b"one 0", b"one 1"] * has_peer + [b"two 0", b"two 1"] * is_merged
    client = connect(one, "shared")
    assert client.receive_payloads(len(queued)) == queued
    client.barrier()
    client.disconnect()
    if is_merged or has_peer:
        eventually(lambda: metric(two, "retain_messages") == 1, "it has the retained message")
        assert retained(two, connect, "kept") == (b"two" if is_merged else b"one")
    expected = (OURS if is_merged else {}) | (THEIRS if has_peer else {})
    assert settings_of(one) == settings_of(two) == expected


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("peer", ["unreachable", "of other settings", "while a member of another cluster"])
def test_where_a_join_cannot_be_nothing_has_changed(
    started: StartNode, connect: Connect, policy: str, peer: str
) -> None:
    one = started("one", allow_multiple_sessions=peer == "of other settings")
    two = full(started, connect, "two", {})
    members = [two]
    if peer == "unreachable":
        one.broker.stop()
    elif peer == "while a member of another cluster":
        three = started("three")
        join(two, three)
        members = [two, three]
    reasons = {
        "unreachable": "cannot reach",
        "of other settings": "refuses to let two@127.0.0.1 join: allow_multiple_sessions must be the same",
        "while a member of another cluster": "is in a cluster with three@127.0.0.1 already",
    }
    reason = reasons[peer]
    if policy == "strict" and len(members) == 1:
        reason = "two@127.0.0.1 refuses to join: it holds"
    with pytest.raises(BrokerError, match=reason):
        two.broker.admin("cluster", "join", f"discovery-node={one.address}", f"--policy={policy}")
    assert set(two.links()) == {node.name for node in members}
    assert not archives(two)
    assert "shared" in clients_of(two)
    two.broker.restart()
    assert set(two.links()) == {node.name for node in members}
    assert connect(two, "shared").receive_payloads(2) == [b"two 0", b"two 1"]


def test_the_policy_may_change_while_the_node_runs(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    away(two, connect, "lasting", "a")
    with pytest.raises(BrokerError, match="refuses to join"):
        two.join(one)
    two.broker.admin("set", "cluster.join_policy=merge")
    assert two.join(one).endswith("Done")
    assert clients_of(two) == ["lasting"]


def test_an_unknown_policy_is_told_with_the_three_that_there_are(started: StartNode) -> None:
    one = started("one")
    with pytest.raises(BrokerError, match="--policy=lose: expected strict, merge, reset"):
        one.broker.admin("cluster", "join", "discovery-node=two@127.0.0.1", "--policy=lose")
