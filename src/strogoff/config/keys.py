"""The keys that exist: the table `keys.csv` as objects, looked up by name, with the nearest name for an unknown one.

A row of the table is one key, or several that differ in one word: `listener.{tcp,ssl}.mountpoint`. `$name` in a key
stands for one word that the user chooses. The columns:

* `key`; `type`: see `values`; `default`: text in the syntax of the file, `^` to take the value of the level above
  (`listener.tcp.NAME.X`, then `listener.tcp.X`, then `listener.X`), `''` for an empty text, nothing for "not set";
* `active`: `engine` (handed to the engine), `control` (acts in the control plane), `later` (accepted, does not act
  yet), `never` (accepted, has no meaning here); `relevance`: where the key comes from;
* `runtime`: whether it may change while the broker runs; `hidden`: whether VerneMQ leaves it out of its generated file.

A new key is one row.
"""

import csv
import dataclasses
import difflib
import enum
import functools
import importlib.resources
import io
import re
from collections.abc import Iterable, Iterator

from strogoff.config.values import ValueType, type_named

__all__ = ["Activity", "Key", "KeyTable", "Relevance", "key_table", "levels", "split_key"]

WILDCARD = "$"
INHERITED = "^"
EMPTY = "''"
SUGGESTIONS_MAX = 1


class Relevance(enum.Enum):
    """Where a key comes from. All but `STROGOFF` are VerneMQ's."""

    CORE = "core"
    ERLANG_VM = "erlang-vm"
    STORAGE_TUNING = "storage-tuning"
    DEPRECATED = "deprecated"
    STROGOFF = "strogoff"


class Activity(enum.Enum):
    """Whether the broker acts on a key."""

    ENGINE = "engine"
    CONTROL = "control"
    LATER = "later"
    NEVER = "never"


@dataclasses.dataclass(frozen=True, slots=True)
class Key:
    """One row of the table. `name` may hold words such as `$name`; `default` is None where nothing is set."""

    name: str
    type_name: str
    default: str | None
    is_inherited: bool
    activity: Activity
    relevance: Relevance
    is_runtime_settable: bool
    is_hidden: bool
    documentation: str

    @property
    def type(self) -> ValueType:
        """What the key accepts."""
        return type_named(self.type_name)

    @property
    def is_active(self) -> bool:
        """Whether the broker acts on it now."""
        return self.activity in {Activity.ENGINE, Activity.CONTROL}

    @property
    def is_secret(self) -> bool:
        """Whether its value is not shown."""
        return self.type_name == "secret"

    @property
    def is_pattern(self) -> bool:
        """Whether a word of it is the user's choice."""
        return any(word.startswith(WILDCARD) for word in split_key(self.name))


def split_key(name: str) -> tuple[str, ...]:
    r"""The words of a key. A dot written `\.` belongs to its word (and stays written so)."""
    return tuple(re.split(r"(?<!\\)\.", name))


class KeyTable:
    """All keys. Immutable."""

    __slots__ = ("_by_name", "_patterns")

    def __init__(self, keys: list[Key]) -> None:
        self._by_name = {key.name: key for key in keys}
        assert len(self._by_name) == len(keys), "a key stands in the table once"
        # By number of words, first word and last word (`$` for any), so that a look-up compares few patterns.
        self._patterns: dict[tuple[int, str, str], list[tuple[tuple[str, ...], Key]]] = {}
        for key in keys:
            if key.is_pattern:
                words = split_key(key.name)
                last = WILDCARD if words[-1].startswith(WILDCARD) else words[-1]
                self._patterns.setdefault((len(words), words[0], last), []).append((words, key))

    def extended(self, keys: Iterable[Key]) -> "KeyTable":
        """This table with more keys. Where both have one, it is this table's."""
        new = [key for key in keys if key.name not in self._by_name]
        return KeyTable([*self._by_name.values(), *new]) if new else self

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __getitem__(self, name: str) -> Key:
        """As `find`. Raises `KeyError` for an unknown key."""
        key = self.find(name)
        if key is None:
            raise KeyError(name)
        return key

    def find(self, name: str) -> Key | None:
        """The row for a key as a user writes it; a key that is spelt out goes before a pattern."""
        if key := self._by_name.get(name):
            return key
        words = split_key(name)
        candidates = [
            (sum(not part.startswith(WILDCARD) for part in pattern), key)
            for last in (words[-1], WILDCARD)
            for pattern, key in self._patterns.get((len(words), words[0], last), ())
            if _matches(pattern, words)
        ]
        return max(candidates, key=lambda candidate: candidate[0])[1] if candidates else None

    def nearest(self, name: str) -> str | None:
        """The key that was perhaps meant, with the user's own words where a pattern leaves a choice."""
        words = split_key(name[:200])
        written = {_filled(split_key(key.name), words) for key in self}
        close = difflib.get_close_matches(name[:200], sorted(written), n=SUGGESTIONS_MAX, cutoff=0.7)
        return close[0] if close else None


def _matches(pattern: tuple[str, ...], words: tuple[str, ...]) -> bool:
    return all(part == word or (part.startswith(WILDCARD) and word) for part, word in zip(pattern, words, strict=True))


def _filled(pattern: tuple[str, ...], words: tuple[str, ...]) -> str:
    chosen = (*words, *[""] * len(pattern))
    return ".".join(
        (chosen[i] or part.removeprefix(WILDCARD).upper()) if part.startswith(WILDCARD) else part
        for i, part in enumerate(pattern)
    )


def levels(name: str) -> list[str]:
    """A key of a listener, then those it can inherit from: `listener.tcp.NAME.X`, `listener.tcp.X`, `listener.X`.

    Levels that do not exist are left out; any other key stands alone.
    """
    words = split_key(name)
    if words[0] != "listener" or len(words) < 3:
        return [name]
    above = [(*words[:2], *words[3:]), (words[0], *words[3:])] if len(words) > 3 else [(words[0], *words[2:])]
    names = [".".join(level) for level in above]
    return [name, *(level for level in names if (key := key_table().find(level)) and not key.is_pattern)]


@functools.cache
def key_table() -> KeyTable:
    """The table of this package. Read once."""
    text = importlib.resources.files("strogoff.config").joinpath("keys.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(io.StringIO(text), strict=True)
    return KeyTable([key for row in rows for key in _keys_of(row)])


def _keys_of(row: dict[str, str]) -> Iterator[Key]:
    for name in _spelt_out(row["key"]):
        default = row["default"]
        yield Key(
            name=name,
            type_name=row["type"],
            default={"": None, INHERITED: None, EMPTY: ""}.get(default, default),
            is_inherited=default == INHERITED,
            activity=Activity(row["active"]),
            relevance=Relevance(row["relevance"]),
            is_runtime_settable=row["runtime"] == "yes",
            is_hidden=row["hidden"] == "yes",
            documentation=row["documentation"],
        )


def _spelt_out(name: str) -> list[str]:
    match = re.fullmatch(r"([^{]*)\{([^}]+)\}(.*)", name)
    if not match:
        return [name]
    return [f"{match[1]}{word}{rest}" for word in match[2].split(",") for rest in _spelt_out(match[3])]
