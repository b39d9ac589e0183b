"""The tree of commands: what a command declares about itself, how it is found, the usage text made from it."""

import enum
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from strogoff.admin.result import CommandError, Result

if TYPE_CHECKING:
    from strogoff.admin.arguments import Call
    from strogoff.broker import Broker

__all__ = ["Argument", "Command", "Flag", "FlagKind", "Found", "Reach", "Registry", "command"]

Handler: TypeAlias = "Callable[[Broker, Call], Awaitable[Result]]"

PROGRAM = "vmq-admin"


class FlagKind(enum.Enum):
    """What may follow a flag."""

    SWITCH = "switch"
    """Nothing, or `=true` / `=false`."""
    VALUE = "value"
    """A value, always."""
    FIELD = "field"
    """A value makes it a filter, none makes it a column."""


class Reach(enum.Enum):
    """Which nodes of the cluster answer a command. Where several may, `--node=NODE` asks that node alone."""

    NODE = "node"
    """The one that was asked."""
    NODES_ASKED_FOR = "nodes asked for"
    """The one that was asked; all that can be reached with a bare `--node`, or with `--all` where there is that."""
    CLUSTER = "cluster"
    """All that can be reached."""
    WHERE_IT_IS = "where it is"
    """The one that was asked, and where it has not got what the command is about, the first that has."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A `name=value` argument."""

    name: str
    help: str
    required: bool = False
    metavar: str = "VALUE"


@dataclass(frozen=True, slots=True)
class Flag:
    """A `--name` flag, perhaps with a letter of its own. Written with `-` or `_`, it is the same flag."""

    name: str
    help: str
    short: str | None = None
    kind: FlagKind = FlagKind.VALUE
    metavar: str = "VALUE"

    def usage(self) -> str:
        """The flag as the usage text writes it."""
        long = {
            FlagKind.SWITCH: f"--{self.name}",
            FlagKind.VALUE: f"--{self.name}={self.metavar}",
            FlagKind.FIELD: f"--{self.name}[={self.metavar}]",
        }[self.kind]
        return f"-{self.short}, {long}" if self.short else f"    {long}"


@dataclass(frozen=True, slots=True)
class Command:
    """One command: where it stands in the tree, what it takes, and the function that answers.

    `any_argument`, `any_flag` and `words` are the usage texts (`KEY=VALUE`) of what is accepted beyond the declared
    names, None where that is refused. A command that `is_lasting` may take any time; it tells how far it is, and is
    cancelled when whoever asked goes away.
    """

    path: tuple[str, ...]
    summary: str
    handler: Handler
    description: str = ""
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()
    any_argument: str | None = None
    any_flag: str | None = None
    words: str | None = None
    is_lasting: bool = False
    reach: Reach = Reach.NODE

    def usage(self) -> str:
        """The whole usage text, without a line end at its end."""
        synopsis = [PROGRAM, *self.path]
        synopsis += [_synopsis_of(argument) for argument in self.arguments]
        synopsis += [f"[{text} ...]" for text in (self.any_argument, self.words, self.any_flag) if text]
        if self.flags:
            synopsis.append("[FLAGS]")
        paragraphs = [f"Usage: {' '.join(synopsis)}", f"  {self.summary}"]
        if self.description:
            paragraphs.append("\n".join(f"  {line}".rstrip() for line in self.description.strip().split("\n")))
        if self.arguments:
            rows = [(f"{argument.name}={argument.metavar}", argument.help) for argument in self.arguments]
            paragraphs.append(_listing("Arguments", rows))
        rows = [(flag.usage(), flag.help) for flag in self.flags]
        rows += [("    --format=FORMAT", "human (default), json or csv"), ("-h, --help", "this text")]
        paragraphs.append(_listing("Flags", rows))
        return "\n\n".join(paragraphs)


def command(  # noqa: PLR0913 - all that a command can declare, by name
    path: str,
    summary: str,
    *,
    description: str = "",
    arguments: Sequence[Argument] = (),
    flags: Sequence[Flag] = (),
    any_argument: str | None = None,
    any_flag: str | None = None,
    words: str | None = None,
    is_lasting: bool = False,
    reach: Reach = Reach.NODE,
) -> Callable[[Handler], Command]:
    """Declare the function below as the command `path` (words with blanks between)."""

    def declare(handler: Handler) -> Command:
        return Command(
            tuple(path.split()),
            summary,
            handler,
            description,
            tuple(arguments),
            tuple(flags),
            any_argument,
            any_flag,
            words,
            is_lasting,
            reach,
        )

    return declare


@dataclass(frozen=True, slots=True)
class Found:
    """What the words of a command line led to: a command, or a place in the tree where commands begin (None)."""

    path: tuple[str, ...]
    command: Command | None
    rest: tuple[str, ...]


class Registry:
    """All commands, by their paths."""

    __slots__ = ("_commands", "_places")

    def __init__(self, commands: Iterable[Command]) -> None:
        self._commands = {command.path: command for command in commands}
        self._places = {path[:depth] for path in self._commands for depth in range(len(path))}

    def extended(self, commands: Iterable[Command]) -> "Registry":
        """This tree with more commands."""
        return Registry([*self._commands.values(), *commands])

    def first_words(self) -> set[str]:
        """The words with which commands begin."""
        return {path[0] for path in self._commands}

    def commands(self) -> list[Command]:
        """All commands in the order of their paths."""
        return [self._commands[path] for path in sorted(self._commands)]

    def find(self, words: Sequence[str]) -> Found:
        """Follow the words as far as the tree goes. Raises `CommandError` for a word that leads nowhere."""
        depth = 0
        while depth < len(words) and self._known(tuple(words[: depth + 1])):
            depth += 1
        path, rest = tuple(words[:depth]), tuple(words[depth:])
        found = self._commands.get(path)
        if found is None and rest and not rest[0].startswith("-"):
            raise CommandError(self._no_such_command(path, rest[0]))
        return Found(path, found, rest)

    def usage(self, path: tuple[str, ...]) -> str:
        """The usage text of a command or of a place in the tree."""
        found = self._commands.get(path)
        below = [
            (" ".join(other[len(path) :]), self._commands[other].summary)
            for other in sorted(self._commands)
            if other[: len(path)] == path and other != path
        ]
        if found is not None:
            return found.usage() + (f"\n\n{_listing('Commands below it', below)}" if below else "")
        start = " ".join((PROGRAM, *path))
        return f"Usage: {start} COMMAND\n\n{_listing('Commands', below)}\n\n  {start} COMMAND --help tells more."

    def _known(self, path: tuple[str, ...]) -> bool:
        return path in self._commands or path in self._places

    def _no_such_command(self, path: tuple[str, ...], word: str) -> str:
        here = sorted({other[len(path)] for other in self._commands if other[: len(path)] == path != other})
        place = " ".join((PROGRAM, *path))
        return f"no command '{' '.join((*path, word))}': expected one of {', '.join(here)} after '{place}'"


def _synopsis_of(argument: Argument) -> str:
    text = f"{argument.name}={argument.metavar}"
    return text if argument.required else f"[{text}]"


def _listing(title: str, rows: Sequence[tuple[str, str]]) -> str:
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join([title, *(f"  {left.ljust(width)}  {right}".rstrip() for left, right in rows)])
