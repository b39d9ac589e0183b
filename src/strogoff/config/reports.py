"""The answers of `strogoff config` as data and text: check, show, describe, generate. Nothing here prints."""

import dataclasses
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path

from strogoff.config.errors import ConfigError, Problem
from strogoff.config.extension import Extend
from strogoff.config.keys import Activity, Key, KeyTable, Relevance, key_table, levels
from strogoff.config.loading import BUILT_IN_ADDRESS, BUILT_IN_LISTENER, load
from strogoff.config.notes import Note
from strogoff.config.settings import Configuration, problem_of_unknown_key
from strogoff.config.sources import Source

__all__ = ["KeyDescription", "Report", "Row", "check", "describe", "generate", "show"]

HIDDEN_SECRET = "********"  # noqa: S105 (what stands in place of a secret)
LINE_WIDTH = 100

_STATES = {
    Activity.ENGINE: "active",
    Activity.CONTROL: "active",
    Activity.LATER: "known, not active yet",
    Activity.NEVER: "accepted, does not apply to Strogoff",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What is to say about a file. `configuration` is None when there are problems."""

    path: Path
    problems: tuple[Problem, ...]
    notes: tuple[Note, ...]
    configuration: Configuration | None

    @property
    def is_usable(self) -> bool:
        """Whether a broker would start with it."""
        return not self.problems


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A key with its value as text (a secret's hidden) and where it came from."""

    key: str
    value: str
    source: Source


@dataclasses.dataclass(frozen=True, slots=True)
class KeyDescription:
    """What there is to know about a key. `name` is as asked, `pattern` as it stands in the table.

    `default` is None where nothing is set; `inherits_from` names the key whose value holds then.
    """

    name: str
    pattern: str
    expected: str
    default: str | None
    inherits_from: str | None
    documentation: str
    state: str
    relevance: Relevance
    is_runtime_settable: bool
    is_hidden: bool

    def __str__(self) -> str:
        """Some lines for a person."""
        default = f"as {self.inherits_from}" if self.inherits_from else "not set"
        if self.default is not None:
            default = self.default or "''"
        lines = [
            self.name,
            *textwrap.wrap(self.documentation, LINE_WIDTH, initial_indent="  ", subsequent_indent="  "),
            f"  accepts: {self.expected}",
            f"  default: {default}",
            f"  state:   {self.state}" + ("; may change at run time" if self.is_runtime_settable else ""),
        ]
        return "\n".join(lines)


def check(path: Path, *, environment: Mapping[str, str] | None = None, extend: Extend | None = None) -> Report:
    """Read a file (and the variables of `environment`) as a start would. Never raises for what the file says."""
    try:
        configuration = load(path, environment=environment, extend=extend)
    except ConfigError as error:
        return Report(path, error.problems, (), None)
    return Report(path, (), configuration.notes, configuration)


def show(configuration: Configuration, keys: Iterable[str] = (), *, only_set: bool = False) -> list[Row]:
    """Keys with values: those asked for, else all that were set and, unless `only_set`, the active ones with a default.

    Raises `ConfigError` for an unknown key.
    """
    names = list(keys)
    table = configuration.table
    problems = [problem_of_unknown_key(name, table=table) for name in names if table.find(name) is None]
    if problems:
        raise ConfigError(problems)
    if not names:
        active = () if only_set else (key.name for key in table if key.is_active and not key.is_pattern)
        names = sorted({*active, *configuration.assigned})
    return [_row(configuration, name) for name in names]


def describe(name: str, table: KeyTable | None = None) -> KeyDescription:
    """What a key means; also for one with a name of the user's choice, or with `$name`. Raises `ConfigError`."""
    keys = table or key_table()
    key = keys.find(name)
    if key is None:
        raise ConfigError([problem_of_unknown_key(name, table=keys)])
    return KeyDescription(
        name=name,
        pattern=key.name,
        expected=key.type.expected,
        default=key.default,
        inherits_from=levels(name)[1] if key.is_inherited else None,
        documentation=key.documentation,
        state=_STATES[key.activity],
        relevance=key.relevance,
        is_runtime_settable=key.is_runtime_settable and key.is_active,
        is_hidden=key.is_hidden,
    )


def generate() -> str:
    """A file with every active key, its documentation and its default, and a listener on loopback.

    Keys without a plain default (those of a listener by name, and those that inherit) are shown as comments.
    """
    header = "# Configuration of Strogoff. What stands here are the defaults: remove what you do not change."
    blocks = [_block(key) for key in key_table() if key.is_active]
    return "\n\n".join([header, *blocks]) + "\n"


def _block(key: Key) -> str:
    lines = textwrap.wrap(key.documentation, LINE_WIDTH, initial_indent="## ", subsequent_indent="## ")
    lines += textwrap.wrap(f"Accepts {key.type.expected}.", LINE_WIDTH, initial_indent="## ", subsequent_indent="## ")
    name = key.name.replace("$name", "default")
    if name == BUILT_IN_LISTENER:
        return "\n".join([*lines, f"{name} = {BUILT_IN_ADDRESS}"])
    if key.is_inherited:
        return "\n".join([*lines, f"## Where it is not set, {levels(name)[1]} holds.", f"# {name} = VALUE"])
    if key.default is None:
        return "\n".join([*lines, f"# {name} = VALUE"])
    assignment = f"{name} = {_quoted(key.default)}"
    return "\n".join([*lines, f"# {assignment}" if key.is_pattern else assignment])


def _quoted(text: str) -> str:
    is_plain = text and "#" not in text and text.strip() == text and text[0] not in "'\""
    return text if is_plain else f"'{text}'"


def _row(configuration: Configuration, name: str) -> Row:
    text = configuration.text_of(name)
    hidden = configuration.table[name].is_secret and text
    return Row(name, HIDDEN_SECRET if hidden else text or "", configuration.source_of(name))
