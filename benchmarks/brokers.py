# ruff: noqa: INP001 - programs of this folder are run by path
"""The brokers that are compared: how each is configured, started on a free port, and stopped by its pid."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["BROKERS", "BrokerKind", "BrokerRun", "BrokerStartError", "free_port", "resident_bytes", "strogoff_program"]

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
_STROGOFF_LAYERED = """\
listener.ssl.ecdsa = 127.0.0.1:{ecdsa}
listener.ssl.ecdsa.certfile = {directory}/ecdsa.crt
listener.ssl.ecdsa.keyfile = {directory}/ecdsa.key
listener.ssl.rsa = 127.0.0.1:{rsa}
listener.ssl.rsa.certfile = {directory}/rsa.crt
listener.ssl.rsa.keyfile = {directory}/rsa.key
listener.ws.default = 127.0.0.1:{websocket}
"""
_WITH_RULES = _STROGOFF + "vmq_acl.acl_file = {directory}/vmq.acl\n"
_WITH_HOOK = _STROGOFF + "plugins.vmq_acl = off\nplugins.asked = on\nplugins.asked.path = {directory}\n"
_PLUGIN = """\
from strogoff.plugins import OK, Plugin


class Asked(Plugin):
    name = "asked"

    def auth_on_publish(self, request):
        return OK

    def auth_on_subscribe(self, request):
        return OK
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
_MOSQUITTO_KEPT = (
    _MOSQUITTO.replace("persistence false", "persistence true") + "persistence_location {directory}/data/\n"
)
_MOSQUITTO_LAYERED = """\
listener {ecdsa} 127.0.0.1
certfile {directory}/ecdsa.crt
keyfile {directory}/ecdsa.key
listener {rsa} 127.0.0.1
certfile {directory}/rsa.crt
keyfile {directory}/rsa.key
listener {websocket} 127.0.0.1
protocol websockets
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
    load: tuple[str, ...] = ()
    """Options of the load generator, in cells with a duration, that belong to this kind rather than to the cell."""

    def is_installed(self) -> bool:
        """Whether it can be measured on this machine."""
        return self.program is not None and shutil.which(self.program) is not None

    def version(self) -> str:
        """The first line of what it says of itself."""
        assert self.program is not None
        command = [self.program, *self.version_arguments]
        said = subprocess.run(command, capture_output=True, text=True, timeout=START_DEADLINE_S, check=False)  # noqa: S603
        return (
            next(iter(said.stdout.splitlines()), "unknown")
            .removeprefix(self.name.partition("-")[0])
            .removeprefix(" version")
            .strip()
        )


BROKERS = {
    "mosquitto": BrokerKind(
        "mosquitto",
        shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"),
        ("-c",),
        _MOSQUITTO + _MOSQUITTO_LAYERED,
        ("-h",),
    ),
    "strogoff": BrokerKind(
        "strogoff", strogoff_program(), ("start", "--config"), _STROGOFF + _STROGOFF_LAYERED, ("version",)
    ),
    # Sessions that last: what they get is kept on disk.
    "mosquitto-kept": BrokerKind(
        "mosquitto-kept",
        shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin"),
        ("-c",),
        _MOSQUITTO_KEPT,
        ("-h",),
        ("--no-clean",),
    ),
    "strogoff-kept": BrokerKind(
        "strogoff-kept", strogoff_program(), ("start", "--config"), _STROGOFF, ("version",), ("--no-clean",)
    ),
    "strogoff-acl": BrokerKind("strogoff-acl", strogoff_program(), ("start", "--config"), _WITH_RULES, ("version",)),
    # On one core: what a plugin can do is told for one.
    "strogoff-hook": BrokerKind(
        "strogoff-hook",
        shutil.which("taskset"),
        ("--cpu-list", "0", strogoff_program(), "start", "--config"),
        _WITH_HOOK,
        ("--cpu-list", "0", strogoff_program(), "version"),
    ),
    # The engine alone, which nobody has told whom to ask.
    "unchecked": BrokerKind(
        "unchecked", sys.executable, (str(Path(__file__).with_name("bare_engine.py")),), "{port}", ("--version",)
    ),
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident_bytes(pid: int) -> int:
    """The memory of a process that is in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


RULES = 10_000


def write_files(directory: Path) -> None:
    """Certificates, rules and the plugin: what the configurations name."""
    for name, kind in (("ecdsa", ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")), ("rsa", ("rsa:2048",))):
        subject = ("-subj", "/CN=localhost", "-days", "2", "-nodes")
        files = ("-keyout", str(directory / f"{name}.key"), "-out", str(directory / f"{name}.crt"))
        command = ["openssl", "req", "-x509", "-newkey", *kind, *subject, *files]
        subprocess.run(command, check=True, capture_output=True, timeout=START_DEADLINE_S)  # noqa: S603
        # The broker that is compared runs under a user of its own when it is started by root.
        (directory / f"{name}.key").chmod(0o644)
    rules = [f"pattern write rule{number}/%c/+/#\n" for number in range(RULES - 2)]
    (directory / "vmq.acl").write_text("".join([*rules, "topic read #\n", "pattern write bench-+/#\n", "topic #\n"]))
    (directory / "asked.py").write_text(_PLUGIN)
    directory.chmod(0o755)


@dataclass(slots=True)
class BrokerRun:
    """A fresh broker process with a directory of its own, from `__enter__` to `__exit__`."""

    kind: BrokerKind
    port: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    """By kind of listener."""
    _directory: Path = field(default_factory=Path)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None
        return self._process.pid

    @property
    def directory(self) -> Path:
        """Where it keeps its files."""
        return self._directory

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
        self.ports = {name: free_port() for name in ("tcp", "ecdsa", "rsa", "websocket")}
        self.port = self.ports["tcp"]
        write_files(self._directory)
        configuration = self._directory / "broker.conf"
        configuration.write_text(
            self.kind.configuration.format(port=self.port, directory=self._directory, **self.ports)
        )
        (self._directory / "data").mkdir()
        # mosquitto gives up root, and then keeps its state as another user.
        (self._directory / "data").chmod(0o777 if self.kind.name.startswith("mosquitto") else 0o700)
        self._launch()

    def _launch(self) -> None:
        configuration = self._directory / "broker.conf"
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

    def end(self, with_signal: signal.Signals) -> None:
        """End the process with a signal; its directory stays."""
        assert self._process is not None
        self._process.send_signal(with_signal)
        self._process.wait(START_DEADLINE_S)

    def start_again(self) -> float:
        """Start the broker anew on the same directory and port; seconds until it answered a CONNECT."""
        started = time.monotonic()
        self._launch()
        return time.monotonic() - started

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
