"""Changes while the broker runs: which keys may change, and the configuration after a change."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from strogoff.config.environment import unquoted
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.keys import Key, KeyTable, key_table
from strogoff.config.settings import Configuration, EngineSetting, Setting, problem_of_unknown_key
from strogoff.config.sources import Origin, Source
from strogoff.config.values import NotOfTypeError

__all__ = ["change", "changeable_keys", "engine_changes"]

RUNTIME = Source(Origin.RUNTIME)


def changeable_keys() -> list[Key]:
    """The broker's own keys that may change at run time, in the order of the table."""
    return [key for key in key_table() if key.is_active and key.is_runtime_settable]


def change(configuration: Configuration, changes: Mapping[str, str]) -> Configuration:
    """The configuration with some keys changed: texts in the syntax of the file, by key. All or nothing.

    Nothing is read again: files and placeholders stay as they were. Raises `ConfigError` with everything that is wrong:
    a key that is unknown, does not act or cannot change at run time, a value that the key does not accept.
    """
    settings: dict[str, Setting] = {}
    problems: list[Problem] = []
    for name, text in changes.items():
        changed = _changed(configuration.table, name, unquoted(text.strip()))
        if isinstance(changed, Problem):
            problems.append(changed)
        else:
            settings[name] = changed
    if problems:
        raise ConfigError(problems)
    return dataclasses.replace(configuration, assigned=MappingProxyType({**configuration.assigned, **settings}))


def engine_changes(before: Configuration, after: Configuration) -> dict[str, EngineSetting]:
    """The engine's settings that differ, for `Engine.configure`."""
    old = before.engine_settings()
    return {name: value for name, value in after.engine_settings().items() if value != old[name]}


def _changed(table: KeyTable, name: str, text: str) -> Setting | Problem:
    key = table.find(name)
    if key is None:
        return problem_of_unknown_key(name, table=table)
    if not key.is_active:
        return Problem("", "this key has no effect in this version, so a change would have none", name)
    if not key.is_runtime_settable:
        advice = "change it in the configuration file and start the broker again"
        return Problem("", "cannot change while the broker runs", name, advice)
    try:
        return Setting(key, text, key.type.read(text).value, RUNTIME)
    except NotOfTypeError as error:
        return Problem("", str(error), name)
