"""The words of a command line against what a command declares: `key=value`, flags and free words, in any order."""

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from strogoff.admin.registry import Command, Flag, FlagKind
from strogoff.admin.render import Format
from strogoff.admin.result import CommandError

__all__ = ["Call", "parse"]

WORD_SHOWN_MAX = 100

_SWITCH_VALUES = {"true": True, "on": True, "false": False, "off": False}


def _nobody_listens(_text: str) -> None:
    """Where a command's progress goes that nobody wants to see."""


@dataclass(frozen=True, slots=True)
class Call:
    """What the operator asked of one command, by declared names. A flag that was repeated stands there repeatedly.

    `tell` takes a line about how far the command is; any thread may call it.
    """

    arguments: tuple[tuple[str, str], ...] = ()
    flags: tuple[tuple[str, str | None], ...] = ()
    words: tuple[str, ...] = ()
    format: Format = Format.HUMAN
    help: bool = False
    tell: Callable[[str], None] = field(default=_nobody_listens, compare=False, repr=False)

    def argument(self, name: str) -> str | None:
        """The value of `name=value`, the last one when repeated, None when absent."""
        return next((value for key, value in reversed(self.arguments) if key == name), None)

    def required(self, name: str) -> str:
        """The value of an argument that `parse` has seen to be there."""
        value = self.argument(name)
        assert value is not None, f"{name} is not declared as required"
        return value

    def value(self, name: str, default: str = "") -> str:
        """The value of `--name=value`, the last one when repeated."""
        return next((value for key, value in reversed(self.flags) if key == name and value is not None), default)

    def switch(self, name: str) -> bool:
        """Whether the switch `--name` is on."""
        return _SWITCH_VALUES[self.value(name, "false")]

    def integer(self, name: str, default: int, *, minimum: int = 0) -> int:
        """The value of `--name=N`. Raises `CommandError` when that is no whole number from `minimum` on."""
        return whole_number(f"--{name}", self.value(name, str(default)), minimum=minimum)


def whole_number(name: str, text: str, *, minimum: int) -> int:
    """The number that was given for `name`. Raises `CommandError` when it is none, or below `minimum`."""
    # At most 18 digits: enough for every count there is, and nobody waits for the arithmetic of a million digits.
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) < minimum:
        raise CommandError(f"{name}={text}: expected a whole number, {minimum} or more")
    return int(text)


def parse(command: Command, words: Sequence[str]) -> Call:
    """Sort what follows the path of a command. Raises `CommandError` that names the word and what was expected."""
    arguments: list[tuple[str, str]] = []
    flags: list[tuple[str, str | None]] = []
    free: list[str] = []
    output, wants_help = Format.HUMAN, False
    left = iter(_Words(words))
    for word in left:
        if word in ("--help", "-h"):
            wants_help = True
        elif word == "--format" or word.startswith("--format="):
            output = _format(word.partition("=")[2] or left.value_of("--format"))
        elif word.startswith("-") and len(word) > 1:
            flags.append(_flag(command, word, left))
        elif "=" in word:
            arguments.append(_argument(command, word))
        elif command.words is not None:
            free.append(word)
        else:
            raise CommandError(f"'{word}' is not expected here: '{_name(command)}' takes {_expectation(command)}")
    if not wants_help:
        _check_required(command, arguments)
    return Call(tuple(arguments), tuple(flags), tuple(free), output, wants_help)


class _Words(Iterator[str]):
    """The words still to be read, of which a flag may take one as its value."""

    __slots__ = ("_next", "_words")

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._next = 0

    def __iter__(self) -> "_Words":
        return self

    def __next__(self) -> str:
        word = self.peek()
        if word is None:
            raise StopIteration
        self._next += 1
        return word

    def peek(self) -> str | None:
        return self._words[self._next] if self._next < len(self._words) else None

    def value_if_any(self) -> str | None:
        following = self.peek()
        return None if following is None or following.startswith("-") else next(self)

    def value_of(self, flag: str) -> str:
        value = next(self, None)
        if value is None:
            raise CommandError(f"{flag}: expected a value after it")
        return value


def _format(text: str) -> Format:
    try:
        return Format(text)
    except ValueError:
        raise CommandError(f"--format={text}: expected human, json or csv") from None


def _flag(command: Command, word: str, left: _Words) -> tuple[str, str | None]:
    written, equals, value = word.partition("=")
    flag = _declared(command, written)
    if flag is None:
        if command.any_flag is not None and written.startswith("--"):
            return written[2:], value if equals else left.value_of(written)
        raise CommandError(f"'{_name(command)}' has no flag {written}: {_advice(command, written)}")
    match flag.kind:
        case FlagKind.SWITCH:
            return flag.name, _switch(written, value if equals else "true")
        case FlagKind.VALUE:
            return flag.name, value if equals else left.value_of(written)
        case FlagKind.FIELD:
            return flag.name, value if equals else left.value_if_any()


def _declared(command: Command, written: str) -> Flag | None:
    if written.startswith("--"):
        name = _folded(written[2:])
        return next((flag for flag in command.flags if _folded(flag.name) == name), None)
    return next((flag for flag in command.flags if flag.short is not None and f"-{flag.short}" == written), None)


def _advice(command: Command, written: str) -> str:
    """The flag that was perhaps meant, and where all of them stand: some commands have dozens."""
    known = [f"--{flag.name}" for flag in command.flags] + ["--format", "--help"]
    nearest = difflib.get_close_matches(written[:WORD_SHOWN_MAX], known, n=1) if written.startswith("--") else []
    place = f"ee '{_name(command)} --help'"
    return f"did you mean {nearest[0]}? S{place}" if nearest else f"s{place}"


def _switch(written: str, value: str) -> str:
    if value not in _SWITCH_VALUES:
        raise CommandError(f"{written}={value}: expected true or false")
    return value


def _argument(command: Command, word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    name = next((known.name for known in command.arguments if _folded(known.name) == _folded(key)), None)
    if name is not None:
        return name, value
    if command.any_argument is not None:
        return key, value
    raise CommandError(f"'{_name(command)}' has no argument '{key}': it takes {_expectation(command)}")


def _check_required(command: Command, given: Sequence[tuple[str, str]]) -> None:
    names = {name for name, _ in given}
    missing = [known for known in command.arguments if known.required and known.name not in names]
    if missing:
        wanted = " ".join(f"{known.name}={known.metavar}" for known in missing)
        raise CommandError(f"'{_name(command)}' needs {wanted}: {missing[0].help}")


def _expectation(command: Command) -> str:
    texts = [f"{known.name}={known.metavar}" for known in command.arguments]
    texts += [text for text in (command.any_argument, command.words) if text]
    return " ".join(texts) or "flags only"


def _name(command: Command) -> str:
    return " ".join(command.path)


def _folded(name: str) -> str:
    return name.replace("-", "_")
