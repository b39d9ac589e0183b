"""Reads the code blocks of a Markdown document and runs what it shows to a reader.

A block whose first line is a comment with a file name (`# hello.py`) is that file. In a block marked `console`, a line
`$ COMMAND` is typed, lines `> MORE` continue it, and the other lines are what the program prints, standard error
included. `...` stands for any text, over several lines too. Blank lines at the end of an output do not count.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEADLINE_S = 60.0

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE_NAME = re.compile(r"# (\S+\.\w+)\n")
_MARK = "\x1e"


@dataclass(slots=True)
class Command:
    """What is typed, and what the document says is printed."""

    text: str
    expected: list[str] = field(default_factory=list)

    def difference(self, printed: str) -> str | None:
        """What is wrong with what was printed, or None."""
        wanted, got = _trimmed("\n".join(self.expected)), _trimmed(printed)
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        if re.fullmatch(pattern, got, re.DOTALL):
            return None
        return f"$ {self.text}\n--- the document says\n{wanted}\n--- the program prints\n{got}"


@dataclass(slots=True)
class Document:
    """A document as it is read: its parts in their order. `replace` is applied to all of them (a port, for example)."""

    path: Path
    replace: Mapping[str, str] = field(default_factory=dict)

    def blocks(self) -> Iterator[tuple[str, str]]:
        """Pairs of the language of a code block and its text."""
        for language, text in _FENCE.findall(self.path.read_text()):
            for old, new in self.replace.items():
                text = text.replace(old, new)  # noqa: PLW2901
            yield language, text

    def run(self, directory: Path, environment: Mapping[str, str]) -> list[str]:
        """Write the files, type the commands in `directory`; returns what differs from the document."""
        differences = []
        for language, text in self.blocks():
            if language == "console":
                commands = list(read_commands(text))
                outputs = _run(commands, directory, environment)
                found = (command.difference(output) for command, output in zip(commands, outputs, strict=True))
                differences += [difference for difference in found if difference is not None]
            elif (name := _FILE_NAME.match(text)) is not None:
                file = directory / name[1]
                file.parent.mkdir(exist_ok=True)
                file.write_text(text)
            else:
                differences.append(f"a block that nothing checks: neither `console` nor a file\n{text}")
        return differences


def read_commands(text: str) -> Iterator[Command]:
    """The commands of a `console` block."""
    command: Command | None = None
    for line in text.splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command
            command = Command(line[2:])
        elif command is None:
            raise ValueError(f"a console block begins with '$ ', not with {line!r}")
        elif line.startswith("> "):
            command.text += "\n" + line[2:]
        else:
            command.expected.append(line)
    if command is not None:
        yield command


def _run(commands: list[Command], directory: Path, environment: Mapping[str, str]) -> list[str]:
    """What each command prints. All are typed into one shell, so `$?` is the status of the one before."""
    # The mark must not change the status that the next command may ask for.
    end = f"__status=$?; printf '{_MARK}'; (exit $__status)"
    script = "\n".join(f"{command.text}\n{end}" for command in commands)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc"],
        input=script,
        cwd=directory,
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    outputs = done.stdout.split(_MARK)[:-1]
    assert len(outputs) == len(commands), f"the shell ended early\n{done.stdout}"
    return outputs


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
