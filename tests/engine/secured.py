"""Engines with listeners of all kinds, and clients that come in through them."""

import socket
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from certificates import CertificateAuthority, Issued
from engine.running import Running, eventually
from protocol.client import DEADLINE_S, Connection, Network, dial
from protocol.websocket import Headers, WebSocket, dial_websocket
from strogoff._engine import ListenerInfo, TlsConfig

Dial = Callable[[int], Connection]


def tls_config(server: Issued, *more: Issued, **options: object) -> TlsConfig:
    """What a listener needs: the default certificate first, then those for other names."""
    identities = [(each.certificate_pem, each.key_pem, ()) for each in (server, *more)]
    return TlsConfig(identities=identities, **options)  # type: ignore[arg-type]


def client_context(
    authority: CertificateAuthority, certificate: Issued | None = None, **versions: ssl.TLSVersion
) -> ssl.SSLContext:
    """A client's side of TLS that trusts the authority. `minimum` and `maximum`: versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem.decode())
    context.minimum_version = versions.get("minimum", ssl.TLSVersion.TLSv1_2)
    context.maximum_version = versions.get("maximum", ssl.TLSVersion.TLSv1_3)
    if certificate is not None:
        with tempfile.TemporaryDirectory() as directory:
            context.load_cert_chain(*certificate.write(Path(directory), "client"))
    return context


def dial_tls(context: ssl.SSLContext, name: str = "localhost", session: ssl.SSLSession | None = None) -> Dial:
    """Connections over TLS."""

    def connect(port: int) -> ssl.SSLSocket:
        plain = dial(port)
        try:
            return context.wrap_socket(plain, server_hostname=name, session=session)
        except BaseException:
            plain.close()
            raise

    return connect


def over_websocket(below: Dial = dial, headers: Headers | None = None) -> Dial:
    """WebSocket connections over what `below` makes."""

    def connect(port: int) -> WebSocket:
        return dial_websocket(port, headers, below)

    return connect


def over_unix(path: Path) -> Dial:
    """Connections through a Unix socket; the port does not matter."""

    def connect(_port: int) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE_S)
        connection.connect(str(path))
        return connection

    return connect


def listen(running: Running, kind: str, name: str = "other", **options: Any) -> ListenerInfo:
    """A further listener on a free port of the loopback interface."""
    return running.engine.open_listener(name, kind, "127.0.0.1", 0, **options)  # type: ignore[arg-type]


def network(listener: ListenerInfo, dialled: Dial = dial) -> Network:
    """Clients for a listener."""
    return Network(listener.port, dialled)


def counted(running: Running, name: str, value: int) -> None:
    """A counter reaches a value; a worker adds what it counted at the end of its turn."""
    eventually(lambda: running.metric(name) == value, f"{name} is {value}")
