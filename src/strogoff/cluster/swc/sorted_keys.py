"""The keys in their order, for those who page through them. Kept only once somebody has asked for it."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ["SortedKeys"]

_SLACK: Final = 1_000


class SortedKeys:
    """Sorts when it is read. Keys that went stay until they are as many as those that are."""

    __slots__ = ("_new", "_order")

    def __init__(self) -> None:
        self._order: list[bytes] | None = None
        self._new: list[bytes] = []

    def add(self, key: bytes) -> None:
        """A key is new, or may be."""
        if self._order is not None:
            self._new.append(key)

    def reset(self) -> None:
        """Forget the order: many keys have changed."""
        self._order = None
        self._new.clear()

    def after(self, prefix: bytes, after: bytes | None, objects: Mapping[bytes, bytes]) -> Iterator[bytes]:
        """The keys of `objects` with the prefix, behind a key, in order. `objects` must not change meanwhile."""
        order = self._sorted(objects)
        at = bisect_left(order, prefix) if after is None or after < prefix else bisect_right(order, after)
        last = None
        while at < len(order) and order[at].startswith(prefix):
            key = order[at]
            if key != last and key in objects:
                yield key
            last = key
            at += 1

    def _sorted(self, objects: Mapping[bytes, bytes]) -> list[bytes]:
        if self._order is None or len(self._order) + len(self._new) > 2 * len(objects) + _SLACK:
            self._order = sorted(objects)
        elif self._new:
            self._order += self._new
            # Two sorted runs are merged, not sorted.
            self._order.sort()
        self._new.clear()
        return self._order
