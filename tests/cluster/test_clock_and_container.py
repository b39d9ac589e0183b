"""Entries, clocks and containers: they are sets of dots, and joining them is what it is for sets."""

from hypothesis import given
from hypothesis import strategies as st

from strogoff.cluster.swc.clock import Entry, NodeClock, covers, has, high, lacking, normalised, union
from strogoff.cluster.swc.container import Versions, decoded, dots_of, encoded, live_values, sync, translated
from strogoff.cluster.swc.dotkeys import DotKeys
from strogoff.cluster.swc.dots import COUNTER_SHIFT

SETS = st.frozensets(st.integers(1, 40), max_size=20)


def entry_of(counters: frozenset[int]) -> Entry:
    return normalised(0, sum(1 << (counter - 1) for counter in counters))


@given(SETS, SETS)
def test_entries_are_sets_of_counters(one: frozenset[int], other: frozenset[int]) -> None:
    first, second = entry_of(one), entry_of(other)
    assert {counter for counter in range(1, 60) if has(first, counter)} == one
    assert union(first, second) == entry_of(one | other)
    assert covers(first, second) == (other <= one)
    assert set(lacking(first, second)) == one - other
    assert high(first) == max(one, default=0)
    assert not first[1] & 1


@given(st.lists(st.integers(1, 40)))
def test_a_clock_has_seen_what_was_added_to_it(counters: list[int]) -> None:
    clock = NodeClock()
    for counter in counters:
        clock.add(counter << COUNTER_SHIFT | 3)
    assert clock.entry(3) == entry_of(frozenset(counters))
    assert all(clock.seen(counter << COUNTER_SHIFT | 3) == (counter in counters) for counter in range(1, 42))
    assert not clock.seen(1 << COUNTER_SHIFT | 4)


def test_an_actor_that_settled_is_still_seen_and_comes_back_only_for_more() -> None:
    clock = NodeClock()
    clock.merge({1: (5, 0)})
    clock.settle(1)
    assert clock.live() == {}
    assert clock.seen(5 << COUNTER_SHIFT | 1)
    clock.merge({1: (4, 0)})
    assert clock.live() == {}
    clock.merge({1: (6, 0)})
    assert clock.live() == {1: (6, 0)}
    assert clock.past == {}


# A container as the papers have it: versions, and a context that says which dots are known, those of the versions
# included.
DOTS = st.integers(1, 12)
CONTAINERS = st.builds(
    lambda context, live: ({dot: b"%d" % dot for dot in context & live}, context),
    st.frozensets(DOTS),
    st.frozensets(DOTS),
)
Container = tuple[Versions, frozenset[int]]


def joined(one: Container, other: Container) -> Container:
    return sync(one[0], one[1].__contains__, other[0], other[1].__contains__), one[1] | other[1]


@given(CONTAINERS, CONTAINERS, CONTAINERS)
def test_sync_is_commutative_associative_and_idempotent(one: Container, other: Container, third: Container) -> None:
    assert joined(one, other) == joined(other, one)
    assert joined(joined(one, other), third) == joined(one, joined(other, third))
    assert joined(one, one) == one
    assert joined(joined(one, other), other) == joined(one, other)


@given(CONTAINERS, CONTAINERS)
def test_sync_keeps_what_nobody_superseded_and_drops_the_rest(one: Container, other: Container) -> None:
    versions, _ = joined(one, other)
    for dot in one[1] | other[1]:
        gone = (dot in one[1] and dot not in one[0]) or (dot in other[1] and dot not in other[0])
        assert (dot in versions) == (not gone)


VERSIONS = st.dictionaries(
    st.integers(1 << COUNTER_SHIFT, 1 << 60), st.none() | st.binary(max_size=30), min_size=1, max_size=5
)


@given(VERSIONS)
def test_a_row_holds_its_versions(versions: Versions) -> None:
    row = encoded(versions)
    assert decoded(row) == versions
    assert set(dots_of(row)) == set(versions)
    assert live_values(row) == tuple(sorted(value for value in versions.values() if value is not None))
    assert encoded(dict(reversed(versions.items()))) == row


@given(VERSIONS)
def test_a_row_is_translated_actor_by_actor(versions: Versions) -> None:
    there = {dot & 0xFFFF: number for number, dot in enumerate(versions)}
    back = {number: actor for actor, number in there.items()}
    if len(back) == len(there):
        assert translated(translated(encoded(versions), there), back) == encoded(versions)


@given(
    st.dictionaries(st.tuples(st.integers(0, 2), st.integers(1, 30)), st.sampled_from([b"a", b"b", b"c"])),
    st.lists(SETS, min_size=3, max_size=3),
    st.lists(SETS, min_size=3, max_size=3),
)
def test_the_dot_key_map_finds_the_keys_of_what_one_clock_has_and_another_lacks(
    rows: dict[tuple[int, int], bytes], held: list[frozenset[int]], wanted: list[frozenset[int]]
) -> None:
    keys_of = DotKeys({n << COUNTER_SHIFT | actor: key for (actor, n), key in rows.items() if n in held[actor]})
    found = keys_of.beyond(
        {actor: entry_of(counters) for actor, counters in enumerate(held)},
        {actor: entry_of(counters) for actor, counters in enumerate(wanted)},
    )
    assert len(found) == len(set(found))
    assert set(found) == {key for (a, n), key in rows.items() if n in held[a] - wanted[a]}
