"""Retained messages of a cluster: every node has the latest of each topic, also those that it missed.

The engines send each change to all nodes that can be reached at once. Here the nodes tell each other by records in the
metadata which change of a topic is the latest, at most 50 ms later: so a node that joins, comes back, or whose link
failed learns what it lacks, asks a node that has it, and is sent the message over the data lane. Deletions are records
too, until nobody can have what they deleted. While the node is alone it writes none; when another node joins it writes
those of all its messages.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from strogoff.cluster.metadata import Event, MetadataError, MetadataStore, Origin
from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests
from strogoff.cluster.retained_record import DamagedRetainedError, RetainedRecord, RetainedTopic
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

__all__ = ["RETAINED_PREFIX", "EngineRetained", "RetainedMessages"]

RETAINED_PREFIX: Final = b"retained/"
REQUEST: Final = "retained"
COALESCE_S: Final = 0.05
GRACE_S: Final = 0.2
"""For so long a message may be behind its record: it comes by itself."""
CHANGES_AT_ONCE: Final = 1_000
PAGE: Final = 1_000
TOPICS_A_REQUEST: Final = 200
REQUEST_BYTES: Final = 128 * 1_024
"""Of the topics in a request, but for the first."""
ANSWER_TIMEOUT_S: Final = 30.0
TAKEN_TIMEOUT_S: Final = 20.0
LOOK_S: Final = 0.01
RETRY_S: Final = 1.0
SWEEP_INTERVAL_S: Final = 300.0
DELETED_KEPT_MS: Final = 24 * 3_600_000
"""How long a deletion is remembered while members cannot be reached."""
IN_FLIGHT_MS: Final = 60_000
"""How long something older than a deletion may be on its way, where all members can be reached."""
DELETED_MAX: Final = 100_000

_log = get_logger("cluster.retained")

Known: TypeAlias = tuple[int, int, bool, int | None]
Cursor: TypeAlias = tuple[str, int]


class EngineRetained(Protocol):
    """What is needed of the engine."""

    def watch_retained(self, *, watched: bool) -> None:
        """Note changes from now on, or do not."""

    def retained_changes(self, limit: int = 1_000) -> tuple[list[tuple[str, str]], bool]:
        """Topics that were changed here, and whether all have to be read anew."""

    def known_retained(self, mountpoint: str, topic: str) -> Known | None:
        """What is known of a topic."""

    def retained_page(
        self, after: Cursor | None = None, limit: int = 1_000
    ) -> tuple[list[tuple[str, str, int, int, int | None]], Cursor | None]:
        """A page of all messages, and where the next begins."""

    def forget_retained(self, mountpoint: str, topic: str, stamp: int, origin: int) -> bool:
        """Forget a message that was deleted on another node."""

    def send_retained(self, peer: str, topics: Sequence[tuple[str, str]]) -> int | None:
        """Send messages to another node."""

    def lane_filled(self, peer: str) -> int:
        """How far the data lane to a node is filled."""

    def lane_taken(self, peer: str, position: int) -> bool:
        """Whether the node has taken it up to there."""

    def stamp(self) -> int:
        """The stamp of something that happens now."""


@dataclass(slots=True)
class _Wanted:
    """A message that is not here. `lacking`: nodes that do not have it either."""

    record: RetainedRecord
    lacking: set[str] = field(default_factory=set)


class RetainedMessages:
    """The retained messages of one node. `others`: the other members; `reachable`: those that can be reached."""

    def __init__(
        self,
        engine: EngineRetained,
        name: str,
        metadata: MetadataStore,
        requests: Requests,
        *,
        others: Callable[[], Sequence[str]],
        reachable: Callable[[], Sequence[str]],
    ) -> None:
        self._engine = engine
        self._name = name
        self._metadata = metadata
        self._requests = requests
        self._others = others
        self._reachable = reachable
        self._is_watching = False
        self._must_read_all = False
        self._due: set[RetainedTopic] = set()
        self._work = asyncio.Event()
        self._has_told = False
        self._wanted: dict[RetainedTopic, _Wanted] = {}
        self._look = asyncio.Event()
        self._is_fetching = self._is_writing = False
        self._released = asyncio.Event()
        self._released.set()
        self._fetched = self._refused = self._lost = 0
        metadata.watch(RETAINED_PREFIX, self._records_changed)
        requests.serve(REQUEST, self._asked_for)

    def series(self) -> list[Series]:
        """What is counted."""
        counts = (
            ("cluster_retained_fetched", self._fetched, "Retained messages that this node had missed and got."),
            ("cluster_retained_refused", self._refused, "Retained messages that it missed and could not keep."),
            ("cluster_retained_lost", self._lost, "Retained messages that no member had any more."),
        )
        missing = "Retained messages that this node knows of and has not got."
        return [
            *(Series(name, "counter", value, description) for name, value, description in counts),
            Series("cluster_retained_missing", "gauge", len(self._wanted), missing),
        ]

    # -- what happens around it ------------------------------------------------------------------------------

    def watch(self, *, watched: bool) -> None:
        """Whether there are other nodes to write records for."""
        if watched and not self._is_watching:
            self._must_read_all = True
            self._work.set()
        self._is_watching = watched
        self._engine.watch_retained(watched=watched)

    def hold(self, *, held: bool) -> None:
        """Whether nothing is told and nothing fetched for now."""
        if held:
            self._released.clear()
        else:
            self._released.set()

    @property
    def is_written(self) -> bool:
        """Whether all that this node has is told."""
        return not (self._must_read_all or self._due or self._is_writing)

    def changed(self) -> None:
        """Messages were changed here."""
        self._work.set()

    def reachable(self, node: str) -> None:
        """A node can be reached, and may have what others lack."""
        for wanted in self._wanted.values():
            wanted.lacking.discard(node)
        if self._wanted:
            self._look.set()

    @property
    def is_behind(self) -> bool:
        """Whether this node lacks messages that it can still get."""
        is_released = self._released.is_set()
        return self._is_watching and is_released and (self._must_read_all or self._look.is_set() or self._is_fetching)

    async def run(self) -> None:
        """Keep the records, and fetch what is missing. Ends when it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_records(), name="retained records")
            tasks.create_task(self._fetch_missing(), name="missing retained messages")
            tasks.create_task(self._sweep_records(), name="sweep of retained records")

    # -- records ---------------------------------------------------------------------------------------------

    def record(self, topic: RetainedTopic) -> RetainedRecord | None:
        """The record of a topic."""
        value = self._metadata.get(_key(topic))
        return None if value is None else _decoded(value)

    def _records(self) -> Iterator[list[tuple[RetainedTopic, RetainedRecord]]]:
        """All records, a page at a time."""
        after: bytes | None = None
        while page := self._metadata.scan(RETAINED_PREFIX, after=after, limit=PAGE):
            found = ((_topic(key), _decoded(value)) for key, value in page)
            yield [(topic, record) for topic, record in found if topic is not None and record is not None]
            after = page[-1][0]

    async def _write_records(self) -> None:
        while True:
            await self._work.wait()
            await self._released.wait()
            await asyncio.sleep(COALESCE_S)
            self._work.clear()
            self._is_writing = True
            try:
                if self._must_read_all and self._is_watching:
                    await self._read_all()
                    self._must_read_all = False
                await self._write_changes()
            except MetadataError as error:
                self._must_read_all = True
                if not self._has_told:
                    reason = str(error)
                    _log.warning("records of retained messages cannot be written, it is tried again", reason=reason)
                self._has_told = True
                await asyncio.sleep(RETRY_S)
                self._work.set()
            else:
                self._has_told = False
            finally:
                self._is_writing = False

    async def _read_all(self) -> None:
        """Write the records that are missing, and find the messages that are."""
        cursor: Cursor | None = None
        while True:
            page, cursor = self._engine.retained_page(cursor, PAGE)
            await self._put_all(RetainedTopic(mountpoint, topic) for mountpoint, topic, *_ in page)
            await asyncio.sleep(0)
            if cursor is None:
                break
        for records in self._records():
            for topic, record in records:
                self._compare(topic, record)
            await asyncio.sleep(0)

    async def _write_changes(self) -> None:
        while True:
            changes, must_read_all = self._engine.retained_changes(CHANGES_AT_ONCE)
            if must_read_all:
                self._must_read_all = True
                self._work.set()
            due, self._due = self._due, set()
            due.update(RetainedTopic(*change) for change in changes)
            if not due:
                return
            await self._put_all(due)

    async def _put_all(self, topics: "Iterator[RetainedTopic] | set[RetainedTopic]") -> None:
        records = ((topic, self._record_due(topic)) for topic in topics)
        await asyncio.gather(
            *(self._metadata.put(_key(topic), record.encode()) for topic, record in records if record is not None)
        )

    def _record_due(self, topic: RetainedTopic) -> RetainedRecord | None:
        """The record to be written of a topic; None where there is nothing to tell."""
        known, told = self._engine.known_retained(*topic), self.record(topic)
        if known is None:
            return None
        stamp, origin, is_deleted, expires_at = known
        if told is not None and (*told.message_name, told.is_deleted) >= (stamp, origin, is_deleted):
            return None
        if is_deleted and (told is None or told.is_deleted):
            # Nobody knows of a message.
            return None
        return RetainedRecord(stamp, origin, is_deleted, expires_at or 0, self._name)

    def _records_changed(self, events: Sequence[Event]) -> None:
        if not events:
            self._must_read_all = True
            self._work.set()
            return
        for event in events:
            topic = _topic(event.key)
            if event.origin is Origin.LOCAL or topic is None:
                continue
            if event.new is None:
                # What is swept was deleted, or has expired.
                for old in event.old:
                    record = _decoded(old)
                    if record is not None:
                        self._engine.forget_retained(*topic, *record.message_name)
                continue
            record = _decoded(event.new)
            if record is not None:
                self._compare(topic, record)

    def _compare(self, topic: RetainedTopic, record: RetainedRecord) -> None:
        """Have what a record tells here too."""
        known = self._engine.known_retained(*topic)
        here = (0, 0) if known is None else known[:2]
        is_deleted_here = known is not None and known[2]
        if record.is_deleted:
            if here <= record.message_name and not is_deleted_here:
                self._engine.forget_retained(*topic, *record.message_name)
        elif here < record.message_name:
            if not record.is_over(self._now_ms()):
                self._wanted[topic] = _Wanted(record)
                self._look.set()
        elif here > record.message_name and is_deleted_here:
            self._due.add(topic)
            self._work.set()

    # -- what is missing -------------------------------------------------------------------------------------

    async def _fetch_missing(self) -> None:
        while True:
            await self._look.wait()
            await self._released.wait()
            self._is_fetching = True
            self._look.clear()
            await asyncio.sleep(GRACE_S)
            try:
                while await self._ask_all():
                    pass
                await self._give_up_lost()
            except MetadataError as error:
                _log.warning("that retained messages are lost cannot be written", reason=str(error))
            except (NoAnswerError, RemoteError) as error:
                _log.info("missing retained messages are asked for again", reason=str(error))
                await asyncio.sleep(RETRY_S)
                if self._reachable():
                    self._look.set()
            finally:
                self._is_fetching = False

    async def _ask_all(self) -> bool:
        """Ask a node for each message that is missing; whether any was asked. Raises `NoAnswerError`, `RemoteError`."""
        plan: dict[str, list[RetainedTopic]] = {}
        reachable = self._reachable()
        for topic, wanted in list(self._wanted.items()):
            if self._is_here(topic, wanted):
                del self._wanted[topic]
                continue
            askable = [node for node in reachable if node not in wanted.lacking]
            if askable:
                node = wanted.record.node if wanted.record.node in askable else askable[0]
                plan.setdefault(node, []).append(topic)
        for node, topics in plan.items():
            for part in _parts(topics):
                await self._ask(node, part)
        return bool(plan)

    def _is_here(self, topic: RetainedTopic, wanted: _Wanted) -> bool:
        """Whether this message, or something later, is here."""
        known = self._engine.known_retained(*topic)
        return known is not None and known[:2] >= wanted.record.message_name

    async def _ask(self, node: str, topics: Sequence[RetainedTopic]) -> None:
        """Have a node send messages."""
        left = list(topics)
        while left:
            answer = await self._requests.ask(node, REQUEST, {"topics": left}, timeout_s=ANSWER_TIMEOUT_S)
            passed, lacking = answer.get("passed"), answer.get("lacking")
            if not isinstance(passed, int) or not isinstance(lacking, list) or not 0 < passed <= len(left):
                raise RemoteError(f"{node} gave an answer that cannot be read")
            for number, topic in enumerate(left[:passed]):
                wanted = self._wanted.get(topic)
                if wanted is None:
                    continue
                if self._is_here(topic, wanted):
                    self._fetched += 1
                    del self._wanted[topic]
                elif number in lacking:
                    wanted.lacking.add(node)
                else:
                    # It was sent and is not here: the limit is reached, or it has expired.
                    self._refused += 1
                    del self._wanted[topic]
            del left[:passed]

    async def _asked_for(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        topics = _topics(payload)
        lacking = []
        for number, topic in enumerate(topics):
            known = self._engine.known_retained(*topic)
            if known is None or known[2]:
                lacking.append(number)
        try:
            async with asyncio.timeout(TAKEN_TIMEOUT_S):
                while not (passed := await asyncio.to_thread(self._engine.send_retained, node, topics)):
                    if passed is None or node not in self._reachable():
                        raise RemoteError(f"{node} cannot be reached")
                    # Its lane is full.
                    await asyncio.sleep(LOOK_S)
                filled = self._engine.lane_filled(node)
                while not self._engine.lane_taken(node, filled):  # noqa: ASYNC110 - links do not tell of it
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise RemoteError(f"{node} did not take retained messages within {TAKEN_TIMEOUT_S:g} s") from None
        return {"passed": passed, "lacking": lacking}

    async def _give_up_lost(self) -> None:
        """A message that no member has any more is gone: it expired, or its deletion was not told in time."""
        others = set(self._others())
        lost = [topic for topic, wanted in self._wanted.items() if others and others <= wanted.lacking]
        for topic in lost:
            wanted = self._wanted.pop(topic)
            if self.record(topic) == wanted.record and not self._is_here(topic, wanted):
                record = wanted.record._replace(is_deleted=True, node=self._name)
                await self._metadata.put(_key(topic), record.encode())
        if lost:
            self._lost += len(lost)
            _log.warning("retained messages that no member has any more are given up", messages=len(lost))

    # -- what is over ----------------------------------------------------------------------------------------

    async def _sweep_records(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            try:
                await self.sweep()
            except MetadataError as error:
                _log.warning("records of retained messages cannot be deleted", reason=str(error))

    async def sweep(self) -> int:
        """Delete records that are of no use any more, how many. Raises `MetadataError`."""
        others = set(self._others())
        is_whole = others <= set(self._reachable())
        is_first = all(self._name < other for other in others)
        now_ms = self._now_ms()
        kept_ms = IN_FLIGHT_MS if is_whole else DELETED_KEPT_MS
        swept: list[RetainedTopic] = []
        deleted: list[tuple[int, RetainedTopic]] = []
        for records in self._records():
            for topic, record in records:
                is_mine = record.node == self._name or (is_first and record.node not in others)
                if not is_mine:
                    continue
                at_ms = record.stamp >> 16
                if record.is_over(now_ms - IN_FLIGHT_MS) or (record.is_deleted and at_ms < now_ms - kept_ms):
                    swept.append(topic)
                elif record.is_deleted:
                    deleted.append((at_ms, topic))
            await asyncio.sleep(0)
        deleted.sort()
        swept += [topic for _, topic in deleted[: max(len(deleted) - DELETED_MAX, 0)]]
        for begin in range(0, len(swept), CHANGES_AT_ONCE):
            part = swept[begin : begin + CHANGES_AT_ONCE]
            await asyncio.gather(*(self._metadata.delete(_key(topic)) for topic in part))
        return len(swept)

    def _now_ms(self) -> int:
        return self._engine.stamp() >> 16


def _key(topic: RetainedTopic) -> bytes:
    return RETAINED_PREFIX + b"\0".join(part.encode() for part in topic)


def _topic(key: bytes) -> RetainedTopic | None:
    mountpoint, zero, topic = key.removeprefix(RETAINED_PREFIX).partition(b"\0")
    try:
        return RetainedTopic(mountpoint.decode(), topic.decode()) if zero else None
    except UnicodeDecodeError:
        return None


def _decoded(value: bytes) -> RetainedRecord | None:
    try:
        return RetainedRecord.decode(value)
    except DamagedRetainedError as error:
        _log.error("the record of a retained message cannot be read", reason=str(error))
        return None


def _parts(topics: Sequence[RetainedTopic]) -> Iterator[list[RetainedTopic]]:
    """Topics for one request each."""
    part: list[RetainedTopic] = []
    size = 0
    for topic in topics:
        length = len(topic.mountpoint) + len(topic.topic)
        if part and (len(part) == TOPICS_A_REQUEST or size + length > REQUEST_BYTES):
            yield part
            part, size = [], 0
        part.append(topic)
        size += length
    if part:
        yield part


def _topics(payload: dict[str, Any]) -> list[RetainedTopic]:
    """Raises `RemoteError`."""
    given = payload.get("topics")
    if not isinstance(given, list) or not 0 < len(given) <= TOPICS_A_REQUEST:
        raise RemoteError("topics that cannot be read")
    topics = []
    for each in given:
        if not (isinstance(each, list) and len(each) == 2 and all(isinstance(part, str) for part in each)):
            raise RemoteError("a topic that cannot be read")
        topics.append(RetainedTopic(*each))
    return topics
