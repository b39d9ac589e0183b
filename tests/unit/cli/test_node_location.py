"""How a program finds its node."""

from pathlib import Path

import pytest

from strogoff.cli.node_location import NodeLocation, NodeLocationError, split_location


@pytest.mark.parametrize(
    "words",
    [
        ["--data-dir", "d", "session", "show"],
        ["--data-dir=d", "session", "show"],
        ["session", "show", "--data-dir=d"],
        ["session", "--data-dir", "d", "show"],
    ],
)
def test_the_node_may_be_named_anywhere_on_the_line(words: list[str]) -> None:
    location, rest = split_location(words)
    assert location.data_directory == Path("d")
    assert rest == ["session", "show"]


def test_a_directory_goes_before_everything_else(tmp_path: Path) -> None:
    location = NodeLocation(config=tmp_path / "absent.conf", data_directory=tmp_path)
    assert location.resolve({"STROGOFF_CONFIG": "also-absent"}) == tmp_path


def test_a_configuration_names_its_data_directory(tmp_path: Path) -> None:
    named, other = tmp_path / "a.conf", tmp_path / "b.conf"
    named.write_text(f"platform_data_dir = {tmp_path}/a\n")
    other.write_text(f"platform_data_dir = {tmp_path}/b\n")
    assert NodeLocation(config=named).resolve({"STROGOFF_CONFIG": str(other)}) == tmp_path / "a"
    assert NodeLocation().resolve({"STROGOFF_CONFIG": str(other)}) == tmp_path / "b"


def test_without_any_word_it_is_the_data_directory_here() -> None:
    assert NodeLocation().resolve({}) == Path("data")


@pytest.mark.parametrize("words", [["--config"], ["--data-dir="], ["session", "--config"]])
def test_a_missing_path_is_told(words: list[str]) -> None:
    with pytest.raises(NodeLocationError, match="expected a path after it"):
        split_location(words)
