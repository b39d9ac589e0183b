"""What the rules of a bridge come to together: what to subscribe to on each side, and what becomes of a message.

A message goes to each topic on the other side once, whatever the number of rules that lead there. Filters that another
one covers are not subscribed to. Where filters overlap in part the sender may send one copy for each: the identifiers
of the subscriptions tell which copy stands for which rules, so that exactly one of them is forwarded to each topic.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from strogoff.bridge.topics import SHARE, Direction, TopicRule, covers

__all__ = ["Forward", "Subscription", "forwards", "subscriptions"]


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


@dataclasses.dataclass(frozen=True, slots=True)
class Forward:
    """What is published on the other side for a message."""

    topic: str
    qos: int
    retain: bool


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


@dataclasses.dataclass(slots=True)
class _Wanted:
    """What the rules that lead to one topic ask for, and the subscription whose copy is forwarded."""

    owner: Subscription
    owner_qos: int
    qos: int
    keeps_retain: bool


def forwards(
    subscribed: Sequence[Subscription],
    way: Direction,
    topic: str,
    *,
    qos: int,
    retain: bool,
    through: Collection[int] | None = None,
) -> tuple[Forward, ...]:
    """What to publish on the other side for a message that came with a topic, QoS and retain flag.

    `through`: identifiers of the subscriptions that this copy came through; None where the sender does not tell. `OUT`
    goes at the highest QoS of the rules, `IN` at the QoS that it came with, if no rule is below that.
    """
    wanted: dict[str, _Wanted] = {}
    for subscription in subscribed:
        for rule in subscription.rules:
            target = rule.target(way, topic)
            if target is not None:
                _want(wanted, target, rule, subscription)
    return tuple(
        Forward(target, want.qos if way is Direction.OUT else min(qos, want.qos), retain and want.keeps_retain)
        for target, want in wanted.items()
        if through is None or want.owner.identifier in through
    )


def _want(wanted: dict[str, _Wanted], target: str, rule: TopicRule, subscription: Subscription) -> None:
    want = wanted.setdefault(target, _Wanted(subscription, rule.qos, rule.qos, rule.keeps_retain))
    want.qos = max(want.qos, rule.qos)
    want.keeps_retain = want.keeps_retain or rule.keeps_retain
    # A copy for a group may come to another member of it, so one that comes here for certain goes before it.
    if (subscription.group is None, rule.qos) > (want.owner.group is None, want.owner_qos):
        want.owner, want.owner_qos = subscription, rule.qos
