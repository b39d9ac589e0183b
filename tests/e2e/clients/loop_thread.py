"""An asyncio loop in a thread, so that a test without a loop can drive a client that needs one."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from e2e.clients.connection import DEADLINE_S

T = TypeVar("T")


class LoopThread:
    """Runs coroutines one after the other from the caller's view; what they leave running goes on between the calls."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._is_running = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._is_running.wait(DEADLINE_S)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, or its error, or `TimeoutError` after the deadline."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, DEADLINE_S), self._loop).result()

    def close(self) -> None:
        """Cancel what still runs and end the thread."""
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(DEADLINE_S)

    def _serve(self) -> None:
        with self._runner:
            self._runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._is_running.set()
        await self._closing.wait()
