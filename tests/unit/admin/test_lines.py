"""What a command line comes to: an order, or help that needs no node."""

import pytest

from strogoff.admin.commands import build_registry
from strogoff.admin.lines import Help, Order, read_line
from strogoff.admin.render import Format
from strogoff.admin.result import CommandError

REGISTRY = build_registry()


@pytest.mark.parametrize(
    ("words", "beginning"),
    [
        ([], "Usage: vmq-admin COMMAND"),
        (["session"], "Usage: vmq-admin session COMMAND"),
        (["session", "--help"], "Usage: vmq-admin session COMMAND"),
        (["session", "show", "--client_id", "--help"], "Usage: vmq-admin session show [FLAGS]"),
        (["session", "disconnect", "-h"], "Usage: vmq-admin session disconnect client-id=CLIENT [FLAGS]"),
    ],
)
def test_words_that_ask_for_help_get_it(words: list[str], beginning: str) -> None:
    line = read_line(REGISTRY, words)
    assert isinstance(line, Help)
    assert line.text.startswith(beginning)
    assert line.format is Format.HUMAN


def test_help_comes_in_the_format_that_is_asked_for() -> None:
    line = read_line(REGISTRY, ["session", "show", "--help", "--format=json"])
    assert isinstance(line, Help)
    assert line.format is Format.JSON


def test_words_that_are_a_command_are_an_order_also_where_help_is_a_value() -> None:
    line = read_line(REGISTRY, ["session", "disconnect", "client-id=c", "--mountpoint", "--help"])
    assert isinstance(line, Order)
    assert line.command.path == ("session", "disconnect")
    assert line.call.value("mountpoint") == "--help"


def test_a_command_that_does_not_exist_has_no_help() -> None:
    with pytest.raises(CommandError, match="no command 'sesion'"):
        read_line(REGISTRY, ["sesion", "--help"])
