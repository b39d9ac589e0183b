"""What the `log.*` keys make of the log."""

import logging
from pathlib import Path

import pytest

from strogoff.config import Configuration, load
from strogoff.observe.logfile import RotatingFile
from strogoff.observe.logformat import Layout
from strogoff.observe.logging import LogPlan
from strogoff.observe.logplan import lowest_level, plans

CONSOLE_TEXT = LogPlan(logging.INFO, Layout.TEXT)
CONSOLE_JSON = LogPlan(logging.INFO, Layout.JSON)
MAIN_FILE = LogPlan(logging.INFO, Layout.TEXT, RotatingFile(Path("log/console.log")))
ERROR_FILE = LogPlan(logging.ERROR, Layout.TEXT, RotatingFile(Path("log/error.log")))


def _configuration(tmp_path: Path, *lines: str) -> Configuration:
    file = tmp_path / "strogoff.conf"
    file.write_text("\n".join(lines) + "\n")
    return load(file)


@pytest.mark.parametrize("with_file", [True, False])
def test_without_a_word_the_log_is_text_on_a_terminal_and_json_elsewhere(tmp_path: Path, with_file: bool) -> None:
    configuration = _configuration(tmp_path) if with_file else load(None)
    assert plans(configuration, is_terminal=True) == [CONSOLE_TEXT]
    assert plans(configuration, is_terminal=False) == [CONSOLE_JSON]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["log.console = off"], []),
        (["log.console = console"], [CONSOLE_JSON]),
        (["log.console = file"], [MAIN_FILE, ERROR_FILE]),
        (["log.console = both"], [CONSOLE_JSON, MAIN_FILE, ERROR_FILE]),
        (["log.console = file", "log.error = off"], [MAIN_FILE]),
        (["log.console = console", "log.error = on"], [CONSOLE_JSON, ERROR_FILE]),
        (["log.console = console", "log.error = auto"], [CONSOLE_JSON]),
        (["log.error = on"], [CONSOLE_JSON, ERROR_FILE]),
        (["log.console.console.format = text"], [CONSOLE_TEXT]),
        (["log.console.console.format = auto"], [CONSOLE_JSON]),
        (["log.console.level = warning"], [LogPlan(logging.WARNING, Layout.JSON)]),
        (["log.template = simple"], [LogPlan(logging.INFO, Layout.JSON, None, place=False)]),
    ],
)
def test_what_a_key_says_is_done(tmp_path: Path, lines: list[str], expected: list[LogPlan]) -> None:
    assert plans(_configuration(tmp_path, *lines), is_terminal=False) == expected


def test_files_are_rotated_as_the_keys_say(tmp_path: Path) -> None:
    (plan,) = plans(
        _configuration(
            tmp_path,
            "log.console = file",
            "log.error = off",
            "log.console.file = /var/log/x.log",
            "log.console.file.format = json",
            "log.console.rotation.size = 10MB",
            "log.console.rotation.keep = 3",
            "log.console.rotation.compress_on_rotate = on",
        ),
        is_terminal=True,
    )
    assert plan == LogPlan(
        logging.INFO, Layout.JSON, RotatingFile(Path("/var/log/x.log"), 10 * 1024 * 1024, 3, compress=True)
    )


def test_the_global_level_is_the_lowest_of_all(tmp_path: Path) -> None:
    assert lowest_level(_configuration(tmp_path)) == logging.NOTSET
    assert lowest_level(_configuration(tmp_path, "log.level = error")) == logging.ERROR
