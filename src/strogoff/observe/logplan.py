"""The `log.*` keys as places that log lines go to."""

from pathlib import Path

from strogoff.config import Configuration
from strogoff.observe.logfile import RotatingFile
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LEVELS, LogPlan

__all__ = ["lowest_level", "plans"]


def plans(configuration: Configuration, *, is_terminal: bool) -> list[LogPlan]:
    """Where the log goes.

    `auto` is decided here: on the console it is text on a terminal and JSON elsewhere; errors go to a file of their
    own only beside a main log that goes to a file.
    """
    console = configuration.get("log.console")
    level = LEVELS[configuration.get("log.console.level")]
    place = configuration.get("log.template") == "extended"
    found = []
    if console in ("console", "both"):
        chosen = configuration.get("log.console.console.format")
        layout = (Layout.TEXT if is_terminal else Layout.JSON) if chosen == "auto" else Layout(chosen)
        found.append(LogPlan(level, layout, None, place))
    has_file = console in ("file", "both")
    if has_file:
        found.append(_file_plan(configuration, "log.console", level, place=place))
    errors = configuration.get("log.error")
    if has_file if errors == "auto" else errors:
        found.append(_file_plan(configuration, "log.error", LEVELS["error"], place=place))
    return found


def lowest_level(configuration: Configuration) -> int:
    """The level below which nothing is logged anywhere."""
    return LEVELS[configuration.get("log.level")]


def _file_plan(configuration: Configuration, key: str, level: int, *, place: bool) -> LogPlan:
    file = RotatingFile(
        Path(configuration.get(f"{key}.file")),
        configuration.get(f"{key}.rotation.size"),
        configuration.get(f"{key}.rotation.keep"),
        configuration.get(f"{key}.rotation.compress_on_rotate"),
    )
    return LogPlan(level, Layout(configuration.get(f"{key}.file.format")), file, place)
