"""`node ...`: how this node is."""

from datetime import UTC, datetime

from strogoff import health, version
from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, command
from strogoff.admin.result import Result, Table, Text, Value
from strogoff.broker import Broker
from strogoff.cluster.guard.inventory import Inventory
from strogoff.cluster.guard.policy import Policy, fate
from strogoff.cluster.history import EVENTS_MAX
from strogoff.observe.metrics import aggregated
from strogoff.phases import PHASES, Phase

__all__ = ["COMMANDS", "figures", "holdings_table"]

# What `node status` calls it -> the metric.
_STATUS_METRICS = {
    "msg_in": "mqtt_publish_received",
    "msg_out": "mqtt_publish_sent",
    "queue_in": "queue_message_in",
    "queue_out": "queue_message_out",
    "queue_drop": "queue_message_drop",
    "queue_unhandled": "queue_message_unhandled",
    "num_subscriptions": "router_subscriptions",
    "num_retained": "retain_messages",
    "matches_local": "router_matches_local",
    "matches_remote": "router_matches_remote",
}


@command(
    "node status",
    "Show what this node has done and has.",
    description="""
cluster, node, incarnation: the identity of the cluster, the name of the node, and the identity of its data directory.
members, reachable: how many nodes the cluster has, and how many this one reaches, itself included. ready: whether the
node serves clients, or what it waits for. cluster_ready: whether enough members can be reached, or why not.
""",
)
async def status(broker: Broker, _call: Call) -> Result:
    """A table of names and values."""
    rows: list[tuple[Value, ...]] = [*figures(broker).items(), *_cluster_rows(broker)]
    return Result.of(Table(("Status", "Value"), rows))


def figures(broker: Broker) -> dict[str, Value]:
    """What the node has done and has, under VerneMQ's names."""
    online, offline = broker.engine.session_count()
    values = {row.name: row.value for row in aggregated(broker.metrics.snapshot())}
    counts = {name: values.get(metric, 0) for name, metric in _STATUS_METRICS.items()}
    return {"num_online": online, "num_offline": offline, **counts, "version": version()}


def _cluster_rows(broker: Broker) -> list[tuple[Value, ...]]:
    rows: list[tuple[Value, ...]] = [("node", broker.node_name)]
    if broker.cluster.has_begun:
        identity, view = broker.cluster.identity, broker.cluster.view()
        rows += [
            ("cluster", f"{identity.cluster:032x}"),
            ("incarnation", f"{identity.incarnation:016x}"),
            ("members", view.members),
            ("reachable", view.present),
        ]
    cluster_ready = "; ".join(broker.readiness.reasons()) or True
    return [*rows, ("ready", _readiness(broker)), ("cluster_ready", cluster_ready)]


def _readiness(broker: Broker) -> Value:
    current = broker.phases.current
    if current is Phase.READY:
        return True
    awaited = broker.waits_for()
    return "waits for " + ", ".join(awaited) if awaited else f"{current.value}: {PHASES[current].what}"


@command(
    "node history",
    "Show what has happened to this node since it was started, and what it holds that a cluster would not know.",
    description=f"""
First table: phases of this node, and what it has seen of the cluster: nodes that joined, left, or were removed while
they could not be reached, and links that came and went, with the reason. Of the cluster the latest {EVENTS_MAX} events
are kept.
Second table, of a node that is in no cluster with others: what it holds, how many of each kind with examples, and what
'cluster join' would do with it by each policy.
""",
)
async def history(broker: Broker, _call: Call) -> Result:
    """A row for each event, in order of time; a row for each kind of things."""
    seen = broker.cluster.history
    events: list[tuple[float, tuple[Value, ...]]] = [
        (passage.entered_at, ("phase", broker.node_name, passage.phase.value)) for passage in broker.phases.passages
    ]
    events += [(event.at, (event.happening.value, event.node, event.detail)) for event in seen.events]
    events.sort(key=lambda event: event[0])
    notes = [f"{seen.forgotten} earlier events of the cluster are not kept"] if seen.forgotten else []
    rows = [(_time(at), *event) for at, event in events]
    table = Table(("time", "event", "node", "detail"), rows)
    if broker.cluster.others():
        return Result.of(table, notes=notes)
    return Result.of(table, holdings_table(await broker.cluster.inventory()), notes=notes)


def holdings_table(inventory: Inventory) -> Table:
    """What a node holds, and what becomes of it by each policy."""
    rows: list[tuple[Value, ...]] = [
        (
            holding.kind.value,
            holding.count,
            holding.shown,
            *(fate(holding.kind, policy) if holding.count else "" for policy in Policy),
        )
        for holding in inventory.holdings
    ]
    return Table(("holds", "number", "examples", *(policy.value for policy in Policy)), rows)


@command(
    "node phase",
    "Show in which phase this node is.",
    description="The phases are " + ", ".join(phase.value for phase in Phase) + ".",
    flags=(Flag("history", "all phases until now and when they began", kind=FlagKind.SWITCH),),
)
async def phase(broker: Broker, call: Call) -> Result:
    """One word, or the table of phases."""
    history = broker.phases
    rows: list[tuple[Value, ...]] = [
        (passage.phase.value, _time(passage.entered_at), PHASES[passage.phase].what) for passage in history.passages
    ]
    table = Table(("phase", "since", "what"), rows)
    return Result.of(table if call.switch("history") else Text(history.current.value, Table(table.columns, rows[-1:])))


_CHECKS = {"live": health.live, "started": health.started, "ready": health.ready, "cluster": health.cluster}


@command(
    "node health",
    "Show whether this node is well, and what speaks against it.",
    description="""
live: a restart would not help. started: the node has served clients since it was started. ready: clients should come.
cluster: all members can be reached as well. The HTTP listener answers the same at /health/live, /health/started,
/health/ready and /health/listeners_full_cluster.
""",
)
async def node_health(broker: Broker, _call: Call) -> Result:
    """A row for each check."""
    state = broker.health()
    verdicts = {name: judge(state) for name, judge in _CHECKS.items()}
    rows: list[tuple[Value, ...]] = [
        (name, verdict.is_well, "; ".join(verdict.reasons)) for name, verdict in verdicts.items()
    ]
    return Result.of(Table(("check", "ok", "reasons"), rows))


@command(
    "node discovery",
    "Show whom this node has found when it looked for its cluster.",
    description="""
A row for each place of another node, as it was when this one looked last (cluster.discovery): a member does not look.
standing: new, it has been in no cluster; alone, it is a cluster of one; member, of a cluster with so many members.
lets_join: whether others may join through it now. error: why it does not answer.
""",
)
async def discovery(broker: Broker, _call: Call) -> Result:
    """Nothing but a note where `cluster.discovery` is `none`."""
    found = broker.discovery
    notes = [f"cluster.discovery = {found.source}"]
    if found.trouble:
        notes.append(f"nobody says where other nodes are: {found.trouble}")
    if broker.phases.current in {Phase.DISCOVERING, Phase.JOINING}:
        notes.append(f"waits for {'; '.join(found.waits_for())}")
    rows: list[tuple[Value, ...]] = []
    for each in found.found:
        said = each.said
        told: tuple[Value, ...] = ("", "", "") if said is None else (said.standing.value, said.members, said.is_settled)
        rows.append((each.place, each.name, *told, each.error))
    return Result.of(Table(("place", "node", "standing", "members", "lets_join", "error"), rows), notes=notes)


@command("node ping", "Answer `pong`.")
async def ping(_broker: Broker, _call: Call) -> Result:
    """The shortest proof that the node's control plane is alive."""
    return Result.of(Text("pong"))


COMMANDS = (status, history, phase, node_health, discovery, ping)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
