"""All metrics of a node under VerneMQ's names: the engine's, and those of the process around it.

VerneMQ's metrics of the Erlang machine are kept where they have a meaning without it (CPU time, uptime, context
switches, collections, memory); reductions, atoms, run queues and the like do not exist here and are not faked.
"""

import gc
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from strogoff._engine import Metric

__all__ = ["MetricsSource", "Series", "aggregated", "matching"]

_WITHOUT_PEERS = {
    "cluster_bytes_received": "Bytes received from other nodes.",
    "cluster_bytes_sent": "Bytes sent to other nodes.",
    "cluster_bytes_dropped": "Bytes for other nodes that were dropped.",
}
"""Counters that dashboards ask for and that stay 0 on a node without peers."""

_LARGEST = frozenset({"cluster_peer_oldest_age_ms"})
"""Gauges of which the largest counts where others are summed."""


@dataclass(frozen=True, slots=True)
class Series:
    """One value under a name and labels. `kind`: counter (only grows, until a reset) or gauge."""

    name: str
    kind: str
    value: int
    description: str
    labels: Mapping[str, str] = field(default_factory=dict)


class MetricsSource:
    """Takes snapshots. `engine_metrics` are the engine's; `dropped_logs` counts lost log records.

    `control` gives what the control plane itself counts.
    """

    __slots__ = ("_control", "_dropped_logs", "_engine_metrics", "_started")

    def __init__(
        self,
        engine_metrics: Callable[[], Iterable[Metric]],
        dropped_logs: Callable[[], int],
        control: Callable[[], Iterable["Series"]] = tuple,
    ) -> None:
        self._engine_metrics = engine_metrics
        self._dropped_logs = dropped_logs
        self._control = control
        self._started = time.monotonic()

    def uptime_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def snapshot(self) -> list[Series]:
        """Every series, the engine's first, in an order that stays."""
        rows = [
            Series(metric.name, metric.kind, metric.value, metric.description, metric.labels)
            for metric in self._engine_metrics()
        ]
        return [*rows, *self._process_rows({row.name for row in rows}), *self._control()]

    def _process_rows(self, taken: set[str]) -> list[Series]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        collections = sum(generation["collections"] for generation in gc.get_stats())
        rows = (
            Series("system_wallclock", "counter", int(self.uptime_s() * 1_000), "Milliseconds since the start."),
            Series("system_runtime", "counter", int(time.process_time() * 1_000), "CPU time of all threads in ms."),
            Series(
                "system_context_switches",
                "counter",
                usage.ru_nvcsw + usage.ru_nivcsw,
                "Context switches of the process, voluntary and not.",
            ),
            Series("system_gc_count", "counter", collections, "Garbage collections of the control plane."),
            Series("vm_memory_total", "gauge", resident_bytes(), "Memory of the process that is in RAM, in bytes."),
            *(Series(name, "counter", 0, description) for name, description in _WITHOUT_PEERS.items()),
            Series(
                "log_messages_dropped",
                "counter",
                self._dropped_logs(),
                "Log lines lost to a flood or to a log that stood still.",
            ),
        )
        # Should the engine come to count one of these itself, it knows better.
        return [row for row in rows if row.name not in taken]


def aggregated(rows: Iterable[Series]) -> list[Series]:
    """One series a name: the values of all labels are summed; of ages the largest counts."""
    found: dict[str, Series] = {}
    for row in rows:
        known = found.get(row.name)
        if known is None:
            found[row.name] = replace(row, labels={})
        else:
            values = (known.value, row.value)
            found[row.name] = replace(known, value=max(values) if row.name in _LARGEST else sum(values))
    return list(found.values())


def matching(rows: Iterable[Series], labels: Sequence[tuple[str, str]]) -> list[Series]:
    """The series that carry all of these labels."""
    return [row for row in rows if all(row.labels.get(name) == value for name, value in labels)]


def resident_bytes() -> int:
    """The memory of this process that is in RAM; where the system does not tell, the most it ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    return pages * resource.getpagesize()
