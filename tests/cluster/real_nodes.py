"""Nodes of a cluster as processes on the loopback interface, each with its own ports and directory."""

import csv
import dataclasses
import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from broker_process import BrokerProcess, Setting, free_port
from strogoff import _engine
from strogoff.cluster.identity import IDENTITY_KEY, Identity
from strogoff.store.files import store_of

LINK_TIMEOUT_MS = 1_000


@dataclass(slots=True)
class ClusterNode:
    """One node. `address`: of its cluster listener, as others name it."""

    broker: BrokerProcess
    name: str
    cluster_port: int

    @property
    def address(self) -> str:
        return f"{self.name}:{self.cluster_port}"

    def join(self, other: "ClusterNode") -> str:
        return self.broker.admin("cluster", "join", f"discovery-node={other.address}").strip()

    def links(self) -> dict[str, str]:
        """Each member, and how this node reaches it."""
        table = csv.DictReader(io.StringIO(self.broker.admin("cluster", "show", "--format=csv")))
        return {row["Node"]: row["link"] for row in table}

    def sees(self, *others: "ClusterNode", down: "tuple[ClusterNode, ...]" = ()) -> bool:
        """Whether the members are these, and it reaches all but those that are down."""
        wanted = {self.name: "self"} | {other.name: "reachable" for other in others}
        return self.links() == wanted | {other.name: "down" for other in down}

    def kill(self) -> None:
        """End without warning. A node that does not run stays as it is."""
        self.broker.kill()

    def lose_power(self) -> None:
        """End without warning, as if with the machine: the next start is on another boot. Nothing else is lost."""
        self.kill()
        self.change_identity(running="an earlier boot")

    def change_identity(self, **changes: str | None) -> None:
        """Change who the node is at its next start. It must not run."""
        engine = _engine.Engine({"workers": 1})
        try:
            engine.open_store(str(store_of(self.broker.data_directory)))
            row = engine.store_get(IDENTITY_KEY)
            assert row is not None, "the node has been started"
            identity = dataclasses.replace(Identity.decode(row), **changes)  # type: ignore[arg-type]
            engine.store_write([(IDENTITY_KEY, identity.encode())], wait=True)
        finally:
            engine.stop()

    def copy_store(self) -> None:
        """Keep a copy of the store as it is. The node must not run."""
        shutil.copytree(store_of(self.broker.data_directory), self._copy)

    def put_copy_back(self) -> None:
        """Put that copy in the place of the store. The node must not run."""
        store = store_of(self.broker.data_directory)
        shutil.rmtree(store)
        self._copy.rename(store)

    @property
    def _copy(self) -> Path:
        return self.broker.directory / "copy"

    def wipe(self) -> None:
        """Lose the disk. The node must not run."""
        shutil.rmtree(self.broker.data_directory)


def make_node(directory: Path, name: str, *, family: str = "vmq", **more: Setting) -> ClusterNode:
    """A node that is not started yet. `family`: of its cluster listener."""
    port = free_port()
    settings: dict[str, Setting] = {
        "nodename": f"{name}@127.0.0.1",
        f"listener.{family}.default": f"127.0.0.1:{port}",
        "cluster.link_timeout": LINK_TIMEOUT_MS,
        "store.segment_bytes": "256KB",
        **{key.replace("__", "."): value for key, value in more.items()},
    }
    return ClusterNode(BrokerProcess(directory / name, settings), f"{name}@127.0.0.1", port)


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    """Return when it holds. Raises `AssertionError` at the deadline."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(0.05)
