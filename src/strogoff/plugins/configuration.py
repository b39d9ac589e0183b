"""The keys of the plugins that a configuration asks for, so that they are checked like the broker's own."""

from collections.abc import Mapping
from pathlib import Path

from strogoff.bridge.settings import check_bridges
from strogoff.config import Extension, Key, Problem, key_table
from strogoff.config.sources import Assignment
from strogoff.config.values import NotOfTypeError, type_named
from strogoff.plugins.contract import settings_model
from strogoff.plugins.discovery import PluginNotFoundError, find_plugin
from strogoff.plugins.names import plugins_with_keys
from strogoff.plugins.settings import keys_of

__all__ = ["plugin_keys"]


def plugin_keys(assignments: Mapping[str, Assignment]) -> Extension:
    """The keys of all plugins that are named, whether on or off. Their code is loaded for that.

    A plugin that is off and cannot be loaded is no problem; its keys are left unread.
    """
    keys: list[Key] = []
    problems: list[Problem] = []
    ignored: set[str] = set()
    for name in plugins_with_keys(assignments):
        path = assignments.get(f"plugins.{name}.path")
        try:
            plugin = find_plugin(name, Path(path.text) if path else None)
            keys += keys_of(name, settings_model(plugin))
        except (PluginNotFoundError, TypeError) as error:
            ignored.add(name)
            switch = assignments.get(f"plugins.{name}")
            if switch is not None and _is_on(switch.text):
                problems.append(Problem(str(switch.source), str(error), f"plugins.{name}"))
    return Extension(tuple(keys), tuple(problems), frozenset(ignored), (check_bridges,))


def _is_on(text: str) -> bool:
    try:
        return type_named(key_table()["plugins.$name"].type_name).read(text).value is True
    except NotOfTypeError:
        return False
