"""What operators decided is kept, and a damaged file is told rather than believed."""

from pathlib import Path

import pytest

from strogoff.plugins.state import PluginState, StateFile, StateFileError

DECIDED = {"sesame": PluginState(is_enabled=True, directory="/srv"), "vmq_acl": PluginState(is_enabled=False)}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.write(DECIDED)
    assert file.read() == DECIDED


def test_without_a_file_nothing_was_decided(tmp_path: Path) -> None:
    assert StateFile(tmp_path).read() == {}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"plugins": 1}', '{"plugins": {"a": 1}}', "\xff"])
def test_a_damaged_file_says_what_to_do(tmp_path: Path, content: str) -> None:
    (tmp_path / "plugins.json").write_text(content, encoding="latin-1")
    with pytest.raises(StateFileError, match=r"plugins\.json cannot be read .*: remove it to forget"):
        StateFile(tmp_path).read()


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.write(DECIDED)
    (tmp_path / "plugins.new").mkdir()
    with pytest.raises(StateFileError, match=r"cannot be written"):
        file.write({})
    assert file.read() == DECIDED
