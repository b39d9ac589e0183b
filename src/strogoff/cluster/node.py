"""This node in its cluster: links, metadata, membership, and how it joins, leaves and is let go.

What is known of members lies in the replicated metadata (`members`), so every node learns of a change by the same way,
and this module follows it: links, and the members of the metadata replica, are whatever the records say.
"""

import asyncio
import contextlib
import dataclasses
import enum
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from strogoff import _engine, version
from strogoff._engine import (
    PeerConfig,
    PeerMessage,
    PeerRefused,
    PeerState,
    RetainedChanged,
    RoutesChanged,
    SessionsChanged,
)
from strogoff.cluster import reports
from strogoff.cluster.history import History
from strogoff.cluster.identity import IDENTITY_KEY, Identity, begun, boot_id, ended, incarnation_bytes, new_identity
from strogoff.cluster.joining import ClusterError, address_of, joiner_of, obstacle, request_to_join
from strogoff.cluster.kept_routes import KeptRoutes
from strogoff.cluster.link_certificates import LinkCertificates
from strogoff.cluster.members import MEMBERS_PREFIX, BadMemberError, Member, actors, member_key, merged
from strogoff.cluster.merge import by_prefix, subscriptions
from strogoff.cluster.metadata import Event, MetadataError
from strogoff.cluster.readiness import View
from strogoff.cluster.records import SUBSCRIBERS_PREFIX
from strogoff.cluster.reports import Report
from strogoff.cluster.requests import Handler, NoAnswerError, RemoteError, Requests
from strogoff.cluster.retained import RetainedMessages
from strogoff.cluster.routes import Routes, is_about_routes
from strogoff.cluster.sessions import Sessions
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import ExchangeError, Hooks, SwcStore, rows_of
from strogoff.cluster.terms import Terms
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

__all__ = ["ClusterNode", "Link", "MemberView", "PeerView"]

JOIN_TIMEOUT_S: Final = 30.0
LINK_TIMEOUT_S: Final = 10.0
LOOK_S: Final = 0.05
EVENTS_A_TURN_MAX: Final = 1_024

_log = get_logger("cluster")


class Link(enum.Enum):
    """How this node and a member can reach each other."""

    SELF = "self"
    REACHABLE = "reachable"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as this node sees it. `since`: of the state of the link, seconds since the Unix epoch."""

    member: Member
    link: Link
    since: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class PeerView:
    """What a member says of itself. `link`: how it reaches this node. `behind`: how many writes of this node to the
    metadata it has not got yet.
    """

    phase: str
    link: str
    behind: int


class _LinkState(NamedTuple):
    """What the engine said last of a link, when, and why."""

    state: str
    since: float
    reason: str


_NEVER_UP: Final = _LinkState("down", 0.0, "")


class ClusterNode:
    """One node. `client_state`: says what there is of clients on this node, in words; empty for nothing.

    `phase`: the one that the node is in. `removed`: called with the name of the member that says so when this node was
    taken out of the cluster while it was away. `looked`: called when members, or who of them can be reached, may have
    changed.
    """

    def __init__(
        self,
        engine: _engine.Engine,
        name: str,
        *,
        terms: Terms,
        client_state: Callable[[], str],
        phase: Callable[[], str],
        removed: Callable[[str], None],
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._looked = looked
        self._name = name
        self._terms = terms
        self._client_state = client_state
        self._phase = phase
        self._removed = removed
        self._identity = new_identity(name, "", random.SystemRandom().getrandbits)
        self.certificates = LinkCertificates(engine, terms.listeners)
        """Those of the links."""
        self.history = History(name, time.time)
        """What this node has seen of the cluster since its start."""
        self._members: dict[str, Member] = {}
        self._states: dict[str, _LinkState] = {}
        self._changed = asyncio.Event()
        self._is_changing = asyncio.Lock()
        self._knows_removal = False
        self._has_left = self._is_leaving = False
        self._served: dict[str, Handler] = {}
        self._requests: Requests | None = None
        self._metadata: SwcStore | None = None
        self._sessions: Sessions | None = None
        self._retained: RetainedMessages | None = None
        self._routes = Routes(engine, KeptRoutes(engine), lambda node, data: engine.peer_send(node, "metadata", data))

    # -- life ------------------------------------------------------------------------------------------------

    async def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Load what is known, open the cluster listeners, and dial the members. Raises `OSError`, `StoreError`,
        `CertificateError`, `ValueError`. The tasks are for the caller to cancel.
        """
        rows = await asyncio.to_thread(self._rows)
        self._identity, unwritten = await asyncio.to_thread(self._take_identity, rows)
        hooks = Hooks(self._send_metadata, lambda actor: self._is_not_known(actor.name), self._has_lost_history)
        self._metadata = SwcStore(
            self._engine,
            actor=self._identity.actor,
            members=[self._identity.actor],
            rows=rows,
            unwritten=unwritten,
            merge=by_prefix({MEMBERS_PREFIX: merged, SUBSCRIBERS_PREFIX: subscriptions}),
            hooks=hooks,
        )
        self._requests = Requests(self._send_control, tasks)
        self._requests.serve("join", self._asked_to_let_join)
        self._requests.serve("may join", self._asked_whether_one_may_join)
        self._requests.serve("take out", self._asked_to_take_out)
        self._requests.serve(reports.REQUEST, self._asked_for_report)
        for kind, handler in self._served.items():
            self._requests.serve(kind, handler)
        self._sessions = Sessions(
            self._engine,
            self._name,
            metadata=self._metadata,
            requests=self._requests,
            routes=self._routes,
            reachable=self.reachable,
            answer_timeout_s=self._terms.link_timeout_s,
            start_task=lambda work, name: tasks.create_task(work, name=name),
        )
        self._retained = RetainedMessages(
            self._engine,
            self._name,
            self._metadata,
            self._requests,
            others=self.others,
            reachable=self.reachable,
        )
        self._metadata.watch(MEMBERS_PREFIX, self._members_changed)
        self._engine.start_cluster(
            self._name,
            self._identity.incarnation_bytes,
            cluster=self._identity.cluster_bytes,
            secret=self._terms.cookie,
            agreed=self._terms.agreed_on_links,
            **self._terms.limits,
        )
        asyncio.get_running_loop().add_reader(self._engine.peer_event_fd(), self._drain)
        certificates = await asyncio.to_thread(self.certificates.read)
        self._engine.set_link_tls(next(iter(certificates.values()), None))
        for listener in self._terms.listeners:
            address = await asyncio.to_thread(listener.literal_address)
            tls = certificates.get(listener.engine_name)
            info = self._engine.open_cluster_listener(
                listener.engine_name, address, listener.port, tls=tls, max_connections=listener.max_connections
            )
            _log.info(
                "cluster listener open", listener=info.name, address=info.address, port=info.port, tls=info.is_tls
            )
        task = tasks.create_task(self._metadata.run(), name="metadata")
        self._read_members()
        if self._own_record_is_stale():
            # A full store must not keep the node from serving its clients.
            tasks.create_task(self._write_own_record(), name="own record")
        self._follow_members()
        running = (
            ("routes", self._routes.run()),
            ("sessions", self.sessions.run()),
            ("retained messages", self.retained.run()),
            ("link certificates", self.certificates.run()),
        )
        return [task, *(tasks.create_task(work, name=name) for name, work in running)]

    def end(self) -> None:
        """Stop listening to the links. The engine ends them."""
        asyncio.get_running_loop().remove_reader(self._engine.peer_event_fd())
        # Without an identity it starts as a cluster of one.
        identity = None if self._has_left else ended(self._identity).encode()
        try:
            self._engine.store_write([(IDENTITY_KEY, identity)], wait=self._has_left)
        except _engine.StoreError as error:
            # The next start takes this for a crash, which costs no more than a new incarnation on another boot.
            _log.warning("the store cannot note that the node was stopped", reason=str(error))

    def _rows(self) -> list[tuple[bytes, bytes]]:
        """The metadata that the store has; those of a cluster that this node has left go."""
        rows = list(rows_of(self._engine))
        if rows and self._engine.store_get(IDENTITY_KEY) is None:
            _log.notice("this node has left its cluster: what it knew of that is forgotten", rows=len(rows))
            self._engine.store_write([(key, None) for key, _ in rows], wait=True)
            return []
        return rows

    def _take_identity(self, rows: Sequence[tuple[bytes, bytes]]) -> tuple[Identity, list[tuple[bytes, bytes]]]:
        """Who this node is from now on, and what of that could not be written: it goes with the first metadata."""
        boot, draw = boot_id(), random.SystemRandom().getrandbits
        row = self._engine.store_get(IDENTITY_KEY)
        if row is None:
            identity = new_identity(self._name, boot, draw)
        else:
            identity, reason = begun(
                Identity.decode(row),
                self._name,
                boot,
                is_every_write_synced=self._terms.is_every_write_synced,
                has_members=sum(1 for key, _ in rows if MEMBERS_PREFIX in key) > 1,
                draw=draw,
            )
            if reason is not None:
                _log.warning("this node writes under a new incarnation", reason=reason)
        written = (IDENTITY_KEY, identity.encode())
        try:
            self._engine.store_write([written], wait=True)
        except _engine.StoreError as error:
            _log.warning("the store cannot note that the node runs", reason=str(error))
            return identity, [written]
        return identity, []

    # -- what is known ---------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether it is known who this node is."""
        return self._requests is not None

    @property
    def metadata(self) -> SwcStore:
        """The replicated metadata."""
        assert self._metadata is not None, "the node has begun"
        return self._metadata

    @property
    def requests(self) -> Requests:
        """Requests to other nodes."""
        assert self._requests is not None, "the node has begun"
        return self._requests

    @property
    def sessions(self) -> Sessions:
        """The sessions of the cluster."""
        assert self._sessions is not None, "the node has begun"
        return self._sessions

    @property
    def retained(self) -> RetainedMessages:
        """The retained messages of the cluster."""
        assert self._retained is not None, "the node has begun"
        return self._retained

    def serve(self, kind: str, handler: Handler) -> None:
        """Answer requests of other nodes with a function, at the latest once the node has begun."""
        self._served[kind] = handler
        if self._requests is not None:
            self._requests.serve(kind, handler)

    def series(self) -> list[Series]:
        """What is counted here; nothing before the node has begun."""
        if self._sessions is None or self._retained is None:
            return []
        view = self.view()
        return [
            Series("cluster_members", "gauge", view.members, "Nodes of the cluster, this one included."),
            Series(
                "cluster_members_reachable",
                "gauge",
                view.present,
                "Those of them that can be reached, this one included.",
            ),
            *self._sessions.series(),
            *self._retained.series(),
        ]

    @property
    def identity(self) -> Identity:
        """Who this node is."""
        return self._identity

    def show(self) -> list[MemberView]:
        """All members, by name."""
        views = []
        for member in sorted(self._members.values(), key=lambda member: member.name):
            if member.is_removed:
                continue
            state, since, error = self._state_of(member.name)
            link = Link.SELF if member.name == self._name else Link.DOWN
            if link is not Link.SELF and state == "reachable":
                link = Link.REACHABLE
            views.append(MemberView(member, link, since, error))
        return views

    async def ask_members(self, warn: Callable[[str, str], None]) -> dict[str, PeerView]:
        """What those that can be reached say of themselves; `warn`: told who does not answer, and why."""
        if self._requests is None:
            return {}
        written = self.metadata.seen_of(self._identity.actor)
        answers = await reports.ask_for_reports(self._requests, self.reachable(), warn)
        return {
            node: PeerView(report.phase, report.link, max(written - report.seen, 0)) for node, report in answers.items()
        }

    async def _asked_for_report(self, node: str, _: dict[str, Any]) -> dict[str, Any]:
        member = self._members.get(node)
        seen = 0 if member is None else self.metadata.seen_of(member.actor)
        return Report(self._phase(), self._state_of(node).state, seen).payload()

    def _state_of(self, name: str) -> "_LinkState":
        return self._states.get(name, _NEVER_UP)

    def others(self) -> list[str]:
        """The names of the other members."""
        return [view.member.name for view in self.show() if view.link is not Link.SELF]

    def reachable(self) -> list[str]:
        """The names of the other members that can be reached."""
        return [view.member.name for view in self.show() if view.link is Link.REACHABLE]

    def view(self) -> View:
        """How many members there are, and who cannot be reached."""
        views = self.show()
        unreachable = [view.member.name for view in views if view.link is Link.DOWN]
        # A node whose own record is not written yet, or that was taken out, is one of those that it counts.
        is_listed = any(view.link is Link.SELF for view in views)
        return View(len(views) + (not is_listed), unreachable)

    def has_routes_of(self, name: str) -> bool:
        """Whether all that a member subscribes to is known here."""
        return self._routes.is_complete(name)

    def lacks_retained(self) -> bool:
        """Whether retained messages are missing that can still be had."""
        return self.retained.is_behind

    async def fetch_metadata_of(self, name: str) -> None:
        """Fetch what a member that can be reached knows now. Raises `ExchangeError`."""
        await self.metadata.exchange(self._members[name].actor)

    # -- join ------------------------------------------------------------------------------------------------

    async def join(self, target: str) -> None:
        """Join the cluster of a node, NAME@HOST or NAME@HOST:PORT. Raises `ClusterError`; nothing has changed then."""
        name, address = address_of(target, is_tls=self._terms.is_tls)
        if name == self._name:
            raise ClusterError(f"{self._name} cannot join itself: name another node")
        async with self._is_changing:
            self._check_empty()
            former = self._identity.cluster_bytes
            self._set_cluster(None)
            self._engine.set_peers([PeerConfig(name, [address], tls=self._terms.is_tls)])
            try:
                await self._link_to(name, address)
                cluster, members = await self._ask_to_join(name)
            except ClusterError:
                self._set_cluster(former)
                self._follow_members()
                raise
            self.history.joined(name, (member.name for member in members if not member.is_removed))
            await self._become_member(cluster, members)
            await self._synchronise(name)
        _log.notice("joined", cluster=f"{self._identity.cluster:032x}", through=name, members=",".join(self.others()))

    def _set_cluster(self, cluster: bytes | None) -> None:
        self._engine.set_cluster(cluster, self._terms.agreed_on_links)

    def _check_empty(self) -> None:
        others = self.others()
        if others:
            raise ClusterError(
                f"{self._name} is in a cluster with {', '.join(others)} already: stop it, and take it out on one of "
                f"them first (vmq-admin cluster leave node={self._name})"
            )
        state = self._client_state()
        if state:
            _log.warning("refused to join a cluster: this node has state of clients", state=state)
            raise ClusterError(
                f"{self._name} refuses to join: it has state of its own ({state}), which the cluster does not know. "
                "Remove it, or start with an empty data directory"
            )

    async def _link_to(self, name: str, address: str) -> None:
        """Wait until the node lets this one in as a guest, or says that it does not."""
        waiting = asyncio.ensure_future(self._until(name, "guest"))
        deadline = time.monotonic() + LINK_TIMEOUT_S
        try:
            while not waiting.done():
                info = next((info for info in self._engine.peers() if info.name == name), None)
                is_refused = info is not None and (info.refusal is not None or info.answering is not None)
                if is_refused or time.monotonic() > deadline:
                    raise ClusterError(
                        f"{self._name} cannot reach {name} at {address}: {obstacle(info)}. Check the address, its "
                        "cluster listener (listener.vmq.NAME) and distributed_cookie on both nodes"
                    )
                await asyncio.wait([waiting], timeout=LOOK_S)
        finally:
            waiting.cancel()

    async def _ask_to_join(self, name: str) -> tuple[int, list[Member]]:
        """The identity of the cluster, and its members."""
        payload = request_to_join(self._own_record(), version(), self._terms)
        try:
            answer = await self.requests.ask(name, "join", payload, timeout_s=JOIN_TIMEOUT_S)
            return int(answer["cluster"], 16), [Member.decode(value.encode()) for value in answer["members"]]
        except RemoteError as error:
            raise ClusterError(f"{name} refuses to let {self._name} join: {error}") from None
        except NoAnswerError as error:
            raise ClusterError(f"{error}; it may have let {self._name} join all the same: try again") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ClusterError(f"{name} gave an answer that cannot be read ({error!r})") from None

    async def _become_member(self, cluster: int, members: Sequence[Member]) -> None:
        self._identity = dataclasses.replace(self._identity, cluster=cluster)
        row = [(IDENTITY_KEY, self._identity.encode())]
        await asyncio.to_thread(self._engine.store_write, row, wait=True)
        await self.metadata.put_all((member_key(member.name), member.encode()) for member in members)
        self._read_members()
        self._set_cluster(self._identity.cluster_bytes)
        self._follow_members()

    async def _synchronise(self, name: str) -> None:
        """Wait until the metadata of the cluster is here."""
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await self._until(name, "reachable")
                await self.metadata.exchange(self._members[name].actor)
        except (TimeoutError, ExchangeError) as error:
            reason = str(error) or f"the link did not come about within {JOIN_TIMEOUT_S:.0f} s"
            raise ClusterError(
                f"{self._name} has joined, but the metadata of {name} is not here yet: {reason}. It follows by itself"
            ) from None

    async def _asked_to_let_join(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Somebody wants to join through this node."""
        joiner = self._joiner(node, payload)
        async with self._is_changing:
            for member in self.reachable():
                try:
                    await self.requests.ask(member, "may join", payload | {"node": node}, timeout_s=LINK_TIMEOUT_S)
                except (RemoteError, NoAnswerError) as error:
                    raise RemoteError(f"{member} does not agree: {error}") from None
            former = self._members.get(joiner.name)
            epoch = 1 + max(joiner.epoch, 0 if former is None else former.epoch)
            record = dataclasses.replace(joiner, epoch=epoch, is_removed=False)
            await self.metadata.put(member_key(record.name), record.encode())
        self._read_members()
        self._follow_members()
        _log.notice("let a node join", node=node, address=",".join(record.addresses))
        values = [member.encode().decode() for member in self._members.values()]
        return {"cluster": f"{self._identity.cluster:032x}", "members": values}

    async def _asked_whether_one_may_join(self, _: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Another member is about to let somebody join."""
        self._joiner(str(payload.get("node")), payload)
        return {}

    def _joiner(self, node: str, payload: dict[str, Any]) -> Member:
        """Who wants to join. Raises `RemoteError` if that may not be."""
        joiner = joiner_of(node, payload, name=self._name, terms=self._terms)
        known = self._members.get(node)
        is_another = known is not None and not known.is_removed and known.incarnation != joiner.incarnation
        if is_another and self._state_of(node).state == "reachable":
            raise RemoteError(f"there is another node of the name {node} in the cluster, which can be reached")
        return joiner

    # -- leave -----------------------------------------------------------------------------------------------

    async def remove(self, name: str) -> None:
        """Take a member that cannot be reached out of the cluster. Raises `ClusterError`."""
        async with self._is_changing:
            member = self._members.get(name)
            if member is None or member.is_removed:
                known = ", ".join(view.member.name for view in self.show())
                raise ClusterError(f"{name} is no member of the cluster; members are {known}")
            record = dataclasses.replace(member, epoch=member.epoch + 1, is_removed=True)
            try:
                await self.metadata.put(member_key(name), record.encode())
            except MetadataError as error:
                raise ClusterError(str(error)) from None
        self._read_members()
        self._follow_members()
        _log.notice("took a node out of the cluster", node=name)

    async def leave(self) -> None:
        """Have another member take this node out; what this node knows of the cluster goes when it ends. Raises
        `ClusterError`.
        """
        self._is_leaving = True
        for member in self.reachable():
            try:
                await self.requests.ask(member, "take out", {}, timeout_s=LINK_TIMEOUT_S)
            except RemoteError as error:
                _log.warning("a member did not take this node out", member=member, reason=str(error))
                continue
            except NoAnswerError as error:
                # A member that has done so may end the link before its answer is here; then others say so.
                _log.info("a member gave no answer about taking this node out", member=member, reason=str(error))
                if not await self._hears_of_removal():
                    continue
            self._has_left = True
            _log.notice("has left its cluster", told=member)
            return
        self._is_leaving = False
        raise ClusterError(f"no member has taken {self._name} out: try again")

    async def _hears_of_removal(self) -> bool:
        """Whether members say soon that this node is none any more."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINK_TIMEOUT_S):
                while not self._knows_removal:
                    self._changed.clear()
                    await self._changed.wait()
        return self._knows_removal

    async def has_gone(self, name: str) -> bool:
        """Whether a node is no member any more, or soon is not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINK_TIMEOUT_S):
                while name in self.others():
                    self._changed.clear()
                    await self._changed.wait()
        return name not in self.others()

    async def _asked_to_take_out(self, node: str, _: dict[str, Any]) -> dict[str, Any]:
        """A member has handed its sessions over and leaves."""
        try:
            await self.remove(node)
        except ClusterError as error:
            raise RemoteError(str(error)) from None
        return {}

    # -- following the members -------------------------------------------------------------------------------

    def _own_record(self) -> Member:
        known = self._members.get(self._name)
        epoch = 1 if known is None else known.epoch
        return Member(self._name, self._identity.incarnation, self._terms.addresses, epoch, is_tls=self._terms.is_tls)

    def _own_record_is_stale(self) -> bool:
        known = self._members.get(self._name)
        return known is None or dataclasses.replace(self._own_record(), is_removed=known.is_removed) != known

    async def _write_own_record(self) -> None:
        own = self._own_record()
        record = dataclasses.replace(own, epoch=own.epoch + 1)
        try:
            await self.metadata.put(member_key(self._name), record.encode())
        except MetadataError as error:
            _log.error("the record of this node cannot be written", reason=str(error))

    def _read_members(self) -> None:
        found: dict[str, Member] = {}
        for _, value in self.metadata.scan(MEMBERS_PREFIX, limit=10_000):
            try:
                member = Member.decode(value)
            except BadMemberError as error:
                _log.error("a member's record is passed over", reason=str(error))
                continue
            found[member.name] = member
        self._members = found

    def _members_changed(self, _: Sequence[Event]) -> None:
        before = {name for name, member in self._members.items() if not member.is_removed}
        self._read_members()
        after = {name for name, member in self._members.items() if not member.is_removed}
        for name in sorted(after - before):
            _log.notice("a node has joined", node=name)
        for name in sorted(before - after):
            _log.notice("a node has left", node=name)
            self.sessions.removed(name, after | {self._name})
        self._changed.set()
        self._follow_members()

    def _follow_members(self) -> None:
        """Let the links and the metadata be those of the members."""
        removed = [member for member in self._members.values() if member.is_removed]
        self._engine.set_removed_peers([(member.name, incarnation_bytes(member.incarnation)) for member in removed])
        members = [member for member in self._members.values() if not member.is_removed]
        others = [member for member in members if member.name != self._name]
        self.history.members_are(member.name for member in others)
        self._engine.set_peers(
            [
                PeerConfig(
                    member.name,
                    member.addresses,
                    incarnation=incarnation_bytes(member.incarnation),
                    tls=member.is_tls,
                )
                for member in others
            ],
            joining=True,
        )
        self.metadata.set_members(actors(others) | {self._identity.actor})
        self._routes.keep({member.name for member in others})
        self.sessions.keep({member.name for member in others})
        self.retained.watch(watched=bool(others))
        for name in set(self._states) - {member.name for member in others}:
            del self._states[name]
        self._looked()

    def _is_not_known(self, peer: str) -> None:
        """A member does not know this node as one: it is taken out, or that member has not heard yet that it joined."""
        if not self._knows_removal and not self._is_leaving:
            _log.warning(
                "a member does not know this node as one. If it goes on, this node was taken out: take its data out of "
                "the way (strogoff store backup, then an empty data directory) and join again",
                told_by=peer,
            )
        self._knows_removal = True
        self._changed.set()

    def _is_removed(self, peer: str) -> None:
        """A member says that this node, with this data directory, was taken out for good."""
        self._knows_removal = True
        self._changed.set()
        if not self._is_leaving:
            self._removed(peer)

    def _has_lost_history(self) -> None:
        _log.error("the store of this node has lost writes that others have seen: start the node again")

    # -- links -----------------------------------------------------------------------------------------------

    def _send_control(self, node: str, data: bytes) -> bool:
        return self._engine.peer_send(node, "control", data)

    def _send_metadata(self, actor: Actor, data: bytes) -> bool:
        return self._engine.peer_send(actor.name, "metadata", data)

    def _drain(self) -> None:
        for event in self._engine.drain_peers(EVENTS_A_TURN_MAX):
            match event:
                case PeerMessage():
                    self._message(event)
                case PeerState():
                    self._state(event)
                case RoutesChanged():
                    self._routes.changed()
                case SessionsChanged():
                    self.sessions.changed()
                case RetainedChanged():
                    self.retained.changed()
                case PeerRefused():
                    _log.warning(
                        "a node was not let in",
                        listener=event.listener,
                        address=f"{event.address[0]}:{event.address[1]}",
                        node=event.peer or "",
                        reason=event.reason,
                    )

    def _message(self, event: PeerMessage) -> None:
        if event.lane == "control":
            self.requests.receive(event.peer, event.data)
        elif is_about_routes(event.data):
            self._routes.receive(event.peer, event.data)
        else:
            self.metadata.receive(Actor(event.peer, int.from_bytes(event.incarnation, "big")), event.data)

    def _state(self, event: PeerState) -> None:
        before = self._state_of(event.peer).state
        self._states[event.peer] = _LinkState(event.state, time.time(), event.reason)
        self.history.link_is(event.peer, event.state, event.reason)
        member = self._members.get(event.peer)
        if event.state == "reachable" and before != "reachable" and member is not None:
            _log.notice("a node can be reached", node=event.peer)
            self.metadata.reachable(member.actor)
            self._routes.reachable(event.peer)
            self.sessions.reachable(event.peer)
            self.retained.reachable(event.peer)
        elif event.state != "reachable" and before == "reachable":
            _log.warning("a node cannot be reached", node=event.peer, reason=event.reason)
            if member is not None:
                self.metadata.unreachable(member.actor)
            self._routes.unreachable(event.peer)
            self.sessions.unreachable(event.peer)
        if event.state == "down":
            self.requests.lost(event.peer)
        if event.refusal == "not_a_member":
            self._is_not_known(event.peer)
        elif event.refusal == "removed" and member is not None:
            self._is_removed(event.peer)
        self._changed.set()
        self._looked()

    async def _until(self, name: str, state: str) -> None:
        while self._state_of(name).state != state:
            self._changed.clear()
            await self._changed.wait()
