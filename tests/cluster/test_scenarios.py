"""Every script of `scenarios/`: what the core does, in lines that a person can read."""

from pathlib import Path

import pytest

from cluster.scenario import SCENARIOS, run_scenario


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_script_comes_true(path: Path) -> None:
    run_scenario(path)
