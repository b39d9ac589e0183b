"""One bridge while it runs on this node: connect, wait, connect again."""

import asyncio
import contextlib
import enum
import random
import re
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Final

from strogoff._engine import Bridge, BridgeEvent, BridgeStatus, BridgeTls, Engine
from strogoff.bridge.backoff import FIRST_S, Backoff
from strogoff.bridge.plan import local_client_id, plan_of, remote_client_id
from strogoff.bridge.settings import BridgeSettings, TlsSettings
from strogoff.observe.logging import get_logger

__all__ = ["Role", "RunningBridge"]

REOPEN_S: Final = 1.0
LEFTOVER_LOOK_S: Final = 1.0
_WITHOUT_PRIVATE: Final = "unsupported_protocol_version"

_SYSTEM_NUMBER: Final = re.compile(r" \(os error \d+\)")

_log = get_logger("bridge")


class Role(enum.Enum):
    """What a bridge does here."""

    ACTIVE = "active"
    LEFTOVER = "leftover"
    """Another node runs it; what this one still has for the other broker is brought there."""


class RunningBridge:
    """A bridge. `run` is its life; `event` hands it what the engine tells of it. `cluster`: the cluster's identity.

    `resolver`: where names are looked up, which may take as long as it likes. `started_at`: of the bridge that this one
    takes the place of, seconds since the Unix epoch.
    """

    def __init__(
        self,
        engine: Engine,
        settings: BridgeSettings,
        role: Role,
        *,
        node: str,
        cluster: str,
        resolver: Executor,
        started_at: float | None = None,
    ) -> None:
        self.settings = settings
        self.role = role
        self.state = "connecting"
        self.since = time.time()
        self.error = ""
        self._was_connected = False
        self.started_at = time.time() if started_at is None else started_at
        self.cluster = cluster
        self._engine = engine
        self._node = node
        self._bridge: Bridge | None = None
        self._ended: asyncio.Future[BridgeEvent] | None = None
        self._failed = ""
        self._resolver = resolver
        self._retry = asyncio.Event()
        longest_s = float(max(settings.longest_wait, 1))
        self._backoff = Backoff(longest_s, first_s=min(FIRST_S, longest_s))
        self._is_private = settings.is_private and settings.version != 5
        self._address = 0

    @property
    def local_client_id(self) -> str:
        """Its client id on this node."""
        return local_client_id(self.settings.name)

    def status(self) -> BridgeStatus | None:
        """What is counted; None while it is being opened."""
        return None if self._bridge is None else self._bridge.status()

    def event(self, event: BridgeEvent) -> None:
        """Take what the engine tells."""
        if event.kind == "connected":
            self._backoff.connected(time.monotonic())
            self._enter("connected")
            self._was_connected = True
            _log.notice("bridge connected", bridge=self.settings.name, endpoint=self.settings.endpoint)
            return
        if event.kind == "failed":
            self._failed = event.reason
            self._retry.set()
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(event)

    def retry(self) -> None:
        """Connect now, if it waits for the next attempt."""
        self._retry.set()

    async def run(self) -> None:
        """Run until cancelled; a bridge with the leftovers of another time returns when there is nothing left."""
        while True:
            self._failed = ""
            self._bridge = self._open()
            try:
                if await self._serve(self._bridge):
                    return
            finally:
                bridge, self._bridge = self._bridge, None
                # Closing takes a moment, and has to happen whatever comes.
                await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, bridge.close))
            await asyncio.sleep(REOPEN_S)

    def _open(self) -> Bridge:
        settings, plan = self.settings, plan_of(self.settings)
        is_leftover = self.role is Role.LEFTOVER
        wanted = frozenset[str]() if is_leftover else plan.filters
        subscribed = {found.topic for found in self._engine.subscriptions(self.local_client_id, settings.mountpoint)}
        return self._engine.open_bridge(
            settings.name,
            mountpoint=settings.mountpoint,
            lasts=settings.lasts,
            queue_max=-1 if settings.buffer_max is None else settings.buffer_max,
            window=settings.window,
            out=plan.out,
            incoming=() if is_leftover else plan.incoming,
            subscribes=not is_leftover,
            stale=sorted(subscribed - wanted),
            own_mark=self.cluster,
            remote_mark=f"{self.cluster}/{settings.name}"[:128],
        )

    async def _serve(self, bridge: Bridge) -> bool:
        """Connect again and again; True: nothing is left to do. False: the node has ended the bridge's session."""
        watching: asyncio.Task[None] | None = None
        if self.role is Role.LEFTOVER:
            watching = asyncio.create_task(self._until_empty(bridge))
        try:
            while not self._failed:
                self._ended = asyncio.get_running_loop().create_future()
                self._enter("connecting")
                reason = await self._attempt(bridge)
                if reason is None:
                    waiting: set[asyncio.Future[Any]] = {self._ended}
                    if watching is not None:
                        waiting.add(watching)
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if watching is not None and watching.done():
                        return True
                    reason = self._ended.result().reason
                if self._is_private and _WITHOUT_PRIVATE in reason:
                    # It takes no levels 131 and 132: without try_private, at once.
                    self._is_private = False
                    continue
                self._note_end(reason)
                wait_s = self._backoff.failed(time.monotonic(), random.random())  # noqa: S311 - jitter
                self._retry.clear()
                if not self._failed:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(wait_s):
                            await self._retry.wait()
            self._note_end(f"this node has ended the bridge's session: {self._failed}")
            return False
        finally:
            if watching is not None:
                watching.cancel()

    async def _until_empty(self, bridge: Bridge) -> None:
        while bridge.status().buffered:  # noqa: ASYNC110 - the engine counts, and tells nobody
            await asyncio.sleep(LEFTOVER_LOOK_S)

    async def _attempt(self, bridge: Bridge) -> str | None:
        """Begin one attempt to connect; a sentence when it could not even be begun."""
        settings = self.settings
        try:
            addresses = await self._addresses()
            tls = None if settings.tls is None else await asyncio.to_thread(read_tls, settings.tls)
            address = addresses[self._address % len(addresses)]
            self._address += 1
            bridge.connect(
                address,
                settings.port,
                version=settings.version,
                client_id=remote_client_id(
                    settings, node=self._node, cluster=self.cluster, is_leftover=self.role is Role.LEFTOVER
                ),
                private=self._is_private,
                clean=settings.is_clean,
                keep_alive=settings.keep_alive,
                username=settings.username,
                password=settings.password,
                session_expiry=settings.session_expiry,
                window=settings.window,
                tls=tls,
                server_name=None if settings.tls is None else settings.tls.server_name or settings.host,
                websocket=(settings.endpoint, settings.path) if settings.kind in {"ws", "wss"} else None,
                timeout_ms=settings.connect_timeout,
            )
        except (OSError, ValueError) as error:
            return str(error)
        return None

    async def _addresses(self) -> Sequence[str]:
        settings = self.settings
        family = socket.AF_INET6 if settings.family == "inet6" or ":" in settings.host else socket.AF_INET
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(settings.connect_timeout / 1_000):
                found = await loop.run_in_executor(
                    self._resolver,
                    lambda: socket.getaddrinfo(settings.host, settings.port, family, socket.SOCK_STREAM),
                )
        except TimeoutError:
            raise OSError(f"the name {settings.host} was not resolved within {settings.connect_timeout} ms") from None
        except OSError as error:
            raise OSError(f"the name {settings.host} cannot be resolved: {error.strerror or error}") from None
        if not found:
            raise OSError(f"the name {settings.host} has no address of the family {settings.family}")
        return [str(sockaddr[0]) for *_, sockaddr in found]

    def _note_end(self, reason: str) -> None:
        reason = _SYSTEM_NUMBER.sub("", reason)
        was_connected = self._was_connected
        self._was_connected = False
        self._enter("disconnected")
        if was_connected or reason != self.error:
            _log.warning(
                "bridge not connected", bridge=self.settings.name, endpoint=self.settings.endpoint, reason=reason
            )
        self.error = reason

    def _enter(self, state: str) -> None:
        if state != self.state:
            self.state, self.since = state, time.time()


def read_tls(tls: TlsSettings) -> BridgeTls:
    """Read the files. Raises `ValueError` and `OSError` that name the key, or the file."""
    ca: bytes | None = None
    if not tls.insecure:
        paths = ssl.get_default_verify_paths()
        file = tls.cafile or paths.cafile or paths.openssl_cafile
        if file is None:
            raise ValueError("cafile: it is not set, and this system has no list of authorities")
        ca = _read("cafile", str(file))
    certificates = None if tls.certfile is None else _read("certfile", str(tls.certfile))
    key = None if tls.keyfile is None else _read("keyfile", str(tls.keyfile))
    return BridgeTls(ca=ca, certificates=certificates, key=key, depth=tls.depth, versions=[tls.version])


def _read(key: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - it may be no path of this user's
            return file.read()
    except OSError as error:
        raise OSError(f"{key}: {path} cannot be read: {error.strerror}") from None
