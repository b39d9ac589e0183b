"""What a command line comes to: a command to run, or a text about how commands are used, which needs no node."""

from collections.abc import Sequence
from dataclasses import dataclass

from strogoff.admin.arguments import Call, parse
from strogoff.admin.registry import Command, Registry
from strogoff.admin.render import Format

__all__ = ["Help", "Order", "read_line"]


@dataclass(frozen=True, slots=True)
class Help:
    """A usage text, and the format it was asked for in."""

    text: str
    format: Format


@dataclass(frozen=True, slots=True)
class Order:
    """A command and what it was given."""

    command: Command
    call: Call


def read_line(registry: Registry, words: Sequence[str]) -> Help | Order:
    """Understand the words after the program's name. Raises `CommandError` that names the word that is wrong.

    `--help` asks for the usage text of a command; words that stop where commands begin ask which ones there are.
    """
    found = registry.find(words)
    if found.command is None:
        return Help(registry.usage(found.path), Format.HUMAN)
    call = parse(found.command, found.rest)
    if call.help:
        return Help(registry.usage(found.path), call.format)
    return Order(found.command, call)
