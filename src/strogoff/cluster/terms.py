"""What the configuration says about the cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from strogoff.config import Configuration, Listener

if TYPE_CHECKING:
    from strogoff._engine import LinkLimits

__all__ = ["Terms", "terms_of"]


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says about the cluster.

    `listeners`: for other nodes. `addresses`: HOST:PORT under which others reach them. `limits`: of the links, by the
    engine's names.
    """

    cookie: bytes
    listeners: Sequence[Listener]
    addresses: tuple[str, ...]
    limits: "LinkLimits"
    link_timeout_s: float
    is_every_write_synced: bool


def terms_of(configuration: Configuration) -> Terms:
    """The terms that a configuration gives."""
    get = configuration.get
    listeners = [listener for listener in configuration.all_listeners if listener.kind == "vmq"]
    advertised = str(get("cluster.advertised_address") or "")
    host = configuration.node_name.partition("@")[2]
    return Terms(
        cookie=str(get("distributed_cookie")).encode(),
        listeners=listeners,
        addresses=(advertised,) if advertised else tuple(_addresses(listeners, host)),
        limits={
            "link_timeout_ms": get("cluster.link_timeout"),
            "outgoing_buffer_size": get("outgoing_clustering_buffer_size"),
            "incoming_buffer_size": get("incoming_clustering_buffer_size"),
            "flush_threshold": get("outgoing_clustering_flush_threshold"),
        },
        link_timeout_s=get("cluster.link_timeout") / 1_000,
        is_every_write_synced=get("store.sync") == "always",
    )


def _addresses(listeners: Iterable[Listener], host: str) -> Iterable[str]:
    """Where others reach the listeners: at their own addresses, or where they listen at all, at the node's host."""
    for listener in listeners:
        address = host if listener.address in {"0.0.0.0", "::", ""} else listener.address  # noqa: S104 - compared with
        yield f"[{address}]:{listener.port}" if ":" in address else f"{address}:{listener.port}"
