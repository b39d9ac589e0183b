"""Mosquitto as the other broker, and brokers with bridges to it."""

import csv
import io
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from broker_process import BrokerProcess, Setting, free_port
from cluster.real_nodes import eventually
from protocol.client import dial

__all__ = ["Bridged", "Mosquitto", "await_connected", "bridge_rows", "bridge_settings"]


@dataclass(slots=True)
class Mosquitto:
    """A mosquitto. `lines`: of its configuration beside the listener, which has no TLS."""

    directory: Path
    lines: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it accepts connections."""
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
        assert program is not None, "mosquitto is one of the Debian packages of the tests"
        self.directory.mkdir(parents=True, exist_ok=True)
        own = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root", "max_queued_messages 100000"]
        own += ["persistence true", f"persistence_location {self.directory}/"]
        path = self.directory / "mosquitto.conf"
        path.write_text("\n".join([*own, *self.lines]) + "\n")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-v", "-c", str(path)], stdout=log, stderr=log)
        eventually(self._accepts, "mosquitto accepts connections")

    def stop(self) -> None:
        """In good order, so that it keeps its sessions."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def suspend(self, signal_number: int) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal_number)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def _accepts(self) -> bool:
        try:
            dial(self.port).close()
        except OSError:
            return False
        return True


class Bridged(Protocol):
    """Starts a broker with bridges; `settings` are lines of its configuration."""

    def __call__(self, settings: Mapping[str, Setting], /) -> BrokerProcess: ...


def bridge_settings(
    port: int, *topics: str, name: str = "br", kind: str = "tcp", host: str = "127.0.0.1", **options: Setting
) -> dict[str, Setting]:
    """The keys of one bridge, and of the plugin. Retries come fast."""
    key = f"vmq_bridge.{kind}.{name}"
    return {
        "plugins.vmq_bridge": True,
        key: f"{host}:{port}",
        f"{key}.restart_timeout": 1,
        **{f"{key}.topic.{number}": topic for number, topic in enumerate(topics, start=1)},
        **{f"{key}.{option}": value for option, value in options.items()},
    }


def bridge_rows(broker: BrokerProcess) -> dict[str, dict[str, str]]:
    """`bridge show`, by the names of the bridges."""
    table = csv.DictReader(io.StringIO(broker.admin("bridge", "show", "--format=csv")))
    return {row["name"]: row for row in table}


def await_connected(*brokers: BrokerProcess, state: str = "connected") -> None:
    """Return when all bridges of these brokers are in a state."""

    def all_are() -> bool:
        return all({row["state"] for row in bridge_rows(broker).values()} == {state} for broker in brokers)

    eventually(all_are, f"bridges are {state}")
