"""What nodes tell each other of a retained message: its name, so that the later of two is known, and who has it.

The record begins with stamp and origin, and then says whether the message was deleted. So what `merge.latest` makes of
concurrent records is what the engines make of the messages: the later one, and of one and the same name its deletion.
"""

import struct
from typing import Final, NamedTuple

__all__ = ["DamagedRetainedError", "RetainedRecord", "RetainedTopic"]

_HEAD: Final = struct.Struct(">QIBQ")


class DamagedRetainedError(ValueError):
    """The bytes are no record of a retained message."""


class RetainedTopic(NamedTuple):
    """A topic of a mountpoint."""

    mountpoint: str
    topic: str


class RetainedRecord(NamedTuple):
    """The latest change of a topic. `stamp`, `origin`: the name of the message, or of what deleted it. `expires_at`:
    Unix time in ms, 0 for never. `node`: who wrote this, and has the message.
    """

    stamp: int
    origin: int
    is_deleted: bool
    expires_at: int
    node: str

    @property
    def message_name(self) -> tuple[int, int]:
        """Stamp and origin; the greater one is the later."""
        return self.stamp, self.origin

    def is_over(self, now_ms: int) -> bool:
        """Whether the message has expired."""
        return 0 < self.expires_at <= now_ms

    def encode(self) -> bytes:
        """The record as bytes."""
        return _HEAD.pack(self.stamp, self.origin, self.is_deleted, self.expires_at) + self.node.encode()

    @classmethod
    def decode(cls, data: bytes) -> "RetainedRecord":
        """Raises `DamagedRetainedError`."""
        try:
            stamp, origin, is_deleted, expires_at = _HEAD.unpack_from(data)
            node = data[_HEAD.size :].decode()
        except (struct.error, UnicodeDecodeError) as error:
            raise DamagedRetainedError(f"no record of a retained message: {error}") from None
        if is_deleted not in {0, 1}:
            raise DamagedRetainedError(f"no record of a retained message: {is_deleted} for 'deleted'")
        return cls(stamp, origin, bool(is_deleted), expires_at, node)
