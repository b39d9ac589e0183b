"""The API of the stand-in, as far as pods ask it: stateful sets, pods and endpoints, to be read by those who may."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from certificates import CertificateAuthority
from e2e.kubelet.rights import Request, Rights

ADDRESS: Final = "10.96.0.1"
PORT: Final = 443
MOUNT_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_TIMEOUT_S: Final = 10.0
_PATH: Final = re.compile(
    r"/(?:api|apis/(?P<group>[a-z0-9.]+))/v1/namespaces/(?P<namespace>[^/]+)/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_REASONS: Final = {200: "OK", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable"}

Objects = Callable[[str, str], list[dict[str, Any]]]
"""All objects of a kind in a namespace."""


class Api:
    """`objects`: what there is. `is_failing`: answers that it cannot; `asked`: the paths, in order."""

    def __init__(self, directory: Path, objects: Objects) -> None:
        self.rights = Rights()
        self.is_failing = False
        self.asked: list[str] = []
        self._objects = objects
        self._directory = directory
        self._accounts: dict[str, str] = {}
        directory.mkdir(parents=True)
        self._authority = CertificateAuthority()
        self._certificate, self._key = self._authority.issue("api", names=(ADDRESS,)).write(directory, "api")
        self._root = self._authority.write(directory)

    def account_files(self, account: str, namespace: str, uid: str) -> dict[str, bytes]:
        """What the pod of an account finds at `MOUNT_PATH`."""
        token = f"token-of-{account}-{uid}"
        self._accounts[token] = account
        return {"token": token.encode(), "namespace": namespace.encode(), "ca.crt": self._root.read_bytes()}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate, self._key)
        async with await asyncio.start_server(self._serve, ADDRESS, PORT, ssl=context):
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                _, target, _ = head[0].split(" ", 2)
                headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:])}
                code, answer = self.answer(target, headers.get("authorization", ""))
                body = json.dumps(answer).encode()
                fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                writer.write(f"HTTP/1.1 {code} {_REASONS[code]}\r\n{fields}".encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError, TimeoutError, ValueError):
            pass
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT_S):
                    await writer.wait_closed()

    def answer(self, target: str, authorization: str) -> tuple[int, Mapping[str, Any]]:
        """Status and object for a GET."""
        self.asked.append(target)
        if self.is_failing:
            return _status(503, "the server is currently unable to handle the request")
        account = self._accounts.get(authorization.removeprefix("Bearer "))
        if account is None:
            return _status(401, "Unauthorized")
        address = urlsplit(target)
        found = _PATH.fullmatch(address.path)
        if found is None:
            return _status(404, "the server could not find the requested resource")
        group, namespace, resource, name = (found[each] or "" for each in ("group", "namespace", "resource", "name"))
        request = Request("get" if name else "list", group, resource, name)
        if not self.rights.may(account, request):
            return _status(403, f"{resource} is forbidden: {account} cannot {request.verb} resource {resource}")
        objects = self._objects(resource, namespace)
        if name:
            one = next((each for each in objects if each["metadata"]["name"] == name), None)
            return (200, one) if one is not None else _status(404, f'{resource} "{name}" not found')
        return 200, {"kind": "List", "items": [each for each in objects if _is_wanted(each, address.query)]}


def _is_wanted(found: Mapping[str, Any], query: str) -> bool:
    """Whether its labels are those of `labelSelector`, of which only equalities are known."""
    [selector] = parse_qs(query).get("labelSelector", [""])
    labels = found["metadata"].get("labels", {})
    wanted = [word.replace("==", "=").partition("=") for word in selector.split(",") if word]
    return all(labels.get(name.strip()) == value.strip() for name, _, value in wanted)


def _status(code: int, message: str) -> tuple[int, Mapping[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "message": message, "code": code}
