"""`strogoff store check`, `compact`, `backup` and `restore` with a real node, running or not."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker_process import BrokerProcess
from durability.node import End, Node, both_ends, session_present
from durability.populated import SETTINGS, Populated
from protocol.client import Network
from protocol.marks import V5
from strogoff.data_directory import LOCK_NAME

running_or_not = pytest.mark.parametrize("is_running", [True, False], ids=["running", "stopped"])


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def failed(result: subprocess.CompletedProcess[str]) -> str:
    """What it says for a reason; it says it on standard error."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("strogoff store ")
    assert "Traceback" not in result.stderr
    return result.stderr


def table(text: str) -> dict[str, str]:
    """The rows of a table of two columns."""
    rows = (line.strip("|").split("|") for line in text.splitlines() if line.startswith("|"))
    return {row[0].strip(): row[1].strip() for row in rows if len(row) == 2}


def content(store: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in store.iterdir()}


@contextmanager
def another_node(directory: Path) -> Iterator[tuple[BrokerProcess, Network]]:
    """A node in another data directory, for a backup to be restored to."""
    directory.mkdir()
    broker = BrokerProcess(directory, SETTINGS)
    broker.data_directory.mkdir(mode=0o700)
    with closing(Network(0)) as net:
        try:
            yield broker, net
        finally:
            broker.stop()


def started(broker: BrokerProcess, net: Network) -> Network:
    broker.start()
    net.port = broker.port
    return net


# -- check -------------------------------------------------------------------------------------------------------------


@both_ends
def test_check_says_what_is_in_a_sound_store(running: Populated, end: End) -> None:
    running.node.end(end)
    before = content(running.node.store)
    rows = table(done(running.node.strogoff("store", "check")))
    assert rows["sessions"] == "1"
    # The retained message is one of them.
    assert int(rows["messages"]) == len(running.payloads) + 1
    assert rows["retained"] == "1"
    assert content(running.node.store) == before


def test_check_of_a_running_node_points_to_the_backup(running: Populated) -> None:
    said = failed(running.node.strogoff("store", "check"))
    assert str(running.node.broker.pid) in said
    assert "strogoff store backup" in said


def test_check_takes_a_directory(killed: Populated) -> None:
    for directory in (killed.node.broker.data_directory, killed.node.store):
        result = killed.node.broker.program("strogoff", "store", "check", str(directory))
        assert table(done(result))["sessions"] == "1"


def test_check_tells_each_damage_and_changes_nothing(killed: Populated) -> None:
    files = [killed.spoil(number) for number in (0, 40)]
    places = [killed.place_of(number + 1) for number in (0, 40)]
    before = content(killed.node.store)
    result = killed.node.strogoff("store", "check")
    said = failed(result)
    assert "strogoff store restore" in said
    assert "--repair" in said
    lines = result.stdout.splitlines()
    for file, (_, at) in zip(files, places, strict=True):
        (line,) = (line for line in lines if line.startswith(file.name))
        offset = int("".join(each for each in line.partition(",")[2].partition(":")[0] if each.isdigit()))
        assert at - 2 * 3_200 < offset < at
    assert content(killed.node.store) == before


def test_repair_keeps_all_that_can_be_read(killed: Populated) -> None:
    damaged = [killed.spoil(number) for number in (3, 40)]
    done(killed.node.strogoff("store", "check", "--repair"))
    for file in damaged:
        assert file.with_name(f"{file.name}.damaged").exists()
    assert table(done(killed.node.strogoff("store", "check")))["messages"] == str(len(killed.payloads) - 1)
    killed.node.start()
    killed.keeps_everything(without=(3, 40))


def test_repair_of_a_sound_store_changes_nothing(killed: Populated) -> None:
    before = content(killed.node.store)
    done(killed.node.strogoff("store", "check", "--repair"))
    assert content(killed.node.store) == before


def test_check_of_a_directory_without_a_store_fails(killed: Populated, tmp_path: Path) -> None:
    assert str(tmp_path) in failed(killed.node.broker.program("strogoff", "store", "check", str(tmp_path)))


# -- compact -----------------------------------------------------------------------------------------------------------


def size(node: Node) -> int:
    return sum(segment.stat().st_size for segment in node.segments())


@pytest.mark.parametrize("is_down", [False, True], ids=["running", "stopped"])
def test_compact_wins_space_back_and_keeps_what_is_needed(running: Populated, is_down: bool) -> None:
    client = running.node.net.resume(V5, running.client_id)
    client.receive_payloads(len(running.payloads) - 5)
    client.close()
    running.payloads = running.payloads[-5:]
    if is_down:
        running.node.broker.stop()
    before = size(running.node)
    done(running.node.strogoff("store", "compact"))
    assert size(running.node) <= before
    if not is_down:
        running.node.broker.kill()
    running.node.start()
    running.keeps_everything()


def test_vmq_admin_compacts_too(running: Populated) -> None:
    running.node.broker.admin("store", "compact")
    running.keeps_everything()


# -- backup ------------------------------------------------------------------------------------------------------------


@running_or_not
def test_a_backup_has_a_manifest_and_the_files_it_names(killed: Populated, tmp_path: Path, is_running: bool) -> None:
    if is_running:
        killed.node.start()
    file = tmp_path / "backup.tar"
    done(killed.node.strogoff("store", "backup", str(file)))
    with tarfile.open(file, "r:") as archive:
        members = {name: archive.extractfile(name) for name in archive.getnames()}
        contents = {name: member.read() for name, member in members.items() if member is not None}
    manifest = json.loads(contents.pop("manifest.json"))
    text = json.dumps(manifest)
    assert contents
    for name, data in contents.items():
        assert name in text
        assert hashlib.sha256(data).hexdigest() in text
    assert 1 in manifest.values()
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_backup_of_a_running_node_is_restored_elsewhere(running: Populated, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    done(running.node.strogoff("store", "backup", str(file)))
    with another_node(tmp_path / "other") as (broker, net):
        directory = str(broker.data_directory)
        done(running.node.broker.program("strogoff", "store", "restore", str(file), "--data-dir", directory))
        running.keeps_everything(started(broker, net))
    running.publish(1)
    running.keeps_everything()


def test_a_backup_taken_under_load_has_all_that_was_acknowledged_before(running: Populated, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    acknowledged = len(running.payloads)
    stop = threading.Event()

    def publish() -> None:
        while not stop.is_set():
            running.publish(10)

    load = threading.Thread(target=publish)
    load.start()
    try:
        done(running.node.strogoff("store", "backup", str(file)))
    finally:
        stop.set()
        load.join()
    with another_node(tmp_path / "other") as (broker, net):
        directory = str(broker.data_directory)
        done(running.node.broker.program("strogoff", "store", "restore", str(file), "--data-dir", directory))
        client = started(broker, net).resume(V5, running.client_id)
        assert session_present(client)
        assert client.receive_payloads(acknowledged) == running.payloads[:acknowledged]
    running.keeps_everything()


@running_or_not
def test_a_backup_does_not_overwrite_a_file(killed: Populated, tmp_path: Path, is_running: bool) -> None:
    if is_running:
        killed.node.start()
    file = tmp_path / "backup.tar"
    file.write_text("precious")
    assert str(file) in failed(killed.node.strogoff("store", "backup", str(file)))
    assert file.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["backup.tar"]


def test_a_backup_that_fails_leaves_nothing_and_the_store_goes_on(running: Populated, tmp_path: Path) -> None:
    failed(running.node.strogoff("store", "backup", str(tmp_path / "missing" / "backup.tar")))
    file = tmp_path / "backup.tar"
    done(running.node.strogoff("store", "backup", str(file)))
    running.keeps_everything()


def test_a_damaged_store_is_not_backed_up(killed: Populated, tmp_path: Path) -> None:
    killed.spoil(0)
    failed(killed.node.strogoff("store", "backup", str(tmp_path / "backup.tar")))
    assert not list(tmp_path.iterdir())


# -- restore -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backup(filled_store: Populated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of what the node `killed` has."""
    file = tmp_path_factory.mktemp("backup") / "backup.tar"
    done(filled_store.node.strogoff("store", "backup", str(file)))
    return file


@pytest.fixture
def saved(backup: Path, tmp_path: Path) -> Path:
    """The same, for a test to spoil."""
    return Path(shutil.copy(backup, tmp_path / "backup.tar"))


def test_restore_refuses_a_running_node(running: Populated, saved: Path) -> None:
    assert str(running.node.broker.pid) in failed(running.node.strogoff("store", "restore", str(saved), "--replace"))
    running.keeps_everything()


def test_restore_refuses_to_overwrite_a_store(killed: Populated, saved: Path) -> None:
    before = content(killed.node.store)
    assert "--replace" in failed(killed.node.strogoff("store", "restore", str(saved)))
    assert content(killed.node.store) == before


def test_restore_with_replace_puts_the_former_store_aside(killed: Populated, saved: Path) -> None:
    at_backup = list(killed.payloads)
    killed.node.start()
    killed.publish(3)
    killed.node.broker.stop()
    before = content(killed.node.store)
    done(killed.node.strogoff("store", "restore", str(saved), "--replace"))
    (aside,) = killed.node.broker.data_directory.glob("store.replaced-*")
    assert content(aside) == before
    done(killed.node.broker.program("strogoff", "store", "check", str(aside)))
    killed.payloads = at_backup
    killed.node.start()
    killed.keeps_everything()


def test_a_damaged_store_is_replaced_by_a_backup(killed: Populated, saved: Path) -> None:
    killed.spoil(0)
    assert killed.node.start_fails()[0] == 4
    done(killed.node.strogoff("store", "restore", str(saved), "--replace"))
    killed.node.start()
    killed.keeps_everything()


def rewritten(saved: Path, change: Callable[[str, bytes], Iterator[tuple[str, bytes]]]) -> None:
    """Write the archive anew with changed members."""
    with tarfile.open(saved, "r:") as archive:
        members = [(name, member.read()) for name in archive.getnames() if (member := archive.extractfile(name))]
    with tarfile.open(saved, "w:") as archive:
        for name, data in members:
            for new_name, new_data in change(name, data):
                entry = tarfile.TarInfo(new_name)
                entry.size = len(new_data)
                archive.addfile(entry, io.BytesIO(new_data))


def spoilt(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, data if name == "manifest.json" else data[:500] + bytes([data[500] ^ 1]) + data[501:]


def without_manifest(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if name != "manifest.json":
        yield name, data


def without_a_file(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if name != "0000000001.log":
        yield name, data


def with_a_foreign_name(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if name == "manifest.json":
        yield "../evil.log", b"evil"
    yield name, data


def with_another_file(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    if name == "manifest.json":
        yield "0000009999.log", b"evil"
    yield name, data


@pytest.mark.parametrize(
    "change",
    [spoilt, without_manifest, without_a_file, with_a_foreign_name, with_another_file],
    ids=lambda each: each.__name__,
)
def test_restore_refuses_an_archive_that_is_not_as_it_was_written(
    killed: Populated, saved: Path, change: Callable[[str, bytes], Iterator[tuple[str, bytes]]]
) -> None:
    rewritten(saved, change)
    data_directory = killed.node.broker.data_directory
    before = content(killed.node.store)
    failed(killed.node.strogoff("store", "restore", str(saved), "--replace"))
    assert content(killed.node.store) == before
    assert {path.name for path in data_directory.iterdir()} <= {"store", LOCK_NAME}
    assert not list(data_directory.parent.rglob("evil.log"))


def half(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[: saved.stat().st_size // 2])


def no_archive(saved: Path) -> None:
    saved.write_bytes(b"not a tar" * 1_000)


@pytest.mark.parametrize("spoil", [half, no_archive, Path.unlink], ids=lambda each: each.__name__)
def test_restore_refuses_what_is_no_whole_archive(
    killed: Populated, saved: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(saved)
    before = content(killed.node.store)
    failed(killed.node.strogoff("store", "restore", str(saved), "--replace"))
    assert content(killed.node.store) == before
