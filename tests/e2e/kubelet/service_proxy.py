"""What stands behind the address of a service: each new connection goes to the next of the pods that are ready.

As in Kubernetes a connection stays where it is, whatever becomes of its pod, until one of its ends closes it.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Final

_CHUNK_BYTES: Final = 65_536
_CONNECT_TIMEOUT_S: Final = 5.0
_RESET: Final = struct.pack("ii", 1, 0)

Targets = Callable[[], Sequence[tuple[str, int]]]
"""Addresses and ports of the pods that may get a connection now."""


class ServicePortProxy:
    """One port of one service."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def listen(self, address: str, port: int) -> None:
        self._server = await asyncio.start_server(self._serve, address, port)

    async def close(self) -> None:
        """Stop, and end all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._connections):
            writer.transport.abort()
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            pod = await self._connect_to_pod()
            if pod is None:
                _reset(writer)
                return
            pod_reader, pod_writer = pod
            self._connections.add(pod_writer)
            try:
                ways = (_carry(reader, pod_writer), _carry(pod_reader, writer))
                tasks = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            finally:
                self._connections.discard(pod_writer)
                pod_writer.close()
        except OSError:
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _connect_to_pod(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        targets = self._targets()
        if not targets:
            return None
        self._turn += 1
        address, port = targets[self._turn % len(targets)]
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                return await asyncio.open_connection(address, port)
        except (OSError, TimeoutError):
            return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """There is nobody: the other end sees its connection refused."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
