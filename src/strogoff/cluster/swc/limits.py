"""What bounds the core: sizes of what is written, kept and sent. What a limit turns away is told to the caller."""

from dataclasses import dataclass
from typing import Final

__all__ = ["GAP_MAX", "KEY_BYTES_MAX", "Limits"]

KEY_BYTES_MAX: Final = 0xFFFF
GAP_MAX: Final = 1 << 16
"""How far above its base an entry of the clock may have seen dots, which bounds its bits to 8 KiB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that a node may choose. Members with different ones still understand each other."""

    value_bytes_max: int = 8 << 20
    """The largest value."""
    page_bytes: int = 512 << 10
    """A message with several items ends before it becomes larger than this; one item alone may be."""
    backlog_items_max: int = 100_000
    """Writes of this replica that wait for `take`."""
    messages_max: int = 4_096
    """Answers that wait for `take`. Who gets none asks again."""
    staged_bytes_max: int = 32 << 20
    """What an exchange may hold back until it is complete. A larger difference is fetched as a first sync is."""
    givings_max: int = 16
    """Peers at a time to which a sync in several pages is given."""
    collected_max: int = 20_000
    """Dots that one call of `collect` looks at, for each actor."""
    erased_max: int = 10_000
    """Rows of an abandoned generation that one batch erases."""
    columns_max: int = 16
    """Columns of the watermark that one message carries."""
