"""The metrics of a node: the engine's and the process's, summed over labels or picked by them."""

from dataclasses import dataclass, field
from typing import Any

from strogoff.observe.metrics import MetricsSource, Series, aggregated, matching


@dataclass
class EngineMetric:
    """What the engine's own `Metric` shows of itself."""

    name: str
    value: int
    kind: str = "counter"
    labels: dict[str, str] = field(default_factory=dict)
    description: str = ""


SENT = [
    Series("mqtt_connack_sent", "counter", 2, "CONNACKs", {"mqtt_version": "4", "return_code": "success"}),
    Series("mqtt_connack_sent", "counter", 3, "CONNACKs", {"mqtt_version": "5", "reason_code": "success"}),
    Series("mqtt_connack_sent", "counter", 4, "CONNACKs", {"mqtt_version": "5", "reason_code": "banned"}),
    Series("socket_open", "counter", 9, "Sockets"),
]


def _source(*metrics: Any, dropped: int = 0) -> MetricsSource:
    return MetricsSource(lambda: metrics, lambda: dropped)


def test_the_engines_metrics_come_first_and_the_processs_after_them() -> None:
    names = [row.name for row in _source(EngineMetric("socket_open", 1), EngineMetric("bytes_sent", 2)).snapshot()]
    assert names == [
        "socket_open",
        "bytes_sent",
        "system_wallclock",
        "system_runtime",
        "system_context_switches",
        "system_gc_count",
        "vm_memory_total",
        "cluster_bytes_received",
        "cluster_bytes_sent",
        "cluster_bytes_dropped",
        "log_messages_dropped",
    ]


def test_what_the_engine_counts_itself_is_not_counted_twice() -> None:
    rows = [row for row in _source(EngineMetric("system_runtime", 7)).snapshot() if row.name == "system_runtime"]
    assert [row.value for row in rows] == [7]


def test_the_process_tells_its_memory_its_time_and_its_lost_log_lines() -> None:
    values = {row.name: row.value for row in _source(dropped=5).snapshot()}
    assert 1_000_000 < values["vm_memory_total"] < 10_000_000_000
    assert values["system_runtime"] > 0
    assert values["log_messages_dropped"] == 5


def test_aggregation_sums_over_all_labels() -> None:
    assert aggregated(SENT) == [
        Series("mqtt_connack_sent", "counter", 9, "CONNACKs"),
        Series("socket_open", "counter", 9, "Sockets"),
    ]


def test_the_largest_age_counts_where_other_values_are_summed() -> None:
    ages = [
        Series("cluster_peer_oldest_age_ms", "gauge", age, "An age.", {"peer": str(number)})
        for number, age in enumerate((3, 7, 5))
    ]
    assert aggregated(ages) == [Series("cluster_peer_oldest_age_ms", "gauge", 7, "An age.")]


def test_labels_select_the_series_that_have_them_all() -> None:
    assert [row.value for row in matching(SENT, [("mqtt_version", "5")])] == [3, 4]
    assert [row.value for row in matching(SENT, [("mqtt_version", "5"), ("reason_code", "banned")])] == [4]
    assert matching(SENT, [("mqtt_version", "6")]) == []
    assert matching(SENT, []) == SENT
