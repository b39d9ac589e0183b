"""Starts one broker process for tests, with its own port and directory, and stops it by its pid.

`STROGOFF_BIN` names another `strogoff` program than the one beside the running Python. `STROGOFF_TEST_PEER=mosquitto`
runs mosquitto instead: for whoever develops these tests, to compare two brokers.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias

Setting: TypeAlias = bool | int | str

START_DEADLINE_S = 30.0
PORTS = range(10_000, 32_000)
STOP_DEADLINE_S = 15.0
LOG_TAIL_BYTES = 20_000

# A CONNECT of MQTT 3.1.1: clean session, no client id. Any CONNACK to it, also a refusal, shows a broker at work.
_PROBE = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"

_MOSQUITTO_KEYS = {
    "max_keep_alive": "max_keepalive",
    "max_message_size": "max_packet_size",
    "max_inflight_messages": "max_inflight_messages",
    "max_offline_messages": "max_queued_messages",
}


class StartBroker(Protocol):
    """What the fixtures `broker_with` and `own_broker` are: settings in, a running broker out."""

    def __call__(self, settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> "BrokerProcess": ...


class BrokerError(RuntimeError):
    """The broker did not start, died, or had to be killed; the text ends with what it logged."""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses at the moment.

    It is none of those that the system gives to connections: such a one might be taken before the broker listens.
    """
    while True:
        port = PORTS.start + secrets.randbelow(len(PORTS))
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def config_value(value: Setting) -> str:
    """A value as the configuration file writes it: flags are `on` and `off`."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


@dataclass(slots=True)
class BrokerProcess:
    """One broker: `directory` holds its configuration, data and log; `settings` are lines of the configuration file.

    Use it as a context manager, or call `start` and `stop`. `restart` keeps directory and port. A broker that died by
    itself or did not obey SIGTERM makes `stop` raise `BrokerError`.
    """

    directory: Path
    settings: Mapping[str, Setting] = field(default_factory=dict)
    port: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that the program gets beside those of the tests."""
    _process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def config_path(self) -> Path:
        return self.directory / "strogoff.conf"

    @property
    def data_directory(self) -> Path:
        return self.directory / "data"

    @property
    def log_path(self) -> Path:
        return self.directory / "broker.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise BrokerError("the broker is not running: call start() first")
        return self._process.pid

    def start(self) -> None:
        """Start the program and return when it answers a CONNECT. Raises `BrokerError` with its log otherwise."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start the program and do not wait for it."""
        if self._process is not None:
            raise BrokerError(f"the broker runs already, as process {self._process.pid}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data_directory.mkdir(mode=0o700, exist_ok=True)
        self.port = self.port or free_port()
        command = self._command()
        with self.log_path.open("ab") as log:
            environment = {**os.environ, **self.environment}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def await_answer(self) -> None:
        """Return when the broker answers a CONNECT. Raises `BrokerError` with its log otherwise."""
        try:
            self._await_answer()
        except BrokerError:
            self._kill()
            raise

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after a deadline. Idempotent. Raises `BrokerError` unless the broker ended well."""
        process = self._process
        if process is None:
            return
        died = process.poll()
        if died is not None:
            self._process = None
            raise BrokerError(f"the broker ended by itself with status {died}\n{self.log_tail()}")
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._kill()
            raise BrokerError(
                f"the broker did not stop within {STOP_DEADLINE_S:g} s of SIGTERM\n{self.log_tail()}"
            ) from None
        self._process = None
        if status != 0:
            raise BrokerError(f"the broker stopped on SIGTERM, but with status {status}\n{self.log_tail()}")

    def kill(self) -> None:
        """End the broker without warning (SIGKILL), as a crash would."""
        self._kill()

    def restart(self) -> None:
        """Stop and start again on the same port with the same data."""
        self.stop()
        self.start()

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def await_end(self, timeout_s: float = START_DEADLINE_S) -> int:
        """The exit status of a broker that is expected to end by itself. Raises `BrokerError` at the deadline."""
        if self._process is None:
            raise BrokerError("the broker is not running: call launch() first")
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise BrokerError(f"the broker did not end within {timeout_s:g} s\n{self.log_tail()}") from None
        self._process = None
        return status

    def log_size(self) -> int:
        """Bytes logged so far: the `since` of a later `log_tail`."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log_tail(self, since: int = 0) -> str:
        """What the broker logged after the first `since` bytes, at most the last 20,000."""
        if not self.log_path.exists():
            return "(no log)"
        text = self.log_path.read_bytes()[since:]
        return text[-LOG_TAIL_BYTES:].decode(errors="replace")

    def await_log(self, text: str, timeout_s: float = 10.0) -> None:
        """Return when the broker has logged this. Raises `BrokerError` with the log at the deadline."""
        deadline = time.monotonic() + timeout_s
        while text not in self.log_tail():
            if time.monotonic() > deadline:
                raise BrokerError(f"the broker did not log {text!r}\n{self.log_tail()}")
            time.sleep(0.02)

    def await_ready(self) -> None:
        """Return when all listeners are open; the one that `start` waits for may be the first of them."""
        self.await_log('"message": "ready"')

    def program(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run one of the programs to its end, in the directory of the broker."""
        path = Path(sys.executable).parent / name
        return subprocess.run(
            [path, *words], cwd=self.directory, capture_output=True, text=True, timeout=60, check=False
        )

    def admin(self, *words: str) -> str:
        """What `vmq-admin` prints. Raises `BrokerError` when it fails."""
        done = self.program("vmq-admin", *words)
        if done.returncode != 0:
            raise BrokerError(f"vmq-admin {' '.join(words)}: {done.stderr}")
        return done.stdout

    def _command(self) -> list[str]:
        if os.environ.get("STROGOFF_TEST_PEER") == "mosquitto":
            return self._mosquitto_command()
        program = Path(os.environ.get("STROGOFF_BIN") or Path(sys.executable).parent / "strogoff")
        if not program.exists():
            raise BrokerError(f"there is no program {program}: run `make build`, or name it in STROGOFF_BIN")
        lines: dict[str, Setting] = {
            "listener.tcp.default": f"127.0.0.1:{self.port}",
            "allow_anonymous": True,
            "platform_data_dir": str(self.data_directory),
            "log.console": "console",
            **self.settings,
        }
        self.config_path.write_text("".join(f"{key} = {config_value(value)}\n" for key, value in lines.items()))
        return [str(program), "start", "--config", str(self.config_path)]

    def _mosquitto_command(self) -> list[str]:
        lines = [f"listener {self.port} 127.0.0.1"]
        lines.append(f"allow_anonymous {str(self.settings.get('allow_anonymous', True)).lower()}")
        # It writes its database at an orderly end; started by root, it would become another user.
        lines += ["user root", "persistence true", f"persistence_location {self.data_directory}/"]
        for key, value in self.settings.items():
            if key in _MOSQUITTO_KEYS:
                # There 0 stands for no limit.
                lines.append(f"{_MOSQUITTO_KEYS[key]} {max(0, int(value))}")
        self.config_path.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            raise BrokerError("STROGOFF_TEST_PEER=mosquitto, but mosquitto is not installed")
        return [program, "-c", str(self.config_path)]

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            assert self._process is not None
            status = self._process.poll()
            if status is not None:
                raise BrokerError(f"the broker ended at its start with status {status}\n{self.log_tail()}")
            if self._answers():
                return
            time.sleep(0.02)
        raise BrokerError(f"the broker answered no CONNECT within {START_DEADLINE_S:g} s\n{self.log_tail()}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                probe.sendall(_PROBE)
                return probe.recv(1) == b"\x20"
        except OSError:
            return False

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
