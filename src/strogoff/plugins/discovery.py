"""Where plugins come from: those of the broker, installed packages, a directory that the configuration names."""

import importlib.metadata
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final

from strogoff.plugins.contract import Plugin
from strogoff.plugins.names import ENTRY_POINT_GROUP

__all__ = ["BUILT_IN", "PluginNotFoundError", "find_plugin", "installed"]


BUILT_IN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vmq_acl": "strogoff.plugins.builtin.vmq_acl:AccessRules",
        "vmq_bridge": "strogoff.plugins.builtin.vmq_bridge:BridgePlugin",
        "vmq_passwd": "strogoff.plugins.builtin.vmq_passwd:Passwords",
    }
)
"""The plugins that come with the broker: name -> `module:class`."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


class PluginNotFoundError(Exception):
    """There is no such plugin, or its code cannot be loaded. The message says where was looked and what happened."""


def installed() -> list[str]:
    """The names of all plugins that can be enabled without a path."""
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    return sorted({*BUILT_IN, *points.names})


def find_plugin(name: str, directory: Path | None = None) -> type[Plugin]:
    """The class of a plugin: from `directory` where one is given, else the broker's own, else an installed one.

    Raises `PluginNotFoundError`.
    """
    if not _NAME.fullmatch(name):
        raise PluginNotFoundError(f"{name[:80]!r} is not a name of a plugin: expected letters, digits, _ and -")
    if directory is not None:
        return _from_directory(name, directory)
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return _checked(name, getattr(importlib.import_module(module), attribute), module)
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP, name=name)
    if not points:
        known = ", ".join(installed())
        message = f"there is no plugin {name}: installed are {known}; one in a directory needs plugins.{name}.path"
        raise PluginNotFoundError(message)
    point = next(iter(points))
    try:
        loaded = point.load()
    except Exception as error:
        raise PluginNotFoundError(f"the plugin {name} ({point.value}) cannot be loaded: {error!r}") from error
    return _checked(name, loaded, point.value)


def _from_directory(name: str, directory: Path) -> type[Plugin]:
    stem = name.replace("-", "_")
    candidates = (directory / f"{stem}.py", directory / stem / "__init__.py")
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        looked = " and ".join(str(candidate) for candidate in candidates)
        raise PluginNotFoundError(f"there is no plugin {name} in {directory}: looked for {looked}")
    module = _load(name, stem, file)
    found = [
        member
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, Plugin) and member.__dict__.get("name") == name
    ]
    if len(found) != 1:
        message = f"{file} has {len(found)} classes derived from Plugin with name = {name!r}; one is needed"
        raise PluginNotFoundError(message)
    return _checked(name, found[0], str(file))


def _load(name: str, stem: str, file: Path) -> ModuleType:
    """Execute the file anew each time, so that a plugin that was changed can be enabled without a restart."""
    full_name = f"strogoff_plugins.{stem}"
    for loaded in [key for key in sys.modules if key == full_name or key.startswith(f"{full_name}.")]:
        del sys.modules[loaded]
    locations = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(full_name, file, submodule_search_locations=locations)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full_name] = module
    try:
        # Not through the cache of compiled files: its time stamps miss a second change within a second.
        source = file.read_bytes()
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102 - loading code is what this is for
    except Exception as error:
        del sys.modules[full_name]
        raise PluginNotFoundError(f"the plugin {name} cannot be loaded from {file}: {error!r}") from error
    return module


def _checked(name: str, found: object, place: str) -> type[Plugin]:
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise PluginNotFoundError(f"the plugin {name} ({place}) is not a class derived from strogoff.plugins.Plugin")
    if getattr(found, "name", None) != name:
        raise PluginNotFoundError(f"{place} calls itself {getattr(found, 'name', None)!r}, not {name!r}")
    return found
