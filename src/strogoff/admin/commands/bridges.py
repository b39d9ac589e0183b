"""`bridge show`, `bridge start`, `bridge stop` and `bridge restart`."""

import asyncio
from datetime import UTC, datetime
from typing import Final

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Argument, Reach, command
from strogoff.admin.result import CommandError, Result, Table, Text, Value
from strogoff.bridge.bridges import BridgeError, BridgeView
from strogoff.broker import Broker

__all__ = ["COMMANDS"]

SAMPLE_S: Final = 0.2
"""Over how long the rates are measured."""
_NAME: Final = Argument("name", "the bridge; without it all of this node", metavar="NAME")
_COLUMNS: Final = (
    "name",
    "endpoint",
    "state",
    "since",
    "node",
    "buffer size",
    "buffer max",
    "buffer dropped msgs",
    "out/s",
    "in/s",
    "last error",
)


@command(
    "bridge show",
    "Show the bridges of a node.",
    description="""
state: connected, connecting, disconnected; stopped by an operator; elsewhere: the node in the column runs it; leftover:
as elsewhere, and this node brings away what it still has for the other broker.
""",
    reach=Reach.NODES_ASKED_FOR,
)
async def show(broker: Broker, _call: Call) -> Result:
    """A row for each bridge that the node configures."""
    before = {view.settings.name: _counts(view) for view in broker.bridges.show()}
    if before:
        await asyncio.sleep(SAMPLE_S)
    rows = [_row(view, before.get(view.settings.name, (0, 0))) for view in broker.bridges.show()]
    notes = [] if broker.bridges.is_on else ["the plugin vmq_bridge is not on"]
    return Result.of(Table(_COLUMNS, rows), notes=notes)


def _counts(view: BridgeView) -> tuple[int, int]:
    if view.status is None:
        return 0, 0
    return sum(view.status.published_out), sum(view.status.published_in)


def _row(view: BridgeView, before: tuple[int, int]) -> tuple[Value, ...]:
    settings, status = view.settings, view.status
    since = "" if view.since is None else datetime.fromtimestamp(view.since, UTC).isoformat(timespec="seconds")
    out, incoming = (round(max(now - then, 0) / SAMPLE_S) for now, then in zip(_counts(view), before, strict=True))
    most: Value = "no limit" if settings.buffer_max is None else settings.buffer_max
    numbers: tuple[Value, ...] = ("", most, "", "", "")
    if status is not None:
        numbers = (status.buffered, most, status.dropped, out, incoming)
    return (settings.name, settings.endpoint, view.state, since, view.node, *numbers, view.error)


async def _operate(broker: Broker, call: Call, action: str) -> Result:
    try:
        await broker.bridges.operate(action, call.argument("name") or "")
    except BridgeError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text("Done"))


@command("bridge start", "Start bridges, or have those that wait connect at once.", arguments=(_NAME,))
async def start(broker: Broker, call: Call) -> Result:
    """`Done` once they are on their way."""
    return await _operate(broker, call, "start")


@command(
    "bridge stop",
    "Stop bridges of this node until they are started again.",
    description="Another node may take a bridge over. If none does, what comes meanwhile waits with persistent_queue.",
    arguments=(_NAME,),
)
async def stop(broker: Broker, call: Call) -> Result:
    """`Done` once they have ended."""
    return await _operate(broker, call, "stop")


@command("bridge restart", "End bridges of this node and start them again.", arguments=(_NAME,))
async def restart(broker: Broker, call: Call) -> Result:
    """`Done` once they are on their way."""
    return await _operate(broker, call, "restart")


COMMANDS = (show, start, stop, restart)
