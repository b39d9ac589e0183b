"""A join that is under way, as a row of the engine's store: what a node goes on with that was killed in the middle.

The row is written before another node is asked to let this one in, and goes when all that the join is about is done.
"""

import dataclasses
import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strogoff.cluster.guard.inventory import Kind, kind_of_row
from strogoff.cluster.guard.policy import Policy
from strogoff.cluster.identity import IDENTITY_KEY, Identity
from strogoff.cluster.merge import Merge
from strogoff.cluster.swc import Replica
from strogoff.cluster.swc_store import ROWS_PREFIX, rows_of

__all__ = [
    "BEGUN_KEY",
    "KEPT_PREFIX",
    "BadBegunError",
    "Begun",
    "Step",
    "begun_of",
    "forget_begun",
    "note_begun",
    "start_anew",
]

BEGUN_KEY: Final = b"cluster/join"
KEPT_PREFIX: Final = b"cluster/kept/"
"""Rows of the metadata of before, by their keys, which are written again after the join."""
_VERSION: Final = 1


class BadBegunError(ValueError):
    """The row is not what was written there."""


class Step(enum.Enum):
    """What is to be done next."""

    ANEW = "anew"
    """Begin with empty metadata, at the next start."""
    JOIN = "join"
    """Ask the other node, and settle what both have."""


@dataclass(frozen=True, slots=True)
class Begun:
    """`name`, `address`: of the node through which this one joins. `archive`: the file that has all that was here."""

    name: str
    address: str
    policy: Policy
    step: Step = Step.JOIN
    archive: str = ""

    def encode(self) -> bytes:
        """The row."""
        fields = {
            "version": _VERSION,
            "name": self.name,
            "address": self.address,
            "policy": self.policy.value,
            "step": self.step.value,
            "archive": self.archive,
        }
        return json.dumps(fields).encode()

    @classmethod
    def decode(cls, row: bytes) -> "Begun":
        """The other way. Raises `BadBegunError`."""
        try:
            fields = json.loads(row)
            if fields["version"] != _VERSION:
                raise BadBegunError(f"a join was begun by another version ({fields['version']}): finish it with that")
            return cls(
                str(fields["name"]),
                str(fields["address"]),
                Policy(fields["policy"]),
                Step(fields["step"]),
                str(fields["archive"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, BadBegunError):
                raise
            raise BadBegunError(
                f"the row of a join that was begun cannot be read ({error!r}): restore a backup of the store"
            ) from None


class EngineRows(Protocol):
    """What is needed of the engine."""

    def store_get(self, key: bytes) -> bytes | None:
        """A row."""

    def store_scan(self, prefix: bytes, *, after: bytes | None = None, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
        """Rows in the order of their keys."""

    def store_write(self, changes: Sequence[tuple[bytes, bytes | None]], *, wait: bool = False) -> None:
        """Write rows, all of them or none."""


def begun_of(engine: EngineRows) -> Begun | None:
    """The join that is under way. Raises `StoreError` and `BadBegunError`."""
    row = engine.store_get(BEGUN_KEY)
    return None if row is None else Begun.decode(row)


def note_begun(engine: EngineRows, begun: Begun) -> None:
    """From now on it is under way, also after a crash. Blocking. Raises `StoreError`."""
    engine.store_write([(BEGUN_KEY, begun.encode())], wait=True)


def forget_begun(engine: EngineRows) -> None:
    """It is under way no more, and what was kept for it is in its place. Blocking. Raises `StoreError`."""
    kept = [(key, None) for key, _ in rows_of(engine, KEPT_PREFIX)]
    engine.store_write([(BEGUN_KEY, None), *kept], wait=True)


def start_anew(engine: EngineRows, begun: Begun, rows: Iterable[tuple[bytes, bytes]], merge: Merge) -> None:
    """Empty the metadata, and the identity with it: all at once, so that a crash finds it done or not. With `merge`
    as the policy, settings and keys of before are kept aside. Blocking. Raises `StoreError` and `BadIdentityError`.
    """
    found, identity = list(rows), engine.store_get(IDENTITY_KEY)
    kept: list[tuple[bytes, bytes | None]] = []
    if identity is not None and begun.policy is Policy.MERGE:
        actor = Identity.decode(identity).actor
        replica = Replica(actor, members=[actor], nonce=0, rows=found, resolve=merge, prefix=ROWS_PREFIX)
        kept = [
            (KEPT_PREFIX + key, value)
            for key, value in replica.scan(b"")
            if kind_of_row(key) in {Kind.CONFIGURATION, Kind.API_KEYS}
        ]
    joins = dataclasses.replace(begun, step=Step.JOIN)
    gone: list[tuple[bytes, bytes | None]] = [(key, None) for key, _ in found]
    engine.store_write([*gone, (IDENTITY_KEY, None), *kept, (BEGUN_KEY, joins.encode())], wait=True)
