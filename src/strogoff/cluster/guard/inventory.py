"""What a node holds, sorted by kind, each with its number and some examples.

Pure. `Tally` is told of one thing after the other and sorts it; whoever walks through engine and metadata is `survey`.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from strogoff.cluster.members import MEMBERS_PREFIX
from strogoff.cluster.records import SUBSCRIBERS_PREFIX
from strogoff.cluster.retained import RETAINED_PREFIX

__all__ = [
    "API_KEYS_PREFIX",
    "EXAMPLES_MAX",
    "Holding",
    "Inventory",
    "Kind",
    "Tally",
    "counted",
    "is_brokers_own",
    "is_of_clients",
    "kind_of_row",
    "placed",
    "readable",
]

API_KEYS_PREFIX: Final = b"api_key/"
"""Rows of the metadata that hold keys of the HTTP API. What has a prefix that nobody knows is configuration."""
EXAMPLES_MAX: Final = 3
BROKERS_OWN_TOPIC: Final = "$SYS"


class Kind(enum.Enum):
    """What a thing is to a cluster that this node is about to join."""

    INTERNAL = "internal"
    """What the broker and its plugins do for themselves. It never leaves the node."""
    SESSIONS = "sessions"
    """Those that outlast their connection. One that ends with it is no state."""
    SUBSCRIPTIONS = "subscriptions"
    """Of these sessions."""
    RETAINED = "retained"
    CONFIGURATION = "configuration"
    """Settings that hold for a whole cluster."""
    API_KEYS = "API keys"
    MEMBERSHIP = "earlier membership"
    """What is remembered of a cluster that this node was in."""


_HARMLESS: Final = frozenset({Kind.INTERNAL, Kind.MEMBERSHIP})


_NOUNS: Final = {
    Kind.INTERNAL: ("thing of its own", "things of its own"),
    Kind.SESSIONS: ("session", "sessions"),
    Kind.SUBSCRIPTIONS: ("subscription", "subscriptions"),
    Kind.RETAINED: ("retained message", "retained messages"),
    Kind.CONFIGURATION: ("setting of a cluster", "settings of a cluster"),
    Kind.API_KEYS: ("API key", "API keys"),
    Kind.MEMBERSHIP: ("row of an earlier membership", "rows of an earlier membership"),
}


def is_of_clients(kind: Kind) -> bool:
    """Whether clients or administrators would miss it. Only that stands in the way of a join."""
    return kind not in _HARMLESS


@dataclass(frozen=True, slots=True)
class Holding:
    """All of one kind. `examples`: the first few. `waiting`: messages in the queues of sessions."""

    kind: Kind
    count: int = 0
    examples: tuple[str, ...] = ()
    waiting: int = 0

    @property
    def shown(self) -> str:
        """The examples for people, and how many messages wait."""
        rest = ", ..." if self.count > len(self.examples) > 0 else ""
        waiting = f"; {counted(self.waiting, 'message waits', 'messages wait')}" if self.waiting else ""
        return f"{', '.join(self.examples)}{rest}{waiting}"

    def __str__(self) -> str:
        """As in `3 sessions (a, b, ...; 5 messages wait)`."""
        what = counted(self.count, *_NOUNS[self.kind])
        return f"{what} ({self.shown})" if self.shown else what


def counted(number: int, one: str, more: str) -> str:
    """A number and its noun."""
    return f"{number} {one if number == 1 else more}"


@dataclass(frozen=True, slots=True)
class Inventory:
    """A holding of each kind, in the order of the kinds, also where there is nothing of it."""

    holdings: tuple[Holding, ...] = field(default_factory=lambda: tuple(Holding(kind) for kind in Kind))

    def of(self, kind: Kind) -> Holding:
        """All of one kind."""
        return next(holding for holding in self.holdings if holding.kind is kind)

    @property
    def of_clients(self) -> Sequence[Holding]:
        """What stands in the way of a join that may lose nothing."""
        return [holding for holding in self.holdings if holding.count and is_of_clients(holding.kind)]

    @property
    def has_foreign_rows(self) -> bool:
        """Whether the metadata has more than the record of this node: none of it may come into another cluster as it
        is, since that would take it for its own history.
        """
        return any(self.of(kind).count for kind in (Kind.CONFIGURATION, Kind.API_KEYS, Kind.MEMBERSHIP))


def is_brokers_own(topic: str) -> bool:
    """Whether a broker publishes of itself below this topic."""
    return topic.partition("/")[0] == BROKERS_OWN_TOPIC


class Tally:
    """Sorts and counts. `name`: of this node."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts = dict.fromkeys(Kind, 0)
        self._examples: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        self._waiting = 0

    def wants_examples(self, kind: Kind) -> bool:
        """Whether more of them would be kept."""
        return len(self._examples[kind]) < EXAMPLES_MAX

    def internal(self, what: Iterable[str]) -> None:
        """Things that the broker has for itself, in words."""
        for each in what:
            self._add(Kind.INTERNAL, each)

    def session(
        self, mountpoint: str, client_id: str, *, waiting: int, subscriptions: int, filters: Sequence[str]
    ) -> None:
        """A session that outlasts its connection, with the number of its subscriptions, and some of them by filter."""
        self._add(Kind.SESSIONS, placed(mountpoint, client_id))
        self._waiting += waiting
        for topic_filter in filters[: EXAMPLES_MAX - len(self._examples[Kind.SUBSCRIPTIONS])]:
            self._examples[Kind.SUBSCRIPTIONS].append(topic_filter)
        self._counts[Kind.SUBSCRIPTIONS] += subscriptions

    def retained(self, mountpoint: str, topic: str) -> None:
        """A retained message. What the broker publishes of itself is internal."""
        self._add(Kind.INTERNAL if is_brokers_own(topic) else Kind.RETAINED, placed(mountpoint, topic))

    def row(self, key: bytes) -> None:
        """A row of the metadata."""
        if key != MEMBERS_PREFIX + self._name.encode():
            self._add(kind_of_row(key), readable(key.removeprefix(API_KEYS_PREFIX)))

    def inventory(self) -> Inventory:
        """All that was told until now."""
        return Inventory(
            tuple(
                Holding(
                    kind,
                    self._counts[kind],
                    tuple(self._examples[kind]),
                    waiting=self._waiting if kind is Kind.SESSIONS else 0,
                )
                for kind in Kind
            )
        )

    def _add(self, kind: Kind, example: str) -> None:
        self._counts[kind] += 1
        if self.wants_examples(kind):
            self._examples[kind].append(example)


def kind_of_row(key: bytes) -> Kind:
    """What a row of the metadata is about. Sessions and messages themselves are in the engine, and counted there."""
    if key.startswith((MEMBERS_PREFIX, SUBSCRIBERS_PREFIX, RETAINED_PREFIX)):
        return Kind.MEMBERSHIP
    return Kind.API_KEYS if key.startswith(API_KEYS_PREFIX) else Kind.CONFIGURATION


def placed(mountpoint: str, name: str) -> str:
    """A client id or a topic, with its mountpoint where that is not the usual one."""
    return f"{name} in {mountpoint}" if mountpoint else name


def readable(key: bytes) -> str:
    """A key of the metadata for people."""
    return key.decode(errors="replace").replace("\0", "/")
