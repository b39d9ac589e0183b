"""`session ...`: who is connected, who is remembered, ending that, and looking again at what clients may."""

import asyncio
from collections.abc import Iterable, Iterator

from strogoff._engine import Engine, SessionInfo, SubscriptionInfo
from strogoff.admin.arguments import Call, whole_number
from strogoff.admin.over_cluster import answer
from strogoff.admin.query import Query, Row, field_flags, limit_flags, query_of
from strogoff.admin.registry import Argument, Flag, FlagKind, Reach, command
from strogoff.admin.result import CommandError, NotHereError, Result, Text
from strogoff.broker import Broker

__all__ = ["COMMANDS", "session_row", "subscription_row"]

PAGE_SIZE = 10_000
"""Sessions asked for at a time: each page is a walk over all of them, so pages are large."""

DEFAULT_COLUMNS = ("client_id", "is_online", "mountpoint", "peer_host", "peer_port", "user")

SESSION_FIELDS = {
    "node": "the node that has the session",
    "mountpoint": "the name space of the client",
    "client_id": "the client",
    "user": "the user name it connected with",
    "is_online": "true while it is connected",
    "is_offline": "true while it is not",
    "statename": "online or offline",
    "peer_host": "the client's address",
    "peer_port": "the client's port",
    "listener": "the name of the listener it came through",
    "protocol": "3 (MQTT 3.1), 4 (3.1.1) or 5",
    "clean_session": "whether the session ends with the connection",
    "session_expiry_interval": "seconds that the session outlives the connection",
    "keep_alive": "seconds",
    "queue_size": "messages that wait, online and offline",
    "online_messages": "messages that wait for the connected client",
    "offline_messages": "messages that wait for its return",
    "waiting_acks": "messages sent and not acknowledged",
    "deliver_mode": "fanout or balance",
    "num_sessions": "connections that share the queue",
    "num_subscriptions": "how many subscriptions it has",
    "is_plugin": "whether the broker itself is the subscriber",
    "queue_started_at": "when the session began, in ms since 1970",
    "session_started_at": "when the connection began, in ms since 1970",
    "bytes_received": "bytes from the client in this connection",
    "bytes_sent": "bytes to the client in this connection",
}
SUBSCRIPTION_FIELDS = {
    "topic": "the filter as subscribed; a row for each subscription",
    "qos": "its QoS",
    "rap": "Retain As Published",
    "no_local": "No Local",
    "subscription_id": "its Subscription Identifier",
}
FIELDS = SESSION_FIELDS | SUBSCRIPTION_FIELDS

_MOUNTPOINT = Flag("mountpoint", "the name space of the clients (the default one)", short="m", metavar="MOUNTPOINT")
_CLEANUP = Flag("cleanup", "forget the session too: its subscriptions and its messages", "c", FlagKind.SWITCH)


@command(
    "session show",
    "Show sessions of the cluster, connected or not.",
    description="""
All nodes that can be reached answer, --node=NODE asks one; --limit is for each of them.
--FIELD shows a column; without any, client_id, is_online, mountpoint, peer_host, peer_port and user are shown.
--FIELD=VALUE selects rows; all conditions must hold. A value that begins with ~ is a regular expression.
A field of a subscription makes a row for each subscription; sessions without any do not appear then.
""",
    flags=(*limit_flags(), *field_flags(FIELDS)),
    reach=Reach.CLUSTER,
)
async def show(broker: Broker, call: Call) -> Result:
    """Rows of the sessions that the flags select."""
    query = query_of(call, FIELDS, DEFAULT_COLUMNS)
    return query.result(await asyncio.to_thread(_rows, broker.engine, broker.node_name, query))


@command(
    "session disconnect",
    "End the connection of a client.",
    description="An MQTT 5 client is told reason code 0x98 (administrative action). Its will is published.",
    arguments=(Argument("client-id", "the client", required=True, metavar="CLIENT"),),
    flags=(_MOUNTPOINT, _CLEANUP),
    reach=Reach.WHERE_IT_IS,
)
async def disconnect(broker: Broker, call: Call) -> Result:
    """Fails when there is no such session."""
    client_id, mountpoint = call.required("client-id"), call.value("mountpoint")
    if not broker.engine.disconnect(client_id, mountpoint, cleanup=call.switch("cleanup")):
        raise NotHereError(_no_session(client_id, mountpoint))
    return Result.done()


@command(
    "session disconnect clients",
    "End the connections of several clients.",
    arguments=(Argument("client-ids", "the clients, with commas between", required=True, metavar="CLIENT,..."),),
    flags=(_MOUNTPOINT, _CLEANUP),
)
async def disconnect_clients(broker: Broker, call: Call) -> Result:
    """Ends all that exist; fails afterwards when some did not."""
    mountpoint = call.value("mountpoint")
    clients = _listed(call.required("client-ids"))
    missing = []
    for client_id in clients:
        try:
            await answer(broker, disconnect, Call((("client-id", client_id),), call.flags))
        except NotHereError:
            missing.append(client_id)
    if missing:
        raise CommandError(f"{len(clients) - len(missing)} ended; {_no_session(', '.join(missing), mountpoint)}")
    return Result.done()


@command(
    "session disconnect batch",
    "End the connections of a number of clients.",
    description="Takes connected clients in the order of their ids.",
    arguments=(Argument("count", "how many clients at most", required=True, metavar="N"),),
    flags=(
        _MOUNTPOINT,
        _CLEANUP,
        Flag("filter-client-ids", "only among these, with commas between", short="f", metavar="CLIENT,..."),
        Flag("node", "on this node instead of the one that is asked", short="n", metavar="NODE"),
    ),
    reach=Reach.NODES_ASKED_FOR,
)
async def disconnect_batch(broker: Broker, call: Call) -> Result:
    """Says how many were ended."""
    count = whole_number("count", call.required("count"), minimum=1)
    cleanup, mountpoint = call.switch("cleanup"), call.value("mountpoint")
    among = set(_listed(call.value("filter-client-ids")))

    def end() -> int:
        ended = 0
        for info in _sessions(broker.engine, PAGE_SIZE):
            if ended == count:
                break
            if info.is_online and info.mountpoint == mountpoint and (not among or info.client_id in among):
                ended += broker.engine.disconnect(info.client_id, mountpoint, cleanup=cleanup)
        return ended

    return Result.of(Text(f"{await asyncio.to_thread(end)} clients disconnected"))


@command(
    "session unsubscribe",
    "Remove one subscription of a client.",
    arguments=(
        Argument("client-id", "the client", required=True, metavar="CLIENT"),
        Argument("topic", "the filter, as the client subscribed it", required=True, metavar="FILTER"),
    ),
    flags=(
        _MOUNTPOINT,
        Flag("plugin", "of a part of the broker; plugins end theirs themselves", short="p", kind=FlagKind.SWITCH),
    ),
    reach=Reach.WHERE_IT_IS,
)
async def unsubscribe(broker: Broker, call: Call) -> Result:
    """Fails when there is no such subscription."""
    if call.switch("plugin"):
        raise CommandError("--plugin: the subscriptions of a plugin end with it: see 'plugin disable'")
    client_id, topic_filter, mountpoint = call.required("client-id"), call.required("topic"), call.value("mountpoint")
    if broker.engine.session(client_id, mountpoint) is None:
        raise NotHereError(_no_session(client_id, mountpoint))
    if not broker.engine.unsubscribe_client(client_id, topic_filter, mountpoint):
        raise CommandError(f"{client_id} has not subscribed to {topic_filter}: see 'session show --topic'")
    return Result.done()


@command(
    "session reauthorize",
    "Ask the plugins again about the subscriptions of a client, and remove what they refuse.",
    description="What the client may publish is decided for each message, so there is nothing to ask again.",
    arguments=(
        Argument("username", "the user name it connected with", metavar="USER"),
        Argument("client-id", "the client", required=True, metavar="CLIENT"),
    ),
    flags=(_MOUNTPOINT,),
    reach=Reach.WHERE_IT_IS,
)
async def reauthorize(broker: Broker, call: Call) -> Result:
    """`Done` when something was removed, else `Unchanged`."""
    client_id, mountpoint = call.required("client-id"), call.value("mountpoint")
    session = broker.engine.session(client_id, mountpoint)
    if session is None:
        raise NotHereError(_no_session(client_id, mountpoint))
    username = call.argument("username")
    if username is not None and username != (session.username or ""):
        raise CommandError(f"{client_id} is connected as {session.username or 'nobody'}, not as {username}")
    removed = await broker.plugins.reauthorize(client_id, mountpoint)
    return Result.of(Text("Done" if removed else "Unchanged"))


COMMANDS = (show, disconnect, disconnect_clients, disconnect_batch, unsubscribe, reauthorize)


def session_row(info: SessionInfo, node: str) -> dict[str, str | int | bool | None]:
    """The fields of a session as `session show` names them."""
    return {
        "node": node,
        "mountpoint": info.mountpoint,
        "client_id": info.client_id,
        "user": info.username,
        "is_online": info.is_online,
        "is_offline": not info.is_online,
        "statename": "online" if info.is_online else "offline",
        "peer_host": info.peer_host,
        "peer_port": info.peer_port,
        "listener": info.listener,
        "protocol": info.protocol,
        "clean_session": info.clean_session,
        "session_expiry_interval": info.session_expiry_interval,
        "keep_alive": info.keep_alive,
        "queue_size": info.online_messages + info.offline_messages,
        "online_messages": info.online_messages,
        "offline_messages": info.offline_messages,
        "waiting_acks": info.waiting_acks,
        "deliver_mode": info.deliver_mode,
        "num_sessions": info.num_sessions,
        "num_subscriptions": info.subscriptions,
        "is_plugin": False,
        "queue_started_at": _milliseconds(info.queue_started_at),
        "session_started_at": _milliseconds(info.session_started_at),
        "bytes_received": info.bytes_received,
        "bytes_sent": info.bytes_sent,
    }


def subscription_row(info: SubscriptionInfo) -> dict[str, str | int | bool | None]:
    """The fields of a subscription as `session show` names them."""
    return {
        "topic": info.topic,
        "qos": info.qos,
        "rap": info.retain_as_published,
        "no_local": info.no_local,
        "subscription_id": info.identifier,
    }


def _rows(engine: Engine, node: str, query: Query) -> list[Row]:
    """The rows that the query selects, at most one more than its limit."""
    rows: list[Row] = []
    per_subscription = query.mentions(SUBSCRIPTION_FIELDS)
    for info in _candidates(engine, query):
        row = session_row(info, node)
        if not query.among(SESSION_FIELDS, row):
            continue
        if per_subscription:
            subscriptions = engine.subscriptions(info.client_id, info.mountpoint)
            rows += filter(query.accepts, (row | subscription_row(each) for each in subscriptions))
        else:
            rows.append(row)
        if len(rows) > query.limit:
            break
    return rows[: query.limit + 1]


def _candidates(engine: Engine, query: Query) -> Iterable[SessionInfo]:
    """All sessions, or the one that the query names in full."""
    client_id, mountpoint = query.exactly("client_id"), query.exactly("mountpoint")
    if client_id is not None and mountpoint is not None:
        found = engine.session(client_id, mountpoint)
        return [] if found is None else [found]
    return _sessions(engine, PAGE_SIZE if query.conditions else min(query.limit + 1, PAGE_SIZE))


def _sessions(engine: Engine, page_size: int) -> Iterator[SessionInfo]:
    after: tuple[str, str] | None = None
    while page := engine.sessions(after=after, limit=page_size):
        yield from page
        if len(page) < page_size:
            return
        after = (page[-1].mountpoint, page[-1].client_id)


def _milliseconds(time_s: float | None) -> int | None:
    return None if time_s is None else int(time_s * 1_000)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _no_session(client_ids: str, mountpoint: str) -> str:
    where = f" in the mountpoint '{mountpoint}'" if mountpoint else ""
    return f"no session of {client_ids}{where}: see 'session show'"
