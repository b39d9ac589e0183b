"""What the rules of a bridge come to together: what to subscribe to on each side.

Filters that another one covers are not subscribed to. What becomes of a message that comes is the engine's affair
(`engine/src/bridge/mapping.rs`): it goes to each topic on the other side once, whatever the number of rules that lead
there.
"""

import dataclasses
from collections.abc import Iterable

from strogoff.bridge.topics import SHARE, Direction, TopicRule, covers

__all__ = ["Subscription", "subscriptions"]


@dataclasses.dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription on the side that messages come from, for some rules. `identifier`: from 1 (5.0 §3.8.2.1.2).

    `qos`: the highest that one of the rules asks for. `keeps_retain`: whether Retain As Published is wanted.
    """

    identifier: int
    topic_filter: str
    group: str | None
    qos: int
    keeps_retain: bool
    rules: tuple[TopicRule, ...]

    @property
    def wire_filter(self) -> str:
        """As it stands in SUBSCRIBE."""
        return self.topic_filter if self.group is None else f"{SHARE}/{self.group}/{self.topic_filter}"


def subscriptions(rules: Iterable[TopicRule], way: Direction, *, group: str | None = None) -> tuple[Subscription, ...]:
    """What to subscribe to for messages that go `way`: on this broker for `OUT`, on the remote one for `IN`.

    `group`: for rules that name none themselves.
    """
    wanted: dict[tuple[str | None, str], list[TopicRule]] = {}
    for rule in rules:
        if rule.goes(way):
            wanted.setdefault((rule.group or group, rule.source_filter(way)), []).append(rule)
    kept: dict[tuple[str | None, str], list[TopicRule]] = {
        filter_: []
        for filter_ in wanted
        if not any(_is_covered(filter_, other) for other in wanted if other != filter_)
    }
    for filter_, its_rules in wanted.items():
        kept[next(other for other in kept if _is_covered(filter_, other))] += its_rules
    return tuple(
        Subscription(
            identifier=number,
            topic_filter=topic_filter,
            group=its_group,
            qos=max(rule.qos for rule in its_rules),
            keeps_retain=any(rule.keeps_retain for rule in its_rules),
            rules=tuple(its_rules),
        )
        for number, ((its_group, topic_filter), its_rules) in enumerate(kept.items(), start=1)
    )


def _is_covered(filter_: tuple[str | None, str], other: tuple[str | None, str]) -> bool:
    return filter_[0] == other[0] and covers(other[1], filter_[1])
