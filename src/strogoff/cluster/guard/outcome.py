"""What is known before a join, here and from the other node, and what has come of it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.guard.policy import Course, Policy, course
from strogoff.cluster.guard.resolution import Settled, told

__all__ = ["Joined", "Outlook", "PeerSays"]


@dataclass(frozen=True, slots=True)
class PeerSays:
    """What a node says to one that thinks of joining through it. `problem`: why it would not let it in, or why nothing
    is known; empty where it would. `cluster`: the identity, in hexadecimal.
    """

    name: str
    problem: str = ""
    cluster: str = ""
    members: tuple[str, ...] = ()
    version: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether it has said anything."""
        return bool(self.cluster)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would come of a join by the policy in force. `problem`: why this node would not even try, or nothing."""

    inventory: Inventory
    peer: PeerSays
    policy: Policy
    problem: str = ""

    @property
    def course(self) -> Course:
        """What this node would do if nothing else is in the way."""
        return course(self.inventory, self.policy)


@dataclass(frozen=True, slots=True)
class Joined:
    """What has come of a join. `starts_again`: the node does so at once, and joins then. `archive`: the file that has,
    or will have, what was here; None where none was made.
    """

    name: str
    settled: Sequence[Settled] = ()
    archive: Path | None = None
    starts_again: bool = False

    @property
    def text(self) -> str:
        """Lines for whoever asked, the last one of which is `Done` where it is done."""
        lines = [*told(self.settled)]
        if self.archive is not None:
            lines.append(f"all that was here before is in {self.archive} (strogoff store restore)")
        if self.starts_again:
            lines.append(
                f"this node starts again and joins through {self.name} then: its log and 'vmq-admin node history' tell"
            )
        return "\n".join(lines if self.starts_again else [*lines, "Done"])
