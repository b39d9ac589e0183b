"""Configuration: the keys, the file format, the environment and runtime changes, as one typed, immutable object.

`load()` reads everything there is into a `Configuration`; `change()` makes another one at run time; `check()`,
`show()`, `describe()` and `generate()` answer the command line.
"""

from strogoff.config.addresses import Address, UnixSocket
from strogoff.config.errors import ConfigError, Problem
from strogoff.config.extension import Extend, Extension
from strogoff.config.keys import Activity, Key, KeyTable, Relevance, key_table
from strogoff.config.listeners import Listener
from strogoff.config.loading import FoundFile, find_file, load
from strogoff.config.notes import Note, NoteKind
from strogoff.config.reports import KeyDescription, Report, Row, check, describe, generate, show
from strogoff.config.runtime import change, changeable_keys, engine_changes
from strogoff.config.settings import Configuration, EngineSetting, Setting
from strogoff.config.sources import Origin, Source

__all__ = [
    "Activity",
    "Address",
    "ConfigError",
    "Configuration",
    "EngineSetting",
    "Extend",
    "Extension",
    "FoundFile",
    "Key",
    "KeyDescription",
    "KeyTable",
    "Listener",
    "Note",
    "NoteKind",
    "Origin",
    "Problem",
    "Relevance",
    "Report",
    "Row",
    "Setting",
    "Source",
    "UnixSocket",
    "change",
    "changeable_keys",
    "check",
    "describe",
    "engine_changes",
    "find_file",
    "generate",
    "key_table",
    "load",
    "show",
]
