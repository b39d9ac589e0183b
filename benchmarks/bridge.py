# ruff: noqa: INP001 - programs of this folder are run by path
"""How fast a bridge is, beside mosquitto's own: publishers on one broker, subscribers on another one behind a bridge.

The other broker is the same in both cases, a Strogoff; the broker with the bridge is a mosquitto or a Strogoff.
Measured, in turn, are QoS 0 and 1: what arrives in a second, and the CPU time of the broker with the bridge for a
message that arrives. With QoS 0 that depends on what is offered, so several rates are, and the best counts for each.
"""

import argparse
import datetime
import itertools
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from brokers import BROKERS, BrokerRun, BrokerStartError
from results import machine_facts

from cluster import DEADLINE_S, bench, cpu_s_of

RESULTS = Path(__file__).parent / "results"
KINDS = ("mosquitto", "strogoff")
PUBLISHERS = 20
SUBSCRIBERS = 4
RATES = {0: (0, 150_000, 250_000, 350_000, 450_000), 1: (0,)}
"""What publishers offer, by QoS. With QoS 0 a broker that takes more than the bridge can carry drops it."""
OFFERED = [(qos, rate) for qos, rates in RATES.items() for rate in rates]
CONNECT_S = 3.0
"""Within this time a bridge has connected."""
_OURS = """
plugins.vmq_bridge = on
vmq_bridge.tcp.bench = 127.0.0.1:{remote}
vmq_bridge.tcp.bench.topic.1 = * out {qos}
vmq_bridge.tcp.bench.mqtt_version = 4
vmq_bridge.tcp.bench.outgoing_batch_size = 1000
vmq_bridge.tcp.bench.max_outgoing_buffered_messages = 100000
"""
_MOSQUITTOS = """
connection bench
address 127.0.0.1:{remote}
topic # out {qos}
bridge_protocol_version mqttv311
try_private true
notifications false
"""


def flow(kind: str, qos: int, seconds: float, rate: int = 0) -> dict[str, Any]:
    """One measurement. `rate`: messages a second that the publishers offer together; 0: as many as are taken."""
    bridge = {"mosquitto": _MOSQUITTOS, "strogoff": _OURS}[kind]
    remote_kind = replace(
        BROKERS["strogoff"],
        configuration=BROKERS["strogoff"].configuration + "listener.tcp.allowed_protocol_versions = 3,4,5,131,132\n",
    )
    with BrokerRun(remote_kind) as remote:
        text = BROKERS[kind].configuration + bridge.format(remote=remote.port, qos=qos)
        with BrokerRun(replace(BROKERS[kind], configuration=text)) as near:
            time.sleep(CONNECT_S)
            return _measured(near, remote, qos, seconds, rate)


def _measured(near: BrokerRun, remote: BrokerRun, qos: int, seconds: float, rate: int) -> dict[str, Any]:
    common = ("--qos", str(qos))
    subscribe = bench("sub", "--port", str(remote.port), "--subscribers", str(SUBSCRIBERS), "--share", *common)
    publish = bench("pub", "--port", str(near.port), "--publishers", str(PUBLISHERS), *common)
    if rate:
        publish += ["--rate", str(rate)]
    listening = subprocess.Popen(  # noqa: S603
        [*subscribe, "--warmup", "1.5", "--duration", str(seconds)], stdout=subprocess.PIPE, text=True
    )
    time.sleep(0.5)
    publishing = subprocess.Popen(  # noqa: S603
        [*publish, "--duration", str(seconds + 3.0)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(1.0)
    before, begin = cpu_s_of(near.pid), time.monotonic()
    report = json.loads(listening.communicate(timeout=DEADLINE_S)[0])
    cpu_s, taken = cpu_s_of(near.pid) - before, time.monotonic() - begin
    publishing.wait(DEADLINE_S)
    messages = report["received_per_s"] * taken
    return {
        "received_per_s": report["received_per_s"],
        "cpu_us_per_message": cpu_s * 1e6 / messages if messages else None,
    }


def page(document: dict[str, Any]) -> str:
    """The figures as a page."""
    figures, machine = document["figures"], document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    facts = (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}; {versions}. "
        f"{document['date']}, `{document['command']}`: medians of {document['repetitions']}, in turn. Both brokers and "
        "the generator share the cores. The other broker is a Strogoff in both cases."
    )
    lines = ["# A bridge beside mosquitto's", "", facts, ""]
    lines += ["| offered, messages/s | mosquitto: arrive | µs of CPU each | strogoff: arrive | µs of CPU each |"]
    lines += ["|---|---:|---:|---:|---:|"]
    best: dict[tuple[str, int], float] = {}
    for qos, rates in RATES.items():
        for rate in rates:
            cells = [f"QoS {qos}, {f'{rate:,}' if rate else 'as many as are taken'}"]
            for kind in KINDS:
                arrive, cpu = (
                    statistics.median(figure[of] for figure in figures[f"{kind}-{qos}-{rate}"])
                    for of in ("received_per_s", "cpu_us_per_message")
                )
                best[kind, qos] = max(best.get((kind, qos), 0.0), arrive)
                cells += [f"{arrive:,.0f}", f"{cpu:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for qos in RATES:
        theirs, ours = (best[kind, qos] for kind in KINDS)
        lines.append(
            f"The most that arrives with QoS {qos}: {theirs:,.0f} and {ours:,.0f} a second, {ours / theirs:.2f}x."
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each (3)")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each is measured (4)")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not BROKERS["mosquitto"].is_installed():
        sys.stderr.write("mosquitto is not installed, so there is nothing to compare with\n")
        return 0
    figures: dict[str, list[dict[str, Any]]] = {}
    try:
        for _ in range(arguments.repetitions):
            for (qos, rate), kind in itertools.product(OFFERED, KINDS):
                figure = flow(kind, qos, arguments.seconds, rate)
                figures.setdefault(f"{kind}-{qos}-{rate}", []).append(figure)
                sys.stderr.write(f"{kind}, QoS {qos}, {rate} offered: {json.dumps(figure)}\n")
    except (BrokerStartError, OSError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    document = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine_facts(),
        "versions": {kind: BROKERS[kind].version() for kind in KINDS},
        "command": " ".join(["python", "benchmarks/bridge.py", *sys.argv[1:]]),
        "repetitions": arguments.repetitions,
        "figures": figures,
    }
    (RESULTS / "bridge.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "bridge.md").write_text(page(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
