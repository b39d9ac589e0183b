"""What a loss of power undoes: reads the journal that `fault.c` keeps, and takes back what was not synced.

The model is a disk that writes sectors of 512 bytes in any order between two syncs, and a file system that keeps the
order in which files come and go:

* A write is safe when the first sync of its file that began after it succeeded. After a sync that failed the kernel
  holds the pages for clean, so a later sync that succeeds does not save what was written before.
* A sector is left as some earlier write left it, never older than the last safe one.
* That a file was created or removed is safe when its directory was synced afterwards.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

__all__ = ["SECTOR_BYTES", "Lost", "garble_last_write", "lose_power"]

SECTOR_BYTES = 512

# As `struct head` in fault.c.
_HEAD = struct.Struct("<c3xIQQQ")


@dataclass(slots=True)
class _Write:
    position: int
    offset: int
    former: bytes
    size_before: int
    is_safe: bool | None = None
    """What the first sync after it came to; None: there was none."""

    @property
    def end(self) -> int:
        return self.offset + len(self.former)


@dataclass(slots=True)
class _File:
    """One file from its creation to its removal; a name that is used again is another file."""

    name: str
    writes: list[_Write] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """Changes of the size that were not synced: position of the record, size before."""


@dataclass(slots=True)
class _Passage:
    """A file came or, with a grave, went."""

    position: int
    file: _File
    grave: Path | None = None


@dataclass(slots=True)
class Lost:
    """What was taken back."""

    sectors: int = 0
    files_created: int = 0
    files_removed: int = 0


@dataclass(slots=True)
class _History:
    directory: Path
    graves: Path
    files: dict[str, _File] = field(default_factory=dict)
    """The files that are there now."""
    passages: list[_Passage] = field(default_factory=list)
    """Those that are not safe, in order."""

    def read(self, journal: Path) -> None:
        for kind, position, name, offset, former, data in _records(journal):
            file = self.files.setdefault(name, _File(name))
            if kind == "W":
                file.writes.append(_Write(position, offset, data, former))
            elif kind == "A":
                file.sizes.append((position, former))
            elif kind in "SF":
                _judge(file, covered=former, is_safe=kind == "S")
            elif kind == "C":
                self.files[name] = _File(name)
                self.passages.append(_Passage(position, self.files[name]))
            elif kind == "U":
                self.passages.append(_Passage(position, self.files.pop(name), self.graves / str(former)))
            elif kind == "D":
                self.passages = [each for each in self.passages if each.position >= former]
                for each in self.files.values():
                    each.sizes = [size for size in each.sizes if size[0] >= former]


def lose_power(directory: Path, journal: Path, graves: Path, rng: Random | None = None) -> Lost:
    """Take back what was not synced: all of it, or with `rng` a part by chance. The program must be dead.

    The journal begins anew.
    """
    history = _History(directory, graves)
    history.read(journal)
    lost = Lost()
    kept = rng.randint(0, len(history.passages)) if rng is not None else 0
    for passage in reversed(history.passages[kept:]):
        _undo_passage(history, passage, lost)
    for file in history.files.values():
        if (directory / file.name).is_file():
            lost.sectors += _undo_writes(directory / file.name, file, rng)
    _begin_anew(journal, graves)
    return lost


def garble_last_write(directory: Path, journal: Path, graves: Path, rng: Random) -> int:
    """Spoil the end of the last write that was not synced, as if the disk had stopped in it: cut, or garbled.

    Gives the number of bytes that were spoilt, 0 when all was synced. The journal begins anew.
    """
    history = _History(directory, graves)
    history.read(journal)
    pending = [
        (write, file) for file in history.files.values() for write in file.writes if not write.is_safe and write.former
    ]
    spoilt = 0
    if pending:
        last, file = max(pending, key=lambda each: each[0].position)
        spoilt = rng.randint(1, len(last.former))
        noise = bytes(spoilt) if rng.random() < 0.5 else rng.randbytes(spoilt)
        with (directory / file.name).open("r+b") as opened:
            opened.seek(last.end - spoilt)
            opened.write(noise)
    _begin_anew(journal, graves)
    return spoilt


def _records(journal: Path) -> Iterator[tuple[str, int, str, int, int, bytes]]:
    """Kind, position, name, offset, the number whose meaning depends on the kind, former bytes."""
    content = journal.read_bytes() if journal.exists() else b""
    at = 0
    while at + _HEAD.size <= len(content):
        kind, name_size, offset, data_size, former = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + name_size + data_size
        if end > len(content):
            # The program was killed in it, so the write that it announces has not begun.
            return
        name = content[at + _HEAD.size : end - data_size].decode()
        yield kind.decode(), at + 1, name, offset, former, content[end - data_size : end]
        at = end


def _judge(file: _File, *, covered: int, is_safe: bool) -> None:
    for write in reversed(file.writes):
        if write.is_safe is not None and write.position < covered:
            break
        if write.position < covered:
            write.is_safe = is_safe
    if is_safe:
        file.sizes = [size for size in file.sizes if size[0] >= covered]


def _undo_passage(history: _History, passage: _Passage, lost: Lost) -> None:
    path = history.directory / passage.file.name
    if passage.grave is None:
        path.unlink(missing_ok=True)
        history.files.pop(passage.file.name, None)
        lost.files_created += 1
    elif not path.exists():
        path.hardlink_to(passage.grave)
        history.files[passage.file.name] = passage.file
        lost.files_removed += 1


def _undo_writes(path: Path, file: _File, rng: Random | None) -> int:
    """Gives how many sectors have changed."""
    content = bytearray(path.read_bytes())
    before = bytes(content)
    touched: dict[int, list[_Write]] = {}
    for write in file.writes:
        for sector in range(write.offset // SECTOR_BYTES, (write.end - 1) // SECTOR_BYTES + 1):
            if write.is_safe:
                touched[sector] = []
            else:
                touched.setdefault(sector, []).append(write)
    for sector, writes in touched.items():
        kept = rng.randint(0, len(writes)) if rng is not None else 0
        for write in reversed(writes[kept:]):
            _undo_in_sector(content, sector, write)
    del content[_size_left(file, len(content), rng) :]
    path.write_bytes(content)
    ends = range(0, max(len(before), len(content)), SECTOR_BYTES)
    return sum(before[at : at + SECTOR_BYTES] != content[at : at + SECTOR_BYTES] for at in ends)


def _undo_in_sector(content: bytearray, sector: int, write: _Write) -> None:
    start = max(write.offset, sector * SECTOR_BYTES)
    end = min(write.end, (sector + 1) * SECTOR_BYTES, len(content))
    if start < end:
        content[start:end] = write.former[start - write.offset : end - write.offset]


def _size_left(file: _File, size: int, rng: Random | None) -> int:
    """What the file ends at: changes of its size are lost in order, from the last one back."""
    former = list(file.sizes)
    former += [(write.position, write.size_before) for write in file.writes if not write.is_safe]
    sizes = [each for _, each in sorted(former) if each < size]
    kept = rng.randint(0, len(sizes)) if rng is not None else 0
    return min(sizes[kept:], default=size)


def _begin_anew(journal: Path, graves: Path) -> None:
    journal.unlink(missing_ok=True)
    for grave in graves.iterdir():
        grave.unlink()
