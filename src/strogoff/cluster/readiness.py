"""Whether the cluster is ready as this node sees it, which is what netsplit settings and health go by.

The rule is pure (`is_quorum`). `Readiness` follows the members and tells when the answer changes: at once when the
cluster is ready again, and after a moment when it is not any more, so that a node that joins, and whose link is about
to come up, is no event.
"""

import asyncio
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strogoff.observe.logging import get_logger

__all__ = ["Readiness", "ReadyWhen", "View", "is_quorum"]

GRACE_S: Final = 1.0
"""How long too few members are reachable before that counts. A link that is lost has been silent for longer already."""

_log = get_logger("cluster")


class ReadyWhen(enum.Enum):
    """`cluster.ready_when`: which members have to be there."""

    ALL = "all"
    MAJORITY = "majority"
    ANY = "any"


def is_quorum(rule: ReadyWhen, present: int, members: int) -> bool:
    """Whether so many members make the cluster ready. Both numbers count this node.

    Two nodes have no majority that outlasts one of them, and neither can tell a dead node from a broken network: with
    `majority` each of them goes on alone.
    """
    assert 1 <= present <= members, (present, members)
    match rule:
        case ReadyWhen.ALL:
            return present == members
        case ReadyWhen.MAJORITY:
            return members == 2 or present * 2 > members
        case ReadyWhen.ANY:
            return True


@dataclass(frozen=True, slots=True)
class View:
    """How many members there are, this node among them, and which cannot be reached."""

    members: int
    unreachable: Sequence[str] = ()

    @property
    def present(self) -> int:
        """How many members are there."""
        return self.members - len(self.unreachable)

    def obstacle(self) -> str:
        """Why the cluster is not ready, for clients and operators alike."""
        return f"the cluster is not ready: {self.present} of {self.members} nodes can be reached"


class Readiness:
    """`view`: what this node sees now. `changed`: told why the cluster is not ready, or None when it is again.

    Nothing is told before `begin`, since a node that starts has not met anybody.
    """

    def __init__(self, view: Callable[[], View], rule: Callable[[], ReadyWhen], changed: Callable[[str | None], None]):
        self._view = view
        self._rule = rule
        self._changed = changed
        self._told: str | None = None
        self._has_begun = False
        self._pending: asyncio.TimerHandle | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the cluster counts as ready."""
        return self._told is None

    def reasons(self) -> tuple[str, ...]:
        """Why it is not, with the names of those that cannot be reached; empty while it is."""
        if self._told is None:
            return ()
        view = self._view()
        return (view.obstacle(), *(f"{name} cannot be reached" for name in view.unreachable))

    def begin(self) -> None:
        """Judge what there is now, and follow it from here on."""
        self._has_begun = True
        self._settle()

    def end(self) -> None:
        """Follow nothing any more."""
        self._has_begun = False
        self._cancel()

    def look(self) -> None:
        """Members, links or the rule may have changed."""
        if not self._has_begun:
            return
        is_lost = not self._holds(self._view())
        if is_lost and self.is_ready:
            if self._pending is None:
                self._pending = asyncio.get_running_loop().call_later(GRACE_S, self._settle)
        else:
            self._settle()

    def _holds(self, view: View) -> bool:
        return is_quorum(self._rule(), view.present, view.members)

    def _settle(self) -> None:
        self._cancel()
        view = self._view()
        before, now = self._told, None if self._holds(view) else view.obstacle()
        if before == now:
            return
        self._told = now
        if now is None:
            _log.notice("the cluster is ready again", reachable=view.present, members=view.members)
        elif before is None:
            _log.warning(
                "the cluster is not ready",
                reachable=view.present,
                members=view.members,
                unreachable=",".join(view.unreachable),
                ready_when=self._rule().value,
            )
        self._changed(now)

    def _cancel(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
