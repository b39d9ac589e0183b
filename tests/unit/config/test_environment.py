"""Configuration by environment variables."""

from pathlib import Path

import pytest

from strogoff.config import ConfigError, NoteKind, load
from strogoff.config.environment import read_environment

TRANSLATED = [
    ("DOCKER_VERNEMQ_LOG__CONSOLE__LEVEL", "debug", "log.console.level", "debug"),
    ("DOCKER_VERNEMQ_LISTENER__TCP__myName", "1.2.3.4:1", "listener.tcp.myName", "1.2.3.4:1"),
    ("DOCKER_VERNEMQ_VMQ_WEBHOOKS.pool_timeout", "5", "vmq_webhooks.pool_timeout", "5"),
    ("DOCKER_VERNEMQ_LOG.CONSOLE.LEVEL", "debug", "log.console.level", "debug"),
    ("DOCKER_VERNEMQ_VMQ_WEBHOOKS__W__ENDPOINT", "http://h/a__b#c", "vmq_webhooks.w.endpoint", "http://h/a__b#c"),
    ("DOCKER_VERNEMQ_ALLOW_ANONYMOUS", "'on'", "allow_anonymous", "on"),
    ("DOCKER_VERNEMQ_PROMETHEUS_NAMESPACE", "''", "prometheus_namespace", ""),
    ("DOCKER_VERNEMQ_ACCEPT_EULA", "yes", "accept_eula", "yes"),
    ("DOCKER_VERNEMQ_NODENAME", "host.example", "nodename", "VerneMQ@host.example"),
    ("DOCKER_VERNEMQ_NODENAME", "me@host.example", "nodename", "me@host.example"),
    ("STROGOFF_SET_NODENAME", "me@host.example", "nodename", "me@host.example"),
    ("STROGOFF_SET_LISTENER__TCP__DEFAULT", "0.0.0.0:1883", "listener.tcp.default", "0.0.0.0:1883"),
]

CONTAINER_ONLY = ["DOCKER_VERNEMQ_KUBERNETES_ISTIO_ENABLED"]
OF_THE_CONTAINER = [
    "DOCKER_VERNEMQ_DISCOVERY_NODE",
    "DOCKER_VERNEMQ_DISCOVERY_KUBERNETES",
    "DOCKER_VERNEMQ_KUBERNETES_LABEL_SELECTOR",
    "DOCKER_VERNEMQ_KUBERNETES_NAMESPACE",
    "DOCKER_VERNEMQ_KUBERNETES_SUBDOMAIN",
    "DOCKER_VERNEMQ_SWARM",
    "DOCKER_VERNEMQ_COMPOSE",
]


@pytest.mark.parametrize(("name", "value", "key", "text"), TRANSLATED)
def test_a_variable_sets_its_key(name: str, value: str, key: str, text: str) -> None:
    reading = read_environment({name: value})
    assert [(item.key, item.text) for item in reading.assignments] == [(key, text)]
    assert str(reading.assignments[0].source) == f"environment {name}"


@pytest.mark.parametrize("name", CONTAINER_ONLY)
def test_a_variable_of_the_container_is_known_but_not_active_yet(name: str) -> None:
    reading = read_environment({name: "1"})
    assert reading.not_active == [name]
    assert reading.assignments == []


@pytest.mark.parametrize("name", OF_THE_CONTAINER)
def test_what_names_a_node_and_finds_others_is_no_key(name: str) -> None:
    reading = read_environment({name: "x"})
    assert (reading.assignments, reading.problems, reading.not_active) == ([], [], [])


def test_the_api_key_belongs_to_the_container_only() -> None:
    assert read_environment({"API_KEY": "x"}).not_active == []
    assert read_environment({"API_KEY": "x", "DOCKER_VERNEMQ_ALLOW_ANONYMOUS": "on"}).not_active == ["API_KEY"]


def test_other_variables_are_not_looked_at() -> None:
    reading = read_environment({"HOME": "/", "STROGOFF_CONFIG": "x", "NOTE": "DOCKER_VERNEMQ_X=1"})
    assert (reading.assignments, reading.problems, reading.not_active) == ([], [], [])


def test_the_own_prefix_overrules_the_one_of_vernemq() -> None:
    reading = read_environment({"STROGOFF_SET_ALLOW_ANONYMOUS": "off", "DOCKER_VERNEMQ_ALLOW_ANONYMOUS": "on"})
    assert [item.text for item in reading.assignments] == ["on", "off"]


@pytest.mark.parametrize("name", ["STROGOFF_SET_", "DOCKER_VERNEMQ_A B"])
def test_a_name_that_is_no_key_is_an_error(name: str) -> None:
    assert "names no key" in str(read_environment({name: "1"}).problems[0])


def test_a_variable_without_a_value_is_an_error() -> None:
    assert "has no value" in str(read_environment({"STROGOFF_SET_NODENAME": ""}).problems[0])


@pytest.mark.parametrize(
    ("variable", "user", "password"),
    [
        ("DOCKER_VERNEMQ_USER_JULES", "jules", "secret"),
        ("DOCKER_VERNEMQ_USER_JULES", "jules", " a=b 'c' #d $(nodename) __ "),
        ("DOCKER_VERNEMQ_USER_Michel__S", "michel__s", "x"),
        ("DOCKER_VERNEMQ_USER_a.b-c", r"a\.b-c", "x"),
    ],
)
def test_a_variable_makes_a_user_whatever_the_password_is(variable: str, user: str, password: str) -> None:
    key = f"vmq_passwd.user.{user}.password"
    configuration = load(environment={variable: password})
    assert configuration.get(key) == password
    assert str(configuration.source_of(key)) == f"environment {variable}"


@pytest.mark.parametrize(
    ("variable", "password", "problem"),
    [("DOCKER_VERNEMQ_USER_JULES", "", "has no value"), ("DOCKER_VERNEMQ_USER_a:b", "x", "names no user")],
)
def test_a_variable_that_makes_no_user_is_an_error(variable: str, password: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^environment {variable}: {problem}"):
        load(environment={variable: password})


@pytest.mark.parametrize(
    ("variable", "key", "content", "value"),
    [
        ("STROGOFF_SET_DISTRIBUTED_COOKIE_FILE", "distributed_cookie", "from a file\n", "from a file"),
        ("DOCKER_VERNEMQ_DISTRIBUTED_COOKIE_FILE", "distributed_cookie", " 'a'#$(x)\r\n", " 'a'#$(x)"),
        ("DOCKER_VERNEMQ_USER_JULES_FILE", "vmq_passwd.user.jules.password", "one\n\n", "one\n"),
        ("STROGOFF_SET_LISTENER__SSL__mine.keypasswd_file", "listener.ssl.mine.keypasswd", "x", "x"),
        ("STROGOFF_SET_MAX_INFLIGHT_MESSAGES_FILE", "max_inflight_messages", "7\n", 7),
        ("DOCKER_VERNEMQ_NODENAME_FILE", "nodename", "host.example", "VerneMQ@host.example"),
    ],
)
def test_a_variable_names_the_file_that_has_the_value(
    tmp_path: Path, variable: str, key: str, content: str, value: object
) -> None:
    secret = tmp_path / "it's (a) secret"
    secret.write_text(content, newline="")
    configuration = load(environment={variable: str(secret)})
    assert configuration.get(key) == value
    assert str(configuration.source_of(key)) == f"environment {variable}"


def test_a_key_that_ends_in_file_is_that_key(tmp_path: Path) -> None:
    variables = {"DOCKER_VERNEMQ_VMQ_PASSWD__PASSWORD_FILE": "/no/file", "STROGOFF_SET_LOG__CONSOLE__FILE": "/no/other"}
    configuration = load(environment=variables)
    assert configuration.get("vmq_passwd.password_file") == "/no/file"
    assert configuration.get("log.console.file") == "/no/other"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {}: No such file or directory"),
        (b"", "the file {} is empty"),
        (b"\xff", "is not UTF-8 text"),
    ],
)
def test_a_file_without_a_value_is_an_error_that_names_variable_and_file(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    secret = tmp_path / "cookie"
    if content is not None:
        secret.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(environment={"STROGOFF_SET_DISTRIBUTED_COOKIE_FILE": str(secret)})
    [text] = [str(problem) for problem in raised.value.problems]
    assert text.startswith("environment STROGOFF_SET_DISTRIBUTED_COOKIE_FILE: distributed_cookie: ")
    assert problem.format(secret) in text


def test_a_value_and_a_file_for_it_are_one_too_many(tmp_path: Path) -> None:
    variables = {"STROGOFF_SET_DISTRIBUTED_COOKIE": "x", "STROGOFF_SET_DISTRIBUTED_COOKIE_FILE": "y"}
    with pytest.raises(ConfigError, match="distributed_cookie: STROGOFF_SET_DISTRIBUTED_COOKIE is set as well; set"):
        load(environment=variables)


def test_the_consent_to_a_licence_that_is_not_needed_is_taken_with_a_note() -> None:
    notes = load(environment={"DOCKER_VERNEMQ_ACCEPT_EULA": "yes"}).notes
    [note] = [note for note in notes if note.kind is NoteKind.DOES_NOT_APPLY]
    assert "accept_eula" in note.text


def test_a_variable_takes_away_a_listener_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.conf"
    file.write_text("listener.tcp.default = 127.0.0.1:1883\nlistener.ws.default = 0.0.0.0:8080\n")
    configuration = load(file, environment={"DOCKER_VERNEMQ_LISTENER__WS__DEFAULT": "off"})
    assert [listener.key for listener in configuration.all_listeners] == ["listener.tcp.default"]
    without = load(
        file, environment={"STROGOFF_SET_LISTENER__TCP__DEFAULT": "Off"}, overrides=["listener.ws.default=off"]
    )
    assert without.listeners == ()
    assert any("no MQTT listener is open" in note.text for note in without.notes)
