"""What is checked of a node that wants to join, and how others are named."""

from typing import Any

import pytest

from strogoff.cluster.admitting import joiner_of, request_to_join
from strogoff.cluster.joining import ClusterError, address_of
from strogoff.cluster.members import Member
from strogoff.cluster.requests import RemoteError
from strogoff.cluster.terms import Terms, terms_of
from strogoff.config import load

JOINER = Member("two@h", 7, ("h:1",), 1)


def terms(**settings: str) -> Terms:
    return terms_of(load(overrides=tuple(f"{key}={value}" for key, value in settings.items())))


def check(node: str = "two@h", joiner: Member = JOINER, own: Terms | None = None, **changes: Any) -> Member:
    request = request_to_join(joiner, "0.1.0", terms()) | changes
    return joiner_of(node, request, name="one@h", terms=own or terms())


def test_a_node_with_the_same_settings_may_join() -> None:
    assert check() == JOINER


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": 2}, "it speaks version 2 of the cluster protocol, one@h speaks 1"),
        ({"member": "{"}, "cannot be read"),
        ({"node": "three@h"}, "it is three@h and calls itself two@h"),
        ({"joiner": Member("two@h", 7, (), 1)}, "it has no cluster listener"),
        ({"settings": {"allow_multiple_sessions": "on"}}, "it is off on one@h and on on two@h"),
        ({"settings": {"metadata_plugin": "other"}}, "metadata_plugin must be the same on all nodes"),
    ],
)
def test_who_may_not_join_is_told_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RemoteError, match=reason):
        check(**changes)


@pytest.mark.parametrize("settings", [None, [], {}, {"later_key": "x"}])
def test_settings_that_only_one_side_knows_are_not_compared(settings: object) -> None:
    assert check(settings=settings) == JOINER


def test_members_are_kept_apart_only_by_what_makes_them_unintelligible() -> None:
    assert terms(allow_multiple_sessions="on").agreed_on_links == (("metadata_plugin", "vmq_swc"),)


@pytest.mark.parametrize(
    ("target", "name", "address"),
    [
        ("one@h", "one@h", "h:44053"),
        ("one@h:7", "one@h", "h:7"),
        ("one@10.0.0.1:7", "one@10.0.0.1", "10.0.0.1:7"),
        ("one@::1", "one@::1", "[::1]:44053"),
        ("one@[::1]", "one@::1", "[::1]:44053"),
        ("one@[fe80::2]:7", "one@fe80::2", "[fe80::2]:7"),
    ],
)
def test_a_node_is_named_with_its_address(target: str, name: str, address: str) -> None:
    assert address_of(target) == (name, address)


@pytest.mark.parametrize("target", ["one", "@h", "one@", "one@h:", "one@h:x", "one@[::1", "one@[]:7", "one@[::1]7"])
def test_what_is_no_name_of_a_node_is_told_with_the_form(target: str) -> None:
    with pytest.raises(ClusterError, match="NAME@"):
        address_of(target)
