"""Which plugins a configuration is about, without loading any of them."""

import importlib.metadata
from collections.abc import Iterable, Mapping

from strogoff.config import Extension, key_table
from strogoff.config.keys import split_key
from strogoff.config.sources import Assignment

__all__ = ["ENTRY_POINT_GROUP", "plugins_with_keys", "without_plugin_keys"]

ENTRY_POINT_GROUP = "strogoff.plugins"


def plugins_with_keys(keys: Iterable[str]) -> list[str]:
    """The plugins that are named by `plugins.NAME` or by the first word of a key that is not the broker's own."""
    known = {split_key(key.name)[0] for key in key_table()}
    named: dict[str, None] = {}
    strangers: dict[str, None] = {}
    for words in map(split_key, keys):
        if words[0] == "plugins" and len(words) >= 2:
            row = key_table().find(f"plugins.{words[1]}")
            if row is not None and row.is_pattern:
                named[words[1]] = None
        elif words[0] not in known:
            strangers[words[0]] = None
    if any(name not in named for name in strangers):
        installed = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP).names
        named |= {name: None for name in strangers if name in installed}
    return list(named)


def without_plugin_keys(assignments: Mapping[str, Assignment]) -> Extension:
    """Leave the keys of plugins unread: for programs that need the broker's own keys only."""
    return Extension(ignored=frozenset(plugins_with_keys(assignments)))
