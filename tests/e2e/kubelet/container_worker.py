"""One container of a pod from its first start to the end of the pod: it is run, probed, ended and run again."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.kubelet.asking import ask
from e2e.kubelet.containers import Plan, Running, start
from e2e.kubelet.manifests import Container, ManifestError, Probe
from e2e.kubelet.probing import ProbeState, RestartDelay

RETRY_S: Final = 10.0
"""Until something is tried again that a manifest lacks."""
_LAST_GRACE_S: Final = 2.0
"""What is left to a program whose hook has used up the time."""


@dataclass(slots=True)
class ContainerStatus:
    """How a container is. `exit_code`, `last_line`: of its last run that has ended."""

    is_running: bool = False
    is_started: bool = False
    is_ready: bool = False
    restarts: int = 0
    exit_code: int | None = None
    last_line: str = ""
    waits_for: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many times faster than its manifest says the stand-in waits between probes and between starts.

    What a program is given for something, as a timeout or a grace, is not shortened.
    """

    factor: float

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.factor)


class ContainerWorker:
    """`plan`: makes what one run of it needs, and raises `ManifestError`. `address`: of its pod."""

    def __init__(
        self, container: Container, plan: Callable[[Path], Plan], logs: Path, address: str, grace_s: float, pace: Pace
    ) -> None:
        self.container = container
        self.status = ContainerStatus()
        self.running: Running | None = None
        self._plan, self._logs, self._address, self._grace_s, self._pace = plan, logs, address, grace_s, pace
        self._runs = 0
        self._is_ending = False

    def log(self, *, runs_ago: int = 0) -> str:
        """What its last run has said, or an earlier one."""
        path = self._log_path(self._runs - runs_ago)
        return path.read_text(errors="replace") if path.exists() else ""

    def _log_path(self, run: int) -> Path:
        return self._logs / f"{self.container.name}-{run}.log"

    async def run_once(self) -> int | None:
        """The exit code of one run, which is not probed; None: it could not be started."""
        try:
            if not await self._start():
                return None
            assert self.running is not None
            code = await self.running.wait()
            self._note_end(code)
            return code
        finally:
            await self._be_gone()

    async def run(self) -> None:
        """Run it again and again until the task is cancelled. After that nothing of it runs any more."""
        delay = RestartDelay()
        try:
            while not self._is_ending:
                began = time.monotonic()
                if await self._start():
                    await self._supervise()
                    self.status.waits_for = "CrashLoopBackOff"
                    self.status.restarts += 1
                if not self._is_ending:
                    await self._pace.sleep(delay.after_run((time.monotonic() - began) * self._pace.factor))
        finally:
            await self._be_gone()

    async def _start(self) -> bool:
        self._runs += 1
        log = self._log_path(self._runs)
        try:
            self.running = await start(self._plan(log))
        except ManifestError as error:
            self._runs -= 1
            self.status.waits_for = f"CreateContainerConfigError: {error}"
            await self._pace.sleep(RETRY_S)
            return False
        self.status.is_running, self.status.waits_for = True, ""
        self.status.is_started = self.container.startup is None
        self.status.is_ready = self.container.readiness is None and self.status.is_started
        return True

    async def _supervise(self) -> None:
        assert self.running is not None
        running = self.running
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probe(running), name=f"probes of {self.container.name}")
            code = await running.wait()
            probing.cancel()
        self._note_end(code)

    def _note_end(self, code: int) -> None:
        self.running = None
        status = self.status
        status.is_running = status.is_started = status.is_ready = False
        status.exit_code = code
        lines = self.log().strip().splitlines()
        status.last_line = lines[-1] if lines else ""

    # -- probes ------------------------------------------------------------------------------------------------

    async def _probe(self, running: Running) -> None:
        if self.container.startup is not None:
            await self._until_started(running, self.container.startup)
        async with asyncio.TaskGroup() as tasks:
            if self.container.liveness is not None:
                tasks.create_task(self._watch_life(running, self.container.liveness))
            if self.container.readiness is not None:
                tasks.create_task(self._watch_readiness(running, self.container.readiness))

    async def _until_started(self, running: Running, probe: Probe) -> None:
        state = ProbeState(probe, verdict=False)
        await self._ask_until_decided(running, state)
        if not state.verdict:
            await self._end_for(running, probe, "startup")
            return
        self.status.is_started = True
        self.status.is_ready = self.container.readiness is None

    async def _watch_life(self, running: Running, probe: Probe) -> None:
        state = ProbeState(probe, verdict=True)
        while state.verdict:
            await self._ask_until_decided(running, state, is_first=not state.is_decided)
        await self._end_for(running, probe, "liveness")

    async def _watch_readiness(self, running: Running, probe: Probe) -> None:
        state = ProbeState(probe, verdict=False)
        while True:
            await self._ask_until_decided(running, state, is_first=not state.is_decided)
            self.status.is_ready = state.verdict

    async def _ask_until_decided(self, running: Running, state: ProbeState, *, is_first: bool = True) -> None:
        probe = state.probe
        await self._pace.sleep(probe.initial_delay_s if is_first else probe.period_s)
        while True:
            answer = await ask(probe.action, self.container, running, self._address, probe.timeout_s)
            if state.record(is_well=answer.is_well):
                return
            await self._pace.sleep(probe.period_s)

    async def _end_for(self, running: Running, probe: Probe, what: str) -> None:
        self.status.waits_for = f"the {what} probe has failed"
        await self._end_program(running, self._grace_s if probe.grace_s is None else probe.grace_s)

    # -- the end -----------------------------------------------------------------------------------------------

    async def end(self) -> None:
        """End it for good, with its hook, SIGTERM, and after the time of grace SIGKILL."""
        self._is_ending = True
        if self.running is not None:
            await self._end_program(self.running, self._grace_s)

    async def _end_program(self, running: Running, grace_s: float) -> None:
        deadline = time.monotonic() + grace_s
        hook = self.container.pre_stop
        if hook is not None and not running.has_ended:
            answer = await ask(hook, self.container, running, self._address, grace_s)
            with self._log_path(self._runs).open("a") as log:
                print(f"preStop: {'' if answer.is_well else 'FAILED: '}{answer.text}", file=log)
        running.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(_LAST_GRACE_S, deadline - time.monotonic())):
                await running.wait()
        except TimeoutError:
            running.send(signal.SIGKILL)
            await running.wait()

    def kill(self) -> None:
        """End it at once, without a word."""
        self._is_ending = True
        if self.running is not None:
            self.running.send(signal.SIGKILL)

    async def _be_gone(self) -> None:
        if self.running is not None:
            self.running.send(signal.SIGKILL)
            await self.running.wait()
