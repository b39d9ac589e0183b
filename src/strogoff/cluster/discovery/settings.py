"""What the configuration says about discovery."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strogoff.cluster.discovery.dns import DnsSource
from strogoff.cluster.discovery.kubernetes import Api, KubernetesSource
from strogoff.cluster.discovery.places import FileSource, Source, StaticSource
from strogoff.cluster.discovery.rule import Manner
from strogoff.cluster.terms import Terms
from strogoff.config import Configuration

__all__ = ["DiscoverySettings", "discovery_settings"]

PATIENCE_OF_NAMES_MS: Final = 1_000
PATIENCE_OF_ADDRESSES_MS: Final = 10_000
"""`cluster.discovery.patience = auto`: who is waited for is known by name, or nobody knows how many there will be."""


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """`kind`: the value of `cluster.discovery`. `source`: None for no discovery. `interval_s`: between two looks,
    `retry_max_s`: at most, after failures. `source_timeout_s`: of one look. `nodes_max`: how many places are looked at.
    """

    kind: str
    source: Source | None
    manner: Manner
    interval_s: float
    retry_max_s: float
    source_timeout_s: float
    nodes_max: int


def discovery_settings(configuration: Configuration, terms: Terms) -> DiscoverySettings:
    """The settings that a configuration gives; that it is sound was checked when it was read."""
    get = configuration.get
    kind = str(get("cluster.discovery"))
    source = _SOURCES[kind](configuration, terms) if kind in _SOURCES else None
    is_complete = source is not None and source.is_complete
    patience_ms = get("cluster.discovery.patience")
    if patience_ms == "auto":
        patience_ms = PATIENCE_OF_NAMES_MS if is_complete else PATIENCE_OF_ADDRESSES_MS
    alone_after_ms = get("cluster.discovery.start_alone_after")
    manner = Manner(
        is_complete=is_complete,
        patience_s=patience_ms / 1_000,
        expect=get("cluster.discovery.expect"),
        seed=str(get("cluster.discovery.seed") or ""),
        first_ordinal=get("cluster.discovery.first_ordinal"),
        start_alone_after_s=None if alone_after_ms is None else alone_after_ms / 1_000,
    )
    return DiscoverySettings(
        kind,
        source,
        manner,
        interval_s=get("cluster.discovery.interval") / 1_000,
        retry_max_s=get("cluster.discovery.retry_max") / 1_000,
        source_timeout_s=get("cluster.discovery.timeout") / 1_000,
        nodes_max=get("cluster.discovery.nodes_max"),
    )


def _static(configuration: Configuration, terms: Terms) -> Source:
    return StaticSource(configuration.get("cluster.discovery.static.nodes"), port=_port(configuration, terms))


def _file(configuration: Configuration, terms: Terms) -> Source:
    return FileSource(Path(configuration.get("cluster.discovery.file.path")), port=_port(configuration, terms))


def _dns(configuration: Configuration, terms: Terms) -> Source:
    get = configuration.get
    return DnsSource(
        get("cluster.discovery.dns.name"),
        port=_port(configuration, terms),
        server=str(get("cluster.discovery.dns.server") or ""),
    )


def _kubernetes(configuration: Configuration, terms: Terms) -> Source:
    def get(word: str) -> Any:
        return configuration.get(f"cluster.discovery.kubernetes.{word}")

    token_file = Path(get("token_file"))
    api = Api(
        url=str(get("api_server") or _api_server(os.environ)).rstrip("/"),
        namespace=str(get("namespace") or ""),
        token_file=token_file,
        ca_file=Path(get("ca_file")),
        namespace_file=token_file.with_name("namespace"),
        is_insecure=get("insecure"),
    )
    port = _port(configuration, terms)
    return KubernetesSource(
        api, service=str(get("service") or ""), selector=str(get("label_selector") or ""), port=port
    )


def _api_server(variables: Mapping[str, str]) -> str:
    """Where Kubernetes says in each pod that its API is; empty elsewhere."""
    host, port = variables.get("KUBERNETES_SERVICE_HOST", ""), variables.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def _port(configuration: Configuration, terms: Terms) -> int:
    """Of the cluster listeners of other nodes, where the source does not say it: that of this one, unless it is set."""
    port = configuration.get("cluster.discovery.port")
    if port != "auto":
        return int(port)
    return next(listener.port for listener in terms.listeners if not terms.is_tls or listener.tls is not None)


_SOURCES: Final[dict[str, Callable[[Configuration, Terms], Source]]] = {
    "static": _static,
    "file": _file,
    "dns": _dns,
    "kubernetes": _kubernetes,
}
