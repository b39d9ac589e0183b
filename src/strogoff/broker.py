"""A node from start to stop: runs the phases of `phases.PHASES` in order and owns what lives as long as the node.

A driver::

    broker = Broker(configuration, services=[AdminServer(build_registry())])
    loop.add_signal_handler(signal.SIGTERM, broker.request_stop, "SIGTERM")
    await broker.run()

Nothing in here waits on a timer once clients are served: an idle node sleeps until a descriptor is readable.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from strogoff import _engine, service_manager, version
from strogoff.bridge.bridges import Bridges
from strogoff.cluster.discovery.finding import DISCOVERY_COUNTERS
from strogoff.cluster.discovery.settings import discovery_settings
from strogoff.cluster.guard.begun import BadBegunError, Begun, note_begun
from strogoff.cluster.guard.policy import Policy, policy_of
from strogoff.cluster.identity import BadIdentityError, RenamedError
from strogoff.cluster.joining import JoinContext
from strogoff.cluster.leaving import Leaving
from strogoff.cluster.node import ClusterNode
from strogoff.cluster.readiness import Readiness, ReadyWhen
from strogoff.cluster.starting import in_step, lacking
from strogoff.cluster.terms import terms_of
from strogoff.config import Configuration, engine_changes
from strogoff.data_directory import held
from strogoff.listeners.certificates import CertificateError
from strogoff.listeners.manager import ListenerError, ListenerManager
from strogoff.observe.counters import Counters
from strogoff.observe.enginelog import EngineLog
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import MetricsSource, aggregated
from strogoff.observe.systree import Systree, SystreeSettings
from strogoff.phases import NodeHealth, Phase, PhaseHistory
from strogoff.plugins.contract import Activation
from strogoff.plugins.dispatcher import PluginEvent
from strogoff.plugins.manager import COUNTERS, PluginManager
from strogoff.plugins.requests import PhaseChange
from strogoff.store.node_store import NodeStore
from strogoff.store.putting_away import Counts, note_removal

__all__ = ["Broker", "Service", "StartError"]

STOP_TIMEOUT_MS = 5_000
EVENTS_PER_TURN_MAX = 1_024
SERVICE_RESTART_S = 5.0

NETSPLIT_COUNTERS = {
    "netsplit_detected": "Partitions of the cluster that were noticed.",
    "netsplit_resolved": "Partitions of the cluster that healed.",
}

_log = get_logger("broker")


Step: TypeAlias = Callable[[asyncio.TaskGroup], Awaitable[None]]


class StartError(Exception):
    """The node cannot start; the message says which address, file or limit is in the way and what to do."""


class RemovedError(Exception):
    """The node was taken out of its cluster while it was away, and has stopped; the message says how it goes on."""


class StartAgainError(Exception):
    """The node has stopped to be started again; the message says why."""


class Service(Protocol):
    """Something that runs beside the engine while the node is up."""

    @property
    def name(self) -> str:
        """What the log calls it."""

    async def run(self, broker: "Broker") -> None:
        """Run until cancelled."""


class Broker:
    """One node. `services` start with the phase `booting`."""

    def __init__(
        self, configuration: Configuration, *, services: Sequence[Service] = (), dropped_logs: Callable[[], int] = int
    ) -> None:
        self.configuration = configuration
        self.node_name = configuration.node_name
        self.data_directory: Path = configuration.data_directory
        self.phases = PhaseHistory(time.time)
        self.engine = _engine.Engine(configuration.engine_settings())
        self._engine_log = EngineLog(
            get_logger("engine"), keep_alive_as_warning=configuration.get("logging.keepalive_as_warning")
        )
        self.counters = Counters({**COUNTERS, **NETSPLIT_COUNTERS, **DISCOVERY_COUNTERS})
        self.metrics = MetricsSource(
            self.engine.metrics,
            lambda: dropped_logs() + self._engine_log.suppressed,
            lambda: [
                *self.counters.series(),
                *self.cluster.series(),
                *self.discovery.series(),
                *self.bridges.series(),
            ],
        )
        self.plugins = PluginManager(
            self.engine,
            configuration,
            node_name=self.node_name,
            data_directory=self.data_directory,
            counters=self.counters,
            keys_learnt=self._keys_learnt,
        )
        self.store = NodeStore(self.engine, self.data_directory, self.node_name)
        self.listeners = ListenerManager(self.engine, lambda: self.configuration, choose=self.plugins.listeners_changed)
        terms = terms_of(configuration)
        self.cluster = ClusterNode(
            self.engine,
            self.node_name,
            terms=terms,
            join_context=JoinContext(self.store, lambda: policy_of(self.configuration), internal=self._internal),
            phase=lambda: self.phases.current.value,
            removed=self._was_removed,
            start_again=self.request_restart,
            looked=self._cluster_changed,
        )
        self.discovery = self.cluster.discovery(discovery_settings(configuration, terms), self.counters)
        self.bridges = Bridges(self.engine, self.cluster, self.node_name, lambda: self.configuration)
        self.plugins.bridges = self.bridges
        self.readiness = Readiness(
            self.cluster.view,
            lambda: ReadyWhen(self.configuration.get("cluster.ready_when")),
            self._cluster_readiness_changed,
        )
        self.leaving = Leaving(
            self.engine,
            self.cluster,
            self.listeners,
            node_name=self.node_name,
            has_left=self._note_departure,
            stop=self.request_stop,
        )
        self._boot_waits_for = "the services that run beside it"
        self._is_clustered = False
        self._is_split = False
        self._why_stopped: RemovedError | StartAgainError | None = None
        self.http_states: dict[str, str] = {}
        """HTTP listener -> running or not_running, kept by the service that serves them."""
        self._systree = Systree(self.engine, self.metrics, self.node_name, self._systree_settings)
        self._services = tuple(services)
        self._running: list[asyncio.Task[None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._reads_events = False
        self._stop = asyncio.Event()
        # The way up: each phase, what has to be done before the node may say that it is in it, and what it does in it.
        # A node that was a member resumes; one without peers is a cluster of one.
        self._way_up: tuple[tuple[Phase, Step, Step], ...] = (
            (Phase.BOOTING, _nothing, self._boot),
            (Phase.DISCOVERING, _nothing, self._discover),
            (Phase.JOINING, _nothing, self._join),
            (Phase.SYNCING, _nothing, self._get_in_step),
            (Phase.READY, self._open_listeners, self._serve),
        )

    async def run(self) -> None:
        """The whole life of the node; returns when it has stopped as asked.

        Raises `StartError` or `DataDirectoryError` when it cannot start; what had been started is stopped then. Raises
        `RemovedError` when it stopped since it is in its cluster no more, `StartAgainError` to be started again.
        """
        failure: StartError | RemovedError | StartAgainError | None = None
        with held(self.data_directory) as private:
            if not private:
                _log.warning("other users can look into the data directory: chmod 700 it", path=self.data_directory)
            async with asyncio.TaskGroup() as tasks:
                self.plugins.attach(tasks)
                try:
                    await self._go_up(tasks)
                    await self._stop.wait()
                except StartError as error:
                    # Kept aside, since the group would wrap it up with errors of its tasks, and it has no such tasks.
                    failure = error
                finally:
                    await self._go_down()
                    for service in self._running:
                        service.cancel()
        self._enter(Phase.STOPPED)
        failure = failure or self._why_stopped
        if failure is not None:
            raise failure

    def request_stop(self, reason: str) -> None:
        """Let the node stop in an orderly way, whatever phase it is in. Call it from the event loop's thread.

        It ends a `request_restart` that came before.
        """
        if isinstance(self._why_stopped, StartAgainError):
            self._why_stopped = None
        if not self._stop.is_set():
            _log.notice("stopping", reason=reason)
            self._stop.set()

    def request_restart(self, reason: str) -> None:
        """As `request_stop`, and `run` raises `StartAgainError`. Nothing happens when the node is stopping already."""
        if not self.stopping:
            self.request_stop(reason)
            self._why_stopped = StartAgainError(reason)

    @property
    def stopping(self) -> bool:
        """Whether the stop was asked for."""
        return self._stop.is_set()

    def _keys_learnt(self, configuration: Configuration) -> None:
        self.configuration = configuration

    async def change_configuration(self, configuration: Configuration) -> None:
        """Put a changed configuration into force. Raises `ValueError` that names the setting; nothing changes then."""
        self.engine.configure(engine_changes(self.configuration, configuration))
        try:
            self.bridges.check(configuration)
            await self.plugins.configuration_changed(configuration)
        except ValueError:
            self.engine.configure(engine_changes(configuration, self.configuration))
            raise
        # Names only: a value may be a secret.
        before = self.configuration.assigned
        changed = [name for name, setting in configuration.assigned.items() if before.get(name) != setting]
        self.configuration = configuration
        self.bridges.configuration_changed(configuration)
        self._systree.reconfigure()
        self.readiness.look()
        _log.notice("configuration changed", keys=",".join(changed))

    def health(self) -> NodeHealth:
        """What the health of the node is judged by."""
        return NodeHealth(
            self.phases.current,
            [(found.info.kind, found.info.status == "running") for found in self.listeners.show()],
            self.readiness.reasons(),
            self.cluster.view().unreachable,
            has_served=any(passage.phase is Phase.READY for passage in self.phases.passages),
            waits_for=self.waits_for(),
        )

    def waits_for(self) -> Sequence[str]:
        """What stands between the node and its clients while it starts, in words; nothing once it serves them."""
        match self.phases.current:
            case Phase.SYNCING:
                return lacking(self.cluster)
            case Phase.BOOTING:
                return (self._boot_waits_for,)
            case Phase.DISCOVERING | Phase.JOINING:
                return self.discovery.waits_for()
            case _:
                return ()

    # -- phases ----------------------------------------------------------------------------------------------

    async def _go_up(self, tasks: asyncio.TaskGroup) -> None:
        for phase, prepare, work in self._way_up:
            if self._stop.is_set():
                return
            await prepare(tasks)
            self._enter(phase)
            await work(tasks)

    def _enter(self, phase: Phase) -> None:
        previous = self.phases.current
        self.phases.enter(phase)
        _log.info("phase", phase=phase.value, node=self.node_name)
        self.plugins.phase_entered(PhaseChange(phase, previous, time.time(), self.node_name))
        service_manager.tell(phase, is_restart=isinstance(self._why_stopped, StartAgainError))

    async def _boot(self, tasks: asyncio.TaskGroup) -> None:
        asyncio.get_running_loop().add_reader(self.engine.event_fd(), self._drain_events)
        self._reads_events = True
        # Before the store, which may take a while: health and `node phase` are asked in that time above all.
        for service in self._services:
            self._start_service(tasks, service)
        self._boot_waits_for = "its store to be opened"
        await self._open_store()
        self._boot_waits_for = "its threads and the plugins that start first"
        try:
            self.engine.start()
        except OSError as error:
            raise StartError(f"the engine cannot start its threads: {error.strerror}") from error
        await self.plugins.start(Activation.BOOT)

    async def _open_store(self) -> None:
        try:
            await self.store.open()
        except _engine.StoreError as error:
            raise StartError(f"{self.store.directory}: {error}") from error
        except OSError as error:
            raise StartError(
                f"the store {self.store.directory} cannot be opened: {error.strerror}; be the user who owns it, or use "
                "another directory (platform_data_dir)"
            ) from error

    async def _begin_cluster(self, tasks: asyncio.TaskGroup) -> None:
        try:
            await asyncio.to_thread(self._take_up_reset)
            self._running += await self.cluster.begin(tasks)
        except (CertificateError, RenamedError, BadIdentityError, BadBegunError, _engine.StoreError) as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(
                f"the listener for other nodes cannot be opened (listener.vmq, listener.vmqs): {error}"
            ) from error
        self.leaving.serve()
        self._is_clustered = True
        self.bridges.cluster_changed()

    async def _discover(self, tasks: asyncio.TaskGroup) -> None:
        await self._begin_cluster(tasks)
        if self.configuration.get("cluster.serve_before_ready"):
            await self._open_listeners(tasks)
            self._start_service(tasks, self.listeners)
        if not self.cluster.joining.is_under_way:
            await self._unless_stopped(tasks, self.discovery.find())

    async def _join(self, tasks: asyncio.TaskGroup) -> None:
        if self.cluster.joining.is_under_way:
            # This node ended in the middle of it. Where it does not get on, clients do not wait for it.
            timeout_s = self.configuration.get("cluster.sync_timeout") / 1_000
            await self._unless_stopped(tasks, self.cluster.joining.done(timeout_s))
            await self._unless_stopped(tasks, self.discovery.find())
        await self._unless_stopped(tasks, self.discovery.settle())

    async def _unless_stopped(self, tasks: asyncio.TaskGroup, work: Coroutine[None, None, None]) -> None:
        """Do something that may take for ever. The stop of the node ends it."""
        working = tasks.create_task(work, name="start")
        stopping = tasks.create_task(self._stop.wait(), name="stop")
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})

    def _internal(self) -> Sequence[str]:
        """What plugins and bridges have for themselves, in words."""
        return [*self.plugins.own_subscriptions(), *self.bridges.own_subscriptions()]

    def _take_up_reset(self) -> None:
        """The store is empty, to join through a node."""
        reset = self.store.reset
        if reset is not None:
            archive = str(self.data_directory / reset.archive)
            note_begun(self.engine, Begun(reset.name, reset.address, Policy.RESET, archive=archive))
            self.store.reset_is_taken_up()

    async def _get_in_step(self, _tasks: asyncio.TaskGroup) -> None:
        get = self.configuration.get
        await in_step(
            self.cluster,
            sync_timeout_s=get("cluster.sync_timeout") / 1_000,
            link_timeout_s=get("cluster.link_timeout") / 1_000,
            is_stopping=self._stop.is_set,
        )
        self.readiness.begin()

    def _cluster_changed(self) -> None:
        self.readiness.look()
        self.bridges.cluster_changed()

    def _cluster_readiness_changed(self, why_not: str | None) -> None:
        if not self.readiness.is_ready and not self._is_split:
            self.counters.add("netsplit_detected")
        elif self.readiness.is_ready and self._is_split:
            self.counters.add("netsplit_resolved")
        self._is_split = not self.readiness.is_ready
        self.engine.set_netsplit(why_not)

    def _was_removed(self, told_by: str) -> None:
        """Others have taken over what this node has: it must not go on beside them."""
        if self._why_stopped is not None:
            return
        counts = self._counts()
        try:
            note_removal(self.data_directory, told_by=told_by, **counts)
        except OSError as error:
            _log.error(
                "this node was taken out of its cluster while it was away, and cannot note that: it goes on alone",
                told_by=told_by,
                reason=str(error),
            )
            return
        self._why_stopped = RemovedError(
            f"{self.node_name} was taken out of its cluster while it was away ({told_by} says so), and has stopped. "
            "Its next start puts what it has away, beside the store, and begins empty; then it may join again"
        )
        _log.error("this node was taken out of its cluster while it was away: it stops", told_by=told_by, **counts)
        self.request_stop("taken out of the cluster")

    def _note_departure(self) -> None:
        """Retained messages are here still, as on all nodes. The node would not be let in again with them, and they
        would be old by then: its next start begins without them.
        """
        try:
            note_removal(self.data_directory, told_by="", has_left=True, **self._counts())
        except OSError as error:
            text = "this node has left its cluster, and cannot note that its next start is to begin empty"
            _log.error(text, reason=str(error))

    def _counts(self) -> Counts:
        online, offline = self.engine.session_count()
        values = self._values()
        return {
            "sessions": online + offline,
            "messages": int(values.get("queue_messages", 0)),
            "retained": int(values.get("retain_messages", 0)),
        }

    def _values(self) -> dict[str, float]:
        return {row.name: row.value for row in aggregated(self.metrics.snapshot())}

    async def _open_listeners(self, _tasks: asyncio.TaskGroup) -> None:
        if self.listeners.show():
            return
        try:
            await self.listeners.open_all()
        except ListenerError as error:
            raise StartError(str(error)) from error

    async def _serve(self, tasks: asyncio.TaskGroup) -> None:
        self._start_service(tasks, self._systree)
        if not self.configuration.get("cluster.serve_before_ready"):
            self._start_service(tasks, self.listeners)
        self._looking = self._start_service(tasks, self.discovery)
        open_now = self.engine.listeners()
        addresses = ", ".join(f"{info.kind}://{_endpoint(info.address, info.port)}" for info in open_now)
        _log.notice("ready", node=self.node_name, version=version(), listeners=addresses)
        await self.plugins.start(Activation.READY)

    async def _go_down(self) -> None:
        self._enter(Phase.DRAINING)
        if self._looking is not None:
            # It must not change the links of an engine that stops.
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await self.plugins.stop(Activation.READY)
        if self._is_clustered:
            self.readiness.end()
            self.cluster.end()
        # The engine tells its clients and flushes; that takes a while, in which the loop goes on with the log events.
        await asyncio.to_thread(self.engine.stop, STOP_TIMEOUT_MS)
        if self._reads_events:
            asyncio.get_running_loop().remove_reader(self.engine.event_fd())
            while self._drain_events() == EVENTS_PER_TURN_MAX:
                pass
        await self.plugins.stop(Activation.BOOT)

    # -- services --------------------------------------------------------------------------------------------

    def _start_service(self, tasks: asyncio.TaskGroup, service: Service) -> asyncio.Task[None]:
        task = tasks.create_task(self._supervise(service), name=service.name)
        self._running.append(task)
        return task

    async def _supervise(self, service: Service) -> None:
        """Run a service until the node stops. One that fails is started again: it must not take clients with it."""
        while True:
            try:
                await service.run(self)
            except Exception as error:  # noqa: BLE001 - a defect of a service is logged in full and survived
                _log.exception(
                    "a service failed", service=service.name, error=repr(error), again_in_s=SERVICE_RESTART_S
                )
            else:
                _log.warning("a service ended by itself", service=service.name, again_in_s=SERVICE_RESTART_S)
            await asyncio.sleep(SERVICE_RESTART_S)

    def _systree_settings(self) -> SystreeSettings:
        get = self.configuration.get
        return SystreeSettings(
            enabled=get("systree_enabled"),
            interval_s=get("systree_interval") / 1_000,
            mountpoint=get("systree_mountpoint"),
            qos=get("systree_qos"),
            retain=get("systree_retain"),
        )

    # -- events of the engine ----------------------------------------------------------------------------------

    def _drain_events(self) -> int:
        """Handle one batch; how many events it had. The descriptor stays readable while more wait."""
        events = self.engine.drain(EVENTS_PER_TURN_MAX)
        for_plugins: list[PluginEvent] = []
        claims: list[_engine.ClaimRequest] = []
        for event in events:
            if isinstance(event, _engine.LogEvent):
                self._engine_log.write(event.level, event.message, event.fields)
            elif isinstance(event, _engine.MessageEvent) and event.kind == "delivery":
                self.plugins.received(event)
            elif isinstance(event, _engine.ClaimRequest):
                claims.append(event)
            elif isinstance(event, _engine.BridgeEvent):
                self.bridges.event(event)
            else:
                for_plugins.append(event)
        if for_plugins:
            self.plugins.handle(for_plugins)
        if claims:
            self.cluster.sessions.claimed(claims)
        return len(events)


async def _nothing(_tasks: asyncio.TaskGroup) -> None:
    """The step of a phase that has nothing to do."""


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
