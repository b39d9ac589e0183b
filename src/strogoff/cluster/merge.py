"""What concurrent values of a key come to, by kind of value.

These are pure functions of the values: deterministic, and the same in whatever order, grouping and number the values
come. So every node that has the same values shows the same one, and nothing has to be written to agree.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TypeAlias

from strogoff.cluster.hlc import unstamped
from strogoff.cluster.subscriber_record import DamagedRecordError, SubscriberRecord

__all__ = ["Merge", "by_prefix", "latest", "subscriptions"]

Merge: TypeAlias = Callable[[bytes, tuple[bytes, ...]], bytes]


def latest(_: bytes, values: tuple[bytes, ...]) -> bytes:
    """Of stamped values the one with the latest stamp; of equal stamps the greater value."""
    return max(values, key=unstamped)


def subscriptions(_: bytes, values: tuple[bytes, ...]) -> bytes:
    """Of subscribers' records the later of each part: a node's subscribing is never undone by another node's.

    Bytes that are no record lose against records; among themselves the greater wins.
    """
    records = []
    for value in values:
        try:
            records.append(SubscriberRecord.decode(value))
        except DamagedRecordError:
            continue
    if not records:
        return max(values)
    return reduce(SubscriberRecord.merged, records).encode()


def by_prefix(merges: Mapping[bytes, Merge], otherwise: Merge = latest) -> Merge:
    """A function that chooses by what the key begins with; the longest prefix counts."""
    ordered = sorted(merges.items(), key=lambda item: len(item[0]), reverse=True)

    def merge(key: bytes, values: tuple[bytes, ...]) -> bytes:
        for prefix, function in ordered:
            if key.startswith(prefix):
                return function(key, values)
        return otherwise(key, values)

    return merge
