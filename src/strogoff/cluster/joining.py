"""How a node joins: what it holds is looked at first; then it comes to a member as a guest, asks, and becomes a member.

What a join has begun is noted in the store (`guard/begun.py`), and gone on with until it is done, also after a crash: a
node that was let in settles what it and the cluster both have (`guard/settling.py`). A node that has to begin anew for
the join, or with an empty store, starts again, and joins then.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, TypeVar

from strogoff import _engine, version
from strogoff._engine import PeerInfo, StoreError
from strogoff.cluster.admitting import request_to_join
from strogoff.cluster.guard.begun import Begun, Step, forget_begun, note_begun
from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.guard.outcome import Joined, Outlook, PeerSays
from strogoff.cluster.guard.policy import Course, Policy, course, refusal
from strogoff.cluster.guard.resolution import Settled
from strogoff.cluster.guard.settling import Settling
from strogoff.cluster.members import Member
from strogoff.cluster.membership import Membership
from strogoff.cluster.metadata import MetadataError
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.cluster.swc_store import ExchangeError
from strogoff.observe.logging import get_logger
from strogoff.store.archive import BackupError
from strogoff.store.node_store import StoreCareError

__all__ = [
    "LINK_TIMEOUT_S",
    "ClusterError",
    "JoinContext",
    "Joining",
    "address_of",
    "obstacle",
]

DEFAULT_PORT: Final = 44053
DEFAULT_TLS_PORT: Final = 44054
JOIN_TIMEOUT_S: Final = 30.0
LINK_TIMEOUT_S: Final = 10.0
"""For an answer over a link, and for the link itself."""
LOOK_S: Final = 0.05
FLUSH_S: Final = 0.5
"""The answer to whoever asked goes out before this node starts again."""
RETRY_S: Final = 1.0
RETRY_MAX_S: Final = 30.0

Asked = TypeVar("Asked")

_log = get_logger("cluster")


class ClusterError(Exception):
    """A command of the cluster cannot be carried out. The message says which node refuses, why, and what to do."""


class UnfinishedError(ClusterError):
    """Another node has let this one join, and this one could not write that down."""


class Store(Protocol):
    """What is needed of the store of the node."""

    async def archive(self, what: str) -> Path:
        """Write a backup into the data directory."""

    def plan_reset(self, name: str, address: str, holdings: Sequence[str]) -> Path:
        """Have the store archived and emptied at the next start."""


@dataclass(frozen=True, slots=True)
class JoinContext:
    """What a join needs of the node. `policy`: what becomes of what the node holds, where a join does not say.
    `internal`: what the broker and its plugins have for themselves, in words.
    """

    store: Store
    policy: Callable[[], Policy]
    internal: Callable[[], Sequence[str]]


class Joining:
    """How this node joins.

    `inventory`: what this node holds. `joined`: called with the node through which this one has joined, and the names
    of all members, before they are followed. `start_again`: called, with the reason, when the node has to.
    """

    def __init__(
        self,
        engine: _engine.Engine,
        membership: Membership,
        *,
        context: JoinContext,
        inventory: Callable[[], Awaitable[Inventory]],
        joined: Callable[[str, list[str]], None],
        start_again: Callable[[str], None],
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._name, self._terms = membership.name, membership.terms
        self._store = context.store
        self._inventory = inventory
        self._policy = context.policy
        self._joined = joined
        self._start_again = start_again
        self._settling: Settling | None = None
        self._begun: Begun | None = None
        self._work = asyncio.Event()
        self._is_done = asyncio.Event()
        self._is_done.set()
        self._waiting: list[asyncio.Future[list[Settled]]] = []

    def begin(self, settling: Settling, begun: Begun | None) -> None:
        """The node has begun. `begun`: a join that it was in the middle of when it ended."""
        self._settling = settling
        if begun is not None:
            settling.hold(held=True)
            self._go_on_with(begun)

    @property
    def is_under_way(self) -> bool:
        """Whether a join was begun that is not done."""
        return self._begun is not None

    async def done(self, timeout_s: float) -> None:
        """Wait until no join is under way, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._is_done.wait()

    async def join(self, target: str, *, policy: Policy | None = None) -> Joined:
        """Join the cluster of a node, NAME@HOST or NAME@HOST:PORT. `policy`: what becomes of what this node holds; as
        configured by default.

        Raises `ClusterError`. Nothing has changed then, unless the message says that the node has joined: then the rest
        goes on by itself. Where the answer says that the node starts again the join goes on after that.
        """
        return await self.join_at(*self._address_of(target), policy=policy)

    async def join_at(self, name: str, address: str, *, policy: Policy | None = None) -> Joined:
        """As `join`, for a node whose name says nothing about its address, HOST:PORT."""
        chosen = self._policy() if policy is None else policy
        archive: Path | None = None
        async with self._membership.changing:
            self._check_alone()
            inventory = await self._inventory()
            begun = Begun(name, address, chosen)
            match course(inventory, chosen):
                case Course.REFUSE:
                    reason = refusal(self._name, inventory)
                    _log.warning("refused to join a cluster", through=name, reason=reason)
                    raise ClusterError(reason)
                case Course.RESET:
                    return await self._reset(begun, inventory)
                case Course.BEGIN_ANEW:
                    return await self._begin_anew(begun, archives=bool(inventory.of_clients))
                case Course.JOIN:
                    archive = await self._enter(begun, archives=bool(inventory.of_clients))
            done: asyncio.Future[list[Settled]] = asyncio.get_running_loop().create_future()
            self._waiting.append(done)
        return Joined(name, await done, archive)

    async def look(self, target: str, *, policy: Policy | None = None) -> Outlook:
        """What a join through a node would meet, here and there. Changes nothing. Raises `ClusterError` for a target
        that is none.
        """
        name, address = self._address_of(target)
        chosen = self._policy() if policy is None else policy
        async with self._membership.changing:
            inventory = await self._inventory()
            try:
                self._check_alone()
            except ClusterError as error:
                return Outlook(inventory, PeerSays(name, "it was not asked"), chosen, str(error))
            try:
                says = await self._come_as_guest(name, address, self._ask_what_a_join_would_meet)
            except ClusterError as error:
                says = PeerSays(name, str(error))
        return Outlook(inventory, says, chosen)

    async def run(self) -> None:
        """Go on with a join that was begun until it is done. Ends when it is cancelled."""
        patience_s = RETRY_S
        while True:
            await self._work.wait()
            begun = self._begun
            if begun is None:
                # It was given up before its turn came here.
                continue
            try:
                settled = await self._finish(begun)
            except (ClusterError, StoreError) as error:
                self._tell(error)
                await asyncio.sleep(patience_s)
                patience_s = min(2 * patience_s, RETRY_MAX_S)
            else:
                patience_s = RETRY_S
                if settled is not None:
                    for done in self._take_waiting():
                        done.set_result(settled)

    # -- by policy -------------------------------------------------------------------------------------------

    async def _reset(self, begun: Begun, inventory: Inventory) -> Joined:
        await self._have_agreed(begun)
        holdings = [str(holding) for holding in inventory.holdings if holding.count]
        try:
            archive = await asyncio.to_thread(self._store.plan_reset, begun.name, begun.address, holdings)
        except OSError as error:
            raise ClusterError(
                f"{self._name} cannot note the reset: {error.strerror or error}; nothing has changed"
            ) from None
        for holding in holdings:
            _log.notice("to be archived before this node joins a cluster empty", what=holding, file=archive)
        return self._soon(begun, archive, "it joins a cluster empty")

    async def _begin_anew(self, begun: Begun, *, archives: bool) -> Joined:
        await self._have_agreed(begun)
        archive = await self._archive() if archives else None
        anew = dataclasses.replace(begun, step=Step.ANEW, archive=str(archive or ""))
        try:
            await asyncio.to_thread(note_begun, self._engine, anew)
        except StoreError as error:
            raise ClusterError(f"{self._name} cannot note the join: {error}; nothing has changed") from None
        return self._soon(begun, archive, "it joins a cluster without the metadata of the one that it was in")

    async def _have_agreed(self, begun: Begun) -> None:
        says = await self._come_as_guest(begun.name, begun.address, self._ask_what_a_join_would_meet)
        if says.problem:
            raise ClusterError(f"{begun.name} refuses to let {self._name} join: {says.problem}")

    def _soon(self, begun: Begun, archive: Path | None, reason: str) -> Joined:
        asyncio.get_running_loop().call_later(FLUSH_S, self._start_again, reason)
        return Joined(begun.name, archive=archive, starts_again=True)

    async def _archive(self) -> Path:
        try:
            archive = await self._store.archive("before-merge")
        except (BackupError, StoreCareError, StoreError, OSError) as error:
            raise ClusterError(f"{self._name} cannot archive what it has: {error}. It has not joined") from None
        _log.notice("all that this node has is archived before it joins a cluster", file=archive)
        return archive

    # -- into the cluster ------------------------------------------------------------------------------------

    def _go_on_with(self, begun: Begun) -> None:
        self._begun = begun
        self._is_done.clear()
        self._work.set()

    def _give_up(self) -> None:
        self._begun = None
        self._work.clear()
        self._is_done.set()
        self._held(held=False)

    def _held(self, *, held: bool) -> None:
        assert self._settling is not None, "the node has begun"
        self._settling.hold(held=held)

    def _tell(self, error: Exception) -> None:
        waiting = self._take_waiting()
        through = "" if self._begun is None else self._begun.name
        if not waiting:
            _log.warning(
                "a join that was begun is not done yet, and is tried again", through=through, reason=str(error)
            )
        for done in waiting:
            done.set_exception(ClusterError(f"{self._name} has joined, and the rest goes on by itself: {error}"))

    def _take_waiting(self) -> list[asyncio.Future[list[Settled]]]:
        waiting, self._waiting = self._waiting, []
        return [done for done in waiting if not done.done()]

    async def _finish(self, begun: Begun) -> list[Settled] | None:
        """None: it was given up meanwhile, or another one has been begun."""
        async with self._membership.changing:
            if self._begun is not begun:
                return None
            if not self._membership.others():
                await self._enter(begun, is_first=False)
        settled = await self._settle(begun.name)
        # Before it is forgotten, so that it is told whenever the process ends.
        _log.notice(
            "joined",
            cluster=f"{self._membership.identity.cluster:032x}",
            through=begun.name,
            members=",".join(self._membership.others()),
            policy=begun.policy.value,
            settled=len(settled),
        )
        await asyncio.to_thread(forget_begun, self._engine)
        self._give_up()
        return settled

    async def _enter(self, begun: Begun, *, archives: bool = False, is_first: bool = True) -> Path | None:
        """Become a member. `is_first`: a join that is refused is given up. Where the archive is, if one was made."""
        archive: Path | None = None

        async def become_one(name: str) -> None:
            nonlocal archive
            if archives:
                says = await self._ask_what_a_join_would_meet(name)
                if says.problem:
                    raise ClusterError(f"{name} refuses to let {self._name} join: {says.problem}")
                archive = await self._archive()
            noted = dataclasses.replace(begun, archive=str(archive or begun.archive))
            try:
                await asyncio.to_thread(note_begun, self._engine, noted)
            except StoreError as error:
                raise ClusterError(f"{self._name} cannot note the join: {error}") from None
            self._go_on_with(noted)
            cluster, members = await self._ask_to_join(name)
            self._joined(name, [member.name for member in members if not member.is_removed])
            try:
                await self._become_member(cluster, members)
            except (MetadataError, StoreError) as error:
                raise UnfinishedError(
                    f"{name} has let {self._name} join, which cannot be written down here: {error}. It is tried again"
                ) from None

        self._held(held=True)
        try:
            await self._come_as_guest(begun.name, begun.address, become_one)
        except ClusterError as error:
            if is_first and not isinstance(error, UnfinishedError):
                self._give_up()
                await asyncio.to_thread(forget_begun, self._engine)
            raise
        finally:
            # Whoever asked may have gone away; what was begun by then is gone on with.
            self._held(held=self._begun is not None)
        return archive

    def _address_of(self, target: str) -> tuple[str, str]:
        name, address = address_of(target, is_tls=self._terms.is_tls)
        if name == self._name:
            raise ClusterError(f"{self._name} cannot join itself: name another node")
        return name, address

    def _check_alone(self) -> None:
        others = self._membership.others()
        if others:
            raise ClusterError(
                f"{self._name} is in a cluster with {', '.join(others)} already: stop it, and take it out on one of "
                f"them first (vmq-admin cluster leave node={self._name})"
            )

    async def _come_as_guest(self, name: str, address: str, ask: Callable[[str], Awaitable[Asked]]) -> Asked:
        """Ask a node something as one that is of no cluster; unless that made it a member, all is as before then.
        Raises `ClusterError`.
        """
        self._membership.visit(name, address)
        try:
            await self._link_to(name, address)
            return await ask(name)
        finally:
            self._membership.end_visit()

    async def _link_to(self, name: str, address: str) -> None:
        """Wait until the node lets this one in as a guest, or says that it does not."""
        deadline = time.monotonic() + LINK_TIMEOUT_S
        while True:
            # The engine knows it now. What it has told may be of a link that was replaced meanwhile.
            info = next((info for info in self._engine.peers() if info.name == name), None)
            if info is not None and info.state == "guest":
                return
            is_refused = info is not None and (info.refusal is not None or info.answering is not None)
            if is_refused or time.monotonic() > deadline:
                raise ClusterError(
                    f"{self._name} cannot reach {name} at {address}: {obstacle(info)}. Check the address, its "
                    "cluster listener (listener.vmq.NAME) and distributed_cookie on both nodes"
                )
            await self._membership.news(LOOK_S)

    async def _ask_to_join(self, name: str) -> tuple[int, list[Member]]:
        """The identity of the cluster, and its members."""
        payload = request_to_join(self._membership.own_record(), version(), self._terms)
        try:
            answer = await self._membership.requests.ask(name, "join", payload, timeout_s=JOIN_TIMEOUT_S)
            return int(answer["cluster"], 16), [Member.decode(value.encode()) for value in answer["members"]]
        except RemoteError as error:
            raise ClusterError(f"{name} refuses to let {self._name} join: {error}") from None
        except NoAnswerError as error:
            raise ClusterError(f"{error}; it may have let {self._name} join all the same: try again") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ClusterError(f"{name} gave an answer that cannot be read ({error!r})") from None

    async def _ask_what_a_join_would_meet(self, name: str) -> PeerSays:
        """Raises `ClusterError`."""
        payload = request_to_join(self._membership.own_record(), version(), self._terms)
        try:
            answer = await self._membership.requests.ask(name, "would join", payload, timeout_s=JOIN_TIMEOUT_S)
            members = tuple(str(member) for member in answer["members"])
            return PeerSays(name, str(answer["problem"]), str(answer["cluster"]), members, str(answer["version"]))
        except (RemoteError, NoAnswerError) as error:
            raise ClusterError(str(error)) from None
        except (KeyError, TypeError) as error:
            raise ClusterError(f"{name} gave an answer that cannot be read ({error!r})") from None

    async def _become_member(self, cluster: int, members: Sequence[Member]) -> None:
        await self._membership.become(dataclasses.replace(self._membership.identity, cluster=cluster, former=()))
        await self._membership.write(*members)
        self._membership.read()

    async def _settle(self, through: str) -> list[Settled]:
        """Settle what both have, once a member can be reached: if possible the one through which this node joined."""
        membership = self._membership
        assert self._settling is not None, "the node has begun"
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINK_TIMEOUT_S):
                        await membership.until(lambda: through in membership.reachable())
                await membership.until(lambda: bool(membership.reachable()))
        except TimeoutError:
            raise ClusterError(f"no link to a member has come about within {JOIN_TIMEOUT_S:.0f} s") from None
        try:
            return await self._settling.settle(
                lambda: [membership.members[name].actor for name in membership.reachable()]
            )
        except (ExchangeError, MetadataError, NoAnswerError, RemoteError, StoreError) as error:
            raise ClusterError(str(error)) from None


def obstacle(info: PeerInfo | None) -> str:
    """What keeps a link from coming about."""
    if info is not None and info.answering is not None:
        return f"{info.answering} answers there"
    return info.error if info is not None and info.error else "it does not answer"


def address_of(target: str, *, is_tls: bool = False, default_port: int | None = None) -> tuple[str, str]:
    """Name and address of a node: NAME@HOST or NAME@HOST:PORT, an IPv6 address with a port in brackets. Raises
    `ClusterError`. `default_port`: None for the one of such listeners.
    """
    name, at, place = target.partition("@")
    if not at or not name or not place:
        raise ClusterError(f"'{target}' is no name of a node: write NAME@HOST, or NAME@HOST:PORT for another port")
    if place.startswith("["):
        host, bracket, colon_and_port = place[1:].partition("]")
        port = colon_and_port.removeprefix(":")
        if not bracket or not host or colon_and_port not in {"", f":{port}"}:
            raise ClusterError(f"'{target}' is no name of a node: write NAME@[ADDRESS]:PORT for an IPv6 address")
    elif place.count(":") > 1:
        host, port = place, ""
    else:
        host, colon, port = place.partition(":")
        if colon and not port:
            raise ClusterError(f"'{target}' has no port: write NAME@HOST:PORT")
    if port and not port.isdecimal():
        raise ClusterError(f"'{target}' has no port: write NAME@HOST:PORT")
    shown = f"[{host}]" if ":" in host else host
    default = default_port or (DEFAULT_TLS_PORT if is_tls else DEFAULT_PORT)
    return f"{name}@{host}", f"{shown}:{port or default}"
