"""`listener show`: where clients come in, and how many are there."""

from strogoff._engine import ListenerInfo
from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, FlagKind, command
from strogoff.admin.result import Result, Table, Value
from strogoff.broker import Broker

__all__ = ["COMMANDS", "listener_row"]

_COLUMNS = ("type", "status", "address", "port", "mountpoint", "max_conns", "active_conns", "all_conns")
_MQTT_COLUMNS = ("allowed_protocol_versions", "allow_anonymous_override")
_TYPES = {"tcp": "mqtt", "ssl": "mqtts", "ws": "mqttws", "wss": "mqttwss"}


@command(
    "listener show",
    "Show the listeners.",
    flags=(Flag("mqtt", "also the protocol versions and the access rule", short="m", kind=FlagKind.SWITCH),),
)
async def show(broker: Broker, call: Call) -> Result:
    """A row for each listener, in the order they were opened."""
    with_mqtt = call.switch("mqtt")
    rows = [listener_row(info) for info in broker.engine.listeners()]
    if not with_mqtt:
        rows = [row[: len(_COLUMNS)] for row in rows]
    return Result.of(Table(_COLUMNS + (_MQTT_COLUMNS if with_mqtt else ()), rows))


COMMANDS = (show,)


def listener_row(info: ListenerInfo) -> tuple[Value, ...]:
    """All columns of a listener."""
    return (
        _TYPES.get(info.kind, info.kind),
        info.status,
        info.address,
        info.port,
        info.mountpoint,
        "infinity" if info.max_connections is None else info.max_connections,
        info.active_connections,
        info.all_connections,
        ",".join(str(version) for version in info.allowed_protocol_versions),
        info.allow_anonymous,
    )
