"""The HTTP listeners of a node, from the phase `booting` on: health has to be asked while a node starts."""

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from strogoff.config import Listener
from strogoff.http.modules import MODULES, routes
from strogoff.http.server import BACKLOG, HttpServer
from strogoff.http.status import StatusPage, serve_other_nodes
from strogoff.listeners.certificates import CertificateError, https_context, load_into, stamps
from strogoff.observe.logging import get_logger

if TYPE_CHECKING:
    from strogoff.broker import Broker

__all__ = ["HttpListeners"]

WATCH_INTERVAL_S = 5.0

_log = get_logger("http")


class HttpListeners:
    """Opens what the configuration names. A listener that cannot open is told, and the node goes on without it."""

    name = "http listeners"

    async def run(self, broker: "Broker") -> None:
        """Serve until cancelled."""
        serve_other_nodes(broker)
        page = StatusPage(broker)
        async with asyncio.TaskGroup() as tasks:
            for listener in broker.configuration.http_listeners:
                broker.http_states[listener.engine_name] = "not_running"
                tasks.create_task(self._serve(broker, page, listener), name=listener.key)
            await asyncio.get_running_loop().create_future()

    async def _serve(self, broker: "Broker", page: StatusPage, listener: Listener) -> None:
        try:
            tls = await asyncio.to_thread(https_context, listener) if listener.tls else None
            listening = await asyncio.to_thread(_bound, listener)
        except (OSError, CertificateError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            _log.error(
                "an HTTP listener cannot open", listener=listener.key, address=str(listener.endpoint), reason=reason
            )
            return
        with listening:
            address = ":".join(str(part) for part in listening.getsockname()[:2])
            served = routes(broker, page, self._modules(broker, listener))
            app = Starlette(routes=served, exception_handlers={404: _nothing})
            limits = listener.http_limits
            server = HttpServer(
                app, max_connections=listener.max_connections, head_size_max=limits.head_size_max, tls=tls
            )
            broker.http_states[listener.engine_name] = "running"
            _log.info("listener open", listener=listener.engine_name, address=address)
            try:
                async with asyncio.TaskGroup() as tasks:
                    if tls is not None:
                        tasks.create_task(_watch(tls, listener))
                    await server.serve(listening)
            finally:
                broker.http_states[listener.engine_name] = "not_running"

    def _modules(self, broker: "Broker", listener: Listener) -> tuple[str, ...]:
        wanted: tuple[str, ...] = listener.http_modules or broker.configuration.get("http_modules")
        missing = [module for module in wanted if module not in MODULES]
        if missing:
            _log.info("modules that this version does not have", listener=listener.key, modules=",".join(missing))
        return tuple(dict.fromkeys(wanted))


async def _nothing(_request: Request, _error: Exception) -> Response:
    """An unknown path: 404 and no more."""
    return Response(status_code=404)


async def _watch(tls: ssl.SSLContext, listener: Listener) -> None:
    """Load the certificate again whenever its files have changed, until cancelled."""
    assert listener.tls is not None
    before = stamps(listener.tls)
    while True:
        await asyncio.sleep(WATCH_INTERVAL_S)
        now = await asyncio.to_thread(stamps, listener.tls)
        if now == before:
            continue
        before = now
        try:
            await asyncio.to_thread(load_into, tls, listener)
            _log.notice("certificates read again", listener=listener.engine_name)
        except CertificateError as error:
            text = "the certificates that were read before stay in force"
            _log.error(text, listener=listener.engine_name, reason=str(error))


def _bound(listener: Listener) -> socket.socket:
    """A listening socket. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in listener.literal_address() else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((listener.literal_address(), listener.port))
        listening.listen(BACKLOG)
        listening.setblocking(False)  # noqa: FBT003 - the standard library takes it by position
    except BaseException:
        listening.close()
        raise
    return listening
