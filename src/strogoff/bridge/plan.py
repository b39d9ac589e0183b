"""What a bridge is to the engine: its subscriptions on both sides, and who it is on both."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from strogoff.bridge.mapping import Subscription, subscriptions
from strogoff.bridge.settings import BridgeSettings, Spread
from strogoff.bridge.topics import Direction

if TYPE_CHECKING:
    from strogoff._engine import BridgeSubscription

__all__ = ["LOCAL_CLIENT_ID", "BridgePlan", "engine_subscriptions", "local_client_id", "plan_of", "remote_client_id"]

LOCAL_CLIENT_ID = "$bridge/"
"""How the client ids of bridges on their own node begin."""


@dataclasses.dataclass(frozen=True, slots=True)
class BridgePlan:
    """Arguments of `Engine.open_bridge`. `filters`: what its session on this node is to subscribe to."""

    out: "tuple[BridgeSubscription, ...]"
    incoming: "tuple[BridgeSubscription, ...]"
    filters: frozenset[str]


def plan_of(bridge: BridgeSettings) -> BridgePlan:
    """The subscriptions of a bridge."""
    group = f"bridge-{bridge.name}".replace("/", "-").replace("+", "-").replace("#", "-")
    shared = group if bridge.spread is Spread.SHARE else None
    out = subscriptions(bridge.rules, Direction.OUT, group=shared)
    incoming = subscriptions(bridge.rules, Direction.IN, group=shared)
    # What has to outlive this process needs an acknowledgement on its way to the bridge, whatever it leaves with.
    qos_min = 1 if bridge.lasts else 0
    return BridgePlan(
        tuple(engine_subscriptions(out, Direction.OUT, qos_min=qos_min)),
        tuple(engine_subscriptions(incoming, Direction.IN)),
        frozenset(subscription.wire_filter for subscription in out),
    )


def engine_subscriptions(
    found: Sequence[Subscription], way: Direction, *, qos_min: int = 0
) -> "list[BridgeSubscription]":
    """Subscriptions as the engine takes them. `qos_min`: of the subscriptions themselves."""

    def prefixes(local: str, remote: str) -> tuple[str, str]:
        return (local, remote) if way is Direction.OUT else (remote, local)

    return [
        (
            subscription.identifier,
            subscription.wire_filter,
            subscription.group is not None,
            max(subscription.qos, qos_min),
            subscription.keeps_retain,
            [
                (*prefixes(rule.local_prefix, rule.remote_prefix), rule.pattern, rule.qos, rule.keeps_retain)
                for rule in subscription.rules
            ],
        )
        for subscription in found
    ]


def local_client_id(name: str) -> str:
    """The client id of a bridge on its own node."""
    return f"{LOCAL_CLIENT_ID}{name}"


def remote_client_id(bridge: BridgeSettings, *, node: str, cluster: str, is_leftover: bool = False) -> str:
    """Who a bridge is to the other broker: the same after each start, and on each node where one runs it for all.

    `cluster`: its identity. `is_leftover`: of a node that brings away what it has while another one runs the bridge.
    """
    if bridge.spread is Spread.ONE and not is_leftover:
        return bridge.client_id or f"{cluster[:8]}.{bridge.name}"
    return f"{bridge.client_id or bridge.name}.{node}"
