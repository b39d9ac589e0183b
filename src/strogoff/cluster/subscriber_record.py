"""A subscriber's record as it is replicated: which node has the session, and its subscriptions.

Each part carries the stamp of its latest change (`hlc`), so that two records that were changed at the same time on
two nodes can be merged part by part. A filter that was unsubscribed stays, marked as removed, until nobody can hold
an older record: otherwise a merge would bring it back.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

__all__ = ["DamagedRecordError", "SubscriberId", "SubscriberRecord", "Subscription"]

_VERSION: Final = 1
_HEAD: Final = struct.Struct("<BQBHI")
_SUBSCRIPTION: Final = struct.Struct("<QBBIH")


class DamagedRecordError(ValueError):
    """Bytes that are no subscriber's record."""


class SubscriberId(NamedTuple):
    """Whose session it is."""

    mountpoint: str
    client_id: str


class Subscription(NamedTuple):
    """One filter. Of two with the same stamp the greater one counts: a removed one before one that is there."""

    stamp: int
    removed: bool
    options: int
    """The subscription options of MQTT 5, as they are in SUBSCRIBE."""
    identifier: int = 0
    """The subscription identifier, 0 for none."""


@dataclass(frozen=True, slots=True)
class SubscriberRecord:
    """A subscriber. `stamp`: of the latest change of `node`, `clean` and `session`, which only change together.

    `session`: what the engine has to know to make the session anew, in its own form (`Engine.kept_session`).
    """

    stamp: int
    node: str
    clean: bool
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    session: bytes = b""

    def encode(self) -> bytes:
        """The bytes. Equal records make equal bytes."""
        node = self.node.encode()
        parts = [_HEAD.pack(_VERSION, self.stamp, self.clean, len(node), len(self.session)), node, self.session]
        for topic_filter, subscription in sorted(self.subscriptions.items()):
            name = topic_filter.encode()
            stamp, removed, options, identifier = subscription
            parts += [_SUBSCRIPTION.pack(stamp, removed, options, identifier, len(name)), name]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> "SubscriberRecord":
        """The record of these bytes. Raises `DamagedRecordError`."""
        try:
            version, stamp, clean, size, session_size = _HEAD.unpack_from(data)
            at = _HEAD.size + size
            node = data[_HEAD.size : at].decode()
            session = data[at : at + session_size]
            at += session_size
            subscriptions: dict[str, Subscription] = {}
            while at < len(data):
                changed, removed, options, identifier, size = _SUBSCRIPTION.unpack_from(data, at)
                at += _SUBSCRIPTION.size + size
                subscriptions[data[at - size : at].decode()] = Subscription(changed, bool(removed), options, identifier)
        except (struct.error, UnicodeDecodeError):
            raise DamagedRecordError("bytes that are no subscriber's record") from None
        if version != _VERSION or at != len(data):
            raise DamagedRecordError("a subscriber's record of another version, or one that is cut off")
        return cls(stamp, node, bool(clean), subscriptions, session)

    def merged(self, other: "SubscriberRecord") -> "SubscriberRecord":
        """The later of each part of two records."""
        one, later = sorted((self, other), key=lambda record: (record.stamp, record.clean, record.node, record.session))
        subscriptions = dict(one.subscriptions)
        for topic_filter, subscription in later.subscriptions.items():
            subscriptions[topic_filter] = max(subscription, subscriptions.get(topic_filter, subscription))
        return replace(later, subscriptions=subscriptions)

    def without_removed(self, before: int) -> "SubscriberRecord":
        """The record without the filters that were removed before a stamp."""
        kept = {
            topic_filter: subscription
            for topic_filter, subscription in self.subscriptions.items()
            if not subscription.removed or subscription.stamp >= before
        }
        return replace(self, subscriptions=kept)

    def filters(self) -> Iterable[str]:
        """The filters that are subscribed to."""
        return [topic_filter for topic_filter, subscription in self.subscriptions.items() if not subscription.removed]
