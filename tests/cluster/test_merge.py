"""Merging concurrent values: the order, the grouping and the number of the values make no difference."""

from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.cluster.hlc import stamped
from strogoff.cluster.merge import by_prefix, latest, subscriptions
from strogoff.cluster.subscriber_record import DamagedRecordError, SubscriberRecord, Subscription

STAMPS = st.integers(0, 5)
RECORDS = st.builds(
    SubscriberRecord,
    STAMPS,
    st.sampled_from(["a@host", "b@host"]),
    st.booleans(),
    st.dictionaries(
        st.sampled_from(["t", "t/#", "ü/+"]),
        st.builds(Subscription, STAMPS, st.booleans(), st.integers(0, 255), st.integers(0, 1 << 28)),
    ),
)
VALUES = st.one_of(RECORDS.map(SubscriberRecord.encode), st.binary(max_size=12))


@pytest.mark.parametrize("merge", [latest, subscriptions])
@given(values=st.lists(VALUES, min_size=3, max_size=3))
def test_merging_is_commutative_associative_and_idempotent(
    merge: Callable[[bytes, tuple[bytes, ...]], bytes], values: list[bytes]
) -> None:
    whole = merge(b"k", tuple(values))
    one, other, third = values
    assert {merge(b"k", order) for order in permutations(values)} == {whole}
    assert merge(b"k", (merge(b"k", (one, other)), third)) == whole
    assert merge(b"k", (one, merge(b"k", (other, third)))) == whole
    assert merge(b"k", (whole, whole)) == whole
    assert merge(b"k", (whole, one)) == whole


@given(RECORDS)
def test_a_record_comes_out_as_it_went_in(record: SubscriberRecord) -> None:
    assert SubscriberRecord.decode(record.encode()) == record


@given(st.binary(max_size=80))
def test_bytes_are_a_record_or_a_damaged_one(data: bytes) -> None:
    try:
        SubscriberRecord.decode(data)
    except DamagedRecordError:
        return


def test_what_two_nodes_subscribed_to_at_the_same_time_is_all_there() -> None:
    base = {"both": Subscription(1, removed=False, options=1)}
    one = SubscriberRecord(1, "one@host", clean=False, subscriptions={**base, "x": Subscription(2, False, 0)})
    other = SubscriberRecord(3, "other@host", clean=False, subscriptions={**base, "y": Subscription(3, False, 2)})
    merged = SubscriberRecord.decode(subscriptions(b"k", (one.encode(), other.encode())))
    assert sorted(merged.filters()) == ["both", "x", "y"]
    assert merged.node == "other@host"


def test_an_unsubscribe_is_not_undone_by_an_older_record_until_it_is_forgotten() -> None:
    kept = SubscriberRecord(1, "n", clean=False, subscriptions={"t": Subscription(1, removed=False, options=1)})
    gone = SubscriberRecord(1, "n", clean=False, subscriptions={"t": Subscription(2, removed=True, options=0)})
    assert list(kept.merged(gone).filters()) == []
    assert gone.without_removed(before=3).subscriptions == {}
    assert gone.without_removed(before=2) == gone


def test_the_longest_prefix_chooses_the_merge() -> None:
    merge = by_prefix({b"s/": lambda *_: b"s", b"s/t/": lambda *_: b"t"})
    values = (stamped(1, b"old"), stamped(2, b"new"))
    assert merge(b"s/k", values) == b"s"
    assert merge(b"s/t/k", values) == b"t"
    assert merge(b"other", values) == stamped(2, b"new")
