"""The compiled access list against its grammar read as simply as it can be, word by word."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from strogoff._engine import AccessList

NAMES = ["", "a", "b", "#", "+", "a/b", "$x"]
LEVELS = st.sampled_from(["", "a", "b", "$x", "é", "%c"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)


@dataclass(frozen=True, slots=True)
class Who:
    mountpoint: str
    client_id: str
    username: str | None


WHO = st.builds(Who, st.sampled_from(["", "a"]), st.sampled_from(NAMES), st.none() | st.sampled_from(NAMES[1:]))


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(LEVELS, st.sampled_from(["+", "%m", "%u"])), min_size=1, max_size=4))
    return "/".join([*levels, "#"] if draw(st.booleans()) else levels) or "+"


def lines() -> st.SearchStrategy[str]:
    word = st.sampled_from(["", "read ", "write "])
    rule = st.builds("{} {}{}".format, st.sampled_from(["topic", "pattern"]), word, filters())
    return st.one_of(rule, rule, st.sampled_from(["user a", "user b", "user +", "# comment", ""]))


def rules_for(text: list[str], who: Who, access: str) -> list[list[str | None]]:
    """The rules that speak for somebody, as levels; None stands for a level that nothing matches."""
    found, user = [], None
    names = {"%m": who.mountpoint, "%c": who.client_id, "%u": who.username}
    for line in text:
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rest
        if word not in ("topic", "pattern") or (word == "topic" and user is not None and user != who.username):
            continue
        kind, _, topic_filter = rest.rpartition(" ")
        if kind not in ("", access):
            continue
        # A name stands for itself, so one that reads as a wildcard must not become one.
        found.append(
            [
                _literal(names[level]) if word == "pattern" and level in names else level
                for level in topic_filter.split("/")
            ]
        )
    return found


def _literal(name: str | None) -> str | None:
    return None if name is None or "/" in name or name in ("+", "#") else name


def matches(rule: list[str | None], topic: list[str]) -> bool:
    if rule and rule[0] == "#":
        return True
    if not rule or not topic:
        return not rule and not topic
    return rule[0] in ("+", topic[0]) and matches(rule[1:], topic[1:])


def covers(rule: list[str | None], topic_filter: list[str]) -> bool:
    if rule and rule[0] == "#":
        return True
    if not rule or not topic_filter or topic_filter[0] == "#":
        return not rule and not topic_filter
    return rule[0] in ("+", topic_filter[0]) and covers(rule[1:], topic_filter[1:])


@given(st.lists(lines(), max_size=12), WHO, TOPICS)
def test_publishing_is_allowed_exactly_where_a_rule_for_it_matches(text: list[str], who: Who, topic: str) -> None:
    access_list, remarks = AccessList.parse("\n".join(text).encode())
    assert remarks == []
    expected = any(matches(rule, topic.split("/")) for rule in rules_for(text, who, "write"))
    assert access_list.may_publish(who.mountpoint, who.client_id, who.username, topic) == expected


@given(st.lists(lines(), max_size=12), WHO, filters())
def test_subscribing_is_allowed_exactly_where_a_rule_covers_the_filter(text: list[str], who: Who, asked: str) -> None:
    access_list, _ = AccessList.parse("\n".join(text).encode())
    expected = any(covers(rule, asked.split("/")) for rule in rules_for(text, who, "read"))
    assert access_list.may_subscribe(who.mountpoint, who.client_id, who.username, asked) == expected
    shared = access_list.may_subscribe(who.mountpoint, who.client_id, who.username, f"$share/g/{asked}")
    assert shared >= expected
