"""A stand-in for the part of the API of Kubernetes that says where pods are, over HTTPS on a loopback address."""

import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from broker_process import Setting, free_port
from certificates import CertificateAuthority

NAMESPACE = "iot"
SERVICE = "brokers"
SELECTOR = "app=vernemq"


@dataclass(slots=True)
class Api:
    """What it knows: addresses of pods. A test may change everything at any time. `directory`: of the service account.

    `status`: of each answer, for one that does not want. `is_chunked`: how bodies are sent.
    """

    directory: Path
    addresses: list[str] = field(default_factory=list)
    token: str = "token-1"
    status: int = 200
    is_chunked: bool = False
    body: str | None = None
    port: int = field(default_factory=free_port)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        authority = CertificateAuthority()
        authority.write(self.directory, "ca")
        authority.issue("api", ["127.0.0.1"]).write(self.directory, "api")
        self.write_token()
        (self.directory / "namespace").write_text(NAMESPACE)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def write_token(self) -> None:
        (self.directory / "token").write_text(f"{self.token}\n")

    def settings(self, **more: Setting) -> dict[str, Setting]:
        """Keys of a node that asks it."""
        prefix = "cluster.discovery.kubernetes"
        return {
            "cluster.discovery": "kubernetes",
            f"{prefix}.api_server": self.url,
            f"{prefix}.token_file": str(self.directory / "token"),
            f"{prefix}.ca_file": str(self.directory / "ca.crt"),
            **{f"{prefix}.{key}": value for key, value in more.items()},
        }

    def answer(self, path: str, authorization: str) -> tuple[int, str]:
        self.requests.append(path)
        if authorization != f"Bearer {self.token}":
            return 401, "{}"
        if self.status != 200 or self.body is not None:
            return self.status, self.body or "{}"
        url = urllib.parse.urlsplit(path)
        query = urllib.parse.parse_qs(url.query)
        found: dict[str, Any] | None = None
        if url.path == f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices":
            found = self._slices() if query == {"labelSelector": [f"kubernetes.io/service-name={SERVICE}"]} else None
        elif url.path == f"/api/v1/namespaces/{NAMESPACE}/pods":
            found = self._pods() if query == {"labelSelector": [SELECTOR]} else None
        return (404, "{}") if found is None else (200, json.dumps(found))

    def _slices(self) -> dict[str, Any]:
        endpoints = [{"addresses": [address], "conditions": {"ready": False}} for address in self.addresses]
        names = {"addressType": "FQDN", "endpoints": [{"addresses": ["not.an.address"]}]}
        return {"items": [{"addressType": "IPv4", "endpoints": endpoints}, {"addressType": "IPv4"}, names]}

    def _pods(self) -> dict[str, Any]:
        pods = [{"status": {"podIP": address, "phase": "Running"}} for address in self.addresses]
        ended = {"status": {"podIP": "10.9.9.9", "phase": "Failed"}}
        return {"items": [*pods, ended, {"status": {"phase": "Pending"}}]}


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """Answers meanwhile."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, text = api.answer(self.path, self.headers.get("Authorization", ""))
            body = text.encode()
            self.send_response(status)
            if api.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for at in range(0, len(body), 100):
                    part = body[at : at + 100]
                    self.wfile.write(f"{len(part):x};x=y\r\n".encode() + part + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Clients that do not trust it go away."""

    server = Server(("127.0.0.1", api.port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(api.directory / "api.crt", api.directory / "api.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="api")
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
