"""The dot-key map: to which key a dot belongs, for dots that some member may not have seen.

Only dots of versions that are not superseded have a row, deletes included: who lacks a superseded dot also lacks one
that superseded it, of the same key. So the map is as large as the number of keys written since the last collection,
however often each was written.
"""

from collections.abc import Mapping

from strogoff.cluster.swc.clock import NOTHING, Entry, has, high
from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_SHIFT

__all__ = ["DotKeys"]


class DotKeys(dict[int, bytes]):
    """Dot -> key. Rebuilt from the objects when a replica is loaded, so it is not stored."""

    __slots__ = ()

    def beyond(self, held: Mapping[int, Entry], wanted: Mapping[int, Entry]) -> list[bytes]:
        """The keys of the dots that are in the first clock and not in the second, each once.

        Costs the smaller of the number of those dots and the size of the map: collected history is not walked through.
        """
        keys: dict[bytes, None] = {}
        wide: dict[int, Entry] = {}
        for actor, entry in held.items():
            lower = wanted.get(actor, NOTHING)
            first, last = lower[0] + 1, high(entry)
            if entry == lower or last < first:
                continue
            if last - first >= len(self):
                wide[actor] = lower
                continue
            for counter in range(first, last + 1):
                key = self.get(counter << COUNTER_SHIFT | actor)
                if key is not None and not has(lower, counter):
                    keys[key] = None
        if wide:
            for dot, key in self.items():
                reached = wide.get(dot & ACTOR_MASK)
                if reached is not None and not has(reached, dot >> COUNTER_SHIFT):
                    keys[key] = None
        return list(keys)

    def of(self, actor: int) -> list[int]:
        """The dots of one actor."""
        return [dot for dot in self if dot & ACTOR_MASK == actor]
