"""The program `strogoff` as a user meets it: start, stop, what it says, how it ends."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker_process import BrokerProcess, StartBroker, free_port

PROGRAM = str(Path(sys.executable).parent / "strogoff")
DEADLINE_S = 20.0


def run(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program to its end."""
    return subprocess.run(
        [PROGRAM, *words],
        cwd=cwd,
        env=_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def _environment() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith(("STROGOFF_", "DOCKER_VERNEMQ_"))}


@contextmanager
def started(words: Sequence[str], cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """The program in the background, with its standard error in the file `stderr` of the directory."""
    with (cwd / "stderr").open("w") as log:
        process = subprocess.Popen([PROGRAM, *words], cwd=cwd, env=_environment(), stderr=log, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.02)


def log_lines(directory: Path) -> list[dict[str, object]]:
    text = (directory / "stderr").read_text()
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def is_ready(directory: Path) -> bool:
    return any(line["message"] == "ready" for line in log_lines(directory))


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_words(port: int, *more: str) -> list[str]:
    return ["start", "--set", f"listener.tcp.default=127.0.0.1:{port}", *more]


def test_version_names_the_program_and_its_version() -> None:
    result = run("version")
    assert result.returncode == 0
    assert re.fullmatch(r"strogoff \d+\.\d+\.\d+\n", result.stdout)


@pytest.mark.parametrize("words", [[], ["sing"], ["start", "--colour"], ["config"], ["start", "--set"]])
def test_a_command_line_that_is_not_understood_ends_with_2_and_says_how_it_is_written(words: list[str]) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: strogoff")


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    result = run("--help")
    assert result.returncode == 0
    for word in ("start", "ping", "config", "version", "exit codes"):
        assert word in result.stdout


def test_without_a_configuration_it_says_where_it_listens_whom_it_lets_in_and_where_it_keeps_its_data(
    tmp_path: Path,
) -> None:
    port = free_port()
    with started(start_words(port), tmp_path) as process:
        wait_until(lambda: is_ready(tmp_path), "the line that says ready")
        said = (tmp_path / "stderr").read_text()
        assert "for this machine only" in said
        assert "need no user name and no password" in said
        assert "kept under ./data" in said
        ready = next(line for line in log_lines(tmp_path) if line["message"] == "ready")
        assert f"127.0.0.1:{port}" in str(ready["listeners"])
        assert accepts(port)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


def test_the_phases_are_passed_in_order_and_logged(tmp_path: Path) -> None:
    with started(start_words(free_port()), tmp_path) as process:
        wait_until(lambda: is_ready(tmp_path), "ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    phases = [line["phase"] for line in log_lines(tmp_path) if line["message"] == "phase"]
    assert phases == ["booting", "discovering", "joining", "syncing", "ready", "draining", "stopped"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_an_orderly_way(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with started(start_words(port), tmp_path) as process:
        wait_until(lambda: is_ready(tmp_path), "ready")
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0
        assert not accepts(port)
    assert not (tmp_path / "data" / "admin.sock").exists()
    assert any(line.get("reason") == number.name for line in log_lines(tmp_path))


def test_clients_are_told_that_the_server_shuts_down(tmp_path: Path) -> None:
    port = free_port()
    with started(start_words(port), tmp_path) as process:
        wait_until(lambda: is_ready(tmp_path), "ready")
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as client:
            # CONNECT of MQTT 5: clean start, keep alive 60 s, no properties, no client id.
            client.sendall(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")
            connack = client.recv(1_000)
            assert (connack[0], connack[3]) == (0x20, 0)
            process.send_signal(signal.SIGTERM)
            disconnect = client.recv(1_000)
            assert (disconnect[0], disconnect[2]) == (0xE0, 0x8B)
            assert client.recv(1_000) == b""
        assert process.wait(DEADLINE_S) == 0


def test_the_data_directory_and_the_admin_socket_are_for_the_owner_only(tmp_path: Path) -> None:
    with started(start_words(free_port()), tmp_path):
        wait_until(lambda: is_ready(tmp_path), "ready")
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data" / "admin.sock").stat().st_mode) == 0o600


def test_a_second_broker_on_the_same_data_directory_refuses_and_the_first_one_runs_on(tmp_path: Path) -> None:
    port = free_port()
    with started(start_words(port), tmp_path) as first:
        wait_until(lambda: is_ready(tmp_path), "ready")
        second = run(*start_words(free_port()), cwd=tmp_path)
        assert second.returncode == 4
        assert f"in use by another broker (process {first.pid})" in second.stderr
        assert first.poll() is None
        assert accepts(port)
        assert run("ping", cwd=tmp_path).stdout == "pong\n"


def test_a_crash_leaves_nothing_that_hinders_the_next_start(tmp_path: Path) -> None:
    with started(start_words(free_port()), tmp_path) as process:
        wait_until(lambda: is_ready(tmp_path), "ready")
        process.kill()
        process.wait()
    assert (tmp_path / "data" / "admin.sock").exists()
    with started(start_words(free_port()), tmp_path):
        wait_until(lambda: is_ready(tmp_path), "ready again")
        assert run("ping", cwd=tmp_path).returncode == 0


def test_an_address_in_use_ends_with_4_and_names_the_key_and_the_remedy(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        result = run(*start_words(port), cwd=tmp_path)
    assert result.returncode == 4
    assert (
        f"listener.tcp.default = 127.0.0.1:{port}: Address already in use; another program listens there"
        in result.stderr
    )
    assert not (tmp_path / "data" / "admin.sock").exists()


def test_a_configuration_with_an_error_ends_with_3_and_names_file_line_and_key(tmp_path: Path) -> None:
    file = tmp_path / "broken.conf"
    file.write_text("allow_anonymous = on\nmax_inflight_mesages = 20\n")
    result = run("start", "--config", str(file), cwd=tmp_path)
    assert result.returncode == 3
    assert f"{file}:2" in result.stderr
    assert "max_inflight_messages" in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_configuration_file_that_is_not_there_is_named_once() -> None:
    result = run("config", "check", "/nonexistent")
    assert result.returncode == 3
    assert result.stderr == (
        "/nonexistent: cannot be read: No such file or directory; check the path and the permissions\n"
    )


@pytest.mark.parametrize("action", ["show", "describe"])
def test_an_unknown_key_is_told_with_the_command_in_front_once(tmp_path: Path, action: str) -> None:
    result = run("config", action, "queue_typ", cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == (f"strogoff config {action}: queue_typ: there is no such key; did you mean queue_type?\n")


def test_a_check_says_once_what_does_not_act_and_what_has_no_meaning(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text(
        "listener.tcp.default = 127.0.0.1:1883\ngraphite_enabled = on\nerlang.async_threads = 64\n"
        "max_message_size = 1GB\ngraphite_port = 2004\n"
    )
    result = run("config", "check", str(file))
    assert result.returncode == 0
    assert result.stdout.splitlines() == [
        f"warning: max_message_size ({file}:4): 1GB is more than can be used; 268435460 is in force",
        f"notice: graphite_enabled ({file}:2): known, not active yet",
        f"notice: graphite_port ({file}:5): known, not active yet",
        "notice: 1 key does not apply to Strogoff and had no effect: erlang.async_threads",
        f"{file}: a broker would start with it",
    ]


def test_ping_answers_while_the_node_runs_and_says_which_socket_was_tried_when_not(tmp_path: Path) -> None:
    absent = run("ping", cwd=tmp_path)
    assert (absent.returncode, absent.stdout) == (1, "")
    assert absent.stderr == (
        "strogoff ping: no node is running on data/admin.sock: start it, or name its --data-dir or --config\n"
    )
    with started(start_words(free_port()), tmp_path):
        wait_until(lambda: is_ready(tmp_path), "ready")
        answer = run("ping", cwd=tmp_path)
        assert (answer.returncode, answer.stdout) == (0, "pong\n")
        assert run("ping", "--data-dir", str(tmp_path / "data")).stdout == "pong\n"


def test_ping_finds_the_node_of_a_configuration_file(own_broker: StartBroker) -> None:
    broker = own_broker()
    assert run("ping", "--config", str(broker.config_path)).stdout == "pong\n"
    assert run("ping", STROGOFF_CONFIG=str(broker.config_path)).stdout == "pong\n"


def test_an_idle_node_burns_no_processor_time(own_broker: StartBroker) -> None:
    broker = own_broker(systree_enabled=False)
    before, start = _cpu_seconds(broker), time.monotonic()
    wait_until(lambda: time.monotonic() - start > 3.0, "three seconds")
    assert _cpu_seconds(broker) - before <= 0.03


def test_a_tiny_systree_interval_does_not_spin(own_broker: StartBroker) -> None:
    broker = own_broker(systree_interval=1)
    before, start = _cpu_seconds(broker), time.monotonic()
    wait_until(lambda: time.monotonic() - start > 2.0, "two seconds")
    assert _cpu_seconds(broker) - before <= 0.6


def test_logs_go_where_the_keys_say(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = start_words(
        free_port(),
        *("--set", "log.console=both", "--set", "log.console.console.format=text"),
        *("--set", f"log.console.file={log}/console.log", "--set", "log.console.file.format=json"),
        *("--set", "log.error=on", "--set", f"log.error.file={log}/error.log"),
    )
    with started(words, tmp_path) as process:
        wait_until(lambda: "ready" in (tmp_path / "stderr").read_text(), "ready on the console")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
    console = (tmp_path / "stderr").read_text()
    assert re.search(r"^\S+Z notice +broker: ready  ", console, re.MULTILINE)
    in_file = [json.loads(line)["message"] for line in (log / "console.log").read_text().splitlines()]
    assert "ready" in in_file
    assert (log / "error.log").read_text() == ""


def test_a_client_that_breaks_the_protocol_is_logged_once_with_its_address_and_the_cause(tmp_path: Path) -> None:
    port = free_port()
    with started(start_words(port), tmp_path):
        wait_until(lambda: is_ready(tmp_path), "ready")
        with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as hostile:
            peer = "{}:{}".format(*hostile.getsockname())
            hostile.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert hostile.recv(100) == b""
        wait_until(lambda: any(line.get("peer") == peer for line in log_lines(tmp_path)), "a line about the client")
        told = [line for line in log_lines(tmp_path) if line.get("peer") == peer]
        assert [(line["level"], line["logger"]) for line in told] == [("warning", "strogoff.engine")]


def test_a_start_that_fails_says_why_on_the_terminal_even_when_the_log_is_a_file(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        words = start_words(
            other.getsockname()[1], "--set", "log.console=file", "--set", f"log.console.file={tmp_path}/console.log"
        )
        result = run(*words, cwd=tmp_path)
    assert result.returncode == 4
    assert re.fullmatch(r"strogoff: listener\.tcp\.default = .*: Address already in use; .*\n", result.stderr)
    assert "Address already in use" in (tmp_path / "console.log").read_text()


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("platform_data_dir={0}/file", "the data directory {0}/file is no directory: use another path"),
        ("platform_data_dir=/proc/strogoff", "the data directory /proc/strogoff cannot be used: No such file"),
        ("log.error.file={0}/a/b/error.log", "there is no directory {0}/a; make it, or name another file"),
    ],
)
def test_a_start_that_fails_ends_with_the_reason_in_a_plain_sentence(tmp_path: Path, setting: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    result = run(*start_words(free_port(), "--set", "log.error=on", "--set", setting.format(tmp_path)), cwd=tmp_path)
    assert result.returncode == 4
    last = result.stderr.splitlines()[-1]
    assert last.startswith("strogoff: ")
    assert reason.format(tmp_path) in last
    assert not (tmp_path / "a").exists()


def _cpu_seconds(broker: BrokerProcess) -> float:
    fields = Path(f"/proc/{broker.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
