"""`node ...`: how this node is."""

from datetime import UTC, datetime

from strogoff import version
from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, command
from strogoff.admin.result import Result, Table, Text, Value
from strogoff.broker import Broker
from strogoff.observe.metrics import aggregated
from strogoff.phases import PHASES, Phase

__all__ = ["COMMANDS"]

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


@command("node status", "Show what this node has done and has.")
async def status(broker: Broker, _call: Call) -> Result:
    """A table of names and values."""
    online, offline = broker.engine.session_count()
    values = {row.name: row.value for row in aggregated(broker.metrics.snapshot())}
    rows: list[tuple[Value, ...]] = [("num_online", online), ("num_offline", offline)]
    rows += [(name, values.get(metric, 0)) for name, metric in _STATUS_METRICS.items()]
    rows.append(("version", version()))
    rows.append(("cluster_ready", "; ".join(broker.readiness.reasons()) or True))
    return Result.of(Table(("Status", "Value"), rows))


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


@command("node ping", "Answer `pong`.")
async def ping(_broker: Broker, _call: Call) -> Result:
    """The shortest proof that the node's control plane is alive."""
    return Result.of(Text("pong"))


COMMANDS = (status, phase, ping)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
