"""`tls ...`: the certificates that listeners and links present."""

import asyncio
import datetime
from collections.abc import Iterator

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, command
from strogoff.admin.result import CommandError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.config import Listener
from strogoff.listeners.certificates import CertificateError, CertificateInfo, certificates_of

__all__ = ["COMMANDS"]

VALIDITY_S = 172_800


@command("tls show", "Show the certificates that listeners use: their own, and the authorities that they know.")
async def show(broker: Broker, _call: Call) -> Result:
    """A row for each certificate of each file."""
    found = await asyncio.to_thread(_certificates, _listeners(broker))
    columns = ("File", "Not_Before", "Not_After", "CN", "Issuer", "SAN")
    rows = [
        (
            str(info.path),
            _shown(info.not_before),
            _shown(info.not_after),
            info.common_name,
            info.issuer,
            ",".join(info.names),
        )
        for info in found
    ]
    return Result.of(Table(columns, rows))


@command(
    "tls check",
    "Say which certificates have expired or will soon.",
    flags=(Flag("validity", f"seconds ahead that count as soon ({VALIDITY_S})", short="v", metavar="SECONDS"),),
)
async def check(broker: Broker, call: Call) -> Result:
    """`All fine`, or a row for each certificate that is not."""
    ahead_s = call.integer("validity", VALIDITY_S)
    now = datetime.datetime.now(datetime.UTC)
    rows = []
    for info in await asyncio.to_thread(_certificates, _listeners(broker)):
        until_begin_s = int((info.not_before - now).total_seconds())
        until_end_s = int((info.not_after - now).total_seconds())
        if until_begin_s > 0 or until_end_s < ahead_s:
            shown = (str(info.path), _shown(info.not_before), _shown(info.not_after))
            rows.append((*shown, until_end_s, max(until_begin_s, 0)))
    if not rows:
        return Result.of(Text("All fine"))
    return Result.of(Table(("File", "Not_Before", "Not_After", "SecExp", "SecToVal"), rows))


@command(
    "tls clear-pem-cache",
    "Read all files of certificates again now.",
    description="Changed files are read by themselves within some seconds. Clients that are connected stay connected.",
)
async def clear_pem_cache(broker: Broker, _call: Call) -> Result:
    """Fails when files of some listener cannot be used; its old certificates stay in force then."""
    with_tls = {listener.engine_name for listener in _listeners(broker) if listener.kind != "https"}
    changed = {
        *await broker.listeners.refresh_certificates(all_of_them=True),
        *await broker.cluster.certificates.refresh(all_of_them=True),
    }
    if failed := sorted(with_tls - changed):
        raise CommandError(f"{', '.join(failed)}: the certificates that were read before stay in force; see the log")
    return Result.done()


COMMANDS = (show, check, clear_pem_cache)


def _listeners(broker: Broker) -> list[Listener]:
    known = [found.listener for found in broker.listeners.show()]
    of_links = broker.cluster.certificates.listeners
    every = (*known, *broker.configuration.http_listeners, *of_links)
    return [listener for listener in every if listener.tls is not None]


def _certificates(listeners: list[Listener]) -> list[CertificateInfo]:
    """All certificates, those of a file that several listeners use once. Raises `CommandError`."""

    def read() -> Iterator[CertificateInfo]:
        for listener in listeners:
            yield from certificates_of(listener)

    try:
        return list(dict.fromkeys(read()))
    except CertificateError as error:
        raise CommandError(str(error)) from None


def _shown(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
