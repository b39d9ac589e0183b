"""`cluster show`, `cluster join` and `cluster leave`: who belongs to the cluster, and how that changes."""

from datetime import UTC, datetime

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Argument, command
from strogoff.admin.result import CommandError, Result, Table, Text, Value
from strogoff.broker import Broker
from strogoff.cluster.node import ClusterError, Link, MemberView
from strogoff.phases import Phase

__all__ = ["COMMANDS"]


@command("cluster show", "Show the nodes of the cluster.")
async def show(broker: Broker, _call: Call) -> Result:
    """A row for each member; a node without peers is a cluster of one."""
    views = broker.cluster.show()
    running = broker.phases.current is not Phase.STOPPED
    rows: list[tuple[Value, ...]] = [_row(view) for view in views] or [(broker.node_name, running, "self", "", "")]
    return Result.of(Table(("Node", "Running", "link", "since", "error"), rows))


@command(
    "cluster join",
    "Join the cluster that a node belongs to.",
    description="""
The command runs on the node that is to join, and ends when it belongs to the cluster and has its metadata. Only a node
without sessions and retained messages of its own may join. If it is refused, nothing has changed on either side.
""",
    arguments=(Argument("discovery-node", "a node of the cluster, NAME@HOST or NAME@HOST:PORT", required=True),),
    is_lasting=True,
)
async def join(broker: Broker, call: Call) -> Result:
    """`Done` once the metadata of the cluster is here."""
    try:
        await broker.cluster.join(call.required("discovery-node"))
    except ClusterError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text("Done"))


@command(
    "cluster leave",
    "Take a node that cannot be reached out of the cluster.",
    description="""
What waits on that node for clients stays on its disk and is not delivered. A node that can be reached does not leave
yet in this version.
""",
    arguments=(Argument("node", "the node, NAME@HOST", required=True),),
)
async def leave(broker: Broker, call: Call) -> Result:
    """`Done` once the other members are told."""
    name = call.required("node")
    for view in broker.cluster.show():
        if view.member.name == name and view.link is not Link.DOWN:
            raise CommandError(f"{name} can be reached: stop it first, then take it out from another node")
    try:
        await broker.cluster.remove(name)
    except ClusterError as error:
        raise CommandError(str(error)) from None
    return Result.of(Text("Done"))


COMMANDS = (show, join, leave)


def _row(view: MemberView) -> tuple[Value, ...]:
    since = datetime.fromtimestamp(view.since, UTC).isoformat(timespec="seconds") if view.since else ""
    return (view.member.name, view.link is not Link.DOWN, view.link.value, since, view.error)
