"""The replica: writes and messages in; rows to persist, messages to send and changes to tell out."""

from collections.abc import Collection, Iterable, Iterator

from strogoff.cluster.swc import records
from strogoff.cluster.swc.clock import NOTHING
from strogoff.cluster.swc.container import live_values
from strogoff.cluster.swc.dots import COUNTER_SHIFT, NAME_BYTES_MAX, Actor, ActorTable
from strogoff.cluster.swc.exchange import Exchange
from strogoff.cluster.swc.giving import Giver
from strogoff.cluster.swc.limits import KEY_BYTES_MAX, Limits
from strogoff.cluster.swc.messages import (
    Broadcast,
    PullAnswer,
    PullRefusal,
    PullRequest,
    RefusalReason,
    decode,
    encode,
)
from strogoff.cluster.swc.output import Output
from strogoff.cluster.swc.parts import Condition, Parts
from strogoff.cluster.swc.pending import Pending, Resolve
from strogoff.cluster.swc.state import Edit, State

__all__ = ["BacklogFullError", "LostHistoryError", "NoMemberError", "Replica", "ValueTooLargeError"]


class ValueTooLargeError(ValueError):
    """A key or a value is larger than the limit."""


class BacklogFullError(Exception):
    """Too many writes wait to be taken."""


class LostHistoryError(Exception):
    """Peers know more of this replica's actor than it does, so a dot might name two writes. Retire the actor."""


class NoMemberError(ValueError):
    """The peer is no member."""


class Replica:
    """One node's copy of the metadata. See the package for how it is driven.

    `rows`: what the store holds below `prefix`, in the order of the keys. Where they were left by another actor, that
    one is retired. `members`: the actors of the cluster, this one among them. `nonce`: 64 random bits, other ones at
    each start. `resolve`: what the concurrent values of a key come to; a pure function of the key and the values,
    whatever their order. Raises `DamagedStoreError`.
    """

    __slots__ = ("_exchange", "_first_own", "_parts", "_prefix")

    def __init__(
        self,
        actor: Actor,
        *,
        members: Collection[Actor],
        nonce: int,
        rows: Iterable[tuple[bytes, bytes]] = (),
        resolve: Resolve | None = None,
        limits: Limits | None = None,
        prefix: bytes = b"swc/",
    ) -> None:
        limits = Limits() if limits is None else limits
        loaded = records.load(prefix, rows)
        new = loaded is None
        if loaded is None:
            loaded = records.Loaded(ActorTable((actor,)), 0, 0, State())
        object_prefix = records.object_prefix(prefix, loaded.generation)
        pending = Pending(limits, _largest if resolve is None else resolve, object_prefix, loaded.left_over)
        self._parts = Parts(
            loaded.actors, loaded.own, set(), loaded.generation, loaded.state, pending, Giver(limits, nonce), limits
        )
        self._parts.identity_changed = new
        self._prefix = prefix
        self._exchange = Exchange(self._parts, prefix, nonce)
        self._parts.state.clock.bases.setdefault(loaded.own, 0)
        self._first_own = self._own_base()
        if loaded.actors[loaded.own] != actor:
            self.retire(actor)
        self.set_members(members)

    # -- what is known ---------------------------------------------------------------------------------------

    @property
    def actor(self) -> Actor:
        """Who this replica writes as."""
        return self._parts.actors[self._parts.own]

    @property
    def condition(self) -> Condition:
        """Whether it may write."""
        return self._parts.condition

    @property
    def members(self) -> frozenset[Actor]:
        """The actors of the cluster, as the caller has set them."""
        return frozenset(self._parts.actors[index] for index in self._parts.members)

    def seen_of(self, actor: Actor) -> int:
        """How many of the writes of an actor are here, up to the first that is missing."""
        index = self._parts.actors.find(actor)
        return 0 if index is None else self._parts.state.clock.entry(index)[0]

    @property
    def pulling(self) -> Actor | None:
        """From whom an exchange runs."""
        taking = self._exchange.taking
        return None if taking is None else taking.peer

    @property
    def parts(self) -> Parts:
        """What is inside: to look at, for tests and metrics."""
        return self._parts

    def __len__(self) -> int:
        """How many keys there are, those included that are deleted but not collected."""
        return len(self._parts.state.objects)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key; None when it has none. Reading never writes."""
        return self._parts.pending.value(key, self.values(key))

    def values(self, key: bytes) -> tuple[bytes, ...]:
        """The concurrent values of a key, nearly always one."""
        return live_values(self._parts.state.objects.get(key))

    def scan(self, prefix: bytes, *, after: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys that begin with a prefix, behind `after`, in their order, with values. Read it before you write."""
        for key in self._parts.order.after(prefix, after, self._parts.state.objects):
            value = self.get(key)
            if value is not None:
                yield key, value

    # -- writing ---------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key. Supersedes all values that it has here.

        Raises `ValueTooLargeError`, `BacklogFullError`, `LostHistoryError`; nothing has changed then.
        """
        if len(key) > KEY_BYTES_MAX or len(value) > self._parts.limits.value_bytes_max:
            raise ValueTooLargeError(
                f"{len(key)} bytes of key and {len(value)} of value, where {KEY_BYTES_MAX} and "
                f"{self._parts.limits.value_bytes_max} are allowed"
            )
        self._check_writable()
        self._write(key, value)

    def delete(self, key: bytes) -> bool:
        """Delete a key; whether it had a value. Raises as `put` does."""
        if not self.values(key):
            return False
        self._check_writable()
        self._write(key, None)
        return True

    def _check_writable(self) -> None:
        if self._parts.condition is Condition.LOST_HISTORY:
            raise LostHistoryError(f"peers know more of {self.actor} than it does itself: retire it")
        if self._parts.pending.backlog >= self._parts.limits.backlog_items_max:
            raise BacklogFullError(f"{self._parts.pending.backlog} writes wait to be taken")

    def _write(self, key: bytes, value: bytes | None) -> None:
        parts = self._parts
        own = parts.own
        bases = parts.state.clock.bases
        counter = bases[own] + 1
        edit, superseded = parts.state.write(key, value, counter << COUNTER_SHIFT | own)
        bases[own] = counter
        parts.clock_changed = True
        parts.edited((edit,), local=True)
        parts.pending.broadcast(counter, key, value, superseded)

    def _own_base(self) -> int:
        return self._parts.state.clock.bases[self._parts.own]

    # -- messages --------------------------------------------------------------------------------------------

    def receive(self, sender: Actor, data: bytes) -> None:
        """A message of a peer, whose link has proved who it is. `DecodeError`: it is none, and nothing has changed.

        `TooManyActorsError`: the cluster has had more actors than a replica can tell apart.
        """
        message = decode(data)
        parts = self._parts
        peer = parts.actors.find(sender)
        if peer is None or peer not in parts.members or peer == parts.own:
            if isinstance(message, PullRequest):
                refusal = PullRefusal(message.exchange, RefusalReason.NOT_A_MEMBER)
                parts.pending.send(sender, encode(refusal))
            elif isinstance(message, PullRefusal):
                self._exchange.refused(sender, message)
            return
        match message:
            case Broadcast():
                self._apply(peer, sender, message)
            case PullRequest():
                self._exchange.asked(peer, message)
            case PullAnswer():
                self._exchange.answered(peer, message)
            case PullRefusal():
                self._exchange.refused(sender, message)

    def _apply(self, peer: int, sender: Actor, message: Broadcast) -> None:
        parts = self._parts
        if message.actors[message.sender] != sender or parts.condition is Condition.LOST_HISTORY:
            return
        edits, left_out = parts.state.apply(peer, message.first, message.items, parts.find(message.actors.items()))
        if left_out:
            parts.pending.behind[sender] = None
        if edits:
            parts.clock_changed = True
            parts.edited(edits)

    # -- exchange --------------------------------------------------------------------------------------------

    def pull(self, peer: Actor) -> None:
        """Begin to fetch all that a member knows. One exchange at a time: one that runs is given up.

        Raises `NoMemberError`.
        """
        if peer not in self.members or peer == self.actor:
            raise NoMemberError(f"{peer} is no other member")
        self._exchange.pull(peer, whole=False)

    def repeat(self) -> None:
        """Send the latest request of the exchange again: its answer has not come in time."""
        self._exchange.ask()

    def cancel(self) -> None:
        """Give up the exchange that runs."""
        self._exchange.cancel()

    # -- membership ------------------------------------------------------------------------------------------

    def set_members(self, members: Collection[Actor]) -> None:
        """The actors of the cluster from now on, this replica's among them. Idempotent; the order does not matter."""
        parts = self._parts
        assert self.actor in members, f"{self.actor} is no member of what it is told to be a member of"
        assert all(len(actor.name.encode()) <= NAME_BYTES_MAX for actor in members), (
            "a name is longer than a message has it"
        )
        state = parts.state
        former, parts.members = parts.members, set()
        for actor in sorted(members):
            index = parts.intern(((0, actor),))[0]
            parts.members.add(index)
            if index in state.clock.past:
                state.reopen(index)
                parts.past_changed()
                parts.floors_changed = True
            state.clock.bases.setdefault(index, 0)
        parts.watermark.keep(parts.members)
        parts.giver.keep(parts.members)
        if self.pulling is not None and self.pulling not in members:
            self.cancel()
        parts.clock_changed = parts.clock_changed or parts.members != former

    def retire(self, actor: Actor, *, has_lost_history: bool = False) -> None:
        """Go on as another actor, which nobody has ever used, in the place of the former among the members.

        After `Condition.LOST_HISTORY`, or where the caller knows of that, what was written since this start may bear
        dots that were used before. It becomes the new actor's work, and what the former one is known for is fetched
        from the peers.
        """
        parts = self._parts
        assert parts.actors.find(actor) is None, f"{actor} has been used before"
        self.cancel()
        parts.pending.drop_broadcasts()
        former, first = parts.own, self._first_own
        parts.own = parts.intern(((0, actor),))[0]
        parts.members = (parts.members - {former}) | {parts.own}
        parts.state.clock.bases[parts.own] = 0
        self._first_own = 0
        parts.giver.clear()
        if has_lost_history or parts.condition is Condition.LOST_HISTORY:
            parts.edited(parts.state.rename(former, first, parts.own))
            parts.floors_changed = True
            parts.condition = Condition.SOUND
        parts.identity_changed = parts.clock_changed = True

    # -- collection ------------------------------------------------------------------------------------------

    def collect(self) -> bool:
        """Forget deletes, rows of the dot-key map and actors that all members have. Whether there is more of it."""
        parts = self._parts
        others = parts.others()
        edits: list[Edit] = []
        more = False
        for actor in parts.retired():
            entry = parts.state.clock.entry(actor)
            if entry == NOTHING or parts.watermark.agreed(actor, entry, others):
                edits += parts.settle(actor)
        for actor, base in parts.state.clock.bases.items():
            floor = parts.state.floors.get(actor, NOTHING)
            if base <= floor[0]:
                continue
            stable = parts.giver.pinned(actor, parts.watermark.stable(actor, base, others))
            end = min(stable, floor[0] + parts.limits.collected_max)
            if end > floor[0]:
                edits += parts.state.raise_floor(actor, (end, 0))
                parts.floors_changed = True
                more = more or end < stable
        parts.edited(edits)
        return more

    # -- out -------------------------------------------------------------------------------------------------

    def take(self) -> Output:
        """What is to be done: persist, then send, then tell. What is taken is not given again."""
        parts = self._parts
        writes, prefix = parts.pending.writes, self._prefix
        if parts.identity_changed:
            past = parts.state.clock.past
            writes[prefix + b"a"] = records.actors_row(parts.own, parts.generation, parts.actors, past)
        if parts.clock_changed or parts.identity_changed:
            writes[prefix + b"c"] = records.clock_row(parts.state.clock)
        if parts.floors_changed or parts.identity_changed:
            writes[prefix + b"f"] = records.floors_row(parts.state.floors)
        parts.identity_changed = parts.clock_changed = parts.floors_changed = False
        others = [parts.actors[index] for index in parts.others()]
        return parts.pending.output(parts.own, parts.actors.__getitem__, others)


def _largest(_: bytes, values: tuple[bytes, ...]) -> bytes:
    return max(values)
