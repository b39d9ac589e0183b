"""`strogoff store` without a running node: what it prints, what it changes, how it ends."""

import csv
import io
import json
import os
from pathlib import Path

import pytest

from strogoff.cli.main import main
from strogoff.data_directory import held
from strogoff.store.files import log_files, store_of
from unit.stores import CONTENT, content_of, damage, make_store

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but what a test gives."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("STROGOFF_", "DOCKER_VERNEMQ_")):
            monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory that is looked for without an option, with a store in it."""
    make_store(store_of(tmp_path / "data"))
    return tmp_path / "data"


def store(*words: object) -> int:
    return main(["store", *(str(word) for word in words)])


def test_a_sound_store_is_told_with_what_is_in_it(data: Path, capsys: Output) -> None:
    assert store("check") == 0
    printed = capsys.readouterr()
    assert "| metadata_keys  | 3 " in printed.out
    assert printed.err == ""


def test_what_is_in_a_store_can_be_read_by_programs(data: Path, capsys: Output) -> None:
    assert store("check", "--format=json") == 0
    contents, damages = json.loads(capsys.readouterr().out)
    figures = {row["what"]: row["value"] for row in contents["table"]}
    assert figures["metadata_keys"] == len(CONTENT)
    assert figures["segments"] == len(log_files(store_of(data)))
    assert damages["table"] == []
    assert store("check", "--format=csv") == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert ["metadata_keys", "3"] in rows


@pytest.mark.parametrize(
    "words", [["--data-dir", "data"], ["data"], ["data/store"], ["--config", "node.conf"], ["data/store.old"]]
)
def test_a_store_is_found_by_its_node_or_by_its_name(data: Path, capsys: Output, words: list[str]) -> None:
    Path("node.conf").write_text("platform_data_dir = data\nlistener.tcp.default = 127.0.0.1:1883\n")
    make_store(data / "store.old", {b"one": b"1"})
    assert store("check", *words) == 0
    assert f"| metadata_keys  | {1 if 'old' in words[-1] else 3} " in capsys.readouterr().out


def test_a_store_is_named_from_within_too(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store_of(data))
    assert store("check", ".") == 0
    with held(data):
        assert store("check", ".") == 1


def test_a_look_at_a_store_changes_nothing(data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    assert store("check") == 0
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before


def test_damage_is_told_with_its_place_and_what_to_do(data: Path, capsys: Output) -> None:
    file = damage(store_of(data))
    assert store("check") == 1
    printed = capsys.readouterr()
    assert f"{file.name}, byte 0: " in printed.out
    assert "sessions" not in printed.out
    assert printed.err.startswith("strogoff store check: data/store is damaged: restore a backup ")
    assert "--repair" in printed.err
    assert store("check", "--format=json") == 1
    _contents, damages = json.loads(capsys.readouterr().out)
    assert (damages["table"][0]["file"], damages["table"][0]["offset"]) == (file.name, 0)


def test_a_repaired_store_is_sound_and_keeps_the_damaged_file(data: Path, capsys: Output) -> None:
    file = damage(store_of(data))
    assert store("check", "--repair") == 0
    printed = capsys.readouterr()
    assert f"{file.name}, byte 0: " in printed.out
    assert "repaired; the damaged files are kept in data/store as NAME.damaged" in printed.err
    assert file.with_name(f"{file.name}.damaged").read_bytes()[:8] == b"garbage!"
    assert store("check") == 0
    content_of(store_of(data))


def test_nothing_is_repaired_that_is_sound(data: Path, capsys: Output) -> None:
    before = {path: path.read_bytes() for path in log_files(store_of(data))}
    assert store("check", "--repair") == 0
    assert "repaired" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in log_files(store_of(data))} == before


@pytest.mark.parametrize(
    "words", [["check"], ["check", "nowhere"], ["compact"], ["backup", "b.tar"], ["check", "--data-dir=elsewhere"]]
)
def test_where_there_is_no_store_none_is_made(tmp_path: Path, capsys: Output, words: list[str]) -> None:
    assert store(*words) == 1
    assert f"strogoff store {words[0]}: there is no store " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "advice"), [(["check"], True), (["check", "--repair"], True), (["restore", "b"], False)]
)
def test_what_needs_a_node_that_does_not_run_says_so(
    data: Path, capsys: Output, words: list[str], advice: bool
) -> None:
    Path("b").touch()
    with held(data):
        assert store(*words) == 1
    printed = capsys.readouterr()
    assert f"data is in use by process {os.getpid()}: stop it first" in printed.err
    assert ("strogoff store backup FILE" in printed.err) == advice
    assert printed.out == ""


def test_a_directory_that_is_held_by_what_is_no_node_is_told_so(data: Path, capsys: Output) -> None:
    with held(data):
        assert store("compact") == 1
    told = capsys.readouterr().err
    assert f"data is in use by process {os.getpid()}, but no node answers there: no node is running on" in told


def test_compacting_tells_both_sizes_and_keeps_what_there_is(data: Path, capsys: Output) -> None:
    assert store("compact") == 0
    assert " before, " in capsys.readouterr().out
    assert content_of(store_of(data)) == CONTENT


def test_a_backup_is_made_and_restored_elsewhere(data: Path, capsys: Output) -> None:
    Path("node.conf").write_text("nodename = me@here\nlistener.tcp.default = 127.0.0.1:1883\n")
    assert store("backup", "b.tar", "--config", "node.conf") == 0
    number = len(log_files(store_of(data)))
    assert f"b.tar: {number} file" in capsys.readouterr().out
    assert store("restore", "b.tar", "--data-dir", "new") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("new/store: restored from b.tar (me@here, made 20")
    assert second == "sessions: 0, messages: 0, of which retained: 0"
    assert content_of(store_of(Path("new"))) == CONTENT


def test_a_backup_does_not_overwrite_and_a_restore_does_not_replace_unasked(data: Path, capsys: Output) -> None:
    assert store("backup", "b.tar") == 0
    assert store("backup", "b.tar") == 1
    assert store("restore", "b.tar") == 1
    assert "b.tar exists" in (told := capsys.readouterr().err)
    assert "there is a store in data/store already: --replace" in told
    assert store("restore", "b.tar", "--replace") == 0
    assert "the former store is data/store.replaced-" in capsys.readouterr().out


def test_no_backup_is_made_of_a_damaged_store(data: Path, capsys: Output) -> None:
    damage(store_of(data))
    assert store("backup", "b.tar") == 1
    assert "see 'strogoff store check'" in capsys.readouterr().err
    assert not Path("b.tar").exists()


def test_a_backup_that_is_not_there_makes_no_data_directory(tmp_path: Path, capsys: Output) -> None:
    assert store("restore", "b.tar") == 1
    assert capsys.readouterr().err == "strogoff store restore: there is no file b.tar\n"
    assert list(tmp_path.iterdir()) == []


def test_a_configuration_with_errors_is_told(capsys: Output) -> None:
    Path("node.conf").write_text("store.sync = sometimes\n")
    assert store("check", "--config", "node.conf") == 3
    told = capsys.readouterr().err
    assert (
        told == "strogoff store check: node.conf:1: store.sync: expected always, interval or never, not 'sometimes'\n"
    )
