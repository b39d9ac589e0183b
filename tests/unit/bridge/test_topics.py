"""Topic lines: the grammar as a table, and the two sides of a rule."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypothesis_profiles import load_profile
from strogoff.bridge.topics import Direction, TopicRule, TopicRuleError, covers, matches, overlap, parse_topic_rule

load_profile()

OUT, IN, BOTH = Direction.OUT, Direction.IN, Direction.BOTH
LEVELS = st.sampled_from(["a", "b", "", "$a", "c d"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(st.one_of(LEVELS, st.just("+")), max_size=3),
    st.sampled_from([["#"], ["a"], ["+"]]),
)
PREFIXES = st.sampled_from(["", "a", "a/b", "a/", "/", "$a"])
RULES = st.builds(
    TopicRule,
    FILTERS,
    st.sampled_from(Direction),
    st.integers(0, 2),
    st.booleans(),
    PREFIXES,
    PREFIXES,
    st.sampled_from([None, "g"]),
)


def matches_by_pattern(topic_filter: str, topic: str) -> bool:
    """The rules of MQTT §4.7 in other words."""
    if topic[0] == "$" and topic_filter[0] in "+#":
        return False
    parts = [r"[^/]*" if level == "+" else re.escape(level) for level in topic_filter.split("/")]
    if topic_filter == "#":
        return True
    if topic_filter.endswith("/#"):
        return re.fullmatch("/".join(parts[:-1]) + "(/.*)?", topic, re.DOTALL) is not None
    return re.fullmatch("/".join(parts), topic, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("a/b", TopicRule("a/b")),
        ("  a/b \t in  ", TopicRule("a/b", IN)),
        ("* both 1", TopicRule("#", BOTH, 1)),
        ("a/* out 2 retain", TopicRule("a/#", OUT, 2, keeps_retain=True)),
        ("# in 0 here there", TopicRule("#", IN, 0, local_prefix="here", remote_prefix="there")),
        ("+/x in retain $empty from/", TopicRule("+/x", IN, 0, keeps_retain=True, remote_prefix="from/")),
        ("a 2", TopicRule("a", OUT, 2)),
        ("a retain", TopicRule("a", OUT, 0, keeps_retain=True)),
        ("a x y", TopicRule("a", OUT, 0, local_prefix="x", remote_prefix="y")),
        ("a retain out 1", TopicRule("a", keeps_retain=True, local_prefix="out", remote_prefix="1")),
        ("a out 3 x", TopicRule("a", OUT, 0, local_prefix="3", remote_prefix="x")),
        ("a in $empty $empty", TopicRule("a", IN)),
        ("$share/g/a/* in 1 x y", TopicRule("a/#", IN, 1, local_prefix="x", remote_prefix="y", group="g")),
        ("$SYS/* out", TopicRule("$SYS/#")),
        ("in in", TopicRule("in", IN)),
    ],
)
def test_a_line_is_read_from_left_to_right(line: str, rule: TopicRule) -> None:
    assert parse_topic_rule(line) == rule


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "expected a topic pattern, found nothing"),
        (
            "a otu",
            "word 2: expected a direction of out, in or both, a QoS of 0, 1 or 2, retain, or a local and a remote",
        ),
        ("a 1 out", "word 3: expected retain, or a local and a remote prefix, found 'out' and nothing after it"),
        (
            "a in 3",
            "word 3: expected a QoS of 0, 1 or 2, retain, or a local and a remote prefix, found '3' and nothing",
        ),
        ("a in 1 retain x", "word 5: expected a local and a remote prefix, found 'x' and nothing after it"),
        ("a in 1 x y z", "word 6: expected the end after the remote prefix, found 'z'"),
        ("a*b", "word 1: expected a topic filter, found 'a#b'"),
        ("#/a", "word 1: expected a topic filter, found '#/a'"),
        ("a+/b", "word 1: expected a topic filter, found 'a+/b'"),
        ("a\0", "word 1: expected a topic filter, found a NUL character"),
        ("$share/g in", "word 1: expected $share/GROUP/FILTER, found '$share/g'"),
        ("$share//a", "word 1: expected $share/GROUP/FILTER, found '$share//a'"),
        ("$share/+/a", "word 1: expected $share/GROUP/FILTER, found '$share/+/a'"),
        ("a in 0 x/* y", "expected a prefix, found 'x/#'"),
        ("a in 0 x $share/g/y", "expected a prefix, found '$share/g/y'"),
        (f"{'a' * 40_000} out 0 {'b' * 40_000} x", "the pattern with its prefix is longer than 65535 bytes"),
    ],
)
def test_an_error_says_which_word_and_what_was_expected(line: str, message: str) -> None:
    with pytest.raises(TopicRuleError) as caught:
        parse_topic_rule(line)
    assert str(caught.value).startswith(message)
    assert caught.value.advice


@given(RULES.filter(lambda rule: "c d" not in rule.pattern))
def test_a_rule_is_written_as_it_is_read(rule: TopicRule) -> None:
    assert parse_topic_rule(str(rule)) == rule


@given(FILTERS, TOPICS)
def test_filters_match_as_the_specification_says(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic) == matches_by_pattern(topic_filter, topic)


@given(FILTERS, FILTERS, TOPICS)
def test_a_filter_that_covers_another_matches_what_that_matches(wide: str, narrow: str, topic: str) -> None:
    if covers(wide, narrow) and matches(narrow, topic):
        assert matches(wide, topic)
    if matches(wide, topic) and matches(narrow, topic):
        assert overlap(wide, narrow)


@given(FILTERS, FILTERS, FILTERS)
def test_covering_is_an_order(one: str, two: str, three: str) -> None:
    assert covers(one, one)
    assert not (covers(one, two) and covers(two, one)) or one == two
    assert not (covers(one, two) and covers(two, three)) or covers(one, three)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("a/+", "+/b", True),
        ("a/#", "a", True),
        ("a/b", "a/c", False),
        ("a/+", "a", False),
        ("a/+/#", "a", False),
        ("#", "$SYS/a", False),
        ("$SYS/#", "$SYS/+", True),
        ("+/a", "$SYS/a", False),
    ],
)
def test_filters_overlap_where_a_topic_matches_both(one: str, other: str, expected: bool) -> None:
    assert overlap(one, other) is overlap(other, one) is expected


@pytest.mark.parametrize(
    ("line", "way", "topic", "target"),
    [
        ("# both 0 here there", OUT, "here/a", "there/a"),
        ("# both 0 here there", IN, "there/a", "here/a"),
        ("# both 0 here there", OUT, "here", "there"),
        ("# both 0 here there", OUT, "here/", "there/"),
        ("# both 0 here there", OUT, "hereafter/a", None),
        ("# both 0 here there", OUT, "there/a", None),
        ("# out 0 here $empty", OUT, "here", None),
        ("# out 0 here $empty", OUT, "here/", None),
        ("# out 0 here $empty", OUT, "here/$SYS/x", None),
        ("+/x out 0 here $empty", OUT, "here/$y/x", None),
        ("$SYS/# out 0 $empty nodes/one", OUT, "$SYS/x", "nodes/one/$SYS/x"),
        ("$SYS/# in", IN, "$SYS/x", "$SYS/x"),
        ("# in", IN, "$SYS/x", None),
        ("a in", OUT, "a", None),
        ("a/b out 0 x/ y", OUT, "x//a/b", "y/a/b"),
        ("a/b out 0 x/ y", OUT, "x/a/b", None),
        ("$share/g/a/# in 0 x y", IN, "y/a/b", "x/a/b"),
    ],
)
def test_a_topic_goes_where_the_prefixes_say(line: str, way: Direction, topic: str, target: str | None) -> None:
    assert parse_topic_rule(line).target(way, topic) == target


def test_prefixes_stand_before_the_pattern_on_their_sides() -> None:
    rule = parse_topic_rule("a/* both 0 here $empty")
    assert (rule.local_filter, rule.remote_filter) == ("here/a/#", "a/#")
    assert (rule.source_filter(OUT), rule.source_filter(IN)) == ("here/a/#", "a/#")


def test_a_topic_that_would_be_too_long_has_no_place_on_the_other_side() -> None:
    rule = parse_topic_rule("# out 0 $empty far")
    assert rule.target(OUT, "a" * 65_531) is not None
    assert rule.target(OUT, "a" * 65_532) is None


@given(RULES, TOPICS, PREFIXES)
def test_what_has_a_place_on_the_other_side_finds_its_way_back(rule: TopicRule, topic: str, prefix: str) -> None:
    both = TopicRule(rule.pattern, BOTH, local_prefix=rule.local_prefix, remote_prefix=rule.remote_prefix)
    for way, back in ((OUT, IN), (IN, OUT)):
        for candidate in (topic, f"{prefix}/{topic}"):
            target = both.target(way, candidate)
            assert rule.target(way, candidate) == (target if rule.goes(way) else None)
            if target is not None:
                assert both.target(back, target) == candidate
                assert matches_by_pattern(both.source_filter(back), target)
