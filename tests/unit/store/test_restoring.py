"""A restored store is what was backed up, and one that cannot be restored changes nothing."""

from pathlib import Path

import pytest

from strogoff import _engine
from strogoff.store.archive import BackupError, Manifest, Watch, write_backup
from strogoff.store.files import log_files, store_of
from strogoff.store.restoring import Restored, restore, unfinished_restore
from unit.stores import CONTENT, content_of, damage, make_store

ORIGIN = Manifest("me@here", "2026-01-02T03:04:05Z", "0.1.0", ())


def quiet(_done: int, _total: int) -> None:
    """A watch that does nothing."""


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    """A backup of a store with `CONTENT`."""
    return saved(make_store(tmp_path / "original"), tmp_path / "backup.tar")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def saved(store: Path, to: Path) -> Path:
    write_backup(to, log_files(store), origin=ORIGIN, watch=quiet)
    return to


def restored(source: Path, data: Path, *, replace: bool = False, watch: Watch = quiet) -> Restored:
    return restore(source, data, replace=replace, watch=watch)


def refused(source: Path, data: Path, *, replace: bool = False) -> str:
    before = names_in(data)
    with pytest.raises(BackupError) as told:
        restored(source, data, replace=replace)
    assert names_in(data) == before
    return str(told.value)


def names_in(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_restored_store_has_what_was_backed_up(backup: Path, data: Path) -> None:
    done = restored(backup, data)
    assert done.former is None
    assert done.report.metadata_keys == len(CONTENT)
    assert done.manifest.node == "me@here"
    assert names_in(data)[0] == "store"
    assert content_of(store_of(data)) == CONTENT


def test_an_empty_store_is_no_obstacle(backup: Path, data: Path) -> None:
    store_of(data).mkdir()
    assert restored(backup, data).former is None


def test_a_store_that_is_there_is_kept_unless_it_may_be_replaced(backup: Path, data: Path) -> None:
    make_store(store_of(data), {b"other": b"x"})
    assert "there is a store in" in refused(backup, data)
    assert content_of(store_of(data)) == {b"other": b"x"}


def test_a_store_that_is_replaced_is_put_aside(backup: Path, data: Path) -> None:
    make_store(store_of(data), {b"other": b"x"})
    done = restored(backup, data, replace=True)
    assert done.former is not None
    assert done.former.name.startswith("store.replaced-20")
    assert content_of(done.former) == {b"other": b"x"}
    assert content_of(store_of(data)) == CONTENT


def test_a_damaged_store_can_be_replaced(backup: Path, data: Path) -> None:
    damage(make_store(store_of(data)))
    restored(backup, data, replace=True)
    assert content_of(store_of(data)) == CONTENT


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_sound_backup_changes_nothing(tmp_path: Path, data: Path, backup: Path, replace: bool) -> None:
    if replace:
        make_store(store_of(data), {b"other": b"x"})
    assert "cannot be unpacked" in refused(tmp_path / "nothing.tar", data, replace=replace)
    (tmp_path / "cut.tar").write_bytes(backup.read_bytes()[:40_000])
    assert "cut.tar is not a" in refused(tmp_path / "cut.tar", data, replace=replace)
    damage(tmp_path / "original")
    damaged = saved(tmp_path / "original", tmp_path / "damaged.tar")
    assert "was damaged when the backup was made (0000000001.log at" in refused(damaged, data, replace=replace)


class StopError(BaseException):
    pass


def test_one_that_is_interrupted_changes_nothing(backup: Path, data: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        assert (data / "store.restoring").exists()
        raise StopError

    with pytest.raises(StopError):
        restored(backup, data, watch=stop)
    assert names_in(data) == []
    assert unfinished_restore(data) is None


def test_a_store_that_cannot_get_its_name_leaves_the_former_one(
    backup: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store(store_of(data), {b"other": b"x"})
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "store.restoring":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert "Input/output error" in refused(backup, data, replace=True)
    assert content_of(store_of(data)) == {b"other": b"x"}


def test_one_that_was_cut_short_is_noticed_until_it_is_done(backup: Path, data: Path) -> None:
    make_store(data / "store.replaced-20260102T030405Z", {b"other": b"x"})
    make_store(data / "store.restoring")
    told = unfinished_restore(data)
    assert told is not None
    assert "strogoff store restore" in told
    assert f"mv {data}/store.replaced-20260102T030405Z {data}/store" in told
    restored(backup, data)
    assert unfinished_restore(data) is None
    assert content_of(store_of(data)) == CONTENT


def test_a_leftover_beside_a_store_is_nothing_to_worry_about(data: Path) -> None:
    make_store(store_of(data))
    make_store(data / "store.restoring")
    assert unfinished_restore(data) is None


def test_a_backup_of_a_newer_store_is_told_as_such(backup: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def newer(_directory: str) -> _engine.StoreReport:
        raise _engine.StoreError("written by a newer version of Strogoff")

    monkeypatch.setattr(_engine, "check_store", newer)
    assert "cannot be used: written by a newer version" in refused(backup, data)
