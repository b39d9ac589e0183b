"""The replicated metadata, as everybody above sees it: keys with values, the same on all nodes sooner or later.

`metadata_plugin` names the store that keeps them; `vmq_swc` is the one built in. Nothing above this interface may
know which it is: neither that values may be written on two nodes at a time, nor how that is settled.
"""

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias, runtime_checkable

from strogoff.cluster.merge import Merge

__all__ = [
    "EVENTS_KEPT",
    "Event",
    "EventLog",
    "EventsLostError",
    "MetadataError",
    "MetadataStore",
    "MetadataUnavailableError",
    "Origin",
    "UnknownMetadataPluginError",
    "Watcher",
    "open_metadata",
]

EVENTS_KEPT: Final = 10_000
"""How many events a store remembers for those who ask what has happened since."""


class Origin(enum.Enum):
    """Where a change was made."""

    LOCAL = "local"
    REMOTE = "remote"


class Event(NamedTuple):
    """A key has another value. `revision`: grows by one with each event of this node; other nodes count differently.

    `old`: the values before, more than one when nodes had written at the same time. `new`: None when the key has none.
    """

    revision: int
    key: bytes
    old: tuple[bytes, ...]
    new: bytes | None
    origin: Origin


Watcher: TypeAlias = Callable[[Sequence[Event]], None]
"""Called with events in their order. An empty sequence says that events were lost, or were too many: read anew."""


class MetadataError(Exception):
    """The store cannot do it. The message says why."""


class MetadataUnavailableError(MetadataError):
    """Not now: the store has no quorum, is over its limits, or is about to stop."""


class EventsLostError(MetadataError):
    """The events since then are not remembered any more; read anew."""


class UnknownMetadataPluginError(MetadataError):
    """No store has the name that `metadata_plugin` gives."""


@runtime_checkable
class MetadataStore(Protocol):
    """A store. Writes return when they will survive what `store.sync` promises to survive; reads never write."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key. Raises `MetadataError`."""

    async def delete(self, key: bytes) -> bool:
        """Delete a key; whether it had a value. Raises `MetadataError`."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key on this node."""

    def scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """At most `limit` keys that begin with a prefix, behind `after`, in order, with their values here."""

    def watch(self, prefix: bytes, watcher: Watcher) -> Callable[[], None]:
        """Call back for each change of a key that begins with a prefix, from now on; the function that ends it."""

    @property
    def revision(self) -> int:
        """The revision of the latest event."""

    def events_since(self, revision: int, prefix: bytes = b"") -> AsyncIterator[Event]:
        """The events behind a revision, and then those to come. Raises `EventsLostError`."""


@dataclass(slots=True)
class _Watch:
    prefix: bytes
    watcher: Watcher


class EventLog:
    """The latest events of a store and those who watch: what `watch` and `events_since` need, without waiting."""

    __slots__ = ("_events", "_first", "_kept", "_watches")

    def __init__(self, kept: int = EVENTS_KEPT) -> None:
        self._kept = kept
        self._events: list[Event] = []
        self._first = 1
        self._watches: dict[int, _Watch] = {}

    @property
    def revision(self) -> int:
        """The revision of the latest event."""
        return self._first + len(self._events) - 1

    def watch(self, prefix: bytes, watcher: Watcher) -> Callable[[], None]:
        """As `MetadataStore.watch`."""
        watch = _Watch(prefix, watcher)
        self._watches[id(watch)] = watch

        def end() -> None:
            self._watches.pop(id(watch), None)

        return end

    def add(self, changes: Sequence[tuple[bytes, tuple[bytes, ...], bytes | None, bool]]) -> None:
        """Changes `(key, old, new, local)` have happened; tells the watchers."""
        revision = self.revision
        events = [
            Event(revision + number, key, old, new, Origin.LOCAL if local else Origin.REMOTE)
            for number, (key, old, new, local) in enumerate(changes, 1)
        ]
        self._events += events
        if len(self._events) > 2 * self._kept:
            dropped = len(self._events) - self._kept
            del self._events[:dropped]
            self._first += dropped
        for watch in list(self._watches.values()):
            concerned = [event for event in events if event.key.startswith(watch.prefix)]
            if concerned:
                watch.watcher(concerned)

    def reset(self) -> None:
        """More has changed than can be told: everybody has to read anew."""
        self._first += len(self._events) + 1
        self._events.clear()
        for watch in list(self._watches.values()):
            watch.watcher(())

    def since(self, revision: int, prefix: bytes = b"") -> list[Event]:
        """The events behind a revision. Raises `EventsLostError`."""
        if revision < self._first - 1 or revision > self.revision:
            raise EventsLostError(
                f"events since revision {revision} are asked for, {self._first} to {self.revision} are known: read anew"
            )
        return [event for event in self._events[revision - self._first + 1 :] if event.key.startswith(prefix)]


def open_metadata(name: str, plugins: Mapping[str, Callable[[Merge], MetadataStore]], merge: Merge) -> MetadataStore:
    """The store that `metadata_plugin` names, with the function that settles concurrent values."""
    plugin = plugins.get(name)
    if plugin is None:
        known = ", ".join(sorted(plugins))
        raise UnknownMetadataPluginError(f"metadata_plugin = {name} names no metadata store: use one of {known}")
    return plugin(merge)
