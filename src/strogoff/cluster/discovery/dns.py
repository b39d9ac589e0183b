"""`cluster.discovery = dns`: nodes are at the addresses of a name, such as that of a headless service.

Name servers are asked without the system's resolver: that one blocks a thread for as long as it likes, and a node that
is told to stop must not wait for it.
"""

import asyncio
import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strogoff.cluster.discovery.dns_messages import (
    AAAA,
    NO_SUCH_NAME,
    OK,
    A,
    Answer,
    BadMessageError,
    answer_of,
    question,
)
from strogoff.cluster.discovery.places import Place, SourceError

__all__ = ["DnsSource", "Resolver", "resolver_of"]

RESOLV_CONF: Final = Path("/etc/resolv.conf")
TRY_S: Final = 1.0
"""How long one name server has for its answer."""
TRIES: Final = 2
SERVERS_MAX: Final = 3
PORT: Final = 53


@dataclass(frozen=True, slots=True)
class Resolver:
    """Whom to ask. `servers`: address and port. `search`: domains that a short name may be in. `dots`: how many a name
    has that is tried as it is first.
    """

    servers: Sequence[tuple[str, int]]
    search: Sequence[str] = ()
    dots: int = 1

    def names(self, name: str) -> list[str]:
        """The full names that a name may mean, in the order in which they are tried."""
        if name.endswith("."):
            return [name]
        longer = [f"{name}.{domain}" for domain in self.search]
        return [name, *longer] if name.count(".") >= self.dots else [*longer, name]


def resolver_of(text: str) -> Resolver:
    """What `/etc/resolv.conf` says. Lines that cannot be read are passed over, as everybody does."""
    servers: list[tuple[str, int]] = []
    search: list[str] = []
    dots = 1
    for line in text.splitlines():
        keyword, *words = line.partition("#")[0].partition(";")[0].split() or [""]
        if keyword == "nameserver" and words and len(servers) < SERVERS_MAX:
            servers.append((words[0], PORT))
        elif keyword in {"search", "domain"}:
            search = [word.rstrip(".") for word in words if word.rstrip(".")]
        elif keyword == "options":
            numbers = [word.removeprefix("ndots:") for word in words if word.startswith("ndots:")]
            dots = next((int(number) for number in numbers if number.isdecimal()), dots)
    return Resolver(servers, search, dots)


class DnsSource:
    """The addresses of a name, IPv4 and IPv6, each with the port. `server`: ADDRESS:PORT, empty for those of the
    system, which are read anew each time.
    """

    is_complete = False

    def __init__(self, name: str, *, port: int, server: str = "", resolv_conf: Path = RESOLV_CONF) -> None:
        self._name = name
        self._port = port
        self._server = server
        self._resolv_conf = resolv_conf

    async def look(self) -> Sequence[Place]:
        """Where nodes are now. A name without addresses is one whose nodes the name server has not heard of."""
        resolver = self._resolver()
        for name in resolver.names(self._name):
            if found := await self._addresses(resolver, name):
                host = self._name.rstrip(".")
                return [
                    Place("", f"[{each}]:{self._port}" if ":" in each else f"{each}:{self._port}", host)
                    for each in found
                ]
        raise SourceError(
            f"{self._name} has no address yet (cluster.discovery.dns.name); a headless service has those of starting "
            "pods only with publishNotReadyAddresses"
        )

    def _resolver(self) -> Resolver:
        if self._server:
            host, _, port = self._server.rpartition(":")
            return Resolver([(host.strip("[]"), int(port))])
        try:
            resolver = resolver_of(self._resolv_conf.read_text(errors="replace"))
        except OSError as error:
            raise SourceError(f"{self._resolv_conf} cannot be read: {error.strerror}") from None
        if not resolver.servers:
            raise SourceError(f"{self._resolv_conf} names no name server (cluster.discovery.dns.server)")
        return resolver

    async def _addresses(self, resolver: Resolver, name: str) -> list[str]:
        """In order; none if there is no such name. Raises `SourceError` if nobody says either."""
        asked = (self._ask(resolver, name, kind) for kind in (A, AAAA))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        found: list[str] = []
        faults = [answer for answer in answers if isinstance(answer, BaseException)]
        for fault in faults:
            # Some servers know nothing of IPv6, and say so badly.
            if len(faults) == len(answers) or not isinstance(fault, SourceError):
                raise fault
        for answer in answers:
            if isinstance(answer, Answer):
                found += answer.addresses
        if faults and not found:
            raise faults[0]
        return sorted(set(found), key=lambda each: (":" in each, ipaddress.ip_address(each).packed))

    async def _ask(self, resolver: Resolver, name: str, kind: int) -> Answer:
        fault = ""
        try:
            asked = question(secrets.randbelow(1 << 16), name, kind)
        except BadMessageError as error:
            raise SourceError(f"{error} (cluster.discovery.dns.name)") from None
        for host, port in [*resolver.servers] * TRIES:
            try:
                async with asyncio.timeout(TRY_S):
                    answer = await _over_udp(host, port, asked)
                    if answer.is_truncated:
                        answer = await _over_tcp(host, port, asked)
            except TimeoutError:
                fault = f"no answer of the name server {host} port {port} within {TRY_S:g} s"
            except (OSError, EOFError, BadMessageError) as error:
                fault = f"the name server {host} port {port}: {error}"
            else:
                if answer.code in {OK, NO_SUCH_NAME}:
                    return answer
                fault = f"the name server {host} port {port} cannot answer for {name} (code {answer.code})"
        raise SourceError(fault)


class _Exchange(asyncio.DatagramProtocol):
    """One question, and the first message that answers it; others are passed over."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 - the socket is connected
        try:
            answer = answer_of(data, self._asked)
        except BadMessageError:
            return
        if not self.answer.done():
            self.answer.set_result(answer)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


async def _over_udp(host: str, port: int, asked: bytes) -> Answer:
    loop = asyncio.get_running_loop()
    transport, exchange = await loop.create_datagram_endpoint(lambda: _Exchange(asked), remote_addr=(host, port))
    try:
        transport.sendto(asked)
        return await exchange.answer
    finally:
        transport.close()


async def _over_tcp(host: str, port: int, asked: bytes) -> Answer:
    """For an answer that is too long for a datagram."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(len(asked).to_bytes(2, "big") + asked)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return answer_of(await reader.readexactly(length), asked)
    finally:
        writer.close()
