"""Where other nodes may be: what a source of that is, and the two that name all nodes, a list and a file."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strogoff.cluster.joining import ClusterError, address_of

__all__ = ["FileSource", "Place", "Source", "SourceError", "StaticSource", "places_of"]

FILE_BYTES_MAX = 1_000_000


class SourceError(Exception):
    """A source cannot say where nodes are at the moment; the message says why. It is asked again."""


@dataclass(frozen=True, slots=True)
class Place:
    """`name`: of the node, empty if the source knows addresses only. `address`: HOST:PORT of its cluster listener.
    `host`: a name that its certificate may be for, empty for that of its address.
    """

    name: str
    address: str
    host: str = ""


class Source(Protocol):
    """Knows where nodes may be; this node may be among them."""

    @property
    def is_complete(self) -> bool:
        """Whether it names all nodes, those that do not run among them."""

    async def look(self) -> Sequence[Place]:
        """Where nodes are now. Raises `SourceError`. May be cancelled."""


def places_of(nodes: Sequence[str], *, port: int) -> list[Place]:
    """Nodes NAME@HOST or NAME@HOST:PORT. Raises `ClusterError`, which names the first that is none."""
    return [Place(*address_of(node, default_port=port)) for node in nodes]


class StaticSource:
    """`cluster.discovery.static.nodes`."""

    is_complete = True

    def __init__(self, nodes: Sequence[str], *, port: int) -> None:
        self._places = places_of(nodes, port=port)

    async def look(self) -> Sequence[Place]:
        """Always the same."""
        return self._places


class FileSource:
    """`cluster.discovery.file.path`: a node on each line, read again each time. What follows a `#` is a comment."""

    is_complete = True

    def __init__(self, path: Path, *, port: int) -> None:
        self._path = path
        self._port = port

    async def look(self) -> Sequence[Place]:
        """What the file says now. A file without a node is one that is not written yet."""
        try:
            text = await asyncio.to_thread(self._read)
            lines = [line.partition("#")[0].strip() for line in text.splitlines()]
            places = places_of([line for line in lines if line], port=self._port)
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror} (cluster.discovery.file.path)") from None
        except (UnicodeDecodeError, ClusterError) as error:
            raise SourceError(f"{self._path}: {error}") from None
        if not places:
            raise SourceError(f"{self._path} names no node (cluster.discovery.file.path)")
        return places

    def _read(self) -> str:
        with self._path.open("rb") as file:
            return file.read(FILE_BYTES_MAX).decode()
