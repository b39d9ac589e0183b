"""What other nodes have told of their subscriptions, kept in the store of the engine over a restart.

A node that has just started knows what its peers subscribe to before the first of them can be reached, and holds what
is published meanwhile for them. What is kept may be old: when a link comes up the peer tells what holds now.

The key of a row has the node and the name of the route, its value how many members there are.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from strogoff._engine import StoreError
from strogoff.observe.logging import get_logger

__all__ = ["KEPT_PREFIX", "KeptRoutes", "Route", "RouteName"]

Route: TypeAlias = tuple[str, str, str | None, int, bool]
RouteName: TypeAlias = tuple[str, str, str | None]
Row: TypeAlias = tuple[bytes, bytes]

KEPT_PREFIX: Final = b"routes/"
ROWS_AT_ONCE: Final = 1_000

_END_OF_NODE: Final = b"\x00"
_AFTER_NODE: Final = b"\x01"

_log = get_logger("cluster.routes")


class EngineStore(Protocol):
    """What is needed of the engine."""

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[Row]:
        """A page of rows."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Change rows, all or none."""


class KeptRoutes:
    """The routes of all other nodes. A store that cannot be read or written costs what is kept, and is logged."""

    def __init__(self, store: EngineStore) -> None:
        self._store = store

    def of(self, node: str) -> Iterator[list[Route]]:
        """The routes of a node, in pages."""
        for rows in self._pages(_prefix(node)):
            yield [route for key, value in rows if (route := _read(key, value)) is not None]

    def change(self, node: str, add: Sequence[Route], gone: Sequence[RouteName]) -> None:
        """Take over what a node has told."""
        rows: list[tuple[bytes, bytes | None]] = [(_key(node, route[:3]), _value(route[3:])) for route in add]
        self._write(rows + [(_key(node, name), None) for name in gone])

    def replace(self, node: str, routes: Mapping[RouteName, tuple[int, bool]]) -> None:
        """A node has these routes and no others. Only what differs is written."""
        wanted = {_key(node, name): _value(members) for name, members in routes.items()}
        for rows in self._pages(_prefix(node)):
            self._write([(key, None) for key, _ in rows if key not in wanted])
            for key, value in rows:
                if wanted.get(key) == value:
                    del wanted[key]
        missing = list(wanted.items())
        for begin in range(0, len(missing), ROWS_AT_ONCE):
            self._write(missing[begin : begin + ROWS_AT_ONCE])

    def forget_but(self, nodes: Collection[str]) -> None:
        """Only these nodes are members: nothing is kept of others."""
        for node in list(self._nodes()):
            if node not in nodes:
                for rows in self._pages(_prefix(node)):
                    self._write([(key, None) for key, _ in rows])

    def _nodes(self) -> Iterator[str]:
        after: bytes | None = None
        while rows := self._scan(KEPT_PREFIX, after, 1):
            node = rows[0][0].removeprefix(KEPT_PREFIX).partition(_END_OF_NODE)[0]
            yield node.decode()
            after = KEPT_PREFIX + node + _AFTER_NODE

    def _pages(self, prefix: bytes) -> Iterator[list[Row]]:
        after: bytes | None = None
        while rows := self._scan(prefix, after, ROWS_AT_ONCE):
            after = rows[-1][0]
            yield rows

    def _scan(self, prefix: bytes, after: bytes | None, limit: int) -> list[Row]:
        try:
            return self._store.store_scan(prefix, after=after, limit=limit)
        except StoreError as error:
            _log.warning("what other nodes subscribe to cannot be read from the store", reason=str(error))
            return []

    def _write(self, changes: Sequence[tuple[bytes, bytes | None]]) -> None:
        if not changes:
            return
        try:
            self._store.store_write(changes)
        except StoreError as error:
            _log.warning("the store cannot keep what other nodes subscribe to", reason=str(error))


def _prefix(node: str) -> bytes:
    return KEPT_PREFIX + node.encode() + _END_OF_NODE


def _key(node: str, name: RouteName) -> bytes:
    return _prefix(node) + json.dumps(name, separators=(",", ":")).encode()


def _value(members: tuple[int, bool]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()


def _read(key: bytes, value: bytes) -> Route | None:
    """The route of a row, or None where another version of the program wrote it."""
    try:
        mountpoint, topic_filter, group = json.loads(key.partition(_END_OF_NODE)[2])
        members, is_online = json.loads(value)
    except ValueError:
        return None
    return mountpoint, topic_filter, group, members, is_online
