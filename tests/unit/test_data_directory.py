"""The data directory belongs to its owner, and to one broker at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from strogoff.data_directory import LOCK_NAME, DataDirectoryError, DataDirectoryInUseError, held, undisturbed


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    with held(tmp_path / "a" / "data") as private:
        assert private
        assert _mode(tmp_path / "a" / "data") == 0o700
        assert _mode(tmp_path / "a" / "data" / LOCK_NAME) == 0o600


def test_a_directory_that_others_can_read_is_used_but_noticed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with held(tmp_path) as private:
        assert not private


def test_a_second_broker_is_refused_and_told_who_has_the_directory(tmp_path: Path) -> None:
    with held(tmp_path):
        script = f"import pathlib, strogoff.data_directory as d\nwith d.held(pathlib.Path({str(tmp_path)!r})): pass"
        second = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"the data directory {tmp_path} is in use by another broker (process {os.getpid()})" in second.stderr


def test_the_directory_is_free_again_when_its_broker_has_gone(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path):
            pass


@pytest.mark.parametrize("leftover", [b"", b"999999999\n", b"\xff\x00 garbage"])
def test_a_leftover_of_a_crash_locks_nobody_out(tmp_path: Path, leftover: bytes) -> None:
    (tmp_path / LOCK_NAME).write_bytes(leftover)
    with held(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_path_that_is_no_directory_is_named(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_text("")
    told = rf"{file} is no directory: use another path \(platform_data_dir\)$"
    with pytest.raises(DataDirectoryError, match=told), held(file):
        pass


@pytest.mark.parametrize("path", ["/proc/strogoff", "/dev/null/data"])
def test_a_path_where_nothing_can_be_made_is_told_with_a_remedy(path: str) -> None:
    told = rf"the data directory {path} cannot be used: .+; use a directory in which .+ \(platform_data_dir\)$"
    with pytest.raises(DataDirectoryError, match=told), held(Path(path)):
        pass


def test_who_looks_only_changes_nothing_and_keeps_brokers_out(tmp_path: Path) -> None:
    with undisturbed(tmp_path):
        assert list(tmp_path.iterdir()) == []
    with held(tmp_path):
        pass
    before = (tmp_path / LOCK_NAME).read_text()
    with undisturbed(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == before
        with pytest.raises(DataDirectoryInUseError), held(tmp_path):
            pass


def test_who_looks_only_is_told_that_a_broker_is_there(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(DataDirectoryInUseError) as told, undisturbed(tmp_path):
        pass
    assert told.value.holder == str(os.getpid())
