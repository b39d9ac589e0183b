"""Nodes that are taken out of the cluster: others by this one, and this one itself, as it leaves or while away."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

from strogoff.cluster.joining import LINK_TIMEOUT_S, ClusterError
from strogoff.cluster.membership import Membership
from strogoff.cluster.metadata import MetadataError
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.observe.logging import get_logger

__all__ = ["Removal"]

_log = get_logger("cluster")


class Removal:
    """How members are taken out. `removed`: called with the name of the member that says so when this node was taken
    out while it was away.
    """

    def __init__(self, membership: Membership, removed: Callable[[str], None]) -> None:
        self._membership = membership
        self._removed = removed
        self._is_told = False
        self._is_leaving = False
        self.has_left = False
        """Whether this node has left its cluster, as it wanted to."""

    def serve(self) -> None:
        """Let other nodes ask this one to take them out."""
        self._membership.requests.serve("take out", self._asked_to_take_out)

    # -- others ----------------------------------------------------------------------------------------------

    async def remove(self, name: str) -> None:
        """Take a member that cannot be reached out of the cluster. Raises `ClusterError`."""
        membership = self._membership
        async with membership.changing:
            member = membership.members.get(name)
            if member is None or member.is_removed:
                known = ", ".join(sorted(each.name for each in membership.members.values() if not each.is_removed))
                raise ClusterError(f"{name} is no member of the cluster; members are {known}")
            try:
                await membership.write(dataclasses.replace(member, epoch=member.epoch + 1, is_removed=True))
            except MetadataError as error:
                raise ClusterError(str(error)) from None
        membership.read()
        membership.follow()
        _log.notice("took a node out of the cluster", node=name)

    async def _asked_to_take_out(self, node: str, _: dict[str, Any]) -> dict[str, Any]:
        """A member has handed its sessions over and leaves."""
        try:
            await self.remove(node)
        except ClusterError as error:
            raise RemoteError(str(error)) from None
        return {}

    async def has_gone(self, name: str) -> bool:
        """Whether a node is no member any more, or soon is not."""
        return await self._soon(lambda: name not in self._membership.others())

    async def _soon(self, condition: Callable[[], bool]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINK_TIMEOUT_S):
                await self._membership.until(condition)
        return condition()

    # -- this node -------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Have another member take this node out; what this node knows of the cluster goes when it ends. Raises
        `ClusterError`.
        """
        self._is_leaving = True
        for member in self._membership.reachable():
            try:
                await self._membership.requests.ask(member, "take out", {}, timeout_s=LINK_TIMEOUT_S)
            except RemoteError as error:
                _log.warning("a member did not take this node out", member=member, reason=str(error))
                continue
            except NoAnswerError as error:
                # A member that has done so may end the link before its answer is here; then others say so.
                _log.info("a member gave no answer about taking this node out", member=member, reason=str(error))
                if not await self._soon(lambda: self._is_told):
                    continue
            self.has_left = True
            _log.notice("has left its cluster", told=member)
            return
        self._is_leaving = False
        raise ClusterError(f"no member has taken {self._membership.name} out: try again")

    def is_not_known(self, peer: str) -> None:
        """A member does not know this node as one: it is taken out, or that member has not heard yet that it joined."""
        if not self._is_told and not self._is_leaving:
            _log.warning(
                "a member does not know this node as one. If it goes on, this node was taken out: take its data out of "
                "the way (strogoff store backup, then an empty data directory) and join again",
                told_by=peer,
            )
        self._is_told = True
        self._membership.tell_change()

    def is_removed(self, peer: str) -> None:
        """A member says that this node, with this data directory, was taken out for good."""
        self._is_told = True
        self._membership.tell_change()
        if not self._is_leaving:
            self._removed(peer)
