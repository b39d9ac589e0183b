"""Keys beyond the table of the package: those that plugins bring."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from strogoff.config.errors import Problem
from strogoff.config.keys import Key
from strogoff.config.sources import Assignment

__all__ = ["NO_EXTENSION", "Extend", "Extension"]


@dataclasses.dataclass(frozen=True, slots=True)
class Extension:
    """More keys, what was wrong with their origin, and first words whose keys are left unread."""

    keys: tuple[Key, ...] = ()
    problems: tuple[Problem, ...] = ()
    ignored: frozenset[str] = frozenset()


NO_EXTENSION: Final = Extension()

Extend: TypeAlias = Callable[[Mapping[str, Assignment]], Extension]
"""Finds the extension that assignments, one for each key, ask for."""
