"""The image: what its Dockerfile says, and what it starts, run as it would be run: its user, a root that is read-only.

An image cannot be built without a daemon and a registry, so a root file system is put together of mounts: the program
is installed into it as the Dockerfile installs it, and begins with the entry point, the variables and the user of that.
"""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import strogoff
from e2e.dockerfile import Stage, is_ignored, read_dockerfile
from strogoff.cli.main import main

ROOT = Path(__file__).parents[2]
IGNORE = ROOT / ".dockerignore"
STAGES = read_dockerfile((ROOT / "deploy" / "docker" / "Dockerfile").read_text())
IMAGE = STAGES[-1]
DEADLINE_S = 30.0


# -- what the Dockerfile says --------------------------------------------------------------------------------------


def copied() -> list[tuple[Stage, str]]:
    return [
        (stage, source)
        for stage in STAGES
        for copy in stage.all("COPY")
        if "from" not in copy.flags
        for source in copy.words[:-1]
    ]


@pytest.mark.parametrize("source", [source for _, source in copied()])
def test_what_is_copied_is_there_and_in_the_context(source: str) -> None:
    path = ROOT / source
    assert path.exists()
    inside = path if path.is_file() else next(path.rglob("*.py" if source == "src" else "*.rs"))
    assert not is_ignored(str(inside.relative_to(ROOT)), IGNORE)


@pytest.mark.parametrize(
    "path",
    [
        "tests/conftest.py",
        ".git/config",
        ".venv/bin/python",
        "engine/target/x",
        "src/strogoff/_engine.abi3.so",
        "src/strogoff/__pycache__/x.pyc",
        "data/store",
        "deploy/docker/Dockerfile",
    ],
)
def test_what_is_not_needed_is_no_part_of_the_context(path: str) -> None:
    assert is_ignored(path, IGNORE)


def test_everything_that_the_package_is_built_of_is_copied() -> None:
    sources = [source for _, source in copied()]
    tracked = subprocess.run(
        ["git", "ls-files", "src", "engine/src"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout
    for path in tracked.stdout.split():
        assert any(path == source or path.startswith(f"{source}/") for source in sources), path
    named = re.findall(r'^(?:readme|manifest-path) = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert set(named) <= set(sources)


def test_the_context_is_enough_to_know_what_the_package_is(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    context = tmp_path / "context"
    for path in tracked:
        if not is_ignored(path, IGNORE):
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, context / path)
    # What maturin asks before it compiles: the crate, and the package with its README and licence.
    maturin, written_to = Path(sys.executable).parent / "maturin", tmp_path / "metadata"
    metadata = subprocess.run(
        [maturin, "pep517", "write-dist-info", "--metadata-directory", written_to],
        cwd=context,
        env={**os.environ, "CARGO_NET_OFFLINE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert metadata.returncode == 0, metadata.stderr
    [written] = written_to.glob("*/METADATA")
    installed = importlib.metadata.distribution("strogoff")
    assert f"Version: {installed.version}\n" in written.read_text()
    assert (written.parent / "entry_points.txt").read_text().count("strogoff.cli") == 3


def test_stages_build_on_stages_and_on_images_of_a_named_version() -> None:
    names = [stage.name for stage in STAGES]
    for number, stage in enumerate(STAGES):
        assert re.fullmatch(r"[a-z]+:[0-9][0-9a-z.-]+", stage.image)
        for copy in stage.all("COPY"):
            assert copy.flags.get("from") in {None, *names[:number]}
    rust = re.search(r'^rust-version = "(.*)"', (ROOT / "engine" / "Cargo.toml").read_text(), re.MULTILINE)
    assert rust is not None
    assert STAGES[0].image.startswith(f"rust:{rust[1]}-")
    # The program is installed into the Python that runs it.
    assert STAGES[1].image == IMAGE.image


def test_the_entry_point_is_the_program_itself_and_nobody_is_root() -> None:
    assert IMAGE.last("ENTRYPOINT").exec_form == ["strogoff"]
    assert IMAGE.last("CMD").exec_form == ["start"]
    assert IMAGE.last("USER").text == "10000:10000"
    assert IMAGE.last("STOPSIGNAL").text == "SIGTERM"
    health = IMAGE.last("HEALTHCHECK")
    assert health.text.startswith("CMD ")
    assert health_check()[0] == "strogoff"
    # Nobody but root could have written what comes after USER.
    instructions = [instruction.name for instruction in IMAGE.instructions]
    assert "RUN" not in instructions[instructions.index("USER") :]


def health_check() -> list[str]:
    words = read_dockerfile(f"FROM x:1\n{IMAGE.last('HEALTHCHECK').text}")[0].last("CMD").exec_form
    assert words is not None
    return words


def test_the_ports_are_those_of_the_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ROOT / "deploy" / "docker" / "strogoff.conf"
    assert main(["config", "check", str(file)]) == 0, capsys.readouterr().err
    listening = re.findall(r"^listener\..*:([0-9]+)$", file.read_text(), re.MULTILINE)
    assert sorted(IMAGE.last("EXPOSE").words) == sorted(listening)


@pytest.mark.parametrize(
    ("path", "ignored"), [("a", True), ("b/c", False), ("b/c/d", False), ("b/x.so", True), ("b/c/x.so", True)]
)
def test_the_last_line_of_dockerignore_that_fits_decides(tmp_path: Path, path: str, ignored: bool) -> None:
    file = tmp_path / ".dockerignore"
    file.write_text("# all\n*\n!b\n**/*.so\n")
    assert is_ignored(path, file) is ignored


# -- what it starts ------------------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may put a root file system together")

# A root of mounts, which is read-only in the end but for the volume. What stands in braces is put in by the test.
_CONTAINER = """
set -e
mount -t tmpfs -o mode=0755 tmpfs {root}
cd {root}
mkdir -p proc dev tmp opt strogoff/data deps .{python}
for each in usr bin lib lib64 etc; do
    if [ -L /$each ]; then cp -P /$each $each; elif [ -d /$each ]; then mkdir -p $each && mount --rbind /$each $each; fi
done
mount --bind {python} .{python}
mount --bind {packages} deps
mount --rbind /dev dev
mount -t proc proc proc
cp -r {image}/. .
mount --bind {data} strogoff/data
mount -o remount,bind,ro .
mount --bind -o ro .{python} .{python}
ip link set lo up
exec chroot . setpriv {as_user} env -i {variables} sh -c 'cd {directory} && exec "$@"' sh "$@"
"""


class Container:
    """The image while it runs. `variables`: NAME=VALUE. `owner`: of the volume; None: the user of the image."""

    def __init__(self, directory: Path, *variables: str, owner: int | None = None) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.log = directory / "log"
        self.variables = [*self._variables_of_image(), *variables]
        root, image = directory / "root", directory / "image"
        for path in (root, self.data):
            path.mkdir(exist_ok=True)
        if not image.exists():
            _install(image)
        user, group = IMAGE.last("USER").text.split(":")
        os.chown(self.data, int(user) if owner is None else owner, int(group) if owner is None else owner)
        self.data.chmod(0o700)
        self.as_user = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        self.as_user += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
        script = _CONTAINER.format(
            root=root,
            image=image,
            data=self.data,
            python=sys.base_prefix,
            packages=Path(next(path for path in sys.path if path.endswith("site-packages"))),
            as_user=" ".join(self.as_user),
            directory=IMAGE.last("WORKDIR").text,
            variables=" ".join(f"'{variable}'" for variable in self.variables),
        )
        command = [*(IMAGE.last("ENTRYPOINT").exec_form or ()), *(IMAGE.last("CMD").exec_form or ())]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--net", "--ipc", "--uts", "sh", "-c", script, "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _variables_of_image(self) -> list[str]:
        return [word for instruction in IMAGE.all("ENV") for word in instruction.words]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A program beside the broker, as `docker exec` runs it."""
        place = ["nsenter", f"--target={self.process.pid}", "--mount", "--net", "--root", "--wd"]
        inside = ["setpriv", *self.as_user, "env", "-i", *self.variables]
        shell = ["sh", "-c", f'cd {IMAGE.last("WORKDIR").text} && exec "$@"', "sh"]
        return subprocess.run(
            [*place, *inside, *shell, *words], capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )

    def await_health(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None and (done := self.run(*health_check())).returncode != 0:
            assert time.monotonic() < deadline, done.stderr + self.log.read_text()
            time.sleep(0.05)
        assert self.process.poll() is None, self.log.read_text()

    def listening(self) -> set[int]:
        """The TCP ports on which it listens."""
        rows = [line.split() for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]]
        return {int(row[1].partition(":")[2], 16) for row in rows if row[3] == "0A"}

    def stop(self) -> int:
        self.process.send_signal(getattr(signal, IMAGE.last("STOPSIGNAL").text))
        return self.process.wait(DEADLINE_S)


def _install(image: Path) -> None:
    """What the image has of its own: the program in a virtual environment, and the files that are copied."""
    venv = image / "opt" / "strogoff"
    home = Path(sys.base_prefix) / "bin"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = venv / "lib" / python / "site-packages"
    packages.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin" / "python").symlink_to(home / python)
    (venv / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")
    wheel = _wheel(image.parent)
    with zipfile.ZipFile(wheel) as content:
        content.extractall(packages)
    # The libraries that it needs are those that the tests have.
    (packages / "deps.pth").write_text("/deps\n")
    scripts = importlib.metadata.distribution("strogoff").entry_points.select(group="console_scripts")
    for script in scripts:
        module, _, function = script.value.partition(":")
        path = venv / "bin" / script.name
        path.write_text(
            f"#!/opt/strogoff/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        path.chmod(0o755)
    [configuration] = [copy.words for copy in IMAGE.all("COPY") if "from" not in copy.flags]
    target = image / configuration[1].lstrip("/")
    (target.parent / "conf.d").mkdir(parents=True)
    shutil.copy(ROOT / configuration[0], target)
    (image / "vernemq").symlink_to("/strogoff")


def _wheel(directory: Path) -> Path:
    """The package as a wheel has it: what the repository tracks, and the engine that was built."""
    package = Path(strogoff.__file__).parent
    tracked = subprocess.run(["git", "ls-files", "."], cwd=package, capture_output=True, text=True, check=True)
    files = [*tracked.stdout.split(), *(path.name for path in package.glob("_engine*.so"))]
    wheel = directory / "strogoff.whl"
    installed = importlib.metadata.distribution("strogoff")
    with zipfile.ZipFile(wheel, "w") as content:
        for file in files:
            content.write(package / file, f"strogoff/{file}")
        for name in ("METADATA", "entry_points.txt"):
            content.writestr(f"strogoff-{installed.version}.dist-info/{name}", installed.read_text(name) or "")
    return wheel


StartImage = Callable[..., Container]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[StartImage]:
    containers: list[Container] = []
    # The user of the container has to get to what is mounted.
    for path in (tmp_path, *tmp_path.parents):
        if path.owner() == "root" and path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o711)

    def start(*variables: str, owner: int | None = None) -> Container:
        containers.append(Container(tmp_path, *variables, owner=owner))
        return containers[-1]

    yield start
    for container in containers:
        if container.process.poll() is None:
            container.process.kill()
            container.process.wait()


@needs_root
def test_the_image_runs_without_rights_on_a_root_that_is_read_only(started: StartImage) -> None:
    container = started("DOCKER_VERNEMQ_ALLOW_ANONYMOUS=on")
    container.await_health()
    waited = container.run("strogoff", "wait", "--for=ready", "--timeout=20")
    assert (waited.returncode, waited.stdout) == (0, "ready\n"), waited.stderr
    assert container.listening() == {int(port) for port in IMAGE.last("EXPOSE").words}
    status = Path(f"/proc/{container.process.pid}/status").read_text()
    assert re.search(r"^Uid:\s+10000\s+10000", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert container.run("sh", "-c", "echo > /strogoff/etc/x").returncode != 0
    assert container.run("sh", "-c", "echo > /opt/x").returncode != 0
    # The paths of VerneMQ's image are there.
    assert (
        container.run("cat", "/vernemq/etc/strogoff.conf").stdout
        == (ROOT / "deploy" / "docker" / "strogoff.conf").read_text()
    )
    health = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8888/health/ready').status)"
    assert container.run("/opt/strogoff/bin/python", "-c", health).stdout == "200\n"
    assert container.stop() == 0
    assert (container.data / "store").is_dir()


@needs_root
def test_the_volume_keeps_what_was_there(started: StartImage) -> None:
    publish = (
        "import paho.mqtt.publish as publish; "
        "publish.single('kept', 'here', qos=1, retain=True, hostname='127.0.0.1', client_id='x')"
    )
    first = started("DOCKER_VERNEMQ_ALLOW_ANONYMOUS=on")
    first.await_health()
    published = first.run("/opt/strogoff/bin/python", "-c", publish)
    assert published.returncode == 0, published.stderr
    assert first.stop() == 0
    second = started("DOCKER_VERNEMQ_ALLOW_ANONYMOUS=on")
    second.await_health()
    assert "kept" in second.run("vmq-admin", "retain", "show", "--format=csv").stdout
    assert second.stop() == 0


@needs_root
def test_a_mistake_in_a_variable_is_the_last_that_the_container_says(started: StartImage) -> None:
    container = started("DOCKER_VERNEMQ_ALLOW_ANONYMUS=on")
    assert container.process.wait(DEADLINE_S) == 3
    last = container.log.read_text().splitlines()[-1]
    assert last.startswith(
        "strogoff start: environment DOCKER_VERNEMQ_ALLOW_ANONYMUS: allow_anonymus: there is no such key"
    )


@needs_root
def test_a_volume_of_somebody_else_is_refused_with_what_to_do(started: StartImage) -> None:
    container = started(owner=0)
    assert container.process.wait(DEADLINE_S) == 4
    last = container.log.read_text().splitlines()[-1]
    assert last.startswith("strogoff: the data directory data cannot be used: Permission denied;")
    assert "chown" in last
