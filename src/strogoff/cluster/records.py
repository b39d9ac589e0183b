"""Where each session that outlasts its connection lives and what it subscribes to, as a record in the metadata.

The *home* of a session, the node that has it, writes its record. So a session can be made anew where its home is down,
and a home that comes back learns that its session has another one by now. Clean sessions have no record. While the
node is alone it writes none; when another node joins it writes those of all its sessions.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeAlias

from strogoff._engine import SessionInfo
from strogoff.cluster.metadata import Event, MetadataError, MetadataStore, Origin
from strogoff.cluster.subscriber_record import DamagedRecordError, SubscriberId, SubscriberRecord, Subscription
from strogoff.observe.logging import get_logger

__all__ = ["SUBSCRIBERS_PREFIX", "Home", "SubscriberRecords"]

SUBSCRIBERS_PREFIX: Final = b"subscriber/"
CHANGES_AT_ONCE: Final = 1_000
SESSIONS_A_PAGE: Final = 10_000
RECORDS_A_PAGE: Final = 1_000
RETRY_S: Final = 1.0
REMOVED_KEPT: Final = 24 * 3_600_000 << 16
"""A day of stamps: for so long it is remembered that a filter was unsubscribed."""

Kept: TypeAlias = tuple[bytes, list[tuple[str, int, int]]]
Home: TypeAlias = Callable[[SubscriberId, str | None], None]
"""Called when a session of this node has another home by now, or None: it was ended elsewhere."""

_log = get_logger("cluster.records")


class EngineSessions(Protocol):
    """What is needed of the engine."""

    def watch_sessions(self, *, watched: bool) -> None:
        """Note changes from now on, or do not."""

    def session_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str]], bool]:
        """Sessions of which something has changed, and whether all have to be read anew."""

    def kept_session(self, mountpoint: str, client_id: str) -> Kept | None:
        """A session that lasts."""

    def sessions(self, *, after: tuple[str, str] | None = None, limit: int = 1_000) -> list[SessionInfo]:
        """A page of all sessions."""

    def stamp(self) -> int:
        """The stamp of something that happens now."""


class SubscriberRecords:
    """The records. `is_going`: whether a session is on its way to another node, which writes its record then. `away`:
    hears of sessions of this node that have another home.
    """

    def __init__(
        self,
        engine: EngineSessions,
        name: str,
        metadata: MetadataStore,
        *,
        is_going: Callable[[SubscriberId], bool],
        away: Home,
    ) -> None:
        self._engine = engine
        self._name = name
        self._metadata = metadata
        self._is_going = is_going
        self._away = away
        self._is_watching = False
        self._must_read_all = False
        self._due: set[SubscriberId] = set()
        self._work = asyncio.Event()
        self._has_told = False
        self._is_writing = False
        self._released = asyncio.Event()
        self._released.set()
        self.count = self._counted()
        """Records of all nodes."""
        metadata.watch(SUBSCRIBERS_PREFIX, self._records_changed)

    # -- what happens around it ------------------------------------------------------------------------------

    def watch(self, *, watched: bool) -> None:
        """Whether there are other nodes to write records for."""
        if watched and not self._is_watching:
            self._must_read_all = True
            self._work.set()
        self._is_watching = watched
        self._engine.watch_sessions(watched=watched)

    def hold(self, *, held: bool) -> None:
        """Whether nothing is written for now."""
        if held:
            self._released.clear()
        else:
            self._released.set()

    @property
    def is_written(self) -> bool:
        """Whether all records are as the sessions of this node are."""
        return not (self._must_read_all or self._due or self._is_writing)

    def changed(self) -> None:
        """Sessions of this node have changed."""
        while True:
            changes, must_read_all = self._engine.session_changes(CHANGES_AT_ONCE)
            self._must_read_all |= must_read_all
            self._due.update(SubscriberId(*session) for session in changes)
            if changes or must_read_all:
                self._work.set()
            if len(changes) < CHANGES_AT_ONCE:
                return

    async def run(self) -> None:
        """Write what has changed. Ends when it is cancelled."""
        while True:
            await self._work.wait()
            await self._released.wait()
            self._work.clear()
            self._is_writing = True
            try:
                if self._must_read_all and self._is_watching:
                    self._must_read_all = False
                    await self._read_all()
                await self._write()
            except MetadataError as error:
                self._must_read_all = True
                if not self._has_told:
                    _log.warning("where sessions are cannot be written, it is tried again", reason=str(error))
                self._has_told = True
                await asyncio.sleep(RETRY_S)
                self._work.set()
            else:
                self._has_told = False
            finally:
                self._is_writing = False

    # -- records ---------------------------------------------------------------------------------------------

    def get(self, session: SubscriberId) -> SubscriberRecord | None:
        """The record of a session."""
        value = self._metadata.get(_key(session))
        return None if value is None else _decoded(value)

    def of_home(self, node: str) -> Iterator[tuple[SubscriberId, SubscriberRecord]]:
        """All whose home is a node."""
        after: bytes | None = None
        while True:
            page = self._metadata.scan(SUBSCRIBERS_PREFIX, after=after, limit=RECORDS_A_PAGE)
            for key, value in page:
                record, session = _decoded(value), _session(key)
                if record is not None and session is not None and record.node == node:
                    yield session, record
            if len(page) < RECORDS_A_PAGE:
                return
            after = page[-1][0]

    async def lasting(self) -> list[SubscriberId]:
        """The sessions of this node that outlast their connection."""
        found: list[SubscriberId] = []
        after: tuple[str, str] | None = None
        while page := await asyncio.to_thread(self._engine.sessions, after=after, limit=SESSIONS_A_PAGE):
            found += [SubscriberId(info.mountpoint, info.client_id) for info in page if not info.clean_session]
            after = page[-1].mountpoint, page[-1].client_id
        return found

    async def elsewhere(self) -> list[tuple[SubscriberId, SubscriberRecord]]:
        """The sessions of this node of which a record says that another node has them."""
        records = ((session, self.get(session)) for session in await self.lasting())
        return [(session, record) for session, record in records if record is not None and record.node != self._name]

    async def take_home(self, sessions: Iterable[SubscriberId]) -> None:
        """Write that these sessions are here, whatever is held back. Raises `MetadataError`."""
        await asyncio.gather(*(self._write_one(session) for session in sessions))

    async def forget(self, session: SubscriberId) -> None:
        """A session has ended wherever it was. Raises `MetadataError`."""
        await self._metadata.delete(_key(session))

    # -- writing ---------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        while self._due:
            due = [self._due.pop() for _ in range(min(len(self._due), CHANGES_AT_ONCE))]
            await asyncio.gather(*(self._write_one(session) for session in due))

    async def _write_one(self, session: SubscriberId) -> None:
        if self._is_going(session):
            return
        known, kept = self.get(session), self._engine.kept_session(*session)
        if kept is not None:
            record = self._record(known, kept)
            if record != known:
                await self._metadata.put(_key(session), record.encode())
        elif known is not None and known.node == self._name:
            await self._metadata.delete(_key(session))

    def _record(self, known: SubscriberRecord | None, kept: Kept) -> SubscriberRecord:
        """The record of a session as it is now; what has not changed keeps its stamp."""
        session, subscribed = kept
        now = self._engine.stamp()
        stamp = known.stamp if known is not None and (known.node, known.session) == (self._name, session) else now
        before = {} if known is None else known.subscriptions
        subscriptions: dict[str, Subscription] = {}
        for topic_filter, options, identifier in subscribed:
            old = before.get(topic_filter)
            is_same = old is not None and old[1:] == (False, options, identifier)
            subscriptions[topic_filter] = (
                old if old is not None and is_same else Subscription(now, False, options, identifier)  # noqa: FBT003 - a record
            )
        for topic_filter, old in before.items():
            if topic_filter not in subscriptions:
                subscriptions[topic_filter] = old if old.removed else old._replace(stamp=now, removed=True)
        record = SubscriberRecord(stamp, self._name, clean=False, subscriptions=subscriptions, session=session)
        return record.without_removed(max(now - REMOVED_KEPT, 0))

    async def _read_all(self) -> None:
        """Write records for all sessions, and delete those of sessions that this node does not have any more."""
        self._due.update(await self.lasting())
        self._due.update(session for session, _ in self.of_home(self._name))

    # -- what other nodes write ------------------------------------------------------------------------------

    def _counted(self) -> int:
        count, after = 0, None
        while page := self._metadata.scan(SUBSCRIBERS_PREFIX, after=after, limit=RECORDS_A_PAGE):
            count, after = count + len(page), page[-1][0]
        return count

    def _records_changed(self, events: Sequence[Event]) -> None:
        if not events:
            self._must_read_all = True
            self.count = self._counted()
            self._work.set()
            return
        for event in events:
            self.count += (event.new is not None) - bool(event.old)
            session = _session(event.key)
            if event.origin is Origin.LOCAL or session is None or self._engine.kept_session(*session) is None:
                continue
            record = None if event.new is None else _decoded(event.new)
            if record is None:
                self._away(session, None)
            elif record.node != self._name:
                self._away(session, record.node)


def _key(session: SubscriberId) -> bytes:
    return SUBSCRIBERS_PREFIX + b"\0".join(part.encode() for part in session)


def _session(key: bytes) -> SubscriberId | None:
    mountpoint, zero, client_id = key.removeprefix(SUBSCRIBERS_PREFIX).partition(b"\0")
    try:
        return SubscriberId(mountpoint.decode(), client_id.decode()) if zero else None
    except UnicodeDecodeError:
        return None


def _decoded(value: bytes) -> SubscriberRecord | None:
    try:
        return SubscriberRecord.decode(value)
    except DamagedRecordError as error:
        _log.error("the record of a session cannot be read", reason=str(error))
        return None
