"""One topic line of a bridge: what it says, what it subscribes to on each side, and where a topic goes.

    PATTERN [out|in|both] [0|1|2] [retain] [LOCAL-PREFIX REMOTE-PREFIX]

Words are read from left to right; what is not the keyword that may come next is taken for what may come after it. The
first `*` of a line means `#`, which begins a comment in the file. `$empty` is an empty prefix. Prefixes are levels of
their own: `a/` before `b` gives `a//b`. A pattern may begin with `$share/GROUP/`; prefixes then go behind the group.
"""

import dataclasses
import enum
import re
from typing import Final

__all__ = ["Direction", "TopicRule", "TopicRuleError", "covers", "matches", "overlap", "parse_topic_rule"]

GRAMMAR: Final = "PATTERN [out|in|both] [0|1|2] [retain] [LOCAL-PREFIX REMOTE-PREFIX]"
EMPTY: Final = "$empty"
SHARE: Final = "$share"
TOPIC_SIZE_MAX: Final = 65_535
"""Bytes of a topic in MQTT."""

_PREFIXES: Final = "a local and a remote prefix"


class TopicRuleError(ValueError):
    """A line that cannot be used. The message says which word, what was expected; `advice` how it is written."""

    def __init__(self, message: str, advice: str = f"the line is written {GRAMMAR}") -> None:
        super().__init__(message)
        self.advice = advice


class Direction(enum.Enum):
    """Which way messages go, seen from this broker."""

    OUT = "out"
    IN = "in"
    BOTH = "both"


@dataclasses.dataclass(frozen=True, slots=True)
class TopicRule:
    """A topic line. `pattern`: a filter, without the group. A prefix is "" where there is none.

    `keeps_retain`: whether a retained message is forwarded as one. `group`: of a shared subscription.
    """

    pattern: str
    direction: Direction = Direction.OUT
    qos: int = 0
    keeps_retain: bool = False
    local_prefix: str = ""
    remote_prefix: str = ""
    group: str | None = None

    def goes(self, way: Direction) -> bool:
        """Whether the rule is about messages that go `OUT`, or `IN`."""
        assert way is not Direction.BOTH, "a message goes one way"
        return self.direction in {way, Direction.BOTH}

    @property
    def is_symmetric(self) -> bool:
        """Whether what comes in by this rule has the topic that goes out by it."""
        return self.direction is Direction.BOTH and self.local_prefix == self.remote_prefix

    @property
    def local_filter(self) -> str:
        """What the rule is about on this broker; without the group."""
        return _joined(self.local_prefix, self.pattern)

    @property
    def remote_filter(self) -> str:
        """What the rule is about on the remote broker; without the group."""
        return _joined(self.remote_prefix, self.pattern)

    def source_filter(self, way: Direction) -> str:
        """The filter on the side that messages come from; without the group."""
        return self.local_filter if way is Direction.OUT else self.remote_filter

    def target(self, way: Direction, topic: str) -> str | None:
        """The topic on the other side; None where the rule does not apply.

        A topic that only a wildcard would put below `$` on the other side has no place there.
        """
        if not self.goes(way) or not matches(self.source_filter(way), topic):
            return None
        source, target = self.local_prefix, self.remote_prefix
        if way is Direction.IN:
            source, target = target, source
        # "a" and "a/" both begin with the prefix "a": the first has no level behind it, the second an empty one.
        mapped = (
            target if source and topic == source else _joined(target, topic[len(source) + 1 :] if source else topic)
        )
        other_filter = self.remote_filter if way is Direction.OUT else self.local_filter
        is_topic = bool(mapped) and len(mapped.encode()) <= TOPIC_SIZE_MAX
        return mapped if is_topic and matches(other_filter, mapped) else None

    def __str__(self) -> str:
        """The line, with all that it left to the defaults."""
        pattern = self.pattern if self.group is None else f"{SHARE}/{self.group}/{self.pattern}"
        words = [pattern, self.direction.value, str(self.qos), "retain" if self.keeps_retain else ""]
        if self.local_prefix or self.remote_prefix:
            words += [self.local_prefix or EMPTY, self.remote_prefix or EMPTY]
        return " ".join(word for word in words if word)


def parse_topic_rule(line: str) -> TopicRule:
    """Read a line. Raises `TopicRuleError`."""
    words = [word for word in re.split(r"[ \t]+", line.replace("*", "#", 1)) if word]
    if not words:
        raise TopicRuleError("expected a topic pattern, found nothing")
    group, pattern = _read_pattern(words[0])
    rest = words[1:]
    direction = qos = None
    keeps_retain = False
    if rest and rest[0] in {"out", "in", "both"}:
        direction = Direction(rest.pop(0))
    if rest and rest[0] in {"0", "1", "2"}:
        qos = int(rest.pop(0))
    if rest and rest[0] == "retain":
        keeps_retain = bool(rest.pop(0))
    if len(rest) == 1:
        expected = _expected(has_direction=direction is not None, has_qos=qos is not None, has_retain=keeps_retain)
        raise TopicRuleError(f"word {len(words)}: expected {expected}, found {_shown(rest[0])} and nothing after it")
    if len(rest) > 2:
        place = len(words) - len(rest) + 3
        raise TopicRuleError(f"word {place}: expected the end after the remote prefix, found {_shown(rest[2])}")
    local_prefix, remote_prefix = (_read_prefix(word) for word in rest) if rest else ("", "")
    rule = TopicRule(pattern, direction or Direction.OUT, qos or 0, keeps_retain, local_prefix, remote_prefix, group)
    for topic_filter in (rule.local_filter, rule.remote_filter):
        if len(topic_filter.encode()) > TOPIC_SIZE_MAX:
            raise TopicRuleError(f"the pattern with its prefix is longer than {TOPIC_SIZE_MAX} bytes", "shorten it")
    return rule


def _expected(*, has_direction: bool, has_qos: bool, has_retain: bool) -> str:
    """What may stand where the words up to these keywords have been read."""
    still_possible = [_PREFIXES]
    if not has_retain:
        still_possible.insert(0, "retain")
        if not has_qos:
            still_possible.insert(0, "a QoS of 0, 1 or 2")
            if not has_direction:
                still_possible.insert(0, "a direction of out, in or both")
    *others, last = still_possible
    return f"{', '.join(others)}, or {last}" if others else last


def _read_pattern(word: str) -> tuple[str | None, str]:
    """The group, if there is one, and the filter."""
    group = None
    pattern = word
    if word == SHARE or word.startswith(f"{SHARE}/"):
        _, _, shared = word.partition("/")
        group, slash, pattern = shared.partition("/")
        if not group or not slash or not pattern or set(group) & set("+#"):
            advice = "a group has a name without + and #"
            raise TopicRuleError(f"word 1: expected {SHARE}/GROUP/FILTER, found {_shown(word)}", advice)
    levels = pattern.split("/")
    if "#" in "".join(levels[:-1]) or any(len(level) > 1 and set(level) & set("+#") for level in levels):
        advice = "+ stands for one whole level; #, which may be written *, for all that follow, at the end"
        raise TopicRuleError(f"word 1: expected a topic filter, found {_shown(word)}", advice)
    if "\0" in pattern:
        raise TopicRuleError("word 1: expected a topic filter, found a NUL character", "leave it out")
    return group, pattern


def _read_prefix(word: str) -> str:
    if word == EMPTY:
        return ""
    if word == SHARE or word.startswith(f"{SHARE}/"):
        advice = f"write {SHARE}/GROUP/ before the pattern: the prefixes go behind the group by themselves"
        raise TopicRuleError(f"expected a prefix, found {_shown(word)}", advice)
    if set(word) & set("+#\0"):
        advice = "a prefix is a topic, without + and # (* is read as #)"
        raise TopicRuleError(f"expected a prefix, found {_shown(word)}", advice)
    return word


def _shown(word: str) -> str:
    return repr(word if len(word) <= 80 else word[:80] + "...")


def _joined(prefix: str, topic: str) -> str:
    return f"{prefix}/{topic}" if prefix else topic


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter without a group matches a topic. A wildcard at its begin matches no `$` there [MQTT-4.7.2-1]."""
    return covers(topic_filter, topic)


def covers(wide: str, narrow: str) -> bool:
    """Whether a filter certainly matches all that another one matches."""
    levels = narrow.split("/")
    if wide[0] in "+#" and narrow.startswith("$"):
        return False
    wanted = wide.split("/")
    for place, level in enumerate(wanted):
        if level == "#":
            return True
        if place == len(levels) or levels[place] == "#" or level not in {"+", levels[place]}:
            return False
    return len(wanted) == len(levels)


def overlap(one: str, other: str) -> bool:
    """Whether there are topics that both filters match."""
    if (one[0] in "+#" and other.startswith("$")) or (other[0] in "+#" and one.startswith("$")):
        return False
    first, second = one.split("/"), other.split("/")
    for left, right in zip(first, second, strict=False):
        if "#" in {left, right}:
            return True
        if left != right and "+" not in {left, right}:
            return False
    longer, shared = max(first, second, key=len), min(len(first), len(second))
    return len(first) == len(second) or longer[shared:] == ["#"]
