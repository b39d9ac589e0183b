"""One HTTP listener: an ASGI server in the broker's own event loop, with limits on what a peer may cost."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["HttpServer"]

REQUEST_TIMEOUT_S: Final = 10.0
"""From the first byte of a connection, or of a further request, to the end of the request's head."""
KEEP_ALIVE_S: Final = 75
"""How long an idle connection is kept: longer than the usual interval of scrapes."""
STOP_TIMEOUT_S: Final = 2
BACKLOG: Final = 128


class _PatientProtocol(H11Protocol):
    """HTTP/1.1 with an end to patience: a peer that does not finish its request in time is disconnected."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin_to_wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # The base class declares them as always there; before the first request they are not.
        cycle, keep_alive = getattr(self, "cycle", None), getattr(self, "timeout_keep_alive_task", None)
        if cycle is not None and not cycle.response_complete:
            self._stop_waiting()
        elif self._patience is None and keep_alive is None:
            # The next request of the connection has begun and is not whole.
            self._begin_to_wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _begin_to_wait(self) -> None:
        self._patience = self.loop.call_later(REQUEST_TIMEOUT_S, self._give_up)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._patience = None
        if not self.transport.is_closing():
            self.transport.close()


class _QuietServer(uvicorn.Server):
    """The server without its signal handlers: signals are the broker's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves an app on a bound socket. `tls`: a context whose certificates may be loaded anew at any time."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_connections: int | None,
        head_size_max: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            http=_PatientProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=max_connections,
            h11_max_incomplete_event_size=head_size_max,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_TIMEOUT_S,
            backlog=BACKLOG,
        )
        self._config.load()
        self._config.ssl = tls
        self._server = _QuietServer(self._config)

    async def serve(self, listening: socket.socket) -> None:
        """Serve until cancelled, then end at once what can be ended at once."""
        serving = asyncio.ensure_future(self._server.serve(sockets=[listening]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            self._server.should_exit = True
            await serving
            raise
