"""The listeners that a configuration describes, each with its options inherited from family and root."""

import dataclasses
import socket
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from strogoff.config.addresses import Address, UnixSocket
from strogoff.config.errors import Problem
from strogoff.config.keys import key_table, split_key
from strogoff.config.notes import Note, NoteKind
from strogoff.config.sources import Assignment, Source

__all__ = ["FAMILIES", "Listener", "collect_listeners"]

FAMILIES = ("tcp", "ssl", "ws", "wss", "vmq", "vmqs", "http", "https")
MQTT_FAMILIES = ("tcp", "ssl", "ws", "wss")
ACTIVE_FAMILIES = ("tcp",)
LISTENERS_MAX = 1_000

Lookup: TypeAlias = Callable[[str], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Listener:
    """`listener.KIND.NAME`. `port` 0 takes a free port; `unix_path` is set instead of `address` for a Unix socket.

    `max_connections` None: no limit. `allow_anonymous` True: whatever the key of that name says; None: as it says.
    `max_connection_lifetime`: seconds, 0 for no limit. `buffer_sizes`: send, receive and user buffer in bytes.
    `is_active`: whether this version opens it. `auth_plugins`, `authz_plugins`: who is asked, None for everybody.
    """

    kind: str
    name: str
    address: str
    port: int
    source: Source
    mountpoint: str = ""
    max_connections: int | None = 10_000
    allowed_protocol_versions: tuple[int, ...] = (3, 4, 5, 131)
    allow_anonymous: bool | None = None
    max_connection_lifetime: int = 0
    buffer_sizes: tuple[int, ...] | None = None
    unix_path: str | None = None
    is_active: bool = True
    auth_plugins: tuple[str, ...] | None = None
    authz_plugins: tuple[str, ...] | None = None

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
            listeners.append(_listener(kind, name, endpoint, get, source_of(key)))
        elif key not in assigned:
            options = tuple(option for option in assigned if option.startswith(f"{key}."))
            text = f"{options[0]} ({assigned[options[0]].source}) does nothing: there is no {key} = ADDRESS:PORT"
            notes.append(Note(NoteKind.WARNING, text, options))
    return listeners, _doubles(listeners), notes + _unix_sockets(listeners) + _overlaps(listeners)


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


def _listener(kind: str, name: str, endpoint: Address | UnixSocket, get: Lookup, source: Source) -> Listener:
    key = f"listener.{kind}.{name}"
    is_tcp = isinstance(endpoint, Address)

    def option(word: str, otherwise: Any) -> Any:
        return get(f"{key}.{word}") if key_table().find(f"{key}.{word}") else otherwise

    mountpoint = option("mountpoint", "")
    return Listener(
        kind=kind,
        name=name.replace(r"\.", "."),
        address=endpoint.host if isinstance(endpoint, Address) else "",
        port=endpoint.port if isinstance(endpoint, Address) else 0,
        source=source,
        mountpoint="" if mountpoint in (None, "off") else mountpoint,
        max_connections=option("max_connections", None),
        allowed_protocol_versions=option("allowed_protocol_versions", ()),
        allow_anonymous=True if option("allow_anonymous_override", otherwise=False) else None,
        max_connection_lifetime=option("max_connection_lifetime", 0),
        buffer_sizes=option("buffer_sizes", None),
        unix_path=None if isinstance(endpoint, Address) else endpoint.path,
        auth_plugins=option("auth_plugins", None),
        authz_plugins=option("authz_plugins", None),
        is_active=kind in ACTIVE_FAMILIES and is_tcp,
    )


def _unix_sockets(listeners: list[Listener]) -> list[Note]:
    text = "{} ({}): listening on a Unix socket is known, not active yet"
    return [
        Note(NoteKind.NOT_ACTIVE_YET, text.format(listener.key, listener.source), (listener.key,))
        for listener in listeners
        if listener.unix_path is not None
    ]


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
