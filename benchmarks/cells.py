# ruff: noqa: INP001 - programs of this folder are run by path
"""What is measured: each cell is a workload of `strogoff bench`, its options, and the figures that matter in it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CELLS", "Cell", "Figure"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a report: where it stands (`latency_us.p50`), what people call it, and its decimals."""

    path: str
    title: str
    digits: int

    def of(self, report: Mapping[str, Any]) -> float | None:
        """The figure in a report of `strogoff bench`; None where there is none."""
        value: Any = report
        for name in self.path.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        return float(value)


@dataclass(frozen=True, slots=True)
class Cell:
    """One workload. `options` are those of `strogoff bench`; `lasts` cells also get a duration and a warm-up."""

    name: str
    title: str
    workload: str
    options: tuple[str, ...]
    figures: tuple[Figure, ...]
    lasts: bool = True
    quick_options: tuple[str, ...] = ()
    listener: str = "tcp"
    """Which listener of the broker is used: `tcp`, `ecdsa` or `rsa` (TLS with such a certificate), `websocket`."""
    brokers: tuple[str, ...] = ("mosquitto", "strogoff")
    """Who is measured; the first is what the others are compared with."""


_DELIVERIES = Figure("received_per_s", "deliveries/s", 0)
_CPU = Figure("broker_cpu_us_per_message", "broker CPU µs/delivery", 2)
_GENERATOR = Figure("generator_cpu_us_per_message", "generator CPU µs/delivery", 2)
_TRAFFIC = (_DELIVERIES, _CPU, _GENERATOR)
_P50 = Figure("latency_us.p50", "p50 µs", 0)
_P99 = Figure("latency_us.p99", "p99 µs", 0)
_P999 = Figure("latency_us.p999", "p99.9 µs", 0)


def _traffic(name: str, title: str, workload: str, options: str) -> Cell:
    return Cell(name, title, workload, tuple(options.split()), _TRAFFIC)


_ALL = (
    _traffic("fanin-q0", "50 to 1, QoS 0", "fanin", "--qos 0 --outstanding 5000"),
    _traffic("fanin-q1", "50 to 1, QoS 1", "fanin", "--qos 1 --outstanding 5000"),
    _traffic("fanout-q0", "1 to 50, QoS 0", "fanout", "--qos 0 --outstanding 20000"),
    _traffic("fanout-q1", "1 to 50, QoS 1", "fanout", "--qos 1 --outstanding 20000"),
    _traffic("pairs-q0", "50 pairs, QoS 0", "p2p", "--pairs 50 --qos 0 --outstanding 5000"),
    _traffic("pairs-q1", "50 pairs, QoS 1", "p2p", "--pairs 50 --qos 1 --outstanding 5000"),
    _traffic("pairs-q2", "50 pairs, QoS 2", "p2p", "--pairs 50 --qos 2 --outstanding 5000"),
    Cell(
        "fixed",
        "50 pairs at 5,000 messages/s in all, QoS 1",
        "p2p",
        ("--pairs", "50", "--qos", "1", "--rate", "5000"),
        (_CPU, _P50, _P99),
    ),
    Cell(
        "latency",
        "1 pair at 1,000 messages/s, QoS 1",
        "p2p",
        ("--pairs", "1", "--qos", "1", "--rate", "1000"),
        (_P50, _P99, _P999, _CPU),
    ),
    Cell(
        "rr",
        "request and response, 1 pair, QoS 0",
        "rr",
        ("--pairs", "1", "--qos", "0"),
        (Figure("received_per_s", "round trips/s", 0), _P50, _P99, _CPU),
    ),
    Cell(
        "conn",
        "10,000 clients connect (quick: 2,000)",
        "conn",
        ("--connections", "10000", "--hold", "1"),
        (
            Figure("connects_per_s", "connects/s", 0),
            Figure("broker_cpu_us_per_connection", "broker CPU µs/connect", 1),
            Figure("connect_us.p99", "connect p99 µs", 0),
            Figure("broker_rss_bytes_per_connection", "RSS bytes/connection", 0),
        ),
        lasts=False,
        quick_options=("--connections", "2000", "--hold", "0.2"),
    ),
    Cell(
        "offline",
        "100 sessions away, 200 messages each, QoS 1",
        "offline",
        ("--subscribers", "100", "--messages", "200", "--qos", "1"),
        (
            Figure("stored_per_s", "stored/s", 0),
            Figure("broker_cpu_us_per_stored", "broker CPU µs/stored", 2),
            Figure("received_per_s", "drained/s, from the return on", 0),
            Figure("broker_rss_bytes_per_stored", "RSS bytes/stored", 0),
        ),
        lasts=False,
    ),
    Cell(
        "retained",
        "20,000 retained messages, then a subscription to all",
        "retained",
        ("--messages", "20000", "--qos", "1"),
        (
            Figure("stored_per_s", "stored/s", 0),
            Figure("broker_cpu_us_per_stored", "broker CPU µs/stored", 2),
            Figure("received_per_s", "delivered/s", 0),
            Figure("broker_rss_bytes_per_stored", "RSS bytes/stored", 0),
        ),
        lasts=False,
    ),
)

_CONNECTS = (
    Figure("connects_per_s", "connects/s", 0),
    Figure("broker_cpu_us_per_connection", "broker CPU µs/connect", 1),
    Figure("connect_us.p99", "connect p99 µs", 0),
)
_SUITE = ("--tls-version", "1.3", "--cipher", "TLS_AES_128_GCM_SHA256")
_STORM = ("--connections", "5000", "--hold", "0.2")
_QUICK_STORM = ("--connections", "1000", "--hold", "0.2")


def _over(listener: str, name: str, title: str, options: tuple[str, ...]) -> Cell:
    pairs = ("--pairs", "50", "--qos", "0", "--outstanding", "5000")
    return Cell(name, title, "p2p", (*pairs, *options), _TRAFFIC, listener=listener)


_LAYERED = (
    *(
        Cell(
            f"tls-conn-{key}",
            f"5,000 full TLS 1.3 handshakes and CONNECTs, {key.upper()} (quick: 1,000)",
            "conn",
            (*_STORM, *_SUITE),
            _CONNECTS,
            lasts=False,
            quick_options=(*_QUICK_STORM, *_SUITE),
            listener=key,
        )
        for key in ("ecdsa", "rsa")
    ),
    _over("ecdsa", "tls-pairs-q0", "50 pairs, QoS 0, TLS 1.3 with AES-128-GCM", _SUITE),
    _over("websocket", "ws-pairs-q0", "50 pairs, QoS 0, WebSocket", ()),
    Cell(
        "acl-q0",
        "50 pairs, QoS 0: nothing checked; 10,000 rules",
        "p2p",
        ("--pairs", "50", "--qos", "0", "--outstanding", "5000"),
        _TRAFFIC,
        brokers=("unchecked", "strogoff-acl"),
    ),
    Cell(
        "hook-q0",
        "50 pairs, QoS 0: nothing checked; a Python plugin asked about each message, broker on one core",
        "p2p",
        ("--pairs", "50", "--qos", "0", "--outstanding", "5000"),
        _TRAFFIC,
        brokers=("unchecked", "strogoff-hook"),
    ),
)

_KEPT = (
    *(
        Cell(
            f"kept-q{qos}",
            f"50 pairs, QoS {qos}: clean sessions; sessions that last, kept on disk",
            "p2p",
            ("--pairs", "50", "--qos", str(qos), "--outstanding", "5000"),
            _TRAFFIC,
            brokers=("strogoff", "strogoff-kept", "mosquitto-kept"),
        )
        for qos in (1, 2)
    ),
    Cell(
        "kept-offline",
        "100 sessions away, 200 messages each, QoS 1, kept on disk",
        "offline",
        ("--subscribers", "100", "--messages", "200", "--qos", "1"),
        (
            Figure("stored_per_s", "stored/s", 0),
            Figure("broker_cpu_us_per_stored", "broker CPU µs/stored", 2),
            Figure("received_per_s", "drained/s, from the return on", 0),
            Figure("broker_rss_bytes_per_stored", "RSS bytes/stored", 0),
        ),
        lasts=False,
        brokers=("mosquitto-kept", "strogoff-kept"),
    ),
)

CELLS: dict[str, Cell] = {cell.name: cell for cell in (*_ALL, *_LAYERED, *_KEPT)}
