"""A node that goes on under a new incarnation: why, how members come to know it, and how it learns if it was taken out.

Members let a node in under the incarnation that they know, and under no other. A node with a new one comes to them as a
guest therefore, which has the control lane alone, and names those that it had before. A member whose record has one of
them, too, writes the new one down, and tells the others through the metadata; or it says that the node was taken out.

Only a record with which the node has an incarnation in common says anything about it. A member that is behind, and has
nothing but the record of an earlier node of the same name, so never ends one that has joined since. The record has the
former ones as well for a node that has told its new one, and lost it in the next crash. And a member may be wrong that
was taken out itself: so a node that members do not let in for a while asks them, whoever has let it in before.

Incarnations are taken at a start. When it turns out later that members know of writes, or of an incarnation, which the
store of the node does not have, it takes one for what it has written since its start, and starts again: everything
begins under it then, as after a crash of the machine.
"""

import asyncio
import contextlib
import dataclasses
import enum
import random
from collections.abc import Callable, Collection
from typing import Any, Final

from strogoff._engine import StoreError
from strogoff.cluster.admitting import PROTOCOL, member_of
from strogoff.cluster.identity import renewed
from strogoff.cluster.members import Member, member_key, merged
from strogoff.cluster.membership import Membership
from strogoff.cluster.metadata import MetadataError
from strogoff.cluster.removal import Removal
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.observe.logging import get_logger

__all__ = ["Renewing", "Verdict", "judged"]

REQUEST: Final = "renew"
ANSWER_TIMEOUT_S: Final = 5.0
ASK_AGAIN_S: Final = 1.0
GUEST_S: Final = 3.0
"""How long a node that was let in before is a guest, at most: until all that do not let it in have answered."""
PATIENCE_MAX_S: Final = 60.0
DOUBTS: Final = frozenset({"not_a_member", "wrong_incarnation"})
"""Refusals that may come from another incarnation."""

_log = get_logger("cluster")


class Verdict(enum.Enum):
    """What a member knows of a node that asks."""

    NOT_KNOWN = "not known"
    REMOVED = "removed"
    OUTDATED = "outdated"
    """It has gone on under another incarnation, and does not know that: its store is an older one."""
    MEMBER = "member"


def judged(known: Member | None, asker: Member) -> Verdict:
    """What the record of a name says of a node that has it."""
    if known is None or known.incarnations.isdisjoint(asker.incarnations):
        return Verdict.NOT_KNOWN
    if known.is_removed:
        return Verdict.REMOVED
    return Verdict.OUTDATED if asker.incarnation in known.former else Verdict.MEMBER


class Renewing:
    """How this node makes its incarnation known to members, and takes note of theirs.

    `start_again`: called, with the reason, when the node has another incarnation from its next start on.
    """

    def __init__(self, membership: Membership, removal: Removal, start_again: Callable[[str], None]) -> None:
        self._membership = membership
        self._removal = removal
        self._start_again = start_again
        self._doubts: dict[str, float] = {}
        self._patience_s: dict[str, float] = {}
        self._news = asyncio.Event()
        self._told: dict[str, str] = {}
        self._is_over = False
        self._has_lost_history = self._is_renewed = False

    @property
    def is_between(self) -> bool:
        """Whether the writes of this node bear another incarnation than its links, or are about to: none may go out."""
        return self._has_lost_history

    @property
    def is_unsettled(self) -> bool:
        """Whether it is not decided yet, for the next start, which incarnation this node has."""
        return self._has_lost_history and not self._is_renewed

    def begin(self) -> None:
        """Let members ask, and be a guest of theirs from the first link on if that is needed."""
        self._membership.requests.serve(REQUEST, self._asked)
        self._membership.is_guest = self._is_unknown()

    def link_changed(self, peer: str, state: str, refusal: str | None) -> None:
        """The link to a member is in a state; `refusal`: why it does not let this node in, while it does not."""
        if state == "reachable":
            self._patience_s.pop(peer, None)
        if refusal in DOUBTS:
            self._doubts.setdefault(peer, asyncio.get_running_loop().time())
        else:
            self._doubts.pop(peer, None)
        self._news.set()

    def has_lost_history(self) -> None:
        """Members know something of this node that its store does not have."""
        self._has_lost_history = True
        self._news.set()

    async def run(self) -> None:
        """Work until cancelled, or until this node was taken out, or has another incarnation from its next start on."""
        if self._membership.is_guest:
            await self._make_known()
        while not self._is_answered:
            await self._clear_up(await self._lasting_doubts())
        if self._has_lost_history and not self._is_over:
            await self._renew()

    @property
    def _is_answered(self) -> bool:
        """Whether there is nothing more to ask."""
        return self._is_over or self._has_lost_history

    async def _renew(self) -> None:
        _log.error(
            "the store of this node has lost what other nodes have seen, as when an older copy of it was put in its "
            "place: this node takes a new incarnation and starts again"
        )
        await self._membership.renew(renewed(self._membership.identity, random.SystemRandom().getrandbits))
        self._is_renewed = True
        self._start_again("its store has lost what other nodes have seen")

    # -- asking ----------------------------------------------------------------------------------------------

    def _is_unknown(self) -> bool:
        """Whether no member is known to know the incarnation of this node."""
        known = self._membership.members.get(self._membership.name)
        is_told = known is not None and known.incarnation == self._membership.identity.incarnation
        return not is_told and bool(self._membership.others())

    async def _make_known(self) -> None:
        """Ask members until one of them knows the incarnation of this node."""
        membership = self._membership
        await self._write_down()
        while self._is_unknown() and not self._is_answered:
            asked = self._guest_of(membership.others())
            for member in asked:
                await self._ask(member)
                if not self._is_unknown() or self._is_answered:
                    break
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ASK_AGAIN_S):
                        await membership.until(lambda asked=asked: self._guest_of(membership.others()) != asked)  # type: ignore[misc]
        if not self._is_answered:
            membership.be_guest(is_guest=False)
            if membership.own_record_is_stale():
                await membership.write_own_record()

    async def _write_down(self) -> None:
        """What members are told must be known here after any crash."""
        while True:
            try:
                return await self._membership.become(self._membership.identity)
            except StoreError as error:
                self._warn("the store cannot note the new incarnation", "", str(error))
            await asyncio.sleep(ASK_AGAIN_S)

    async def _lasting_doubts(self) -> set[str]:
        """Wait until a member has not let this node in for a while, longer after each time that it was asked. Those who
        do not let it in; none if history is lost.
        """
        loop, timeout_s = asyncio.get_running_loop(), self._membership.terms.link_timeout_s
        while True:
            self._news.clear()
            doubting = self._doubts.keys() & set(self._membership.others())
            due = [self._doubts[name] + self._patience_s.get(name, timeout_s) for name in doubting]
            if self._has_lost_history:
                return set()
            if due and min(due) <= loop.time():
                for name in doubting:
                    self._doubts[name] = loop.time()
                    self._patience_s[name] = min(2 * self._patience_s.get(name, timeout_s), PATIENCE_MAX_S)
                return doubting
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(due, default=None)):
                    await self._news.wait()

    async def _clear_up(self, doubting: set[str]) -> None:
        """Ask members that do not let this node in. Connections to the others stay."""
        membership = self._membership
        membership.be_guest(is_guest=True)
        try:
            async with asyncio.timeout(GUEST_S):
                while doubting and not self._is_answered:
                    await membership.until(lambda: bool(self._guest_of(doubting)))
                    member = self._guest_of(doubting)[0]
                    doubting.remove(member)
                    await self._ask(member)
        except TimeoutError:
            _log.info("members that do not let this node in do not answer", members=",".join(sorted(doubting)))
        finally:
            membership.be_guest(is_guest=False)

    def _guest_of(self, members: Collection[str]) -> list[str]:
        return [name for name in sorted(members) if self._membership.link(name).state == "guest"]

    async def _ask(self, member: str) -> None:
        identity = self._membership.identity
        payload = {
            "protocol": PROTOCOL,
            "cluster": f"{identity.cluster:032x}",
            "member": self._membership.own_record().encode().decode(),
        }
        try:
            answer = await self._membership.requests.ask(member, REQUEST, payload, timeout_s=ANSWER_TIMEOUT_S)
            verdict = Verdict(answer["verdict"])
            members = [Member.decode(str(value).encode()) for value in answer["members"]]
        except RemoteError as error:
            self._warn("a member does not know this node by its incarnation", member, str(error))
        except NoAnswerError as error:
            _log.info("a member gave no answer about the incarnation of this node", member=member, reason=str(error))
        except (KeyError, TypeError, ValueError) as error:
            self._warn("a member gave an answer that cannot be read", member, repr(error))
        else:
            await self._take_up(member, verdict, members)

    async def _take_up(self, member: str, verdict: Verdict, members: Collection[Member]) -> None:
        """A member has answered; with that it said what it knows of all, which counts where it is newer."""
        if verdict is Verdict.REMOVED:
            self._is_over = True
            self._removal.is_removed(member)
            return
        if verdict is Verdict.OUTDATED:
            self.has_lost_history()
            return
        newer = [each for each in members if self._is_newer(each)]
        try:
            await self._membership.write(*newer)
        except MetadataError as error:
            self._warn("the records of members cannot be written", member, str(error))
            return
        self._membership.read()
        self._membership.follow()
        _log.notice("a member knows this node by its new incarnation", member=member)

    def _is_newer(self, member: Member) -> bool:
        key, value = member_key(member.name), member.encode()
        here = self._membership.metadata.get(key)
        return here is None or (here != value and merged(key, (here, value)) == value)

    def _warn(self, what: str, member: str, reason: str) -> None:
        if self._told.get(member) != reason:
            self._told[member] = reason
            _log.warning(what, member=member, reason=reason)

    # -- being asked -----------------------------------------------------------------------------------------

    async def _asked(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        """A node names its incarnations."""
        membership = self._membership
        asker = member_of(node, payload, name=membership.name)
        if payload.get("cluster") != f"{membership.identity.cluster:032x}":
            raise RemoteError(f"it is of another cluster than {membership.name}")
        async with membership.changing:
            known = membership.members.get(node)
            verdict = judged(known, asker)
            if verdict in {Verdict.REMOVED, Verdict.OUTDATED}:
                return {"verdict": verdict.value, "members": []}
            if known is None or verdict is Verdict.NOT_KNOWN:
                raise RemoteError(
                    f"{membership.name} knows no {node} with this data directory. If no other member does, it was "
                    "taken out, or another node has its name now: begin with an empty data directory, and join again"
                )
            # Higher than whatever the asker has, which has to count it as newer.
            epoch = 1 + max(asker.epoch, known.epoch)
            try:
                await membership.write(dataclasses.replace(asker, epoch=epoch, is_removed=False))
            except MetadataError as error:
                raise RemoteError(str(error)) from None
        membership.read()
        membership.follow()
        _log.notice("a member goes on under a new incarnation", node=node)
        values = [each.encode().decode() for each in membership.members.values()]
        return {"verdict": Verdict.MEMBER.value, "members": values}
