"""A name server on a loopback address, in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from broker_process import free_port
from e2e.kubelet.names import NameServer
from e2e.kubelet.records import Names

START_DEADLINE_S = 10.0


@dataclass(slots=True)
class Zone:
    """What it knows: addresses by name. A test may change it at any time. `port`: where it answers, on 127.0.0.1."""

    addresses: dict[str, list[str]] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    server: NameServer = field(init=False)

    def __post_init__(self) -> None:
        self.server = NameServer(self._lookup)

    def _lookup(self, name: str) -> Names | None:
        found = self.addresses.get(name)
        return None if found is None else Names(list(found))

    @property
    def place(self) -> str:
        """As the configuration has it."""
        return f"127.0.0.1:{self.port}"


@contextmanager
def name_server(zone: Zone) -> Iterator[Zone]:
    """Answers meanwhile."""
    loop = asyncio.new_event_loop()
    has_begun, is_over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with zone.server.serving("127.0.0.1", zone.port):
            has_begun.set()
            await is_over.wait()

    def live() -> None:
        try:
            loop.run_until_complete(serve())
        finally:
            loop.close()

    thread = threading.Thread(target=live, name="name server")
    thread.start()
    try:
        assert has_begun.wait(START_DEADLINE_S), "the name server does not begin"
        yield zone
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
