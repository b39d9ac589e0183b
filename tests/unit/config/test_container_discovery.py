"""What VerneMQ's variables say about other nodes."""

from pathlib import Path

import pytest

from strogoff.config import Configuration, load

ON = {"DOCKER_VERNEMQ_DISCOVERY_KUBERNETES": "1"}
POD = {**ON, "DOCKER_VERNEMQ_NODENAME": "vmq-0.vmq-headless.iot.svc.cluster.local"}


def keys(variables: dict[str, str], *overrides: str) -> dict[str, object]:
    """The keys of discovery that are set, without their common beginning."""
    configuration = load(environment=variables, overrides=overrides)
    assigned = (name for name in configuration.assigned if name.startswith("cluster.discovery"))
    return {name.removeprefix("cluster.discovery").lstrip("."): configuration.get(name) for name in assigned}


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, {}),
        ({"DOCKER_VERNEMQ_DISCOVERY_KUBERNETES": "0"}, {}),
        (POD, {"": "dns", "dns.name": "vmq-headless.iot.svc.cluster.local"}),
        (
            {**ON, "DOCKER_VERNEMQ_NODENAME": "10.0.0.1", "DOCKER_VERNEMQ_KUBERNETES_INSECURE": "1"},
            {"": "kubernetes", "kubernetes.label_selector": "app=vernemq", "kubernetes.insecure": True},
        ),
        (
            {
                **ON,
                "DOCKER_VERNEMQ_NODENAME": "vmq-0",
                "DOCKER_VERNEMQ_KUBERNETES_LABEL_SELECTOR": "app.kubernetes.io/name=vernemq,a=b",
                "DOCKER_VERNEMQ_KUBERNETES_NAMESPACE": "iot",
            },
            {
                "": "kubernetes",
                "kubernetes.label_selector": "app.kubernetes.io/name=vernemq,a=b",
                "kubernetes.namespace": "iot",
            },
        ),
        (
            {"DOCKER_VERNEMQ_NODENAME": "b", "DOCKER_VERNEMQ_DISCOVERY_NODE": "10.0.0.1"},
            {"": "static", "static.nodes": ("VerneMQ@10.0.0.1",), "seed": "VerneMQ@10.0.0.1"},
        ),
        (
            {"DOCKER_VERNEMQ_NODENAME": "b", "DOCKER_VERNEMQ_DISCOVERY_NODE": "a", "DOCKER_VERNEMQ_COMPOSE": "1"},
            {"": "dns", "dns.name": "a", "expect": 2},
        ),
        (
            {"DOCKER_VERNEMQ_NODENAME": "b", "DOCKER_VERNEMQ_DISCOVERY_NODE": "a", "DOCKER_VERNEMQ_SWARM": "1"},
            {"": "dns", "dns.name": "tasks.a"},
        ),
    ],
)
def test_other_nodes_are_found_as_the_container_would(variables: dict[str, str], found: dict[str, object]) -> None:
    assert keys(variables) == found


def test_keys_of_discovery_go_before_the_variables() -> None:
    found = keys(POD, "cluster.discovery=static", "cluster.discovery.static.nodes=a@h")
    assert found == {"": "static", "static.nodes": ("a@h",)}
    assert keys(POD, "cluster.discovery.dns.name=other.example")["dns.name"] == "other.example"


def listeners(configuration: Configuration) -> dict[str, str]:
    return {found.key: str(found.endpoint) for found in configuration.all_listeners if found.kind.startswith("vmq")}


def test_a_node_that_looks_for_others_has_a_listener_for_them_as_in_the_container(tmp_path: Path) -> None:
    assert listeners(load(environment=POD)) == {"listener.vmq.clustering": "0.0.0.0:44053"}
    file = tmp_path / "strogoff.conf"
    file.write_text("listener.vmq.own = 127.0.0.1:7\n")
    assert listeners(load(file, environment=POD)) == {"listener.vmq.own": "127.0.0.1:7"}
