"""What a node remembers of its cluster, without a cluster."""

from collections.abc import Sequence

import pytest

from strogoff.cluster.history import EVENTS_MAX, ClusterEvent, Happening, History


class Clock:
    """Each look at it is a second later."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def history() -> History:
    """Of the node a, which was a member of a cluster with b when it started."""
    history = History("a", Clock())
    history.members_are(["a", "b"])
    return history


def told(history: History) -> Sequence[tuple[Happening, str, str]]:
    return [(event.happening, event.node, event.detail) for event in history.events]


def test_those_that_were_members_before_have_not_joined(history: History) -> None:
    assert history.events == ()
    history.members_are(["a", "b"])
    assert history.events == ()


def test_a_node_that_joins_tells_through_whom_and_does_not_tell_of_those_that_were_there() -> None:
    history = History("a", Clock())
    history.members_are([])
    history.joined("b", ["a", "b", "c"])
    history.members_are(["a", "b", "c"])
    assert history.events == (ClusterEvent(1.0, Happening.JOINED, "a", "through b"),)


def test_members_come_and_go(history: History) -> None:
    history.members_are(["a", "b", "d", "c"])
    history.link_is("c", "reachable", "")
    history.members_are(["a", "b"])
    assert told(history) == [
        (Happening.JOINED, "c", ""),
        (Happening.JOINED, "d", ""),
        (Happening.LINK_UP, "c", ""),
        (Happening.LEFT, "c", ""),
        (Happening.REMOVED, "d", ""),
    ]


def test_a_link_is_told_when_it_changes(history: History) -> None:
    for state, reason in (("down", "refused"), ("down", "no answer"), ("reachable", ""), ("down", "silence")):
        history.link_is("b", state, reason)
    assert told(history) == [
        (Happening.LINK_DOWN, "b", "refused"),
        (Happening.LINK_UP, "b", ""),
        (Happening.LINK_DOWN, "b", "silence"),
    ]


def test_a_link_to_a_node_that_joins_is_first_told_when_it_is_up(history: History) -> None:
    history.members_are(["a", "b", "c"])
    history.link_is("c", "down", "the node has joined a cluster")
    history.link_is("c", "reachable", "")
    assert told(history) == [(Happening.JOINED, "c", ""), (Happening.LINK_UP, "c", "")]


def test_links_to_those_that_are_no_members_are_not_told(history: History) -> None:
    history.link_is("guest", "guest", "")
    history.link_is("guest", "down", "it was refused")
    assert history.events == ()


def test_a_node_that_joins_again_begins_with_a_new_link(history: History) -> None:
    history.link_is("b", "reachable", "")
    history.members_are(["a"])
    history.members_are(["a", "b"])
    history.link_is("b", "reachable", "")
    happenings = [happening for happening, _, _ in told(history)]
    assert happenings == [Happening.LINK_UP, Happening.LEFT, Happening.JOINED, Happening.LINK_UP]


def test_the_latest_events_are_kept_and_the_others_counted(history: History) -> None:
    for number in range(EVENTS_MAX + 5):
        history.link_is("b", "reachable" if number % 2 else "down", str(number))
    assert len(history.events) == EVENTS_MAX
    assert history.forgotten == 5
    assert history.events[0].at == 6.0
