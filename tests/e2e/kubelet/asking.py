"""What probes and hooks do to a container: a request, a connection, a program, or a wait."""

import asyncio
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass

from e2e.kubelet.containers import Running, run_inside
from e2e.kubelet.manifests import Action, Container, Exec, HttpGet, Sleep, TcpSocket


@dataclass(frozen=True, slots=True)
class Answer:
    """How it went, and what was said."""

    is_well: bool
    text: str


async def ask(action: Action, container: Container, running: Running, address: str, timeout_s: float) -> Answer:
    """Do it, from where all pods can be reached. A timeout is an answer, too."""
    match action:
        case Exec(command):
            code, output = await run_inside(running, command, timeout_s)
            return Answer(code == 0, output.strip())
        case Sleep(seconds):
            await asyncio.sleep(min(seconds, timeout_s))
            return Answer(is_well=True, text="")
        case HttpGet():
            return await _bounded(_get(action, address, container.port(action.port)), timeout_s)
        case TcpSocket(port):
            return await _bounded(_connect(address, container.port(port)), timeout_s)


async def _bounded(answer: Awaitable[Answer], timeout_s: float) -> Answer:
    try:
        async with asyncio.timeout(timeout_s):
            return await answer
    except TimeoutError:
        return Answer(is_well=False, text=f"no answer within {timeout_s:g} s")
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        return Answer(is_well=False, text=str(error))


async def _connect(address: str, port: int) -> Answer:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return Answer(is_well=True, text="")


async def _get(get: HttpGet, address: str, port: int) -> Answer:
    context = None
    if get.is_tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(address, port, ssl=context)
    try:
        headers = {"Host": f"{address}:{port}", "User-Agent": "kube-probe/1.34", "Connection": "close"}
        lines = [
            f"GET {get.path} HTTP/1.1",
            *(f"{name}: {text}" for name, text in (headers | dict(get.headers)).items()),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        answer = await reader.read()
        status = int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0
        body = answer.partition(b"\r\n\r\n")[2].decode(errors="replace")
        return Answer(200 <= status < 400, f"{status} {body}".strip())
    finally:
        writer.close()
