"""`strogoff bench`: make traffic for a broker, any broker, and say what became of it."""

import argparse
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strogoff._engine import Bench
from strogoff.admin.render import printable
from strogoff.cli.bench_text import progress_line, report_text
from strogoff.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]

_EPILOG = """\
examples:
  strogoff bench p2p --pairs 50 --qos 1               as fast as 50 pairs go, for 5 seconds
  strogoff bench p2p --rate 1000 --duration 30        latency at 1,000 messages a second
  strogoff bench fanin --publishers 200 --json        the report as JSON
  strogoff bench conn --connections 10000 --hold 10   10,000 clients that stay for 10 seconds
  strogoff bench rr --host broker.example --version 5 round trips to another machine, MQTT 5

`strogoff bench WORKLOAD --help` lists the options of a workload. Ctrl-C ends a run early; the report then tells what
was measured until then. benchmarks/README.md explains the figures.

exit codes: 0 done and all checks passed, 1 a check failed (messages lost, out of order, twice, ...), 2 the options are
not understood or the broker cannot be reached
"""

_WORKLOADS = {
    "pub": "publishers without subscribers",
    "sub": "subscribers, for what others publish (counted and timed, not checked)",
    "conn": "clients that connect, stay and leave",
    "p2p": "publisher i to subscriber i",
    "fanin": "many publishers to few subscribers",
    "fanout": "few publishers on one topic to many subscribers",
    "rr": "requests and responses: round trips",
    "offline": "messages for clients that are away, and their return",
    "retained": "retained messages: stored, then asked for",
}

_PUBLISHING = ("pub", "p2p", "fanin", "fanout", "rr", "offline", "retained")
_LASTING = ("pub", "sub", "p2p", "fanin", "fanout", "rr")
_PACED = ("pub", "p2p", "fanin", "fanout", "rr")
_GROUPED = ("pub", "fanin", "fanout", "offline", "retained")
_LISTENING = ("sub", "fanin", "fanout", "offline", "retained")

PROGRESS_INTERVAL_MS = 500
# How long a run that was asked to stop may take for its last words.
STOP_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class _Option:
    """An option of the engine's load generator. The engine knows its default and checks its range."""

    name: str
    type: type
    metavar: str
    help: str
    workloads: tuple[str, ...] = tuple(_WORKLOADS)


_OPTIONS = (
    _Option("host", str, "HOST", "name or address of the broker (127.0.0.1)"),
    _Option("port", int, "PORT", "its port (1883)"),
    _Option("version", int, "3|4|5", "the protocol: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0 (4)"),
    _Option("username", str, "NAME", "user name of all clients"),
    _Option("password", str, "WORD", "password of all clients"),
    _Option("qos", int, "0|1|2", "QoS of messages and subscriptions (0; offline: 1)"),
    _Option("size", int, "BYTES", "bytes of a payload, at least 24 (100)", _PUBLISHING),
    _Option("pairs", int, "N", "pairs of clients (1)", ("p2p", "rr")),
    _Option("publishers", int, "N", "publishers (fanin: 50; offline, retained: 4; else 1)", _GROUPED),
    _Option("subscribers", int, "N", "subscribers (fanout: 50; offline: 100; else 1)", _LISTENING),
    _Option("connections", int, "N", "clients that connect (1000)", ("conn",)),
    _Option("concurrency", int, "N", "clients that connect at a time (64)"),
    _Option("hold", float, "SECONDS", "how long clients stay connected (1)", ("conn",)),
    _Option("messages", int, "N", "messages: for each session (200), retained in all (20000)", ("offline", "retained")),
    _Option("duration", float, "SECONDS", "how long is measured (5)", _LASTING),
    _Option("warmup", float, "SECONDS", "how long the traffic runs before that (0)", _LASTING),
    _Option("count", int, "N", "messages to publish in all, instead of a duration", _PACED),
    _Option("rate", float, "PER_SECOND", "messages a second in all, instead of as many as go", _PACED),
    _Option(
        "outstanding", int, "N", "deliveries under way at a time without --rate, all clients together; 0: any", _PACED
    ),
    _Option("window", int, "N", "unacknowledged messages of a publisher (100)", _PUBLISHING),
    _Option("drain", float, "SECONDS", "how long to wait for messages that do not come (2)"),
    _Option("topic", str, "FILTER", "what to subscribe to, instead of PREFIX/#", ("sub",)),
    _Option("topic_prefix", str, "PREFIX", "what topics begin with (bench)"),
    _Option("client_id_prefix", str, "PREFIX", "what client ids begin with (bench)"),
    _Option("keep_alive", int, "SECONDS", "keep alive, 0 for none (60)"),
    _Option("cafile", str, "FILE", "who may have signed the broker's certificate; without it any certificate is taken"),
    _Option("tls_version", str, "1.2|1.3", "the only version of TLS"),
    _Option("cipher", str, "SUITE", "the only cipher suite, such as TLS_AES_128_GCM_SHA256"),
    _Option("pid", int, "PID", "the broker's process on this machine: report its CPU time and memory"),
    _Option("coalesce_us", int, "MICROSECONDS", "pause after small reads without --rate, 0: none (200)", _PACED),
    _Option("max_time", float, "SECONDS", "the run ends after this time whatever happens (300 or more)"),
)


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command and one sub-command of its own for each workload."""
    parser = subparsers.add_parser(
        "bench",
        help="make traffic for a broker and measure it",
        description="Make traffic for a broker, any broker, and say what became of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    workloads = parser.add_subparsers(metavar="WORKLOAD", dest="workload", required=True)
    for name, purpose in _WORKLOADS.items():
        workload = workloads.add_parser(name, help=purpose, description=f"{name}: {purpose}.")
        for option in _OPTIONS:
            if name in option.workloads:
                flag = "--" + option.name.replace("_", "-")
                workload.add_argument(flag, type=option.type, metavar=option.metavar, help=option.help)
        _add_flags(workload, name)
        workload.set_defaults(run=_run)


def _add_flags(workload: argparse.ArgumentParser, name: str) -> None:
    if name in ("pub", "p2p", "fanin", "fanout"):
        workload.add_argument("--retain", action="store_true", default=None, help="publish as retained messages")
    if name in ("sub", "fanin", "fanout"):
        workload.add_argument("--share", action="store_true", default=None, help="subscribers share one subscription")
    if name == "conn":
        workload.add_argument(
            "--subscribe", action="store_true", default=None, help="each client subscribes to a topic"
        )
    if name not in ("offline", "retained"):
        workload.add_argument(
            "--no-clean", action="store_false", default=None, dest="clean", help="ask for sessions that last"
        )
    workload.add_argument("--tls", action="store_true", default=None, help="connect over TLS")
    workload.add_argument(
        "--resume", action="store_true", default=None, help="let clients that come back resume their TLS sessions"
    )
    workload.add_argument("--websocket", action="store_true", default=None, help="connect over WebSocket")
    workload.add_argument("--json", action="store_true", help="print the report as JSON")


def _run(arguments: argparse.Namespace) -> int:
    given = {name: value for name, value in vars(arguments).items() if name not in ("run", "json", "workload")}
    try:
        bench = Bench(arguments.workload, given)
    except ValueError as error:
        return _refused(_as_flag(str(error), given))
    _raise_descriptor_limit()
    try:
        bench.start()
    except OSError as error:
        return _refused(f"the generator cannot start: {error}")
    _watch(bench, live=sys.stderr.isatty())
    report = bench.report()
    if "error" in report:
        hint = " (raise the limit of open files: ulimit -n)" if "Too many open files" in report["error"] else ""
        return _refused(report["error"] + hint)
    print(json.dumps(report) if arguments.json else report_text(report), end="\n")
    return _verdict(report)


def _watch(bench: Bench, *, live: bool) -> None:
    """Wait for the end. The first Ctrl-C asks for it; a second one is the caller's."""
    try:
        _wait(bench, live=live)
    except KeyboardInterrupt:
        bench.stop()
        deadline = time.monotonic() + STOP_PATIENCE_S
        while not bench.wait(PROGRESS_INTERVAL_MS):
            if time.monotonic() > deadline:
                raise
    finally:
        if live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _wait(bench: Bench, *, live: bool) -> None:
    before: Mapping[str, int | float] = bench.progress()
    # Short waits, since a signal is only seen between them.
    while not bench.wait(PROGRESS_INTERVAL_MS):
        if live:
            now = bench.progress()
            print(f"\r\x1b[K{progress_line(now, before)}", end="", file=sys.stderr, flush=True)
            before = now


def _verdict(report: Mapping[str, Any]) -> int:
    problems: Sequence[str] = report["problems"]
    for problem in problems:
        print(f"strogoff bench: {printable(problem)}", file=sys.stderr)
    return ExitCode.OK if report["ok"] else ExitCode.FAILED


def _refused(reason: str) -> int:
    print(f"strogoff bench: {printable(reason)}", file=sys.stderr)
    return ExitCode.USAGE


def _as_flag(error: str, given: Mapping[str, object]) -> str:
    """The engine names an option as its key; on the command line it is a flag."""
    name, colon, rest = error.partition(":")
    return f"--{name.replace('_', '-')}{colon}{rest}" if name in given else error


def _raise_descriptor_limit() -> None:
    """Each client needs a descriptor. What the system does not allow shows as an error of the run."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        return
