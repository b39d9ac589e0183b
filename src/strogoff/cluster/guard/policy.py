"""What joining does with what a node holds, by policy and kind; and the words in which a refusal explains itself.

Pure: tables, which the join itself, commands and the refusal read from.
"""

import enum
from typing import Final

from strogoff.cluster.guard.inventory import Inventory, Kind
from strogoff.config import Configuration, Origin

__all__ = ["Course", "Policy", "course", "fate", "policy_of", "refusal"]


class Policy(enum.Enum):
    """`cluster.join_policy`."""

    STRICT = "strict"
    """Refuse while there is anything of clients or administrators."""
    MERGE = "merge"
    """Keep it, and write it again as the cluster's after the join."""
    RESET = "reset"
    """Archive it, and join empty."""


class Course(enum.Enum):
    """How a node comes into a cluster."""

    REFUSE = "refuse"
    JOIN = "join"
    """As it is: nothing of what it holds stands in the metadata."""
    BEGIN_ANEW = "begin anew"
    """It starts again with empty metadata under a new incarnation, and joins then: what stood there was another
    cluster's, and may not become part of the history of this one.
    """
    RESET = "reset"
    """It starts again with an empty store, and joins then."""


def course(inventory: Inventory, policy: Policy) -> Course:
    """How a node that holds this comes into a cluster."""
    if policy is Policy.STRICT and inventory.of_clients:
        return Course.REFUSE
    if policy is Policy.RESET and (inventory.of_clients or inventory.has_foreign_rows):
        return Course.RESET
    return Course.BEGIN_ANEW if inventory.has_foreign_rows else Course.JOIN


_REFUSES: Final = "refuses to join"
_STAYS: Final = "no obstacle: stays on this node, and the cluster never hears of it"
_ARCHIVED: Final = "archived, then gone from this node"
_CLUSTER_WINS: Final = "the cluster's stays where both have one, else this one is added"

_FATES: Final[dict[Policy, dict[Kind, str]]] = {
    Policy.STRICT: {
        Kind.INTERNAL: _STAYS,
        Kind.SESSIONS: _REFUSES,
        Kind.SUBSCRIPTIONS: _REFUSES,
        Kind.RETAINED: _REFUSES,
        Kind.CONFIGURATION: _REFUSES,
        Kind.API_KEYS: _REFUSES,
        Kind.MEMBERSHIP: "no obstacle: forgotten",
    },
    Policy.MERGE: {
        Kind.INTERNAL: _STAYS,
        Kind.SESSIONS: "kept; one with a session of the cluster where both have the client id, all messages of both",
        Kind.SUBSCRIPTIONS: "kept, together with those of the cluster's session",
        Kind.RETAINED: "the later one stays where both have the topic",
        Kind.CONFIGURATION: _CLUSTER_WINS,
        Kind.API_KEYS: _CLUSTER_WINS,
        Kind.MEMBERSHIP: "forgotten",
    },
    Policy.RESET: {
        Kind.INTERNAL: "begun anew by what it belongs to",
        Kind.SESSIONS: _ARCHIVED,
        Kind.SUBSCRIPTIONS: _ARCHIVED,
        Kind.RETAINED: _ARCHIVED,
        Kind.CONFIGURATION: _ARCHIVED,
        Kind.API_KEYS: _ARCHIVED,
        Kind.MEMBERSHIP: _ARCHIVED,
    },
}

_WAYS_ON: Final[dict[Policy, str]] = {
    Policy.STRICT: "remove it (vmq-admin session disconnect --cleanup, vmq-admin retain delete) and join again",
    Policy.MERGE: "keep it with --policy=merge, which makes it part of the cluster",
    Policy.RESET: "join empty with --policy=reset, which archives it in the data directory first",
}


def fate(kind: Kind, policy: Policy) -> str:
    """What happens to things of a kind, in a few words."""
    return _FATES[policy][kind]


def refusal(node: str, inventory: Inventory) -> str:
    """Why the node refuses to join under `strict`, and the three ways on."""
    holdings = ", ".join(str(holding) for holding in inventory.of_clients)
    ways = "; ".join(f"({number}) {_WAYS_ON[policy]}" for number, policy in enumerate(Policy, 1))
    return f"{node} refuses to join: it holds {holdings}, which the cluster does not know. Ways on: {ways}"


def policy_of(configuration: Configuration) -> Policy:
    """What holds where a join names none: `cluster.join_policy` where that is set, else what
    `vmq_swc.prevent_nonempty_join` means.
    """
    if configuration.source_of("cluster.join_policy").origin is not Origin.DEFAULT:
        return Policy(configuration.get("cluster.join_policy"))
    return Policy.STRICT if configuration.get("vmq_swc.prevent_nonempty_join") else Policy.MERGE
