"""The unit for systemd, as systemd itself reads it."""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from strogoff.cli.exit_codes import ExitCode

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "strogoff.service"
PROGRAM = Path(sys.executable).parent / "strogoff"
# Keys that came with systemd 254; an older one passes over them, with a word.
YOUNGER = {"RestartSteps", "RestartMaxDelaySec"}
EXPOSURE_MAX = 2.0
"""Of 10, by systemd's own reckoning."""


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with the program where it is."""
    path = tmp_path / UNIT.name
    path.write_text(UNIT.read_text().replace("ExecStart=/usr/local/bin/strogoff", f"ExecStart={PROGRAM}"))
    return path


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=60)


def complaints(unit: Path) -> set[str]:
    """What systemd says of the unit, without what only says that it is an older one."""
    verified = analyze("verify", "--man=no", str(unit))
    unknown = {line: re.search(r"Unknown key (?:name )?'(\w+)'", line) for line in verified.stderr.splitlines()}
    return {line for line, match in unknown.items() if match is None or match[1] not in YOUNGER}


def test_systemd_has_nothing_to_say_against_the_unit(unit: Path) -> None:
    assert complaints(unit) == set()


@pytest.mark.parametrize(
    ("line", "wrong", "complaint"),
    [
        ("Restart=on-failure", "Restart=sometimes", "sometimes"),
        ("UMask=0077", "UMasque=0077", "UMasque"),
        (f"ExecStart={PROGRAM}", "ExecStart=/no/strogoff", "/no/strogoff"),
    ],
)
def test_a_mistake_in_the_unit_would_be_noticed(unit: Path, line: str, wrong: str, complaint: str) -> None:
    text = unit.read_text()
    assert line in text
    unit.write_text(text.replace(line, wrong))
    assert any(complaint in found for found in complaints(unit))


def test_the_service_may_do_little_but_its_work() -> None:
    found = analyze("security", "--offline=true", "--no-pager", str(UNIT))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", found.stdout)
    assert level is not None, found.stderr
    assert float(level[1]) <= EXPOSURE_MAX


def test_what_would_not_get_better_is_not_tried_again() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    never = {int(code) for code in service["RestartPreventExitStatus"].split()}
    assert never == {ExitCode.USAGE, ExitCode.CONFIGURATION}
    assert int(service["RestartSec"]) < int(service["RestartMaxDelaySec"])
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
