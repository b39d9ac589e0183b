"""Metrics as Prometheus reads them: text format 0.0.4, every name once, its series together."""

from collections.abc import Iterable, Mapping

from strogoff.observe.metrics import Series

__all__ = ["CONTENT_TYPE", "exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(series: Iterable[Series], *, node: str, namespace: str) -> str:
    """The text. `namespace` stands in front of each name; the label `node` is the first of each series."""
    by_name: dict[str, list[Series]] = {}
    for row in series:
        by_name.setdefault(row.name, []).append(row)
    lines: list[str] = []
    for name, rows in by_name.items():
        full_name = f"{namespace}{name}"
        lines.append(f"# HELP {full_name} {_help(rows[0].description)}")
        lines.append(f"# TYPE {full_name} {rows[0].kind}")
        lines += [f"{full_name}{_labels(node, row.labels)} {row.value}" for row in rows]
    return "\n".join(lines) + "\n"


def _labels(node: str, labels: Mapping[str, str]) -> str:
    pairs = [("node", node), *labels.items()]
    return "{" + ",".join(f'{name}="{_value(value)}"' for name, value in pairs) + "}"


def _value(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
