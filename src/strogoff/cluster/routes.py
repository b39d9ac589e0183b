"""What this node subscribes to, told to the other nodes, and what they have told.

A node tells each other one all that it subscribes to, in pages, and from then on what changes. All of it is a *stream*
with messages numbered from 0, so the other side sees when one is missing, and asks for a new stream. When a link comes
back and nothing has changed meanwhile the stream goes on: a check, which also comes every few seconds, finds out
whether both sides are where they think they are.

The engine has the routes, its own and those of others; here is only how far streams are. Those of others are kept in
the store as well (`kept_routes`), for the time between a start and the first stream. The engine says what is so at the
moment that it is asked, so whatever is told later is newer, and a page never takes back a change.

Messages are JSON on the metadata lane:

    begin   a new stream; then pages follow, and changes between them
    page    routes: [mountpoint, filter, group or null, members, whether one is connected]
    end     that was all; what was not told in this stream is not there any more
    change  routes, as above; members 0 for such that are no more
    check   the number of the next message
    ask     send a new stream
"""

import asyncio
import json
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from strogoff.cluster.kept_routes import KeptRoutes, Route, RouteName
from strogoff.observe.logging import get_logger

__all__ = ["Routes", "is_about_routes"]

Cursor: TypeAlias = tuple[str, int]

VERSION: Final = 1
PREFIX: Final = b'{"routes":'
ROUTES_A_MESSAGE: Final = 1_000
MESSAGE_BYTES: Final = 256 * 1_024
"""Bytes of names in a message, from which on the rest goes with the next."""
CHECK_INTERVAL_S: Final = 5.0
RETRY_S: Final = 0.2
"""Pause before a stream begins anew that the link did not take."""
MEMBERS_MAX: Final = 2**32 - 1
ROUTES_OF_A_NODE_MAX: Final = 10_000_000
"""What one node may tell; a node that tells more is not believed."""

_log = get_logger("cluster.routes")


class EngineRoutes(Protocol):
    """What is needed of the engine."""

    def local_routes(self, *, after: Cursor | None = None, limit: int = 1_000) -> tuple[list[Route], Cursor | None]:
        """A page of what this node subscribes to, and where the next begins."""

    def route_changes(self, limit: int = 1_000) -> tuple[list[Route], bool]:
        """What has changed, and whether all has to be read anew."""

    def set_routes(
        self, peer: str, *, add: Sequence[Route] = (), remove: Sequence[RouteName] = (), replace: bool = False
    ) -> int | None:
        """Take over what a peer has told."""


def is_about_routes(data: bytes) -> bool:
    """Whether a message on the metadata lane is for `Routes`."""
    return data.startswith(PREFIX)


@dataclass(slots=True)
class _Telling:
    """The stream to one node. `cursor`: how far the pages are; `is_listing`: there are more."""

    is_up: bool = False
    is_intact: bool = False
    """The other side has all of the stream, as far as is known here."""
    stream: int = 0
    next_seq: int = 0
    is_listing: bool = False
    cursor: Cursor | None = None


@dataclass(slots=True)
class _Hearing:
    """The stream from one node. `told`: all of it so far, until its pages have come to their end."""

    stream: int | None = None
    next_seq: int = 0
    is_complete: bool = False
    """All of an earlier stream is here, or all of this one."""
    told: dict[RouteName, tuple[int, bool]] | None = field(default=None, repr=False)
    is_asked: bool = False


class Routes:
    """`send`: hands a message to the metadata lane of a node; False when that is down or full."""

    def __init__(self, engine: EngineRoutes, kept: KeptRoutes, send: Callable[[str, bytes], bool]) -> None:
        self._engine = engine
        self._kept = kept
        self._send = send
        self._members: set[str] = set()
        self._telling: dict[str, _Telling] = {}
        self._hearing: dict[str, _Hearing] = {}
        self._work = asyncio.Event()
        self._random = random.SystemRandom()

    # -- what happens around it ------------------------------------------------------------------------------

    def reachable(self, node: str) -> None:
        """The link to a node works."""
        telling = self._telling.setdefault(node, _Telling())
        telling.is_up = True
        if telling.is_intact:
            self._check(node, telling)
        self._work.set()

    def unreachable(self, node: str) -> None:
        """It does not. What the node has told stays: messages for it are kept for a while."""
        telling = self._telling.get(node)
        if telling is None:
            return
        telling.is_up = False
        if telling.is_listing:
            telling.is_intact = telling.is_listing = False

    def keep(self, nodes: Collection[str]) -> None:
        """The members are these: what is known of others is forgotten, as the engine does.

        Of one that is new here there may be routes from before a restart.
        """
        for known in (self._telling, self._hearing):
            for node in set(known) - set(nodes):
                del known[node]
        self._kept.forget_but(nodes)
        for node in set(nodes) - self._members:
            for page in self._kept.of(node):
                self._engine.set_routes(node, add=page)
        self._members = set(nodes)

    def is_complete(self, node: str) -> bool:
        """Whether all that a node subscribes to is known here, as it was when it last told all of it, or later."""
        return node in self._hearing and self._hearing[node].is_complete

    def position(self, node: str) -> tuple[int, int] | None:
        """How far the stream to a node is; None while not all of it is told."""
        telling = self._telling.get(node)
        if telling is None or not telling.is_intact or telling.is_listing:
            return None
        return telling.stream, telling.next_seq

    def has_heard(self, node: str, position: tuple[int, int]) -> bool:
        """Whether the stream of a node has come as far. A later one has all of an earlier one when it is complete."""
        hearing = self._hearing.get(node)
        if hearing is None or hearing.told is not None:
            return False
        return hearing.stream != position[0] or hearing.next_seq >= position[1]

    def changed(self) -> None:
        """Subscriptions of this node have changed. The other nodes are told at once."""
        while True:
            changes, must_begin_anew = self._engine.route_changes(ROUTES_A_MESSAGE)
            if must_begin_anew:
                _log.warning("too many subscriptions have changed at once: the other nodes are told all of them anew")
                for telling in self._telling.values():
                    telling.is_intact = telling.is_listing = False
                self._work.set()
            if not changes:
                return
            for node, telling in self._telling.items():
                if not telling.is_intact:
                    continue
                if telling.is_up:
                    self._tell(node, telling, "change", changes)
                else:
                    telling.is_intact = False

    async def run(self) -> None:
        """Tell nodes all that there is, a page at a time, and check streams. Ends when it is cancelled."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_INTERVAL_S
        while True:
            if loop.time() >= check_at:
                check_at = loop.time() + CHECK_INTERVAL_S
                for node, telling in self._telling.items():
                    if telling.is_up and telling.is_intact:
                        self._check(node, telling)
            pause = check_at - loop.time()
            for node in list(self._telling):
                if not self._step(node):
                    pause = min(pause, RETRY_S)
            if any(telling.is_listing for telling in self._telling.values()):
                # Others have their turn between two pages.
                await asyncio.sleep(0)
                continue
            await self._wait(pause)

    async def _wait(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(max(pause_s, 0.001)):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    # -- telling ---------------------------------------------------------------------------------------------

    def _step(self, node: str) -> bool:
        """Tell a node the next page, if there is one to tell. False: the link did not take it."""
        telling = self._telling.get(node)
        if telling is None or not telling.is_up:
            return True
        if not telling.is_intact:
            telling.stream, telling.next_seq, telling.cursor = self._random.getrandbits(48), 0, None
            telling.is_intact = telling.is_listing = True
            self._tell(node, telling, "begin", [])
        if telling.is_listing:
            # What has changed so far goes before the page, which is newer.
            self.changed()
            self._tell_page(node, telling)
        return telling.is_intact

    def _tell_page(self, node: str, telling: _Telling) -> None:
        if not telling.is_listing:
            return
        page, telling.cursor = self._engine.local_routes(after=telling.cursor, limit=ROUTES_A_MESSAGE)
        if self._tell(node, telling, "page", page) and telling.cursor is None:
            self._tell(node, telling, "end", [])
            telling.is_listing = False

    def _tell(self, node: str, telling: _Telling, kind: str, routes: Sequence[Route]) -> bool:
        """Send routes with as many messages as it takes. False: the link has not taken them: the stream is broken."""
        for part in _parts(routes):
            if not self._send(node, _encode(kind, telling.stream, telling.next_seq, part)):
                telling.is_intact = telling.is_listing = False
                return False
            telling.next_seq += 1
        return True

    def _check(self, node: str, telling: _Telling) -> None:
        # It may get lost: the next one comes soon.
        self._send(node, _encode("check", telling.stream, telling.next_seq, []))

    def _asked(self, node: str, stream: int) -> None:
        telling = self._telling.get(node)
        if telling is None or (telling.is_listing and stream != telling.stream):
            # A new stream is on its way already.
            return
        telling.is_intact = telling.is_listing = False
        self._work.set()

    # -- hearing ---------------------------------------------------------------------------------------------

    def receive(self, node: str, data: bytes) -> None:
        """A message of a node has come."""
        try:
            message = json.loads(data)
            if message["routes"] != VERSION:
                raise ValueError(f"version {message['routes']}")
            self._hear(node, str(message["kind"]), int(message["stream"]), int(message["seq"]), message["list"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            _log.error("a message of a peer was dropped", peer=node, reason=f"it cannot be read: {error!r}")

    def _hear(self, node: str, kind: str, stream: int, seq: int, routes: Any) -> None:
        hearing = self._hearing.setdefault(node, _Hearing())
        if kind == "ask":
            self._asked(node, stream)
        elif kind == "begin":
            self._hearing[node] = _Hearing(stream, 1, hearing.is_complete, {})
        elif (stream, seq) != (hearing.stream, hearing.next_seq):
            if kind == "check" or not hearing.is_asked:
                hearing.is_asked = self._send(node, _encode("ask", stream, 0, []))
        elif kind != "check":
            self._go_on(node, hearing, kind, routes)

    def _go_on(self, node: str, hearing: _Hearing, kind: str, routes: Any) -> None:
        """The next message of a stream has come."""
        told = [_route(each) for each in routes]
        hearing.next_seq += 1
        add = [route for route in told if route[3] > 0]
        gone = [route[:3] for route in told if route[3] == 0]
        if hearing.told is not None:
            hearing.told.update((route[:3], route[3:]) for route in add)
            for name in gone:
                hearing.told.pop(name, None)
        if kind == "end" and hearing.told is not None:
            told_in_all = hearing.told
            hearing.told, hearing.is_complete = None, True
            if self._take(node, [(*name, *members) for name, members in told_in_all.items()], [], replace=True):
                self._kept.replace(node, told_in_all)
        elif hearing.told is not None and len(hearing.told) > ROUTES_OF_A_NODE_MAX:
            _log.error("a node tells of too many routes: the rest is passed over", peer=node, routes=len(hearing.told))
            del self._hearing[node]
        elif told and self._take(node, add, gone, replace=False) and hearing.told is None:
            self._kept.change(node, add, gone)

    def _take(self, node: str, add: Sequence[Route], gone: Sequence[RouteName], *, replace: bool) -> bool:
        """Hand routes to the engine. False: the node is no member."""
        unsound = self._engine.set_routes(node, add=add, remove=gone, replace=replace)
        if unsound is None:
            # It is no member, or not yet: it will be asked to tell all of it again.
            self._hearing.pop(node, None)
            return False
        if unsound:
            _log.error("routes of a peer were passed over: they are none", peer=node, routes=unsound)
        return True


def _route(each: Any) -> Route:
    mountpoint, topic_filter, group, members, is_online = each
    if not (isinstance(mountpoint, str) and isinstance(topic_filter, str) and isinstance(group, str | None)):
        raise TypeError(f"{each!r} is no route")
    if not (isinstance(members, int) and 0 <= members <= MEMBERS_MAX):
        raise TypeError(f"{members!r} is no number of members")
    return mountpoint, topic_filter, group, members, bool(is_online)


def _parts(routes: Sequence[Route]) -> Iterator[Sequence[Route]]:
    """Parts of bounded size, at least one."""
    begin = size = 0
    for end, (mountpoint, topic_filter, group, *_) in enumerate(routes):
        if size > MESSAGE_BYTES:
            yield routes[begin:end]
            begin, size = end, 0
        size += len(mountpoint) + len(topic_filter) + len(group or "")
    yield routes[begin:]


def _encode(kind: str, stream: int, seq: int, routes: Sequence[Route]) -> bytes:
    message = {"routes": VERSION, "kind": kind, "stream": stream, "seq": seq, "list": routes}
    return json.dumps(message, separators=(",", ":")).encode()
