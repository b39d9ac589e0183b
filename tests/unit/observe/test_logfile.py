"""Opening a log file: what is made for it, and what is told when it cannot be opened."""

import re
from pathlib import Path

import pytest

from strogoff.observe.logfile import LogFileError, RotatingFile


def _told(path: Path) -> str:
    with pytest.raises(LogFileError) as caught:
        RotatingFile(path).open()
    return str(caught.value)


def test_the_directory_of_a_log_file_is_made(tmp_path: Path) -> None:
    RotatingFile(tmp_path / "log" / "console.log").open().close()
    assert (tmp_path / "log" / "console.log").exists()


def test_directories_above_it_are_not_made_and_the_first_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one" / "two" / "three" / "console.log"
    assert _told(path) == (
        f"the log file {path} cannot be opened: there is no directory {tmp_path / 'one'}; "
        "make it, or name another file (log.console.file, log.error.file)"
    )
    assert not (tmp_path / "one").exists()


def test_a_relative_path_is_told_with_the_place_that_it_leads_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"there is no directory {tmp_path / 'one'}; make it" in _told(Path("one/two/console.log"))


@pytest.mark.parametrize("below", ["console.log", "log/console.log"])
def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    path = file / below
    assert re.search(rf": {path.parent} is no directory; name another file", _told(path))


def test_a_directory_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    assert "Is a directory; name another file" in _told(tmp_path)
