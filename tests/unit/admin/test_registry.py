"""How commands are found and what their usage texts say."""

import pytest

from strogoff.admin.arguments import Call
from strogoff.admin.registry import Argument, Command, Flag, FlagKind, Registry, command
from strogoff.admin.result import CommandError, Result


@command(
    "session disconnect",
    "End the connection of a client.",
    arguments=(Argument("client-id", "the client", required=True, metavar="CLIENT"),),
    flags=(Flag("cleanup", "forget the session too", "c", FlagKind.SWITCH), Flag("limit", "rows", metavar="N")),
)
async def disconnect(broker: object, call: Call) -> Result:
    return Result()


@command("session disconnect batch", "End many.")
async def batch(broker: object, call: Call) -> Result:
    return Result()


@command("ping", "Answer.")
async def ping(broker: object, call: Call) -> Result:
    return Result()


REGISTRY = Registry([disconnect, batch, ping])


@pytest.mark.parametrize(
    ("words", "found", "rest"),
    [
        (["ping"], ping, ()),
        (["session", "disconnect", "client-id=c"], disconnect, ("client-id=c",)),
        (["session", "disconnect", "batch", "-x"], batch, ("-x",)),
        (["session"], None, ()),
        (["session", "--help"], None, ("--help",)),
        ([], None, ()),
    ],
)
def test_the_longest_path_is_the_command(words: list[str], found: Command | None, rest: tuple[str, ...]) -> None:
    result = REGISTRY.find(words)
    assert result.command is found
    assert result.rest == rest


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sessions"], "no command 'sessions': expected one of ping, session after 'vmq-admin'"),
        (["session", "shw"], "no command 'session shw': expected one of disconnect after 'vmq-admin session'"),
    ],
)
def test_a_word_that_leads_nowhere_is_told_with_those_that_do(words: list[str], told: str) -> None:
    with pytest.raises(CommandError) as caught:
        REGISTRY.find(words)
    assert str(caught.value) == told


def test_the_usage_of_a_command_tells_all_it_takes() -> None:
    assert REGISTRY.usage(("session", "disconnect")) == (
        "Usage: vmq-admin session disconnect client-id=CLIENT [FLAGS]\n"
        "\n"
        "  End the connection of a client.\n"
        "\n"
        "Arguments\n"
        "  client-id=CLIENT  the client\n"
        "\n"
        "Flags\n"
        "  -c, --cleanup        forget the session too\n"
        "      --limit=N        rows\n"
        "      --format=FORMAT  human (default), json or csv\n"
        "  -h, --help           this text\n"
        "\n"
        "Commands below it\n"
        "  batch  End many."
    )


def test_the_usage_of_a_place_in_the_tree_lists_the_commands_below() -> None:
    assert REGISTRY.usage(("session",)) == (
        "Usage: vmq-admin session COMMAND\n"
        "\n"
        "Commands\n"
        "  disconnect        End the connection of a client.\n"
        "  disconnect batch  End many.\n"
        "\n"
        "  vmq-admin session COMMAND --help tells more."
    )
