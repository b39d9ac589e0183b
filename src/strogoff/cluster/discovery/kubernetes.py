"""`cluster.discovery = kubernetes`: where the API of Kubernetes says that pods are.

Either those that a service has (`endpointslices` of its namespace), or those with labels (`pods`). A service account
with the right to list them is needed; the token is read each time, since Kubernetes exchanges it.
"""

import asyncio
import json
import ssl
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from strogoff.cluster.discovery.places import Place, SourceError

__all__ = ["Api", "KubernetesSource", "addresses_of_pods", "addresses_of_slices"]

ANSWER_BYTES_MAX: Final = 16 * 1_024 * 1_024
HEAD_BYTES_MAX: Final = 65_536
TOKEN_BYTES_MAX: Final = 65_536
ENDED: Final = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True, slots=True)
class Api:
    """`url`: of the API server, empty if nobody knows it. `namespace`: empty for the one in `namespace_file`.
    `is_insecure`: its certificate is not checked.
    """

    url: str
    namespace: str
    token_file: Path
    ca_file: Path
    namespace_file: Path
    is_insecure: bool = False


class KubernetesSource:
    """`service`: its name; else `selector`: labels of pods. `port`: of the nodes' cluster listener."""

    is_complete = False

    def __init__(self, api: Api, *, service: str, selector: str, port: int) -> None:
        assert service or selector, "the configuration was checked"
        self._api = api
        self._service = service
        self._selector = selector
        self._port = port

    async def look(self) -> Sequence[Place]:
        """Where pods are now, also those that are not ready."""
        namespace = urllib.parse.quote(self._api.namespace or _read(self._api.namespace_file), safe="")
        if self._service:
            selector = urllib.parse.quote(f"kubernetes.io/service-name={self._service}", safe="")
            path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector={selector}"
            what, read = f"the service {self._service}", addresses_of_slices
        else:
            selector = urllib.parse.quote(self._selector, safe="")
            path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
            what, read = f"pods with {self._selector}", addresses_of_pods
        answer = await self._get(path, what)
        try:
            addresses = sorted(set(read(answer)))
        except (AttributeError, KeyError, TypeError) as error:
            raise SourceError(f"the API of Kubernetes gave an answer that cannot be read ({error!r})") from None
        if not addresses:
            raise SourceError(f"the API of Kubernetes knows no address of {what} in {namespace} yet")
        return [Place("", f"[{each}]:{self._port}" if ":" in each else f"{each}:{self._port}") for each in addresses]

    async def _get(self, path: str, what: str) -> Any:
        if not self._api.url:
            raise SourceError(
                "this is no pod of Kubernetes (KUBERNETES_SERVICE_HOST is not set), and "
                "cluster.discovery.kubernetes.api_server neither"
            )
        url = urllib.parse.urlsplit(self._api.url)
        token = _read(self._api.token_file)
        try:
            status, body = await _http_get(url, path, token, self._context() if url.scheme == "https" else None)
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise SourceError(f"the API of Kubernetes at {self._api.url}: {error}") from None
        if status in {401, 403}:
            raise SourceError(
                f"the service account of this pod may not ask for {what} (status {status}): let its role list them, "
                "or use cluster.discovery = dns, which needs no rights"
            )
        if status != 200:
            raise SourceError(f"the API of Kubernetes at {self._api.url} answers with status {status}")
        try:
            return json.loads(body)
        except ValueError:
            raise SourceError(f"the API of Kubernetes at {self._api.url} gave an answer that is no JSON") from None

    def _context(self) -> ssl.SSLContext:
        if self._api.is_insecure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return context
        try:
            return ssl.create_default_context(cafile=str(self._api.ca_file))
        except OSError as error:
            text = f"{self._api.ca_file} cannot be used: {error} (cluster.discovery.kubernetes.ca_file)"
            raise SourceError(text) from None


def addresses_of_slices(answer: Mapping[str, Any]) -> Iterable[str]:
    """All addresses in a list of endpoint slices, ready or not."""
    for each in answer["items"]:
        if each.get("addressType") in {"IPv4", "IPv6"}:
            for endpoint in each.get("endpoints") or ():
                yield from (str(address) for address in endpoint["addresses"])


def addresses_of_pods(answer: Mapping[str, Any]) -> Iterable[str]:
    """Addresses of the pods in a list that have not ended."""
    for each in answer["items"]:
        status = each.get("status", {})
        if status.get("podIP") and status.get("phase") not in ENDED:
            yield str(status["podIP"])


def _read(path: Path) -> str:
    try:
        with path.open() as file:
            return file.read(TOKEN_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None


async def _http_get(
    url: urllib.parse.SplitResult, path: str, token: str, context: ssl.SSLContext | None
) -> tuple[int, bytes]:
    """Status and body. Raises `OSError`, `EOFError`, `ValueError`, `LimitOverrunError`."""
    host = url.hostname or ""
    port = url.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=HEAD_BYTES_MAX)
    try:
        lines = (
            f"GET {path} HTTP/1.1",
            f"Host: {url.netloc.rpartition('@')[2]}",
            f"Authorization: Bearer {token}",
            "Accept: application/json",
            "Connection: close",
        )
        writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status, *_ = head[0].split(" ")
        if not version.startswith("HTTP/1.") or not status.isdecimal():
            raise ValueError("what answers there speaks no HTTP")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        return int(status), await _body(reader, fields)
    finally:
        writer.close()


async def _body(reader: asyncio.StreamReader, fields: Mapping[str, str]) -> bytes:
    if fields.get("transfer-encoding", "").lower() == "chunked":
        parts, total = [], 0
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            total += size
            _check_size(total)
            parts.append((await reader.readexactly(size + 2))[:-2])
        return b"".join(parts)
    if "content-length" in fields:
        length = int(fields["content-length"])
        _check_size(length)
        return await reader.readexactly(length)
    body = await reader.read(ANSWER_BYTES_MAX + 1)
    while more := await reader.read(HEAD_BYTES_MAX):
        body += more
        _check_size(len(body))
    return body


def _check_size(size: int) -> None:
    if not 0 <= size <= ANSWER_BYTES_MAX:
        raise ValueError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
