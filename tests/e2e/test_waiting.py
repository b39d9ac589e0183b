"""Whoever waits for a node: `strogoff wait`, `node health`, and systemd."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker_process import StartBroker, free_port
from gated_plugin import write_gated_plugin

PROGRAM = str(Path(sys.executable).parent / "strogoff")
DEADLINE_S = 20.0


def wait(directory: Path, *words: str) -> "subprocess.Popen[str]":
    command = [PROGRAM, "wait", "--data-dir", str(directory), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_of(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        output, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.mark.parametrize("aim", ["live", "started", "ready", "cluster"])
def test_a_node_that_serves_clients_is_not_waited_for(own_broker: StartBroker, aim: str) -> None:
    assert end_of(wait(own_broker().data_directory, f"--for={aim}", "--timeout=10")) == (0, f"{aim}\n", "")


def test_a_node_that_starts_is_waited_for_and_says_why(own_broker: StartBroker, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    broker = own_broker()
    broker.stop()
    waiting = wait(broker.data_directory, "--timeout=15")
    assert waiting.stderr is not None
    assert "no node is running" in waiting.stderr.readline()
    broker.settings = {**broker.settings, **write_gated_plugin(tmp_path, gate)}
    broker.launch()
    assert end_of(wait(broker.data_directory, "--for=live", "--timeout=15"))[0] == 0
    code, output, errors = end_of(wait(broker.data_directory, "--for=started", "--timeout=0.3"))
    assert (code, output) == (1, "")
    assert "not started within 0.3 s: the node is in the phase booting and waits for " in errors
    gate.touch()
    code, output, errors = end_of(waiting)
    assert (code, output) == (0, "ready\n"), errors
    assert "booting" in errors


def test_a_node_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    code, output, errors = end_of(wait(tmp_path, "--timeout=0"))
    assert (code, output) == (1, "")
    assert errors.startswith("strogoff wait: not ready within 0 s: no node is running on ")


@pytest.mark.parametrize("words", [("--for=fun",), ("--timeout=soon",), ("--timeout=-1",), ("--timeout=inf",)])
def test_what_is_not_understood_is_refused(tmp_path: Path, words: Sequence[str]) -> None:
    code, output, errors = end_of(wait(tmp_path, *words))
    assert (code, output) == (2, "")
    assert words[0].partition("=")[2] in errors


def test_a_listener_that_was_stopped_is_in_the_way(own_broker: StartBroker) -> None:
    broker = own_broker()
    broker.admin("listener", "stop", "address=127.0.0.1", f"port={broker.port}")
    rows = json.loads(broker.admin("node", "health", "--format=json"))["table"]
    assert {row["check"]: row["ok"] for row in rows} == {
        "live": True,
        "started": True,
        "ready": False,
        "cluster": False,
    }
    code, _, errors = end_of(wait(broker.data_directory, "--timeout=0"))
    assert (code, errors) == (1, "strogoff wait: not ready within 0 s: Listeners are not ready: [mqtt]\n")


def test_systemd_is_told(tmp_path: Path) -> None:
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(DEADLINE_S)
        command = [PROGRAM, "start", "--set", f"listener.tcp.default=127.0.0.1:{free_port()}"]
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        node = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
        try:
            while "READY=1" not in heard:
                heard += manager.recv(1_000).decode().split("\n")
            assert "STOPPING=1" not in heard
            node.terminate()
            while "STOPPING=1" not in heard:
                heard += manager.recv(1_000).decode().split("\n")
            assert node.wait(DEADLINE_S) == 0
        finally:
            node.kill()
    assert heard[0] == "STATUS=booting"
