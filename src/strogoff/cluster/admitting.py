"""How a node lets others join: it checks who comes, has all members agree, and writes it down.

What is checked, without the links, is in functions: who it is, what it speaks, what must be the same.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from strogoff import version
from strogoff.cluster.members import BadMemberError, Member
from strogoff.cluster.membership import Membership
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.cluster.terms import Terms
from strogoff.observe.logging import get_logger

__all__ = ["PROTOCOL", "Admitting", "joiner_of", "member_of", "request_to_join"]

PROTOCOL: Final = 1
"""The version of what nodes say to each other over the links."""
ANSWER_TIMEOUT_S: Final = 10.0

_log = get_logger("cluster")


class Admitting:
    """How this node lets others join."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._name, self._terms = membership.name, membership.terms

    def serve(self) -> None:
        """Let other nodes ask this one."""
        self._membership.requests.serve("join", self._asked_to_let_join)
        self._membership.requests.serve("may join", self._asked_whether_one_may_join)
        self._membership.requests.serve("would join", self._asked_what_a_join_would_meet)

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
                await self._membership.requests.ask(member, "may join", request, timeout_s=ANSWER_TIMEOUT_S)
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
