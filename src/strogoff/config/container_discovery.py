"""What the variables of VerneMQ's container say about other nodes, as keys of discovery."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Final

from strogoff.config.container import is_on
from strogoff.config.environment import VERNEMQ_PREFIX
from strogoff.config.listeners import CLUSTER_FAMILIES
from strogoff.config.sources import Assignment, Origin, Source

__all__ = ["discovery_in_container"]

_KUBERNETES: Final = f"{VERNEMQ_PREFIX}DISCOVERY_KUBERNETES"
_NODE: Final = f"{VERNEMQ_PREFIX}DISCOVERY_NODE"
_SELECTOR: Final = f"{VERNEMQ_PREFIX}KUBERNETES_LABEL_SELECTOR"
DEFAULT_SELECTOR: Final = "app=vernemq"
LISTENER: Final = "listener.vmq.clustering"
LISTENER_ADDRESS: Final = "0.0.0.0:44053"


def discovery_in_container(variables: Mapping[str, str], given: Iterable[Assignment]) -> list[Assignment]:
    """Keys that do what VerneMQ's container does; nothing where no variable asks for it.

    They are weaker than all that is `given`, which has the node's name already. Where `cluster.discovery` is set, the
    variables do not say how nodes are found.
    """
    keys = {assignment.key: assignment.text for assignment in given}
    if is_on(variables, _KUBERNETES):
        found, variable = _by_kubernetes(keys.get("nodename", "")), _KUBERNETES
    elif host := variables.get(_NODE, "").strip():
        found, variable = _by_node(variables, host), _NODE
    else:
        return []
    if "cluster.discovery" in keys:
        found = {}
    if not any(key.startswith(tuple(f"listener.{family}." for family in CLUSTER_FAMILIES)) for key in keys):
        found[LISTENER] = LISTENER_ADDRESS
    return [*(_assignment(key, text, variable) for key, text in found.items()), *_of_the_api(variables)]


def _by_kubernetes(node_name: str) -> dict[str, str]:
    """The domain of the pod is that of its headless service, whose addresses DNS knows; else the API is asked."""
    host = node_name.partition("@")[2]
    domain = host.partition(".")[2]
    if domain and not _is_address(host):
        return {"cluster.discovery": "dns", "cluster.discovery.dns.name": domain}
    return {"cluster.discovery": "kubernetes", "cluster.discovery.kubernetes.label_selector": DEFAULT_SELECTOR}


def _by_node(variables: Mapping[str, str], host: str) -> dict[str, str]:
    """The node at a host, which starts the cluster; or nodes that have addresses of a name."""
    if is_on(variables, f"{VERNEMQ_PREFIX}SWARM"):
        return {"cluster.discovery": "dns", "cluster.discovery.dns.name": f"tasks.{host}"}
    if is_on(variables, f"{VERNEMQ_PREFIX}COMPOSE"):
        # The name is one of another service: this node has to find somebody there.
        return {
            "cluster.discovery": "dns",
            "cluster.discovery.dns.name": host,
            "cluster.discovery.expect": "2",
        }
    node = host if "@" in host else f"VerneMQ@{host}"
    return {
        "cluster.discovery": "static",
        "cluster.discovery.static.nodes": node,
        "cluster.discovery.seed": node.partition(":")[0] if node.count(":") == 1 else node,
    }


def _of_the_api(variables: Mapping[str, str]) -> list[Assignment]:
    """How the API of Kubernetes is asked, if it is."""
    prefix, found = "cluster.discovery.kubernetes", []
    for name, key in ((_SELECTOR, "label_selector"), (f"{VERNEMQ_PREFIX}KUBERNETES_NAMESPACE", "namespace")):
        if text := variables.get(name, "").strip():
            found.append(_assignment(f"{prefix}.{key}", text, name))
    insecure = f"{VERNEMQ_PREFIX}KUBERNETES_INSECURE"
    return [*found, _assignment(f"{prefix}.insecure", "on", insecure)] if is_on(variables, insecure) else found


def _assignment(key: str, text: str, variable: str) -> Assignment:
    return Assignment(key, text, Source(Origin.ENVIRONMENT, variable), is_literal=True)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
