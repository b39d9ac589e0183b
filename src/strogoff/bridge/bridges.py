"""All bridges of a node: which of them run here, as the configuration, operators and other nodes want it.

Nodes tell each other which bridges they have and which they run, whenever that changes or a node comes within reach;
from that each comes to the same answer who runs a bridge that has to run once.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from strogoff._engine import BridgeEvent, BridgeStatus, Engine
from strogoff.bridge.election import Candidacy, elected, read_candidacies
from strogoff.bridge.plan import LOCAL_CLIENT_ID, local_client_id
from strogoff.bridge.running import Role, RunningBridge
from strogoff.bridge.settings import BridgeSettings, Spread, bridges_of
from strogoff.cluster.node import ClusterNode
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.config import Configuration
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

__all__ = ["BridgeError", "BridgeView", "Bridges"]

REQUEST: Final = "bridges"
ANSWER_TIMEOUT_S: Final = 2.0
RESTART_S: Final = 5.0
RESOLVERS: Final = 4
"""Names that are looked up at a time."""

_log = get_logger("bridge")


class BridgeError(Exception):
    """An operator's wish that cannot be fulfilled; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class BridgeView:
    """A bridge as an operator sees it. `state`: connected, connecting, disconnected, stopped, leftover, elsewhere.

    `since`: of the state, seconds since the Unix epoch; None where it has none. `node`: that runs it.
    """

    settings: BridgeSettings
    state: str
    since: float | None
    error: str
    node: str
    status: BridgeStatus | None


class Bridges:
    """The bridges of a node. They run between `start` and `stop`, within `tasks`."""

    def __init__(
        self, engine: Engine, cluster: ClusterNode, node_name: str, configuration: Callable[[], Configuration]
    ) -> None:
        self._engine = engine
        self._cluster = cluster
        self._node = node_name
        self._configuration = configuration
        self._tasks: asyncio.TaskGroup | None = None
        self._mark = ""
        self._settings: dict[str, BridgeSettings] = {}
        self._running: dict[str, tuple[RunningBridge, asyncio.Task[None]]] = {}
        self._stopped: set[str] = set()
        self._others: dict[str, dict[str, Candidacy]] = {}
        self._reached: frozenset[str] = frozenset()
        self._applying = asyncio.Lock()
        self._renewed: set[str] = set()
        self._resolver = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="strogoff-resolve")
        self._pending: set[asyncio.Task[None]] = set()
        cluster.serve(REQUEST, self._told)

    # -- the node's life ---------------------------------------------------------------------------------------

    @property
    def is_on(self) -> bool:
        """Whether bridges run at all."""
        return self._tasks is not None

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Run the bridges from now on. Raises `ValueError` for a configuration that cannot be used."""
        self._settings = self._read(self._configuration())
        self._tasks = tasks
        self._forget_removed()
        await self._tell_all()
        await self._apply()

    async def stop(self) -> None:
        """End all bridges; other nodes may take them over."""
        self._tasks = None
        async with self._applying:
            ending, self._running = self._running, {}
            for _, task in ending.values():
                task.cancel()
            await asyncio.gather(*(task for _, task in ending.values()), return_exceptions=True)
        await self._tell_all()

    def check(self, configuration: Configuration) -> None:
        """Raises `ValueError` for a configuration that cannot be taken over."""
        self._read(configuration)

    def configuration_changed(self, configuration: Configuration) -> None:
        """Take over a change that was checked; bridges that it is not about go on."""
        settings = self._read(configuration)
        if self.is_on and settings != self._settings:
            self._settings = settings
            self._stopped &= set(settings)
            self._look()

    def cluster_changed(self) -> None:
        """The identity of the cluster, its members, or who can be reached may have changed."""
        if not self._cluster.has_begun:
            return
        if not self.is_on and self._cluster.others():
            # What comes before it is known who runs them is for the node that does now.
            self._give_way(bridge for bridge in self._configured() if bridge.spread is Spread.ONE)
        mark = f"{self._cluster.identity.cluster:032x}"
        if mark != self._mark:
            self._mark = mark
            self._engine.configure({"bridge_mark": mark})
            if self.is_on:
                self._look()
        reached = frozenset(self._cluster.reachable())
        if reached == self._reached:
            return
        came, went = reached - self._reached, self._reached - reached
        self._reached = reached
        for node in went:
            self._others.pop(node, None)
        if self.is_on:
            self._look(came)

    def event(self, event: BridgeEvent) -> None:
        """Hand over what the engine tells of a bridge."""
        found = self._running.get(event.name)
        if found is not None:
            found[0].event(event)

    def _read(self, configuration: Configuration) -> dict[str, BridgeSettings]:
        bridges, problems, _ = bridges_of(configuration)
        if problems:
            raise ValueError("; ".join(str(problem) for problem in problems))
        return {bridge.name: bridge for bridge in bridges}

    def _configured(self) -> list[BridgeSettings]:
        bridges, _, _ = bridges_of(self._configuration())
        return bridges

    def _give_way(self, bridges: Iterable[BridgeSettings]) -> None:
        """Let the sessions of bridges that do not run here have nothing more; what they have stays."""
        for bridge in bridges:
            # By name: whoever has many clients should not walk through all their sessions with each change of a link.
            client_id, mountpoint = local_client_id(bridge.name), bridge.mountpoint
            session = self._engine.session(client_id, mountpoint)
            if session is not None and not session.is_online:
                for found in self._engine.subscriptions(client_id, mountpoint):
                    self._engine.unsubscribe_client(client_id, found.topic, mountpoint)

    def _forget_removed(self) -> None:
        """End the sessions of bridges that are configured no more, or in another name space."""
        wanted = {(bridge.mountpoint, local_client_id(name)) for name, bridge in self._settings.items()}
        for session in self._engine.bridge_sessions():
            if (session.mountpoint, session.client_id) in wanted:
                continue
            name = session.client_id.removeprefix(LOCAL_CLIENT_ID)
            _log.warning(
                "a bridge is configured no more: what waited for it is given up",
                bridge=name,
                messages=session.offline_messages + session.online_messages + session.waiting_acks,
            )
            self._engine.disconnect(session.client_id, session.mountpoint, cleanup=True)

    # -- other nodes -------------------------------------------------------------------------------------------

    def _own(self) -> dict[str, Candidacy]:
        if not self.is_on:
            return {}
        return {
            name: Candidacy(bridge.fingerprint, self._since(name))
            for name, bridge in self._settings.items()
            if bridge.spread is Spread.ONE and name not in self._stopped
        }

    def _since(self, name: str) -> float | None:
        found = self._running.get(name)
        if found is None or found[0].role is not Role.ACTIVE or found[0].settings != self._settings.get(name):
            return None
        return found[0].started_at

    def _payload(self) -> dict[str, Any]:
        return {"bridges": {name: dataclasses.asdict(candidacy) for name, candidacy in self._own().items()}}

    async def _told(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        try:
            said = read_candidacies(payload)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError(f"the bridges of {node} cannot be read: {error!r}") from None
        if said != self._others.get(node):
            self._others[node] = said
            if self.is_on:
                self._look(())
        return self._payload()

    async def _tell(self, node: str) -> None:
        try:
            answer = await self._cluster.requests.ask(node, REQUEST, self._payload(), timeout_s=ANSWER_TIMEOUT_S)
            said = read_candidacies(answer)
            if said != self._others.get(node):
                self._others[node] = said
                self._look(())
        except (NoAnswerError, RemoteError) as error:
            _log.info("a node says nothing of its bridges", node=node, reason=str(error))
        except (KeyError, TypeError, ValueError) as error:
            _log.warning("what a node says of its bridges cannot be read", node=node, reason=repr(error))

    async def _tell_all(self, nodes: Iterable[str] | None = None) -> None:
        if self._cluster.has_begun:
            told = self._cluster.reachable() if nodes is None else nodes
            await asyncio.gather(*(self._tell(node) for node in told))

    # -- who runs here -----------------------------------------------------------------------------------------

    def _look(self, tell: Iterable[str] | None = None) -> None:
        """See to it that what should run runs. `tell`: which nodes have to be told first; None for all."""
        if self._tasks is None:
            return
        task = self._tasks.create_task(self._tell_and_apply(tell), name="bridges")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _tell_and_apply(self, tell: Iterable[str] | None) -> None:
        await self._tell_all(tell)
        await self._apply()

    async def _apply(self) -> None:
        async with self._applying:
            before = self._own()
            removed = [name for name in self._running if name not in self._settings]
            for name in removed:
                await self._end(name)
            if self.is_on:
                self._forget_removed()
            for name, bridge in self._settings.items():
                await self._apply_one(name, bridge)
            has_changed = self._own() != before
        if has_changed and self.is_on:
            await self._tell_all()

    async def _apply_one(self, name: str, bridge: BridgeSettings) -> None:
        role = self._role_of(name, bridge)
        found = self._running.get(name)
        started_at: float | None = None
        if found is not None:
            running, _ = found
            is_same = (running.settings, running.role, running.cluster) == (bridge, role, self._mark)
            if is_same and name not in self._renewed:
                return
            if running.role is role and running.settings.fingerprint == bridge.fingerprint:
                # It stays where it is.
                started_at = running.started_at
            if running.settings.lasts and not bridge.lasts:
                _log.warning("a bridge keeps nothing any more: what waited for it is given up", bridge=name)
            await self._end(name)
        self._renewed.discard(name)
        if role is None and bridge.spread is Spread.ONE and self._runner_of(name, bridge) != self._node:
            self._give_way([bridge])
        if role is not None and self._tasks is not None:
            running = RunningBridge(
                self._engine,
                bridge,
                role,
                node=self._node,
                cluster=self._mark,
                resolver=self._resolver,
                started_at=started_at,
            )
            task = self._tasks.create_task(self._run(running), name=f"bridge {name}")
            self._running[name] = (running, task)

    def _role_of(self, name: str, bridge: BridgeSettings) -> Role | None:
        if not self.is_on or name in self._stopped:
            return None
        if bridge.spread is not Spread.ONE or self._runner_of(name, bridge) == self._node:
            return Role.ACTIVE
        found = self._running.get(name)
        if found is not None and found[0].role is Role.LEFTOVER:
            return Role.LEFTOVER
        session = self._engine.session(local_client_id(name), bridge.mountpoint)
        return Role.LEFTOVER if session is not None else None

    def _runner_of(self, name: str, bridge: BridgeSettings) -> str:
        candidates = {
            node: said[name]
            for node, said in self._others.items()
            if node in self._reached and name in said and said[name].fingerprint == bridge.fingerprint
        }
        if name not in self._stopped:
            candidates[self._node] = Candidacy(bridge.fingerprint, self._since(name))
        return elected(name, candidates) if candidates else self._node

    async def _run(self, running: RunningBridge) -> None:
        name = running.settings.name
        while True:
            try:
                await running.run()
            except Exception as error:  # noqa: BLE001 - a defect of one bridge is logged in full, and ends nothing else
                _log.exception("a bridge failed", bridge=name, error=repr(error), again_in_s=RESTART_S)
                await asyncio.sleep(RESTART_S)
                continue
            # Nothing is left of it here.
            self._engine.disconnect(running.local_client_id, running.settings.mountpoint, cleanup=True)
            if self._running.get(name, (None, None))[0] is running:
                del self._running[name]
            return

    async def _end(self, name: str) -> None:
        _, task = self._running.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    # -- operators ---------------------------------------------------------------------------------------------

    def show(self) -> list[BridgeView]:
        """All bridges that are configured here, in the order of the configuration."""
        return [self._view(name, bridge) for name, bridge in self._settings.items()] if self.is_on else []

    def _view(self, name: str, bridge: BridgeSettings) -> BridgeView:
        found = self._running.get(name)
        if found is None:
            if name in self._stopped:
                return BridgeView(bridge, "stopped", None, "", self._node, None)
            return BridgeView(bridge, "elsewhere", None, "", self._runner_of(name, bridge), None)
        running, _ = found
        if running.role is Role.LEFTOVER:
            return BridgeView(
                bridge, "leftover", running.since, running.error, self._runner_of(name, bridge), running.status()
            )
        return BridgeView(bridge, running.state, running.since, running.error, self._node, running.status())

    def own_subscriptions(self) -> list[str]:
        """What bridges subscribe to on this node, in words."""
        return [
            f"the bridge {session.client_id.removeprefix(LOCAL_CLIENT_ID)} subscribes to {found.topic}"
            for session in self._engine.bridge_sessions()
            for found in self._engine.subscriptions(session.client_id, session.mountpoint)
        ]

    async def operate(self, action: str, name: str = "") -> list[str]:
        """Start, stop or restart a bridge of this node, or all of them; which. Raises `BridgeError`."""
        if not self.is_on:
            raise BridgeError("the plugin vmq_bridge is not on: vmq-admin plugin enable --name=vmq_bridge")
        if name and name not in self._settings:
            known = ", ".join(self._settings) or "none"
            raise BridgeError(f"there is no bridge {name} on this node: there are {known}")
        names = [name] if name else list(self._settings)
        if action == "stop":
            self._stopped |= set(names)
        else:
            self._stopped -= set(names)
        if action == "restart":
            self._renewed |= set(names)
        if action == "stop":
            # Whoever takes over finds the other broker free.
            await self._apply()
            await self._tell_all()
            return names
        await self._tell_all()
        await self._apply()
        if action == "start":
            for each in names:
                if each in self._running:
                    self._running[each][0].retry()
        return names

    def series(self) -> list[Series]:
        """What is counted, once with the bridge as a label, once under VerneMQ's names."""
        found = [(view.settings.name, view.state, view.status) for view in self.show()]
        rows: list[Series] = []
        for name, state, status in found:
            labels = {"bridge": name}
            connected = int(state == "connected")
            rows.append(Series("bridge_connected", "gauge", connected, "Whether the bridge is connected.", labels))
            if status is None:
                continue
            for way, counts in (("out", status.published_out), ("in", status.published_in)):
                for qos, count in enumerate(counts):
                    text = f"Messages that bridges have passed on ({way})."
                    rows.append(Series(f"bridge_publish_{way}", "counter", count, text, {**labels, "qos": str(qos)}))
                    name_of_vernemq = f"{name}_vmq_bridge_publish_{way}_{qos}"
                    rows.append(Series(name_of_vernemq, "counter", count, f"Messages of QoS {qos} passed on ({way})."))
            rows += [Series(word, kind, value, text, labels) for word, kind, value, text in _counts_of(status)]
        dropped = sum(status.dropped for _, _, status in found if status is not None)
        if found:
            text = "Messages that a bridge had no room for while the other broker was away."
            rows.append(Series("vmq_bridge_dropped_msgs", "counter", dropped, text))
        return rows


def _counts_of(status: BridgeStatus) -> list[tuple[str, str, int, str]]:
    return [
        ("bridge_buffered", "gauge", status.buffered, "Messages for the other broker that it has not acknowledged."),
        ("bridge_dropped", "counter", status.dropped, "Messages that a full buffer of a bridge had no room for."),
        (
            "bridge_looped",
            "counter",
            status.looped,
            "Messages that a bridge did not pass on since they had been there.",
        ),
        ("bridge_refused", "counter", status.refused, "Messages that the broker refused to which a bridge took them."),
        (
            "bridge_expired",
            "counter",
            status.expired,
            "Messages whose time was over before a bridge could pass them on.",
        ),
        ("bridge_too_large", "counter", status.too_large, "Messages too large for the broker that they were for."),
    ]
