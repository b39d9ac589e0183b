"""The DNS server of the stand-in: UDP and TCP, on whatever address its thread may bind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from e2e.kubelet.records import UDP_SIZE_MAX, Lookup, answer, failure

_TCP_SIZE_MAX: Final = 65_535
_TCP_TIMEOUT_S: Final = 5.0


@dataclass(slots=True)
class NameServer:
    """Answers as `lookup` says. `is_failing`: answers that it cannot. `is_silent`: does not answer at all."""

    lookup: Lookup
    is_failing: bool = False
    is_silent: bool = False
    questions: int = 0

    def answer(self, message: bytes, size_max: int) -> bytes | None:
        self.questions += 1
        if self.is_silent:
            return None
        return failure(message) if self.is_failing else answer(message, self.lookup, size_max=size_max)

    @asynccontextmanager
    async def serving(self, address: str, port: int = 53) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(address, port))
        try:
            async with await asyncio.start_server(self._serve_connection, address, port):
                yield
        finally:
            transport.close()

    async def _serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TCP_TIMEOUT_S):
                while True:
                    size = int.from_bytes(await reader.readexactly(2))
                    told = self.answer(await reader.readexactly(size), _TCP_SIZE_MAX)
                    if told is None:
                        return
                    writer.write(len(told).to_bytes(2) + told)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError, TimeoutError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What asyncio makes is no subclass of it in each of its versions.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        told = self._server.answer(data, UDP_SIZE_MAX)
        if told is not None and self._transport is not None:
            self._transport.sendto(told, addr)
