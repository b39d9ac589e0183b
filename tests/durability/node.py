"""A broker whose data outlives it, and connections to it: stopped, killed, started again, also at a later time."""

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pytest

from broker_process import BrokerProcess, Setting, free_port
from durability.faults import FaultLayer, clock_moved
from protocol.answers import Connack
from protocol.client import Client, Network, unique
from protocol.marks import V5

__all__ = ["End", "Node", "StartNode", "both_ends", "break_off", "mounted", "session_present", "unmount", "wait_until"]

End = Literal["stop", "kill"]
"""How a broker ends: as it is asked to, or by SIGKILL."""

both_ends = pytest.mark.parametrize("end", ["stop", "kill"])


@dataclass(slots=True)
class Node:
    """One broker with its directory and its port, over all its lives."""

    broker: BrokerProcess
    net: Network
    library: Path
    """The fault layer, which also moves clocks."""
    faults: FaultLayer | None = None
    keeps_journal: bool = False
    clock_ahead_s: int = 0

    def start(self) -> None:
        self.broker.environment = self._environment()
        self.broker.start()

    def end(self, end: End) -> None:
        if end == "kill":
            self.broker.kill()
        else:
            self.broker.stop()

    def restart(self, end: End = "kill", *, later_s: int = 0) -> None:
        """End and start again; for the new process it is so much later."""
        self.end(end)
        self.clock_ahead_s += later_s
        self.start()

    def settle(self) -> None:
        """Return when all that the broker has done so far would survive a kill.

        Not everything is acknowledged to somebody. What is kept is kept in order, so a message that is acknowledged now
        shows it of all that went before.
        """
        client = self.net.resume(V5, unique())
        client.subscribe(client.client_id, qos=1)
        client.publish(client.client_id, qos=1)
        client.receive()
        client.disconnect()

    @property
    def now(self) -> float:
        """The wall clock of the broker."""
        return time.time() + self.clock_ahead_s

    @property
    def store(self) -> Path:
        return self.broker.data_directory / "store"

    def segments(self) -> list[Path]:
        """The files of the store, the oldest first."""
        return sorted(self.store.glob("*.log"))

    def strogoff(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `strogoff` for this node's data directory, to its end."""
        return self.broker.program("strogoff", *words, "--data-dir", str(self.broker.data_directory))

    def metrics(self) -> dict[str, int]:
        """All metrics by name, as `vmq-admin metrics show` prints them."""
        found = {}
        for line in self.broker.admin("metrics", "show").splitlines():
            kind_and_name, _, value = line.partition(" = ")
            found[kind_and_name.partition(".")[2]] = int(value)
        return found

    def start_fails(self) -> tuple[int, str]:
        """Start a broker that cannot start; gives its exit code and what it said."""
        self.broker.environment = self._environment()
        since = self.broker.log_size()
        self.broker.launch()
        status = self.broker.await_end()
        return status, self.broker.log_tail(since)

    def _environment(self) -> dict[str, str]:
        environment: dict[str, str] = {}
        if self.faults is not None:
            environment |= self.faults.environment(keep_journal=self.keeps_journal)
        if self.clock_ahead_s:
            environment |= clock_moved(self.library, self.clock_ahead_s)
        return environment


class StartNode(Protocol):
    """What the fixture `node_with` is: settings in, a running node out.

    `disk_bytes`: the data directory is a file system of its own, of this size. `faults`: the store is reached through
    the fault layer, which with `journal` can take back what was not synced. `store`: it begins with a copy of this
    store. Without `starts` the node does not run yet.
    """

    def __call__(
        self,
        settings: Mapping[str, Setting] | None = None,
        /,
        *,
        disk_bytes: int = 0,
        faults: bool = False,
        journal: bool = False,
        store: Path | None = None,
        starts: bool = True,
        **more: Setting,
    ) -> Node: ...


def make_node(directory: Path, library: Path, settings: Mapping[str, Setting]) -> Node:
    # The default of 32 MB a file takes its time at each start.
    broker = BrokerProcess(directory, {"store.segment_bytes": "256KB", **settings}, port=free_port())
    return Node(broker, Network(broker.port), library)


def mounted(path: Path, size: int) -> Path:
    """Mount a small file system in memory there. Raises `CalledProcessError` where that is not allowed."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path)], check=True, timeout=30)
    return path


def unmount(path: Path) -> None:
    subprocess.run(["umount", str(path)], check=True, timeout=30)


def break_off(client: Client) -> None:
    """End the connection without a DISCONNECT of the client, and return when the broker has seen it."""
    client.send(b"\x00\x00")
    client.expect_refusal(0x81)
    client.close()


def session_present(client: Client) -> bool:
    connack = client.referee.connack
    assert isinstance(connack, Connack)
    return connack.session_present


class Condition(Protocol):
    def __call__(self) -> object: ...


def wait_until(condition: Condition, what: str, timeout_s: float = 10.0) -> None:
    """Return when the condition holds; fails at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.02)
