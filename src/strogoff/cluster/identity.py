"""Who a node is to others: its name, the incarnation of its data directory, and the cluster that it belongs to.

An incarnation is minted with a data directory, and again wherever the end of what was written may be lost: then other
nodes know of writes that this one does not know it made, and it may never write under the same name and incarnation
again. So after a wiped disk, after a restored backup, and after a crash of the machine unless each write was synced.
"""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strogoff.cluster.swc import Actor

__all__ = [
    "IDENTITY_KEY",
    "BadIdentityError",
    "Identity",
    "RenamedError",
    "begun",
    "boot_id",
    "ended",
    "incarnation_bytes",
    "new_identity",
    "renewed",
]

IDENTITY_KEY: Final = b"cluster/identity"
"""The row of the engine's store."""
_VERSION: Final = 1
FORMER_MAX: Final = 16
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Draw = Callable[[int], int]
"""So many random bits."""


class BadIdentityError(ValueError):
    """The row of the store is not what was written there."""


class RenamedError(ValueError):
    """The node has another name than the one that its cluster knows."""


@dataclass(frozen=True, slots=True)
class Identity:
    """`incarnation`: 64 bits. `cluster`: 128 bits, minted with the first node of a cluster.

    `running`: the boot of the machine in which the node was started and not stopped in order; None when it was.
    `former`: incarnations before this one under which it was in this cluster, oldest first: members may know it by one
    of them. At most `FORMER_MAX`.
    """

    name: str
    incarnation: int
    cluster: int
    running: str | None = None
    former: tuple[int, ...] = ()

    @property
    def actor(self) -> Actor:
        """Who writes metadata."""
        return Actor(self.name, self.incarnation)

    @property
    def incarnation_bytes(self) -> bytes:
        """As links tell it."""
        return incarnation_bytes(self.incarnation)

    @property
    def cluster_bytes(self) -> bytes:
        """As links tell it."""
        return self.cluster.to_bytes(16, "big")

    def encode(self) -> bytes:
        """The row of the store."""
        row = {
            "version": _VERSION,
            "name": self.name,
            "incarnation": f"{self.incarnation:016x}",
            "cluster": f"{self.cluster:032x}",
            "running": self.running,
            "former": [f"{incarnation:016x}" for incarnation in self.former],
        }
        return json.dumps(row).encode()

    @classmethod
    def decode(cls, row: bytes) -> "Identity":
        """The other way. Raises `BadIdentityError`."""
        try:
            fields = json.loads(row)
            if fields["version"] != _VERSION:
                raise BadIdentityError(f"the identity of the node has version {fields['version']}, not {_VERSION}")
            return cls(
                name=fields["name"],
                incarnation=int(fields["incarnation"], 16),
                cluster=int(fields["cluster"], 16),
                running=fields["running"],
                former=tuple(int(incarnation, 16) for incarnation in fields.get("former", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, BadIdentityError):
                raise
            raise BadIdentityError(f"the identity of the node cannot be read: {error!r}") from None


def incarnation_bytes(incarnation: int) -> bytes:
    """An incarnation as links tell it."""
    return incarnation.to_bytes(16, "big")


def new_identity(name: str, boot: str, draw: Draw) -> Identity:
    """Of a new data directory."""
    return Identity(name, draw(64), draw(128), running=boot)


def renewed(identity: Identity, draw: Draw) -> Identity:
    """The same node under a new incarnation. Of too many former ones the first stays: members know that for certain."""
    first, *later = (*identity.former, identity.incarnation)
    former = (first, *later[-(FORMER_MAX - 1) :])
    return dataclasses.replace(identity, incarnation=draw(64), former=former)


def begun(
    found: Identity, name: str, boot: str, *, is_every_write_synced: bool, has_members: bool, draw: Draw
) -> tuple[Identity, str | None]:
    """The identity of a node that starts with the data of an earlier one, and why it has a new incarnation, if it has.

    `boot`: identifies this boot of this machine. `has_members`: it is one of several in its cluster. Raises
    `RenamedError`.
    """
    if found.name != name and has_members:
        raise RenamedError(
            f"this data directory belongs to {found.name}, which is a member of a cluster, and nodename is {name}: set "
            f"nodename back, or take {found.name} out of its cluster first (vmq-admin cluster leave)"
        )
    begun_now = dataclasses.replace(found, name=name, running=boot)
    if found.name != name:
        # Nobody knows this name.
        return dataclasses.replace(renewed(begun_now, draw), former=()), f"the node was called {found.name}"
    if found.running is not None and found.running != boot and not is_every_write_synced:
        return renewed(begun_now, draw), "the machine went down while the node ran, so the last writes may be lost"
    return begun_now, None


def ended(identity: Identity) -> Identity:
    """After a stop in order: everything is on the disk."""
    return dataclasses.replace(identity, running=None)


def boot_id() -> str:
    """Identifies this boot of this machine; another one after each boot, and on each machine."""
    return _BOOT_ID.read_text().strip()
