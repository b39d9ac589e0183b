"""What replicas say to each other, as values and as bytes.

    Broadcast        new writes of the sender, to every member
    PullRequest      what I have; give me what I lack, from this position on
    PullAnswer       a page of it; the last one says what you have when you have applied them all
    PullRefusal      why there is none

Every message carries the actors that it mentions; the indices in it are the sender's. A message that decodes is
well-formed: indices are in its table, rows are rows, counters are in range. Rows are passed through undecoded.
"""

import enum
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from strogoff.cluster.swc.clock import Entry
from strogoff.cluster.swc.container import DELETED, HEAD, HEAD_SIZE, LIVE, DamagedRowError, decoded
from strogoff.cluster.swc.dots import ACTOR_MASK, COUNTER_MAX, COUNTER_SHIFT, Actor
from strogoff.cluster.swc.limits import KEY_BYTES_MAX
from strogoff.cluster.swc.wire import DecodeError, Reader, actors_bytes, columns_bytes, entries_bytes

__all__ = [
    "VERSION",
    "Broadcast",
    "Item",
    "Message",
    "PageState",
    "PullAnswer",
    "PullRefusal",
    "PullRequest",
    "RefusalReason",
    "broadcast_bytes",
    "decode",
    "encode",
    "item_bytes",
]

VERSION: Final = 1

Actors: TypeAlias = Mapping[int, Actor]
Item: TypeAlias = tuple[bytes, bytes | None, tuple[int, ...]]
"""A key, its new value or None for a delete, and the dots that are superseded."""

_HEAD: Final = struct.Struct("<BB")
_FIRST: Final = struct.Struct("<HQI")
_ITEM: Final = struct.Struct("<HIH")
_DOT: Final = struct.Struct("<Q")
_REQUEST: Final = struct.Struct("<QQIBQ")
_ANSWER: Final = struct.Struct("<QQIIBB")
_REFUSAL: Final = struct.Struct("<QB")
_ROW: Final = struct.Struct("<HI")
_NO_VALUE: Final = 0xFFFF_FFFF


class PageState(enum.IntEnum):
    """What follows a page."""

    MORE = 0
    LAST = 1
    TOO_OLD = 2
    """Nothing: what the asker lacks was collected here. It has to ask for everything."""


class RefusalReason(enum.IntEnum):
    """Why nothing is given."""

    NOT_A_MEMBER = 0
    """The peer does not know the asker as a member, not yet or no longer."""
    GONE = 1
    """The peer does not know this exchange any more; begin again."""
    BUSY = 2
    """The peer gives to as many as it can."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Writes of the actor with the index `sender`, in their order, with the counters from `first` on."""

    actors: Actors
    sender: int
    first: int
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class PullRequest:
    """`whole`: everything, whatever the clock says. `retired`: actors of the clock that are no members to the sender.

    `giving`: the giver's number of this exchange, 0 before the first answer. A request for the first page may come
    twice, and the giver may have started anew in between; then it has another list, in which positions mean something
    else.
    """

    actors: Actors
    exchange: int
    giving: int
    position: int
    whole: bool
    past_digest: int
    clock: Mapping[int, Entry]
    retired: frozenset[int]
    columns: Mapping[int, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PullAnswer:
    """The page from `position` up to `following`, keys with their rows. `past`: None when the asker has the same.

    `floors`: which dots of each actor may have been collected at the sender.
    """

    actors: Actors
    exchange: int
    giving: int
    position: int
    following: int
    state: PageState
    clock: Mapping[int, Entry]
    retired: frozenset[int]
    floors: Mapping[int, Entry]
    past: Mapping[int, Entry] | None = None
    columns: Mapping[int, Mapping[int, int]] = field(default_factory=dict)
    rows: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class PullRefusal:
    """No page."""

    exchange: int
    reason: RefusalReason


Message: TypeAlias = Broadcast | PullRequest | PullAnswer | PullRefusal

_Kind = TypeVar("_Kind", bound=enum.IntEnum)

_BROADCAST, _PULL_REQUEST, _PULL_ANSWER, _PULL_REFUSAL = range(1, 5)


def item_bytes(key: bytes, value: bytes | None, superseded: tuple[int, ...]) -> bytes:
    """One item of a broadcast. Made when it is written, so that nothing has to be kept to make it of later."""
    head = _ITEM.pack(len(key), _NO_VALUE if value is None else len(value), len(superseded))
    if superseded:
        head += b"".join([_DOT.pack(dot) for dot in superseded])
    return head + key if value is None else head + key + value


def broadcast_bytes(actors: Iterable[tuple[int, Actor]], sender: int, first: int, items: Sequence[bytes]) -> bytes:
    """A broadcast of items that are encoded."""
    head = _HEAD.pack(VERSION, _BROADCAST) + actors_bytes(actors) + _FIRST.pack(sender, first, len(items))
    return head + b"".join(items)


def encode(message: Message) -> bytes:
    """The bytes of a message."""
    match message:
        case Broadcast():
            items = [item_bytes(*item) for item in message.items]
            return broadcast_bytes(message.actors.items(), message.sender, message.first, items)
        case PullRequest():
            return b"".join(
                (
                    _HEAD.pack(VERSION, _PULL_REQUEST),
                    actors_bytes(message.actors.items()),
                    _request_bytes(message),
                    entries_bytes(message.clock, message.retired),
                    columns_bytes(message.columns),
                )
            )
        case PullAnswer():
            return _answer_bytes(message)
        case PullRefusal():
            return _HEAD.pack(VERSION, _PULL_REFUSAL) + _REFUSAL.pack(message.exchange, message.reason)


def _request_bytes(message: PullRequest) -> bytes:
    return _REQUEST.pack(message.exchange, message.giving, message.position, message.whole, message.past_digest)


def _answer_bytes(message: PullAnswer) -> bytes:
    past = message.past
    page = (message.position, message.following, message.state, past is not None)
    parts = [
        _HEAD.pack(VERSION, _PULL_ANSWER),
        actors_bytes(message.actors.items()),
        _ANSWER.pack(message.exchange, message.giving, *page),
        entries_bytes(message.clock, message.retired),
        entries_bytes(message.floors),
        b"" if past is None else entries_bytes(past),
        columns_bytes(message.columns),
    ]
    pack = _ROW.pack
    for key, row in message.rows:
        parts += (pack(len(key), len(row)), key, row)
    return b"".join(parts)


def decode(data: bytes) -> Message:
    """The message of these bytes. Raises `DecodeError` and nothing else, whatever the bytes are."""
    reader = Reader(data)
    version, kind = reader.take(_HEAD)
    if version != VERSION:
        raise DecodeError(f"version {version}, where {VERSION} is spoken")
    if kind == _PULL_REFUSAL:
        exchange, number = reader.take(_REFUSAL)
        reader.end()
        return PullRefusal(exchange, _member(RefusalReason, number))
    if kind == _BROADCAST:
        return _broadcast(reader, reader.actors())
    if kind == _PULL_REQUEST:
        return _pull_request(reader, reader.actors())
    if kind == _PULL_ANSWER:
        return _pull_answer(reader, reader.actors())
    raise DecodeError(f"a message of the unknown kind {kind}")


def _member(kind: type[_Kind], number: int) -> _Kind:
    try:
        return kind(number)
    except ValueError:
        raise DecodeError(f"{number} is no {kind.__name__}") from None


def _broadcast(reader: Reader, actors: Actors) -> Broadcast:
    sender, first, count = reader.take(_FIRST)
    data, at, size = reader.data, reader.at, len(reader.data)
    if sender not in actors or first < 1 or first + count > COUNTER_MAX or count * _ITEM.size > size - at:
        raise DecodeError("a broadcast of nobody, or of more than it holds")
    items: list[Item] = []
    unpack = _ITEM.unpack_from
    try:
        for _ in range(count):
            key_size, value_size, superseded_count = unpack(data, at)
            at += _ITEM.size
            superseded: tuple[int, ...] = ()
            if superseded_count:
                end = at + superseded_count * _DOT.size
                superseded = tuple([dot for (dot,) in _DOT.iter_unpack(data[at:end])])
                _check_dots(superseded, actors)
                if len(superseded) != superseded_count:
                    raise DecodeError("a broadcast ends early")
                at = end
            key = data[at : at + key_size]
            at += key_size
            if value_size == _NO_VALUE:
                items.append((key, None, superseded))
            else:
                items.append((key, data[at : at + value_size], superseded))
                at += value_size
            if at > size:
                raise DecodeError("a broadcast ends early")
    except struct.error:
        raise DecodeError("a broadcast ends early") from None
    if at != size:
        raise DecodeError("something follows a broadcast")
    return Broadcast(actors, sender, first, items)


def _check_dots(dots: Iterable[int], actors: Actors) -> None:
    for dot in dots:
        if dot & ACTOR_MASK not in actors or not 1 <= dot >> COUNTER_SHIFT <= COUNTER_MAX:
            raise DecodeError("a dot of nobody")


def _pull_request(reader: Reader, actors: Actors) -> PullRequest:
    exchange, giving, position, whole, past_digest = reader.take(_REQUEST)
    if whole > 1:
        raise DecodeError("a flag that is neither")
    clock, retired = reader.entries(actors)
    columns = reader.columns(actors)
    reader.end()
    return PullRequest(actors, exchange, giving, position, bool(whole), past_digest, clock, retired, columns)


def _pull_answer(reader: Reader, actors: Actors) -> PullAnswer:
    exchange, giving, position, following, number, with_past = reader.take(_ANSWER)
    state = _member(PageState, number)
    if with_past > 1 or following < position:
        raise DecodeError("a page that no replica makes")
    clock, retired = reader.entries(actors)
    floors = reader.entries(actors)[0]
    past = reader.entries(actors)[0] if with_past else None
    columns = reader.columns(actors)
    rows = _rows(reader.data, reader.at, actors)
    return PullAnswer(actors, exchange, giving, position, following, state, clock, retired, floors, past, columns, rows)


def _rows(data: bytes, at: int, actors: Actors) -> list[tuple[bytes, bytes]]:
    rows: list[tuple[bytes, bytes]] = []
    size = len(data)
    try:
        while at < size:
            key_size, row_size = _ROW.unpack_from(data, at)
            at += _ROW.size
            key = data[at : at + key_size]
            at += key_size
            row = data[at : at + row_size]
            at += row_size
            kind = row[0]
            if kind == LIVE or (kind == DELETED and row_size == HEAD_SIZE):
                dot = HEAD.unpack_from(row)[1]
                if dot & ACTOR_MASK not in actors or not 1 <= dot >> COUNTER_SHIFT <= COUNTER_MAX:
                    raise DecodeError("a row of nobody")
            else:
                _check_dots(decoded(row), actors)
            rows.append((key, row))
    except (struct.error, IndexError, DamagedRowError):
        raise DecodeError("a row that no replica writes") from None
    if at != size:
        raise DecodeError("a page ends early")
    return rows


assert KEY_BYTES_MAX < 1 << 16, "the length of a key takes two bytes"
