"""Every workload of the load generator against a running broker, and what it says of one that loses messages."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker_process import BrokerProcess

DEADLINE_S = 60.0
PROGRAM = "import sys; from strogoff.cli.main import main; sys.exit(main(sys.argv[1:]))"

SHORT = {"duration": "0.3", "max-time": "30"}


def command(workload: str, port: int, **options: object) -> list[str]:
    words = [sys.executable, "-c", PROGRAM, "bench", workload, "--port", str(port), "--json"]
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return words


def run(workload: str, port: int, **options: object) -> tuple[int, dict[str, Any], str]:
    """The exit status, the report, and what standard error says."""
    done = subprocess.run(
        command(workload, port, **options), capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


def passes(workload: str, port: int, **options: object) -> dict[str, Any]:
    status, report, error = run(workload, port, **options)
    assert (status, error) == (0, ""), report
    assert report["ok"]
    assert report["problems"] == []
    return report


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_pairs_get_every_message_in_every_version_and_qos(broker: BrokerProcess, version: int, qos: int) -> None:
    report = passes("p2p", broker.port, pairs=3, version=version, qos=qos, count=2_000)
    assert (report["sent"], report["received"], report["missing"]) == (2_000, 2_000, 0)
    assert report["latency_us"]["n"] == 2_000
    assert 0 < report["latency_us"]["p50"] <= report["latency_us"]["p99"] <= report["latency_us"]["max"]


def test_fan_in_and_fan_out_count_each_delivery(broker: BrokerProcess) -> None:
    many_to_one = passes("fanin", broker.port, publishers=5, subscribers=2, qos=1, count=500)
    assert (many_to_one["sent"], many_to_one["received"]) == (500, 1_000)
    one_to_many = passes("fanout", broker.port, publishers=2, subscribers=5, qos=2, count=200)
    assert (one_to_many["sent"], one_to_many["received"]) == (200, 1_000)


def test_a_shared_subscription_gets_each_message_once(broker: BrokerProcess) -> None:
    report = passes("fanin", broker.port, publishers=3, subscribers=4, qos=1, version=5, count=1_000, share=True)
    assert (report["sent"], report["received"], report["duplicates"]) == (1_000, 1_000, 0)


def test_requests_are_answered_one_after_the_other(broker: BrokerProcess) -> None:
    report = passes("rr", broker.port, pairs=2, qos=1, **SHORT)
    assert report["received"] > 10
    assert report["unanswered"] == 0


def test_a_fixed_rate_is_kept(broker: BrokerProcess) -> None:
    report = passes("p2p", broker.port, pairs=2, rate=1_000, duration=1, qos=1)
    assert report["sent"] == pytest.approx(1_000, rel=0.1)
    assert report["schedule_lag_us"]["n"] == pytest.approx(1_000, rel=0.1)


def test_publishers_alone_and_subscribers_alone_work_together(broker: BrokerProcess) -> None:
    listener = subprocess.Popen(
        command("sub", broker.port, topic_prefix="together", qos=1, duration=3), stdout=subprocess.PIPE, text=True
    )
    try:
        report = passes("pub", broker.port, topic_prefix="together", qos=1, rate=200, duration=2)
        heard = json.loads(listener.communicate(timeout=DEADLINE_S)[0])
    finally:
        listener.kill()
        listener.wait()
    assert report["acknowledgement_us"]["n"] == report["sent"]
    # The two start side by side, so the subscriber may miss the beginning.
    assert 0 < heard["received"] <= report["sent"]
    assert heard["latency_us"]["n"] == heard["received"]


def test_a_message_of_qos_0_counts_as_sent_when_the_broker_has_read_it(broker: BrokerProcess) -> None:
    report = passes("pub", broker.port, count=20_000, size=500)
    assert report["sent"] == 20_000


@pytest.mark.parametrize("version", [3, 4, 5])
def test_clients_connect_and_leave(broker: BrokerProcess, version: int) -> None:
    report = passes("conn", broker.port, connections=150, hold=0.1, version=version, subscribe=True)
    assert (report["connected"], report["failed"], report["connect_us"]["n"]) == (150, 0, 150)


@pytest.mark.parametrize(("version", "qos"), [(3, 1), (4, 2), (5, 1)])
def test_sessions_come_back_to_their_messages(broker: BrokerProcess, version: int, qos: int) -> None:
    report = passes("offline", broker.port, subscribers=7, publishers=2, messages=30, version=version, qos=qos)
    assert (report["stored"], report["received"], report["sessions_lost"]) == (210, 210, 0)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_retained_messages_are_delivered_and_then_taken_away(broker: BrokerProcess, qos: int) -> None:
    report = passes("retained", broker.port, messages=300, subscribers=2, qos=qos)
    assert (report["stored"], report["received"], report["unflagged"]) == (300, 600, 0)
    left = passes("sub", broker.port, duration=0.3, topic="bench/#")
    assert left["received"] == 0


def test_the_brokers_cpu_time_and_memory_are_reported(broker: BrokerProcess) -> None:
    report = passes("p2p", broker.port, pairs=5, qos=1, duration=1, pid=broker.pid)
    assert report["broker_cpu_s"] > 0
    assert report["broker_cpu_us_per_message"] > 0
    assert report["broker_rss_bytes"] > 1_000_000
    assert report["generator_cpu_us_per_message"] > 0


def test_an_interrupted_run_reports_what_it_has(broker: BrokerProcess) -> None:
    # Whoever runs the tests in the background has the signal ignored, and so would the program.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command("p2p", broker.port, duration=60, qos=1, topic_prefix="interrupted")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for_a_message(broker.port, "interrupted/#")
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    report = json.loads(output)
    assert (process.returncode, error, report["ended"]) == (0, "", "stopped")
    assert report["received"] > 0


def wait_for_a_message(port: int, topic_filter: str) -> None:
    """Subscribe as a plain client and return when the first message has come."""
    encoded = topic_filter.encode()
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as client:
        client.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
        body = b"\x00\x01" + len(encoded).to_bytes(2, "big") + encoded + b"\x00"
        client.sendall(bytes((0x82, len(body))) + body)
        received = b""
        # CONNACK and SUBACK have nine bytes together; what follows is a PUBLISH.
        while len(received) <= 9:
            received += client.recv(4_096)


@pytest.fixture
def careless_broker() -> Iterator[int]:
    """A server that accepts everything, acknowledges every message of QoS 1 and delivers none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = threading.Thread(target=_accept, args=(server,), daemon=True)
        threads.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    threads.join(DEADLINE_S)


def _accept(server: socket.socket) -> None:
    workers = []
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            break
        workers.append(threading.Thread(target=_acknowledge, args=(connection,), daemon=True))
        workers[-1].start()
    for worker in workers:
        worker.join(DEADLINE_S)


def _acknowledge(connection: socket.socket) -> None:
    """Packets of this test are shorter than 128 bytes but for PUBLISH, whose length takes two."""
    answers = {0x10: b"\x20\x02\x00\x00", 0xC0: b"\xd0\x00"}
    with connection, connection.makefile("rb") as stream:
        while first := stream.read(1):
            length = stream.read(1)[0]
            if length & 0x80:
                length = length & 0x7F | stream.read(1)[0] << 7
            body = stream.read(length)
            if first[0] in answers:
                connection.sendall(answers[first[0]])
            elif first[0] == 0x82:
                connection.sendall(b"\x90\x03" + body[:2] + b"\x01")
            elif first[0] >> 4 == 3:
                topic_length = int.from_bytes(body[:2], "big")
                connection.sendall(b"\x40\x02" + body[2 + topic_length : 4 + topic_length])


def test_lost_messages_are_a_failure(careless_broker: int) -> None:
    status, report, error = run("p2p", careless_broker, qos=1, count=50, drain=0.3)
    assert (status, report["ok"], report["missing"], report["received"]) == (1, False, 50, 0)
    assert "strogoff bench: 50 messages did not arrive" in error


def test_the_output_for_people_ends_with_the_verdict(broker: BrokerProcess) -> None:
    words = [word for word in command("p2p", broker.port, count=100, qos=1) if word != "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE_S, check=True, cwd=Path.cwd())
    assert done.stdout.startswith("p2p: MQTT 3.1.1, QoS 1, 100 bytes, 1 publishers, 1 subscribers\n")
    assert done.stdout.endswith("\nall checks passed\n")
