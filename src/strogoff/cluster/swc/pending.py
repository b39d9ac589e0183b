"""What a replica has to hand over with the next `take`: rows to be written, messages, changes."""

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from strogoff.cluster.swc.container import DELETED, HEAD_SIZE, LIVE, live_values
from strogoff.cluster.swc.dots import ACTOR_MASK, Actor
from strogoff.cluster.swc.limits import Limits
from strogoff.cluster.swc.messages import broadcast_bytes, item_bytes
from strogoff.cluster.swc.output import Change, Output, Pulled, Refused
from strogoff.cluster.swc.state import Edit

__all__ = ["Pending", "Resolve"]

Resolve: TypeAlias = Callable[[bytes, tuple[bytes, ...]], bytes]


class Pending:
    """Collects. `prefix`: of the objects' keys in the store, by the valid generation."""

    __slots__ = (
        "_actors",
        "_first",
        "_items",
        "_limits",
        "_resolve",
        "behind",
        "changes",
        "ended",
        "erased",
        "messages",
        "prefix",
        "reloaded",
        "writes",
    )

    def __init__(self, limits: Limits, resolve: Resolve, prefix: bytes, erased: list[bytes]) -> None:
        self._limits = limits
        self._resolve = resolve
        self.prefix = prefix
        self.erased = erased
        self.writes: dict[bytes, bytes | None] = {}
        self.messages: list[tuple[Actor, bytes]] = []
        self.changes: list[Change] = []
        self.behind: dict[Actor, None] = {}
        self.ended: list[Pulled | Refused] = []
        self.reloaded = False
        self._items: list[bytes] = []
        self._first = 0
        self._actors: set[int] = set()

    @property
    def backlog(self) -> int:
        """Writes of this replica that wait."""
        return len(self._items)

    def broadcast(self, counter: int, key: bytes, value: bytes | None, superseded: tuple[int, ...]) -> None:
        """A write of this replica is to be told to the members."""
        if not self._items:
            self._first = counter
        self._items.append(item_bytes(key, value, superseded))
        for dot in superseded:
            self._actors.add(dot & ACTOR_MASK)

    def drop_broadcasts(self) -> None:
        """The members will have to pull what waits to be told."""
        self._items.clear()
        self._actors.clear()

    def edited(self, edits: Iterable[Edit], *, local: bool = False) -> None:
        """Rows have changed."""
        prefix, writes, changes = self.prefix, self.writes, self.changes
        for key, old, new in edits:
            writes[prefix + key] = new
            if new is not None and new[0] == LIVE and (old is None or old[0] == DELETED):
                changes.append(Change(key, (), new[HEAD_SIZE:], local))
            else:
                before, after = live_values(old), live_values(new)
                if before != after:
                    changes.append(Change(key, before, self.value(key, after), local))

    def value(self, key: bytes, values: tuple[bytes, ...]) -> bytes | None:
        """The one value that concurrent ones come to."""
        if not values:
            return None
        return values[0] if len(values) == 1 else self._resolve(key, values)

    def send(self, peer: Actor, data: bytes) -> None:
        """A message waits; it is dropped when too many do, as the network might."""
        if len(self.messages) < self._limits.messages_max:
            self.messages.append((peer, data))

    def output(self, sender: int, actors: Callable[[int], Actor], others: Collection[Actor]) -> Output:
        """All of it, but for rows to be erased, of which there may be more."""
        if self._items and others:
            self._tell(sender, actors, others)
        self.drop_broadcasts()
        count = min(len(self.erased), self._limits.erased_max)
        for key in self.erased[:count]:
            # What is valid now is not left over from then: nothing is written under a generation that is being erased.
            self.writes[key] = None
        del self.erased[:count]
        output = Output(
            list(self.writes.items()),
            self.messages,
            self.changes,
            self.reloaded,
            list(self.behind),
            self.ended,
            bool(self.erased),
        )
        self.writes, self.messages, self.changes, self.behind, self.ended = {}, [], [], {}, []
        self.reloaded = False
        return output

    def _tell(self, sender: int, actors: Callable[[int], Actor], others: Collection[Actor]) -> None:
        table = [(index, actors(index)) for index in sorted({sender, *self._actors})]
        first, start, size = self._first, 0, 0
        for at, item in enumerate(self._items):
            size += len(item)
            if size > self._limits.page_bytes and at > start:
                self._tell_page(broadcast_bytes(table, sender, first + start, self._items[start:at]), others)
                start, size = at, len(item)
        self._tell_page(broadcast_bytes(table, sender, first + start, self._items[start:]), others)

    def _tell_page(self, data: bytes, others: Collection[Actor]) -> None:
        for peer in others:
            self.send(peer, data)
