"""Who belongs to the cluster: a record a name in the replicated metadata, merged without asking anybody.

A record is never deleted, since a node that comes back has to learn that it was removed. Of two records of a name the
one with the higher epoch counts, and each change raises it; of two changes at the same time on two nodes the removal
counts, and otherwise the greater incarnation.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strogoff.cluster.identity import FORMER_MAX
from strogoff.cluster.swc import Actor

__all__ = ["MEMBERS_PREFIX", "BadMemberError", "Member", "actors", "member_key", "merged"]

MEMBERS_PREFIX: Final = b"member/"
_VERSION: Final = 1


class BadMemberError(ValueError):
    """Bytes that are no member's record."""


@dataclass(frozen=True, slots=True)
class Member:
    """`addresses`: HOST:PORT of its cluster listener. `epoch`: counts the changes of this record. `former`: what other
    incarnations the node had in this cluster, as far as it remembers.
    """

    name: str
    incarnation: int
    addresses: tuple[str, ...]
    epoch: int = 1
    is_removed: bool = False
    is_tls: bool = False
    former: tuple[int, ...] = ()

    @property
    def incarnations(self) -> set[int]:
        """All of them. No node that has joined anew has one of these."""
        return {self.incarnation, *self.former}

    @property
    def actor(self) -> Actor:
        """Who writes metadata."""
        return Actor(self.name, self.incarnation)

    def encode(self) -> bytes:
        """The value in the metadata."""
        fields = {
            "version": _VERSION,
            "name": self.name,
            "incarnation": f"{self.incarnation:016x}",
            "addresses": list(self.addresses),
            "epoch": self.epoch,
            "removed": self.is_removed,
            "tls": self.is_tls,
            "former": [f"{incarnation:016x}" for incarnation in self.former],
        }
        return json.dumps(fields, sort_keys=True).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Member":
        """The other way. Raises `BadMemberError`. Fields that a later version added are passed over."""
        try:
            fields = json.loads(value)
            former = tuple(int(incarnation, 16) for incarnation in fields.get("former", ()))
            if len(former) > FORMER_MAX:
                raise ValueError(f"{len(former)} former incarnations, of which there are {FORMER_MAX} at most")
            return cls(
                name=str(fields["name"]),
                incarnation=int(fields["incarnation"], 16),
                addresses=tuple(str(address) for address in fields["addresses"]),
                epoch=int(fields["epoch"]),
                is_removed=bool(fields["removed"]),
                is_tls=bool(fields["tls"]),
                former=former,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadMemberError(f"a member's record cannot be read: {error!r}") from None


def member_key(name: str) -> bytes:
    """The key of a member's record."""
    return MEMBERS_PREFIX + name.encode()


def merged(_: bytes, values: tuple[bytes, ...]) -> bytes:
    """What concurrent records of a name come to. Bytes that are no record lose against records."""

    def rank(value: bytes) -> tuple[int, bool, int, bytes]:
        try:
            member = Member.decode(value)
        except BadMemberError:
            return -1, False, 0, value
        return member.epoch, member.is_removed, member.incarnation, value

    return max(values, key=rank)


def actors(members: Iterable[Member]) -> set[Actor]:
    """The actors of those that belong to the cluster."""
    return {member.actor for member in members if not member.is_removed}
