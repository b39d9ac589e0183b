"""`strogoff bench` without a broker: its options, its words, and what it says when there is nobody to talk to."""

import socket
from pathlib import Path
from typing import Any

import pytest

from broker_process import free_port
from strogoff._engine import Bench
from strogoff.cli.bench_text import progress_line, report_text
from strogoff.cli.main import main

REPORT: dict[str, Any] = {
    "workload": "p2p",
    "version": 5,
    "qos": 1,
    "size": 100,
    "publishers": 2,
    "subscribers": 2,
    "ok": True,
    "problems": [],
    "ended": "completed",
    "sent": 12_345,
    "sent_per_s": 2_469.04,
    "latency_us": dict.fromkeys(("n", "min", "mean", "p50", "p90", "p99", "p999", "max"), 50.25),
    "broker_cpu_us_per_message": 1.5,
}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["pub", "--qos", "3"], "--qos: 3 is not between 0 and 2"),
        (["pub", "--size", "1"], "--size: 1 is not between 24 and"),
        (["p2p", "--topic-prefix", "a/#"], "--topic-prefix: expected text without '+' and '#'"),
        (["offline", "--qos", "0"], "--qos: offline needs 1 or 2"),
        (["sub", "--topic", "a/#/b"], "--topic: the filter has '#' before its last level"),
        (["p2p", "--duration", "0"], "--duration: 0 is not between"),
        (["p2p", "--rate", "nan"], "--rate: NaN is not between"),
        (["p2p", "--port", "99999999999999999999"], "--port: 99999999999999999999 is out of range"),
        (["p2p", "--password", "x"], "--password: before version 5"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_its_flag(
    words: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    assert f"strogoff bench: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["pub", "--pairs", "2"], ["conn", "--rate", "1"], ["p2p", "--port", "x"]]
)
def test_words_that_no_workload_has_are_a_usage_error(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *words])
    assert ended.value.code == 2


@pytest.mark.parametrize("workload", ["pub", "sub", "conn", "p2p", "fanin", "fanout", "rr", "offline", "retained"])
def test_every_option_that_a_workload_lists_is_known_to_the_engine(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", workload, "--help"])
    flags = {word.strip("[],") for word in capsys.readouterr().out.split() if word.strip("[],").startswith("--")}
    assert {"--host", "--port", "--json", "--pid"} <= flags
    for flag in flags - {"--help", "--json", "--no-clean"}:
        name = flag.removeprefix("--").replace("-", "_")
        with pytest.raises(ValueError, match=f"^{name}: ") as refused:
            Bench(workload, {name: b"no value at all"})
        assert "there is no such option" not in str(refused.value)


def test_a_broker_that_is_not_there_is_a_reason_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["bench", "p2p", "--port", str(port)]) == 2
    assert f"cannot connect to 127.0.0.1:{port}: Connection refused" in capsys.readouterr().err


def test_a_server_that_speaks_something_else_is_a_reason_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        bench = Bench("pub", {"port": port})
        bench.start()
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert bench.wait(30_000)
    assert "not accepted by" in bench.report()["error"]


def test_a_process_that_is_not_there_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    pid = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
    assert main(["bench", "pub", "--pid", str(pid)]) == 2
    assert f"pid: there is no process {pid}" in capsys.readouterr().err


def test_a_run_has_a_life_of_its_own() -> None:
    bench = Bench("pub", {"port": free_port(), "qos": None})
    for call in (bench.progress, bench.report, bench.stop, lambda: bench.wait(0)):
        with pytest.raises(RuntimeError, match="has not been started"):
            call()
    bench.start()
    with pytest.raises(RuntimeError, match="was started before"):
        bench.start()
    assert bench.wait(30_000)
    assert set(bench.progress()) == {"connected", "sent", "received", "elapsed_s"}


def test_a_report_reads_as_lines_with_their_units() -> None:
    text = report_text(REPORT)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "p2p: MQTT 5.0, QoS 1, 100 bytes, 2 publishers, 2 subscribers"
    assert "sent 12,345" in lines
    assert "sent/s 2,469" in lines
    assert "broker CPU µs/message 1.5" in lines
    assert "latency µs 50.2 50.2 50.2 50.2 50.2 50.2 50.2" in lines
    assert lines[-1] == "all checks passed"
    assert report_text({**REPORT, "ok": False}).endswith("checks failed")


def test_progress_tells_counters_and_how_fast_they_grow() -> None:
    before = {"elapsed_s": 1.0, "connected": 4, "sent": 100, "received": 100}
    now = {"elapsed_s": 1.5, "connected": 4, "sent": 1_100, "received": 600}
    assert progress_line(now, before).split("  ")[-2:] == ["1,100 sent (2,000/s)", "600 received (1,000/s)"]
