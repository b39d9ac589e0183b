# ruff: noqa: INP001 - programs of this folder are run by path
"""The brokers that are compared: how each is configured, started on a free port, and stopped by its pid."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["BROKERS", "BrokerKind", "BrokerRun", "BrokerStartError", "strogoff_program"]

START_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0

# The same room for all: no broker is measured while it drops what another one queues.
_STROGOFF = """\
listener.tcp.default = 127.0.0.1:{port}
listener.max_connections = 19000
allow_anonymous = on
max_inflight_messages = 1000
max_online_messages = 100000
max_offline_messages = 100000
platform_data_dir = {directory}/data
log.console.level = error
"""
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 0
log_type error
"""

# A CONNECT of MQTT 3.1.1 with a clean session; its CONNACK shows a broker at work.
_PROBE = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"


class BrokerStartError(RuntimeError):
    """A broker did not start; the text says what it said."""


def strogoff_program() -> str:
    """The `strogoff` to measure, and to measure with: `STROGOFF_BIN`, else the one beside the running Python."""
    return os.environ.get("STROGOFF_BIN") or str(Path(sys.executable).parent / "strogoff")


@dataclass(frozen=True, slots=True)
class BrokerKind:
    """A broker program. `arguments` come before the path of its configuration."""

    name: str
    program: str | None
    arguments: tuple[str, ...]
    configuration: str
    version_arguments: tuple[str, ...]

    def is_installed(self) -> bool:
        """Whether it can be measured on this machine."""
        return self.program is not None and shutil.which(self.program) is not None

    def version(self) -> str:
        """The first line of what it says of itself."""
        assert self.program is not None
        command = [self.program, *self.version_arguments]
        said = subprocess.run(command, capture_output=True, text=True, timeout=START_DEADLINE_S, check=False)  # noqa: S603
        return next(iter(said.stdout.splitlines()), "unknown").removeprefix(self.name).removeprefix(" version").strip()


BROKERS = {
    "mosquitto": BrokerKind(
        "mosquitto",
        shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"),
        ("-c",),
        _MOSQUITTO,
        ("-h",),
    ),
    "strogoff": BrokerKind("strogoff", strogoff_program(), ("start", "--config"), _STROGOFF, ("version",)),
}


@dataclass(slots=True)
class BrokerRun:
    """A fresh broker process with a directory of its own, from `__enter__` to `__exit__`."""

    kind: BrokerKind
    port: int = 0
    _directory: Path = field(default_factory=Path)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="strogoff-bench-"))
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop()

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        configuration = self._directory / "broker.conf"
        configuration.write_text(self.kind.configuration.format(port=self.port, directory=self._directory))
        (self._directory / "data").mkdir()
        assert self.kind.program is not None
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603
                [self.kind.program, *self.kind.arguments, str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise BrokerStartError(f"{self.kind.name} did not start: {self._last_words()}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                probe.sendall(_PROBE)
                return probe.recv(1) == b"\x20"
        except OSError:
            return False

    def _last_words(self) -> str:
        text = (self._directory / "log").read_text(errors="replace")
        return text.replace(str(self._directory), "DIRECTORY")[-500:].strip()

    def _stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
