# ruff: noqa: INP001 - programs of this folder are run by path
"""Measure Strogoff, beside mosquitto where that is installed, with `strogoff bench`: `make bench`.

Cells run one after the other, the brokers of a cell in turns and in an order that rotates, each run on a fresh broker
process, so that what else happens on the machine hits all brokers alike. Writes `results/NAME.json` and
`results/NAME.md`.

Exit status: 0 all runs clean, 1 some were not (the page says which), 2 nothing could be measured.
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from brokers import BROKERS, BrokerKind, BrokerRun, BrokerStartError, strogoff_program
from cells import CELLS, Cell
from results import load_average, machine_facts, markdown

RESULTS = Path(__file__).parent / "results"

# Seconds that one run of the generator may take.
RUN_LIMIT_S = 120.0

QUICK = {"repetitions": 1, "duration": 1.0, "warmup": 0.3, "name": "quick"}
FULL = {"repetitions": 3, "duration": 5.0, "warmup": 1.0, "name": "full"}


def main() -> int:
    """Run the program; returns its exit status."""
    arguments = _arguments()
    wanted = {name for cell in arguments.cells for name in CELLS[cell].brokers}
    brokers = [BROKERS[name] for name in arguments.brokers if name in wanted and _is_there(BROKERS[name])]
    if not brokers:
        return 2
    document: dict[str, Any] = {
        "name": arguments.name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        # Not the words as typed: these may hold paths.
        "command": _command(arguments),
        "machine": machine_facts(),
        "brokers": {kind.name: kind.version() for kind in brokers},
        "repetitions": arguments.repetitions,
        "duration_s": arguments.duration,
        "warmup_s": arguments.warmup,
        "runs": [],
    }
    started = time.monotonic()
    try:
        for cell, kind, repetition in _order(arguments.cells, brokers, arguments.repetitions):
            run = _measured(cell, kind, repetition, arguments)
            document["runs"].append(run)
            _say(f"{time.monotonic() - started:6.0f} s  {cell.name:10} {kind.name:10} {_outcome(run['report'], cell)}")
    except KeyboardInterrupt:
        _say("interrupted: what was measured until now is written")
    page = markdown(document)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / f"{arguments.name}.md").write_text(page)
    sys.stdout.write(page)
    return 0 if all(run["report"].get("ok") for run in document["runs"]) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run of each, less than two minutes in all")
    parser.add_argument("--cells", metavar="A,B", help="only these: " + ", ".join(CELLS))
    parser.add_argument("--brokers", metavar="A,B", help="only these: " + ", ".join(BROKERS))
    parser.add_argument("--repetitions", type=int, metavar="N", help="runs of each cell and broker (3; quick: 1)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="of a measurement (5; quick: 1)")
    parser.add_argument("--warmup", type=float, metavar="SECONDS", help="before it (1; quick: 0.3)")
    parser.add_argument("--name", metavar="NAME", help="what the results are called (full; quick: quick)")
    parser.add_argument("--version", type=int, choices=(3, 4, 5), default=4, help="of the protocol (4: MQTT 3.1.1)")
    arguments = parser.parse_args()
    for name, value in (QUICK if arguments.quick else FULL).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    arguments.cells = _chosen(parser, "--cells", arguments.cells, list(CELLS))
    arguments.brokers = _chosen(parser, "--brokers", arguments.brokers, list(BROKERS))
    if arguments.repetitions < 1:
        parser.error("--repetitions: expected at least 1")
    if Path(arguments.name).name != arguments.name:
        parser.error("--name: expected a name without '/'")
    return arguments


def _chosen(parser: argparse.ArgumentParser, flag: str, given: str | None, known: Sequence[str]) -> Sequence[str]:
    names = known if given is None else given.split(",")
    for name in names:
        if name not in known:
            parser.error(f"{flag}: '{name}' is none of {', '.join(known)}")
    return names


def _command(arguments: argparse.Namespace) -> str:
    words = ["benchmarks/run.py"]
    words += ["--quick"] if arguments.quick else []
    words += [f"--version {arguments.version}"] if arguments.version != 4 else []
    words += [f"--cells {','.join(arguments.cells)}"] if len(arguments.cells) < len(CELLS) else []
    return " ".join([*words, f"--duration {arguments.duration:g} --warmup {arguments.warmup:g}"])


def _is_there(kind: BrokerKind) -> bool:
    if kind.is_installed():
        return True
    hint = "run `make build`, or name it in STROGOFF_BIN" if kind.name == "strogoff" else "apt-get install mosquitto"
    _say(f"left out: {kind.name}, which is not installed ({hint})")
    return False


def _order(
    cells: Sequence[str], brokers: Sequence[BrokerKind], repetitions: int
) -> Iterator[tuple[Cell, BrokerKind, int]]:
    """Every cell with every broker, so often; who comes first changes from cell to cell and from time to time."""
    for repetition in range(repetitions):
        for number, name in enumerate(cells):
            first = (repetition + number) % len(brokers)
            for kind in (*brokers[first:], *brokers[:first]):
                if kind.name in CELLS[name].brokers:
                    yield CELLS[name], kind, repetition


def _measured(cell: Cell, kind: BrokerKind, repetition: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run on a fresh broker. What goes wrong is a report with an `error`."""
    run: dict[str, Any] = {"cell": cell.name, "broker": kind.name, "repetition": repetition, "load": load_average()}
    try:
        with BrokerRun(kind) as broker:
            return {**run, "report": _report(cell, broker, arguments)}
    except BrokerStartError as error:
        return {**run, "report": {"ok": False, "error": str(error)}}


def _report(cell: Cell, broker: BrokerRun, arguments: argparse.Namespace) -> dict[str, Any]:
    options = list(cell.quick_options if arguments.quick and cell.quick_options else cell.options)
    if cell.lasts:
        options += ["--duration", str(arguments.duration), "--warmup", str(arguments.warmup)]
    options += [
        "--version",
        str(arguments.version),
        "--port",
        str(broker.ports[cell.listener]),
        "--pid",
        str(broker.pid),
    ]
    if cell.listener in ("ecdsa", "rsa"):
        options.append("--tls")
    elif cell.listener == "websocket":
        options.append("--websocket")
    options += broker.kind.load if cell.lasts else ()
    command = [strogoff_program(), "bench", cell.workload, *options, "--json", "--max-time", str(RUN_LIMIT_S)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S + 30, check=False)  # noqa: S603
        report: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"ok": False, "error": f"the generator took more than {RUN_LIMIT_S + 30:g} s"}
    except ValueError:
        return {
            "ok": False,
            "error": done.stderr.strip()[-500:] or f"the generator ended with status {done.returncode}",
        }
    return report


def _outcome(report: dict[str, Any], cell: Cell) -> str:
    if "error" in report:
        return f"failed: {report['error']}"
    first = cell.figures[0]
    problems = "" if report["ok"] else f"  ({'; '.join(report['problems'])})"
    value = first.of(report)
    return f"{first.title} {'-' if value is None else f'{value:,.{first.digits}f}'}{problems}"


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
