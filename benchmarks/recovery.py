# ruff: noqa: INP001 - programs of this folder are run by path
"""Measure what is kept costs: memory while it is, and the time from a start to the first client.

For each broker: sessions subscribe and leave, a publisher queues messages of QoS 1 for them and publishes retained
ones, the broker ends (Strogoff is killed; mosquitto is asked to stop, since it saves only then) and is started again on
the same directory. Then every session comes back and gets what waited for it, and some of the retained messages are
asked for. Writes `results/NAME.json` and `results/NAME.md`.

Exit status: 0 every message came back, 1 some did not, 2 nothing could be measured.
"""

import argparse
import datetime
import json
import signal
import socket
import statistics
import struct
import sys
import time
from pathlib import Path
from typing import Any, Self

from brokers import BROKERS, BrokerRun, BrokerStartError, resident_bytes
from results import machine_facts

RESULTS = Path(__file__).parent / "results"
KINDS = ("mosquitto-kept", "strogoff")
PAYLOAD = 100
PUBLISHED_AT_ONCE = 500
RETAINED_READ = 100
WAIT_S = 120.0


def main() -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=1_000, help="sessions that are away (1000)")
    parser.add_argument("--messages", type=int, default=1_000, help="messages that wait for each (1000)")
    parser.add_argument("--retained", type=int, default=0, help="retained messages (0)")
    parser.add_argument("--name", default="recovery", help="name of the results (recovery)")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each broker (3)")
    arguments = parser.parse_args()
    kinds = [BROKERS[name] for name in KINDS if BROKERS[name].is_installed()]
    if not kinds:
        return 2
    runs: list[dict[str, Any]] = []
    for _ in range(arguments.repetitions):
        for kind in kinds:
            try:
                with BrokerRun(kind) as broker:
                    run = measured(broker, arguments.sessions, arguments.messages, arguments.retained)
            except (BrokerStartError, OSError) as error:
                run = {"error": str(error)}
            runs.append({"broker": kind.name, **run})
            sys.stderr.write(f"{kind.name}: {json.dumps(run)}\n")
    document = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine_facts(),
        "brokers": {kind.name: kind.version() for kind in kinds},
        "sessions": arguments.sessions,
        "messages": arguments.messages,
        "retained": arguments.retained,
        "name": arguments.name,
        "runs": runs,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    page = markdown(document)
    (RESULTS / f"{arguments.name}.md").write_text(page)
    sys.stdout.write(page)
    return 0 if all(run.get("missing") == 0 for run in runs) else 1


def measured(broker: BrokerRun, sessions: int, messages: int, retained: int) -> dict[str, Any]:
    """One run on a fresh broker."""
    for number in range(sessions):
        with Client(broker.port, f"s{number}") as client:
            client.subscribe(f"q/{number}")
    started = time.monotonic()
    with Client(broker.port, "publisher", clean=True) as publisher:
        publisher.publish_all([f"q/{number}" for number in range(sessions)], messages)
        publisher.publish_all([f"r/{number}" for number in range(retained)], 1, retain=True)
    queued_s = time.monotonic() - started
    # What has been queued is still on its way into the queues' final form for a moment.
    rss = settled_rss(broker.pid)
    is_ours = broker.kind.name.startswith("strogoff")
    stopped = time.monotonic()
    broker.end(signal.SIGKILL if is_ours else signal.SIGTERM)
    stop_s = time.monotonic() - stopped
    ready_s = broker.start_again()
    rss_again = settled_rss(broker.pid)
    drained = time.monotonic()
    missing = 0
    for number in range(sessions):
        with Client(broker.port, f"s{number}") as client:
            missing += 1 - client.was_known
            missing += messages - client.receive(messages)
    drain_s = time.monotonic() - drained
    with Client(broker.port, "reader", clean=True) as reader:
        for number in range(0, retained, max(1, retained // RETAINED_READ)):
            reader.subscribe(f"r/{number}")
            missing += 1 - reader.receive(1)
    return {
        "queued_per_s": round((sessions * messages + retained) / queued_s),
        "rss_mib": round(rss / 2**20, 1),
        "stop_s": round(stop_s, 2),
        "ready_s": round(ready_s, 2),
        "rss_after_start_mib": round(rss_again / 2**20, 1),
        "drained_per_s": round(sessions * max(1, messages) / drain_s),
        "missing": missing,
    }


class Client:
    """A client of MQTT 3.1.1 that can do just what this program needs."""

    def __init__(self, port: int, client_id: str, *, clean: bool = False) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        name = client_id.encode()
        body = b"\x00\x04MQTT\x04" + bytes([2 if clean else 0]) + b"\x00\x00" + struct.pack(">H", len(name)) + name
        self._socket.sendall(b"\x10" + _length(len(body)) + body)
        kind, answer = self._packet()
        if kind != 2 or answer[1] != 0:
            raise OSError(f"{client_id} was not let in")
        self.was_known = answer[0] & 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()

    def subscribe(self, topic: str) -> None:
        """Subscribe with QoS 1."""
        name = topic.encode()
        body = b"\x00\x01" + struct.pack(">H", len(name)) + name + b"\x01"
        self._socket.sendall(b"\x82" + _length(len(body)) + body)
        self._packet()

    def publish_all(self, topics: list[str], messages: int, *, retain: bool = False) -> None:
        """Publish so many messages to each topic in turns, a bounded number of them unacknowledged at a time."""
        heads = [struct.pack(">H", len(topic)) + topic.encode() for topic in topics]
        payload = b"x" * PAYLOAD
        packet_id = 0
        batch: list[bytes] = []
        for _ in range(messages):
            for head in heads:
                packet_id = packet_id % 65_535 + 1
                body = head + struct.pack(">H", packet_id) + payload
                batch.append((b"\x33" if retain else b"\x32") + _length(len(body)) + body)
                if len(batch) == PUBLISHED_AT_ONCE:
                    self._publish(batch)
                    batch = []
        self._publish(batch)

    def _publish(self, batch: list[bytes]) -> None:
        if not batch:
            return
        self._socket.sendall(b"".join(batch))
        # A PUBACK has four bytes.
        waiting = 4 * len(batch)
        while waiting:
            received = len(self._socket.recv(min(waiting, 65_536)))
            if received == 0:
                raise OSError("the broker closed the connection of the publisher")
            waiting -= received

    def receive(self, count: int) -> int:
        """Receive and acknowledge so many messages; how many came before the broker was silent for some seconds."""
        self._socket.settimeout(5.0)
        received = 0
        acknowledgements = b""
        try:
            while received < count:
                kind, body = self._packet()
                if kind == 3:
                    start = 2 + struct.unpack(">H", body[:2])[0]
                    acknowledgements += b"\x40\x02" + body[start : start + 2]
                    received += 1
                if acknowledgements and not self._has_packet():
                    self._socket.sendall(acknowledgements)
                    acknowledgements = b""
        except TimeoutError:
            pass
        self._socket.sendall(acknowledgements)
        return received

    def _has_packet(self) -> bool:
        return len(self._unread) > 1 and len(self._unread) >= 2 + self._unread[1]

    def _packet(self) -> tuple[int, bytes]:
        """The next packet: its type and body. Packets here have less than 16,384 bytes."""
        while True:
            if len(self._unread) >= 3:
                first = self._unread[1]
                width = 1 if first < 128 else 2
                size = first if first < 128 else (first & 0x7F) | self._unread[2] << 7
                end = 1 + width + size
                if len(self._unread) >= end:
                    body = self._unread[1 + width : end]
                    kind = self._unread[0] >> 4
                    self._unread = self._unread[end:]
                    return kind, body
            more = self._socket.recv(65_536)
            if not more:
                raise OSError("the broker closed the connection")
            self._unread += more


def _length(size: int) -> bytes:
    return bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])


def settled_rss(pid: int) -> int:
    """Bytes of memory of a process once they stay the same for half a second, after ten seconds at the latest."""
    values: list[int] = []
    end = time.monotonic() + 10
    while time.monotonic() < end:
        values.append(resident_bytes(pid))
        if len(values) >= 6 and max(values[-6:]) - min(values[-6:]) < 2**20:
            break
        time.sleep(0.1)
    return values[-1]


_FIGURES = {
    "queued_per_s": "stored/s, one publisher in Python",
    "rss_mib": "RSS while they wait, MiB",
    "stop_s": "end of the process, s",
    "ready_s": "start to first CONNACK, s",
    "rss_after_start_mib": "RSS after the start, MiB",
    "drained_per_s": "drained/s (sessions/s where nothing waits), one after the other, client in Python",
    "missing": "missing sessions and messages",
}


def markdown(document: dict[str, Any]) -> str:
    """The document as a page."""
    machine = document["machine"]
    names = list(document["brokers"])
    versions = ", ".join(f"{name} {version}" for name, version in document["brokers"].items())
    total = document["sessions"] * document["messages"]
    what = f"{document['sessions']:,} sessions, {total:,} queued messages, {document['retained']:,} retained messages"
    repetitions = len(document["runs"]) // len(names)
    names_of_options = ("sessions", "messages", "retained", "name")
    options = " ".join(f"--{name} {document[name]}" for name in names_of_options) + f" --repetitions {repetitions}"
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"Python {machine['python']}; {versions}. {document['date']}, `benchmarks/recovery.py {options}`: {PAYLOAD} "
        "bytes each, medians, lowest and highest in brackets. Strogoff is killed with SIGKILL; mosquitto (`persistence "
        "true`) is asked to stop, since it saves only then."
    )
    lines = [
        f"# {what}",
        "",
        facts,
        "",
        "| figure | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for key, title in _FIGURES.items():
        cells = []
        for name in names:
            values = [run[key] for run in document["runs"] if run["broker"] == name and key in run]
            told = f"{statistics.median(values):,g} [{min(values):,g}-{max(values):,g}]" if values else "-"
            cells.append(told)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    troubles = [f"- {run['broker']}: {run['error']}" for run in document["runs"] if "error" in run]
    return "\n".join([*lines, *(["", *troubles] if troubles else [])]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
