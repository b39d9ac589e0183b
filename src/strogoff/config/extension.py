"""Keys beyond the table of the package: those that plugins bring."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from strogoff.config.errors import Problem
from strogoff.config.keys import Key
from strogoff.config.notes import Note
from strogoff.config.sources import Assignment

if TYPE_CHECKING:
    from strogoff.config.settings import Configuration

__all__ = ["NO_EXTENSION", "Extend", "Extension"]


Check: TypeAlias = "Callable[[Configuration], tuple[list[Problem], list[Note]]]"
"""What is wrong with a configuration beyond its single keys, and what is probably not meant."""


@dataclasses.dataclass(frozen=True, slots=True)
class Extension:
    """More keys, what was wrong with their origin, first words whose keys are left unread, and what else is checked."""

    keys: tuple[Key, ...] = ()
    problems: tuple[Problem, ...] = ()
    ignored: frozenset[str] = frozenset()
    checks: tuple[Check, ...] = ()


NO_EXTENSION: Final = Extension()

Extend: TypeAlias = Callable[[Mapping[str, Assignment]], Extension]
"""Finds the extension that assignments, one for each key, ask for."""
