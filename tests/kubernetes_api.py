"""An API of Kubernetes that is played by a server of the test: HTTPS, one answer, and a service account that fits."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificates import CertificateAuthority
from strogoff.cli.stateful_set import Account

SET = {"metadata": {"name": "vmq"}, "spec": {"replicas": 3}}


class Api:
    """An API of Kubernetes that has one answer. `asked`: paths and tokens."""

    def __init__(self, directory: Path) -> None:
        self.status, self.body = 200, json.dumps(SET).encode()
        self.asked: list[tuple[str, str | None]] = []
        authority = CertificateAuthority()
        certificate, key = authority.issue("api", names=("127.0.0.1",)).write(directory, "api")
        authority.write(directory).rename(directory / "ca.crt")
        (directory / "token").write_text("a token\n")
        (directory / "namespace").write_text("iot")
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                api.asked.append((self.path, self.headers["Authorization"]))
                self.send_response(api.status)
                self.send_header("Content-Length", str(len(api.body)))
                self.end_headers()
                self.wfile.write(api.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.account = Account("127.0.0.1", self.port, "iot", directory)


@contextmanager
def served(directory: Path) -> Iterator[Api]:
    """The API while it answers. `directory`: for token, certificates and namespace, as a pod has them."""
    api = Api(directory)
    thread = threading.Thread(target=api.server.serve_forever)
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        thread.join()
        api.server.server_close()
