"""The name of a node in a container."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from strogoff.config import ConfigError, load
from strogoff.config.container import THIS_HOST, name_in_container

ON = {"DOCKER_VERNEMQ_DISCOVERY_KUBERNETES": "1"}
POD = {**ON, "MY_POD_NAME": "vmq-0"}
SUBDOMAIN = {"DOCKER_VERNEMQ_KUBERNETES_SUBDOMAIN": "vmq-headless"}
NAMESPACE = {"DOCKER_VERNEMQ_KUBERNETES_NAMESPACE": "iot"}


@dataclass
class Container:
    """A container that says of itself what a test wants."""

    name: str = "3fd1c0ffee"
    of_service_account: str | None = None
    interfaces: dict[str, str] = field(default_factory=dict)
    address: str | None = "10.0.0.7"

    def full_name(self) -> str:
        return self.name

    def namespace(self) -> str | None:
        return self.of_service_account

    def address_of(self, interface: str) -> str | None:
        return self.interfaces.get(interface)

    def default_address(self) -> str | None:
        return self.address


@pytest.mark.parametrize(
    ("variables", "container", "host_part", "variable"),
    [
        (POD, Container("vmq-0.vmq-headless.iot.svc.cluster.local"), None, "MY_POD_NAME"),
        ({**ON, "POD_NAME": "vmq-0"}, Container("vmq-0.vmq-headless.iot.svc.cluster.local"), None, "POD_NAME"),
        ({**POD, **SUBDOMAIN, **NAMESPACE}, Container(), "vmq-0.vmq-headless.iot.svc.cluster.local", "MY_POD_NAME"),
        (
            {**POD, **SUBDOMAIN},
            Container(of_service_account="a"),
            "vmq-0.vmq-headless.a.svc.cluster.local",
            "MY_POD_NAME",
        ),
        (
            {**POD, **SUBDOMAIN, "POD_NAMESPACE": "b", "DOCKER_VERNEMQ_KUBERNETES_CLUSTER_NAME": "k8s.example"},
            Container("vmq-0.other.svc.cluster.local"),
            "vmq-0.vmq-headless.b.svc.k8s.example",
            "MY_POD_NAME",
        ),
        (
            {"DOCKER_IP_ADDRESS": "10.1.2.3", "DOCKER_NET_INTERFACE": "eth1"},
            Container(),
            "10.1.2.3",
            "DOCKER_IP_ADDRESS",
        ),
        (
            {"DOCKER_NET_INTERFACE": "eth1"},
            Container(interfaces={"eth1": "10.2.2.2"}),
            "10.2.2.2",
            "DOCKER_NET_INTERFACE",
        ),
        ({"DOCKER_VERNEMQ_SWARM": "1"}, Container(), "10.0.0.7", "DOCKER_VERNEMQ_SWARM"),
        ({"DOCKER_VERNEMQ_COMPOSE": "1"}, Container(), "10.0.0.7", "DOCKER_VERNEMQ_COMPOSE"),
        ({"DOCKER_VERNEMQ_DISCOVERY_NODE": "a"}, Container(), "10.0.0.7", "DOCKER_VERNEMQ_DISCOVERY_NODE"),
    ],
)
def test_a_node_is_named_after_what_the_container_knows(
    variables: dict[str, str], container: Container, host_part: str | None, variable: str
) -> None:
    named = name_in_container(variables, container)
    assert named is not None
    assert (named.key, named.text) == ("nodename", f"VerneMQ@{host_part or container.name}")
    assert str(named.source) == f"environment {variable}"


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"MY_POD_NAME": "vmq-0", "POD_NAME": "vmq-0", **NAMESPACE},
        {"DOCKER_VERNEMQ_DISCOVERY_KUBERNETES": "0", "MY_POD_NAME": "vmq-0"},
        {"DOCKER_VERNEMQ_SWARM": "off"},
    ],
)
def test_a_node_that_nobody_asks_to_be_named_is_not(variables: dict[str, str]) -> None:
    assert name_in_container(variables, Container("vmq-0.vmq-headless.iot.svc.cluster.local")) is None


@pytest.mark.parametrize(
    ("variables", "container", "error"),
    [
        (ON, Container(), "DISCOVERY_KUBERNETES: nodename: the name of this pod is not known; set MY_POD_NAME to"),
        ({**ON, "POD_NAME": "a b"}, Container(), "environment POD_NAME: nodename: 'a b' is no name of a pod"),
        ({**POD, **NAMESPACE}, Container("vmq-0"), "headless service of the pod vmq-0 is not known; set .*_SUBDOMAIN"),
        ({**POD, **SUBDOMAIN}, Container("vmq-0"), "the namespace of the pod vmq-0 is not known; set .*_NAMESPACE"),
        ({"DOCKER_NET_INTERFACE": "eth9"}, Container(), "'eth9' has no IPv4 address; set DOCKER_IP_ADDRESS"),
        ({"DOCKER_VERNEMQ_SWARM": "1"}, Container(address=None), "no IPv4 address; set DOCKER_VERNEMQ_NODENAME"),
    ],
)
def test_what_is_missing_for_a_name_is_said_together_with_what_to_set(
    variables: dict[str, str], container: Container, error: str
) -> None:
    with pytest.raises(ConfigError, match=error):
        load(environment=variables, host=container)


@pytest.mark.parametrize(
    ("variables", "overrides", "name"),
    [
        ({"DOCKER_VERNEMQ_NODENAME": "host.example"}, [], "VerneMQ@host.example"),
        ({"STROGOFF_SET_NODENAME": "me@host.example"}, [], "me@host.example"),
        ({}, ["nodename=me@option.example"], "me@option.example"),
        ({}, [], "me@file.example"),
    ],
)
def test_a_name_that_was_given_goes_before_one_that_is_found(
    tmp_path: Path, variables: dict[str, str], overrides: list[str], name: str
) -> None:
    file = tmp_path / "my.conf"
    file.write_text("nodename = me@file.example\n")
    # Without a name of the pod it would be an error to look for one.
    assert load(file, environment={**ON, **variables}, overrides=overrides, host=Container()).node_name == name


def test_this_machine_knows_the_address_of_its_loopback_interface() -> None:
    assert THIS_HOST.address_of("lo") == "127.0.0.1"
    assert THIS_HOST.address_of("no-such-one") is None
    assert THIS_HOST.full_name()
