"""What the configuration says about the cluster."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from strogoff.config import Configuration, Listener
from strogoff.config.listeners import CLUSTER_FAMILIES

if TYPE_CHECKING:
    from strogoff._engine import LinkLimits

__all__ = ["Terms", "terms_of"]


LINK_KEYS: Final = ("metadata_plugin",)
AGREED_KEYS: Final = (*LINK_KEYS, "allow_multiple_sessions")
"""With `allow_multiple_sessions` nodes do not ask each other before they let a client in, so some cannot do without."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the configuration says about the cluster.

    `listeners`: for other nodes. `addresses`: HOST:PORT under which others reach them. `limits`: of the links, by the
    engine's names. `agreed`: keys with values that must be the same on all nodes.
    """

    cookie: bytes
    listeners: Sequence[Listener]
    addresses: tuple[str, ...]
    limits: "LinkLimits"
    agreed: tuple[tuple[str, str], ...]
    is_every_write_synced: bool

    @property
    def is_tls(self) -> bool:
        """Whether others reach this node over TLS, and it them when it joins."""
        return any(listener.tls is not None for listener in self.listeners)

    @property
    def agreed_on_links(self) -> tuple[tuple[str, str], ...]:
        """What must be the same for two members to understand each other at all. Other keys are compared at a join
        only: an operator changes them on one member after the other.
        """
        return tuple(setting for setting in self.agreed if setting[0] in LINK_KEYS)

    @property
    def link_timeout_s(self) -> float:
        """For how long a link may be silent."""
        return self.limits["link_timeout_ms"] / 1_000


def terms_of(configuration: Configuration) -> Terms:
    """The terms that a configuration gives."""
    get = configuration.get
    listeners = [listener for listener in configuration.all_listeners if listener.kind in CLUSTER_FAMILIES]
    # Who can be reached over TLS is reached over nothing else.
    reached = [listener for listener in listeners if listener.tls is not None] or listeners
    advertised = str(get("cluster.advertised_address") or "")
    host = configuration.node_name.partition("@")[2]
    return Terms(
        cookie=str(get("distributed_cookie")).encode(),
        listeners=listeners,
        addresses=(advertised,) if advertised else tuple(_addresses(reached, host)),
        limits={
            "link_timeout_ms": get("cluster.link_timeout"),
            "handshake_timeout_ms": get("outgoing_cluster_handshake_ack_timeout"),
            "outgoing_buffer_size": get("outgoing_clustering_buffer_size"),
            "incoming_buffer_size": get("incoming_clustering_buffer_size"),
            "flush_threshold": get("outgoing_clustering_flush_threshold"),
        },
        agreed=tuple((key, configuration.text_of(key) or "") for key in AGREED_KEYS),
        is_every_write_synced=get("store.sync") == "always",
    )


def _addresses(listeners: Iterable[Listener], host: str) -> Iterable[str]:
    """Where others reach the listeners: at their own addresses, or where they listen at all, at the node's host."""
    for listener in listeners:
        address = host if listener.address in {"0.0.0.0", "::", ""} else listener.address  # noqa: S104 - compared with
        yield f"[{address}]:{listener.port}" if ":" in address else f"{address}:{listener.port}"
