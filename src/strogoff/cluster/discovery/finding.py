"""How a node finds its place at its start, and goes on looking while it is alone.

What it does is decided by `rule`; here are the steps to it: ask the source, ask whom it names, join, and begin again
where that fails. Nothing of it is ever given up.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from strogoff import _engine
from strogoff.cluster.discovery.asking import Asking
from strogoff.cluster.discovery.places import Place, SourceError
from strogoff.cluster.discovery.rule import (
    Decision,
    Found,
    Join,
    Own,
    Reason,
    Said,
    Standing,
    StartAlone,
    Wait,
    Waited,
    decide,
)
from strogoff.cluster.discovery.settings import DiscoverySettings
from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.joining import ClusterError, Joining
from strogoff.cluster.membership import Membership
from strogoff.observe.counters import Counters
from strogoff.observe.logging import get_logger
from strogoff.observe.metrics import Series

if TYPE_CHECKING:
    from strogoff.broker import Broker

__all__ = ["DISCOVERY_COUNTERS", "Discovery"]

DISCOVERY_COUNTERS: Final = {
    "cluster_discovery_looks": "Times that the source of other nodes was asked (cluster.discovery).",
    "cluster_discovery_failures": "Times that it could not say where nodes are.",
    "cluster_discovery_joins": "Times that this node has joined a cluster by itself.",
    "cluster_discovery_joins_refused": "Times that it has tried to, and could not.",
    "cluster_discovery_passed_over": "Places that were not looked at, since there were more than discovery.nodes_max.",
}
SETTLED_KEY: Final = b"cluster/settled"
"""The row of the engine's store: the identity of the cluster in which this node has served."""
VISIT_S: Final = 1.5
"""How long a node that serves clients looks at once; others that want to join it wait meanwhile."""
NEWS_S: Final = 0.1
SURVEY_S: Final = 1.0
"""How long what this node was seen to hold counts as true."""

_log = get_logger("cluster.discovery")


class Discovery:
    """The place of this node. `inventory`: what it holds."""

    name = "discovery"

    def __init__(
        self,
        engine: _engine.Engine,
        membership: Membership,
        joining: Joining,
        settings: DiscoverySettings,
        counters: Counters,
        inventory: Callable[[], Awaitable[Inventory]],
    ) -> None:
        self._engine = engine
        self._membership = membership
        self._joining = joining
        self._settings = settings
        self._counters = counters
        self._inventory = inventory
        self._state, self._surveyed_at = "", -SURVEY_S
        self._asking = Asking(engine, membership, self._own, places_max=settings.nodes_max)
        self._decision: Decision | None = None
        self._reasons: Sequence[Reason] = ()
        self._told: object = None
        self._has_served = self._is_settled = False
        self._places: Sequence[Place] | None = None
        self._trouble = ""
        self._told_at: float | None = None
        self._changed_at = self._began_at = 0.0
        self._found: Sequence[Found] = ()

    # -- what is known ---------------------------------------------------------------------------------------

    def waits_for(self) -> Sequence[str]:
        """What stands between this node and its cluster, in words."""
        return [str(reason) for reason in self._reasons] or ["its place in the cluster"]

    @property
    def found(self) -> Sequence[Found]:
        """What was known of each place when this node looked last."""
        return self._found

    @property
    def source(self) -> str:
        """The value of `cluster.discovery`."""
        return self._settings.kind

    @property
    def trouble(self) -> str:
        """Why the source could not say where nodes are when it was asked last; empty if it could."""
        return self._trouble

    def series(self) -> list[Series]:
        """What is there now."""
        answering = sum(found.said is not None for found in self._found)
        return [
            Series("cluster_discovery_found", "gauge", len(self._found), "Places of other nodes that were found last."),
            Series("cluster_discovery_answering", "gauge", answering, "Those of them where a node has answered."),
        ]

    async def _own(self) -> Said:
        await self._survey()
        membership = self._membership
        others = membership.others()
        standing = Standing.MEMBER if others else Standing.ALONE if self._has_served else Standing.NEW
        return Said(
            membership.name,
            standing,
            membership.identity.cluster,
            members=len(others) + 1,
            is_settled=self._is_settled and not membership.is_guest,
            looks=self._settings.source is not None,
            state=self._state,
        )

    async def _survey(self) -> None:
        """See what this node has of clients, unless that is known well enough. It matters for one that is alone."""
        now = asyncio.get_running_loop().time()
        if self._has_served and not self._membership.others() and now >= self._surveyed_at + SURVEY_S:
            self._surveyed_at = now
            self._state = ", ".join(str(holding) for holding in (await self._inventory()).of_clients)

    # -- the start -------------------------------------------------------------------------------------------

    async def find(self) -> None:
        """Look until it is decided where this node belongs. Whoever is a member resumes, without a look."""
        self._asking.serve()
        settled_in = await asyncio.to_thread(self._engine.store_get, SETTLED_KEY)
        self._has_served = settled_in == self._membership.identity.cluster_bytes
        # A member lets others join in any phase.
        self._is_settled = bool(self._membership.others())
        if self._settings.source is None or self._is_settled:
            return
        self._began_at = self._changed_at = asyncio.get_running_loop().time()
        _log.info("looking for other nodes", source=self._settings.kind)
        self._decision = await self._look()

    async def settle(self) -> None:
        """Do what was decided, until this node has its place: it has joined, or is a cluster of one."""
        pauses = self._pauses()
        while isinstance(self._decision, Join) and not self._membership.others():
            decision = self._decision
            self._reasons = [Reason(f"{decision.node} to let it join ({decision.why})")]
            if await self._join(decision):
                break
            if self._has_served:
                # Its clients have been served by it alone before, and are not kept waiting for what may never come.
                self._decision = StartAlone(f"it was one before, and could not join {decision.node}")
                break
            refusal = self._reasons
            # Nodes that dial this one meanwhile are to find one that looks, and no cluster that is none.
            self._asking.seek(self._places or ())
            await asyncio.sleep(next(pauses))
            self._decision = await self._look(refusal)
        if self._decision is not None and not self._membership.others():
            assert not isinstance(self._decision, Join | Wait), "it is decided"
            _log.notice("this node starts as a cluster of one", reason=self._decision.why)
        self._asking.stop()
        self._reasons = ()
        self._is_settled = True
        await self._note_settled()

    async def _look(self, before: Sequence[Reason] = ()) -> Decision:
        """Look until something else than to wait is decided. `before`: why that has failed the last time."""
        self._reasons = before
        refreshing = asyncio.ensure_future(self._refresh())
        try:
            while not self._membership.others():
                if not self._membership.changing.locked():
                    self._asking.seek(self._places or ())
                    await self._asking.ask(again_after_s=self._settings.interval_s)
                    decision = await self._judged()
                    if not isinstance(decision, Wait):
                        return decision
                    self._reasons = [*decision.reasons, *before]
                    self._tell(decision)
                await self._membership.news(NEWS_S)
        finally:
            refreshing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await refreshing
        return Wait(())

    async def _judged(self) -> Decision:
        await self._survey()
        now = asyncio.get_running_loop().time()
        if self._asking.double:
            text = f"another name: the node at {self._asking.double} is {self._membership.name} too (nodename)"
            return Wait([Reason(text)])
        found = self._asking.found()
        if {(each.place, each.name) for each in found} != {(each.place, each.name) for each in self._found}:
            self._changed_at = now
        self._found = found
        waited = Waited(
            now - self._began_at, None if self._told_at is None else now - self._told_at, now - self._changed_at
        )
        standing = Standing.ALONE if self._has_served else Standing.NEW
        membership = self._membership
        own = Own(membership.name, standing, membership.identity.cluster, self._state)
        return decide(own, found, waited, self._settings.manner, self._trouble)

    async def _refresh(self) -> None:
        """Keep what the source says up to date."""
        pauses = self._pauses()
        while True:
            if await self._ask_source():
                pauses = self._pauses()
                await asyncio.sleep(self._settings.interval_s)
            else:
                await asyncio.sleep(next(pauses))

    async def _ask_source(self) -> bool:
        source = self._settings.source
        assert source is not None, "only who has a source looks"
        self._counters.add("cluster_discovery_looks")
        try:
            async with asyncio.timeout(self._settings.source_timeout_s):
                self._places = await source.look()
        except (SourceError, TimeoutError) as error:
            trouble = str(error) or f"no answer within {self._settings.source_timeout_s:g} s"
            self._counters.add("cluster_discovery_failures")
            if trouble != self._trouble:
                _log.warning("nobody says where other nodes are: it is tried again", reason=trouble)
            self._trouble = trouble
            return False
        self._trouble = ""
        if len(self._places) > self._settings.nodes_max:
            self._counters.add("cluster_discovery_passed_over", len(self._places) - self._settings.nodes_max)
        if self._told_at is None:
            self._told_at = asyncio.get_running_loop().time()
        return True

    async def _join(self, decision: Join) -> bool:
        """Whether this node is in a cluster with others now."""
        address = self._asking.address_of(decision.node)
        if address is None:
            return False
        _log.info("joining", node=decision.node, address=address, reason=decision.why)
        try:
            joined = await self._joining.join_at(decision.node, address)
        except ClusterError as error:
            if self._membership.others():
                # The metadata follows, and the next phase waits for it.
                _log.warning("has joined", node=decision.node, reason=str(error))
                return True
            self._counters.add("cluster_discovery_joins_refused")
            self._reasons = [Reason(f"{decision.node} to let it join", str(error))]
            if self._told != (decision.node, str(error)):
                self._told = (decision.node, str(error))
                _log.warning(
                    "could not join: it is tried again, ever more seldom", node=decision.node, reason=str(error)
                )
            return False
        if joined.starts_again:
            # The node stops in a moment, which ends this, and joins after that.
            await asyncio.Event().wait()
        self._counters.add("cluster_discovery_joins")
        return True

    def _tell(self, decision: Wait) -> None:
        """Each change of what is waited for, and not each look."""
        whats = [reason.what for reason in decision.reasons]
        if whats != self._told:
            self._told = whats
            _log.info("waits for its cluster", reason="; ".join(str(reason) for reason in decision.reasons))

    async def _note_settled(self) -> None:
        """Its next start must not take it for a new one, though it may be alone then."""
        cluster = self._membership.identity.cluster_bytes
        self._has_served = True
        try:
            if await asyncio.to_thread(self._engine.store_get, SETTLED_KEY) != cluster:
                await asyncio.to_thread(self._engine.store_write, [(SETTLED_KEY, cluster)], wait=True)
        except _engine.StoreError as error:
            _log.warning("the store cannot note that this node has found its cluster", reason=str(error))

    def _pauses(self) -> "Pauses":
        return Pauses(self._settings.interval_s, self._settings.retry_max_s)

    # -- going on --------------------------------------------------------------------------------------------

    async def run(self, _broker: "Broker") -> None:
        """Look from time to time while this node is alone, until cancelled."""
        membership, pauses = self._membership, self._pauses()
        while True:
            if self._settings.source is None:
                # It may be told to join.
                await membership.until(lambda: bool(membership.others()))
            if membership.others():
                await self._note_settled()
                await membership.until(lambda: not membership.others())
                pauses = self._pauses()
                continue
            await asyncio.sleep(next(pauses))
            if not self._membership.others() and await self._ask_source():
                await self._visit()

    async def _visit(self) -> None:
        """See whether there is a cluster to join by now, and join it."""
        own = self._membership.name
        if all(place.name == own for place in self._places or ()) or self._asking.has_guests():
            # Whoever is here as a guest is about to join this node, and must not be cut off.
            return
        decision: Decision = Wait(())
        async with self._membership.changing:
            if self._membership.others():
                return
            with contextlib.suppress(TimeoutError):
                try:
                    async with asyncio.timeout(VISIT_S):
                        decision = await self._glance()
                finally:
                    self._asking.stop()
        if isinstance(decision, Join) and await self._join(decision):
            self._told = None

    async def _glance(self) -> Decision:
        while True:
            self._asking.seek(self._places or ())
            await self._asking.ask(again_after_s=VISIT_S)
            decision = await self._judged()
            is_over = all(found.said for found in self._found) or self._asking.double
            if isinstance(decision, Join) or is_over:
                return decision
            await self._membership.news(NEWS_S)


class Pauses:
    """Seconds that double up to a limit, each between a half and the whole of it, without end."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._pause_s = first_s
        self._most_s = max(first_s, most_s)

    def __iter__(self) -> "Pauses":
        return self

    def __next__(self) -> float:
        """The next one."""
        pause_s = self._pause_s
        self._pause_s = min(2 * pause_s, self._most_s)
        return random.SystemRandom().uniform(pause_s / 2, pause_s)
