"""`strogoff drain`: what has to be done before a node is stopped, for the preStop hook of a pod and for scripts."""

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strogoff.admin.client import NodeNotReachedError, ask
from strogoff.admin.protocol import Failure
from strogoff.admin.result import Table
from strogoff.cli.exit_codes import ExitCode
from strogoff.cli.node_location import NodeLocation
from strogoff.cli.stateful_set import (
    Account,
    Pod,
    StatefulSet,
    UndecidedError,
    ask_for_set,
    members_before,
    pod_of,
    why_gone,
)
from strogoff.cli.wait import seconds
from strogoff.config import ConfigError

if TYPE_CHECKING:
    from strogoff.cli.main import Subparsers

__all__ = ["register"]

PAUSE_S: Final = 5.0
TIMEOUT_S: Final = 60.0
LOOK_S: Final = 0.2
AGAIN_S: Final = 1.0
ASKING_S: Final = 10.0
"""How long the API of Kubernetes is asked again when it does not answer."""
CLIENTS_S: Final = 10.0
"""How long the clients of a node that leaves have to be gone; their connections are ended."""

_DESCRIPTION = """\
Make a node ready to be stopped. First it waits (--pause) until load balancers and Services have noticed that the node
goes; clients are served meanwhile. Then the node leaves its cluster, if it shall: its clients are disconnected, its
sessions go to the other nodes with all that waits for them, it is taken out, and it stops by itself. A node that does
not leave stays a member, and keeps what it has until it is started again; SIGTERM then stops it.
"""

_EPILOG = """\
--leave=auto: leave when Kubernetes has scaled the StatefulSet of this pod down, so that the pod does not come back. The
pod has to know its name (MY_POD_NAME, POD_NAME, or its host name), and its service account has to be allowed to get the
StatefulSet. A pod that is only restarted, moved or updated stays a member; so does each pod of a StatefulSet with no
replicas, or one that is deleted. Of several pods that go, the one with the highest number leaves first. If Kubernetes
cannot be asked, the node stays a member, and the exit code is 1.

exit codes: 0 done, 1 the node did not leave although it should, or it is not known whether it should; standard error
says why, 3 configuration has errors
"""


class _NotLeftError(Exception):
    """The node is a member still; the message says why. `is_lasting`: another try would come to the same."""

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message)
        self.is_lasting = is_lasting


def register(subparsers: "Subparsers") -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "drain",
        help="make the running node ready to be stopped",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--leave", choices=("auto", "yes", "no"), default="no", help="leave the cluster (no)")
    parser.add_argument(
        "--pause", type=seconds, default=PAUSE_S, metavar="SECONDS", help=f"how long to wait first ({PAUSE_S:g})"
    )
    parser.add_argument(
        "--timeout", type=seconds, default=TIMEOUT_S, metavar="SECONDS", help=f"for everything, at most ({TIMEOUT_S:g})"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="the node's configuration (STROGOFF_CONFIG)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the node's data directory (./data)")
    parser.set_defaults(run=_run)


@dataclass(frozen=True, slots=True)
class _ScaledDown:
    """The pod that goes for good, and what is wanted of its StatefulSet."""

    pod: Pod
    wanted: StatefulSet


def _run(arguments: argparse.Namespace) -> int:
    deadline = time.monotonic() + arguments.timeout
    is_scaled_down: _ScaledDown | None = None
    is_undecided = False
    if arguments.leave == "auto":
        try:
            is_scaled_down = _find_out(deadline)
        except UndecidedError as error:
            is_undecided = True
            _tell(f"{error}. The node stays a member")
    time.sleep(max(0.0, min(arguments.pause, deadline - time.monotonic())))
    if is_scaled_down is None and arguments.leave != "yes":
        return ExitCode.FAILED if is_undecided else ExitCode.OK
    try:
        _leave(NodeLocation(arguments.config, arguments.data_dir).resolve(), is_scaled_down, deadline)
    except ConfigError as error:
        _tell(str(error))
        return ExitCode.CONFIGURATION
    except _NotLeftError as error:
        _tell(str(error) if error.is_lasting else f"not left within {arguments.timeout:g} s: {error}")
        return ExitCode.FAILED
    _tell("left")
    return ExitCode.OK


def _find_out(deadline: float) -> _ScaledDown | None:
    """Whether the pod goes for good, and tells so. Raises `UndecidedError`."""
    pod = pod_of(os.environ)
    wanted = _wanted(pod, deadline)
    why = why_gone(pod, wanted)
    _tell("this pod comes back, so the node stays a member" if why is None else f"{why}, so the node leaves")
    return None if why is None else _ScaledDown(pod, wanted)


def _tell(text: str) -> None:
    print(f"strogoff drain: {text}", file=sys.stderr, flush=True)


def _wanted(pod: Pod, deadline: float) -> StatefulSet:
    """What is wanted of the pod's StatefulSet. Asks for some time. Raises `UndecidedError`."""
    account = Account.of_pod(os.environ)
    end = min(deadline, time.monotonic() + ASKING_S)
    while True:
        try:
            return ask_for_set(account, pod.of_set)
        except UndecidedError as error:
            if error.is_lasting or time.monotonic() + AGAIN_S >= end:
                raise
        time.sleep(AGAIN_S)


def _leave(directory: Path, is_scaled_down: _ScaledDown | None, deadline: float) -> None:
    """Have the node leave, again and again until it has. Raises `_NotLeftError`."""
    told = ""
    while True:
        try:
            own, others = _members(directory, deadline)
            before = members_before(is_scaled_down.pod, is_scaled_down.wanted, others) if is_scaled_down else []
            if not before:
                return _leave_once(directory, own, deadline)
            reason, pause_s = f"{', '.join(before)} shall leave first", LOOK_S
        except _NotLeftError as error:
            if error.is_lasting:
                raise
            reason, pause_s = str(error), AGAIN_S
        if reason != told:
            _tell(reason)
            told = reason
        if time.monotonic() + pause_s >= deadline:
            raise _NotLeftError(reason)
        time.sleep(pause_s)


def _members(directory: Path, deadline: float) -> tuple[str, list[str]]:
    """The name of the node, and of the members that it reaches. Raises `_NotLeftError`."""
    [table] = _asked(directory, ("cluster", "show"), deadline)
    found = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    own = next((str(row["Node"]) for row in found if row["link"] == "self"), None)
    if own is None:
        raise _NotLeftError("the node does not show itself among the members of its cluster")
    if len(found) == 1:
        raise _NotLeftError(f"{own} is alone: there is no cluster to leave, and it keeps what it has", is_lasting=True)
    return own, [str(row["Node"]) for row in found if row["Running"] is True and row["Node"] != own]


def _leave_once(directory: Path, node: str, deadline: float) -> None:
    """Raises `_NotLeftError`."""
    timeout_s = max(0.0, min(CLIENTS_S, deadline - time.monotonic()))
    _asked(directory, ("cluster", "leave", f"node={node}", "-k", f"--timeout={timeout_s:g}"), deadline)


def _asked(directory: Path, words: tuple[str, ...], deadline: float) -> list[Table]:
    """The tables of a command's answer. Raises `_NotLeftError`."""
    try:
        response = ask(directory, words, timeout_s=max(LOOK_S, deadline - time.monotonic()), tell=_tell)
    except NodeNotReachedError as error:
        raise _NotLeftError(str(error), is_lasting=True) from None
    if isinstance(response, Failure):
        raise _NotLeftError(response.error)
    return [part for part in response.result.parts if isinstance(part, Table)]
