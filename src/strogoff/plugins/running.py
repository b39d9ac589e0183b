"""A plugin that is on: its tasks, its mailbox for notifications, its subscriptions, and the end of all that."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strogoff.observe.logging import get_logger
from strogoff.plugins.chain import Link
from strogoff.plugins.contract import Plugin, PluginCommand

__all__ = ["Mailbox", "RunningPlugin"]

_log = get_logger("plugins")


class Mailbox:
    """Notifications that a plugin takes one after the other, in order. Bounded: what finds it full is not told."""

    __slots__ = ("_is_filled", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[Link, Any]] = deque()
        self._is_filled = asyncio.Event()

    def put(self, link: Link, event: Any, limit: int) -> bool:
        """Put one in. False: `limit` wait already."""
        if len(self._waiting) >= limit:
            return False
        self._waiting.append((link, event))
        self._is_filled.set()
        return True

    def __len__(self) -> int:
        return len(self._waiting)

    async def take(self) -> tuple[Link, Any]:
        """The oldest one; waits until there is one."""
        while not self._waiting:
            self._is_filled.clear()
            await self._is_filled.wait()
        return self._waiting.popleft()


@dataclass(slots=True)
class RunningPlugin:
    """A plugin and everything that it has begun."""

    plugin: Plugin
    directory: Path | None
    links: list[Link]
    commands: list[PluginCommand]
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    mailbox: Mailbox = field(default_factory=Mailbox)
    subscribers: dict[tuple[str, str], str] = field(default_factory=dict)
    """Mountpoint and filter -> the engine's name of the subscriber."""
    subscribers_made: int = 0

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.plugin.name

    def start_task(self, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something until it ends or the plugin does."""
        task = tasks.create_task(self._guarded(work, name), name=f"{self.name}: {name}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """A plugin's task that fails must not take the broker with it."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever a plugin raises is told in full
            _log.exception("a task of a plugin failed", plugin=self.name, task=name, error=repr(error))

    async def end_tasks(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        current = asyncio.current_task()
        ending = [task for task in self.tasks if task is not current]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
