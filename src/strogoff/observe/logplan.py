"""The `log.*` keys as places that log lines go to."""

from pathlib import Path

from strogoff.config import Configuration, Origin
from strogoff.observe.logfile import RotatingFile
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LEVELS, LogPlan

__all__ = ["lowest_level", "plans"]


def plans(configuration: Configuration, *, is_terminal: bool) -> list[LogPlan]:
    """Where the log goes.

    What a key says is done. Where it says nothing: the log goes to the console, since that is where the user of a
    process in the foreground looks; it is text on a terminal and JSON elsewhere; and errors go to a file of their own
    only beside a main log that goes to a file.
    """
    console = configuration.get("log.console") if _is_set(configuration, "log.console") else "console"
    level = LEVELS[configuration.get("log.console.level")]
    place = configuration.get("log.template") == "extended"
    found = []
    if console in ("console", "both"):
        key = "log.console.console.format"
        chosen = Layout(configuration.get(key)) if _is_set(configuration, key) else None
        found.append(LogPlan(level, chosen or (Layout.TEXT if is_terminal else Layout.JSON), None, place))
    if console in ("file", "both"):
        found.append(_file_plan(configuration, "log.console", level, place=place))
    if configuration.get("log.error") and (console in ("file", "both") or _is_set(configuration, "log.error")):
        found.append(_file_plan(configuration, "log.error", LEVELS["error"], place=place))
    return found


def lowest_level(configuration: Configuration) -> int:
    """The level below which nothing is logged anywhere."""
    return LEVELS[configuration.get("log.level")]


def _is_set(configuration: Configuration, key: str) -> bool:
    return configuration.source_of(key).origin is not Origin.DEFAULT


def _file_plan(configuration: Configuration, key: str, level: int, *, place: bool) -> LogPlan:
    file = RotatingFile(
        Path(configuration.get(f"{key}.file")),
        configuration.get(f"{key}.rotation.size"),
        configuration.get(f"{key}.rotation.keep"),
        configuration.get(f"{key}.rotation.compress_on_rotate"),
    )
    return LogPlan(level, Layout(configuration.get(f"{key}.file.format")), file, place)
