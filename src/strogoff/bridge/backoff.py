"""How long to wait before a lost connection is tried again."""

import dataclasses
from typing import Final

__all__ = ["Backoff"]

FIRST_S: Final = 1.0
STABLE_S: Final = 60.0
DOUBLINGS_MAX: Final = 32


@dataclasses.dataclass(slots=True)
class Backoff:
    """Waits that double with each failure up to `longest_s`, each shortened by up to a half, so not all come at once.

    They begin anew after a connection that lasted `stable_s`. A remote broker that accepts and then closes each
    connection is therefore waited for as one that does not answer. Times are seconds.
    """

    longest_s: float
    first_s: float = FIRST_S
    stable_s: float = STABLE_S
    failures: int = 0
    """Since the last stable connection."""
    _since_s: float | None = None

    def __post_init__(self) -> None:
        assert self.longest_s > 0 < self.first_s, "waiting takes time"

    def connected(self, now_s: float) -> None:
        """The remote broker has accepted the connection."""
        self._since_s = now_s

    def failed(self, now_s: float, random: float) -> float:
        """The connection is lost, or was refused. How long to wait; `random` is from 0 to 1."""
        assert 0 <= random <= 1, "a fraction"
        if self._since_s is not None and now_s - self._since_s >= self.stable_s:
            self.failures = 0
        self._since_s = None
        wait_s = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, DOUBLINGS_MAX))
        self.failures += 1
        return wait_s * (1 - random / 2)
