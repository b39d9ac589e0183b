"""What a node holds is sorted by kind, counted, and shown with examples; what a refusal makes of it."""

import pytest

from strogoff.cluster.guard.inventory import API_KEYS_PREFIX, EXAMPLES_MAX, Inventory, Kind, Tally, is_of_clients
from strogoff.cluster.guard.policy import Policy, fate, refusal
from strogoff.cluster.members import MEMBERS_PREFIX
from strogoff.cluster.records import SUBSCRIBERS_PREFIX
from strogoff.cluster.retained import RETAINED_PREFIX

NAME = "two@h"


def tally() -> Tally:
    return Tally(NAME)


def counts(inventory: Inventory) -> dict[Kind, int]:
    return {holding.kind: holding.count for holding in inventory.holdings if holding.count}


def test_a_node_that_holds_nothing_has_a_row_of_each_kind_and_nothing_in_the_way() -> None:
    inventory = tally().inventory()
    assert inventory == Inventory()
    assert [holding.kind for holding in inventory.holdings] == list(Kind)
    assert not inventory.of_clients
    assert not inventory.has_foreign_rows


def test_sessions_are_counted_with_their_subscriptions_and_what_waits_for_them() -> None:
    found = tally()
    for number in range(5):
        found.session("", f"c{number}", waiting=number, subscriptions=2, filters=[f"a/{number}", f"b/{number}"])
    inventory = found.inventory()
    assert counts(inventory) == {Kind.SESSIONS: 5, Kind.SUBSCRIPTIONS: 10}
    assert str(inventory.of(Kind.SESSIONS)) == "5 sessions (c0, c1, c2, ...; 10 messages wait)"
    assert str(inventory.of(Kind.SUBSCRIPTIONS)) == "10 subscriptions (a/0, b/0, a/1, ...)"


def test_a_client_id_of_another_mountpoint_is_named_with_it() -> None:
    found = tally()
    found.session("factory", "c", waiting=1, subscriptions=0, filters=[])
    assert str(found.inventory().of(Kind.SESSIONS)) == "1 session (c in factory; 1 message waits)"


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("a", Kind.RETAINED),
        ("$SYS/node/uptime", Kind.INTERNAL),
        ("$SYS", Kind.INTERNAL),
        ("$SYSTEM/a", Kind.RETAINED),
        ("$other/a", Kind.RETAINED),
    ],
)
def test_retained_messages_are_of_clients_unless_the_broker_speaks_of_itself(topic: str, kind: Kind) -> None:
    found = tally()
    found.retained("", topic)
    assert counts(found.inventory()) == {kind: 1}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (MEMBERS_PREFIX + b"two@h", None),
        (MEMBERS_PREFIX + b"one@h", Kind.MEMBERSHIP),
        (MEMBERS_PREFIX + b"two@h2", Kind.MEMBERSHIP),
        (SUBSCRIBERS_PREFIX + b"\0c", Kind.MEMBERSHIP),
        (RETAINED_PREFIX + b"\0t", Kind.MEMBERSHIP),
        (API_KEYS_PREFIX + b"abc", Kind.API_KEYS),
        (b"config/max_message_size", Kind.CONFIGURATION),
        (b"\xff\xff", Kind.CONFIGURATION),
    ],
)
def test_rows_of_the_metadata_are_sorted_by_what_they_are_about(key: bytes, kind: Kind | None) -> None:
    found = tally()
    found.row(key)
    inventory = found.inventory()
    assert counts(inventory) == ({} if kind is None else {kind: 1})
    assert inventory.has_foreign_rows is (kind is not None)


def test_a_bridge_subscription_does_not_make_a_node_non_empty() -> None:
    found = tally()
    found.internal(["vmq_bridge subscribes to a/#"])
    inventory = found.inventory()
    assert counts(inventory) == {Kind.INTERNAL: 1}
    assert not inventory.of_clients
    assert not inventory.has_foreign_rows


def test_no_more_examples_are_kept_than_are_shown() -> None:
    found = tally()
    for number in range(100):
        found.retained("", f"t/{number}")
        assert found.wants_examples(Kind.RETAINED) is (number + 1 < EXAMPLES_MAX)
    assert str(found.inventory().of(Kind.RETAINED)) == "100 retained messages (t/0, t/1, t/2, ...)"


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("kind", Kind)
def test_each_policy_says_of_each_kind_what_becomes_of_it(policy: Policy, kind: Kind) -> None:
    text = fate(kind, policy)
    assert text
    assert ("refuses" in text) is (policy is Policy.STRICT and is_of_clients(kind))


def test_a_refusal_names_who_refuses_what_it_holds_and_how_to_go_on() -> None:
    found = tally()
    found.session("", "c", waiting=3, subscriptions=1, filters=["a/#"])
    found.retained("", "t")
    found.internal(["vmq_bridge subscribes to a/#"])
    found.row(MEMBERS_PREFIX + b"one@h")
    text = refusal(NAME, found.inventory())
    assert text.startswith(
        "two@h refuses to join: it holds 1 session (c; 3 messages wait), 1 subscription (a/#), 1 retained message (t), "
        "which the cluster does not know"
    )
    assert "bridge" not in text
    assert "membership" not in text
