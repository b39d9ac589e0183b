# ruff: noqa: INP001 - programs of this folder are run by path
"""What a cluster costs beside one node on the same machine: throughput, latency, storms, and a node that idles.

One node and a cluster of two are measured in turn, with the same load from the same generator. In the cluster
publishers are on one node and subscribers on the other, so each message crosses. Then: clients that connect and
subscribe to topics of their own, as fast as they go; what a node costs that has nothing to do; and clients with
sessions that last, whose node is killed, coming to the two others; and how soon what is retained on one node is found
on another, in operation and when a node joins. Writes `results/cluster.json` and
`results/cluster.md`.

Exit status: 0 all was measured, 2 nothing could be.
"""

import argparse
import asyncio
import datetime
import json
import os
import resource
import signal
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from brokers import BrokerKind, BrokerRun, BrokerStartError, free_port, resident_bytes, strogoff_program
from results import machine_facts

RESULTS = Path(__file__).parent / "results"
CONFIGURATION = """
nodename = {name}@127.0.0.1
listener.tcp.default = 127.0.0.1:{{port}}
listener.tcp.default.max_connections = 19000
listener.vmq.default = 127.0.0.1:{peer_port}
platform_data_dir = {{directory}}/data
allow_anonymous = on
log.console.level = warning
max_inflight_messages = 1000
max_online_messages = 100000
max_offline_messages = 100000
"""
PUBLISHERS = 50
SUBSCRIBERS = 4
RATE = 2_000
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_S = 60.0
CLIENTS_AT_ONCE = 17_000
"""What a process may have open on the machines that are measured; more come in waves."""
RETAINED = 300
"""Messages whose way is timed."""
PAYLOAD = b"x" * 100


class Node(BrokerRun):
    """A node that may join others."""

    def __init__(self, name: str) -> None:
        self.peer_port = free_port()
        self.name = f"{name}@127.0.0.1"
        text = CONFIGURATION.format(name=name, peer_port=self.peer_port)
        super().__init__(BrokerKind(f"strogoff-{name}", strogoff_program(), ("start", "--config"), text, ("version",)))

    def admin(self, *words: str) -> str:
        """What `vmq-admin` prints."""
        program = Path(strogoff_program()).with_name("vmq-admin")
        command = [str(program), "--data-dir", str(self.directory / "data"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S).stdout  # noqa: S603

    def cpu_s(self) -> float:
        """CPU time of the process."""
        return cpu_s_of(self.pid)

    def memory_mib(self) -> float:
        """Memory of the process."""
        return resident_bytes(self.pid) / 2**20

    def metric(self, name: str) -> int:
        """A metric as it is now."""
        lines = self.admin("metrics", "show").splitlines()
        return sum(int(line.rpartition("=")[2]) for line in lines if f".{name} " in line)


def cpu_s_of(pid: int) -> float:
    """CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def cluster(*names: str) -> Iterator[list[Node]]:
    """Nodes that have joined and reach one another."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(Node(name)) for name in names]
        for node in nodes[1:]:
            node.admin("cluster", "join", f"discovery-node={nodes[0].name}:{nodes[0].peer_port}")
        for node in nodes:
            until(lambda node=node: node.metric("cluster_members_reachable") == len(nodes))  # type: ignore[misc]
        yield nodes


def until(holds: Callable[[], bool]) -> None:
    """Wait for something. Raises `BrokerStartError` at the deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            raise BrokerStartError("the nodes do not find together")
        time.sleep(0.1)


def bench(*words: str) -> list[str]:
    """A command line of the load generator."""
    return [strogoff_program(), "bench", *words, "--json"]


def flow(publish_to: Node, subscribe_to: Node, qos: int, seconds: float, *more: str) -> dict[str, Any]:
    """Publishers on one node, subscribers in one group on another. The subscribers' report, with CPU time a message."""
    common = ("--qos", str(qos))
    publish = bench("pub", "--port", str(publish_to.port), "--publishers", str(PUBLISHERS), *common, *more)
    subscribe = bench("sub", "--port", str(subscribe_to.port), "--subscribers", str(SUBSCRIBERS), "--share", *common)
    listening = subprocess.Popen(  # noqa: S603
        [*subscribe, "--warmup", "1.5", "--duration", str(seconds)], stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    publishing = subprocess.Popen(  # noqa: S603
        [*publish, "--duration", str(seconds + 3.0)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1.0)
    nodes = {id(node): node for node in (publish_to, subscribe_to)}.values()
    before = sum(node.cpu_s() for node in nodes)
    begin = time.monotonic()
    report = json.loads(listening.communicate(timeout=DEADLINE_S)[0])
    cpu_s, taken = sum(node.cpu_s() for node in nodes) - before, time.monotonic() - begin
    publishing.wait(DEADLINE_S)
    messages = report["received_per_s"] * taken
    return {
        "received_per_s": report["received_per_s"],
        "p50_us": report["latency_us"]["p50"],
        "p99_us": report["latency_us"]["p99"],
        "cpu_us_per_message": cpu_s * 1e6 / messages if messages else None,
    }


def storm(nodes: list[Node], clients: int) -> dict[str, Any]:
    """Clients that connect to the first node, each with a topic of its own, in waves."""
    before = [node.cpu_s() for node in nodes]
    waves = -(-clients // CLIENTS_AT_ONCE)
    taken, failed = 0.0, 0
    for _ in range(waves):
        words = ("--connections", str(clients // waves), "--subscribe", "--hold", "0", "--concurrency", "200")
        command = bench("conn", "--port", str(nodes[0].port), *words)
        report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)  # noqa: S603
        taken, failed = taken + report["measured_s"], failed + report["failed"]
    began = time.monotonic()
    until(lambda: all(node.metric("cluster_routes_waiting") == 0 for node in nodes))
    return {
        "clients_per_s": clients // waves * waves / taken,
        "told_after_s": time.monotonic() - began,
        "cpu_s": [node.cpu_s() - used for node, used in zip(nodes, before, strict=True)],
        "failed": failed,
    }


def idle(nodes: list[Node], seconds: float) -> dict[str, Any]:
    """What the first node costs while nothing happens."""
    time.sleep(1.0)
    before = nodes[0].cpu_s()
    time.sleep(seconds)
    return {"cpu_ms_per_s": (nodes[0].cpu_s() - before) * 1_000 / seconds, "memory_mib": nodes[0].memory_mib()}


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text)) + text.encode()


def _packet(kind: int, body: bytes) -> bytes:
    return bytes([kind, len(body)]) + body


def _connect(client_id: str) -> bytes:
    return _packet(0x10, _text("MQTT") + b"\x04\x00\x00\x3c" + _text(client_id))


async def _come(nodes: list[Node], clients: int, *, subscribes: bool) -> tuple[float, int]:
    """Clients with sessions that last connect to nodes in turn and stay; seconds, and how many found their sessions."""
    gate, found, streams = asyncio.Semaphore(200), 0, []

    async def one(number: int) -> None:
        nonlocal found
        node, client_id = nodes[number % len(nodes)], f"storm-{number}"
        async with gate:
            while True:
                reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
                writer.write(_connect(client_id))
                answer = await reader.read(4)
                if answer[3:] == b"\x00":
                    break
                writer.close()
                await asyncio.sleep(0.1)
            found += answer[2] & 1
            if subscribes:
                writer.write(_packet(0x82, b"\x00\x01" + _text(f"own/{number}") + b"\x01"))
                await reader.readexactly(5)
            streams.append(writer)

    begin = time.monotonic()
    await asyncio.gather(*(one(number) for number in range(clients)))
    taken = time.monotonic() - begin
    for writer in streams:
        writer.close()
    return taken, found


def takeover(clients: int) -> dict[str, Any]:
    """The node of many clients is killed, and they come to the two others."""
    with cluster("one", "two", "three") as nodes:
        asyncio.run(_come([nodes[1]], clients, subscribes=True))
        until(lambda: nodes[0].metric("cluster_session_records") == clients)
        nodes[1].end(signal.SIGKILL)
        until(lambda: all("down" in node.admin("cluster", "show") for node in (nodes[0], nodes[2])))
        taken, found = asyncio.run(_come([nodes[0], nodes[2]], clients, subscribes=False))
        return {"clients": clients, "seconds": taken, "sessions_found": found}


async def _connected(node: Node, client_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    writer.write(_connect(client_id))
    await reader.readexactly(4)
    return reader, writer


async def _packet_of(reader: asyncio.StreamReader) -> int:
    """The kind of the next packet, a short one."""
    kind, length = await reader.readexactly(2)
    await reader.readexactly(length)
    return kind >> 4


async def _seen(publish_to: Node, look_on: Node) -> list[float]:
    """Milliseconds from the publish of a retained message at QoS 0 until somebody who subscribes elsewhere gets it."""
    _, publisher = await _connected(publish_to, "retains")
    reader, subscriber = await _connected(look_on, "looks")
    taken = []
    for number in range(RETAINED):
        topic = f"r/{number}"
        begin = time.perf_counter()
        publisher.write(_packet(0x31, _text(topic) + PAYLOAD))
        while True:
            subscriber.write(_packet(0x82, b"\x00\x01" + _text(topic) + b"\x00"))
            subscriber.write(_packet(0xC0, b""))
            kinds = []
            while 13 not in kinds:
                kinds.append(await _packet_of(reader))
            if 3 in kinds:
                break
        taken.append((time.perf_counter() - begin) * 1_000)
    publisher.close()
    subscriber.close()
    return taken


async def _retain(node: Node, messages: int) -> None:
    """Messages of a client, each on a topic of its own."""
    reader, writer = await _connected(node, "retains")
    for number in range(messages):
        writer.write(_packet(0x31, _text(f"r/{number}") + PAYLOAD))
        if number % 1_000 == 0:
            await writer.drain()
    writer.write(_packet(0xC0, b""))
    await _packet_of(reader)
    writer.close()


def retained(messages: int) -> dict[str, Any]:
    """How soon messages are found on another node, and how fast a node that joins gets them."""
    with cluster("one", "two") as nodes:
        taken = sorted(asyncio.run(_seen(nodes[0], nodes[1])))
    with Node("one") as one, Node("two") as two:
        asyncio.run(_retain(one, messages))
        begin = time.monotonic()
        two.admin("cluster", "join", f"discovery-node={one.name}:{one.peer_port}")
        until(lambda: two.metric("retain_messages") == messages)
        seconds = time.monotonic() - begin
    return {
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[len(taken) * 99 // 100],
        "longest_ms": taken[-1],
        "messages": messages,
        "joined_s": seconds,
    }


def measured(arguments: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All figures, one node and two in turn."""
    figures: dict[str, list[dict[str, Any]]] = {}

    def note(name: str, figure: dict[str, Any]) -> None:
        figures.setdefault(name, []).append(figure)
        sys.stderr.write(f"{name}: {json.dumps(figure)}\n")

    for _ in range(arguments.repetitions):
        for qos in (0, 1):
            for size in (1, 2):
                with cluster(*("one", "two")[:size]) as nodes:
                    note(f"throughput-{qos}-{size}", flow(nodes[0], nodes[-1], qos, arguments.seconds))
                    slow = flow(nodes[0], nodes[-1], qos, arguments.seconds, "--rate", str(RATE))
                    note(f"latency-{qos}-{size}", slow)
        for size in (1, 2):
            with cluster(*("one", "two")[:size]) as nodes:
                note(f"storm-{size}", storm(nodes, arguments.clients))
        for size in (1, 2, 3):
            with cluster(*("one", "two", "three")[:size]) as nodes:
                note(f"idle-{size}", idle(nodes, arguments.seconds))
        note("takeover", takeover(arguments.moving))
        note("retained", retained(arguments.retained))
    return figures


def median(figures: dict[str, list[dict[str, Any]]], name: str, of: str) -> float:
    """The median of a figure over the repetitions."""
    return statistics.median(figure[of] for figure in figures[name])


def page(document: dict[str, Any]) -> str:
    """The figures as a page."""
    figures, machine = document["figures"], document["machine"]
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"Python {machine['python']}; strogoff {document['version']}. {document['date']}, `{document['command']}`: "
        f"medians of {document['repetitions']}. All nodes and the generator share the cores."
    )
    lines = [
        "# A cluster beside one node",
        "",
        facts,
        "",
        "| what | one node | two nodes | ratio or difference |",
        "|---|---:|---:|---:|",
    ]
    for qos in (0, 1):
        one, two = (median(figures, f"throughput-{qos}-{size}", "received_per_s") for size in (1, 2))
        lines.append(f"| QoS {qos}, messages/s | {one:,.0f} | {two:,.0f} | {two / one:.2f}x |")
        one, two = (median(figures, f"throughput-{qos}-{size}", "cpu_us_per_message") for size in (1, 2))
        lines.append(f"| QoS {qos}, CPU of the brokers, µs/message | {one:.2f} | {two:.2f} | {two / one:.2f}x |")
        for share in ("p50", "p99"):
            one, two = (median(figures, f"latency-{qos}-{size}", f"{share}_us") / 1_000 for size in (1, 2))
            lines.append(f"| QoS {qos}, {share} at {RATE:,}/s, ms | {one:.2f} | {two:.2f} | {two - one:+.2f} |")
    one, two = (median(figures, f"storm-{size}", "clients_per_s") for size in (1, 2))
    lines.append(f"| clients that connect and subscribe, /s | {one:,.0f} | {two:,.0f} | {two / one:.2f}x |")
    for size in (1, 2, 3):
        cpu, memory = (median(figures, f"idle-{size}", of) for of in ("cpu_ms_per_s", "memory_mib"))
        lines.append(f"| a node that idles in a cluster of {size} | {cpu:.1f} ms/s | {memory:.0f} MiB | |")
    seconds = median(figures, "takeover", "seconds")
    clients, found = (figures["takeover"][0][of] for of in ("clients", "sessions_found"))
    came = f"{clients:,} clients whose node was killed came to two others in {seconds:.1f} s"
    lines += ["", f"{came}; {found:,} found their sessions."]
    p50, p99, longest, joined = (
        median(figures, "retained", of) for of in ("p50_ms", "p99_ms", "longest_ms", "joined_s")
    )
    messages = figures["retained"][0]["messages"]
    found_after = f"after {p50:.2f} ms (p50), {p99:.2f} ms (p99), {longest:.2f} ms at most"
    lines += ["", f"A retained message that is published on one node at QoS 0 is found on the other {found_after}."]
    lines += [f"A node that joins has {messages:,} of them in {joined:.1f} s."]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured (4)")
    parser.add_argument("--clients", type=int, default=50_000, help="clients of the storm (50000)")
    parser.add_argument("--moving", type=int, default=5_000, help="clients whose node is killed (5000)")
    parser.add_argument("--retained", type=int, default=50_000, help="messages for a node that joins (50000)")
    parser.add_argument("--only-retained", action="store_true", help="measure nothing else, and print it")
    arguments = parser.parse_args()
    if arguments.only_retained:
        sys.stdout.write(json.dumps(retained(arguments.retained), indent=1) + "\n")
        return 0
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        figures = measured(arguments)
    except (BrokerStartError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    document = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine_facts(),
        "version": BrokerKind("strogoff", strogoff_program(), (), "", ("version",)).version(),
        "command": " ".join(["python", "benchmarks/cluster.py", *sys.argv[1:]]),
        "repetitions": arguments.repetitions,
        "figures": figures,
    }
    (RESULTS / "cluster.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "cluster.md").write_text(page(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
