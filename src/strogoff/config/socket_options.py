"""`tcp_listen_options`: options of listening sockets in VerneMQ's notation, `[{nodelay, true}, {backlog, 1024}]`."""

import dataclasses
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

__all__ = ["SocketOptions", "read_socket_options"]

SIZE_MAX: Final = 2**31 - 1


@dataclasses.dataclass(frozen=True, slots=True)
class SocketOptions:
    """Options of a listening socket, which the connections that it accepts inherit.

    Sizes in bytes, `linger` in seconds. None: as the system does.
    """

    nodelay: bool = True
    keepalive: bool = False
    backlog: int = 4_096
    send_buffer: int | None = None
    receive_buffer: int | None = None
    reuse_port: bool = False
    linger: int | None = None

    def __str__(self) -> str:
        """What differs from the defaults, for people."""
        default = SocketOptions()
        names = (field.name for field in dataclasses.fields(self))
        changed = (name for name in names if getattr(self, name) != getattr(default, name))
        return ", ".join(f"{name} {getattr(self, name)}" for name in changed)


_FLAGS: Final[Mapping[str, str]] = MappingProxyType(
    {"nodelay": "nodelay", "keepalive": "keepalive", "reuseport": "reuse_port"}
)
_SIZES: Final[Mapping[str, str]] = MappingProxyType(
    {"backlog": "backlog", "sndbuf": "send_buffer", "recbuf": "receive_buffer"}
)
_WITHOUT_EFFECT: Final = frozenset({"reuseaddr", "send_timeout", "send_timeout_close", "buffer", "active", "packet"})
"""Options of Erlang's sockets that mean nothing here, or that are always so."""

_LIST = re.compile(r"\[\s*(.*?)\s*\]", re.DOTALL)
_OPTION = re.compile(r"\{\s*(\w+)\s*,\s*(\w+|\{\s*\w+\s*,\s*\w+\s*\})\s*\}\s*(?:,\s*|$)")
_LINGER = re.compile(r"\{\s*(true|false)\s*,\s*([0-9]{1,5})\s*\}")


def read_socket_options(text: str) -> SocketOptions:
    """Read the options. Raises `ValueError` that names the one that is wrong."""
    outer = _LIST.fullmatch(text.strip())
    if outer is None:
        raise ValueError("the options stand in brackets")
    values: dict[str, Any] = {}
    position, inner = 0, outer[1]
    while position < len(inner):
        option = _OPTION.match(inner, position)
        if option is None:
            raise ValueError(f"{inner[position : position + 40]!r} is not written {{NAME, VALUE}}")
        position = option.end()
        values |= _option(option[1], option[2])
    return SocketOptions(**values)


def _option(name: str, value: str) -> dict[str, Any]:
    if name in _WITHOUT_EFFECT:
        return {}
    if name in _FLAGS:
        if value not in ("true", "false"):
            raise ValueError(f"{name} has to be true or false, not {value}")
        return {_FLAGS[name]: value == "true"}
    if name in _SIZES:
        most = 65_535 if name == "backlog" else SIZE_MAX
        if not value.isdecimal() or not 1 <= int(value) <= most:
            raise ValueError(f"{name} has to be a number from 1 to {most}, not {value}")
        return {_SIZES[name]: int(value)}
    if name == "linger":
        linger = _LINGER.fullmatch(value)
        if linger is None:
            raise ValueError("linger is written {linger, {true, SECONDS}}")
        return {"linger": int(linger[2]) if linger[1] == "true" else None}
    known = ", ".join([*_FLAGS, *_SIZES, "linger"])
    raise ValueError(f"there is no option {name}: expected {known}")
