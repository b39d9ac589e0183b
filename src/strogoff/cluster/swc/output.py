"""What a replica gives its caller to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from strogoff.cluster.swc.dots import Actor
from strogoff.cluster.swc.messages import RefusalReason

__all__ = ["Change", "Output", "Pulled", "Refused"]


class Change(NamedTuple):
    """A key has other values than before. `old`: those until now; `new`: what it has now comes to, None for nothing.

    `local`: it was written here.
    """

    key: bytes
    old: tuple[bytes, ...]
    new: bytes | None
    local: bool


@dataclass(frozen=True, slots=True)
class Pulled:
    """An exchange has ended: all that the peer knew when it gave the last page is known here. `keys`: how many came."""

    peer: Actor
    whole: bool
    keys: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An exchange has ended because the peer does not give."""

    peer: Actor
    reason: RefusalReason


@dataclass(slots=True)
class Output:
    """To be done in this order: persist `writes` as one batch, then send `messages`, and tell `changes`.

    `reloaded`: more has changed than `changes` tells; watchers have to read anew.
    `behind`: members whose writes could not be applied, since others are missing; pull from them soon.
    `more`: there is more to take at once.
    """

    writes: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    messages: list[tuple[Actor, bytes]] = field(default_factory=list)
    changes: Sequence[Change] = ()
    reloaded: bool = False
    behind: list[Actor] = field(default_factory=list)
    ended: list[Pulled | Refused] = field(default_factory=list)
    more: bool = False

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.writes or self.messages or self.changes or self.reloaded or self.behind or self.ended)
