"""What can be wrong with a configuration, said so that a person can put it right."""

import dataclasses
from collections.abc import Sequence

__all__ = ["ConfigError", "Problem"]


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is a file with line, a variable or `--set`; `advice` says what to do.

    `where` is empty for what a person has just typed, and needs not be told where.
    """

    where: str
    message: str
    key: str | None = None
    advice: str | None = None

    def __str__(self) -> str:
        """One line: place, key, what is wrong, what to do."""
        subject = "".join(f"{part}: " for part in (self.where, self.key) if part)
        advice = f"; {self.advice}" if self.advice else ""
        return f"{subject}{self.message}{advice}"


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` holds everything that was found, in reading order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        assert problems, "an error without a problem explains nothing"
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
