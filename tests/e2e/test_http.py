"""HTTP listeners of a running broker: metrics, health, TLS, and peers who mean no good."""

import http.client
import json
import socket
import ssl
import time
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker, free_port
from certificates import CertificateAuthority
from gated_plugin import write_gated_plugin
from protocol.client import Client
from protocol.wire import Version
from unit.http.test_prometheus import read


class Web:
    """A broker with an HTTP listener on a port of its own."""

    def __init__(self, broker: BrokerProcess, port: int) -> None:
        self.broker = broker
        self.port = port

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body, response.headers


@pytest.fixture
def web(own_broker: StartBroker) -> Web:
    port = free_port()
    return Web(own_broker({"listener.http.default": f"127.0.0.1:{port}"}), port)


def test_metrics_are_those_of_the_node_in_the_format_of_prometheus(web: Web) -> None:
    status, body, headers = web.get("/metrics")
    samples = read(body)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert samples["vernemq_socket_open"][0][0] == 'node="VerneMQ@127.0.0.1"'
    labels = [labels for labels, _ in samples["vernemq_mqtt_connect_received"]]
    assert labels == [f'node="VerneMQ@127.0.0.1",mqtt_version="{version}"' for version in (4, 5)]
    assert "vernemq_plugin_hook_errors" in samples


@pytest.mark.parametrize(
    ("method", "accept", "expected"),
    [
        ("HEAD", "*/*", 200),
        ("OPTIONS", "*/*", 200),
        ("POST", "*/*", 405),
        ("GET", "text/plain;q=0.5", 200),
        ("GET", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", 200),
        ("GET", "application/json", 406),
    ],
)
def test_metrics_are_asked_for_in_ways_that_there_are(web: Web, method: str, accept: str, expected: int) -> None:
    assert web.get("/metrics", method, Accept=accept)[0] == expected


def test_the_names_of_metrics_may_begin_otherwise(own_broker: StartBroker) -> None:
    port = free_port()
    web = Web(own_broker({"listener.http.default": f"127.0.0.1:{port}", "prometheus_namespace": "''"}), port)
    assert "socket_open" in read(web.get("/metrics")[1])


@pytest.mark.parametrize("path", ["/health", "/health/ping", "/health/listeners"])
def test_a_node_that_serves_clients_is_well(web: Web, path: str) -> None:
    status, body, headers = web.get(path)
    assert (status, json.loads(body)) == (200, {"status": "OK"})
    assert headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/health/live", "/health/started", "/health/ready"])
def test_probes_are_told_how_far_the_node_is(web: Web, path: str) -> None:
    status, body, headers = web.get(path)
    assert (status, json.loads(body)) == (200, {"status": "OK", "phase": "ready", "waits_for": []})
    assert headers["content-type"] == "application/json"


def test_a_listener_that_was_stopped_is_told(web: Web) -> None:
    web.broker.admin("listener", "stop", "address=127.0.0.1", f"port={web.broker.port}")
    reason = "Listeners are not ready: [mqtt]"
    assert json.loads(web.get("/health/listeners")[1]) == {"status": "DOWN", "reason": reason}
    for path in ("/health", "/health/ready", "/health/listeners_full_cluster"):
        status, body, _ = web.get(path)
        answer = json.loads(body)
        assert (status, answer["status"], answer["reasons"]) == (503, "DOWN", [reason])
    assert [web.get(f"/health/{path}")[0] for path in ("ping", "live", "started")] == [200, 200, 200]
    web.broker.admin("listener", "restart", "address=127.0.0.1", f"port={web.broker.port}")
    assert web.get("/health")[0] == 200


def test_health_answers_while_the_node_starts(own_broker: StartBroker, tmp_path: Path) -> None:
    port, gate = free_port(), tmp_path / "gate"
    broker = own_broker({"listener.http.default": f"127.0.0.1:{port}"})
    broker.stop()
    broker.settings = {**broker.settings, **write_gated_plugin(tmp_path, gate)}
    web = Web(broker, port)
    broker.launch()
    deadline = time.monotonic() + 20
    while True:
        try:
            status, body, _ = web.get("/health/ready")
            break
        except OSError:
            assert time.monotonic() < deadline, broker.log_tail()
            time.sleep(0.02)
    answer = json.loads(body)
    assert (status, answer["phase"]) == (503, "booting")
    [awaited] = answer["waits_for"]
    assert answer["reasons"] == [f"the node is in the phase booting and waits for {awaited}"]
    assert (web.get("/health/live")[0], web.get("/health/started")[0]) == (200, 503)
    gate.touch()
    broker.await_answer()
    assert web.get("/health/ready")[0] == 200


def test_a_listener_serves_the_modules_that_it_names(own_broker: StartBroker) -> None:
    one, other = free_port(), free_port()
    broker = own_broker(
        {
            "listener.http.one": f"127.0.0.1:{one}",
            "listener.http.one.http_modules": "[vmq_health_http]",
            "listener.http.other": f"127.0.0.1:{other}",
            "http_modules": "[vmq_metrics_http]",
        }
    )
    served = {port: [Web(broker, port).get(path)[0] for path in ("/health", "/metrics")] for port in (one, other)}
    assert served == {one: [200, 404], other: [404, 200]}


def test_an_unknown_path_has_nothing_to_say(web: Web) -> None:
    status, body, _ = web.get("/nothing")
    assert (status, body) == (404, "")


def test_https_presents_its_certificate_and_a_new_one_without_a_restart(
    own_broker: StartBroker, tmp_path: Path
) -> None:
    authority, port = CertificateAuthority(), free_port()
    certificate, key = authority.issue("localhost", names=("localhost",)).write(tmp_path, "server")
    ca = authority.write(tmp_path)
    broker = own_broker(
        {
            "listener.https.default": f"127.0.0.1:{port}",
            "listener.https.certfile": str(certificate),
            "listener.https.keyfile": str(key),
        }
    )
    context = ssl.create_default_context(cafile=str(ca))

    def presented() -> bytes:
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            secured.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert secured.recv(100).startswith(b"HTTP/1.1 200")
            return secured.getpeercert(binary_form=True) or b""

    first = presented()
    authority.issue("localhost", names=("localhost",)).write(tmp_path, "server")
    broker.await_log("certificates read again")
    assert presented() != first


def test_a_listener_that_cannot_open_leaves_the_node_running(own_broker: StartBroker) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = own_broker({"listener.http.default": f"127.0.0.1:{taken.getsockname()[1]}"})
        broker.await_log("an HTTP listener cannot open")
        assert "not_running" in broker.admin("listener", "show")


def test_those_who_say_nothing_do_not_keep_others_out(web: Web) -> None:
    silent = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(200)]
    for connection in silent[:100]:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    assert web.get("/metrics")[0] == 200
    for connection in silent:
        connection.close()


def test_a_request_that_is_too_large_is_refused(web: Web) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 200_000)
        assert connection.recv(20).startswith(b"HTTP/1.1 4")
    assert web.get("/metrics")[0] == 200


def test_the_status_has_the_figures_and_the_listeners_of_the_node(web: Web) -> None:
    status, body, headers = web.get("/status.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    [nodes] = json.loads(body)
    node = nodes.pop("VerneMQ@127.0.0.1")
    assert nodes == {}
    assert node["mystatus"] == [{"VerneMQ@127.0.0.1": True}]
    assert (node["num_online"], node["num_offline"], node["num_subscriptions"]) == (0, 0, 0)
    mqtt, page = node["listeners"]
    assert (mqtt["type"], mqtt["status"], mqtt["port"], mqtt["mountpoint"]) == ("mqtt", "running", web.broker.port, "")
    assert (page["type"], page["status"], page["ip"], page["port"]) == ("http", "running", "127.0.0.1", web.port)
    assert web.get("/status.json", "POST")[0] == 405


def test_all_listeners_give_one_answer_for_a_second(own_broker: StartBroker) -> None:
    one, other = free_port(), free_port()
    broker = own_broker({"listener.http.one": f"127.0.0.1:{one}", "listener.http.other": f"127.0.0.1:{other}"})
    deadline = time.monotonic() + 20
    while True:
        began = time.monotonic()
        first = Web(broker, one).get("/status.json")[1]
        with Client(broker.port, Version.V5) as client:
            client.handshake()
            second = Web(broker, other).get("/status.json")[1]
            in_time = time.monotonic() - began < 1
            if in_time:
                break
        assert time.monotonic() < deadline
    assert second == first
