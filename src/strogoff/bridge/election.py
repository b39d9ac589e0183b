"""Which node runs a bridge that several configure alike: a rule that all nodes come to the same answer with."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

__all__ = ["Candidacy", "elected", "read_candidacies"]

BRIDGES_MAX = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Candidacy:
    """What a node says of a bridge. `since`: when it began to run it, seconds since the Unix epoch; None: it does not.

    `fingerprint`: the same on all nodes that configure it alike.
    """

    fingerprint: str
    since: float | None = None


def elected(bridge: str, candidates: Mapping[str, Candidacy]) -> str:
    """The node that is to run a bridge, of one or more by name.

    It is the one that has run it longest, so that it stays where it is; where none runs it, one by chance, but the same
    for all who ask.
    """
    running = [(candidacy.since, node) for node, candidacy in candidates.items() if candidacy.since is not None]
    if running:
        return min(running)[1]
    return min(candidates, key=lambda node: (hashlib.sha256(f"{bridge}\0{node}".encode()).digest(), node))


def read_candidacies(payload: Mapping[str, Any]) -> dict[str, Candidacy]:
    """What another node has said of its bridges. Raises `KeyError`, `TypeError` or `ValueError` for anything else."""
    said = payload["bridges"]
    if not isinstance(said, dict) or len(said) > BRIDGES_MAX:
        raise ValueError("bridges: expected at most 10,000 by name")
    return {
        str(name): Candidacy(str(each["fingerprint"]), None if each["since"] is None else float(each["since"]))
        for name, each in said.items()
    }
