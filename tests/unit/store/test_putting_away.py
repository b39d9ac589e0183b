"""What a node had that was taken out of its cluster is put away, whatever comes between."""

from pathlib import Path

from strogoff.store.putting_away import note_removal, put_away


def removed(directory: Path, *, has_left: bool = False) -> Path:
    note_removal(directory, told_by="one@h", sessions=3, messages=4, retained=5, has_left=has_left)
    store = directory / "store"
    store.mkdir()
    (store / "0000000001.log").write_bytes(b"all that there is")
    return store


def test_without_a_note_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert put_away(tmp_path) is None
    assert (tmp_path / "store").is_dir()


def test_the_store_is_beside_its_place_once_and_what_was_in_it_is_told(tmp_path: Path) -> None:
    store = removed(tmp_path)
    found = put_away(tmp_path)
    assert found is not None
    path, removal = found
    assert (removal.told_by, removal.sessions, removal.messages, removal.retained) == ("one@h", 3, 4, 5)
    assert path.name == f"store.removed-{removal.at}"
    assert (path / "0000000001.log").read_bytes() == b"all that there is"
    assert not store.exists()
    assert put_away(tmp_path) is None


def test_what_was_put_away_before_is_never_overwritten(tmp_path: Path) -> None:
    removed(tmp_path)
    first = put_away(tmp_path)
    assert first is not None
    note = tmp_path / "removed-from-cluster.json"
    removed(tmp_path)
    note.write_text(note.read_text().replace(note.read_text().split('"at": "')[1].split('"')[0], first[1].at))
    second = put_away(tmp_path)
    assert second is not None
    assert second[0] != first[0]
    assert second[0].is_dir()
    assert first[0].is_dir()


def test_a_crash_between_the_two_steps_is_made_up_for(tmp_path: Path) -> None:
    store = removed(tmp_path)
    store.rename(tmp_path / "elsewhere")
    assert put_away(tmp_path) is not None
    assert put_away(tmp_path) is None


def test_a_damaged_note_counts(tmp_path: Path) -> None:
    store = removed(tmp_path)
    (tmp_path / "removed-from-cluster.json").write_text("{")
    found = put_away(tmp_path)
    assert found is not None
    assert found[0].name == "store.removed-unknown"
    assert not store.exists()


def test_of_a_node_that_has_left_the_latest_state_is_kept(tmp_path: Path) -> None:
    removed(tmp_path)
    of_removal = put_away(tmp_path)
    kept: list[Path] = []
    for _ in range(3):
        removed(tmp_path, has_left=True)
        found = put_away(tmp_path)
        assert found is not None
        assert found[1].has_left
        kept.append(found[0])
    # What was put away after a removal may be all that there is of something.
    assert of_removal is not None
    assert sorted(tmp_path.glob("store*")) == sorted([kept[-1], of_removal[0]])


def test_a_crash_after_a_node_has_left_loses_nothing_that_was_put_away(tmp_path: Path) -> None:
    store = removed(tmp_path, has_left=True)
    note = (tmp_path / "removed-from-cluster.json").read_text()
    found = put_away(tmp_path)
    assert found is not None
    (tmp_path / "removed-from-cluster.json").write_text(note)
    assert put_away(tmp_path) is not None
    assert (found[0] / "0000000001.log").exists()
    assert not store.exists()
