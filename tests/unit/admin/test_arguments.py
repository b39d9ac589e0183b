"""How the words of a command line become a call."""

import pytest

from strogoff.admin.arguments import Call, parse
from strogoff.admin.registry import Argument, Command, Flag, FlagKind
from strogoff.admin.render import Format
from strogoff.admin.result import CommandError, Result


async def _nothing(broker: object, call: Call) -> Result:
    return Result()


DISCONNECT = Command(
    ("session", "disconnect"),
    "End a connection.",
    _nothing,
    arguments=(Argument("client-id", "the client", required=True, metavar="CLIENT"),),
    flags=(Flag("mountpoint", "where", "m"), Flag("cleanup", "forget it", "c", FlagKind.SWITCH), Flag("limit", "rows")),
)
SHOW = Command(
    ("session", "show"),
    "Show.",
    _nothing,
    flags=(Flag("client_id", "the client", kind=FlagKind.FIELD), Flag("user", "the user", kind=FlagKind.FIELD)),
)
SET = Command(("set",), "Set.", _nothing, any_argument="KEY=VALUE", flags=(Flag("all", "a", "a", FlagKind.SWITCH),))
WORDS = Command(("show",), "Show.", _nothing, words="KEY")


@pytest.mark.parametrize(
    "words",
    [
        ["client-id=c", "--mountpoint=m", "--cleanup"],
        ["client-id=c", "--mountpoint", "m", "-c"],
        ["-c", "-m", "m", "client_id=c"],
        ["-m=m", "client-id=c", "--cleanup=true"],
    ],
)
def test_arguments_and_flags_may_stand_in_any_order(words: list[str]) -> None:
    call = parse(DISCONNECT, words)
    assert (call.required("client-id"), call.value("mountpoint"), call.switch("cleanup")) == ("c", "m", True)


def test_a_value_keeps_its_equals_signs() -> None:
    assert parse(DISCONNECT, ["client-id=a=b", "--mountpoint=c=d"]).required("client-id") == "a=b"
    assert parse(DISCONNECT, ["client-id=a", "--mountpoint=c=d"]).value("mountpoint") == "c=d"


def test_a_switch_can_be_switched_off() -> None:
    assert not parse(DISCONNECT, ["client-id=c", "--cleanup=false"]).switch("cleanup")
    assert not parse(DISCONNECT, ["client-id=c"]).switch("cleanup")


def test_a_field_without_a_value_is_a_column_and_with_one_a_filter() -> None:
    assert parse(SHOW, ["--client_id", "--user=~^a"]).flags == (("client_id", None), ("user", "~^a"))
    assert parse(SHOW, ["--client-id", "c1", "--user"]).flags == (("client_id", "c1"), ("user", None))


def test_the_format_is_read_wherever_it_stands() -> None:
    assert parse(SHOW, ["--format=json", "--user"]).format is Format.JSON
    assert parse(SHOW, ["--user", "--format", "csv"]).format is Format.CSV


def test_help_asks_for_nothing_else() -> None:
    assert parse(DISCONNECT, ["--help"]).help
    assert parse(DISCONNECT, ["-h"]).help


def test_free_arguments_and_words_are_kept_in_order() -> None:
    assert parse(SET, ["b=1", "-a", "a=2"]).arguments == (("b", "1"), ("a", "2"))
    assert parse(WORDS, ["x", "y.z"]).words == ("x", "y.z")


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (DISCONNECT, [], "'session disconnect' needs client-id=CLIENT: the client"),
        (
            DISCONNECT,
            ["client-id=c", "--mount=x"],
            "no flag --mount: did you mean --mountpoint? See 'session disconnect --help'",
        ),
        (DISCONNECT, ["client-id=c", "--colour"], "no flag --colour: see 'session disconnect --help'"),
        (DISCONNECT, ["client-id=c", "-x"], "no flag -x: see 'session disconnect --help'"),
        (DISCONNECT, ["client-id=c", "--mountpoint"], "--mountpoint: expected a value after it"),
        (DISCONNECT, ["client-id=c", "--cleanup=perhaps"], "--cleanup=perhaps: expected true or false"),
        (DISCONNECT, ["client=c"], "no argument 'client': it takes client-id=CLIENT"),
        (DISCONNECT, ["c"], "'c' is not expected here: 'session disconnect' takes client-id=CLIENT"),
        (SHOW, ["--format=xml"], "--format=xml: expected human, json or csv"),
        (SHOW, ["--format"], "--format: expected a value after it"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(command: Command, words: list[str], told: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(command, words)
    assert told in str(caught.value)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "", "9" * 30, "²"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    call = parse(DISCONNECT, ["client-id=c", f"--limit={text}"])
    with pytest.raises(CommandError, match="expected a whole number, 1 or more"):
        call.integer("limit", 100, minimum=1)


def test_the_last_of_repeated_values_counts() -> None:
    assert parse(DISCONNECT, ["client-id=c", "--limit=1", "--limit=2"]).integer("limit", 100) == 2
