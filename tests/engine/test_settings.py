"""Settings: what is refused is refused whole and by its name, what is taken holds for what happens next."""

from collections.abc import Callable

import pytest

from engine.running import Running
from protocol.wire import Property, Version
from strogoff._engine import Engine


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"max_inflight_messages": -1}, "max_inflight_messages"),
        ({"max_inflight_messages": "20"}, "max_inflight_messages"),
        ({"queue_type": "random"}, "queue_type"),
        ({"allow_anonymous": 1}, "allow_anonymous"),
        ({"max_message_size": True}, "max_message_size"),
        ({"plugins.hook_timeout": 0}, "plugins.hook_timeout"),
        ({"no_such_setting": 1}, "no_such_setting"),
    ],
)
def test_an_error_names_the_setting(settings: dict[str, int | str], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Engine(settings)
    engine = Engine()
    before = engine.settings()
    with pytest.raises(ValueError, match=name):
        engine.configure({"topic_max_depth": 3, **settings})
    assert engine.settings() == before, "all or nothing"


def test_a_value_of_a_type_that_no_setting_has_names_the_setting() -> None:
    with pytest.raises(ValueError, match="max_message_size"):
        Engine({"max_message_size": 1.5})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="max_message_size"):
        Engine({"max_message_size": 1 << 70})


def test_settings_read_as_they_were_given() -> None:
    given: dict[str, bool | int | str | None] = {
        "allow_anonymous": True,
        "max_offline_messages": -1,
        "queue_type": "lifo",
        "persistent_client_expiration": 60,
        "max_last_will_delay": None,
        "plugins.hook_timeout": 250,
        "workers": 1,
    }
    engine = Engine(given)
    assert given.items() <= engine.settings().items()
    engine.configure({"persistent_client_expiration": None})
    assert engine.settings()["persistent_client_expiration"] is None


def test_settings_of_one_engine_are_not_those_of_another() -> None:
    one, other = Engine({"topic_max_depth": 1}), Engine()
    assert one.settings()["topic_max_depth"] != other.settings()["topic_max_depth"]


def test_the_number_of_workers_is_fixed() -> None:
    engine = Engine({"workers": 1})
    engine.configure({"workers": 1})
    with pytest.raises(ValueError, match="workers"):
        engine.configure({"workers": 2})


def test_a_new_value_holds_for_what_happens_next(running: Running) -> None:
    before = running.connect(Version.V5)
    running.engine.configure({"receive_max_broker": 7, "topic_max_depth": 1})
    assert before.publish("a/b", qos=1) == 0x90
    after = running.connect(Version.V5)
    assert before.referee.connack is not None
    assert after.referee.connack is not None
    assert before.referee.connack.value(Property.RECEIVE_MAXIMUM) is None
    assert after.referee.connack.value(Property.RECEIVE_MAXIMUM) == 7


def test_starting_twice_is_an_error(run: Callable[..., Running]) -> None:
    with pytest.raises(RuntimeError, match="started"):
        run().engine.start()
