"""A backup as a file: a plain tar of the store's files, and behind them `manifest.json`, which says what they must be.

The manifest comes last, so a backup is written in one pass, and one that breaks off has none. Stretches of zeros, which
is what room for more messages looks like, are left out of the files on disk (holes), here and when it is unpacked.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias

from strogoff.store.files import is_file_name, readable_size

__all__ = ["BackupError", "Manifest", "StoredFile", "Watch", "sync_directory", "unpack_backup", "write_backup"]

Watch: TypeAlias = Callable[[int, int], None]
"""Is told how many bytes of how many are done. What it raises ends the work, which then cleans up."""

MANIFEST_NAME = "manifest.json"
MANIFEST_SIZE_MAX = 64 << 20
FORMAT = 1
_PIECE_SIZE = 256 << 10
_ZEROS = bytes(_PIECE_SIZE)
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_WITHOUT_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class BackupError(Exception):
    """A backup cannot be written, read or put in its place; the message says which file, why, and what to do."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a store as a manifest lists it."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds and where it came from. `made_at` is ISO 8601 in UTC, `program` the version of Strogoff."""

    node: str
    made_at: str
    program: str
    files: tuple[StoredFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1).encode()

    @staticmethod
    def decode(text: bytes) -> "Manifest":
        """From JSON. Raises `ValueError` with a sentence about the backup."""
        try:
            data = json.loads(text)
            written_in = int(data["format"])
            files = tuple(_file_from(entry) for entry in data["files"]) if written_in <= FORMAT else ()
            manifest = Manifest(str(data["node"]), str(data["made_at"]), str(data["program"]), files)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"its {MANIFEST_NAME} cannot be understood ({error!r})") from error
        if written_in > FORMAT:
            raise ValueError(f"it was made by the newer Strogoff {manifest.program}: use that, or a later one")
        return manifest


def _file_from(entry: dict[str, Any]) -> StoredFile:
    file = StoredFile(str(entry["name"]), int(entry["size"]), str(entry["sha256"]))
    if not is_file_name(file.name) or file.size < 0 or not re.fullmatch("[0-9a-f]{64}", file.sha256):
        raise ValueError(f"not a file of a store: {entry}")
    return file


# -- writing -------------------------------------------------------------------------------------------------------


def write_backup(destination: Path, files: Sequence[Path], *, origin: Manifest, watch: Watch) -> Manifest:
    """Write a backup of `files`, which must not change meanwhile, and have it on the disk before it gets its name.

    `origin` is the manifest but for the files. Nothing is ever overwritten. Raises `BackupError`, and what `watch`
    raises; nothing is left behind then.
    """
    if destination.parent.resolve() in {path.parent.resolve() for path in files}:
        raise BackupError(f"{destination} would stand among the files of the store: use another directory")
    sizes = _sizes_of(files)
    _check_room(destination, sum(sizes.values()))
    try:
        with _partial(destination) as (partial, output):
            manifest = _write_tar(output, sizes, origin, watch)
            _give_name(partial, destination)
            sync_directory(destination.parent)
    except OSError as error:
        raise BackupError(f"{destination} cannot be written: {error.strerror or error}") from error
    return manifest


def sync_directory(directory: Path) -> None:
    """Have the names in a directory on the disk. Raises `OSError`."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sizes_of(files: Sequence[Path]) -> dict[Path, int]:
    try:
        return {path: path.stat().st_size for path in files}
    except OSError as error:
        raise BackupError(f"{error.filename} cannot be read: {error.strerror}") from error


def _check_room(destination: Path, needed: int) -> None:
    """Refuse a backup that would fill the disk, of which the store itself may need the rest."""
    if os.path.lexists(destination):
        raise BackupError(f"{destination} exists: use another name, or remove it")
    try:
        free = shutil.disk_usage(destination.parent).free
    except OSError as error:
        raise BackupError(f"the directory {destination.parent} cannot be used: {error.strerror}") from error
    if free < needed:
        sizes = f"up to {readable_size(needed)} are needed, {readable_size(free)} are free"
        raise BackupError(f"there is not enough room for {destination}: {sizes}")


@contextlib.contextmanager
def _partial(destination: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The file that is written before it gets its name. It is gone when the work is done, or has failed.

    Its lock tells a leftover of a crash, which is overwritten, from a backup that another program is writing.
    Raises `BackupError` and `OSError`.
    """
    partial = destination.with_name(f"{destination.name}.partial")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupError(f"{destination} is being written by another program") from None
        try:
            os.ftruncate(descriptor, 0)
            yield partial, output
        finally:
            partial.unlink(missing_ok=True)


def _give_name(partial: Path, destination: Path) -> None:
    """A link, unlike a rename, does not replace what somebody may have put there meanwhile."""
    try:
        destination.hardlink_to(partial)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        partial.rename(destination)


def _write_tar(output: BinaryIO, sizes: dict[Path, int], origin: Manifest, watch: Watch) -> Manifest:
    """The whole archive, and all of it on the disk."""
    done, total = 0, sum(sizes.values())
    files = []
    for path, size in sizes.items():
        digest = hashlib.sha256()
        output.write(_header(path.name, size))
        for piece in _pieces_of(path, size):
            digest.update(piece)
            _write_with_holes(output, piece)
            done += len(piece)
            watch(done, total)
        _pad(output)
        # File by file, so that the disk never has to take everything at once while the store waits for it, too.
        output.flush()
        os.fdatasync(output.fileno())
        files.append(StoredFile(path.name, size, digest.hexdigest()))
    manifest = Manifest(origin.node, origin.made_at, origin.program, tuple(files))
    text = manifest.encode()
    output.write(_header(MANIFEST_NAME, len(text)) + text)
    _pad(output)
    output.write(bytes(2 * tarfile.BLOCKSIZE))
    output.truncate()
    os.fsync(output.fileno())
    return manifest


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o600
    return entry.tobuf(tarfile.PAX_FORMAT)


def _pad(output: BinaryIO) -> None:
    output.write(bytes(-output.tell() % tarfile.BLOCKSIZE))


def _pieces_of(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes of a file. Raises `BackupError` when it has fewer, or cannot be read."""
    try:
        with path.open("rb", buffering=0) as source:
            left = size
            while left:
                piece = source.read(min(left, _PIECE_SIZE))
                if not piece:
                    raise BackupError(f"{path} became shorter while it was read")
                left -= len(piece)
                yield piece
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}") from error


def _write_with_holes(output: BinaryIO, piece: bytes) -> None:
    if piece == _ZEROS[: len(piece)]:
        output.seek(len(piece), os.SEEK_CUR)
    else:
        output.write(piece)


# -- reading -------------------------------------------------------------------------------------------------------


def unpack_backup(source: Path, target: Path, watch: Watch) -> Manifest:
    """Unpack a backup into the empty directory `target`, where everything is on the disk then, and as it was written.

    Nothing of what the archive says about names and kinds of files is believed. Raises `BackupError`, and what `watch`
    raises; what was unpacked until then stays.
    """
    try:
        with tarfile.open(source, "r:") as archive:
            total = source.stat().st_size
            manifest, found = _unpack_all(archive, target, lambda: watch(archive.offset, total))
        _check(manifest, found)
        sync_directory(target)
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{source} is not a backup, or compressed, or not complete ({error})") from error
    except ValueError as error:
        raise BackupError(f"{source} is not a sound backup: {error}") from error
    except OSError as error:
        raise BackupError(f"{source} cannot be unpacked into {target}: {error.strerror or error}") from error
    return manifest


def _unpack_all(
    archive: tarfile.TarFile, target: Path, watch: Callable[[], None]
) -> tuple[Manifest, dict[str, StoredFile]]:
    found: dict[str, StoredFile] = {}
    for entry in archive:
        content = archive.extractfile(entry) if entry.type in _REGULAR and entry.sparse is None else None
        if content is None or entry.name in found:
            raise ValueError(f"no backup has the entry {entry.name!r} in this place")
        if entry.name == MANIFEST_NAME:
            return Manifest.decode(content.read(MANIFEST_SIZE_MAX)), found
        if not is_file_name(entry.name):
            raise ValueError(f"no backup has the entry {entry.name!r}")
        found[entry.name] = _unpack_file(entry.name, content, target / entry.name)
        watch()
    raise ValueError("it breaks off before its end")


def _unpack_file(name: str, content: IO[bytes], path: Path) -> StoredFile:
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        while piece := content.read(_PIECE_SIZE):
            digest.update(piece)
            _write_with_holes(output, piece)
        output.truncate()
        os.fsync(output.fileno())
        return StoredFile(name, output.tell(), digest.hexdigest())


def _check(manifest: Manifest, found: dict[str, StoredFile]) -> None:
    """Raises `ValueError` unless the files are those of the manifest, byte for byte."""
    for file in manifest.files:
        if found.get(file.name) != file:
            state = "is not in it" if file.name not in found else "is not as it was when the backup was made"
            raise ValueError(f"{file.name} {state}; use another backup")
    if surplus := found.keys() - {file.name for file in manifest.files}:
        raise ValueError(f"{min(surplus)} is not in its manifest")
