"""Changes while the broker runs."""

import pytest

from strogoff.config import ConfigError, Origin, change, changeable_keys, engine_changes, load


def test_a_change_makes_another_configuration_and_leaves_the_first() -> None:
    before = load()
    after = change(before, {"max_online_messages": "5", "persistent_client_expiration": "1h"})
    assert before.get("max_online_messages") == 1_000
    assert after.get("max_online_messages") == 5
    assert after.source_of("max_online_messages").origin is Origin.RUNTIME
    assert after.listeners == before.listeners
    assert engine_changes(before, after) == {"max_online_messages": 5, "persistent_client_expiration": 3_600}


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("max_online_message", "5", "did you mean max_online_messages?"),
        ("max_online_messages", "many", "expected a whole number"),
        ("workers", "3", "cannot change while the broker runs"),
        ("graphite_port", "3", "has no effect in this version"),
        ("retry_interval", "3", "has no effect in this version"),
    ],
)
def test_a_change_that_is_not_possible_says_why(key: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        change(load(), {key: text})
    assert message in str(caught.value)


def test_a_change_is_made_as_a_whole_or_not_at_all() -> None:
    with pytest.raises(ConfigError) as caught:
        change(load(), {"max_online_messages": "5", "workers": "1", "queue_type": "x"})
    assert [problem.key for problem in caught.value.problems] == ["workers", "queue_type"]


def test_every_changeable_key_can_be_set_to_its_default() -> None:
    configuration = load()
    texts = {key.name: key.default for key in changeable_keys() if key.default is not None}
    changed = change(configuration, texts)
    assert changed.engine_settings() == {**configuration.engine_settings(), "allow_anonymous": False}
