"""Programs in containers: a root file system of their own over that of the machine, volumes, a user, and no others.

What a container writes outside of its volumes is gone with it. Its program is process 1 of a process namespace, as in
Kubernetes: signals for which it has no handler do not reach it, and with it everything else in the container ends.
"""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import strogoff
from e2e.kubelet.manifests import Security
from e2e.kubelet.network import Namespace

_VIRTUAL = ("/dev", "/proc", "/sys")
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LOOK_S = 0.005
_KILLED = 128
_OUTER_LOG = "unshare.log"
_KILLED_BY_KILL = "sigprocmask unblock failed"
"""What `unshare` says, and ends with 1, whose child SIGKILL has ended: it wants to end in the same way and cannot."""


@dataclass(frozen=True, slots=True)
class Image:
    """What stands for a container image: this machine, with the programs of the running Python in front.

    `entry_point` and `arguments` are run where the manifest says nothing else. `files`: what it has besides, by path.
    """

    entry_point: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: int | None = None
    files: Mapping[str, Path] = field(default_factory=dict)

    def variables(self) -> dict[str, str]:
        """The environment that each of its containers begins with."""
        path = f"{Path(sys.executable).parent}:{_SYSTEM_PATH}"
        # Which sources the tests are about.
        sources = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        return {"PATH": path, "HOME": "/", **sources, **self.environment}


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the machine at a path of the container."""

    source: Path
    target: str
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """One run of a program in a container. `directory`: for what is needed to start it, not for its own use."""

    namespace: Namespace
    command: Sequence[str]
    environment: Mapping[str, str]
    working_directory: str
    security: Security
    binds: Sequence[Bind]
    directory: Path
    log: Path


def start_script(plan: Plan, other_mounts: Sequence[str], begun: Path) -> str:
    """What makes the container and becomes its program, in shell."""
    stage = shlex.quote(str(plan.directory / "stage"))
    root = f"{stage}/root"
    lines = [
        f"exec >>{shlex.quote(str(plan.log))} 2>&1",
        "set -e",
        f"mount -t tmpfs tmpfs {stage}",
        f"mkdir {stage}/upper {stage}/work {stage}/root",
        f"mount -t overlay overlay -o lowerdir=/,upperdir={stage}/upper,workdir={stage}/work {root}",
        *(f"mount --rbind {path} {root}{path}" for path in ("/dev", "/sys")),
        f"mount -t proc proc {root}/proc",
        *(f"mount --bind {shlex.quote(path)} {root}{shlex.quote(path)}" for path in other_mounts),
        # The interpreter may be in a directory of root's own.
        *(f"chmod a+rx {root}{shlex.quote(path)}" for path in _directories_of_programs()),
    ]
    for bind in [*sorted(plan.binds, key=lambda bind: bind.target.count("/")), *_hidden_programs(plan.binds)]:
        # A link on the way would lead out of the container, which has the same ones as the machine.
        target, source = root + shlex.quote(os.path.realpath(bind.target)), shlex.quote(str(bind.source))
        if bind.source.is_dir():
            lines.append(f"mkdir -p {target}")
        else:
            lines.append(f"mkdir -p $(dirname {target}); touch {target}")
        lines.append(f"mount --bind {source} {target}")
        if bind.is_read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
    if plan.security.is_root_read_only:
        lines.append(f"mount -o remount,bind,ro {root}")
    inside = shlex.join(
        ["sh", "-c", 'cd "$0" && exec "$@"', plan.working_directory, *_as_user(plan.security), *plan.command]
    )
    lines += [f": >{shlex.quote(str(begun))}", f"exec chroot {root} {inside}"]
    return "\n".join(lines) + "\n"


def _as_user(security: Security) -> list[str]:
    words = ["setpriv"]
    if security.user:
        words += [f"--reuid={security.user}", f"--regid={security.group or security.user}"]
    if security.user or security.fs_group:
        words += ["--clear-groups"] if security.fs_group is None else [f"--groups={security.fs_group}"]
    if security.drops_capabilities:
        words += ["--bounding-set=-all", "--inh-caps=-all"]
    if not security.may_gain_privileges:
        words.append("--no-new-privs")
    return [*words, "--"] if len(words) > 1 else []


def _places_of_programs() -> list[Path]:
    """Where the interpreter is, what it has installed, and the sources under test."""
    sources = Path(strogoff.__file__).parents[1]
    return list(
        dict.fromkeys((Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent, sources))
    )


def _hidden_programs(binds: Sequence[Bind]) -> list[Bind]:
    """Those of these places that a volume hides, as one at `/tmp` may: they are shown there again."""
    targets = [Path(bind.target) for bind in binds]
    hidden = [place for place in _places_of_programs() if any(target in place.parents for target in targets)]
    return [Bind(place, str(place), is_read_only=True) for place in hidden]


def _directories_of_programs() -> list[str]:
    """All directories on the way to these places."""
    ways = {str(way) for place in _places_of_programs() for way in (place, *place.parents)} - {"/"}
    return sorted(ways, key=len)


def _other_mounts() -> list[str]:
    """Where other file systems are mounted, which the lower layer does not show."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [
        path
        for path in dict.fromkeys(points)
        if path != "/" and not path.startswith(_VIRTUAL) and Path(path).is_dir() and os.access(path, os.R_OK)
    ]


class Running:
    """A container whose program has been started. `plan` is kept for programs that are run beside it."""

    def __init__(self, plan: Plan, outer: asyncio.subprocess.Process, pid: int) -> None:
        self.plan = plan
        self.pid = pid
        self._outer = outer

    @property
    def has_ended(self) -> bool:
        return self._outer.returncode is not None

    async def wait(self) -> int:
        """Its exit code; 128 and the number of the signal that ended it."""
        code = await self._outer.wait()
        if code == 1 and _KILLED_BY_KILL in (self.plan.directory / _OUTER_LOG).read_text():
            return _KILLED + signal.SIGKILL
        return code if code >= 0 else _KILLED - code

    def send(self, number: signal.Signals) -> None:
        if not self.has_ended:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def command(self, *words: str) -> list[str]:
        """What runs a program in the container, with its environment and as its user."""
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', self.plan.working_directory]
        spaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd")
        user = _as_user(self.plan.security)
        return ["nsenter", f"--target={self.pid}", *spaces, "--", *inside, *user, *words]


async def start(plan: Plan) -> Running:
    """Return when the program is about to begin, or could not be made to: the log of the container says why."""
    (plan.directory / "stage").mkdir(parents=True, exist_ok=True)
    script, begun = plan.directory / "start.sh", plan.directory / "begun"
    script.write_text(start_script(plan, _other_mounts(), begun))
    begun.unlink(missing_ok=True)
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "sh", str(script)]
    with (plan.directory / _OUTER_LOG).open("wb") as log:
        outer = await asyncio.create_subprocess_exec(
            *plan.namespace.command(*words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(plan.environment),
        )
    try:
        while outer.returncode is None:
            if begun.exists():
                break
            await asyncio.sleep(_LOOK_S)
    except asyncio.CancelledError:
        outer.kill()
        await outer.wait()
        raise
    pids = children(outer.pid)
    return Running(plan, outer, pids[0] if pids else outer.pid)


def children(pid: int) -> list[int]:
    """Processes that a process has started and that still are."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


async def run_inside(container: Running, command: Sequence[str], timeout_s: float) -> tuple[int, str]:
    """Exit code and output of a program beside the container's own. 124: it did not end in time, and was killed."""
    process = await asyncio.create_subprocess_exec(
        *container.command(*command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(container.plan.environment),
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    except TimeoutError:
        return 124, f"not within {timeout_s:g} s"
    finally:
        if process.returncode is None:
            for pid in (*children(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await process.communicate()
    return process.returncode or 0, output.decode(errors="replace")
