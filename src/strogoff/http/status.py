"""`/status.json`: what each node of the cluster has and does, under VerneMQ's names."""

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from strogoff.admin.commands.listeners import listener_rows
from strogoff.admin.commands.node import figures
from strogoff.cluster.requests import NoAnswerError, RemoteError
from strogoff.observe.logging import get_logger

if TYPE_CHECKING:
    from strogoff.broker import Broker

__all__ = ["StatusPage", "serve_other_nodes"]

REQUEST: Final = "status"
ANSWER_TIMEOUT_S: Final = 2.0
FRESH_S: Final = 1.0
"""How long an answer is given again: whoever asks often must not make the nodes ask each other as often."""

_LISTENER_FIELDS: Final = ("type", "status", "ip", "port", "mountpoint", "max_conns")

_log = get_logger("http")


def serve_other_nodes(broker: "Broker") -> None:
    """Tell other members the status of this node from now on."""

    async def tell(node: str, _payload: dict[str, Any]) -> dict[str, Any]:
        # A node that has not joined can have a link, too: it is told nothing of listeners, clients and members.
        if node not in broker.cluster.reachable():
            raise RemoteError(f"{node} is no member that {broker.node_name} can reach")
        return _of_this_node(broker)

    broker.cluster.serve(REQUEST, tell)


class StatusPage:
    """The status of all nodes that can be reached. One for all listeners of a node, so that it asks once for all."""

    def __init__(self, broker: "Broker") -> None:
        self._broker = broker
        self._asking = asyncio.Lock()
        self._latest: Mapping[str, Any] = {}
        self._fresh_until = 0.0

    async def of_all_nodes(self) -> Mapping[str, Any]:
        """Node -> its status, as it is now or was within the last second. A node that does not answer is left out."""
        async with self._asking:
            if time.monotonic() >= self._fresh_until:
                self._latest = await self._ask_all()
                self._fresh_until = time.monotonic() + FRESH_S
            return self._latest

    async def _ask_all(self) -> Mapping[str, Any]:
        cluster = self._broker.cluster
        others = cluster.reachable() if cluster.has_begun else []
        answers = await asyncio.gather(*(self._ask(node) for node in others))
        answered = {node: answer for node, answer in zip(others, answers, strict=True) if answer is not None}
        return {self._broker.node_name: _of_this_node(self._broker), **answered}

    async def _ask(self, node: str) -> Mapping[str, Any] | None:
        try:
            return await self._broker.cluster.requests.ask(node, REQUEST, {}, timeout_s=ANSWER_TIMEOUT_S)
        except (NoAnswerError, RemoteError) as error:
            _log.warning("the status of a node is left out", node=node, reason=str(error))
            return None


def _of_this_node(broker: "Broker") -> dict[str, Any]:
    reachable = {broker.node_name: True}
    if broker.cluster.has_begun:
        present = set(broker.cluster.reachable())
        reachable |= {node: node in present for node in broker.cluster.others()}
    listeners = [dict(zip(_LISTENER_FIELDS, row, strict=False)) for row in listener_rows(broker)]
    return {**figures(broker), "mystatus": [reachable], "listeners": listeners}
