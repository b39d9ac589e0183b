"""Backups as files: written whole or not at all, and unpacked only when they are what was written."""

import fcntl
import io
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from strogoff.store.archive import BackupError, Manifest, unpack_backup, write_backup

ORIGIN = Manifest("me@here", "2026-01-02T03:04:05Z", "0.1.0", ())
NAMES = ("0000000001.log", "0000000002.log", "0000000007.log")


def quiet(_done: int, _total: int) -> None:
    """A watch that does nothing."""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files as a store has them: full, with much room left, empty."""
    store = tmp_path / "store"
    store.mkdir()
    contents = (bytes(range(256)) * 5_000, b"head" + bytes(3 << 20), b"")
    for name, content in zip(NAMES, contents, strict=True):
        (store / name).write_bytes(content)
    return [store / name for name in NAMES]


@pytest.fixture
def backup(tmp_path: Path, files: list[Path]) -> Path:
    write_backup(tmp_path / "backup.tar", files, origin=ORIGIN, watch=quiet)
    return tmp_path / "backup.tar"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


def refused(source: Path, target: Path) -> str:
    with pytest.raises(BackupError) as told:
        unpack_backup(source, target, quiet)
    assert str(source) in str(told.value)
    return str(told.value)


def test_what_was_written_comes_out_byte_for_byte(backup: Path, files: list[Path], target: Path) -> None:
    manifest = unpack_backup(backup, target, quiet)
    assert sorted(path.name for path in target.iterdir()) == list(NAMES)
    assert all((target / path.name).read_bytes() == path.read_bytes() for path in files)
    assert (manifest.node, manifest.made_at, manifest.program) == ("me@here", "2026-01-02T03:04:05Z", "0.1.0")
    assert [file.name for file in manifest.files] == list(NAMES)
    assert manifest.size == sum(path.stat().st_size for path in files)


def test_a_backup_is_a_tar_archive_for_its_owner_only(backup: Path, files: list[Path]) -> None:
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with tarfile.open(backup) as read:
        assert read.getnames() == [*NAMES, "manifest.json"]
        content = read.extractfile(NAMES[0])
        assert content is not None
        assert content.read() == files[0].read_bytes()


def test_room_for_more_messages_takes_no_room_in_a_backup(backup: Path, target: Path) -> None:
    unpack_backup(backup, target, quiet)
    for path in (backup, target / NAMES[1]):
        assert path.stat().st_size > 3 << 20
        assert path.stat().st_blocks * 512 < 2 << 20


def test_progress_ends_at_the_whole(files: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=lambda *both: told.append(both))
    total = sum(path.stat().st_size for path in files)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


# -- what a backup does not do -----------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_not_overwritten(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("precious")
    with pytest.raises(BackupError, match=r"b\.tar exists: use another name"):
        write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)
    assert (tmp_path / "b.tar").read_text() == "precious"


def test_a_file_that_comes_into_being_meanwhile_is_not_overwritten(files: list[Path], tmp_path: Path) -> None:
    destination = tmp_path / "b.tar"
    with pytest.raises(BackupError, match=r"b\.tar cannot be written: File exists"):
        write_backup(destination, files, origin=ORIGIN, watch=lambda *_: _written(destination))
    assert destination.read_text() == "precious"
    assert not (tmp_path / "b.tar.partial").exists()


def _written(path: Path) -> None:
    path.write_text("precious")


def test_it_does_not_go_among_the_files_of_the_store(files: list[Path]) -> None:
    with pytest.raises(BackupError, match="among the files of the store"):
        write_backup(files[0].with_name("b.tar"), files, origin=ORIGIN, watch=quiet)


def test_it_does_not_fill_the_disk(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(BackupError, match=r"not enough room .* up to 4\.2 MB are needed, 976\.6 KB are free"):
        write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)


def test_a_directory_that_is_not_there_is_named(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"the directory .*nowhere cannot be used: No such file"):
        write_backup(tmp_path / "nowhere" / "b.tar", files, origin=ORIGIN, watch=quiet)


class StopError(Exception):
    pass


def test_one_that_is_given_up_leaves_nothing_behind(files: list[Path], tmp_path: Path) -> None:
    def stop(_done: int, _total: int) -> None:
        raise StopError

    with pytest.raises(StopError):
        write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_file_that_shrinks_or_goes_ends_it(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BackupError, match=r"0000000002\.log became shorter while it was read"):
        write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=lambda *_: os.truncate(files[1], 4))
    files[2].unlink()
    with pytest.raises(BackupError, match=r"0000000007\.log cannot be read"):
        write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_the_leftover_of_a_crash_is_in_nobodys_way(files: list[Path], tmp_path: Path, target: Path) -> None:
    (tmp_path / "b.tar.partial").write_bytes(b"half a backup" * 1_000_000)
    write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)
    unpack_backup(tmp_path / "b.tar", target, quiet)
    assert not (tmp_path / "b.tar.partial").exists()


def test_two_do_not_write_one_file(files: list[Path], tmp_path: Path) -> None:
    with (tmp_path / "b.tar.partial").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BackupError, match="is being written by another program"):
            write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)
    assert (tmp_path / "b.tar.partial").exists()


def test_a_file_system_without_links_will_do(
    files: list[Path], tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(self: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    write_backup(tmp_path / "b.tar", files, origin=ORIGIN, watch=quiet)
    unpack_backup(tmp_path / "b.tar", target, quiet)


# -- what is no backup -------------------------------------------------------------------------------------------------


def test_one_that_breaks_off_anywhere_is_refused(backup: Path, tmp_path: Path) -> None:
    content = backup.read_bytes()
    manifest_at = content.rindex(b"manifest.json")
    end = content.rindex(b"}") + 1
    cuts = [0, 100, 512, 1_000_000, manifest_at, manifest_at + 512, end - 1, *range(512, manifest_at, 300_000)]
    for number, cut in enumerate(cuts):
        target = tmp_path / str(number)
        target.mkdir()
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        refused(tmp_path / "cut.tar", target)


@pytest.mark.parametrize("place", [512, 700_000])
def test_one_with_a_changed_byte_is_refused(backup: Path, target: Path, place: int) -> None:
    with backup.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    assert "0000000001.log is not as it was when the backup was made" in refused(backup, target)


def test_a_compressed_one_is_told_so(backup: Path, target: Path) -> None:
    shutil.make_archive(str(backup.parent / "packed"), "gztar", backup.parent, "backup.tar")
    assert "or compressed" in refused(backup.parent / "packed.tar.gz", target)


def test_what_is_not_there_is_told(tmp_path: Path, target: Path) -> None:
    assert "No such file" in refused(tmp_path / "nothing.tar", target)


Change = Callable[[tarfile.TarInfo], None]


def _set(**values: object) -> Change:
    def change(entry: tarfile.TarInfo) -> None:
        for name, value in values.items():
            setattr(entry, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set(name="../0000000001.log"),
        _set(name="/tmp/0000000001.log"),
        _set(name="a/0000000001.log"),
        _set(name="./0000000001.log"),
        _set(name="0000000001.log\n"),
        _set(name="1.log"),
        _set(name=".bashrc"),
        _set(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
        _set(type=tarfile.LNKTYPE, linkname="0000000002.log", size=0),
        _set(type=tarfile.DIRTYPE, size=0),
        _set(type=tarfile.FIFOTYPE, size=0),
    ],
)
def test_nothing_is_believed_about_names_and_kinds(backup: Path, tmp_path: Path, target: Path, change: Change) -> None:
    rewritten = rewrite(backup, tmp_path / "evil.tar", change)
    assert "no backup has the entry" in refused(rewritten, target)
    assert list(target.iterdir()) == []
    assert not (tmp_path / NAMES[0]).exists()


def rewrite(backup: Path, to: Path, change: Change) -> Path:
    """The same archive with its first entry changed."""
    with tarfile.open(backup) as read, tarfile.open(to, "w") as written:
        for number, entry in enumerate(read):
            content = read.extractfile(entry)
            assert content is not None
            data = content.read()
            if number == 0:
                change(entry)
            written.addfile(entry, io.BytesIO(data))
    return to


def made(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    """An archive of these entries."""
    with tarfile.open(path, "w") as written:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            written.addfile(entry, io.BytesIO(data))
    return path


def manifest(**changes: object) -> bytes:
    plain = {"format": 1, "node": "n", "made_at": "t", "program": "0.1.0", "files": []}
    return json.dumps(plain | changes).encode()


EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ENTRY = {"name": NAMES[0], "size": 0, "sha256": EMPTY_SHA256}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], "breaks off"),
        ([(NAMES[0], b"")], "breaks off"),
        ([(NAMES[0], b""), ("manifest.json", manifest())], "0000000001.log is not in its manifest"),
        ([("manifest.json", manifest(files=[ENTRY]))], "0000000001.log is not in it"),
        ([(NAMES[0], b""), (NAMES[0], b"")], "no backup has the entry '0000000001.log' in this place"),
        ([("manifest.json", manifest(format=2, program="9.1.0"))], "made by the newer Strogoff 9.1.0"),
        ([("manifest.json", b"[]")], "cannot be understood"),
        ([("manifest.json", b"[" * 100_000)], "cannot be understood"),
        ([("manifest.json", b"\xff")], "cannot be understood"),
        ([("manifest.json", manifest(files=[ENTRY | {"name": "../x"}]))], "cannot be understood"),
        ([("manifest.json", manifest(files=[ENTRY | {"sha256": "0"}]))], "cannot be understood"),
        ([("manifest.json", manifest(files=[ENTRY | {"size": -1}]))], "cannot be understood"),
        ([("manifest.json", manifest(files=[[]]))], "cannot be understood"),
    ],
)
def test_an_archive_and_its_manifest_have_to_agree(
    tmp_path: Path, target: Path, entries: list[tuple[str, bytes]], told: str
) -> None:
    assert told in refused(made(tmp_path / "made.tar", entries), target)


def test_a_disk_that_is_full_is_told(backup: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in refused(backup, target)
