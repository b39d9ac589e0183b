"""The admin socket: a Unix socket in the data directory that answers the owner's commands, one a connection."""

import asyncio
import contextlib
import dataclasses
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from strogoff.admin.lines import Help, read_line
from strogoff.admin.over_cluster import answer, serve_other_nodes
from strogoff.admin.plugin_commands import commands_of_plugins
from strogoff.admin.protocol import (
    HEADER_SIZE,
    PROGRESS_INTERVAL_S,
    REQUEST_SIZE_MAX,
    SOCKET_NAME,
    TIMEOUT_S,
    Failure,
    Progress,
    ProtocolError,
    Request,
    Success,
    frame_size,
    reachable_path,
)
from strogoff.admin.registry import Registry
from strogoff.admin.result import CommandError, Result, Text
from strogoff.broker import Broker
from strogoff.observe.logging import get_logger

__all__ = ["CONNECTIONS_MAX", "AdminServer", "execute"]

CONNECTIONS_MAX = 32
"""Commands at a time; a further connection is closed at once, which its program reports."""
REQUEST_TIMEOUT_S = 5.0
"""From the connection to the whole request, and as long again for the peer to take each part of the answer."""

_log = get_logger("admin")


async def execute(
    broker: Broker, registry: Registry, words: Sequence[str], tell: Callable[[str], None] | None = None
) -> Success | Failure:
    """Run one command line on the node. Every failure becomes a sentence; only cancellation passes.

    `tell`: see `Call`.
    """
    try:
        line = read_line(registry, words)
        if isinstance(line, Help):
            return Success(Result.of(Text(line.text)), line.format)
        call = line.call if tell is None else dataclasses.replace(line.call, tell=tell)
        async with asyncio.timeout(None if line.command.is_lasting else TIMEOUT_S):
            return Success(await answer(broker, line.command, call), call.format)
    except CommandError as error:
        return Failure(str(error))
    except TimeoutError:
        return Failure(f"'{' '.join(words)}' took longer than {TIMEOUT_S:.0f} s and was given up")
    except Exception as error:  # noqa: BLE001 - a defect in one command must not end the node, and is told in full in the log
        _log.exception("an admin command failed unexpectedly", command=" ".join(words), error=repr(error))
        return Failure(f"'{' '.join(words)}' failed unexpectedly ({error!r}); the node's log has the details")


class AdminServer:
    """The service behind the socket. Runs from the phase `booting` on, so that a starting node can be asked."""

    name = "admin socket"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self, broker: Broker) -> None:
        """Serve until cancelled. Raises `OSError` when the socket cannot be made."""
        path = broker.data_directory / SOCKET_NAME
        broker.plugins.reserve_commands(self._registry.first_words())
        serve_other_nodes(broker, self._registry)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(broker, reader, writer)

        with _listening(path) as listening:
            server = await asyncio.start_unix_server(serve, sock=listening, limit=REQUEST_SIZE_MAX)
            _log.debug("admin socket open", path=str(path))
            async with server:
                try:
                    # `serve_forever` would wait at its end for peers that are in no hurry.
                    await asyncio.get_running_loop().create_future()
                finally:
                    for connection in self._connections:
                        connection.cancel()

    async def _serve(self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._answer(broker, reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            # The peer is a program of the owner that was interrupted; there is nobody to tell but the log.
            _log.debug("admin connection ended early", reason=repr(error))
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        response: Success | Failure
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                size = frame_size(await reader.readexactly(HEADER_SIZE), REQUEST_SIZE_MAX)
                request = Request.decode(await reader.readexactly(size))
            registry = self._registry.extended(commands_of_plugins(broker.plugins.commands()))
            if _is_lasting(registry, request.words):
                tells = writer if request.wants_progress else None
                response = await _execute_while_wanted(broker, registry, request.words, reader, tells)
            else:
                response = await execute(broker, registry, request.words)
            frame = await asyncio.to_thread(response.encode)
        except ProtocolError as error:
            frame = Failure(f"the admin socket cannot carry this: {error}").encode()
        await _write(writer, frame)


def _is_lasting(registry: Registry, words: Sequence[str]) -> bool:
    try:
        found = registry.find(words).command
    except CommandError:
        return False
    return found is not None and found.is_lasting


async def _execute_while_wanted(
    broker: Broker,
    registry: Registry,
    words: Sequence[str],
    reader: asyncio.StreamReader,
    tells: asyncio.StreamWriter | None,
) -> Success | Failure:
    """Run a command that may take long. Raises `ConnectionError` when its program went away, which ends it."""
    last = Progress("")

    def tell(text: str) -> None:
        nonlocal last
        last = Progress(text)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(execute(broker, registry, words, tell))
        beside = [tasks.create_task(_cancel_when_gone(reader, running))]
        if tells is not None:
            beside.append(tasks.create_task(_tell_now_and_then(tells, lambda: last)))
        await asyncio.wait((running,))
        for task in beside:
            task.cancel()
    if running.cancelled():
        raise ConnectionError("the program went away before its command was done")
    return running.result()


async def _cancel_when_gone(reader: asyncio.StreamReader, running: asyncio.Task[Success | Failure]) -> None:
    # A program sends nothing behind its request, so whatever comes is its end.
    with contextlib.suppress(OSError):
        await reader.read(1)
    running.cancel()


async def _tell_now_and_then(writer: asyncio.StreamWriter, last: Callable[[], Progress]) -> None:
    """Also when nothing has changed: a program that hears nothing for long takes the node for dead."""
    with contextlib.suppress(OSError, TimeoutError):
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            await _write(writer, last().encode())


async def _write(writer: asyncio.StreamWriter, frame: bytes) -> None:
    """Write in pieces, each of which the peer has to take in time."""
    piece = 1 << 18
    for start in range(0, len(frame), piece):
        writer.write(frame[start : start + piece])
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            await writer.drain()


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    """A listening socket that only the owner can connect to; its file goes away with it.

    A file that is there is a leftover: the lock of the data directory says that no other node serves it.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening, reachable_path(path) as address:
        # The mode of the new file comes from the mask; it must never be open to others, not even for a moment.
        mask = os.umask(0o177)
        try:
            listening.bind(address)
        finally:
            os.umask(mask)
        listening.listen(CONNECTIONS_MAX)
        listening.setblocking(False)  # noqa: FBT003 - the standard library takes it by position
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)
