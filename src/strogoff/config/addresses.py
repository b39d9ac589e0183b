"""Addresses that a listener is bound to: literal addresses, host names, bare ports and Unix sockets."""

import dataclasses
import ipaddress
import re

__all__ = ["Address", "UnixSocket", "read_address"]

PORT_MAX = 65_535
EVERY_IPV4_ADDRESS = "0.0.0.0"  # noqa: S104 (what a bare port means; the documentation of the keys says so)

_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.?")


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A TCP address. `host` is a literal IPv4 or IPv6 address or a host name; port 0 takes a free port."""

    host: str
    port: int

    @property
    def literal(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, None for a host name (which has to be resolved before it is bound)."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect. Of the names only `localhost` is known to be."""
        literal = self.literal
        return self.host.lower().rstrip(".") == "localhost" if literal is None else literal.is_loopback

    def __str__(self) -> str:
        """`127.0.0.1:1883`, `[::1]:1883`, `mqtt.example.org:1883`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class UnixSocket:
    """A Unix domain socket by its path."""

    path: str

    @property
    def is_loopback(self) -> bool:
        """Always: nobody outside this machine reaches a Unix socket."""
        return True

    def __str__(self) -> str:
        """As it is written in the configuration file."""
        return f"local:{self.path}:0"


def read_address(text: str) -> Address | UnixSocket:
    """Read `127.0.0.1:1883`, `[::1]:1883`, `::1:1883` (split at the last colon), `host:1883`, `1883` or `local:PATH:0`.

    Raises `ValueError` that says what is wrong.
    """
    if text.startswith("local:"):
        return _read_unix_socket(text)
    host, colon, port = text.rpartition(":")
    if not colon:
        return Address(EVERY_IPV4_ADDRESS, _read_port(port))
    return Address(_read_host(host), _read_port(port))


def _read_unix_socket(text: str) -> UnixSocket:
    path, colon, port = text.removeprefix("local:").rpartition(":")
    if not colon or port != "0" or not path or "\0" in path:
        raise ValueError("a Unix socket is written local:PATH:0")
    return UnixSocket(path)


def _read_port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > PORT_MAX:
        raise ValueError(f"the port has to be a number from 0 to {PORT_MAX}, not {text[:40]!r}")
    return int(text)


def _read_host(text: str) -> str:
    bracketed = text.startswith("[") and text.endswith("]")
    host = text[1:-1] if bracketed else text
    if bracketed or ":" in host or re.fullmatch(r"[0-9.]*", host):
        try:
            literal = ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(f"{host[:80]!r} is not an IPv4 or IPv6 address") from None
        if bracketed and literal.version == 4:
            raise ValueError("only IPv6 addresses stand in brackets")
        return str(literal)
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{host[:80]!r} is neither an address nor a host name")
    return host
