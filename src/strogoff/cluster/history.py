"""What this node has seen of its cluster since its start: who joined, left or was taken out, how links came and went.

It keeps the latest events and counts those before them. Pure: the clock is passed in.
"""

import enum
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["EVENTS_MAX", "ClusterEvent", "Happening", "History"]

EVENTS_MAX: Final = 200


class Happening(enum.Enum):
    """What has happened to a node, as this one sees it."""

    JOINED = "joined"
    """It is a member now."""
    LEFT = "left"
    """It is none any more, and could be reached until then."""
    REMOVED = "removed"
    """It is none any more: it was taken out while it could not be reached."""
    LINK_UP = "link up"
    """It can be reached."""
    LINK_DOWN = "link down"
    """It cannot be reached."""


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """`at`: seconds since the Unix epoch. `detail`: through whom it joined, why it cannot be reached, or nothing."""

    at: float
    happening: Happening
    node: str
    detail: str = ""


class History:
    """The events of the node `name`. `clock`: seconds since the Unix epoch."""

    __slots__ = ("_clock", "_events", "_links", "_members", "_name", "_number")

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name = name
        self._clock = clock
        self._events: deque[ClusterEvent] = deque(maxlen=EVENTS_MAX)
        self._number = 0
        self._members: set[str] | None = None
        self._links: dict[str, bool] = {}

    @property
    def events(self) -> Sequence[ClusterEvent]:
        """The latest, in order."""
        return tuple(self._events)

    @property
    def forgotten(self) -> int:
        """How many there were before these."""
        return self._number - len(self._events)

    def joined(self, through: str, members: Iterable[str]) -> None:
        """This node has become a member of a cluster with these members."""
        self._note(Happening.JOINED, self._name, f"through {through}")
        self._set_members(members)
        self._links = dict.fromkeys(self._members or (), False)

    def members_are(self, members: Iterable[str]) -> None:
        """Who belongs to the cluster now. Those that are there the first time were so before this node started."""
        known = self._members
        self._set_members(members)
        if known is None or self._members is None:
            return
        for node in sorted(self._members - known):
            self._note(Happening.JOINED, node)
            self._links[node] = False
        for node in sorted(known - self._members):
            was_reachable = self._links.pop(node, False)
            self._note(Happening.LEFT if was_reachable else Happening.REMOVED, node)

    def link_is(self, node: str, state: str, reason: str) -> None:
        """How the link to a node is, as the engine names it. A node that is no member, or not yet, does not count."""
        is_up = state == "reachable"
        if node not in (self._members or ()) or self._links.get(node) is is_up:
            return
        self._links[node] = is_up
        self._note(Happening.LINK_UP if is_up else Happening.LINK_DOWN, node, "" if is_up else reason)

    def _set_members(self, members: Iterable[str]) -> None:
        self._members = {member for member in members if member != self._name}

    def _note(self, happening: Happening, node: str, detail: str = "") -> None:
        self._number += 1
        self._events.append(ClusterEvent(self._clock(), happening, node, detail))
