"""How long a bridge waits before it connects again."""

from strogoff.bridge.backoff import Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(longest_s=10)
    assert [backoff.failed(0, 0) for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_chance_takes_off_up_to_a_half() -> None:
    assert [Backoff(longest_s=10, first_s=4).failed(0, chance) for chance in (0, 0.5, 1)] == [4, 3, 2]


def test_a_short_longest_wait_is_also_the_first() -> None:
    assert Backoff(longest_s=0.5).failed(0, 0) == 0.5


def test_a_connection_that_does_not_last_changes_nothing() -> None:
    backoff = Backoff(longest_s=10, stable_s=60)
    waits = []
    for attempt in range(5):
        backoff.connected(attempt * 100)
        waits.append(backoff.failed(attempt * 100 + 59, 0))
    assert waits == [1, 2, 4, 8, 10]


def test_after_a_stable_connection_waits_begin_anew() -> None:
    backoff = Backoff(longest_s=10, stable_s=60)
    assert [backoff.failed(0, 0) for _ in range(3)] == [1, 2, 4]
    backoff.connected(10)
    assert [backoff.failed(70, 0), backoff.failed(200, 0)] == [1, 2]


def test_failures_for_years_stay_at_the_longest() -> None:
    backoff = Backoff(longest_s=86_400)
    assert {backoff.failed(0, 0) for _ in range(5_000)} == {min(2.0**n, 86_400) for n in range(18)}
