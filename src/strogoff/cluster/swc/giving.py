"""The giving side of an exchange: pages of what a peer lacks.

The keys that a peer lacks are listed once, when it asks. When the list has been given, what changed meanwhile is
appended to it, until the rest fits into one page together with the clock: then that page is the last, and what the
peer has been given is what is here, as a whole. A peer that asks for the same position again gets it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strogoff.cluster.swc.clock import NOTHING, Entry, covers
from strogoff.cluster.swc.container import SEVERAL, dots_of
from strogoff.cluster.swc.dots import ACTOR_MASK
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.messages import PageState, PullRequest, RefusalReason
from strogoff.cluster.swc.state import State

__all__ = ["Giver", "Page"]

IDLE_REQUESTS_MAX: Final = 1_000
"""After so many requests of others a peer that does not go on loses its place to one that waits."""

_ROW_OVERHEAD: Final = 6


@dataclass(slots=True)
class Page:
    """What one answer holds of objects. `actors`: indices of the actors in the rows."""

    giving: int
    following: int
    state: PageState
    rows: list[tuple[bytes, bytes]]
    actors: set[int]


@dataclass(slots=True)
class _Giving:
    """One exchange. `clock`: what was seen here when the list of keys was last complete. `done`: all was given.

    `asked_at`: which of all requests was its latest.
    """

    number: int
    exchange: int
    keys: list[bytes]
    clock: dict[int, Entry]
    done: bool = False
    asked_at: int = 0


class Giver:
    """The exchanges in which this replica gives, one a peer. `nonce`: as for `Exchange`."""

    __slots__ = ("_givings", "_limits", "_next", "_requests")

    def __init__(self, limits: Limits, nonce: int) -> None:
        self._limits = limits
        self._next = nonce
        self._givings: dict[int, _Giving] = {}
        self._requests = 0

    def keep(self, members: set[int]) -> None:
        """End exchanges with others than these."""
        for peer in [peer for peer in self._givings if peer not in members]:
            del self._givings[peer]

    def clear(self) -> None:
        """End all exchanges: the state has become another one, which does not go on from where they are."""
        self._givings.clear()

    def pinned(self, actor: int, stable: int) -> int:
        """Up to where an actor may be collected: a peer that is given pages must still find what follows."""
        for giving in self._givings.values():
            if not giving.done:
                stable = min(stable, giving.clock.get(actor, NOTHING)[0])
        return stable

    def page(
        self, peer: int, request: PullRequest, asked: Mapping[int, Entry], state: State, *, same_past: bool
    ) -> Page | RefusalReason:
        """A page for a peer whose clock, in the indices of this replica, is `asked`. `same_past`: it knows who left."""
        self._requests += 1
        known = self._givings.get(peer)
        if known is not None and known.exchange == request.exchange and request.giving in {0, known.number}:
            if request.position > len(known.keys):
                return RefusalReason.GONE
            known.asked_at = self._requests
            return self._cut(peer, known, request.position, state)
        if request.position:
            return RefusalReason.GONE
        self._givings.pop(peer, None)
        self._next = (self._next + 1) % (1 << 64)
        if not request.whole and self._too_old(asked, state, same_past=same_past):
            return Page(self._next, 0, PageState.TOO_OLD, [], set())
        held = state.clock.live()
        keys = list(state.objects) if request.whole else state.keys_of.beyond(held, asked)
        giving = _Giving(self._next, request.exchange, keys, held, asked_at=self._requests)
        page = self._cut(peer, giving, 0, state)
        if self._room():
            self._givings[peer] = giving
        elif not giving.done:
            return RefusalReason.BUSY
        return page

    @staticmethod
    def _too_old(asked: Mapping[int, Entry], state: State, *, same_past: bool) -> bool:
        # An actor that the peer does not name may have left for good there. Then the peer judges, who knows.
        return any(
            not covers(asked.get(actor, NOTHING), floor)
            for actor, floor in state.floors.items()
            if same_past or actor in asked
        )

    def _room(self) -> bool:
        if len(self._givings) < self._limits.givings_max:
            return True
        for peer, giving in self._givings.items():
            if giving.done or self._requests - giving.asked_at > IDLE_REQUESTS_MAX:
                del self._givings[peer]
                return True
        return False

    def _cut(self, peer: int, giving: _Giving, position: int, state: State) -> Page | RefusalReason:
        page = Page(giving.number, position, PageState.MORE, [], set())
        room = self._fill(page, giving.keys, position, state, self._limits.page_bytes)
        if page.following < len(giving.keys):
            return page
        held = state.clock.live()
        if held != giving.clock:
            if any(not covers(giving.clock.get(actor, NOTHING), floor) for actor, floor in state.floors.items()):
                # A given exchange was asked for once more after it had ended, and what followed has been collected.
                self._givings.pop(peer, None)
                return RefusalReason.GONE
            changed = state.keys_of.beyond(held, giving.clock)
            giving.keys += changed
            giving.clock = held
            self._fill(page, giving.keys, page.following, state, room)
            if page.following < len(giving.keys):
                return page
        giving.done = True
        page.state = PageState.LAST
        return page

    @staticmethod
    def _fill(page: Page, keys: list[bytes], position: int, state: State, room: int) -> int:
        """Put keys from a position on into the page, until there is no room; the room that is left."""
        objects, rows, actors = state.objects, page.rows, page.actors
        for at in range(position, len(keys)):
            key = keys[at]
            row = objects.get(key)
            if row is not None:
                room -= _ROW_OVERHEAD + len(key) + len(row)
                if room < 0 and rows:
                    page.following = at
                    return 0
                rows.append((key, row))
                if row[0] == SEVERAL:
                    actors.update([dot & ACTOR_MASK for dot in dots_of(row)])
                else:
                    actors.add(row[1] | row[2] << 8)
        page.following = len(keys)
        return room
