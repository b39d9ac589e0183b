"""What comes of a thing that both have, and how it is told; the row of a join that is under way."""

import pytest

from strogoff.cluster.guard.begun import BadBegunError, Begun, Step
from strogoff.cluster.guard.inventory import Kind
from strogoff.cluster.guard.policy import Policy
from strogoff.cluster.guard.resolution import LINES_A_KIND_MAX, Outcome, Settled, of_row, of_topic, told


@pytest.mark.parametrize(
    ("here", "there", "outcome"),
    [
        ((5, 1), (4, 9), Outcome.OURS),
        ((4, 9), (5, 1), Outcome.THEIRS),
        ((5, 2), (5, 1), Outcome.OURS),
        ((5, 1), (5, 2), Outcome.THEIRS),
        ((5, 1), (5, 1), None),
    ],
)
def test_of_two_retained_messages_the_later_one_stays(
    here: tuple[int, int], there: tuple[int, int], outcome: Outcome | None
) -> None:
    assert of_topic(here, there) is outcome


@pytest.mark.parametrize(("there", "outcome"), [(None, Outcome.ADDED), (b"mine", None), (b"other", Outcome.OVERRULED)])
def test_of_two_settings_that_of_the_cluster_stays(there: bytes | None, outcome: Outcome | None) -> None:
    assert of_row(b"mine", there) is outcome


def test_what_was_settled_is_told_by_kind_with_the_first_of_each() -> None:
    sessions = [Settled(Kind.SESSIONS, f"c{number}", Outcome.UNITED, "one@h") for number in range(30)]
    lines = told([*sessions, Settled(Kind.CONFIGURATION, "config/x", Outcome.OVERRULED)])
    assert lines[0] == "sessions, united with the session of the cluster: 30"
    assert lines[1] == "  c0, on one@h"
    assert lines[1 + LINES_A_KIND_MAX] == "  and 10 more, which the log names"
    assert lines[-2:] == ["configuration, the cluster has another value, which stays: 1", "  config/x"]
    assert not told([])


BEGUN = Begun("one@h", "h:44053", Policy.MERGE, Step.ANEW, "/data/before-merge.tar")


def test_a_join_that_is_under_way_is_read_as_it_was_written() -> None:
    assert Begun.decode(BEGUN.encode()) == BEGUN


@pytest.mark.parametrize(
    "row",
    [b"", b"{", b"[]", b"{}", BEGUN.encode().replace(b'"merge"', b'"lose"'), BEGUN.encode().replace(b"anew", b"later")],
)
def test_a_row_that_is_none_is_told(row: bytes) -> None:
    with pytest.raises(BadBegunError, match="cannot be read"):
        Begun.decode(row)


def test_a_row_of_another_version_is_told() -> None:
    with pytest.raises(BadBegunError, match="another version"):
        Begun.decode(BEGUN.encode().replace(b'"version": 1', b'"version": 2'))
