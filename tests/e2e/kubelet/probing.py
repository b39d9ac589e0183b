"""What the answers to a probe mean: after how many of them the verdict changes, and when the next one is due."""

from dataclasses import dataclass

from e2e.kubelet.manifests import Probe


@dataclass(slots=True)
class ProbeState:
    """Of one probe of one run of a container. `verdict`: what holds until enough answers say something else."""

    probe: Probe
    verdict: bool
    is_decided: bool = False
    """A number of answers has confirmed or changed the verdict."""
    _last: bool | None = None
    _in_row: int = 0

    def record(self, *, is_well: bool) -> bool:
        """Take one answer; whether it decides, which with a verdict that stays it does again and again."""
        self._in_row = self._in_row + 1 if is_well == self._last else 1
        self._last = is_well
        needed = self.probe.success_threshold if is_well else self.probe.failure_threshold
        if self._in_row < needed:
            return False
        self.verdict, self.is_decided = is_well, True
        return True


FIRST_DELAY_S, DELAY_MAX_S, FORGOTTEN_AFTER_S = 10.0, 300.0, 600.0


@dataclass(slots=True)
class RestartDelay:
    """How long a container that ends waits until it is run again: not at first, then 10 s, doubled up to 5 minutes."""

    _next_s: float = 0.0

    def after_run(self, ran_s: float) -> float:
        """Seconds to wait after a run of so many seconds. A long one makes up for those before it."""
        if ran_s >= FORGOTTEN_AFTER_S:
            self._next_s = 0.0
        delay_s = self._next_s
        self._next_s = min(DELAY_MAX_S, max(FIRST_DELAY_S, delay_s * 2))
        return delay_s
