"""A store that is damaged is never opened as if nothing were: the broker says what is wrong, and does not start."""

import hashlib
import struct
import zlib

import pytest

from durability.node import Node
from durability.populated import Populated

START_FAILED = 4
HEADER = struct.Struct("<8sIIQ")
HEADER_BYTES = 32


def digests(node: Node) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in node.store.iterdir()}


def refuses(node: Node, *words: str) -> None:
    """The broker does not start, says these words, and leaves the files as they are."""
    before = digests(node)
    status, said = node.start_fails()
    assert status == START_FAILED
    last_line = said.rstrip().rpartition("\nstrogoff: ")[2]
    for word in words:
        assert word in last_line
    assert digests(node) == before


def test_a_sound_store_is_opened(killed: Populated) -> None:
    killed.node.start()
    killed.keeps_everything()


@pytest.mark.parametrize("number", [0, 30])
def test_a_byte_that_changed_is_reported_with_its_file_and_how_to_go_on(killed: Populated, number: int) -> None:
    segment = killed.spoil(number)
    refuses(
        killed.node, segment.name, "strogoff store restore", "strogoff store check --repair", str(killed.node.store)
    )


def test_a_byte_that_changed_in_synced_data_is_no_torn_end_even_in_the_last_file(killed: Populated) -> None:
    number = len(killed.payloads) - 6
    segment, _ = killed.place_of(number)
    assert segment in killed.node.segments()[-3:]
    killed.spoil(number)
    refuses(killed.node, segment.name)


def test_two_damaged_files_are_both_reported(killed: Populated) -> None:
    first, second = killed.spoil(0), killed.spoil(40)
    assert first != second
    refuses(killed.node, first.name, second.name)


@pytest.mark.parametrize("place", [0, 1], ids=["first", "middle"])
def test_a_missing_file_is_reported(killed: Populated, place: int) -> None:
    missing = killed.node.segments()[place]
    missing.unlink()
    refuses(killed.node, missing.name.removesuffix(".log"))


def test_a_file_that_was_cut_short_is_reported(killed: Populated) -> None:
    segment = killed.node.segments()[0]
    segment.write_bytes(segment.read_bytes()[: segment.stat().st_size // 2])
    refuses(killed.node, segment.name)


@pytest.mark.parametrize("content", [b"", bytes(65_536), b"not a segment at all" * 100], ids=["empty", "zeros", "text"])
def test_a_first_file_with_other_content_is_no_new_store(killed: Populated, content: bytes) -> None:
    segment = killed.node.segments()[0]
    segment.write_bytes(content)
    refuses(killed.node, segment.name)


def test_a_store_of_a_newer_version_is_refused_and_left_alone(killed: Populated) -> None:
    for segment in killed.node.segments():
        content = bytearray(segment.read_bytes())
        magic, version, number, reserved = HEADER.unpack_from(content)
        if magic != b"STROGOFF":
            continue
        head = HEADER.pack(magic, version + 1, number, reserved)
        head += bytes(content[HEADER.size : HEADER_BYTES - 4])
        content[:HEADER_BYTES] = head + zlib.crc32(head).to_bytes(4, "little")
        segment.write_bytes(content)
    refuses(killed.node, "newer version")


def test_a_store_that_was_refused_opens_when_its_file_is_put_back(killed: Populated) -> None:
    segment, _ = killed.place_of(0)
    sound = segment.read_bytes()
    killed.spoil(0)
    refuses(killed.node, segment.name)
    segment.write_bytes(sound)
    killed.node.start()
    killed.keeps_everything()


def test_a_store_that_cannot_be_read_by_the_broker_is_reported(killed: Populated) -> None:
    store = killed.node.store
    aside = store.with_name("aside")
    store.rename(aside)
    store.write_text("a file where the store should be")
    status, said = killed.node.start_fails()
    assert status == START_FAILED
    assert str(store) in said
    store.unlink()
    aside.rename(store)
    killed.node.start()
    killed.keeps_everything()
