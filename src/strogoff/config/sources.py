"""Where a value of the configuration came from, and a value before it was read as its type."""

import dataclasses
import enum

__all__ = ["DEFAULT", "Assignment", "Origin", "Source"]


class Origin(enum.Enum):
    """The layers of a configuration, weakest first."""

    DEFAULT = "default"
    BUILT_IN = "built in"
    FILE = "file"
    ENVIRONMENT = "environment"
    OPTION = "--set"
    RUNTIME = "changed at run time"


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The layer that gave a value. `detail`: `FILE:LINE` of a file, the name of an environment variable."""

    origin: Origin
    detail: str = ""

    def __str__(self) -> str:
        """What a person looks for: `etc/strogoff.conf:12`, `environment NAME`, `--set`, `default`."""
        match self.origin:
            case Origin.FILE:
                return self.detail
            case Origin.ENVIRONMENT:
                return f"environment {self.detail}"
            case origin:
                return str(origin.value)


DEFAULT = Source(Origin.DEFAULT)


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """`key = text` as it was written, quotes and comment removed, placeholders not yet replaced.

    `directory` is where a relative `$(<file)` is looked for. `is_literal`: there are no placeholders in it, whatever it
    looks like.
    """

    key: str
    text: str
    source: Source
    directory: str = "."
    is_literal: bool = False
