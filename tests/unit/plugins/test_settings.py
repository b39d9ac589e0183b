"""A dataclass says which keys a plugin has; values come from the configuration, errors name the key."""

import dataclasses
import enum
from pathlib import Path
from typing import Any, Literal

import pytest

from strogoff.config import ConfigError, Configuration, load
from strogoff.config.extension import Extension
from strogoff.plugins import setting
from strogoff.plugins.settings import NoSettings, SettingsError, keys_of, read_settings


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Server:
    url: str = setting()
    weight: int = setting(1, minimum=1, maximum=9)


@dataclasses.dataclass(frozen=True)
class Everything:
    host: str = setting(documentation="Where the words are.")
    words: int = setting(10, minimum=1, runtime=True)
    is_loud: bool = setting(default=False)
    colour: Colour = setting(Colour.RED)
    mode: Literal["fast", "slow"] = setting("fast")
    file: Path | None = setting(None)
    names: tuple[str, ...] = setting(("a", "b"))
    size: int = setting(4096, kind="bytesize")
    password: str = setting("", secret=True)
    server: dict[str, Server] = setting({})


def configured(*overrides: str, model: type = Everything) -> Configuration:
    keys = tuple(keys_of("sesame", model))
    return load(overrides=overrides, extend=lambda _: Extension(keys))


def test_what_is_not_set_has_its_default() -> None:
    settings = read_settings("sesame", Everything, configured("sesame.host=h"))
    assert settings == Everything(host="h")


def test_every_type_is_read_as_itself(tmp_path: Path) -> None:
    configuration = configured(
        "sesame.host=example.org",
        "sesame.words=12",
        "sesame.is_loud=on",
        "sesame.colour=blue",
        "sesame.mode=slow",
        f"sesame.file={tmp_path}",
        "sesame.names=[x, y]",
        "sesame.size=64KB",
        "sesame.password=hunter2",
        "sesame.server.first.url=one",
        "sesame.server.second.url=two",
        "sesame.server.second.weight=3",
    )
    expected = Everything(
        "example.org",
        12,
        is_loud=True,
        colour=Colour.BLUE,
        mode="slow",
        file=tmp_path,
        names=("x", "y"),
        size=65_536,
        password="hunter2",
        server={"first": Server("one"), "second": Server("two", 3)},
    )
    assert read_settings("sesame", Everything, configuration) == expected


def test_groups_may_stand_directly_below_the_plugin() -> None:
    model: Any = dataclasses.make_dataclass("Direct", [("server", dict[str, Server], setting({}, direct=True))])
    configuration = configured("sesame.first.url=one", model=model)
    assert read_settings("sesame", model, configuration).server == {"first": Server("one")}


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("sesame.words=0", "sesame.words: expected a whole number of at least 1, not '0'"),
        ("sesame.is_loud=maybe", "sesame.is_loud: expected on or off"),
        ("sesame.mode=later", "expected fast or slow"),
        ("sesame.wrods=1", "did you mean sesame.words?"),
        ("sesame.server.first.weight=10", "expected a whole number from 1 to 9"),
    ],
)
def test_a_value_that_does_not_fit_is_told_like_one_of_the_brokers_own(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=r".") as told:
        configured(override)
    assert sentence in str(told.value)


def test_settings_that_have_to_be_given_are_named_all_at_once() -> None:
    with pytest.raises(SettingsError) as told:
        read_settings("sesame", Everything, configured("sesame.server.first.weight=2"))
    assert set(told.value.problems) == {"sesame.host", "sesame.server.first.url"}


def test_a_secret_is_not_shown() -> None:
    key = next(key for key in keys_of("sesame", Everything) if key.name == "sesame.password")
    assert key.is_secret


def test_only_settings_that_say_so_may_change_at_run_time() -> None:
    changeable = [key.name for key in keys_of("sesame", Everything) if key.is_runtime_settable]
    assert changeable == ["sesame.words"]


def test_a_plugin_may_have_no_settings() -> None:
    assert keys_of("sesame", NoSettings) == []
    assert read_settings("sesame", NoSettings, configured(model=NoSettings)) == NoSettings()


def test_a_type_that_no_key_can_have_is_told_to_the_author() -> None:
    model: Any = dataclasses.make_dataclass("Odd", [("speed", complex)])
    with pytest.raises(TypeError, match=r"sesame\.speed: a setting cannot have the type"):
        keys_of("sesame", model)


def test_a_class_that_is_no_dataclass_is_told_to_the_author() -> None:
    with pytest.raises(TypeError, match="dict is no dataclass"):
        keys_of("sesame", dict)
