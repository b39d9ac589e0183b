"""What comes of a thing that this node and the cluster both have, by kind; and how that is told.

Pure.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from strogoff.cluster.guard.inventory import Kind

__all__ = ["LINES_A_KIND_MAX", "Outcome", "Settled", "of_row", "of_topic", "told"]

LINES_A_KIND_MAX: Final = 20


class Outcome(enum.Enum):
    """What has become of it."""

    UNITED = "united with the session of the cluster"
    OURS = "the message of this node is the later one, and stays"
    THEIRS = "the message of the cluster is the later one, and stays"
    ADDED = "added to the cluster"
    OVERRULED = "the cluster has another value, which stays"


@dataclass(frozen=True, slots=True)
class Settled:
    """One thing. `what`: a client id, a topic, a key. `where`: the node that has the session now, or nothing."""

    kind: Kind
    what: str
    outcome: Outcome
    where: str = ""

    def __str__(self) -> str:
        """As in `sessions c1: united with the session of the cluster, on one@h`."""
        where = f", on {self.where}" if self.where else ""
        return f"{self.kind.value} {self.what}: {self.outcome.value}{where}"


def of_topic(here: tuple[int, int], there: tuple[int, int]) -> Outcome | None:
    """Of two retained messages of a topic, each with its stamp and origin, the later one. None: they are one."""
    if here == there:
        return None
    return Outcome.OURS if here > there else Outcome.THEIRS


def of_row(here: bytes, there: bytes | None) -> Outcome | None:
    """Of a setting or a key: the cluster's. None: both say the same."""
    if there is None:
        return Outcome.ADDED
    return None if here == there else Outcome.OVERRULED


def told(settled: Iterable[Settled]) -> Sequence[str]:
    """Lines for the answer to a command: how many of each kind and outcome, and the first of them."""
    groups: dict[tuple[Kind, Outcome], list[Settled]] = {}
    for each in settled:
        groups.setdefault((each.kind, each.outcome), []).append(each)
    lines: list[str] = []
    for (kind, outcome), group in groups.items():
        lines.append(f"{kind.value}, {outcome.value}: {len(group)}")
        lines += [f"  {each.what}{f', on {each.where}' if each.where else ''}" for each in group[:LINES_A_KIND_MAX]]
        if len(group) > LINES_A_KIND_MAX:
            lines.append(f"  and {len(group) - LINES_A_KIND_MAX} more, which the log names")
    return lines
