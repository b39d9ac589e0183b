"""What the rules of a bridge come to together: each topic on the other side gets a message once."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypothesis_profiles import load_profile
from strogoff._engine import bridge_forwards
from strogoff.bridge.mapping import Subscription, subscriptions
from strogoff.bridge.plan import engine_subscriptions
from strogoff.bridge.topics import Direction, TopicRule, matches, parse_topic_rule

load_profile()

OUT, IN = Direction.OUT, Direction.IN
LINES = (
    "# {} 0",
    "a/# {} 1",
    "a/+ {} 2 retain",
    "+/b {} 0 retain",
    "a/b {} 1",
    "b {} 2 a c",
    "a/# {} 0 $empty far",
    "# {} 2 near $empty",
    "$share/g/a/# {} 1",
    "$share/g/+/b {} 2",
    "$share/h/# {} 0 near far",
)
TOPICS = ("a", "a/b", "b/b", "a/b/c", "near/a/b", "far/a/b", "far/far/a", "c/b", "$a/b")
SETS = st.lists(st.sampled_from(LINES), max_size=6)


@dataclasses.dataclass(frozen=True)
class Forward:
    """What is published on the other side for a message."""

    topic: str
    qos: int
    retain: bool


def forwards(
    subscribed: Sequence[Subscription],
    way: Direction,
    topic: str,
    *,
    qos: int,
    retain: bool,
    through: Sequence[int] | None = None,
) -> tuple[Forward, ...]:
    """What the engine makes of a message. `through` None: the sender does not tell."""
    handed = engine_subscriptions(subscribed, way)
    found = bridge_forwards(
        handed, topic, out=way is Direction.OUT, qos=qos, retain=retain, through=list(through or ())
    )
    return tuple(Forward(*each) for each in found)


def rules(*lines: str) -> list[TopicRule]:
    return [parse_topic_rule(line) for line in lines]


def filters(subscribed: tuple[Subscription, ...]) -> list[tuple[str, int]]:
    return [(subscription.wire_filter, subscription.qos) for subscription in subscribed]


def test_each_side_is_subscribed_to_with_its_prefix() -> None:
    lines = rules("a/* both 1 here there", "b in 2", "$share/g/c both 0 here there")
    assert filters(subscriptions(lines, OUT)) == [("here/a/#", 1), ("$share/g/here/c", 0)]
    assert filters(subscriptions(lines, IN)) == [("there/a/#", 1), ("b", 2), ("$share/g/there/c", 0)]


def test_a_covered_filter_is_not_subscribed_to_and_its_rule_still_holds() -> None:
    lines = rules("a/b in 2 retain", "a/# in 0", "a/b in 0 $empty x")
    subscribed = subscriptions(lines, IN)
    assert filters(subscribed) == [("a/#", 2), ("x/a/b", 0)]
    assert subscribed[0].keeps_retain
    assert forwards(subscribed, IN, "a/b", qos=2, retain=True) == (Forward("a/b", 2, retain=True),)
    assert forwards(subscribed, IN, "a/c", qos=2, retain=True) == (Forward("a/c", 0, retain=False),)


def test_nodes_that_share_subscribe_in_one_group_unless_a_line_names_another() -> None:
    subscribed = subscriptions(rules("a in", "$share/own/b in"), IN, group="all")
    assert filters(subscribed) == [("$share/all/a", 0), ("$share/own/b", 0)]


def test_overlapping_lines_send_a_message_once_with_the_highest_qos() -> None:
    subscribed = subscriptions(rules("a/# out 0", "a/+ out 2 retain", "+/b out 1", "# out 0 a far"), OUT)
    sent = forwards(subscribed, OUT, "a/b", qos=0, retain=True)
    assert sent == (Forward("a/b", 2, retain=True), Forward("far/b", 0, retain=False))


def test_what_goes_out_has_the_qos_of_its_line_and_what_comes_in_that_of_the_message() -> None:
    lines = rules("a both 1")
    out, incoming = subscriptions(lines, OUT), subscriptions(lines, IN)
    assert [forwards(out, OUT, "a", qos=qos, retain=False)[0].qos for qos in range(3)] == [1, 1, 1]
    assert [forwards(incoming, IN, "a", qos=qos, retain=False)[0].qos for qos in range(3)] == [0, 1, 1]


def test_of_the_copies_for_overlapping_filters_one_is_taken() -> None:
    subscribed = subscriptions(rules("a/+ in 0", "+/b in 1"), IN)
    assert forwards(subscribed, IN, "a/b", qos=0, retain=False, through=[1]) == ()
    assert forwards(subscribed, IN, "a/b", qos=1, retain=False, through=[2]) == (Forward("a/b", 1, retain=False),)
    assert forwards(subscribed, IN, "a/b", qos=1, retain=False, through=[1, 2]) == (Forward("a/b", 1, retain=False),)


def test_a_copy_that_surely_comes_here_goes_before_one_for_a_group() -> None:
    subscribed = subscriptions(rules("$share/g/a in 2", "a in 0"), IN)
    assert forwards(subscribed, IN, "a", qos=2, retain=False, through=[1]) == ()
    assert forwards(subscribed, IN, "a", qos=0, retain=False, through=[2]) == (Forward("a", 0, retain=False),)


@pytest.mark.parametrize("way", [OUT, IN])
@given(lines=SETS)
def test_every_topic_on_the_other_side_gets_a_message_once_however_it_is_delivered(
    way: Direction, lines: list[str]
) -> None:
    chosen = rules(*(line.format(way.value) for line in lines))
    subscribed = subscriptions(chosen, way)
    assert [subscription.identifier for subscription in subscribed] == list(range(1, len(subscribed) + 1))
    for topic in TOPICS:
        wanted = {target for rule in chosen if (target := rule.target(way, topic)) is not None}
        plain = [s.identifier for s in subscribed if s.group is None and matches(s.topic_filter, topic)]
        shared = [s.identifier for s in subscribed if s.group is not None and matches(s.topic_filter, topic)]
        in_one = ([plain] if plain else []) + [[one] for one in shared]
        each_its_own = [[one] for one in (*plain, *shared)]
        for copies in (in_one, each_its_own):
            got = itertools.chain.from_iterable(
                forwards(subscribed, way, topic, qos=2, retain=False, through=copy) for copy in copies
            )
            assert Counter(forward.topic for forward in got) == Counter(wanted)
        told = forwards(subscribed, way, topic, qos=2, retain=False)
        assert Counter(forward.topic for forward in told) == Counter(wanted)


@given(lines=SETS)
def test_no_subscription_covers_another_and_all_that_lines_ask_for_is_subscribed_to(lines: list[str]) -> None:
    chosen = rules(*(line.format("in") for line in lines))
    subscribed = subscriptions(chosen, IN)
    assert sorted(map(str, chosen)) == sorted(str(rule) for s in subscribed for rule in s.rules)
    for topic in TOPICS:
        for rule in chosen:
            if rule.target(IN, topic) is not None:
                assert any(matches(s.topic_filter, topic) and s.qos >= rule.qos for s in subscribed if rule in s.rules)
