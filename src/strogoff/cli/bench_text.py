"""A load generator's report and progress as text for people. The names of the report are those of its JSON form."""

from collections.abc import Mapping
from typing import Any

__all__ = ["progress_line", "report_text"]

_HEAD = ("workload", "version", "qos", "size", "publishers", "subscribers")
_VERSIONS = {3: "MQTT 3.1", 4: "MQTT 3.1.1", 5: "MQTT 5.0"}
_TIMES = ("min", "mean", "p50", "p90", "p99", "p999", "max")


def progress_line(now: Mapping[str, int | float], before: Mapping[str, int | float]) -> str:
    """One line of a live display: the counters, and how fast they grew since `before`."""
    passed = max(now["elapsed_s"] - before["elapsed_s"], 1e-9)
    sent, received = ((now[name] - before[name]) / passed for name in ("sent", "received"))
    return (
        f"{now['elapsed_s']:6.1f} s  {now['connected']:,} connected  "
        f"{now['sent']:,} sent ({sent:,.0f}/s)  {now['received']:,} received ({received:,.0f}/s)"
    )


def report_text(report: Mapping[str, Any]) -> str:
    """The report as aligned lines: what was asked for, figures, distributions, and whether all checks passed."""
    rows = [("workload", _headline(report))]
    for name, value in report.items():
        if name in _HEAD or name in ("ok", "problems") or isinstance(value, dict):
            continue
        rows.append((_label(name), _figure(value)))
    width = max(len(label) for label, _ in rows)
    lines = [f"{label:<{width}}  {value:>15}" if label != "workload" else f"{value}" for label, value in rows]
    distributions = {name: value for name, value in report.items() if isinstance(value, dict)}
    if distributions:
        lines += ["", *_distributions(distributions)]
    lines += ["", "all checks passed" if report["ok"] else "checks failed"]
    return "\n".join(lines)


def _headline(report: Mapping[str, Any]) -> str:
    version = _VERSIONS.get(report["version"], str(report["version"]))
    clients = [f"{report[kind]:,} {kind}" for kind in ("publishers", "subscribers") if report[kind]]
    return ", ".join([f"{report['workload']}: {version}, QoS {report['qos']}, {report['size']:,} bytes", *clients])


def _distributions(distributions: Mapping[str, Mapping[str, float]]) -> list[str]:
    width = max(len(_label(name)) for name in distributions)
    lines = [" " * width + "".join(f"{name:>12}" for name in _TIMES)]
    for name, times in distributions.items():
        lines.append(f"{_label(name):<{width}}" + "".join(f"{times[each]:>12,.1f}" for each in _TIMES))
    return lines


def _label(name: str) -> str:
    """`broker_cpu_us_per_message` as people write it."""
    words = name.split("_")
    units = {"us": "µs", "cpu": "CPU", "rss": "RSS", "s": "s"}
    return " ".join(units.get(word, word) for word in words).replace(" per s", "/s").replace(" per ", "/")


def _figure(value: object) -> str:
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1_000 else f"{value:,.3f}".rstrip("0").rstrip(".")
    return f"{value:,}"
