"""The listeners that a configuration describes, each with its options inherited from family and root."""

import dataclasses
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from strogoff.config.addresses import Address, UnixSocket
from strogoff.config.errors import Problem
from strogoff.config.keys import key_table, split_key
from strogoff.config.notes import Note, NoteKind
from strogoff.config.socket_options import SocketOptions
from strogoff.config.sources import Assignment, Source
from strogoff.config.tls_files import TlsFiles, tls_files

__all__ = [
    "FAMILIES",
    "TYPE_NAMES",
    "Forwarding",
    "HttpLimits",
    "Listener",
    "collect_listeners",
    "listener_of",
    "problems_of_listeners",
]

CLUSTER_FAMILIES = ("vmq", "vmqs")
FAMILIES = ("tcp", "ssl", "ws", "wss", "vmq", "vmqs", "http", "https")
MQTT_FAMILIES = ("tcp", "ssl", "ws", "wss")
TYPE_NAMES = {"tcp": "mqtt", "ssl": "mqtts", "ws": "mqttws", "wss": "mqttwss"}
"""What VerneMQ's commands and health call a family; the others go by their own names."""
HTTP_FAMILIES = ("http", "https")
TLS_FAMILIES = ("ssl", "wss", "https", "vmqs")
LISTENERS_MAX = 1_000

Lookup: TypeAlias = Callable[[str], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Forwarding:
    """`proxy_xff_*`: whose X-Forwarded-For is believed, and the header with a client certificate's name, if any."""

    trusted: tuple[str, ...]
    common_name_header: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits on HTTP requests, in bytes."""

    request_line: int = 8_000
    header_value: int = 4_096

    @property
    def head_size_max(self) -> int:
        """A request's head altogether: its line, a few long headers, many short ones."""
        return self.request_line + 8 * self.header_value + 8_192


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """`listener.KIND.NAME`. `port` 0 takes a free port; `unix_path` is set instead of `address` for a Unix socket.

    `max_connections`, `max_connection_rate` (a second) and `max_ws_frame_size` (bytes) None: no limit.
    `allow_anonymous` True: whatever the key of that name says; None: as it says. `max_connection_lifetime`: seconds, 0
    for no limit. `tls_handshake_timeout`: milliseconds, None: no limit. `is_active`: whether this version opens it.
    `auth_plugins`, `authz_plugins`: who is asked, None for everybody.
    """

    kind: str
    name: str
    address: str
    port: int
    source: Source
    mountpoint: str = ""
    max_connections: int | None = 10_000
    max_connection_rate: int | None = None
    allowed_protocol_versions: tuple[int, ...] = (3, 4, 5, 131)
    allow_anonymous: bool | None = None
    max_connection_lifetime: int = 0
    unix_path: str | None = None
    is_active: bool = True
    auth_plugins: tuple[str, ...] | None = None
    authz_plugins: tuple[str, ...] | None = None
    tls: TlsFiles | None = None
    tls_handshake_timeout: int | None = 5_000
    use_identity_as_username: bool = False
    proxy_protocol: bool = False
    proxy_protocol_use_cn_as_username: bool = False
    forwarding: Forwarding | None = None
    max_ws_frame_size: int | None = 268_435_456
    http_limits: HttpLimits = dataclasses.field(default_factory=HttpLimits)
    http_modules: tuple[str, ...] = ()
    socket_options: SocketOptions = dataclasses.field(default_factory=SocketOptions)

    @property
    def key(self) -> str:
        """The key that gives the address."""
        return f"listener.{self.kind}.{self.name}"

    @property
    def engine_name(self) -> str:
        """What the engine, the log and `session show` call it: `KIND.NAME`, since two kinds may use one name."""
        return f"{self.kind}.{self.name}"

    @property
    def endpoint(self) -> Address | UnixSocket:
        """The address as one value."""
        return Address(self.address, self.port) if self.unix_path is None else UnixSocket(self.unix_path)

    @property
    def is_loopback(self) -> bool:
        """Whether only clients of this machine can reach it."""
        return self.endpoint.is_loopback

    def literal_address(self) -> str:
        """The address to bind to, a host name resolved (which may take as long as the resolver does).

        Raises `OSError` when the name has no address.
        """
        endpoint = self.endpoint
        if not isinstance(endpoint, Address) or endpoint.literal is not None:
            return self.address
        found = socket.getaddrinfo(self.address, self.port, type=socket.SOCK_STREAM)
        return str(found[0][4][0])


def collect_listeners(
    assigned: Mapping[str, Assignment], get: Lookup, source_of: Callable[[str], Source]
) -> tuple[list[Listener], list[Problem], list[Note]]:
    """The listeners in the order of the file, what is wrong with them, and what is probably not meant.

    `get` gives the value of a key, inherited where it is not set; `None` for an address that was not understood.
    """
    listeners: list[Listener] = []
    notes: list[Note] = []
    names = _names(assigned)
    if len(names) > LISTENERS_MAX:
        problem = Problem("listener", f"{len(names)} listeners are configured; {LISTENERS_MAX} are possible")
        return [], [problem], []
    for kind, name in names:
        key = f"listener.{kind}.{name}"
        endpoint = get(key)
        if endpoint is not None:
            listeners.append(listener_of(kind, name, endpoint, get, source_of(key), assigned))
        elif key not in assigned:
            options = tuple(option for option in assigned if option.startswith(f"{key}."))
            text = f"{options[0]} ({assigned[options[0]].source}) does nothing: there is no {key} = ADDRESS:PORT"
            notes.append(Note(NoteKind.WARNING, text, options))
    notes += [*_overlaps(listeners), *_certificates_in_any_case(listeners, source_of)]
    return listeners, _doubles(listeners) + problems_of_listeners(listeners, get), notes


def _names(assigned: Mapping[str, Assignment]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for key in assigned:
        words = split_key(key)
        is_option_of_family = len(words) == 3 and not _is_address(key)
        if len(words) >= 3 and words[0] == "listener" and words[1] in FAMILIES and not is_option_of_family:
            found[words[1], words[2]] = None
    return list(found)


def _is_address(key: str) -> bool:
    row = key_table().find(key)
    return row is not None and row.is_pattern


def listener_of(
    kind: str,
    name: str,
    endpoint: Address | UnixSocket,
    get: Lookup,
    source: Source,
    assigned: Iterable[str] = (),
) -> Listener:
    """The listener `listener.KIND.NAME` with its options. `assigned`: all keys that were given a value."""
    key = f"listener.{kind}.{name}"

    def option(word: str, otherwise: Any) -> Any:
        if not key_table().find(f"{key}.{word}"):
            return otherwise
        value = get(f"{key}.{word}")
        return otherwise if value is None and otherwise is not None and word not in _NONE_MEANS_NO_LIMIT else value

    mountpoint = option("mountpoint", "")
    socket_options = get("tcp_listen_options")
    if sizes := option("buffer_sizes", ()):
        socket_options = dataclasses.replace(socket_options, send_buffer=sizes[0], receive_buffer=sizes[1])
    return Listener(
        kind=kind,
        name=name.replace(r"\.", "."),
        address=endpoint.host if isinstance(endpoint, Address) else "",
        port=endpoint.port if isinstance(endpoint, Address) else 0,
        source=source,
        mountpoint="" if mountpoint in (None, "off") else mountpoint,
        max_connections=option("max_connections", None),
        max_connection_rate=option("max_connection_rate", None),
        allowed_protocol_versions=option("allowed_protocol_versions", ()),
        allow_anonymous=True if option("allow_anonymous_override", otherwise=False) else None,
        max_connection_lifetime=option("max_connection_lifetime", 0),
        unix_path=None if isinstance(endpoint, Address) else endpoint.path,
        auth_plugins=option("auth_plugins", None),
        authz_plugins=option("authz_plugins", None),
        tls=tls_files(key, option, assigned) if kind in TLS_FAMILIES else None,
        tls_handshake_timeout=option("tls_handshake_timeout", DEFAULT_HANDSHAKE_TIMEOUT_MS),
        use_identity_as_username=option("use_identity_as_username", otherwise=False),
        proxy_protocol=option("proxy_protocol", otherwise=False),
        proxy_protocol_use_cn_as_username=option("proxy_protocol_use_cn_as_username", otherwise=False),
        forwarding=_forwarding(option),
        max_ws_frame_size=get("max_ws_frame_size"),
        http_limits=HttpLimits(option("max_request_line_length", 8_000), option("max_header_value_length", 4_096)),
        http_modules=option("http_modules", ()),
        socket_options=socket_options,
        is_active=kind in MQTT_FAMILIES or kind in HTTP_FAMILIES or kind in CLUSTER_FAMILIES,
    )


DEFAULT_HANDSHAKE_TIMEOUT_MS = 5_000
_NONE_MEANS_NO_LIMIT = frozenset({"max_connections", "max_connection_rate", "tls_handshake_timeout"})


def _forwarding(option: Callable[[str, Any], Any]) -> Forwarding | None:
    if not option("proxy_xff_support", False):  # noqa: FBT003 - the value of a key that is not there
        return None
    trusted = tuple(word.strip() for word in option("proxy_xff_trusted_intermediate", "").split(";") if word.strip())
    takes_name = option("proxy_xff_use_cn_as_username", False)  # noqa: FBT003 - as above
    return Forwarding(trusted, option("proxy_xff_cn_header", None) if takes_name else None)


def problems_of_listeners(listeners: Iterable[Listener], get: Lookup) -> list[Problem]:
    """What keeps listeners from opening and can be seen without opening them."""
    return [
        Problem(str(listener.source), message, f"{listener.key}.{word}", advice)
        for listener in listeners
        for word, message, advice in (*_tls_problems(listener, get), *_access_problems(listener))
    ]


def _tls_problems(listener: Listener, get: Lookup) -> Iterator[tuple[str, str, str | None]]:
    tls = listener.tls
    if tls is None:
        return
    if tls.identity is None:
        yield "certfile", "a listener with TLS needs a certificate", "name a PEM file"
    if old := [version for version in tls.versions if version in ("tlsv1", "tlsv1.1")]:
        yield "tls_version", f"{old[0]} is not safe and not offered", "use tlsv1.2 and tlsv1.3"
    if tls.cafile is None and listener.kind == "vmqs":
        yield (
            "cafile",
            "both ends of a link check each other's certificate, so an authority is needed",
            "name a PEM file",
        )
    elif tls.cafile is None and (tls.require_certificate or listener.use_identity_as_username):
        yield "cafile", "clients' certificates are asked for and cannot be checked without", None
    if listener.kind == "ssl" and get(f"{listener.key}.psk_support"):
        yield "psk_support", "pre-shared keys are not supported", "use certificates"


def _access_problems(listener: Listener) -> Iterator[tuple[str, str, str | None]]:
    if listener.forwarding is not None and not listener.forwarding.trusted:
        yield "proxy_xff_trusted_intermediate", "nobody is trusted, so every client would be refused", None
    for word, names in (("auth_plugins", listener.auth_plugins), ("authz_plugins", listener.authz_plugins)):
        if names is not None and not names:
            yield word, "names nobody, so every client would be refused", None


def _doubles(listeners: list[Listener]) -> list[Problem]:
    problems: list[Problem] = []
    first: dict[Address | UnixSocket, Listener] = {}
    for listener in listeners:
        if listener.unix_path is None and listener.port == 0:
            continue
        other = first.setdefault(listener.endpoint, listener)
        if other is not listener:
            message = f"{listener.endpoint} is already the address of {other.key} ({other.source})"
            problems.append(Problem(str(listener.source), message, listener.key, "give one of them another port"))
    return problems


def _overlaps(listeners: list[Listener]) -> list[Note]:
    everywhere = {(item.port, ":" in item.address): item for item in listeners if item.address in ("0.0.0.0", "::")}  # noqa: S104
    notes: list[Note] = []
    for listener in listeners:
        other = everywhere.get((listener.port, ":" in listener.address))
        if other is None or other.address == listener.address or not listener.port or listener.unix_path is not None:
            continue
        text = f"{other.key} on {other.endpoint} includes {listener.endpoint}, so {listener.key} may fail to open"
        notes.append(Note(NoteKind.WARNING, text, (other.key, listener.key)))
    return notes


def _certificates_in_any_case(listeners: Iterable[Listener], source_of: Callable[[str], Source]) -> Iterator[Note]:
    for listener in listeners:
        key = f"{listener.key}.require_certificate"
        if listener.kind == "vmqs" and listener.tls is not None and not listener.tls.require_certificate:
            text = f"{key} = off ({source_of(key)}) has no effect: both ends of a link always show a certificate"
            yield Note(NoteKind.WARNING, text, (key,))
