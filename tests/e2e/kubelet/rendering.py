"""Renders the chart with Helm itself, from the package that has Helm as a library. Manifests come out as dictionaries.

Helm runs in a process of its own: it is written in Go, whose threads and signals are not for a process that forks.

    manifests = render({"replicaCount": 3})
"""

import functools
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

__all__ = ["CHART", "RenderingError", "lint", "notes", "render"]

CHART = Path(__file__).parents[3] / "deploy" / "helm" / "strogoff"
DEADLINE_S = 60.0

# One request on standard input, one answer on standard output; both JSON.
_HELM = """
import json, sys
import helm_python
request = json.load(sys.stdin)
try:
    if request["does"] == "lint":
        answer = {"found": helm_python.lint(request["chart"], request["values"])}
    else:
        with helm_python.Chart.load(request["chart"]) as chart:
            chart.validate_schema(request["values"])
            texts = chart.render(request["values"], name=request["name"], namespace=request["namespace"])
        answer = {"found": texts}
except helm_python.HelmError as error:
    answer = {"error": str(error)}
json.dump(answer, sys.stdout)
"""


class RenderingError(Exception):
    """Helm refuses the values or the chart; the message is Helm's."""


def render(values: Mapping[str, Any], *, name: str = "test", namespace: str = "mqtt") -> list[dict[str, Any]]:
    """The manifests of a release, in the order of their files. Raises `RenderingError`."""
    texts = _rendered(values, name, namespace)
    found: list[dict[str, Any]] = []
    for path in sorted(texts):
        if path.endswith((".yaml", ".yml")):
            found += [document for document in yaml.safe_load_all(texts[path]) if document]
    return found


def notes(values: Mapping[str, Any], *, name: str = "test", namespace: str = "mqtt") -> str:
    """What Helm tells after an installation. Raises `RenderingError`."""
    [text] = [text for path, text in _rendered(values, name, namespace).items() if path.endswith("/NOTES.txt")]
    return text


def lint(values: Mapping[str, Any]) -> list[str]:
    """What Helm finds wrong with the chart and the values: errors and warnings. Raises `RenderingError`."""
    found = _ask({"does": "lint", "chart": str(CHART), "values": dict(values)})
    return [str(message["error"]) for message in found["messages"] if message["severity"] > 1] + list(found["errors"])


def _rendered(values: Mapping[str, Any], name: str, namespace: str) -> dict[str, str]:
    request = {"does": "render", "chart": str(CHART), "values": dict(values), "name": name, "namespace": namespace}
    texts: dict[str, str] = _ask(request)
    return texts


def _ask(request: Mapping[str, Any]) -> Any:
    """Each caller gets an answer of its own, which it may change."""
    answer = json.loads(_answer_of_helm(json.dumps(request)))
    if "error" in answer:
        raise RenderingError(answer["error"])
    return answer["found"]


@functools.cache
def _answer_of_helm(request: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _HELM], input=request, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )
    if done.returncode != 0:
        raise RenderingError(f"Helm has ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
