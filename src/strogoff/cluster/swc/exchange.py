"""Anti-entropy: one replica pulls from another all that the other knows and it does not.

The asker sends its clock. What it gets, and how it becomes part of the state, is in `giving` and `taking`; here is
the order of the messages. One exchange runs at a time on the asking side; it ends with `Pulled` or `Refused` in the
output, or because the caller cancels it. A message that got lost is sent again by `repeat`.
"""

from collections.abc import Mapping

from strogoff.cluster.swc.clock import NOTHING, Entry, high
from strogoff.cluster.swc.container import translated
from strogoff.cluster.swc.dots import Actor
from strogoff.cluster.swc.messages import (
    PageState,
    PullAnswer,
    PullRefusal,
    PullRequest,
    RefusalReason,
    encode,
)
from strogoff.cluster.swc.output import Pulled, Refused
from strogoff.cluster.swc.parts import Condition, Parts
from strogoff.cluster.swc.records import GENERATIONS, object_prefix
from strogoff.cluster.swc.taking import Taking, join_whole, needs_whole

__all__ = ["Exchange"]


class Exchange:
    """Both sides of exchanges. `nonce`: where their numbers begin, elsewhere at each start."""

    __slots__ = ("_keys", "_next", "_parts", "_prefix", "taking")

    def __init__(self, parts: Parts, prefix: bytes, nonce: int) -> None:
        self._parts = parts
        self._prefix = prefix
        self._next = nonce
        self._keys = 0
        self.taking: Taking | None = None

    def pull(self, peer: Actor, *, whole: bool) -> None:
        """Begin to pull from a member; an exchange that runs is given up."""
        self.cancel()
        self._next = (self._next + 1) % (1 << 64)
        self._keys = 0
        self.taking = Taking(peer, self._next, whole)
        if whole:
            self.taking.generation = self._unused_generation()
        self.ask()

    def _unused_generation(self) -> int:
        # What is being erased must not be written again meanwhile.
        at = len(self._prefix) + 1
        used = {self._parts.generation, *{key[at] for key in self._parts.pending.erased}}
        return next(generation for generation in range(GENERATIONS) if generation not in used)

    def ask(self) -> None:
        """Ask for the page that comes next, perhaps not for the first time."""
        taking = self.taking
        if taking is None:
            return
        parts = self._parts
        clock = parts.state.clock.live()
        columns = {}
        if not taking.position:
            columns = parts.watermark.some(parts.limits.columns_max, clock.keys(), parts.actors.find(taking.peer))
        request = PullRequest(
            {index: parts.actors[index] for index in {**clock, **columns}},
            taking.exchange,
            taking.giving,
            taking.position,
            taking.whole,
            parts.past_digest(),
            clock,
            frozenset(parts.retired()),
            columns,
        )
        parts.pending.send(taking.peer, encode(request))

    def cancel(self) -> None:
        """Give up the exchange that runs. What a whole one has stored is erased."""
        taking, self.taking = self.taking, None
        if taking is not None and taking.whole:
            prefix = object_prefix(self._prefix, taking.generation)
            self._parts.pending.erased += [prefix + key for key in taking.copy.objects]

    # -- giving ----------------------------------------------------------------------------------------------

    def asked(self, peer: int, request: PullRequest) -> None:
        """A member asks for a page."""
        parts = self._parts
        if parts.condition is Condition.LOST_HISTORY:
            return
        asker = parts.actors[peer]
        indices = parts.find(request.actors.items())
        clock = _ours(request.clock, indices)
        self._heard(peer, clock, _indices(request.retired, indices), request.columns, indices)
        same_past = request.past_digest == parts.past_digest()
        page = parts.giver.page(peer, request, clock, parts.state, same_past=same_past)
        if isinstance(page, RefusalReason):
            parts.pending.send(asker, encode(PullRefusal(request.exchange, page)))
            return
        live = parts.state.clock.live()
        past = None if same_past or request.position else parts.state.clock.past
        columns = {}
        if not request.position:
            # The asker hears what it is believed to have, which it may know better.
            columns = parts.watermark.some(parts.limits.columns_max, live.keys(), peer)
        mentioned = {**live, **columns, **dict.fromkeys(page.actors, NOTHING), **(past or {})}
        answer = PullAnswer(
            {index: parts.actors[index] for index in mentioned},
            request.exchange,
            page.giving,
            request.position,
            page.following,
            page.state,
            live,
            frozenset(parts.retired()),
            parts.state.floors,
            past,
            columns,
            page.rows,
        )
        parts.pending.send(asker, encode(answer))

    # -- taking ----------------------------------------------------------------------------------------------

    def refused(self, peer: Actor, refusal: PullRefusal) -> None:
        """A member does not give."""
        taking = self.taking
        if taking is not None and taking.peer == peer and taking.exchange == refusal.exchange:
            self.cancel()
            self._parts.pending.ended.append(Refused(peer, refusal.reason))

    def answered(self, peer: int, answer: PullAnswer) -> None:
        """A member gives a page. One that was not asked for, or has been taken already, is dropped."""
        parts, taking = self._parts, self.taking
        sender = parts.actors[peer]
        if taking is None or not taking.awaits(sender, answer):
            return
        indices = parts.intern(answer.actors.items())
        clock = _ours(answer.clock, indices)
        past = None if answer.past is None else _ours(answer.past, indices)
        self._heard(peer, clock, _indices(answer.retired, indices), answer.columns, indices)
        if past is not None:
            bases = parts.state.clock.bases
            parts.watermark.heard_past(peer, {actor: entry for actor, entry in past.items() if actor in bases})
        if parts.condition is Condition.LOST_HISTORY:
            self.cancel()
            return
        floors = {indices[actor]: floor for actor, floor in answer.floors.items()}
        if taking.position == 0:
            self._begin(taking, clock, past, floors)
        if answer.state is PageState.TOO_OLD or (
            not taking.whole and needs_whole(parts.state, taking.copy.clock, floors)
        ):
            self.pull(taking.peer, whole=True)
            return
        self._take_rows(taking, answer, indices)
        if taking.staged_bytes > parts.limits.staged_bytes_max:
            self.pull(taking.peer, whole=True)
            return
        if answer.state is PageState.LAST:
            # An actor that has settled there meanwhile is in the first clock only.
            taking.copy.clock.merge(clock)
            self._end(taking, floors)
        else:
            taking.giving = answer.giving
            taking.position = answer.following
            self.ask()

    def _begin(
        self, taking: Taking, clock: dict[int, Entry], past: dict[int, Entry] | None, floors: dict[int, Entry]
    ) -> None:
        copy = taking.copy.clock
        copy.past = dict(self._parts.state.clock.past) if past is None else past
        copy.merge(clock)
        taking.copy.floors = floors

    def _take_rows(self, taking: Taking, answer: PullAnswer, indices: Mapping[int, int]) -> None:
        parts = self._parts
        rows = answer.rows
        self._keys += len(rows)
        if any(theirs != ours for theirs, ours in indices.items()):
            rows = [(key, translated(row, indices)) for key, row in rows]
        if not taking.whole:
            for key, row in rows:
                taking.stage(key, row)
            return
        prefix = object_prefix(self._prefix, taking.generation)
        place, writes = taking.copy.place, parts.pending.writes
        for key, row in rows:
            place(key, row)
            writes[prefix + key] = row

    def _end(self, taking: Taking, floors: dict[int, Entry]) -> None:
        parts = self._parts
        self.taking = None
        if taking.whole:
            self._become(taking, floors)
        else:
            self._merge(taking, floors)
        parts.clock_changed = True
        parts.pending.ended.append(Pulled(taking.peer, taking.whole, self._keys))

    def _merge(self, taking: Taking, floors: dict[int, Entry]) -> None:
        """What was put aside becomes part of the state, and the clock of the giver part of the clock."""
        parts, theirs = self._parts, taking.copy.clock
        state = parts.state
        entries = theirs.live()
        entries.pop(parts.own, None)
        if state.reopen_for(entries):
            parts.past_changed()
        edits = [state.merge(key, row, theirs.seen) for key, row in taking.staged.items()]
        state.clock.merge(entries)
        # Deletes that the giver had collected are gone here, too: who asks here must not be told that nothing lacks.
        settled = [
            edit
            for actor, floor in floors.items()
            if actor in state.clock.bases
            for edit in state.raise_floor(actor, floor)
        ]
        parts.floors_changed = True
        for actor, entry in theirs.past.items():
            if actor in state.clock.bases and actor not in parts.members and state.clock.entry(actor) == entry:
                settled += parts.settle(actor)
        parts.edited([edit for edit in edits if edit is not None])
        parts.edited(settled)

    def _become(self, taking: Taking, floors: dict[int, Entry]) -> None:
        """The copy, joined with what was here, becomes the state; the objects of the former generation are erased."""
        parts = self._parts
        old, copy = parts.state, taking.copy
        copy.floors = floors
        edits = join_whole(old, copy, parts.members, parts.own)
        former, parts.pending.prefix = parts.pending.prefix, object_prefix(self._prefix, taking.generation)
        for key, _, new in edits:
            parts.pending.writes[parts.pending.prefix + key] = new
        parts.pending.erased += [former + key for key in old.objects]
        parts.pending.changes.clear()
        parts.pending.reloaded = True
        parts.state = copy
        parts.watermark.keep_actors(copy.clock.bases)
        parts.generation = taking.generation
        parts.giver.clear()
        parts.order.reset()
        parts.past_changed()
        parts.floors_changed = True

    def _heard(
        self,
        peer: int,
        clock: dict[int, Entry],
        retired: frozenset[int],
        columns: Mapping[int, Mapping[int, int]],
        indices: Mapping[int, int],
    ) -> None:
        """Learn from the clock and the columns that came with a message of a member."""
        parts = self._parts
        state, own = parts.state, parts.own
        told = {
            indices[member]: {indices[actor]: base for actor, base in column.items() if actor in indices}
            for member, column in columns.items()
            if member in indices
        }
        # Nobody knows more of this actor than itself, nor of what it has seen, unless its store has lost something.
        written = max(high(clock.get(own, NOTHING)), *(column.get(own, 0) for column in told.values()), 0)
        claimed = told.get(own, {})
        if written > state.clock.bases[own] or any(
            base > state.clock.entry(actor)[0] for actor, base in claimed.items()
        ):
            parts.condition = Condition.LOST_HISTORY
            return
        bases = state.clock.bases
        parts.watermark.heard(peer, {actor: entry for actor, entry in clock.items() if actor in bases}, retired)
        for member, column in told.items():
            if member in parts.members and member != own:
                parts.watermark.heard_of(member, {actor: base for actor, base in column.items() if actor in bases})


def _ours(entries: Mapping[int, Entry], indices: Mapping[int, int]) -> dict[int, Entry]:
    return {indices[actor]: entry for actor, entry in entries.items() if actor in indices}


def _indices(actors: frozenset[int], indices: Mapping[int, int]) -> frozenset[int]:
    return frozenset(indices[actor] for actor in actors if actor in indices)
