"""`listener ...`: where clients come in, how many are there, and changing that while the broker runs."""

from strogoff.admin.arguments import Call, whole_number
from strogoff.admin.registry import Argument, Flag, FlagKind, command
from strogoff.admin.result import CommandError, Result, Table, Value
from strogoff.broker import Broker
from strogoff.config import ConfigError, Listener
from strogoff.config.listeners import TYPE_NAMES
from strogoff.config.runtime_listeners import listener_from_options
from strogoff.listeners.manager import ListenerError, OpenListener

__all__ = ["COMMANDS", "listener_row", "listener_rows"]

_COLUMNS = ("type", "status", "address", "port", "mountpoint", "max_conns", "active_conns", "all_conns")
_TLS_COLUMNS = (
    "tls_version",
    "certfile",
    "cafile",
    "keyfile",
    "require_certificate",
    "use_identity_as_username",
    "psk_support",
    "pskfile",
)
_MQTT_COLUMNS = ("allowed_protocol_versions", "allow_anonymous_override")

_PLACE = (
    Argument("address", "where it listens; local:PATH for a Unix socket", required=True, metavar="ADDRESS"),
    Argument("port", "its port; 0 for a Unix socket", required=True, metavar="PORT"),
)


@command(
    "listener show",
    "Show the listeners.",
    flags=(
        Flag("tls", "also what they do about TLS", short="t", kind=FlagKind.SWITCH),
        Flag("mqtt", "also the protocol versions and the access rule", short="m", kind=FlagKind.SWITCH),
    ),
)
async def show(broker: Broker, call: Call) -> Result:
    """A row for each listener, in the order they were opened, those for HTTP last."""
    columns: tuple[str, ...] = _COLUMNS
    rows = listener_rows(broker)
    listeners = [found.listener for found in broker.listeners.show()]
    all_of_them = [*listeners, *broker.configuration.http_listeners]
    if call.switch("tls"):
        columns += _TLS_COLUMNS
        rows = [row + _tls_values(listener) for row, listener in zip(rows, all_of_them, strict=True)]
    if call.switch("mqtt"):
        columns += _MQTT_COLUMNS
        rows = [row + _mqtt_values(listener) for row, listener in zip(rows, all_of_them, strict=True)]
    return Result.of(Table(columns, rows))


def listener_rows(broker: Broker) -> list[tuple[Value, ...]]:
    """A row for each listener, with the columns that `listener show` begins with; those for HTTP come last."""
    http = [_http_row(broker, listener) for listener in broker.configuration.http_listeners]
    return [*(listener_row(found) for found in broker.listeners.show()), *http]


def _value(name: str, text: str, short: str | None = None) -> Flag:
    return Flag(name, text, short=short)


def _switch(name: str, text: str) -> Flag:
    return Flag(name, text, kind=FlagKind.SWITCH)


@command(
    "listener start",
    "Open a listener for MQTT.",
    description="It is gone after a restart: what is to stay belongs into the configuration.",
    arguments=_PLACE,
    flags=(
        _value("mountpoint", "name space of its clients", "m"),
        _value("max_connections", "how many clients at a time"),
        _value("max_connection_rate", "how many new clients a second"),
        _value("nr_of_acceptors", "accepted without effect"),
        _value("allowed_protocol_versions", "3, 4, 5, 131, 132, with commas between"),
        _value("allow_anonymous_override", "on: clients need no credentials"),
        _value("auth_plugins", "plugins that decide about connecting"),
        _value("authz_plugins", "plugins that decide about publishing and subscribing"),
        _value("forward_connection_opts", "accepted: plugins always know the connection"),
        _switch("websocket", "MQTT over WebSocket"),
        _switch("ssl", "TLS"),
        _value("proxy_protocol", "on: a PROXY header comes first"),
        _value("proxy_protocol_use_cn_as_username", "on: the user name is that of the header"),
        _value("proxy_xff_support", "on: X-Forwarded-For says who the client is"),
        _value("proxy_xff_trusted_intermediate", "addresses of the proxies, with semicolons between"),
        _value("proxy_xff_use_cn_as_username", "on: the user name is that of a header"),
        _value("proxy_xff_cn_header", "that header"),
        _value("cafile", "authorities of clients' certificates"),
        _value("certfile", "certificate"),
        _value("keyfile", "private key"),
        _value("keypasswd", "password of the private key"),
        _value("ciphers", "cipher suites, with colons between"),
        _value("eccs", "curves, as a list in brackets"),
        _value("crlfile", "revoked certificates"),
        _value("depth", "intermediate certificates that a client may present"),
        _value("require_certificate", "on: clients need a certificate"),
        _value("tls_version", "tlsv1.2, tlsv1.3"),
        _value("tls_handshake_timeout", "milliseconds"),
        _value("use_identity_as_username", "on: the user name is that of the certificate"),
    ),
)
async def start(broker: Broker, call: Call) -> Result:
    """Fails with the reason; nothing is opened then."""
    kind = {(False, False): "tcp", (False, True): "ssl", (True, False): "ws", (True, True): "wss"}[
        call.switch("websocket"), call.switch("ssl")
    ]
    options = {name: value for name, value in call.flags if name not in ("websocket", "ssl") and value is not None}
    try:
        listener = listener_from_options(broker.configuration, kind, call.required("address"), _port(call), options)
        await broker.listeners.start(listener)
    except (ConfigError, ListenerError) as error:
        raise CommandError(str(error)) from None
    return Result.done()


@command(
    "listener stop",
    "Accept no more clients at a listener.",
    description="Clients that are connected stay, unless --kill_sessions says otherwise.",
    arguments=_PLACE,
    flags=(Flag("kill_sessions", "also end the connections of its clients", short="k", kind=FlagKind.SWITCH),),
)
async def stop(broker: Broker, call: Call) -> Result:
    """Fails when there is no such listener."""
    try:
        broker.listeners.stop(_address(call), _port(call), kill_sessions=call.switch("kill_sessions"))
    except ListenerError as error:
        raise CommandError(str(error)) from None
    return Result.done()


@command("listener restart", "Accept clients again at a listener that was stopped.", arguments=_PLACE)
async def restart(broker: Broker, call: Call) -> Result:
    """Fails when there is no such listener, or its address is taken."""
    try:
        broker.listeners.restart(_address(call), _port(call))
    except ListenerError as error:
        raise CommandError(str(error)) from None
    return Result.done()


@command(
    "listener delete",
    "Close a listener and forget it.",
    description="Clients that are connected stay. One of the configuration is there again after a restart.",
    arguments=_PLACE,
)
async def delete(broker: Broker, call: Call) -> Result:
    """Fails when there is no such listener."""
    try:
        broker.listeners.delete(_address(call), _port(call))
    except ListenerError as error:
        raise CommandError(str(error)) from None
    return Result.done()


COMMANDS = (show, start, stop, restart, delete)


def listener_row(found: OpenListener) -> tuple[Value, ...]:
    """The columns that are always shown."""
    info = found.info
    return (
        TYPE_NAMES.get(info.kind, info.kind),
        info.status,
        info.address,
        info.port,
        info.mountpoint,
        "infinity" if info.max_connections is None else info.max_connections,
        info.active_connections,
        info.all_connections,
    )


def _http_row(broker: Broker, listener: Listener) -> tuple[Value, ...]:
    limit = "infinity" if listener.max_connections is None else listener.max_connections
    status = broker.http_states.get(listener.engine_name, "not_running")
    return (listener.kind, status, listener.address, listener.port, "", limit, None, None)


def _tls_values(listener: Listener) -> tuple[Value, ...]:
    files = listener.tls
    if files is None:
        return (None,) * len(_TLS_COLUMNS)
    identity = files.identity
    return (
        ",".join(files.versions),
        None if identity is None else str(identity.certfile),
        None if files.cafile is None else str(files.cafile),
        None if identity is None else str(identity.keyfile),
        files.require_certificate,
        listener.use_identity_as_username,
        False,
        None,
    )


def _mqtt_values(listener: Listener) -> tuple[Value, ...]:
    return ",".join(str(version) for version in listener.allowed_protocol_versions), listener.allow_anonymous


def _address(call: Call) -> str:
    return call.required("address").removeprefix("local:")


def _port(call: Call) -> int:
    return whole_number("port", call.required("port"), minimum=0)
