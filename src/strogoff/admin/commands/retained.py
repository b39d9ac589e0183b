"""`retain show`, `retain delete` and `retain delete-expired`."""

import asyncio
from dataclasses import replace

from strogoff._engine import RetainedMessage
from strogoff.admin.arguments import Call
from strogoff.admin.query import Query, Row, field_flags, limit_flags, query_of
from strogoff.admin.registry import Flag, Reach, command
from strogoff.admin.result import CommandError, Result, Table, Value
from strogoff.broker import Broker

__all__ = ["COMMANDS", "retained_row"]

FIELDS = {
    "node": "the node that was asked; with it all nodes are, or the one that it names",
    "payload": "the payload as text; bytes that are no text are written \\xNN",
    "topic": "the topic",
    "mountpoint": "the name space",
    "qos": "the QoS",
    "expires_at": "when it expires, in ms since 1970",
    "size": "the size of the payload in bytes",
}
DEFAULT_COLUMNS = ("payload", "topic")
MESSAGES_MAX = 100_000
"""Messages that a command looks at; with more, narrow it down by --topic."""


@command(
    "retain show",
    "Show the retained messages of this node, or of others with --node.",
    description="""
--FIELD shows a column; without any, payload and topic are shown.
--FIELD=VALUE selects rows; a value that begins with ~ is a regular expression.
Only the default mountpoint is shown unless --mountpoint=NAME asks for another one.
""",
    flags=(*limit_flags(), *field_flags(FIELDS)),
    reach=Reach.NODES_ASKED_FOR,
)
async def show(broker: Broker, call: Call) -> Result:
    """Rows of the retained messages that the flags select. A bare `--node` asks all nodes, and hides no column."""
    query = query_of(call, FIELDS, DEFAULT_COLUMNS)
    if query.columns == ("node",):
        query = replace(query, columns=("node", *DEFAULT_COLUMNS))
    return await asyncio.to_thread(_select, broker, query)


@command(
    "retain delete",
    "Delete the retained message of one topic.",
    flags=(
        Flag("topic", "the topic, without wildcards", short="t", metavar="TOPIC"),
        Flag("mountpoint", "the name space (the default one)", short="m", metavar="MOUNTPOINT"),
    ),
)
async def delete(broker: Broker, call: Call) -> Result:
    """Fails when there is none."""
    topic = call.value("topic")
    if not topic:
        raise CommandError("'retain delete' needs --topic=TOPIC")
    if not broker.engine.delete_retained(topic, mountpoint=call.value("mountpoint")):
        raise CommandError(f"no retained message has the topic {topic}: see 'retain show'")
    return Result.done()


@command("retain delete-expired", "Delete the retained messages whose time has passed.")
async def delete_expired(broker: Broker, _call: Call) -> Result:
    """Says how many there were."""
    number = await asyncio.to_thread(broker.engine.delete_expired_retained)
    return Result.of(Table(("deleted",), [(number,)]))


COMMANDS = (show, delete, delete_expired)


def retained_row(message: RetainedMessage) -> dict[str, Value]:
    """The fields of a retained message as `retain show` names them."""
    return {
        "payload": message.payload.decode("utf-8", "backslashreplace"),
        "topic": message.topic,
        "mountpoint": message.mountpoint,
        "qos": message.qos,
        "expires_at": None if message.expires_at is None else int(message.expires_at * 1_000),
        "size": len(message.payload),
    }


def _select(broker: Broker, query: Query) -> Result:
    mountpoint = query.exactly("mountpoint") or ""
    topic = query.exactly("topic")
    limit = MESSAGES_MAX if query.conditions else query.limit + 1
    if topic is not None and not set(topic) & set("+#"):
        found = broker.engine.retained(topic, mountpoint=mountpoint, limit=limit)
    else:
        # A wildcard at the first level does not match what begins with $ [MQTT-4.7.2-1], so both are asked for.
        found = broker.engine.retained("#", mountpoint=mountpoint, limit=limit)
        found += broker.engine.retained("$SYS/#", mountpoint=mountpoint, limit=limit)
    rows: list[Row] = []
    for message in found:
        row = {"node": broker.node_name} | retained_row(message)
        if query.accepts(row):
            rows.append(row)
        if len(rows) > query.limit:
            break
    return query.result(rows)
