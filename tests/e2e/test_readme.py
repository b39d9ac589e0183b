"""What the documents show is done and comes out as they say."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from e2e.documents import Command, Document, read_commands

ROOT = Path(__file__).parents[2]
SHOWN = (
    "README.md",
    "docs/access-control.md",
    "docs/configuration.md",
    "docs/command-line.md",
    "docs/listeners.md",
    "docs/persistence.md",
    "docs/plugins.md",
)
ALL = (
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
)
PROGRAMS = Path(sys.executable).parent
DEADLINE_S = 20.0


@pytest.fixture
def port() -> int:
    """A free port of four digits, so that tables are as wide as those with 1883."""
    return _free_port(range(2_000, 6_000))


@pytest.fixture
def another_port() -> int:
    """The same for 8883."""
    return _free_port(range(6_000, 10_000))


def _free_port(numbers: Iterable[int]) -> int:
    shuffled = list(numbers)
    random.shuffle(shuffled)
    return next(number for number in shuffled if _is_free(number))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@pytest.fixture
def reader(tmp_path: Path, port: int) -> Iterator[tuple[Path, dict[str, str]]]:
    """Where a reader types: a directory with `.venv/bin` and a running broker, and the environment of the shell."""
    (tmp_path / ".venv").symlink_to(PROGRAMS.parent)
    # Documents may speak of the standard port, on which the broker of a test cannot listen.
    for program in ("mosquitto_pub", "mosquitto_sub"):
        (tmp_path / program).write_text(f"-p {port}\n")
    foreign = ("STROGOFF_", "DOCKER_VERNEMQ_")
    environment = {name: text for name, text in os.environ.items() if not name.startswith(foreign)}
    environment |= {"XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "100"}
    with (tmp_path / "broker.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "strogoff", "start", "--set", f"listener.tcp.default=127.0.0.1:{port}"],
            cwd=tmp_path,
            env=environment,
            stderr=log,
        )
    try:
        _await_pong(tmp_path, environment)
        yield tmp_path, environment
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0, (tmp_path / "broker.log").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _await_pong(directory: Path, environment: dict[str, str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while subprocess.run(
        [PROGRAMS / "strogoff", "ping"], cwd=directory, env=environment, capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, (directory / "broker.log").read_text()


def program_help(*words: str) -> str:
    return subprocess.run(
        [str(PROGRAMS / words[0]), *words[1:], "--help"], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    ).stdout


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_document_shows_comes_out_as_it_says(
    name: str, port: int, another_port: int, reader: tuple[Path, dict[str, str]]
) -> None:
    directory, environment = reader
    ports = {"1883": str(port), "8883": str(another_port)}
    differences = Document(ROOT / name, ports).run(directory, environment)
    assert not differences, "\n\n".join(differences)


def test_make_run_starts_the_broker_that_the_documents_speak_of() -> None:
    # What an outer `make` told its children would change what this one prints.
    environment = {name: text for name, text in os.environ.items() if "MAKE" not in name}
    planned = subprocess.run(
        ["make", "--dry-run", "run"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    assert planned.stdout.splitlines()[-1] == ".venv/bin/strogoff start"


@pytest.mark.parametrize("name", ALL)
def test_a_make_target_that_a_document_names_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / name).read_text()))
    assert named <= targets


@pytest.mark.parametrize("name", ALL)
def test_a_link_between_documents_leads_somewhere(name: str) -> None:
    document = ROOT / name
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
        page = document.parent / target if target else document
        assert page.exists(), f"{name} links to {target}, which does not exist"
        assert not anchor or anchor in _anchors(page), f"{name} links to #{anchor}, which is no heading of {page.name}"


def _anchors(page: Path) -> set[str]:
    """The headings of a page as a link writes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["README.md", "docs/configuration.md"])
def test_a_key_that_a_document_names_exists_and_has_the_default_it_says(name: str) -> None:
    text = (ROOT / name).read_text()
    keys = set(re.findall(r"`([a-z_]+(?:\.[a-z_]+)+|[a-z]+_[a-z_]+)`", text)) - PROGRAM_WORDS
    assert keys
    shown = subprocess.run(
        [PROGRAMS / "strogoff", "config", "describe", *sorted(keys)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    assert shown.returncode == 0, shown.stderr
    defaults = dict(re.findall(r"^(\S+)\n(?:  .*\n)*?  default: (.*)$", shown.stdout, re.MULTILINE))
    for default, key in re.findall(r"\| (\w+)(?:,[^|]*)? \| `([a-z_.]+)` \|$", text, re.MULTILINE):
        assert defaults[key] == default, key


# What looks like a key in the documents and is none.
PROGRAM_WORDS = {"mosquitto_pub", "mosquitto_sub", "hello.py", "vernemq.conf", "queue_message_drop"}


def test_the_readme_names_every_command_of_both_programs(reader: tuple[Path, dict[str, str]]) -> None:
    directory, environment = reader
    readme = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"^    ([a-z]+) ", program_help("strogoff"), re.MULTILINE))
    assert {command for command in commands if f"`strogoff {command}`" not in readme} == set()
    listed = subprocess.run(
        [PROGRAMS / "vmq-admin"], cwd=directory, env=environment, capture_output=True, text=True, check=True
    ).stdout.partition("Commands\n")[2]
    heads = set(re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE))
    row_heads = set(re.findall(r"`(?:vmq-admin )?([a-z-]+)`", readme))
    assert heads <= row_heads


def test_the_commands_of_a_block_are_told_from_what_they_print() -> None:
    block = "$ echo one\none\n$ printf '%s\\n' \\\n> two\ntwo\n\n$ true\n"
    assert list(read_commands(block)) == [
        Command("echo one", ["one"]),
        Command("printf '%s\\n' \\\ntwo", ["two", ""]),
        Command("true"),
    ]


def test_an_output_that_the_document_does_not_show_is_a_difference(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "```console\n$ echo 'a b c'\na ... c\n$ false\n$ echo $?\n1\n$ echo new\nold\n```\n\n```toml\nx = 1\n```\n"
    )
    differences = Document(document).run(tmp_path, {"PATH": os.environ["PATH"]})
    assert [difference.splitlines()[0] for difference in differences] == [
        "$ echo new",
        "a block that nothing checks: neither `console` nor a file",
    ]
