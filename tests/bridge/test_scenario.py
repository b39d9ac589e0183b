"""What all this exists for: three nodes with a bridge in their configuration from the first start, which nobody helps.

Each round is a network of its own, three nodes with empty disks and a mosquitto as the other broker. The nodes start in
order, at once, or one after the other by chance; the mosquitto is there, comes later, or comes and goes. At the end of
each round there is one cluster of three, one node runs the bridge, and each message has been bridged once.

`STROGOFF_SCENARIO_ROUNDS` sets how many rounds there are (5), `STROGOFF_SCENARIO_SEED` where chance begins;
`STROGOFF_SCENARIO_RESULTS` names a file that gets a line of JSON a round.
"""

import concurrent.futures
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from bridge.hearing import everything
from cluster.real_nodes import eventually
from e2e.kubelet.network import Host, Network, why_impossible
from protocol.answers import Publish
from protocol.client import Client
from protocol.marks import V3, V5
from protocol.wire import Version

ROUNDS = int(os.environ.get("STROGOFF_SCENARIO_ROUNDS", "5"))
SEED = int(os.environ.get("STROGOFF_SCENARIO_SEED", "1883"))
STARTS = ("in order", "at once", "by chance")
REMOTES = ("there", "later", "flapping")
NAMES = ("a", "b", "c")
MESSAGES = 20
READY_DEADLINE_S = 30.0

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))


@dataclass(slots=True)
class Program:
    """A program on a host, and what it logs."""

    host: Host
    command: Sequence[str]
    log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = self.host.namespace.command(*self.command)
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


@dataclass(slots=True)
class Round:
    """One round: who there is, and what chance wants."""

    directory: Path
    network: Network
    start: str
    remote: str
    rng: Random
    hosts: dict[str, Host] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)

    def prepare(self, stack: ExitStack) -> None:
        """Hosts and configurations; nothing runs."""
        for name in (*NAMES, "remote"):
            self.hosts[name] = self.network.host(name)
            stack.callback(self.hosts[name].close)
        nodes = ",".join(self.node(name) for name in NAMES)
        programs = Path(sys.executable).parent
        for name in NAMES:
            directory = self.directory / name
            directory.mkdir(mode=0o700)
            address = self.hosts[name].address
            settings = {
                "nodename": self.node(name),
                "listener.tcp.default": f"{address}:1883",
                "listener.vmq.default": f"{address}:44053",
                "allow_anonymous": "on",
                "platform_data_dir": directory / "data",
                "store.segment_bytes": "256KB",
                "cluster.discovery": "static",
                "cluster.discovery.static.nodes": nodes,
                "plugins.vmq_bridge": "on",
                "vmq_bridge.tcp.br": f"{self.hosts['remote'].address}:1883",
                "vmq_bridge.tcp.br.topic.1": "t/* both 1",
                "vmq_bridge.tcp.br.mqtt_version": "4",
                "vmq_bridge.tcp.br.restart_timeout": "1",
                "log.console": "console",
            }
            path = directory / "strogoff.conf"
            path.write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
            self.add(name, [str(programs / "strogoff"), "start", "--config", str(path)], stack)
        mosquitto = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
        assert mosquitto is not None, "mosquitto is one of the Debian packages of the tests"
        path = self.directory / "mosquitto.conf"
        lines = ["listener 1883", "allow_anonymous true", "user root", "persistence true", "max_queued_messages 10000"]
        path.write_text("\n".join([*lines, f"persistence_location {self.directory}/"]) + "\n")
        self.add("remote", [mosquitto, "-c", str(path)], stack)

    def add(self, name: str, command: Sequence[str], stack: ExitStack) -> None:
        self.programs[name] = Program(self.hosts[name], command, self.directory / f"{name}.log")
        stack.callback(self.programs[name].stop)

    def node(self, name: str) -> str:
        """The name of a node."""
        return f"{name}@{self.hosts[name].address}"

    def start_nodes(self) -> float:
        """As this round wants it; the time at which the last one began."""
        names = list(NAMES)
        if self.start == "by chance":
            self.rng.shuffle(names)
        for name in names:
            if self.start != "at once" and name != names[0]:
                time.sleep(self.rng.uniform(0.0, 2.0) if self.start == "by chance" else 0.3)
            began = time.monotonic()
            self.programs[name].start()
        return began

    def run_remote(self, is_over: threading.Event) -> None:
        """As this round wants it; it runs at the end."""
        remote = self.programs["remote"]
        if self.remote == "later":
            is_over.wait(3.0)
        remote.start()
        while self.remote == "flapping" and not is_over.wait(self.rng.uniform(0.3, 1.2)):
            remote.stop()
            is_over.wait(self.rng.uniform(0.0, 0.5))
            remote.start()

    def admin(self, name: str, *words: str) -> Any:
        """What a node answers, as JSON; None when it does not answer."""
        program = Path(sys.executable).parent / "vmq-admin"
        command = [str(program), "--data-dir", str(self.directory / name / "data"), *words, "--format=json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def rows(self, name: str, *words: str) -> list[dict[str, Any]]:
        """The table of an answer."""
        answer = self.admin(name, *words)
        return [] if answer is None else list(answer["table"])

    def is_ready(self, name: str) -> bool:
        log = self.programs[name].log
        return log.exists() and '"message": "ready"' in log.read_text(errors="replace")

    def is_whole(self, name: str) -> bool:
        """Whether a node is in a cluster of three that it reaches."""
        rows = self.rows(name, "cluster", "show")
        return sorted(row["link"] for row in rows) == ["reachable", "reachable", "self"]

    def bridge_states(self) -> Counter[str]:
        return Counter(row["state"] for name in NAMES for row in self.rows(name, "bridge", "show"))

    def client(self, name: str, version: Version) -> Client:
        """A client of a broker, from the outside."""

        def dial() -> socket.socket:
            self.network.namespace.enter()
            return socket.create_connection((self.hosts[name].address, 1883), timeout=5.0)

        # The thread that enters the network ends with that.
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            connection = threads.submit(dial).result()
        client = Client(connection, version)
        assert client.handshake(f"client-{name}-{time.monotonic_ns()}").code == 0
        return client


@pytest.fixture
def rounds(tmp_path: Path) -> Iterator[Callable[[str, str, Random], Round]]:
    """A call that prepares a round; all ends with the test."""
    with ExitStack() as stack:

        def begin(start: str, remote: str, rng: Random) -> Round:
            network = Network()
            stack.callback(network.close)
            found = Round(tmp_path, network, start, remote, rng)
            found.prepare(stack)
            return found

        yield begin


def plans() -> list[tuple[int, str, str]]:
    """What each round is: all that there is in turn, in an order that chance has chosen."""
    rng = Random(SEED)
    each = list(itertools.product(STARTS, REMOTES))
    rng.shuffle(each)
    chosen = itertools.islice(itertools.cycle(each), ROUNDS)
    return [(number, start, remote) for number, (start, remote) in enumerate(chosen)]


@pytest.mark.parametrize(("number", "start", "remote"), plans())
def test_three_nodes_form_one_cluster_and_bridge_each_message_once(
    rounds: Callable[[str, str, Random], Round], number: int, start: str, remote: str
) -> None:
    this = rounds(start, remote, Random(SEED + number))
    is_over = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        running = threads.submit(this.run_remote, is_over)
        try:
            last_began = this.start_nodes()
            eventually(lambda: all(map(this.is_ready, NAMES)), "all are ready", READY_DEADLINE_S)
            took_s = time.monotonic() - last_began
        finally:
            is_over.set()
            running.result()
    eventually(lambda: all(map(this.is_whole, NAMES)), "one cluster of three", READY_DEADLINE_S)
    eventually(
        lambda: this.bridge_states() == {"connected": 1, "elsewhere": 2}, "one node runs the bridge", READY_DEADLINE_S
    )
    each_message_is_bridged_once(this)
    if path := os.environ.get("STROGOFF_SCENARIO_RESULTS"):
        with Path(path).open("a") as results:
            line = {"round": number, "start": start, "remote": remote, "ready_s": round(took_s, 2)}
            results.write(json.dumps(line) + "\n")


def each_message_is_bridged_once(this: Round) -> None:
    here = {name: this.client(name, V5) for name in NAMES}
    there = this.client("remote", V3)
    everybody = [*here.values(), there]
    for client in everybody:
        client.subscribe("t/#", qos=1)
    await_ways(everybody)
    sent = set()
    for number, (sender, client) in itertools.product(range(MESSAGES), [*here.items(), ("remote", there)]):
        payload = f"{sender} {number}".encode()
        client.publish("t/x", payload, qos=1)
        sent.add(payload)
    for client in everybody:
        assert Counter(everything(client)) == Counter(dict.fromkeys(sent, 1))
        client.close()


def await_ways(clients: Sequence[Client]) -> None:
    """Return when what each one publishes reaches all."""
    for sender in clients:
        deadline = time.monotonic() + READY_DEADLINE_S
        waiting = set(range(len(clients)))
        while waiting:
            assert time.monotonic() < deadline, "there is a way from each client to each"
            sender.publish("t/way", b"way", qos=0)
            for index in list(waiting):
                if clients[index].poll(Publish, 0.1) is not None:
                    waiting.discard(index)
    for client in clients:
        everything(client)
