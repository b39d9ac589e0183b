"""The volumes of a pod as directories: what is in them, and whom they belong to."""

import os
import shutil
import stat
from pathlib import Path
from typing import Any

from e2e.kubelet.environment import Data, PodFacts
from e2e.kubelet.manifests import Manifest, ManifestError

_EMPTY_MODE = 0o777
_FILE_MODE = 0o644


def is_of_data(volume: Manifest) -> bool:
    """Whether it shows what stands in maps and secrets, and follows their changes."""
    return any(kind in volume for kind in ("configMap", "secret", "projected", "downwardAPI"))


def make_volume(volume: Manifest, directory: Path, data: Data, facts: PodFacts, fs_group: int | None) -> None:
    """Fill a directory, which is made if need be. Raises `ManifestError`."""
    is_new = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    if "emptyDir" in volume or "persistentVolumeClaim" in volume:
        if is_new and "emptyDir" in volume:
            directory.chmod(_EMPTY_MODE)
    elif is_of_data(volume):
        _write_files(directory, _files_of(volume, data, facts))
    else:
        kinds = ", ".join(sorted(set(volume) - {"name"}))
        raise ManifestError(f"volume {volume['name']}: the stand-in does not know {kinds}")
    if fs_group is not None:
        give_to_group(directory, fs_group)


def _files_of(volume: Manifest, data: Data, facts: PodFacts) -> dict[str, tuple[bytes, int]]:
    """Path in the volume -> content and mode."""
    if "projected" in volume:
        files: dict[str, tuple[bytes, int]] = {}
        default = volume["projected"].get("defaultMode")
        for source in volume["projected"]["sources"]:
            files |= _files_of_source(source, data, facts, default)
        return files
    return _files_of_source(volume, data, facts, None)


def _files_of_source(
    source: Manifest, data: Data, facts: PodFacts, default_mode: int | None
) -> dict[str, tuple[bytes, int]]:
    for kind in ("configMap", "secret"):
        if kind in source:
            what: dict[str, Any] = source[kind]
            name = what.get("name") or what["secretName"]
            entries = data.entries(kind, name, is_optional=bool(what.get("optional")))
            mode = what.get("defaultMode", default_mode or _FILE_MODE)
            items = what.get("items") or [{"key": key, "path": key} for key in entries]
            missing = [item["key"] for item in items if item["key"] not in entries]
            if missing:
                raise ManifestError(f"the {kind} {name} has no {', '.join(missing)}")
            return {item["path"]: (entries[item["key"]], item.get("mode", mode)) for item in items}
    if "downwardAPI" in source:
        items = source["downwardAPI"]["items"]
        return {item["path"]: (facts.field(item["fieldRef"]["fieldPath"]).encode(), _FILE_MODE) for item in items}
    raise ManifestError(f"a projected volume: the stand-in does not know {', '.join(source)}")


def _write_files(directory: Path, files: dict[str, tuple[bytes, int]]) -> None:
    """Each file changes at once; those that are not there any more go."""
    for name, (content, mode) in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() == content:
            continue
        new = path.with_name(f"..new-{path.name}")
        new.write_bytes(content)
        new.chmod(mode)
        new.replace(path)
    for path in directory.rglob("*"):
        if path.is_file() and str(path.relative_to(directory)) not in files:
            path.unlink()


def give_to_group(directory: Path, group: int) -> None:
    """As `fsGroup` does each time that a volume is mounted: the group may read and write whatever is there."""
    for path in (directory, *directory.rglob("*")):
        if path.is_symlink():
            continue
        mode = stat.S_IMODE(path.stat().st_mode) | 0o660
        if path.is_dir():
            mode |= stat.S_ISGID | 0o110
        os.chown(path, -1, group)
        path.chmod(mode)


def remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
