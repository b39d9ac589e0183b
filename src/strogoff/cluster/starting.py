"""What a node that starts as a member waits for before it serves clients: that it knows what the others know.

A message that is published right after the start has to find subscribers on other nodes, so their routes must be here,
and a client has to find what the metadata says, and what is retained. Members that do not show up within the time in
which a link counts as down are not waited for.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from strogoff.cluster.swc_store import ExchangeError
from strogoff.observe.logging import get_logger

__all__ = ["Cluster", "in_step", "lacking"]

LOOK_S: Final = 0.02

_log = get_logger("cluster")


class Cluster(Protocol):
    """What is needed of the node's cluster."""

    def others(self) -> list[str]:
        """The names of the other members."""

    def reachable(self) -> list[str]:
        """Those of them that can be reached."""

    def has_routes_of(self, name: str) -> bool:
        """Whether all that a member subscribes to is known here."""

    def lacks_retained(self) -> bool:
        """Whether retained messages are missing that can still be had."""

    async def fetch_metadata_of(self, name: str) -> None:
        """Fetch what a member knows now. Raises `ExchangeError`."""


async def in_step(
    cluster: Cluster, *, sync_timeout_s: float, link_timeout_s: float, is_stopping: Callable[[], bool]
) -> Sequence[str]:
    """Wait until this node is in step with the members that it reaches, or the time is over; alone, it does not wait.

    Returns the members with which it is not in step.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    fetched: set[str] = set()
    async with asyncio.TaskGroup() as tasks:
        fetching: dict[str, asyncio.Task[None]] = {}
        while True:
            others, reachable = cluster.others(), set(cluster.reachable())
            missing = [name for name in others if name not in fetched or not cluster.has_routes_of(name)]
            waited = loop.time() - began
            awaited = [name for name in missing if name in reachable or waited < link_timeout_s]
            is_waiting = bool(awaited) or cluster.lacks_retained()
            if not is_waiting or waited >= sync_timeout_s or is_stopping():
                break
            for name in reachable - fetched:
                if name not in fetching or fetching[name].done():
                    fetching[name] = tasks.create_task(_fetch(cluster, name, fetched), name=f"metadata of {name}")
            await asyncio.sleep(LOOK_S)
        for task in fetching.values():
            task.cancel()
    if missing and not is_stopping():
        _log.warning("serves clients without being in step with all members", missing=",".join(missing))
    elif cluster.lacks_retained() and not is_stopping():
        _log.warning("serves clients without all retained messages: they follow")
    return missing


def lacking(cluster: Cluster) -> Sequence[str]:
    """What a node that starts waits for, in words."""
    routes = [f"what {name} subscribes to" for name in cluster.others() if not cluster.has_routes_of(name)]
    retained = ["retained messages"] if cluster.lacks_retained() else []
    return [*routes, *retained] or ["the metadata of the other members"]


async def _fetch(cluster: Cluster, name: str, fetched: set[str]) -> None:
    try:
        await cluster.fetch_metadata_of(name)
    except ExchangeError as error:
        # The link was lost: it is tried again while there is time.
        _log.debug("the metadata of a member is not here yet", node=name, reason=str(error))
    else:
        fetched.add(name)
