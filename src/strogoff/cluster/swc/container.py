"""The dotted causal container: the concurrent versions of one key, as they lie in memory, in the store, and on the
wire.

    versions = dot -> value, or None for a delete that some member has not heard of yet

Server Wide Clocks give each container a causal context of its own, fill it from the node clock to read, and strip it
to store. Here the context of every key *is* the node clock, with its gaps: a write is applied only when all that it
supersedes is seen (`State.apply`), and an exchange is applied as a whole, so nothing is ever superseded ahead of the
clock, no context is left over, and no tombstone has to carry one. `fill` and `strip` are the identity, and what is
left of `discard` is that a write names the dots that it supersedes.

A row is the only form of a container: a version count of one, which is nearly always, costs nine bytes beside the
value and one allocation.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from strogoff.cluster.swc.dots import ACTOR_MASK

__all__ = [
    "DELETED",
    "HEAD",
    "HEAD_SIZE",
    "LIVE",
    "DamagedRowError",
    "Versions",
    "decoded",
    "dots_of",
    "encoded",
    "live_values",
    "sync",
    "translated",
]

Versions: TypeAlias = dict[int, bytes | None]

LIVE: Final = 1
"""One version with a value, which is the rest of the row."""
DELETED: Final = 2
"""One version, a delete."""
SEVERAL: Final = 3
"""Concurrent versions: a count, for each its dot and length, and the values."""

HEAD: Final = struct.Struct("<BQ")
HEAD_SIZE: Final = HEAD.size
_COUNT: Final = struct.Struct("<BH")
_VERSION: Final = struct.Struct("<QI")
_NO_VALUE: Final = 0xFFFF_FFFF


class DamagedRowError(ValueError):
    """Bytes that are no row."""


def encoded(versions: Mapping[int, bytes | None]) -> bytes:
    """The row of one version or more, in the order of their dots: equal versions make equal rows."""
    if len(versions) == 1:
        ((dot, value),) = versions.items()
        return HEAD.pack(DELETED, dot) if value is None else HEAD.pack(LIVE, dot) + value
    parts = [_COUNT.pack(SEVERAL, len(versions))]
    ordered = sorted(versions.items(), key=lambda version: version[0])
    parts += [_VERSION.pack(dot, _NO_VALUE if value is None else len(value)) for dot, value in ordered]
    parts += [value for _, value in ordered if value is not None]
    return b"".join(parts)


def decoded(row: bytes) -> Versions:
    """The versions of a row. Raises `DamagedRowError`."""
    try:
        kind = row[0]
        if kind == LIVE:
            return {HEAD.unpack_from(row)[1]: row[HEAD_SIZE:]}
        if kind == DELETED and len(row) == HEAD_SIZE:
            return {HEAD.unpack_from(row)[1]: None}
        if kind == SEVERAL:
            return _several(row)
    except (struct.error, IndexError):
        pass
    raise DamagedRowError("bytes that are no row of versions")


def _several(row: bytes) -> Versions:
    _, count = _COUNT.unpack_from(row)
    at = _COUNT.size + count * _VERSION.size
    versions: Versions = {}
    if count > 1 and at <= len(row):
        for dot, length in _VERSION.iter_unpack(row[_COUNT.size : at]):
            if length == _NO_VALUE:
                versions[dot] = None
            else:
                versions[dot] = row[at : at + length]
                at += length
        if at == len(row) and len(versions) == count:
            return versions
    raise DamagedRowError("bytes that are no row of several versions")


def dots_of(row: bytes) -> tuple[int, ...]:
    """The dots of a row."""
    if row[0] != SEVERAL:
        return (HEAD.unpack_from(row)[1],)
    return tuple(decoded(row))


def live_values(row: bytes | None) -> tuple[bytes, ...]:
    """The values of a row without its deletes, in an order that does not depend on who asks."""
    if row is None or row[0] == DELETED:
        return ()
    if row[0] == LIVE:
        return (row[HEAD_SIZE:],)
    return tuple(sorted(value for value in decoded(row).values() if value is not None))


def translated(row: bytes, indices: Mapping[int, int]) -> bytes:
    """A peer's row with this replica's indices of actors. Raises `KeyError` for an index that has none."""
    kind = row[0]
    if kind != SEVERAL:
        dot = HEAD.unpack_from(row)[1]
        actor = dot & ACTOR_MASK
        ours = indices[actor]
        return row if ours == actor else HEAD.pack(kind, dot ^ actor ^ ours) + row[HEAD_SIZE:]
    versions = decoded(row)
    return encoded({dot ^ (dot & ACTOR_MASK) ^ indices[dot & ACTOR_MASK]: value for dot, value in versions.items()})


def sync(
    ours: Mapping[int, bytes | None],
    seen_here: Callable[[int], bool],
    theirs: Mapping[int, bytes | None],
    seen_there: Callable[[int], bool],
) -> Versions:
    """The join of two containers: what both have, and what one has and the other has not seen (DAIS 2015 §4.2)."""
    versions = {dot: value for dot, value in ours.items() if dot in theirs or not seen_there(dot)}
    versions.update({dot: value for dot, value in theirs.items() if dot not in ours and not seen_here(dot)})
    return versions
