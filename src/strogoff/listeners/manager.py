"""The listeners of a node: opened from the configuration, started, stopped and deleted by operators, kept up to date.

What operators change holds until the node stops; a start returns to the configuration.
"""

import asyncio
import dataclasses
import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from strogoff._engine import Engine, ListenerInfo, TlsConfig
from strogoff.config import Configuration, Listener
from strogoff.listeners.certificates import CertificateError, engine_tls, stamps
from strogoff.observe.logging import get_logger

if TYPE_CHECKING:
    from strogoff.broker import Broker

__all__ = ["ListenerError", "ListenerManager", "OpenListener"]

WATCH_INTERVAL_S: Final = 5.0
"""Files of certificates are looked at so often, or more often where crl_refresh_interval asks for it."""
HANDSHAKE_TIMEOUT_MAX_MS: Final = 4_294_967_295
"""What the engine takes, weeks, stands for no limit."""

_ADVICE: Final = {
    errno.EADDRINUSE: "another program listens there: stop it, or choose another port",
    errno.EACCES: "ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or choose another port",
    errno.EMFILE: "the process has no file descriptors left: raise the limit (ulimit -n, LimitNOFILE=)",
}

_KINDS: Final[Mapping[str, Literal["tcp", "ssl", "ws", "wss"]]] = {"tcp": "tcp", "ssl": "ssl", "ws": "ws", "wss": "wss"}

_log = get_logger("listeners")


class ListenerError(Exception):
    """A listener cannot be opened or found; the message says which, why, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class OpenListener:
    """A listener that the engine has, with its options."""

    listener: Listener
    info: ListenerInfo


class ListenerManager:
    """All MQTT listeners. `choose` is told about the listeners before they are opened: who decides about their clients.

    It raises `ValueError` for a choice that cannot be.
    """

    name = "listeners"

    def __init__(
        self,
        engine: Engine,
        configuration: Callable[[], Configuration],
        *,
        choose: Callable[[Sequence[Listener]], None],
    ) -> None:
        self._engine = engine
        self._configuration = configuration
        self._choose = choose
        self._listeners: dict[str, Listener] = {}
        self._stamps: dict[str, object] = {}

    async def open_all(self) -> None:
        """Open the listeners of the configuration. Raises `ListenerError` for the first that cannot.

        None is open before the certificates of all are read: a broker that cannot start serves nobody for a moment.
        """
        prepared = [(listener, await self._prepared(listener)) for listener in self._configuration().listeners]
        for listener, place in prepared:
            self._start(listener, place)

    async def start(self, listener: Listener) -> ListenerInfo:
        """Open one more. Raises `ListenerError`; all is as it was then."""
        return self._start(listener, await self._prepared(listener))

    async def _prepared(self, listener: Listener) -> tuple[str, TlsConfig | None]:
        """The address in figures and the certificates of a listener. Raises `ListenerError`."""
        try:
            tls = await asyncio.to_thread(engine_tls, listener) if listener.tls else None
            return await asyncio.to_thread(listener.literal_address), tls
        except (OSError, ValueError, CertificateError) as error:
            raise ListenerError(_sentence(listener, error)) from error

    def _start(self, listener: Listener, place: tuple[str, TlsConfig | None]) -> ListenerInfo:
        name = listener.engine_name
        if name in self._listeners:
            raise ListenerError(f"{listener.key}: there is a listener of this name already")
        try:
            self._choose([*self._listeners.values(), listener])
            info = self._open(listener, *place)
        except (OSError, ValueError) as error:
            self._choose(list(self._listeners.values()))
            raise ListenerError(_sentence(listener, error)) from error
        self._listeners[name] = listener
        self._remember(listener)
        _log.info("listener open", listener=info.name, address=str(listener.endpoint), port=info.port)
        return info

    def _open(self, listener: Listener, address: str, tls: TlsConfig | None) -> ListenerInfo:
        place = listener.unix_path or address
        return self._engine.open_listener(
            listener.engine_name, _KINDS[listener.kind], place, listener.port, **_options(listener, tls)
        )

    def stop(self, address: str, port: int, *, kill_sessions: bool) -> None:
        """Accept no more; those who came in stay, unless told otherwise. Raises `ListenerError`."""
        found = self._at(address, port)
        self._engine.suspend_listener(found.info.name, kill_sessions=kill_sessions)
        _log.notice("listener stopped", listener=found.info.name)

    def stop_all(self, *, kill_sessions: bool) -> None:
        """Accept nobody any more on any of them; those who came in stay, unless told otherwise."""
        for name in self._listeners:
            self._engine.suspend_listener(name, kill_sessions=kill_sessions)
        _log.notice("all listeners stopped", kill_sessions=kill_sessions)

    def restart(self, address: str, port: int) -> None:
        """Accept again. Raises `ListenerError`."""
        found = self._at(address, port)
        try:
            self._engine.resume_listener(found.info.name)
        except (OSError, ValueError) as error:
            raise ListenerError(_sentence(found.listener, error)) from error
        _log.notice("listener open again", listener=found.info.name)

    def delete(self, address: str, port: int) -> None:
        """Close and forget it; those who came in stay. Raises `ListenerError`."""
        found = self._at(address, port)
        self._engine.close_listener(found.info.name)
        del self._listeners[found.info.name]
        self._stamps.pop(found.info.name, None)
        self._choose(list(self._listeners.values()))
        _log.notice("listener deleted", listener=found.info.name)

    def show(self) -> list[OpenListener]:
        """All listeners that there are, running or suspended."""
        infos = {info.name: info for info in self._engine.listeners()}
        return [OpenListener(listener, infos[name]) for name, listener in self._listeners.items() if name in infos]

    async def run(self, _broker: "Broker") -> None:
        """Exchange certificates whose files have changed, until cancelled."""
        while True:
            limit_ms = self._configuration().get("crl_refresh_interval")
            await asyncio.sleep(min(WATCH_INTERVAL_S, limit_ms / 1_000) if limit_ms else WATCH_INTERVAL_S)
            if limit_ms:
                await self.refresh_certificates()

    async def refresh_certificates(self, *, all_of_them: bool = False) -> list[str]:
        """Read changed files again, or all; the listeners that present new certificates from now on.

        A file that cannot be used leaves what was in force, and is logged.
        """
        changed: list[str] = []
        for name, listener in list(self._listeners.items()):
            if listener.tls is None:
                continue
            before = self._stamps.get(name)
            if not all_of_them and await asyncio.to_thread(stamps, listener.tls) == before:
                continue
            self._remember(listener)
            try:
                self._engine.set_listener_tls(name, await asyncio.to_thread(engine_tls, listener))
            except (CertificateError, ValueError) as error:
                _log.error("the certificates that were read before stay in force", listener=name, reason=str(error))
                continue
            changed.append(name)
            _log.notice("certificates read again", listener=name)
        return changed

    def _remember(self, listener: Listener) -> None:
        if listener.tls is not None:
            # Before they are read, so that a change in between is seen as one the next time.
            self._stamps[listener.engine_name] = stamps(listener.tls)

    def _at(self, address: str, port: int) -> OpenListener:
        for found in self.show():
            if found.info.port == port and address in (found.info.address, found.listener.unix_path):
                return found
        known = ", ".join(f"{found.info.address} port {found.info.port}" for found in self.show()) or "none"
        raise ListenerError(f"there is no listener at {address} port {port}: there are {known}")


def _options(listener: Listener, tls: TlsConfig | None) -> dict[str, Any]:
    sockets = listener.socket_options
    options: dict[str, Any] = {
        "mountpoint": listener.mountpoint,
        "max_connections": listener.max_connections,
        "max_connection_rate": listener.max_connection_rate,
        "allowed_protocol_versions": listener.allowed_protocol_versions,
        "allow_anonymous": listener.allow_anonymous,
        "max_connection_lifetime": listener.max_connection_lifetime,
        "use_identity_as_username": listener.use_identity_as_username,
        "proxy_protocol": listener.proxy_protocol,
        "proxy_protocol_use_cn_as_username": listener.proxy_protocol_use_cn_as_username,
        **{field.name: getattr(sockets, field.name) for field in dataclasses.fields(sockets)},
    }
    if tls is not None:
        options |= {"tls": tls, "tls_handshake_timeout": listener.tls_handshake_timeout or HANDSHAKE_TIMEOUT_MAX_MS}
    if listener.kind in ("ws", "wss"):
        forwarding = listener.forwarding
        options |= {
            "max_ws_frame_size": listener.max_ws_frame_size or 0,
            "max_request_line_length": listener.http_limits.request_line,
            "max_header_value_length": listener.http_limits.header_value,
            "proxy_xff": None if forwarding is None else (forwarding.trusted, forwarding.common_name_header),
        }
    return options


def _sentence(listener: Listener, error: Exception) -> str:
    if not isinstance(error, OSError):
        return str(error) if isinstance(error, CertificateError) else f"{listener.key}: {error}"
    number = error.errno or 0
    # What a resolver has to say has a negative number and a text of its own.
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    advice = _ADVICE.get(number, "it has to be an address of this machine")
    return f"{listener.key} = {listener.endpoint}: {reason}; {advice}"
