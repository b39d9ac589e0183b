"""A replica by itself: reading, writing, limits, and what lies in the store."""

import pytest

from strogoff.cluster.swc import (
    Actor,
    BacklogFullError,
    Change,
    DamagedStoreError,
    Limits,
    Replica,
    ValueTooLargeError,
)
from strogoff.cluster.swc.clock import NodeClock
from strogoff.cluster.swc.container import dots_of
from strogoff.cluster.swc.dots import COUNTER_SHIFT
from strogoff.cluster.swc.state import State

ONE, OTHER = Actor("one", 1), Actor("other", 2)


def stored(replica: Replica, disk: dict[bytes, bytes]) -> list[Change]:
    output = replica.take()
    for key, value in output.writes:
        if value is None:
            disk.pop(key, None)
        else:
            disk[key] = value
    return list(output.changes)


def test_changes_tell_old_and_new_values_and_who_wrote() -> None:
    one, other = Replica(ONE, members=[ONE, OTHER], nonce=1), Replica(OTHER, members=[ONE, OTHER], nonce=2)
    one.put(b"k", b"1")
    one.put(b"k", b"2")
    one.put(b"k", b"2")
    assert one.delete(b"k")
    assert not one.delete(b"k")
    output = one.take()
    assert output.changes == [
        Change(b"k", (), b"1", local=True),
        Change(b"k", (b"1",), b"2", local=True),
        Change(b"k", (b"2",), None, local=True),
    ]
    for _, data in output.messages:
        other.receive(ONE, data)
    assert [change.local for change in other.take().changes] == [False, False, False]
    assert not one.take()


def test_what_was_persisted_is_there_after_a_restart() -> None:
    disk: dict[bytes, bytes] = {}
    replica = Replica(ONE, members=[ONE], nonce=1)
    replica.put(b"a", b"1")
    replica.put(b"b", b"2")
    stored(replica, disk)
    replica.delete(b"b")
    stored(replica, disk)
    replica.put(b"lost", b"3")
    again = Replica(ONE, members=[ONE], nonce=2, rows=sorted(disk.items()))
    assert list(again.scan(b"")) == [(b"a", b"1")]
    assert again.actor == ONE
    again.put(b"c", b"3")
    stored(again, disk)
    assert again.parts.state.clock.entry(0) == (4, 0)


def test_another_actor_on_the_same_store_retires_the_former() -> None:
    disk: dict[bytes, bytes] = {}
    replica = Replica(ONE, members=[ONE], nonce=1)
    replica.put(b"a", b"1")
    stored(replica, disk)
    anew = Actor("one", 77)
    again = Replica(anew, members=[anew], nonce=2, rows=sorted(disk.items()))
    again.put(b"b", b"2")
    stored(again, disk)
    assert again.actor == anew
    assert again.get(b"a") == b"1"
    again.collect()
    stored(again, disk)
    once_more = Replica(anew, members=[anew], nonce=3, rows=sorted(disk.items()))
    assert dict(once_more.scan(b"")) == {b"a": b"1", b"b": b"2"}
    assert list(once_more.parts.state.clock.live().values()) == [(1, 0)]


def test_a_page_of_keys_begins_behind_the_last_one() -> None:
    replica = Replica(ONE, members=[ONE], nonce=1)
    for number in (3, 1, 2, 5):
        replica.put(b"p/%d" % number, b"v")
    replica.put(b"q/1", b"v")
    assert [key for key, _ in replica.scan(b"p/")] == [b"p/1", b"p/2", b"p/3", b"p/5"]
    replica.delete(b"p/2")
    replica.put(b"p/4", b"v")
    replica.put(b"p/4", b"w")
    assert [key for key, _ in replica.scan(b"p/", after=b"p/1")] == [b"p/3", b"p/4", b"p/5"]
    assert [key for key, _ in replica.scan(b"p/", after=b"a")] == [b"p/1", b"p/3", b"p/4", b"p/5"]
    replica.put(b"p/2", b"v")
    assert [key for key, _ in replica.scan(b"p/")] == [b"p/1", b"p/2", b"p/3", b"p/4", b"p/5"]


def test_limits_turn_away_and_change_nothing() -> None:
    replica = Replica(ONE, members=[ONE, OTHER], nonce=1, limits=Limits(value_bytes_max=4, backlog_items_max=2))
    replica.take()
    with pytest.raises(ValueTooLargeError, match="5 of value"):
        replica.put(b"k", b"12345")
    with pytest.raises(ValueTooLargeError):
        replica.put(b"k" * 70_000, b"1")
    assert not replica.take()
    replica.put(b"a", b"1")
    replica.put(b"b", b"1")
    with pytest.raises(BacklogFullError):
        replica.put(b"c", b"1")
    with pytest.raises(BacklogFullError):
        replica.delete(b"a")
    assert replica.get(b"c") is None
    replica.take()
    replica.put(b"c", b"1")


def test_a_store_that_cannot_be_read_is_told_by_the_key() -> None:
    disk: dict[bytes, bytes] = {}
    replica = Replica(ONE, members=[ONE], nonce=1)
    replica.put(b"k", b"v")
    stored(replica, disk)
    for key in disk:
        damaged = {**disk, key: disk[key][:1] + b"\xff"}
        with pytest.raises(DamagedStoreError, match="swc/"):
            Replica(ONE, members=[ONE], nonce=2, rows=sorted(damaged.items()))
        if key != b"swc/f":
            missing = {other: row for other, row in disk.items() if other != b"swc/a"}
            with pytest.raises(DamagedStoreError, match="swc/"):
                Replica(ONE, members=[ONE], nonce=2, rows=sorted(missing.items()))
    with pytest.raises(DamagedStoreError, match="unknown kind"):
        Replica(ONE, members=[ONE], nonce=2, rows=sorted({**disk, b"swc/z": b""}.items()))


def test_what_cannot_be_applied_yet_is_told_so_that_the_caller_pulls() -> None:
    one, other = Replica(ONE, members=[ONE, OTHER], nonce=1), Replica(OTHER, members=[ONE, OTHER], nonce=2)
    one.put(b"k", b"1")
    one.take()
    one.put(b"k", b"2")
    for _, data in one.take().messages:
        other.receive(ONE, data)
    assert other.get(b"k") is None
    assert other.take().behind == [ONE]


def test_what_bore_used_dots_becomes_another_actors_and_what_was_collected_of_it_is_not_asked_for_by_dots() -> None:
    state = State(clock=NodeClock({0: 0, 1: 0}))
    for counter, (key, value) in enumerate([(b"a", b"1"), (b"b", b"2"), (b"b", None), (b"c", b"3")], 1):
        state.write(key, value, counter << COUNTER_SHIFT)
        state.clock.set(0, (counter, 0))
    assert [edit[0] for edit in state.raise_floor(0, (3, 0))] == [b"b"]
    state.rename(0, 1, 1)
    assert state.clock.live() == {0: (1, 0), 1: (3, 0)}
    assert {key: dots_of(row) for key, row in state.objects.items()} == {
        b"a": (1 << COUNTER_SHIFT,),
        b"c": (3 << COUNTER_SHIFT | 1,),
    }
    assert state.floors == {0: (1, 0), 1: (2, 0)}
    assert state.keys_of == {3 << COUNTER_SHIFT | 1: b"c"}


def test_setting_the_same_members_again_changes_nothing() -> None:
    replica = Replica(ONE, members=[ONE, OTHER], nonce=1)
    replica.put(b"k", b"v")
    replica.take()
    replica.set_members([OTHER, ONE])
    assert not replica.take()
