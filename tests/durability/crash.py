"""Kills a broker again and again while a load is on, and gives the ledger for judgement."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from broker_process import BrokerProcess
from durability.ledger import Kind, Ledger
from durability.load import STALL_S, STALL_WITH_LOSSES_S, Load, Pace

__all__ = ["CrashPlan", "CrashRun"]


@dataclass(slots=True, frozen=True)
class CrashPlan:
    """When the broker is killed."""

    kills: int
    up_s: tuple[float, float] = (0.1, 0.9)
    """How long it runs between its first answer and the kill."""
    early_share: float = 0.15
    """So many kills come while it starts, that is while it recovers."""
    early_s: float = 0.6
    is_orderly: bool = False
    """Stop it instead, for a comparison."""


@dataclass(slots=True)
class CrashRun:
    """One run: a broker that is running, a plan, chance, and what happens to the disk after each kill."""

    broker: BrokerProcess
    plan: CrashPlan
    rng: Random
    pace: Pace = field(default_factory=Pace)
    has_sleeper: bool = False
    """One subscriber is away until the end, so that the store has to keep everything."""
    expects_losses: bool = False
    after_kill: Callable[[], None] = lambda: None
    killed_at: list[float] = field(default_factory=list)
    early_kills: int = 0

    def run(self) -> Ledger:
        """The whole run; the broker is up at the end, drained."""
        return asyncio.run(self._run())

    async def _run(self) -> Ledger:
        load = Load(self.rng, self.pace, STALL_WITH_LOSSES_S if self.expects_losses else STALL_S)
        load.cast(has_sleeper=self.has_sleeper)
        async with load.on(self.broker.port):
            for _ in range(self.plan.kills):
                await asyncio.sleep(self.rng.uniform(*self.plan.up_s))
                await self._kill(load)
                while self.rng.random() < self.plan.early_share and not self.plan.is_orderly:
                    self.broker.launch()
                    await asyncio.sleep(self.rng.uniform(0.0, self.plan.early_s))
                    await self._kill(load)
                    self.early_kills += 1
                await asyncio.to_thread(self.broker.start)
            await asyncio.sleep(self.plan.up_s[1])
            await load.drain()
        return load.ledger

    async def _kill(self, load: Load) -> None:
        if not self.broker.is_alive():
            load.ledger.note(Kind.UNFINISHED, "the broker ended by itself")
        killed_at = asyncio.get_running_loop().time()
        if self.plan.is_orderly:
            await asyncio.to_thread(self.broker.stop)
        else:
            self.broker.kill()
        # What the broker had sent is still in the buffers of the connections.
        await load.until_cut_off()
        load.ledger.count_as_of(killed_at)
        self.killed_at.append(killed_at)
        self.after_kill()
