"""Configuration by environment variables."""

import pytest

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

CONTAINER_ONLY = [
    "DOCKER_VERNEMQ_DISCOVERY_NODE",
    "DOCKER_VERNEMQ_DISCOVERY_KUBERNETES",
    "DOCKER_VERNEMQ_KUBERNETES_LABEL_SELECTOR",
    "DOCKER_VERNEMQ_SWARM",
    "DOCKER_VERNEMQ_COMPOSE",
    "DOCKER_VERNEMQ_USER_JULES",
    "DOCKER_NET_INTERFACE",
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
