"""This node in its cluster: what ties the parts together.

It begins and ends them, hands each of them what comes over the links, and tells them of members and links.
"""

import asyncio
import enum
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from strogoff import _engine
from strogoff._engine import PeerMessage, PeerRefused, PeerState, RetainedChanged, RoutesChanged, SessionsChanged
from strogoff.cluster import reports
from strogoff.cluster.admitting import Admitting
from strogoff.cluster.discovery.asking import STRANGER
from strogoff.cluster.discovery.finding import Discovery
from strogoff.cluster.discovery.settings import DiscoverySettings
from strogoff.cluster.guard.begun import BEGUN_KEY, Begun, Step, begun_of, start_anew
from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.guard.settling import Settling
from strogoff.cluster.guard.survey import survey
from strogoff.cluster.history import History
from strogoff.cluster.identity import IDENTITY_KEY, Identity, begun, boot_id, ended, new_identity
from strogoff.cluster.joining import JoinContext, Joining
from strogoff.cluster.kept_routes import KeptRoutes
from strogoff.cluster.link_certificates import LinkCertificates
from strogoff.cluster.members import MEMBERS_PREFIX, Member, merged
from strogoff.cluster.membership import LinkState, Membership
from strogoff.cluster.merge import by_prefix, subscriptions
from strogoff.cluster.metadata import Event
from strogoff.cluster.readiness import View
from strogoff.cluster.records import SUBSCRIBERS_PREFIX
from strogoff.cluster.removal import Removal
from strogoff.cluster.renewing import Renewing
from strogoff.cluster.reports import Report
from strogoff.cluster.requests import Handler, Requests
from strogoff.cluster.retained import RetainedMessages
from strogoff.cluster.routes import Routes, is_about_routes
from strogoff.cluster.sessions import Sessions
from strogoff.cluster.swc import Actor
from strogoff.cluster.swc_store import Hooks, SwcStore, rows_of
from strogoff.cluster.terms import Terms
from strogoff.observe.counters import Counters
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

__all__ = ["ClusterNode", "Link", "MemberView", "PeerView"]

EVENTS_A_TURN_MAX: Final = 1_024
MERGE: Final = by_prefix({MEMBERS_PREFIX: merged, SUBSCRIBERS_PREFIX: subscriptions})

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


class ClusterNode:
    """One node. `join_context`: what a join needs of the node.

    `phase`: the one that the node is in. `removed`: called with the name of the member that says so when this node was
    taken out of the cluster while it was away. `start_again`: called, with the reason, when it has to. `looked`: called
    when members, or who of them can be reached, may have changed.
    """

    def __init__(
        self,
        engine: _engine.Engine,
        name: str,
        *,
        terms: Terms,
        join_context: JoinContext,
        phase: Callable[[], str],
        removed: Callable[[str], None],
        start_again: Callable[[str], None],
        looked: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._looked = looked
        self._name = name
        self._terms = terms
        self._phase = phase
        self._membership = Membership(engine, name, terms, self._followed)
        self.history = History(name, time.time)
        """What this node has seen of the cluster since its start."""
        self._internal = join_context.internal
        self.joining = Joining(
            engine,
            self._membership,
            context=join_context,
            inventory=self.inventory,
            joined=self.history.joined,
            start_again=start_again,
        )
        self._admitting = Admitting(self._membership)
        self.removal = Removal(self._membership, removed)
        self._renewing = Renewing(self._membership, self.removal, start_again)
        self.certificates = LinkCertificates(engine, terms.listeners)
        """Those of the links."""
        self._served: dict[str, Handler] = {}
        self._sessions: Sessions | None = None
        self._retained: RetainedMessages | None = None
        self._routes = Routes(engine, KeptRoutes(engine), lambda node, data: engine.peer_send(node, "metadata", data))

    # -- life ------------------------------------------------------------------------------------------------

    async def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Load what is known, open the cluster listeners, and dial the members. Raises `OSError`, `StoreError`,
        `CertificateError`, `ValueError`. The tasks are for the caller to cancel.
        """
        begun = await asyncio.to_thread(self._begun)
        rows = await asyncio.to_thread(self._rows)
        identity, unwritten = await asyncio.to_thread(self._take_identity, rows)
        hooks = Hooks(
            self._send_metadata,
            lambda actor: self.removal.is_not_known(actor.name),
            self._renewing.has_lost_history,
        )
        metadata = SwcStore(
            self._engine,
            actor=identity.actor,
            members=[identity.actor],
            rows=rows,
            unwritten=unwritten,
            merge=MERGE,
            hooks=hooks,
        )
        requests = Requests(self._send_control, tasks)
        self._membership.begin(identity, metadata, requests)
        self._admitting.serve()
        self.removal.serve()
        self._renewing.begin()
        requests.serve(reports.REQUEST, self._asked_for_report)
        for kind, handler in self._served.items():
            requests.serve(kind, handler)
        self._sessions = Sessions(
            self._engine,
            self._name,
            metadata=metadata,
            requests=requests,
            routes=self._routes,
            reachable=self.reachable,
            answer_timeout_s=self._terms.link_timeout_s,
            start_task=lambda work, name: tasks.create_task(work, name=name),
        )
        self._retained = RetainedMessages(
            self._engine,
            self._name,
            metadata,
            requests,
            others=self.others,
            reachable=self.reachable,
        )
        settling = Settling(
            self._engine,
            self._name,
            metadata=metadata,
            requests=requests,
            sessions=self._sessions,
            retained=self._retained,
            reachable=self.reachable,
        )
        self.joining.begin(settling, begun)
        metadata.watch(MEMBERS_PREFIX, self._members_changed)
        self._engine.start_cluster(
            self._name,
            identity.incarnation_bytes,
            cluster=None if self._membership.is_guest else identity.cluster_bytes,
            secret=self._terms.cookie,
            agreed=self._terms.agreed_on_links,
            **self._terms.limits,
        )
        asyncio.get_running_loop().add_reader(self._engine.peer_event_fd(), self._drain)
        certificates = await asyncio.to_thread(self.certificates.read)
        self._engine.set_link_tls(next(iter(certificates.values()), None))
        # Members are known before they can come: who is not known is sent away.
        self._membership.follow()
        for listener in self._terms.listeners:
            address = await asyncio.to_thread(listener.literal_address)
            tls = certificates.get(listener.engine_name)
            info = self._engine.open_cluster_listener(
                listener.engine_name, address, listener.port, tls=tls, max_connections=listener.max_connections
            )
            _log.info(
                "cluster listener open", listener=info.name, address=info.address, port=info.port, tls=info.is_tls
            )
        task = tasks.create_task(metadata.run(), name="metadata")
        if self._membership.own_record_is_stale() and not self._membership.is_guest:
            # A full store must not keep the node from serving its clients.
            tasks.create_task(self._membership.write_own_record(), name="own record")
        running = (
            ("routes", self._routes.run()),
            ("sessions", self.sessions.run()),
            ("retained messages", self.retained.run()),
            ("link certificates", self.certificates.run()),
            ("incarnation", self._renewing.run()),
            ("join", self.joining.run()),
        )
        return [task, *(tasks.create_task(work, name=name) for name, work in running)]

    def end(self) -> None:
        """Stop listening to the links. The engine ends them."""
        asyncio.get_running_loop().remove_reader(self._engine.peer_event_fd())
        has_left = self.removal.has_left
        if self._renewing.is_unsettled and not has_left:
            # The next start finds out again.
            return
        # Without an identity it starts as a cluster of one.
        ending: list[tuple[bytes, bytes | None]] = [(IDENTITY_KEY, None if has_left else ended(self.identity).encode())]
        if has_left:
            ending.append((BEGUN_KEY, None))
        try:
            self._engine.store_write(ending, wait=has_left)
        except _engine.StoreError as error:
            # The next start takes this for a crash, which costs no more than a new incarnation on another boot.
            _log.warning("the store cannot note that the node was stopped", reason=str(error))

    def _begun(self) -> Begun | None:
        """The join that this node was in the middle of when it ended."""
        begun = begun_of(self._engine)
        if begun is not None and begun.step is Step.ANEW:
            _log.notice("begins with empty metadata, to join a cluster", through=begun.name)
            start_anew(self._engine, begun, rows_of(self._engine), MERGE)
            return begun_of(self._engine)
        return begun

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

    def discovery(self, settings: DiscoverySettings, counters: Counters) -> Discovery:
        """What finds the cluster of this node."""
        return Discovery(self._engine, self._membership, self.joining, settings, counters, self.inventory)

    # -- what is known ---------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether it is known who this node is."""
        return self._membership.has_begun

    @property
    def metadata(self) -> SwcStore:
        """The replicated metadata."""
        return self._membership.metadata

    @property
    def requests(self) -> Requests:
        """Requests to other nodes."""
        return self._membership.requests

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
        if self._membership.has_begun:
            self.requests.serve(kind, handler)

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
        return self._membership.identity

    async def inventory(self) -> Inventory:
        """What this node holds that a cluster which it joins does not know."""
        metadata = self.metadata if self.has_begun else None
        return await survey(self._engine, metadata, self._name, self._internal)

    def show(self) -> list[MemberView]:
        """All members, by name."""
        views = []
        for member in sorted(self._membership.members.values(), key=lambda member: member.name):
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
        if not self._membership.has_begun:
            return {}
        written = self.metadata.seen_of(self.identity.actor)
        answers = await reports.ask_for_reports(self.requests, self.reachable(), warn)
        return {
            node: PeerView(report.phase, report.link, max(written - report.seen, 0)) for node, report in answers.items()
        }

    async def _asked_for_report(self, node: str, _: dict[str, Any]) -> dict[str, Any]:
        member = self._membership.members.get(node)
        seen = 0 if member is None else self.metadata.seen_of(member.actor)
        return Report(self._phase(), self._state_of(node).state, seen).payload()

    def _state_of(self, name: str) -> LinkState:
        return self._membership.link(name)

    def others(self) -> list[str]:
        """The names of the other members."""
        return self._membership.others()

    def reachable(self) -> list[str]:
        """The names of the other members that can be reached."""
        return self._membership.reachable()

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
        await self.metadata.exchange(self._membership.members[name].actor)

    # -- following the members -------------------------------------------------------------------------------

    def _members_changed(self, _: Sequence[Event]) -> None:
        before = self._member_names()
        self._membership.read()
        after = self._member_names()
        for name in sorted(after - before):
            _log.notice("a node has joined", node=name)
        for name in sorted(before - after):
            _log.notice("a node has left", node=name)
            self.sessions.removed(name, after | {self._name})
        self._membership.tell_change()
        self._membership.follow()

    def _member_names(self) -> set[str]:
        return {name for name, member in self._membership.members.items() if not member.is_removed}

    def _followed(self, others: set[str]) -> None:
        """The links are those to these members now."""
        self.history.members_are(others)
        self._routes.keep(others)
        self.sessions.keep(others)
        self.retained.watch(watched=bool(others))
        self._looked()

    # -- links -----------------------------------------------------------------------------------------------

    def _send_control(self, node: str, data: bytes) -> bool:
        return self._engine.peer_send(node, "control", data)

    def _send_metadata(self, actor: Actor, data: bytes) -> bool:
        return not self._renewing.is_between and self._engine.peer_send(actor.name, "metadata", data)

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
                    # Whoever looks for nodes by their addresses does not know their names.
                    searching = (STRANGER, f"the address of {STRANGER}")
                    is_search = event.refusal == "wrong_node" and event.reason.startswith(searching)
                    tell = _log.debug if is_search else _log.warning
                    tell(
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
        elif not self._renewing.is_between:
            self.metadata.receive(Actor(event.peer, int.from_bytes(event.incarnation, "big")), event.data)

    def _state(self, event: PeerState) -> None:
        before = self._state_of(event.peer).state
        self._membership.set_link(event.peer, event.state, event.reason)
        self.history.link_is(event.peer, event.state, event.reason)
        member = self._membership.members.get(event.peer)
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
        if member is not None:
            self._renewing.link_changed(event.peer, event.state, event.refusal)
        if event.refusal == "not_a_member":
            self.removal.is_not_known(event.peer)
        elif event.refusal == "removed" and member is not None:
            self.removal.is_removed(event.peer)
        self._membership.tell_change()
        self._looked()
