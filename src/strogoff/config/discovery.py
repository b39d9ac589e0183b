"""Whether the keys of `cluster.discovery` make sense together."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from strogoff.config.errors import Problem
from strogoff.config.listeners import CLUSTER_FAMILIES, Listener

__all__ = ["discovery_problems"]

NEEDED: Final = {
    "static": ("cluster.discovery.static.nodes", "name the nodes: one@10.0.0.1,two@10.0.0.2"),
    "file": ("cluster.discovery.file.path", "name the file"),
    "dns": ("cluster.discovery.dns.name", "name the headless service: NAME.NAMESPACE.svc.cluster.local"),
}
SELECTING: Final = ("service", "label_selector")
SERVER: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}")
NODE: Final = re.compile(r"[^@]+@(?:\[[^\[\]]+\](?::[0-9]+)?|[^:\[\]]+(?::[0-9]+)?|[^\[\]:]*:[^\[\]]*:[^\[\]]*)")


def discovery_problems(value: Callable[[str], Any], listeners: Sequence[Listener]) -> list[Problem]:
    """What is missing, or does not fit. `value`: of a key."""
    kind = value("cluster.discovery")
    if kind == "none":
        return []
    where = f"cluster.discovery = {kind}"
    problems = []
    key, advice = NEEDED.get(kind, ("", ""))
    if key and not value(key):
        problems.append(Problem(where, f"{key} is not set", key, advice))
    if not any(listener.kind in CLUSTER_FAMILIES for listener in listeners):
        text = "there is no listener for other nodes"
        problems.append(Problem(where, text, "listener.vmq.$name", "add listener.vmq.default = ADDRESS:44053"))
    if kind == "kubernetes" and not any(value(f"cluster.discovery.kubernetes.{word}") for word in SELECTING):
        text = "neither a service nor labels are set"
        advice = "set cluster.discovery.kubernetes.service, or label_selector"
        problems.append(Problem(where, text, "cluster.discovery.kubernetes.service", advice))
    server = value("cluster.discovery.dns.server")
    if kind == "dns" and server and not SERVER.fullmatch(server):
        text = f"{server!r} is no name server"
        problems.append(Problem(where, text, "cluster.discovery.dns.server", "write ADDRESS:PORT, in figures"))
    nodes = value("cluster.discovery.static.nodes") if kind == "static" else ()
    wrong = [node for node in nodes if not NODE.fullmatch(node)]
    advice = "write NAME@HOST or NAME@HOST:PORT"
    return [*problems, *(Problem(where, f"{node!r} is no node", key, advice) for node in wrong)]
