"""How a node joins: it comes to a member as a guest, and asks; that one has all members agree, and writes it down.

What is checked of it, without the links, is in functions: who it is, what it speaks, what must be the same.
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from strogoff import _engine, version
from strogoff._engine import PeerConfig, PeerInfo
from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.guard.policy import refusal
from strogoff.cluster.members import BadMemberError, Member
from strogoff.cluster.membership import Membership
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.cluster.swc_store import ExchangeError
from strogoff.cluster.terms import Terms
from strogoff.observe.logging import get_logger

__all__ = [
    "LINK_TIMEOUT_S",
    "PROTOCOL",
    "ClusterError",
    "Joining",
    "Outlook",
    "PeerSays",
    "address_of",
    "joiner_of",
    "member_of",
    "obstacle",
    "request_to_join",
]

PROTOCOL: Final = 1
"""The version of what nodes say to each other over the links."""
DEFAULT_PORT: Final = 44053
DEFAULT_TLS_PORT: Final = 44054
JOIN_TIMEOUT_S: Final = 30.0
LINK_TIMEOUT_S: Final = 10.0
"""For an answer over a link, and for the link itself."""
LOOK_S: Final = 0.05

Asked = TypeVar("Asked")

_log = get_logger("cluster")


class ClusterError(Exception):
    """A command of the cluster cannot be carried out. The message says which node refuses, why, and what to do."""


@dataclass(frozen=True, slots=True)
class PeerSays:
    """What a node says to one that thinks of joining through it. `problem`: why it would not let it in, or why nothing
    is known; empty where it would. `cluster`: the identity, in hexadecimal.
    """

    name: str
    problem: str = ""
    cluster: str = ""
    members: tuple[str, ...] = ()
    version: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether it has said anything."""
        return bool(self.cluster)


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would come of a join. `problem`: why this node would not even try, or nothing."""

    inventory: Inventory
    peer: PeerSays
    problem: str = ""


class Joining:
    """How this node joins, and how it lets others join.

    `inventory`: what this node holds. `joined`: called with the node through which this one has joined, and the names
    of all members, before they are followed.
    """

    def __init__(
        self,
        engine: _engine.Engine,
        membership: Membership,
        inventory: Callable[[], Awaitable[Inventory]],
        joined: Callable[[str, list[str]], None],
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._name, self._terms = membership.name, membership.terms
        self._inventory = inventory
        self._joined = joined

    def serve(self) -> None:
        """Let other nodes ask this one."""
        self._membership.requests.serve("join", self._asked_to_let_join)
        self._membership.requests.serve("may join", self._asked_whether_one_may_join)
        self._membership.requests.serve("would join", self._asked_what_a_join_would_meet)

    async def join(self, target: str) -> None:
        """Join the cluster of a node, NAME@HOST or NAME@HOST:PORT. Raises `ClusterError`; nothing has changed then."""
        await self.join_at(*self._address_of(target))

    async def join_at(self, name: str, address: str) -> None:
        """As `join`, for a node whose name says nothing about its address, HOST:PORT."""
        async with self._membership.changing:
            self._check_alone()
            inventory = await self._inventory()
            if inventory.of_clients:
                reason = refusal(self._name, inventory)
                _log.warning("refused to join a cluster", through=name, reason=reason)
                raise ClusterError(reason)
            await self._come_as_guest(name, address, self._join)
        members_now = ",".join(self._membership.others())
        _log.notice("joined", cluster=f"{self._membership.identity.cluster:032x}", through=name, members=members_now)

    async def look(self, target: str) -> Outlook:
        """What a join through a node would meet, here and there. Changes nothing. Raises `ClusterError` for a target
        that is none.
        """
        name, address = self._address_of(target)
        async with self._membership.changing:
            inventory = await self._inventory()
            try:
                self._check_alone()
            except ClusterError as error:
                return Outlook(inventory, PeerSays(name, "it was not asked"), str(error))
            try:
                return Outlook(inventory, await self._come_as_guest(name, address, self._ask_what_a_join_would_meet))
            except ClusterError as error:
                return Outlook(inventory, PeerSays(name, str(error)))

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
        membership = self._membership
        former = membership.identity.cluster
        membership.be_of_no_cluster()
        self._engine.set_peers([PeerConfig(name, [address], tls=self._terms.is_tls)])
        try:
            await self._link_to(name, address)
            return await ask(name)
        finally:
            if membership.identity.cluster == former:
                membership.set_cluster(membership.identity.cluster_bytes)
                membership.follow()

    async def _join(self, name: str) -> None:
        cluster, members = await self._ask_to_join(name)
        self._joined(name, [member.name for member in members if not member.is_removed])
        await self._become_member(cluster, members)
        await self._synchronise(name)

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
        self._membership.set_cluster(self._membership.identity.cluster_bytes)
        self._membership.follow()

    async def _synchronise(self, name: str) -> None:
        """Wait until the metadata of the cluster is here."""
        try:
            async with asyncio.timeout(JOIN_TIMEOUT_S):
                await self._membership.until(lambda: name in self._membership.reachable())
                await self._membership.metadata.exchange(self._membership.members[name].actor)
        except (TimeoutError, ExchangeError) as error:
            reason = str(error) or f"the link did not come about within {JOIN_TIMEOUT_S:.0f} s"
            raise ClusterError(
                f"{self._name} has joined, but the metadata of {name} is not here yet: {reason}. It follows by itself"
            ) from None

    async def _asked_to_let_join(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Somebody wants to join through this node."""
        self._check_in_touch()
        joiner = self._joiner(node, payload)
        async with self._membership.changing:
            if self._membership.is_looking:
                raise RemoteError(f"{self._name} looks for a cluster itself: try again")
            await self._have_members_agree(node, payload)
            former = self._membership.members.get(joiner.name)
            epoch = 1 + max(joiner.epoch, 0 if former is None else former.epoch)
            record = dataclasses.replace(joiner, epoch=epoch, is_removed=False)
            await self._membership.write(record)
        self._membership.read()
        self._membership.follow()
        _log.notice("let a node join", node=node, address=",".join(record.addresses))
        values = [member.encode().decode() for member in self._membership.members.values()]
        return {"cluster": f"{self._membership.identity.cluster:032x}", "members": values}

    async def _asked_what_a_join_would_meet(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Somebody thinks of joining through this node, and wants to know what would come of it."""
        problem = ""
        try:
            self._check_in_touch()
            self._joiner(node, payload)
            await self._have_members_agree(node, payload)
        except RemoteError as error:
            problem = str(error)
        members = sorted({self._name, *self._membership.others()})
        cluster = f"{self._membership.identity.cluster:032x}"
        return {"problem": problem, "cluster": cluster, "members": members, "version": version()}

    def _check_in_touch(self) -> None:
        if self._membership.is_guest:
            raise RemoteError(f"{self._name} is not in touch with its own cluster at the moment: try again")

    async def _have_members_agree(self, node: str, payload: dict[str, Any]) -> None:
        """Raises `RemoteError` with the first one that does not."""
        for member in self._membership.reachable():
            try:
                request = payload | {"node": node}
                await self._membership.requests.ask(member, "may join", request, timeout_s=LINK_TIMEOUT_S)
            except (RemoteError, NoAnswerError) as error:
                raise RemoteError(f"{member} does not agree: {error}") from None

    async def _asked_whether_one_may_join(self, _: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Another member is about to let somebody join."""
        self._joiner(str(payload.get("node")), payload)
        return {}

    def _joiner(self, node: str, payload: dict[str, Any]) -> Member:
        """Who wants to join. Raises `RemoteError` if that may not be."""
        joiner = joiner_of(node, payload, name=self._name, terms=self._terms)
        known = self._membership.members.get(node)
        is_another = known is not None and not known.is_removed and known.incarnation != joiner.incarnation
        if is_another and self._membership.link(node).state == "reachable":
            raise RemoteError(f"there is another node of the name {node} in the cluster, which can be reached")
        return joiner


def request_to_join(member: Member, version: str, terms: Terms) -> dict[str, Any]:
    """What a node says of itself that wants to join."""
    return {
        "protocol": PROTOCOL,
        "version": version,
        "member": member.encode().decode(),
        "settings": dict(terms.agreed),
    }


def member_of(node: str, request: Mapping[str, Any], *, name: str) -> Member:
    """What a node says of itself that wants to be known by the node `name`. Raises `RemoteError` if that may not be."""
    if request.get("protocol") != PROTOCOL:
        raise RemoteError(
            f"it speaks version {request.get('protocol')} of the cluster protocol, {name} speaks {PROTOCOL}"
        )
    try:
        member = Member.decode(str(request.get("member")).encode())
    except BadMemberError as error:
        raise RemoteError(str(error)) from None
    if member.name != node:
        raise RemoteError(f"it is {node} and calls itself {member.name}")
    if not member.addresses:
        raise RemoteError("it has no cluster listener: set listener.vmq.NAME = ADDRESS:PORT there")
    return member


def joiner_of(node: str, request: Mapping[str, Any], *, name: str, terms: Terms) -> Member:
    """Who wants to join the cluster of the node `name`. Raises `RemoteError` if that may not be."""
    joiner = member_of(node, request, name=name)
    settings = request.get("settings")
    for key, here in terms.agreed:
        there = settings.get(key, here) if isinstance(settings, dict) else here
        if there != here:
            raise RemoteError(f"{key} must be the same on all nodes: it is {here} on {name} and {there} on {node}")
    return joiner


def obstacle(info: PeerInfo | None) -> str:
    """What keeps a link from coming about."""
    if info is not None and info.answering is not None:
        return f"{info.answering} answers there"
    return info.error if info is not None and info.error else "it does not answer"


def address_of(target: str, *, is_tls: bool = False) -> tuple[str, str]:
    """Name and address of a node: NAME@HOST or NAME@HOST:PORT, an IPv6 address with a port in brackets. Raises
    `ClusterError`.
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
    return f"{name}@{host}", f"{shown}:{port or (DEFAULT_TLS_PORT if is_tls else DEFAULT_PORT)}"
