"""Nodes that are made ready to be stopped. Real processes, and an API of Kubernetes that the test plays."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.clients import Connect, StartNode, clustered
from cluster.real_nodes import ClusterNode, eventually
from kubernetes_api import Api, served
from strogoff.cli import stateful_set
from strogoff.cli.main import main

PROGRAM = str(Path(sys.executable).parent / "strogoff")


def drain(node: ClusterNode, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [PROGRAM, "drain", "--data-dir", str(node.broker.data_directory), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def as_pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Api]:
    """What follows runs as in the pod vmq-1, whose API is the test's."""
    account = tmp_path / "account"
    account.mkdir()
    with served(account) as api:
        monkeypatch.setenv("MY_POD_NAME", "vmq-1")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        monkeypatch.setattr(stateful_set, "ACCOUNT_DIRECTORY", account)
        yield api


def test_a_node_that_shall_leave_hands_its_sessions_over_and_stops(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    client = connect(two, "kept")
    client.subscribe("a", qos=1)
    client.disconnect()
    connect(one).publish("a", b"waits", qos=1)
    done = drain(two, "--leave=yes", "--pause=0")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "strogoff drain: left"
    assert two.broker.await_end() == 0
    eventually(one.sees, "two is gone")
    assert connect(one, "kept").receive().payload == b"waits"


def test_a_node_that_shall_stay_is_only_waited_for(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    client = connect(two, "kept")
    began = time.monotonic()
    done = drain(two, "--pause=0.7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert time.monotonic() - began >= 0.7
    client.barrier()
    assert one.sees(two)


def test_a_node_that_cannot_leave_says_why_and_stays(started: StartNode) -> None:
    one, two = clustered(started, "one", "two")
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "two is down")
    done = drain(one, "--leave=yes", "--pause=0", "--timeout=1.5")
    assert done.returncode == 1
    assert "not left within 1.5 s: one@127.0.0.1 reaches no other node" in done.stderr
    assert one.broker.is_alive()


def test_a_node_that_is_alone_has_nothing_to_leave(started: StartNode) -> None:
    one = started("one")
    began = time.monotonic()
    done = drain(one, "--leave=yes", "--pause=0")
    assert done.returncode == 1
    assert done.stderr == (
        "strogoff drain: one@127.0.0.1 is alone: there is no cluster to leave, and it keeps what it has\n"
    )
    assert time.monotonic() - began < 30
    assert one.broker.is_alive()


def test_a_node_that_does_not_run_cannot_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drain", "--data-dir", str(tmp_path), "--leave=yes", "--pause=0"]) == 1
    assert capsys.readouterr().err.startswith("strogoff drain: no node is running on ")


def test_a_pod_that_is_scaled_down_leaves(started: StartNode, as_pod: Api, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = clustered(started, "one", "two")
    as_pod.body = json.dumps({"metadata": {}, "spec": {"replicas": 1}}).encode()
    words = ["drain", "--data-dir", str(two.broker.data_directory), "--leave=auto", "--pause=0"]
    assert main(words) == 0
    assert "the StatefulSet vmq has 1 replicas, and this is its pod 1, so the node leaves" in capsys.readouterr().err
    assert two.broker.await_end() == 0
    eventually(one.sees, "two is gone")


@pytest.mark.parametrize(
    ("status", "replicas", "code", "told"),
    [
        (200, 2, 0, "this pod comes back, so the node stays a member"),
        (200, 0, 0, "this pod comes back, so the node stays a member"),
        (404, 1, 0, "this pod comes back, so the node stays a member"),
        (403, 1, 1, "may not read the StatefulSet vmq"),
    ],
)
def test_a_pod_that_comes_back_or_may_come_back_stays_a_member(
    started: StartNode,
    as_pod: Api,
    capsys: pytest.CaptureFixture[str],
    status: int,
    replicas: int,
    code: int,
    told: str,
) -> None:
    one, two = clustered(started, "one", "two")
    as_pod.status = status
    as_pod.body = json.dumps({"metadata": {}, "spec": {"replicas": replicas}}).encode()
    words = ["drain", "--data-dir", str(two.broker.data_directory), "--leave=auto", "--pause=0"]
    assert main(words) == code
    assert told in capsys.readouterr().err
    assert two.broker.is_alive()
    assert one.sees(two)
