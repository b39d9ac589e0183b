"""What joining does with what a node holds, by policy and kind; and the words in which a refusal explains itself.

Pure: one table, which commands, documents and the refusal read from.
"""

import enum
from typing import Final

from strogoff.cluster.guard.inventory import Inventory, Kind

__all__ = ["Policy", "fate", "refusal"]


class Policy(enum.Enum):
    """`cluster.join_policy`."""

    STRICT = "strict"
    """Refuse while there is anything of clients or administrators."""


_REFUSES: Final = "refuses to join"
_STAYS: Final = "no obstacle: stays on this node, and the cluster never hears of it"

_FATES: Final[dict[Policy, dict[Kind, str]]] = {
    Policy.STRICT: {
        Kind.INTERNAL: _STAYS,
        Kind.SESSIONS: _REFUSES,
        Kind.SUBSCRIPTIONS: _REFUSES,
        Kind.RETAINED: _REFUSES,
        Kind.CONFIGURATION: _REFUSES,
        Kind.API_KEYS: _REFUSES,
        Kind.MEMBERSHIP: "no obstacle",
    },
}

_WAYS_ON: Final[dict[Policy, str]] = {
    Policy.STRICT: "remove it (vmq-admin session disconnect --cleanup, vmq-admin retain delete), or start with an "
    "empty data directory, and join again",
}


def fate(kind: Kind, policy: Policy) -> str:
    """What happens to things of a kind, in a few words."""
    return _FATES[policy][kind]


def refusal(node: str, inventory: Inventory) -> str:
    """Why the node refuses to join under `strict`, and how to go on."""
    holdings = ", ".join(str(holding) for holding in inventory.of_clients)
    ways = "; ".join(_WAYS_ON[policy] for policy in Policy)
    return f"{node} refuses to join: it holds {holdings}, which the cluster does not know. Ways on: {ways}"
