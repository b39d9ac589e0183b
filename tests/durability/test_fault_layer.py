"""The fault layer itself: what a program sees of its faults, and what a loss of power leaves of its files."""

import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from durability.faults import FaultLayer, clock_moved

PRELUDE = """
import errno, os
def file(name, flags=os.O_RDWR | os.O_CREAT): return os.open(os.path.join(TARGET, name), flags, 0o600)
def sync_directory():
    directory = os.open(TARGET, os.O_RDONLY); os.fsync(directory); os.close(directory)
def attempt(call, *arguments):
    try: return call(*arguments)
    except OSError as error: return errno.errorcode[error.errno]
"""


@pytest.fixture
def layer(fault_library: Path, tmp_path: Path) -> FaultLayer:
    target = tmp_path / "target"
    target.mkdir()
    return FaultLayer(fault_library, target, tmp_path / "layer")


def run(layer: FaultLayer, program: str) -> str:
    """What a Python program prints that runs above the layer."""
    whole = f"TARGET = {str(layer.target)!r}\n{PRELUDE}\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", whole],
        env=layer.environment(keep_journal=True),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("call", "program"),
    [
        ("write", "print(attempt(os.pwrite, file('a'), b'x', 0))"),
        ("write", "print(attempt(os.pwritev, file('a'), [b'x', b'y'], 0))"),
        ("write", "print(attempt(os.write, file('a'), b'x'))"),
        ("sync", "print(attempt(os.fdatasync, file('a')))"),
        ("sync", "print(attempt(os.fsync, file('a')))"),
        ("allocate", "print(attempt(os.posix_fallocate, file('a'), 0, 4096))"),
        ("allocate", "print(attempt(os.ftruncate, file('a'), 4096))"),
        ("create", "print(attempt(file, 'a'))"),
        ("remove", "file('a'); print(attempt(os.unlink, os.path.join(TARGET, 'a')))"),
    ],
)
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_call_fails_while_it_is_told_to(layer: FaultLayer, call: str, error: str, program: str) -> None:
    assert run(layer, program) != error
    (layer.target / "a").unlink(missing_ok=True)
    with layer.failing(call, error=error):  # type: ignore[arg-type]
        assert run(layer, program) == error
    (layer.target / "a").unlink(missing_ok=True)
    assert run(layer, program) != error


def test_files_elsewhere_are_left_alone(layer: FaultLayer, tmp_path: Path) -> None:
    with layer.failing("write", "sync", "create"):
        assert run(layer, f"a = file({str(tmp_path / 'b')!r}); print(os.pwrite(a, b'x', 0), os.fsync(a))") == "1 None"


def test_each_third_call_may_fail(layer: FaultLayer) -> None:
    with layer.failing("write", every=3):
        printed = run(layer, "a = file('a'); print(*[attempt(os.pwrite, a, b'x', at) for at in range(6)])")
    assert printed == "1 1 EIO 1 1 EIO"


def test_a_torn_write_leaves_its_first_half(layer: FaultLayer) -> None:
    with layer.failing("write", torn=True):
        assert run(layer, "print(attempt(os.pwrite, file('a'), b'abcd', 0))") == "EIO"
    assert (layer.target / "a").read_bytes() == b"ab"


def test_a_loss_of_power_takes_what_was_not_synced_and_no_more(layer: FaultLayer) -> None:
    run(
        layer,
        "a = file('a'); sync_directory(); os.ftruncate(a, 2048); os.pwrite(a, b'1' * 2048, 0); os.fdatasync(a)\n"
        "os.pwrite(a, b'2' * 600, 100)",
    )
    assert b"2" in (layer.target / "a").read_bytes()
    assert layer.lose_power().sectors == 2
    assert (layer.target / "a").read_bytes() == b"1" * 2048


def test_a_loss_of_power_may_take_single_sectors_in_any_order(layer: FaultLayer) -> None:
    outcomes = set()
    for seed in range(40):
        run(layer, "a = file('a'); os.pwrite(a, b'1' * 1024, 0); os.fdatasync(a); sync_directory()")
        run(layer, "a = file('a'); os.pwrite(a, b'2' * 1024, 0)")
        layer.lose_power(Random(seed))
        content = (layer.target / "a").read_bytes()
        outcomes.add(content[::512])
        assert content in (b"1" * 1024, b"1" * 512 + b"2" * 512, b"2" * 512 + b"1" * 512, b"2" * 1024)
        if len(outcomes) == 4:
            return
    pytest.fail(f"only these came about: {outcomes}")


def test_a_sector_is_never_older_than_its_last_sync(layer: FaultLayer) -> None:
    run(
        layer,
        "a = file('a'); sync_directory(); os.pwrite(a, b'1' * 512, 0); os.pwrite(a, b'2' * 10, 0); os.fdatasync(a)\n"
        "os.pwrite(a, b'3' * 5, 3); os.pwrite(a, b'4' * 5, 5)",
    )
    layer.lose_power()
    assert (layer.target / "a").read_bytes() == b"2" * 10 + b"1" * 502


def test_a_sync_that_failed_has_lost_the_writes_before_it(layer: FaultLayer) -> None:
    run(layer, "a = file('a'); sync_directory(); os.pwrite(a, b'1' * 1024, 0); os.fdatasync(a)")
    with layer.failing("sync"):
        run(layer, "a = file('a'); os.pwrite(a, b'2' * 512, 0); print(attempt(os.fdatasync, a))")
    run(layer, "a = file('a'); os.pwrite(a, b'3' * 512, 512); os.fdatasync(a)")
    layer.lose_power()
    assert (layer.target / "a").read_bytes() == b"1" * 512 + b"3" * 512


def test_what_is_written_again_after_a_failed_sync_is_safe(layer: FaultLayer) -> None:
    run(layer, "a = file('a'); sync_directory(); os.pwrite(a, b'1' * 512, 0); os.fdatasync(a)")
    with layer.failing("sync"):
        run(layer, "a = file('a'); os.pwrite(a, b'2' * 512, 0); print(attempt(os.fdatasync, a))")
    run(layer, "a = file('a'); os.pwrite(a, b'2' * 512, 0); os.fdatasync(a)")
    layer.lose_power()
    assert (layer.target / "a").read_bytes() == b"2" * 512


def test_a_new_file_is_lost_until_its_directory_is_synced(layer: FaultLayer) -> None:
    run(
        layer, "a = file('a'); os.pwrite(a, b'1', 0); os.fdatasync(a); sync_directory()\nb = file('b'); os.fdatasync(b)"
    )
    assert layer.lose_power().files_created == 1
    assert [path.name for path in layer.target.iterdir()] == ["a"]


def test_a_removed_file_comes_back_until_its_directory_is_synced(layer: FaultLayer) -> None:
    run(layer, "a = file('a'); os.pwrite(a, b'1', 0); os.fdatasync(a); sync_directory()")
    run(layer, "os.unlink(os.path.join(TARGET, 'a'))")
    assert not list(layer.target.iterdir())
    assert layer.lose_power().files_removed == 1
    assert (layer.target / "a").read_bytes() == b"1"
    run(layer, "os.unlink(os.path.join(TARGET, 'a')); sync_directory()")
    layer.lose_power()
    assert not list(layer.target.iterdir())


def test_a_size_is_lost_until_it_is_synced(layer: FaultLayer) -> None:
    run(layer, "a = file('a'); os.posix_fallocate(a, 0, 4096); sync_directory(); os.ftruncate(a, 8192)")
    layer.lose_power()
    assert (layer.target / "a").stat().st_size == 4096


def test_the_last_write_may_be_torn(layer: FaultLayer) -> None:
    run(
        layer,
        "a = file('a'); os.pwrite(a, b'1' * 100, 0); os.fdatasync(a); sync_directory(); os.pwrite(a, b'2' * 100, 100)",
    )
    spoilt = layer.garble_last_write(Random(1))
    content = (layer.target / "a").read_bytes()
    assert 1 <= spoilt <= 100
    assert content[: 200 - spoilt] == b"1" * 100 + b"2" * (100 - spoilt)
    assert content != b"1" * 100 + b"2" * 100


def test_the_clock_of_a_program_may_be_moved(fault_library: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"],
        env=clock_moved(fault_library, 3_600),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert 3_595 < float(done.stdout) - time.time() < 3_605
