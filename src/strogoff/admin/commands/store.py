"""`store backup` and `store compact`: care for the store while the node runs."""

from pathlib import Path

from strogoff import _engine
from strogoff.admin.arguments import Call
from strogoff.admin.registry import Flag, command
from strogoff.admin.result import CommandError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.store.archive import BackupError, Manifest
from strogoff.store.files import readable_size
from strogoff.store.node_store import StoreCareError

__all__ = ["COMMANDS", "backup_result", "compact_result", "progress_text"]


@command(
    "store backup",
    "Write all that this node keeps into a file, while it runs.",
    description="""
The file is a tar archive, which 'strogoff store restore' reads. The node writes it, so the path is absolute, and seen
from the node. A file that exists is not overwritten.
""",
    flags=(Flag("file", "the file to write", short="f", metavar="PATH"),),
    is_lasting=True,
)
async def backup(broker: Broker, call: Call) -> Result:
    """Says how large it is. What clients do meanwhile is not held up."""
    path = Path(call.value("file"))
    if not path.is_absolute():
        raise CommandError("'store backup' needs --file=PATH with an absolute path: the node writes the file")
    try:
        manifest = await broker.store.backup(path, lambda done, total: call.tell(progress_text("backup", done, total)))
    except (BackupError, StoreCareError, _engine.StoreError) as error:
        raise CommandError(str(error)) from None
    return backup_result(path, manifest)


@command(
    "store compact",
    "Win back the space of what is no longer needed, now.",
    description="The node does so by itself, bit by bit. This does all of it at once.",
    is_lasting=True,
)
async def compact(broker: Broker, call: Call) -> Result:
    """Says how large the files were and are."""
    call.tell("compacting")
    try:
        before, after = await broker.store.compact()
    except (StoreCareError, _engine.StoreError) as error:
        raise CommandError(str(error)) from None
    return compact_result(before, after)


COMMANDS = (backup, compact)


def backup_result(path: Path, manifest: Manifest) -> Result:
    """What there is to say about a backup that was made."""
    number = len(manifest.files)
    text = f"{path}: {number} {'file' if number == 1 else 'files'}, {readable_size(manifest.size)}"
    return Result.of(Text(text, Table(("file", "files", "size"), [(str(path), number, manifest.size)])))


def compact_result(before: int, after: int) -> Result:
    """What there is to say about a store that was compacted; sizes in bytes."""
    text = f"{readable_size(before)} before, {readable_size(after)} now"
    return Result.of(Text(text, Table(("before", "after"), [(before, after)])))


def progress_text(doing: str, done: int, total: int) -> str:
    """A line about how far something is that counts bytes."""
    share = 100 * done // max(total, 1)
    return f"{doing}: {share}% ({readable_size(done)} of {readable_size(total)})"
