"""A hybrid logical clock: time stamps that follow causality, stay near wall time, and are never equal on one node.

Kulkarni, Demirbas, Madappa, Avva, Leone, *Logical Physical Clocks*, OPODIS 2014. The wall time is passed in. A stamp
is one integer, milliseconds since the Unix epoch in its upper 48 bits and a counter in its lower 16.

Plain last-writer-wins lets a node whose clock is an hour ahead win for an hour against everybody. Here a node takes
over stamps that it sees, so what is written after having seen a value always wins over it; and it takes over no stamp
that is further ahead of its own wall clock than the permitted skew, so one broken clock does not move all others.
"""

from typing import Final

__all__ = ["SKEW_MS_MAX", "STAMP_BYTES", "HybridClock", "stamped", "unstamped"]

SKEW_MS_MAX: Final = 60_000
STAMP_BYTES: Final = 8

_COUNTER_BITS: Final = 16
_STAMP_MAX: Final = (1 << 64) - 1


class HybridClock:
    """The clock of one node. `skew_ms_max`: how far ahead of the wall clock a stamp of others is still followed."""

    __slots__ = ("_latest", "_skew_ms_max")

    def __init__(self, skew_ms_max: int = SKEW_MS_MAX) -> None:
        self._skew_ms_max = skew_ms_max
        self._latest = 0

    def now(self, wall_ms: int) -> int:
        """A stamp that is later than all before, and than all that were observed and followed."""
        self._latest = min(max(self._latest + 1, wall_ms << _COUNTER_BITS), _STAMP_MAX)
        return self._latest

    def observe(self, stamp: int, wall_ms: int) -> bool:
        """A stamp was seen. False when it is too far ahead to be followed, which is worth a warning."""
        if stamp >> _COUNTER_BITS > wall_ms + self._skew_ms_max:
            return False
        self._latest = max(self._latest, stamp)
        return True

    def after(self, stamp: int, wall_ms: int) -> int:
        """A stamp for what replaces a value with this stamp: later, however wrong the clock that made it."""
        if not self.observe(stamp, wall_ms):
            return min(stamp + 1, _STAMP_MAX)
        return self.now(wall_ms)


def stamped(stamp: int, value: bytes) -> bytes:
    """A value with its stamp before it."""
    return stamp.to_bytes(STAMP_BYTES, "big") + value


def unstamped(value: bytes) -> tuple[int, bytes]:
    """The stamp of a value, and the value. Bytes that are too short for a stamp are older than all others."""
    if len(value) < STAMP_BYTES:
        return 0, value
    return int.from_bytes(value[:STAMP_BYTES], "big"), value[STAMP_BYTES:]
