"""`vmq-passwd`: the calls that scripts for VerneMQ make, and what becomes of the file."""

import subprocess
import sys
from pathlib import Path

import pytest

from strogoff._engine import PasswordTable

# Made by mosquitto_passwd 2.0.11, the second with -H sha512, which is the form of VerneMQ, too; both for "test".
FOREIGN = (
    b"bob:$7$101$wGh76qxvh0MtRYos$"
    b"akh4lOYXES5L719zj56ddK3tpxNDqNAanbRY87+nmWI3rqEaq+mMNvJ0acncHryuNa+BJ/FO/5CQLl9ca8clew==\n"
    b"ann:$6$EIT2rex5qnlYfRNw$"
    b"KyutIl4G5yX0DuZYaeT0hHOiZ9oLb9KXSPDdI7M3vXscEuepoZEzbXk0jWWYvxHZo3YI9iLmL2GHfhW3s1Vk6g==\n"
)


def run(*words: str | Path, typed: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "strogoff.cli.vmq_passwd", *map(str, words)]
    return subprocess.run(command, input=typed, capture_output=True, timeout=30, check=False)


def knows(file: Path, user: str, password: bytes) -> bool | None:
    table, remarks = PasswordTable.parse(file.read_bytes())
    assert remarks == []
    return table.check(user, password)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "vmq.passwd"
    assert run("-c", file, "ann", typed=b"one\none\n").returncode == 0
    return file


def test_a_new_file_is_for_its_owner_only_and_hashed_with_argon2id(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_bytes().startswith(b"ann:$argon2id$")
    assert knows(file, "ann", b"one") is True
    assert knows(file, "ann", b"two") is False


def test_an_existing_file_is_overwritten_only_by_force(file: Path) -> None:
    before = file.read_bytes()
    refused = run("-c", file, "bob", typed=b"x\nx\n")
    assert (refused.returncode, file.read_bytes()) == (1, before)
    assert b"-cf overwrites it" in refused.stderr
    assert run("-cf", file, "bob", typed=b"x\nx\n").returncode == 0
    assert knows(file, "ann", b"one") is None
    assert knows(file, "bob", b"x") is True


def test_a_user_is_added_or_replaced_and_the_mode_kept(file: Path) -> None:
    file.chmod(0o640)
    assert run(file, "bob", typed=b"x\nx\n").returncode == 0
    assert run(file, "ann", typed=b"two\r\ntwo\r\n").returncode == 0
    assert [knows(file, "ann", b"two"), knows(file, "ann", b"one"), knows(file, "bob", b"x")] == [True, False, True]
    assert [line.split(b":")[0] for line in file.read_bytes().splitlines()] == [b"ann", b"bob"]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]


def test_a_link_to_the_file_stays_a_link(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    assert run("-b", link, "bob", "x").returncode == 0
    assert link.is_symlink()
    assert knows(file, "bob", b"x") is True


def test_deleting_a_stranger_is_only_a_warning(file: Path) -> None:
    result = run("-D", file, "bob")
    assert (result.returncode, b"warning: bob is not in" in result.stderr) == (0, True)
    result = run("-D", file, "ann")
    assert (result.returncode, result.stderr, file.read_bytes()) == (0, b"", b"")


def test_plain_passwords_are_hashed_once(tmp_path: Path) -> None:
    file = tmp_path / "plain"
    file.write_bytes(b"# ours\nann:pass:word\r\nbob:two")
    assert run("-U", file).returncode == 0
    assert [knows(file, "ann", b"pass:word"), knows(file, "bob", b"two")] == [True, True]
    once = file.read_bytes()
    assert run("-U", file).returncode == 0
    assert file.read_bytes() == once


@pytest.mark.parametrize("line", [b"nothing", b"bob:", b"bob:$6$broken", b":x", b"\xff:x"])
def test_a_file_with_a_bad_line_stays_as_it_is(tmp_path: Path, line: bytes) -> None:
    file = tmp_path / "plain"
    file.write_bytes(b"ann:one\n" + line + b"\n")
    result = run("-U", file)
    assert (result.returncode, file.read_bytes()) == (1, b"ann:one\n" + line + b"\n")
    assert b"line 2" in result.stderr


def test_lines_of_other_programs_are_understood_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "vmq.passwd"
    file.write_bytes(FOREIGN)
    assert run("-U", file).returncode == 0
    assert file.read_bytes() == FOREIGN
    assert run("-b", file, "eve", "x").returncode == 0
    assert [knows(file, user, b"test") for user in ("ann", "bob", "eve")] == [True, True, False]


@pytest.mark.parametrize(
    ("words", "typed", "reason"),
    [
        (["FILE", "bob"], b"a\nb\n", b"not the same"),
        (["FILE", "bob"], b"a\n", b"not the same"),
        (["FILE", "bob"], b"\n\n", b"empty"),
        (["FILE", "bob"], b"x" * 1024 + b"\n" + b"x" * 1024 + b"\n", b"at most 1023"),
        (["FILE", "b:b"], b"a\na\n", b"':'"),
        (["FILE", "#b"], b"a\na\n", b"comment"),
        (["FILE", ""], b"a\na\n", b"empty"),
        (["FILE"], b"", b"expected FILE USER"),
        (["-U", "FILE", "bob"], b"", b"expected FILE"),
        (["-D", "-c", "FILE", "bob"], b"", b"not allowed with"),
        (["-f", "FILE", "bob"], b"", b"-f goes with -c"),
        (["FILE.missing", "bob"], b"", b"does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    file: Path, words: list[str], typed: bytes, reason: bytes
) -> None:
    before = file.read_bytes()
    result = run(*(word.replace("FILE", str(file)) for word in words), typed=typed)
    assert (result.returncode, file.read_bytes()) == (1, before)
    assert reason in result.stderr
