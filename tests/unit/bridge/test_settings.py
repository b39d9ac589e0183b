"""What a configuration says of bridges, and what is wrong with it."""

from pathlib import Path

import pytest

from strogoff.bridge.settings import Spread, bridges_of
from strogoff.config import ConfigError, Configuration, load
from strogoff.config.notes import NoteKind
from strogoff.plugins.configuration import plugin_keys

BR = "vmq_bridge.tcp.br"


def read(tmp_path: Path, text: str) -> Configuration:
    file = tmp_path / "my.conf"
    file.write_text(f"nodename = a@127.0.0.1\n{text}\n")
    return load(file, extend=plugin_keys)


def problem_of(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    (problem,) = caught.value.problems
    return str(problem)


def test_a_bridge_has_the_defaults_of_the_keys(tmp_path: Path) -> None:
    configuration = read(tmp_path, f"{BR} = example.org:1883\n{BR}.topic.2 = b in\n{BR}.topic.1 = a/* out 1")
    (bridge,), problems, notes = bridges_of(configuration)
    assert (problems, notes) == ([], [])
    assert (bridge.host, bridge.port, bridge.version, bridge.window, bridge.buffer_max) == (
        "example.org",
        1883,
        3,
        100,
        1000,
    )
    assert [str(rule) for rule in bridge.rules] == ["a/# out 1", "b in 0"]
    assert bridge.spread is Spread.ONE
    assert bridge.client_id is None
    assert not bridge.lasts
    assert bridge.tls is None


def test_a_buffer_may_have_no_limit(tmp_path: Path) -> None:
    text = f"{BR} = h:1\n{BR}.topic.1 = a\n{BR}.max_outgoing_buffered_messages = infinity"
    (bridge,), _, _ = bridges_of(read(tmp_path, text))
    assert bridge.buffer_max is None


def test_an_ipv6_address_is_split_at_its_last_colon(tmp_path: Path) -> None:
    for text in ("fe80::1:1883", "[fe80::1]:1883"):
        (bridge,), _, _ = bridges_of(read(tmp_path, f"{BR} = {text}\n{BR}.topic.1 = a"))
        assert (bridge.host, bridge.port, bridge.endpoint) == ("fe80::1", 1883, "[fe80::1]:1883")


def test_bridges_that_are_configured_alike_have_one_fingerprint(tmp_path: Path) -> None:
    def fingerprint(*lines: str) -> str:
        (bridge,), _, _ = bridges_of(read(tmp_path, "\n".join((f"{BR} = h:1", f"{BR}.topic.1 = a", *lines))))
        assert "secret" not in repr(bridge)
        return bridge.fingerprint

    user = f"{BR}.username = u"
    assert fingerprint() == fingerprint(f"{BR}.keepalive_interval = 60")
    different = [fingerprint(), fingerprint(user), fingerprint(user, f"{BR}.password = secret")]
    assert len(set(different)) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BR} = nowhere", "expected HOST:PORT of the other broker, not 'nowhere'"),
        (f"{BR} = h:70000", "expected HOST:PORT"),
        (f"{BR} = h:1\n{BR}.topic.1 = a/b+", "expected a topic filter, found 'a/b+'"),
        (f"{BR} = h:1\n{BR}.topic.101 = a", "expected a number from 1 to 100 behind topic."),
        (f"{BR} = h:1\n{BR}.topic.1 = a out prefix", "found 'prefix' and nothing after it"),
        (f"{BR} = h:1\n{BR}.topic.1 = a\n{BR}.password = p", "MQTT 3 has no password without a user name"),
        ("vmq_bridge.ssl.br = h:1\nvmq_bridge.ssl.br.topic.1 = a\nvmq_bridge.ssl.br.psk = 0a", "not possible"),
        ("vmq_bridge.ssl.br = h:1\nvmq_bridge.ssl.br.topic.1 = a\nvmq_bridge.ssl.br.certfile = c", "of no use without"),
        (
            f"{BR} = h:1\n{BR}.topic.1 = a\nvmq_bridge.ws.br = h:1\nvmq_bridge.ws.br.topic.1 = a",
            "there is a bridge br already",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, expected: str) -> None:
    problem = problem_of(tmp_path, text)
    assert expected in problem
    assert "vmq_bridge." in problem
    assert "my.conf:" in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{BR}.topic.1 = a", f"does nothing: there is no {BR} = HOST:PORT"),
        (f"{BR} = h:1", "has no topic rules, so it bridges nothing"),
        (f"{BR} = h:1\n{BR}.topic.1 = a both\n{BR}.cluster = share", "comes back over another one"),
    ],
)
def test_what_is_probably_not_meant_is_told(tmp_path: Path, text: str, expected: str) -> None:
    notes = [note.text for note in read(tmp_path, text).notes if note.kind is NoteKind.WARNING]
    assert any(expected in note for note in notes), notes
