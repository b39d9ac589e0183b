"""A store becomes an archive and goes; each step can be done again after a crash."""

from pathlib import Path

import pytest

from strogoff.store.archive import BackupError
from strogoff.store.node_store import origin_of
from strogoff.store.resetting import (
    BadResetError,
    Reset,
    carry_out,
    find_reset,
    forget_reset,
    free_archive,
    note_reset,
)

ORIGIN = origin_of("two@h")
RESET = Reset("one@h", "h:44053", "before-reset-1.tar", ("3 sessions (a, b, c)",))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A data directory with a store that is to be reset."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "0000000001.log").write_bytes(b"all that there is")
    note_reset(tmp_path, RESET)
    return tmp_path


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def test_without_a_note_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert find_reset(tmp_path) is None


def test_the_store_is_archived_and_gone_and_the_note_says_so(directory: Path) -> None:
    assert find_reset(directory) == RESET
    done = carry_out(directory, RESET, ORIGIN)
    assert done.is_done
    assert find_reset(directory) == done
    assert names(directory) == {"before-reset-1.tar", "reset-before-join.json"}
    forget_reset(directory)
    assert find_reset(directory) is None


def test_a_store_that_cannot_be_archived_stays(directory: Path) -> None:
    (directory / "before-reset-1.tar.partial").mkdir()
    with pytest.raises(BackupError):
        carry_out(directory, RESET, ORIGIN)
    assert (directory / "store" / "0000000001.log").read_bytes() == b"all that there is"
    assert find_reset(directory) == RESET


@pytest.mark.parametrize("step", ["archived", "renamed", "removed"])
def test_what_a_crash_left_is_done(directory: Path, step: str) -> None:
    archive = directory / RESET.archive
    carry_out(directory, RESET, ORIGIN)
    made = archive.read_bytes()
    # The note is that of before again, and so is what had been done by then.
    note_reset(directory, RESET)
    if step != "removed":
        place = directory / ("store" if step == "archived" else "store.archived")
        place.mkdir()
        (place / "0000000001.log").write_bytes(b"all that there is")
    assert carry_out(directory, RESET, ORIGIN).is_done
    assert names(directory) == {"before-reset-1.tar", "reset-before-join.json"}
    assert archive.read_bytes() == made


def test_what_is_left_of_the_store_goes_with_the_note(directory: Path) -> None:
    carry_out(directory, RESET, ORIGIN)
    (directory / "store.archived").mkdir()
    forget_reset(directory)
    assert names(directory) == {"before-reset-1.tar"}


def test_a_damaged_note_is_told_with_what_to_do(directory: Path) -> None:
    (directory / "reset-before-join.json").write_text("{")
    with pytest.raises(BadResetError, match="remove it to start with the store as it is"):
        find_reset(directory)


def test_an_archive_never_takes_the_name_of_another(tmp_path: Path) -> None:
    first = free_archive(tmp_path, "before-merge")
    first.touch()
    second = free_archive(tmp_path, "before-merge")
    assert second != first
    assert not second.exists()
