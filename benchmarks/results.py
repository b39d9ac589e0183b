# ruff: noqa: INP001 - programs of this folder are run by path
"""What came out: machine facts, medians and ratios, as a JSON document and as a Markdown table."""

import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cells import CELLS, Figure

__all__ = ["load_average", "machine_facts", "markdown"]

Run = Mapping[str, Any]
"""One run: `broker`, `cell`, `repetition` and the `report` of `strogoff bench`."""


def machine_facts() -> dict[str, Any]:
    """What a reader needs to judge the figures; neither names nor paths of this machine."""
    models = _values("/proc/cpuinfo", "model name")
    memory = _values("/proc/meminfo", "MemTotal")
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[0].split()[0]) / 2**20, 1) if memory else None,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def load_average() -> float:
    """Of the last minute: how busy the machine was before a run."""
    return os.getloadavg()[0]


def _values(path: str, name: str) -> list[str]:
    lines = Path(path).read_text().splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]


def markdown(document: Mapping[str, Any]) -> str:
    """The whole document as a page: facts, one table, and what was not clean."""
    machine, brokers = document["machine"], list(document["brokers"])
    lines = [
        f"# Benchmark `{document['name']}`",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"Python {machine['python']}; " + ", ".join(f"{name} {document['brokers'][name]}" for name in brokers) + ". "
        f"{document['date']}, `{document['command']}`: medians of {document['repetitions']}, lowest and highest in "
        f"brackets, ratio to the first of a row in parentheses. Generator and broker share the cores.",
        "",
        "| workload | figure | " + " | ".join(brokers) + " |",
        "|---|---|" + "---:|" * len(brokers),
        *_rows(document["runs"], brokers),
    ]
    troubles = list(_troubles(document["runs"]))
    if troubles:
        lines += ["", "Not clean:", "", *(f"- {trouble}" for trouble in troubles)]
    return "\n".join(lines) + "\n"


def _rows(runs: Sequence[Run], brokers: Sequence[str]) -> Iterable[str]:
    for cell in CELLS.values():
        of_cell = [run for run in runs if run["cell"] == cell.name]
        for number, figure in enumerate(cell.figures if of_cell else ()):
            values = {name: _found(of_cell, name, figure) for name in brokers}
            first = cell.brokers[0]
            reference = statistics.median(values[first]) if values.get(first) else None
            texts = [_text(values[name], figure, None if name == first else reference) for name in brokers]
            yield f"| {cell.title if number == 0 else ''} | {figure.title} | " + " | ".join(texts) + " |"


def _found(runs: Iterable[Run], broker: str, figure: Figure) -> list[float]:
    found = (figure.of(run["report"]) for run in runs if run["broker"] == broker)
    return [value for value in found if value is not None]


def _text(values: Sequence[float], figure: Figure, reference: float | None) -> str:
    if not values:
        return "-"
    median = statistics.median(values)
    text = f"{median:,.{figure.digits}f}"
    if reference:
        text += f" ({median / reference:.2f}x)"
    if len(values) > 1:
        text += f" [{min(values):,.{figure.digits}f} to {max(values):,.{figure.digits}f}]"
    return text


def _troubles(runs: Iterable[Run]) -> Iterable[str]:
    for run in runs:
        report = run["report"]
        if not report.get("ok"):
            reasons = [report["error"]] if "error" in report else report.get("problems", [])
            yield f"{run['broker']}, {CELLS[run['cell']].title}, run {run['repetition'] + 1}: {'; '.join(reasons)}"
