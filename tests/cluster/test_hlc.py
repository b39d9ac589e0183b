"""The hybrid logical clock: later is later, whatever the wall clocks say, and one wrong clock does not move the
others."""

from hypothesis import given
from hypothesis import strategies as st

from strogoff.cluster.hlc import SKEW_MS_MAX, HybridClock, stamped, unstamped

WALL = st.integers(1_600_000_000_000, 2_000_000_000_000)


@given(st.lists(WALL, min_size=2))
def test_stamps_grow_though_the_wall_clock_goes_back(walls: list[int]) -> None:
    clock = HybridClock()
    stamps = [clock.now(wall) for wall in walls]
    assert stamps == sorted(set(stamps))


@given(WALL, st.integers(-SKEW_MS_MAX, SKEW_MS_MAX))
def test_a_stamp_made_after_seeing_another_is_later(wall: int, skew: int) -> None:
    one, other = HybridClock(), HybridClock()
    seen = one.now(wall + skew)
    assert other.observe(seen, wall)
    assert other.now(wall) > seen


@given(WALL, st.integers(SKEW_MS_MAX + 1, 10 * SKEW_MS_MAX))
def test_a_clock_that_is_far_ahead_moves_no_other_and_its_values_can_still_be_replaced(wall: int, skew: int) -> None:
    clock = HybridClock()
    wrong = HybridClock().now(wall + skew)
    assert not clock.observe(wrong, wall)
    assert clock.now(wall) >> 16 <= wall + SKEW_MS_MAX
    assert clock.after(wrong, wall) > wrong
    assert clock.now(wall) >> 16 <= wall + SKEW_MS_MAX


@given(st.integers(0, (1 << 64) - 1), st.binary())
def test_a_stamp_stands_before_its_value_and_sorts_with_it(stamp: int, value: bytes) -> None:
    assert unstamped(stamped(stamp, value)) == (stamp, value)


def test_bytes_without_a_stamp_are_older_than_all() -> None:
    assert unstamped(b"short") == (0, b"short")
