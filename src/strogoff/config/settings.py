"""The configuration in force: every key's value and where it came from, checked once and then immutable."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from strogoff.config.discovery import discovery_problems
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.extension import NO_EXTENSION, Extension
from strogoff.config.keys import Activity, Key, KeyTable, key_table, levels, split_key
from strogoff.config.listeners import HTTP_FAMILIES, MQTT_FAMILIES, Listener, collect_listeners
from strogoff.config.notes import Note, NoteKind, note_on_join, notes_on_effect
from strogoff.config.placeholders import PlaceholderError, Placeholders
from strogoff.config.sources import DEFAULT, Assignment, Source
from strogoff.config.values import INHERIT, NotOfTypeError, Value

__all__ = ["Configuration", "EngineSetting", "Setting", "build_configuration", "problem_of_unknown_key"]

UNKNOWN_KEYS_SHOWN_MAX = 100
"""Looking for the nearest key takes milliseconds; whoever has more unknown keys has the wrong file."""

EngineSetting: TypeAlias = bool | int | str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A key that was given a value: the text with placeholders replaced, what it means, and where it came from."""

    key: Key
    text: str
    value: Value
    source: Source


@dataclasses.dataclass(frozen=True, slots=True)
class Configuration:
    """A checked configuration. Immutable; `runtime.change` makes another one.

    `listeners` are those for MQTT, `all_listeners` also the others. `notes` are for the user. `table`
    has the keys that there are, those of plugins among them.
    """

    assigned: Mapping[str, Setting]
    listeners: tuple[Listener, ...]
    all_listeners: tuple[Listener, ...]
    notes: tuple[Note, ...]
    file: Path | None = None
    table: KeyTable = dataclasses.field(default_factory=key_table, compare=False, repr=False)

    def get(self, name: str) -> Any:
        """The value of a key, inherited or default where it was not set. Its Python type: see `values`.

        Times are in the unit that the key's documentation names; `persistent_client_expiration` and
        `max_last_will_delay` in seconds. None: no limit, never, or not set. Raises `KeyError` for an unknown key.
        """
        return _value(self.assigned, self.table, name)

    def source_of(self, name: str) -> Source:
        """Where the value of a key came from. Raises `KeyError` for an unknown key."""
        return _source(self.assigned, self.table, name)

    def text_of(self, name: str) -> str | None:
        """The value as text in the syntax of the file, without quotes; None where nothing is set. Raises `KeyError`."""
        setting = _setting_in_force(self.assigned, self.table, name)
        return _default_in_force(self.table, name).default if setting is None else setting.text

    def engine_settings(self) -> dict[str, EngineSetting]:
        """What `Engine.configure` takes, by the names of the keys, and `workers`, which only the constructor takes.

        Units: `persistent_client_expiration`, `max_last_will_delay`, `expire_retain_cache` and `max_keep_alive` are
        seconds, `mqtt_connect_timeout` and `plugins.hook_timeout` milliseconds, sizes bytes. None: never, or as the
        client asks.
        """
        return {key.name: self.get(key.name) for key in self.table if key.activity is Activity.ENGINE}

    @property
    def http_listeners(self) -> tuple[Listener, ...]:
        """The listeners for HTTP, in the order of the file."""
        return tuple(listener for listener in self.all_listeners if listener.kind in HTTP_FAMILIES)

    @property
    def node_name(self) -> str:
        """`nodename`."""
        return str(self.get("nodename"))

    @property
    def data_directory(self) -> Path:
        """`platform_data_dir`."""
        return Path(self.get("platform_data_dir"))


def _setting_in_force(assigned: Mapping[str, Setting], table: KeyTable, name: str) -> Setting | None:
    """The assignment that decides about a key, None where a default does."""
    for level in levels(name):
        setting = assigned.get(level)
        if setting is not None and setting.value is not INHERIT:
            return setting
        if not table[level].is_inherited:
            break
    return None


def _default_in_force(table: KeyTable, name: str) -> Key:
    """The level whose default holds for a key that nobody set."""
    keys = [table[level] for level in levels(name)]
    return next((key for key in keys if not key.is_inherited), keys[-1])


def _value(assigned: Mapping[str, Setting], table: KeyTable, name: str) -> Value:
    if setting := _setting_in_force(assigned, table, name):
        return setting.value
    key = _default_in_force(table, name)
    return None if key.default is None else key.type.read(key.default).value


def _source(assigned: Mapping[str, Setting], table: KeyTable, name: str) -> Source:
    setting = _setting_in_force(assigned, table, name)
    return DEFAULT if setting is None else setting.source


def build_configuration(
    assignments: Iterable[Assignment],
    *,
    problems: Iterable[Problem] = (),
    notes: Iterable[Note] = (),
    file: Path | None = None,
    extension: Extension = NO_EXTENSION,
) -> Configuration:
    """Check assignments (weakest layer first; the last one of a key holds) and put them together.

    `problems` found before are told together with those found here. Raises `ConfigError` with all of them.
    """
    table = key_table().extended(extension.keys)
    given = tuple(item for item in assignments if split_key(item.key)[0] not in extension.ignored)
    found, told = [*problems, *extension.problems], list(notes)
    winners: dict[str, Assignment] = {}
    for assignment in given:
        winners.pop(assignment.key, None)
        winners[assignment.key] = assignment
    found += _unknown_keys(given, table)
    known = {name: item for name, item in winners.items() if table.find(name) and not _is_listener_off(item, table)}
    assigned = MappingProxyType(_read_all(known, table, found, told))
    understood = {name: assignment for name, assignment in known.items() if name in assigned}
    listeners, doubles, about_listeners = collect_listeners(
        understood, lambda name: _value(assigned, table, name), lambda name: _source(assigned, table, name)
    )
    found += doubles
    found += discovery_problems(lambda name: _value(assigned, table, name), listeners)
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    told += about_listeners
    told += notes_on_effect({name: (setting.key, setting.source) for name, setting in assigned.items()})
    told += _notes_on_join(assigned)
    active = tuple(listener for listener in listeners if listener.kind in MQTT_FAMILIES)
    configuration = Configuration(assigned, active, tuple(listeners), tuple(told), file, table)
    for check in extension.checks:
        more, about = check(configuration)
        found += more
        told += about
    if found:
        raise ConfigError(list(dict.fromkeys(found)))
    return dataclasses.replace(configuration, notes=tuple(told))


def _is_listener_off(assignment: Assignment, table: KeyTable) -> bool:
    """`listener.ws.default = off` takes away a listener that a weaker layer has."""
    key = table.find(assignment.key)
    return (
        key is not None
        and key.type_name in {"address", "listening"}
        and assignment.key.startswith("listener.")
        and assignment.text.strip().lower() == "off"
    )


def _notes_on_join(assigned: Mapping[str, Setting]) -> list[Note]:
    policy, guard = assigned.get("cluster.join_policy"), assigned.get("vmq_swc.prevent_nonempty_join")
    if policy is None or guard is None:
        return []
    note = note_on_join((str(policy.value), policy.source), (bool(guard.value), guard.source))
    return [] if note is None else [note]


def _unknown_keys(given: Iterable[Assignment], table: KeyTable) -> list[Problem]:
    """A problem each, also for one that is overruled: the mistake would come back when the other is removed."""
    unknown = [assignment for assignment in given if table.find(assignment.key) is None]
    return [problem_of_unknown_key(item.key, str(item.source), table) for item in unknown[:UNKNOWN_KEYS_SHOWN_MAX]]


def problem_of_unknown_key(name: str, where: str = "", table: KeyTable | None = None) -> Problem:
    """Says that there is no such key, and which one was perhaps meant. `where`: see `Problem`."""
    nearest = (table or key_table()).nearest(name)
    advice = f"did you mean {nearest}?" if nearest else "strogoff config generate lists the keys"
    return Problem(where, "there is no such key", name[:200], advice)


def _read_all(
    known: Mapping[str, Assignment], table: KeyTable, problems: list[Problem], notes: list[Note]
) -> dict[str, Setting]:
    placeholders = Placeholders(known, lambda name: _default_text(table, name))
    settings: dict[str, Setting] = {}
    for name, assignment in known.items():
        key = table[name]
        try:
            text = placeholders.text_of(name)
            reading = key.type.read(text)
        except (PlaceholderError, NotOfTypeError) as error:
            if key.activity is Activity.NEVER:
                sentence = f"{name} ({assignment.source}): {_message(error, key)}; it does not matter here"
                notes.append(Note(NoteKind.WARNING, sentence, (name,)))
                settings[name] = Setting(key, assignment.text, assignment.text, assignment.source)
            else:
                problems.append(Problem(str(assignment.source), _message(error, key), name))
            continue
        settings[name] = Setting(key, text, reading.value, assignment.source)
        if reading.remark and key.activity is not Activity.NEVER:
            notes.append(Note(NoteKind.WARNING, f"{name} ({assignment.source}): {reading.remark}", (name,)))
    return settings


def _message(error: ValueError, key: Key) -> str:
    if key.is_secret and isinstance(error, NotOfTypeError):
        return f"expected {key.type.expected}"
    return str(error)


def _default_text(table: KeyTable, name: str) -> str | None:
    key = table.find(name)
    return key.default if key else None
