"""What this node knows of its cluster: who it is itself, who the members are, and how the links to them are.

The members lie in the replicated metadata (`members`), so every node learns of a change by the same way; links, and the
members of the metadata replica, are whatever the records say. What changes members (`joining`, `removal`) does it
through this.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from strogoff import _engine
from strogoff._engine import PeerConfig
from strogoff.cluster.identity import IDENTITY_KEY, Identity, incarnation_bytes, new_identity
from strogoff.cluster.members import MEMBERS_PREFIX, BadMemberError, Member, actors, member_key
from strogoff.cluster.metadata import MetadataError
from strogoff.cluster.requests import Requests
from strogoff.cluster.swc_store import SwcStore
from strogoff.cluster.terms import Terms
from strogoff.observe.logging import get_logger

__all__ = ["LinkState", "Membership"]

MEMBERS_MAX: Final = 10_000

_log = get_logger("cluster")


class LinkState(NamedTuple):
    """What the engine said last of a link: its state, since when in seconds since the Unix epoch, and why."""

    state: str
    since: float
    reason: str


_NEVER_UP: Final = LinkState("down", 0.0, "")


class Membership:
    """Members and links as this node knows them. `followed`: called with the names of the other members when the links
    have become theirs.
    """

    def __init__(self, engine: _engine.Engine, name: str, terms: Terms, followed: Callable[[set[str]], None]) -> None:
        self._engine = engine
        self._followed = followed
        self._metadata: SwcStore | None = None
        self._requests: Requests | None = None
        self._links: dict[str, LinkState] = {}
        self.name = name
        """Of this node."""
        self.terms = terms
        self.identity = new_identity(name, "", random.SystemRandom().getrandbits)
        """Of this node; a made up one before it has begun."""
        self.members: dict[str, Member] = {}
        """All records that can be read, by name, also those of nodes that were removed."""
        self.changing = asyncio.Lock()
        """Held by whoever changes the members on this node."""
        self.is_guest = False
        """Whether this node comes to members as a guest, since they may know it by another incarnation."""
        self.is_looking = False
        """Whether this node is of no cluster for others, since it looks for one."""
        self._sought: Sequence[PeerConfig] = ()
        self._is_visiting = False
        self._changed = asyncio.Event()

    def begin(self, identity: Identity, metadata: SwcStore, requests: Requests) -> None:
        """The node has begun: this is who it is, where the members are, and how it asks others."""
        self.identity, self._metadata, self._requests = identity, metadata, requests
        self.read()

    @property
    def has_begun(self) -> bool:
        """Whether there is anything to be known."""
        return self._metadata is not None

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

    # -- links -----------------------------------------------------------------------------------------------

    def link(self, name: str) -> LinkState:
        """How the link to a node is."""
        return self._links.get(name, _NEVER_UP)

    def set_link(self, name: str, state: str, reason: str) -> None:
        """The link to a node is in a state from now on. Tell it with `tell_change`, once all is done that follows."""
        self._links[name] = LinkState(state, time.time(), reason)

    def tell_change(self) -> None:
        """Let those who wait look again."""
        self._changed.set()

    async def news(self, timeout_s: float) -> None:
        """Wait until links or members may have changed, but no longer than this."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that links and members decide."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def others(self) -> list[str]:
        """The names of the other members, in order."""
        return sorted(name for name, member in self.members.items() if name != self.name and not member.is_removed)

    def reachable(self) -> list[str]:
        """The names of the other members that can be reached, in order."""
        return [name for name in self.others() if self.link(name).state == "reachable"]

    # -- this node -----------------------------------------------------------------------------------------

    def own_record(self) -> Member:
        """What others should know of this node."""
        known = self.members.get(self.name)
        epoch = 1 if known is None else known.epoch
        return Member(
            self.name,
            self.identity.incarnation,
            self.terms.addresses,
            epoch,
            is_tls=self.terms.is_tls,
            former=self.identity.former,
        )

    def own_record_is_stale(self) -> bool:
        """Whether others know something else of it."""
        known = self.members.get(self.name)
        return known is None or dataclasses.replace(self.own_record(), is_removed=known.is_removed) != known

    async def write_own_record(self) -> None:
        """Tell others."""
        own = self.own_record()
        try:
            await self.write(dataclasses.replace(own, epoch=own.epoch + 1))
        except MetadataError as error:
            _log.error("the record of this node cannot be written", reason=str(error))

    async def become(self, identity: Identity) -> None:
        """This is who the node is from now on, also after a restart. Raises `StoreError`; nothing has changed then."""
        await asyncio.to_thread(self._engine.store_write, [(IDENTITY_KEY, identity.encode())], wait=True)
        self.identity = identity

    async def renew(self, identity: Identity) -> None:
        """This node has another incarnation from its next start on; its writes bear it already, its links do not.
        Returns when that will survive.
        """
        self.identity = identity
        await self.metadata.retire(identity.actor, (IDENTITY_KEY, identity.encode()))

    # -- following the records -------------------------------------------------------------------------------

    async def write(self, *members: Member) -> None:
        """Write records. Raises `MetadataError`."""
        await self.metadata.put_all((member_key(member.name), member.encode()) for member in members)

    def read(self) -> None:
        """Take up what the records say."""
        found: dict[str, Member] = {}
        for _, value in self.metadata.scan(MEMBERS_PREFIX, limit=MEMBERS_MAX):
            try:
                member = Member.decode(value)
            except BadMemberError as error:
                _log.error("a member's record is passed over", reason=str(error))
                continue
            found[member.name] = member
        self.members = found

    def set_cluster(self, cluster: bytes | None) -> None:
        """Say on links that this node is of a cluster, or of none."""
        self._engine.set_cluster(cluster, self.terms.agreed_on_links)

    def be_guest(self, *, is_guest: bool) -> None:
        """Come to members as a guest from now on, or as the member that this node is."""
        self.is_guest = is_guest
        self.set_cluster(None if is_guest else self.identity.cluster_bytes)
        self.follow()

    def look_for(self, peers: Sequence[PeerConfig]) -> None:
        """Dial nodes that may be no members, to ask them; only for a node that has no other members. Until
        `stop_looking` this node is of no cluster for others, and may be asked likewise.
        """
        assert not self.others(), "who has members has found its cluster"
        if self.is_looking and tuple(peers) == self._sought:
            return
        if not self.is_looking:
            self.set_cluster(None)
        self.is_looking, self._sought = True, tuple(peers)
        self.follow()

    def stop_looking(self) -> None:
        """Be of the own cluster again. Nothing happens when this node does not look for one."""
        if self.is_looking:
            self.is_looking, self._sought = False, ()
            self.set_cluster(self.identity.cluster_bytes)
            self.follow()

    def visit(self, name: str, address: str) -> None:
        """Come to a node as one that is of no cluster, and have no other link, until `end_visit`. Whoever looks for a
        cluster is of none already, and that link stays.
        """
        if not self.is_looking:
            self.set_cluster(None)
        self.is_looking, self._sought = False, ()
        self._is_visiting = True
        self._engine.set_peers([PeerConfig(name, [address], tls=self.terms.is_tls)])

    def end_visit(self) -> None:
        """Be what this node is, again or by now."""
        self._is_visiting = False
        self.set_cluster(self.identity.cluster_bytes)
        self.follow()

    def follow(self) -> None:
        """Let the links and the metadata be those of the members; during a visit, when that ends."""
        if self._is_visiting:
            return
        removed = [member for member in self.members.values() if member.is_removed]
        self._engine.set_removed_peers(
            [(member.name, incarnation_bytes(each)) for member in removed for each in sorted(member.incarnations)]
        )
        others = [self.members[name] for name in self.others()]
        # As a guest it lets nobody join, and takes members as they are: they, too, may have new incarnations.
        peers = [*(_peer(member, is_exact=not self.is_guest) for member in others), *self._sought]
        self._engine.set_peers(peers, joining=not self.is_guest)
        self.metadata.set_members(actors(others) | {self.identity.actor})
        names = {member.name for member in others}
        for name in set(self._links) - {peer.name for peer in peers}:
            del self._links[name]
        self._followed(names)


def _peer(member: Member, *, is_exact: bool) -> PeerConfig:
    incarnation = incarnation_bytes(member.incarnation) if is_exact else None
    return PeerConfig(member.name, member.addresses, incarnation=incarnation, tls=member.is_tls)
