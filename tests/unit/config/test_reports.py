"""check, show, describe and generate."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.config import ConfigError, check, describe, generate, key_table, load, show
from strogoff.config.parser import parse_text
from strogoff.config.settings import build_configuration


def test_a_generated_file_holds_the_defaults_and_needs_no_note(tmp_path: Path) -> None:
    file = tmp_path / "strogoff.conf"
    file.write_text(generate())
    report = check(file)
    assert report.problems == ()
    assert report.notes == ()
    assert report.configuration is not None
    defaults = build_configuration([])
    for key in key_table():
        if not key.is_pattern:
            assert report.configuration.get(key.name) == defaults.get(key.name), key.name
    assert [str(item.endpoint) for item in report.configuration.listeners] == ["127.0.0.1:1883"]


def test_a_generated_file_explains_every_active_key() -> None:
    text = generate()
    lines = set(text.splitlines())
    for key in key_table():
        name = key.name.replace("$name", "default")
        written = any(line.removeprefix("# ").startswith(f"{name} = ") for line in lines)
        assert written == key.is_active, key.name
    assert max(len(line) for line in lines) <= 120


def test_the_commented_lines_of_a_generated_file_are_known_keys_too() -> None:
    commented = [line.removeprefix("# ") for line in generate().splitlines() if line.startswith("# ") and " = " in line]
    names = [line.partition(" = ")[0] for line in commented]
    assert names
    assert all(key_table().find(name) for name in names)


def test_a_check_tells_problems_or_notes(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text("graphite_enabled = on\n")
    report = check(file)
    assert report.is_usable
    assert any(note.keys == ("graphite_enabled",) for note in report.notes)
    file.write_text("graphite_enabled = perhaps\nx = 1")
    report = check(file)
    assert not report.is_usable
    assert report.configuration is None
    assert len(report.problems) == 2


def test_show_tells_values_and_where_they_come_from() -> None:
    configuration = load(overrides=["queue_type=LIFO", "listener.tcp.default=127.0.0.1:0"])
    rows = {row.key: (row.value, str(row.source)) for row in show(configuration)}
    assert rows["queue_type"] == ("LIFO", "--set")
    assert rows["max_inflight_messages"] == ("20", "default")
    assert rows["listener.tcp.default"] == ("127.0.0.1:0", "--set")
    assert rows["allow_anonymous"] == ("on", "built in")
    assert "graphite_port" not in rows


def test_show_can_be_limited() -> None:
    configuration = load(overrides=["queue_type=lifo"])
    assert [row.key for row in show(configuration, only_set=True)] == [
        "allow_anonymous",
        "listener.tcp.default",
        "queue_type",
    ]
    (row,) = show(configuration, ["listener.tcp.default.max_connections"])
    assert (row.value, str(row.source)) == ("10000", "default")
    with pytest.raises(ConfigError, match="did you mean queue_type"):
        show(configuration, ["queue_typ"])


def test_an_unknown_key_is_told_without_a_place_since_it_was_just_typed() -> None:
    with pytest.raises(ConfigError, match=r"^queue_typ: there is no such key; did you mean queue_type\?$"):
        show(load(), ["queue_typ"])


def test_a_size_is_shown_as_it_was_written() -> None:
    configuration = load(overrides=["max_message_size=64KB"])
    assert show(configuration, ["max_message_size"])[0].value == "64KB"
    assert configuration.engine_settings()["max_message_size"] == 65_536


@pytest.mark.parametrize(
    ("key", "default"), [("log.console", "console"), ("log.console.console.format", "auto"), ("log.error", "auto")]
)
def test_the_defaults_of_the_log_are_described_as_they_hold(key: str, default: str) -> None:
    assert describe(key).default == default


def test_show_hides_secrets() -> None:
    configuration = load(overrides=["distributed_cookie=hunter2"])
    assert show(configuration, ["distributed_cookie"])[0].value == "********"


@pytest.mark.parametrize(
    ("name", "pattern", "default", "inherits_from"),
    [
        ("max_inflight_messages", "max_inflight_messages", "20", None),
        ("listener.tcp.mine", "listener.tcp.$name", None, None),
        ("listener.tcp.mine.mountpoint", "listener.tcp.$name.mountpoint", None, "listener.tcp.mountpoint"),
        (
            "listener.tcp.$name.max_connections",
            "listener.tcp.$name.max_connections",
            None,
            "listener.tcp.max_connections",
        ),
        ("listener.tcp.mountpoint", "listener.tcp.mountpoint", None, "listener.mountpoint"),
    ],
)
def test_a_key_is_described(name: str, pattern: str, default: str | None, inherits_from: str | None) -> None:
    description = describe(name)
    assert (description.name, description.pattern) == (name, pattern)
    assert (description.default, description.inherits_from) == (default, inherits_from)


def test_a_description_reads_well() -> None:
    assert str(describe("queue_type")).splitlines() == [
        "queue_type",
        "  fifo delivers the oldest message first and drops new ones when a queue is full; lifo delivers the",
        "  newest first and drops the oldest.",
        "  accepts: fifo or lifo",
        "  default: fifo",
        "  state:   active; may change at run time",
    ]
    assert "known, not active yet" in str(describe("graphite_enabled"))
    assert "does not apply" in str(describe("erlang.async_threads"))
    assert "default: ''" in str(describe("systree_mountpoint"))


def test_every_key_can_be_described() -> None:
    for key in key_table():
        assert str(describe(key.name)).startswith(key.name)


def test_an_unknown_key_cannot_be_described() -> None:
    with pytest.raises(ConfigError, match="did you mean queue_type"):
        describe("queue_typ")


ACTIVE = [key.name for key in key_table() if key.is_active and not key.is_pattern]


@given(st.dictionaries(st.sampled_from(ACTIVE), st.text(st.characters(codec="utf-8"), max_size=20), max_size=4))
def test_any_values_give_a_configuration_or_problems_that_name_their_keys(values: dict[str, str]) -> None:
    parsed = parse_text("\n".join(f"{key} = {text}" for key, text in values.items()))
    try:
        configuration = build_configuration(parsed.assignments, problems=parsed.problems)
    except ConfigError as error:
        named = [problem.where for problem in error.problems]
    else:
        named = [str(configuration.source_of(key)) for key in values]
    assert all(place.startswith(("configuration:", "default")) for place in named)
