"""Identity and members: what a start makes of what it finds, and what two changes at the same time come to."""

import contextlib
import dataclasses
import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.cluster.identity import (
    FORMER_MAX,
    BadIdentityError,
    Identity,
    RenamedError,
    begun,
    ended,
    new_identity,
    renewed,
)
from strogoff.cluster.members import BadMemberError, Member, actors, member_key, merged
from strogoff.cluster.swc import Actor

KEY = member_key("n@h")


def draw(bits: int) -> int:
    return (1 << bits) - 1


def start(
    found: Identity, *, boot: str = "boot", synced: bool = False, members: bool = False, name: str = "n@h"
) -> str:
    """Why it goes on under a new incarnation; empty if it does not."""
    identity, reason = begun(found, name, boot, is_every_write_synced=synced, has_members=members, draw=draw)
    assert identity.running == boot
    assert (identity.incarnation == found.incarnation) == (reason is None)
    assert identity.cluster == found.cluster
    return reason or ""


RUNNING = Identity("n@h", 7, 9, running="boot")


def test_an_identity_comes_back() -> None:
    for identity in (RUNNING, ended(RUNNING), new_identity("n@h", "b", draw), renewed(RUNNING, draw)):
        assert Identity.decode(identity.encode()) == identity


def test_an_identity_that_was_written_without_former_incarnations_has_none() -> None:
    row = json.loads(RUNNING.encode())
    del row["former"]
    assert Identity.decode(json.dumps(row).encode()) == RUNNING


def test_a_new_incarnation_comes_with_those_before() -> None:
    identity, _ = begun(RUNNING, "n@h", "another", is_every_write_synced=False, has_members=True, draw=draw)
    assert identity.former == (RUNNING.incarnation,)


def test_of_many_former_incarnations_the_first_and_the_latest_are_kept() -> None:
    identity, incarnations = RUNNING, [RUNNING.incarnation]
    for _ in range(2 * FORMER_MAX):
        identity = renewed(identity, random.Random(len(incarnations)).getrandbits)
        incarnations.append(identity.incarnation)
    assert identity.former == (incarnations[0], *incarnations[-FORMER_MAX:-1])


def test_a_node_of_another_name_has_no_former_incarnations() -> None:
    identity, _ = begun(RUNNING, "other@h", "boot", is_every_write_synced=True, has_members=False, draw=draw)
    assert identity.former == ()


def test_after_a_stop_in_order_it_is_the_same_node() -> None:
    assert start(ended(RUNNING), boot="another boot") == ""


def test_after_a_crash_of_the_process_it_is_the_same_node() -> None:
    assert start(RUNNING) == ""


def test_after_a_crash_of_the_machine_it_writes_under_a_new_incarnation() -> None:
    assert "the machine went down" in start(RUNNING, boot="another boot")


def test_with_every_write_synced_nothing_is_lost_by_a_crash_of_the_machine() -> None:
    assert start(RUNNING, boot="another boot", synced=True) == ""


def test_a_node_alone_may_be_renamed() -> None:
    assert "was called n@h" in start(RUNNING, name="other@h")


def test_a_member_may_not_be_renamed() -> None:
    with pytest.raises(RenamedError, match="belongs to n@h"):
        start(RUNNING, name="other@h", members=True)


@pytest.mark.parametrize(
    "row", [b"", b"{}", b"[]", b"\xff", b'{"version": 1}', RUNNING.encode().replace(b'"version": 1', b'"version": 2')]
)
def test_an_identity_that_cannot_be_read_is_told(row: bytes) -> None:
    with pytest.raises(BadIdentityError):
        Identity.decode(row)


members_of_one_name = st.builds(
    Member,
    name=st.just("n@h"),
    incarnation=st.integers(0, 3),
    addresses=st.just(("127.0.0.1:1",)),
    epoch=st.integers(1, 3),
    is_removed=st.booleans(),
)


@given(st.lists(members_of_one_name.map(Member.encode), min_size=1, max_size=4))
def test_records_merge_to_the_same_whatever_their_order_and_grouping(values: list[bytes]) -> None:
    whole = merged(KEY, tuple(values))
    for order in itertools.permutations(values):
        assert merged(KEY, order) == whole
        assert merged(KEY, (merged(KEY, order[:1]), *order[1:])) == whole
    assert merged(KEY, (whole, whole)) == whole


def test_the_later_change_counts_and_of_two_at_the_same_time_the_removal() -> None:
    member = Member("n@h", 1, ("h:1",), epoch=1)
    removed = Member("n@h", 1, ("h:1",), epoch=2, is_removed=True)
    again = Member("n@h", 2, ("h:1",), epoch=2)
    later = Member("n@h", 2, ("h:1",), epoch=3)
    assert merged(KEY, (member.encode(), removed.encode())) == removed.encode()
    assert merged(KEY, (again.encode(), removed.encode())) == removed.encode()
    assert merged(KEY, (later.encode(), removed.encode())) == later.encode()


def test_a_record_comes_back_also_one_without_former_incarnations() -> None:
    member = Member("n@h", 7, ("h:1",), 3, is_removed=True, is_tls=True, former=(5, 6))
    assert Member.decode(member.encode()) == member
    fields = json.loads(member.encode())
    del fields["former"]
    assert Member.decode(json.dumps(fields).encode()) == Member("n@h", 7, ("h:1",), 3, is_removed=True, is_tls=True)


def test_bytes_that_are_no_record_lose() -> None:
    member = Member("n@h", 1, ())
    assert merged(KEY, (b"\xff\xff", member.encode())) == member.encode()
    assert merged(KEY, (b"a", b"b")) == b"b"


def test_only_those_that_belong_to_the_cluster_are_its_actors() -> None:
    assert actors([Member("a", 1, ()), Member("b", 2, (), is_removed=True)]) == {Actor("a", 1)}


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_no_bytes_break_the_decoder(value: bytes) -> None:
    with contextlib.suppress(BadMemberError):
        Member.decode(value)


def test_a_record_with_too_many_former_incarnations_is_none() -> None:
    member = Member("n@h", 7, ("h:1",), former=tuple(range(FORMER_MAX)))
    assert Member.decode(member.encode()) == member
    longer = dataclasses.replace(member, former=tuple(range(FORMER_MAX + 1)))
    with pytest.raises(BadMemberError, match=f"{FORMER_MAX + 1} former incarnations"):
        Member.decode(longer.encode())
