"""The certificates of links: read from the files of the `vmqs` listeners, and again when the files have changed.

A node shows the same certificate whether it dials or is dialled, that of its first `vmqs` listener when it dials.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from strogoff._engine import Engine, LinkTls
from strogoff.config import Listener
from strogoff.listeners.certificates import CertificateError, link_tls, stamps
from strogoff.observe.logging import get_logger

__all__ = ["LinkCertificates"]

WATCH_INTERVAL_S: Final = 1.0

_log = get_logger("cluster.tls")


class LinkCertificates:
    """Those of one node. What is open keeps what it was opened with."""

    def __init__(self, engine: Engine, listeners: Iterable[Listener]) -> None:
        self._engine = engine
        self.listeners = [listener for listener in listeners if listener.tls is not None]
        self._stamps: dict[str, object] = {}

    def read(self) -> dict[str, LinkTls]:
        """The certificates of all listeners, by the engine's names of them. Raises `CertificateError`."""
        return {listener.engine_name: self._read_one(listener) for listener in self.listeners}

    async def run(self) -> None:
        """Exchange certificates whose files have changed, until cancelled."""
        while self.listeners:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await self.refresh()

    async def refresh(self, *, all_of_them: bool = False) -> list[str]:
        """Read changed files again, or all; the listeners that show new certificates from now on.

        A file that cannot be used leaves what was in force, and is logged.
        """
        changed: list[str] = []
        for number, listener in enumerate(self.listeners):
            if not all_of_them and not await asyncio.to_thread(self._has_changed, listener):
                continue
            if await self._exchange(listener, dials=number == 0):
                changed.append(listener.engine_name)
        return changed

    def _read_one(self, listener: Listener) -> LinkTls:
        # Before they are read, so that a change in between is seen as one the next time.
        assert listener.tls is not None, "only listeners with TLS are kept here"
        self._stamps[listener.engine_name] = stamps(listener.tls)
        return link_tls(listener)

    def _has_changed(self, listener: Listener) -> bool:
        assert listener.tls is not None, "only listeners with TLS are kept here"
        return self._stamps[listener.engine_name] != stamps(listener.tls)

    async def _exchange(self, listener: Listener, *, dials: bool) -> bool:
        try:
            tls = await asyncio.to_thread(self._read_one, listener)
        except CertificateError as error:
            _log.error("the certificates that were read before stay in force", listener=listener.key, reason=str(error))
            return False
        self._engine.set_cluster_listener_tls(listener.engine_name, tls)
        if dials:
            self._engine.set_link_tls(tls)
        _log.notice("certificates of links read again", listener=listener.key)
        return True
