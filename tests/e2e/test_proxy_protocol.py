"""HAProxy in front of the broker: the broker knows the client's address, and its certificate's name, from the proxy."""

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker, free_port
from certificates import CertificateAuthority
from protocol import requests
from protocol.client import Client, Connection, dial
from protocol.wire import Version

DEADLINE_S = 10.0
CLIENT_ADDRESS = "127.0.0.2"
"""Not the proxy's, which is 127.0.0.1: who is shown with it was told by the proxy."""

StartProxy = Callable[..., int]


@pytest.fixture
def backend(own_broker: StartBroker) -> tuple[BrokerProcess, int]:
    """A broker, and the port of its listener that expects a PROXY header."""
    port = free_port()
    broker = own_broker(
        {
            "listener.tcp.proxied": f"127.0.0.1:{port}",
            "listener.tcp.proxied.proxy_protocol": True,
            "listener.tcp.proxied.proxy_protocol_use_cn_as_username": True,
        }
    )
    broker.await_ready()
    return broker, port


@pytest.fixture
def start_proxy(tmp_path: Path) -> Iterator[StartProxy]:
    """`start_proxy(backend_port, "send-proxy")`: an HAProxy; gives the port where clients reach it."""
    program = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program is not None, "haproxy is not installed: see `What the tests need` in the README"
    running: list[subprocess.Popen[bytes]] = []

    def start(backend_port: int, server_options: str, bind_options: str = "") -> int:
        port = free_port()
        configuration = tmp_path / "haproxy.cfg"
        configuration.write_text(
            "defaults\n"
            "    mode tcp\n"
            "    timeout connect 5s\n"
            "    timeout client 60s\n"
            "    timeout server 60s\n"
            "listen mqtt\n"
            f"    bind 127.0.0.1:{port} {bind_options}\n"
            f"    server broker 127.0.0.1:{backend_port} {server_options}\n"
        )
        process = subprocess.Popen([program, "-db", "-f", str(configuration)], stderr=subprocess.DEVNULL)
        running.append(process)
        deadline = time.monotonic() + DEADLINE_S
        while not answers(port):
            assert process.poll() is None, f"haproxy ended with status {process.returncode}"
            assert time.monotonic() < deadline, "haproxy did not open its port"
            time.sleep(0.02)
        return port

    yield start
    for process in running:
        process.terminate()
        process.wait(DEADLINE_S)


def answers(port: int) -> bool:
    """Whether anybody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def from_afar(port: int) -> socket.socket:
    """A connection to the proxy from an address that is not its own."""
    return socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S, source_address=(CLIENT_ADDRESS, 0))


def shown(broker: BrokerProcess, connection: Connection) -> list[str]:
    """Address and user name of the client on this connection, as `session show` knows them."""
    with Client(connection, Version.V5) as client:
        assert client.handshake("proxied", username="mallory", password=b"x").code == 0
        words = ("session", "show", "--client_id=proxied", "--peer_host", "--peer_port", "--user")
        table = broker.admin(*words)
    header, row = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    )
    cells = dict(zip(header, row, strict=True))
    return [cells["peer_host"], cells["peer_port"], cells["user"]]


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_the_address_of_the_client_is_known_behind_a_proxy(
    backend: tuple[BrokerProcess, int], start_proxy: StartProxy, version: str
) -> None:
    broker, port = backend
    connection = from_afar(start_proxy(port, version))
    client_port = connection.getsockname()[1]
    assert shown(broker, connection)[:2] == [CLIENT_ADDRESS, str(client_port)]


def test_the_name_in_a_certificate_is_known_behind_a_proxy_that_ends_tls(
    backend: tuple[BrokerProcess, int], start_proxy: StartProxy, tmp_path: Path
) -> None:
    broker, port = backend
    authority = CertificateAuthority()
    certificate, key = authority.issue("localhost", ["localhost"]).write(tmp_path, "proxy")
    both = tmp_path / "proxy.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    ca = authority.write(tmp_path)
    proxy = start_proxy(port, "send-proxy-v2-ssl-cn", f"ssl crt {both} ca-file {ca} verify required")
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(*authority.issue("ann", client=True).write(tmp_path, "client"))
    connection = context.wrap_socket(from_afar(proxy), server_hostname="localhost")
    host, _, user = shown(broker, connection)
    assert (host, user) == (CLIENT_ADDRESS, "ann")


def test_the_health_checks_of_a_proxy_are_no_failures(
    backend: tuple[BrokerProcess, int], start_proxy: StartProxy
) -> None:
    broker, port = backend
    proxy = start_proxy(port, "send-proxy-v2 check check-send-proxy inter 50ms")
    deadline = time.monotonic() + DEADLINE_S
    while sockets_opened(broker) < 5:
        assert time.monotonic() < deadline, "haproxy did not check"
        time.sleep(0.05)
    assert "counter.proxy_protocol_error = 0" in broker.admin("metrics", "show")
    with Client(from_afar(proxy), Version.V5) as client:
        assert client.handshake("checked").code == 0


def sockets_opened(broker: BrokerProcess) -> int:
    """Connections that the broker has accepted."""
    lines = broker.admin("metrics", "show").splitlines()
    return next(int(line.split(" = ")[1]) for line in lines if line.startswith("counter.socket_open ="))


def test_who_comes_without_a_header_is_refused(backend: tuple[BrokerProcess, int]) -> None:
    broker, port = backend
    with Client(dial(port), Version.V5) as client:
        client.send(requests.connect(Version.V5, "direct"))
        client.expect_closed()
    broker.await_log("PROXY header failed")
    assert "counter.proxy_protocol_error = 1" in broker.admin("metrics", "show")
