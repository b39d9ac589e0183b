"""Pods find their cluster by addresses: from DNS, which may be late, partial or silent, and from Kubernetes."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker_process import Setting
from certificates import CertificateAuthority
from cluster.clients import metric
from cluster.kubernetes_api import SELECTOR, SERVICE, Api, serving
from cluster.looking_nodes import Network, await_one_cluster, network, phase_of, seconds_to_ready, waits_for
from cluster.name_server import Zone, name_server
from cluster.real_nodes import ClusterNode, eventually

NAME = "brokers.iot.svc.cluster.local"
START_S = 5.0
STOP_S = 5.0


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    yield from network(tmp_path)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def pod(net: Network, number: int, settings: dict[str, Setting]) -> ClusterNode:
    return net.node(number, settings, name=f"VerneMQ@broker-{number}.{NAME}")


def by_dns(zone: Zone, **more: Setting) -> dict[str, Setting]:
    return {
        "cluster.discovery": "dns",
        "cluster.discovery.dns.name": NAME,
        "cluster.discovery.dns.server": zone.place,
        **{key.replace("__", "."): value for key, value in more.items()},
    }


def zone_of(stack: ExitStack, *addresses: str) -> Zone:
    return stack.enter_context(name_server(Zone({NAME: list(addresses)})))


def start(*nodes: ClusterNode) -> None:
    for node in nodes:
        node.broker.launch()


def stays_discovering(*nodes: ClusterNode, for_s: float) -> None:
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        assert {phase_of(node) for node in nodes} <= {"discovering", "booting", ""}


def test_three_pods_that_start_at_once_are_one_cluster_soon(net: Network, stack: ExitStack) -> None:
    zone = zone_of(stack, *(net.address(number) for number in range(3)))
    pods = [pod(net, number, by_dns(zone)) for number in range(3)]
    start(*reversed(pods))
    assert seconds_to_ready(*pods) < START_S
    await_one_cluster(*pods)
    # Looking for nodes without knowing their names is nothing that others should be warned of.
    assert not any(
        "a node was not let in" in node.broker.log_tail() and '"?' in node.broker.log_tail() for node in pods
    )


def test_pods_that_are_told_of_each_other_late_and_in_parts_are_one_cluster(net: Network, stack: ExitStack) -> None:
    addresses = [net.address(number) for number in range(3)]
    # The first hears of itself, the second of the third, and that of nobody.
    zones = [zone_of(stack, addresses[0]), zone_of(stack, *addresses[1:]), zone_of(stack)]
    pods = [pod(net, number, by_dns(zone)) for number, zone in enumerate(zones)]
    start(*pods)
    eventually(lambda: f"{pods[0].name}, which alone may start" in waits_for(pods[1]), "the second waits for the first")
    eventually(lambda: "has no address yet" in waits_for(pods[2]), "the third waits for word")
    assert "other nodes, for 10 s" in waits_for(pods[0])
    zones[1].addresses[NAME] = addresses
    eventually(
        lambda: phase_of(pods[1]) == "ready" or "has not done so yet" in waits_for(pods[1]), "it found the first"
    )
    zones[0].addresses[NAME] = addresses[:2]
    zones[2].addresses[NAME] = addresses[2:]
    for node in pods[:2]:
        node.broker.await_ready()
    stays_discovering(pods[2], for_s=0.5)
    zones[2].addresses[NAME] = addresses
    await_one_cluster(*pods)


@pytest.mark.parametrize("fault", ["is_failing", "is_silent"])
def test_pods_wait_for_a_name_server_that_does_not_answer(net: Network, stack: ExitStack, fault: str) -> None:
    zone = zone_of(stack, net.address(0), net.address(1))
    setattr(zone.server, fault, True)
    pods = [pod(net, number, by_dns(zone, cluster__discovery__patience=500)) for number in range(2)]
    start(*pods)
    for node in pods:
        eventually(lambda node=node: "the name server" in waits_for(node), "it says who is silent")  # type: ignore[misc]
    stays_discovering(*pods, for_s=1.0)
    assert metric(pods[0], "cluster_discovery_failures") >= 1
    began = time.monotonic()
    pods[1].broker.stop()
    assert time.monotonic() - began < STOP_S
    setattr(zone.server, fault, False)
    pods[1].broker.launch()
    await_one_cluster(*pods)


def test_the_first_pod_starts_alone_after_its_patience_and_others_join_it(net: Network, stack: ExitStack) -> None:
    zone = zone_of(stack, net.address(0))
    pods = [pod(net, number, by_dns(zone, cluster__discovery__patience=1_500)) for number in range(2)]
    start(pods[0])
    pods[0].broker.await_ready()
    assert pods[0].links() == {pods[0].name: "self"}
    zone.addresses[NAME].append(net.address(1))
    start(pods[1])
    await_one_cluster(*pods)


def test_a_pod_that_is_not_the_first_does_not_start_alone(net: Network, stack: ExitStack) -> None:
    zone = zone_of(stack, net.address(1))
    second = pod(net, 1, by_dns(zone, cluster__discovery__patience=0))
    start(second)
    eventually(
        lambda: f"VerneMQ@broker-0.{NAME}, which alone may start" in waits_for(second), "it says for whom it waits"
    )
    stays_discovering(second, for_s=1.0)


def test_nodes_without_numbers_wait_until_as_many_are_there_as_are_expected(net: Network, stack: ExitStack) -> None:
    zone = zone_of(stack, net.address(0), net.address(1))
    settings = by_dns(zone, cluster__discovery__expect=3, cluster__discovery__patience=0)
    nodes = [net.node(number, settings) for number in range(3)]
    start(*nodes[:2])
    eventually(lambda: "1 more nodes (cluster.discovery.expect = 3)" in waits_for(nodes[0]), "it says how many lack")
    zone.addresses[NAME].append(net.address(2))
    start(nodes[2])
    await_one_cluster(*nodes)


def test_an_address_that_another_node_takes_over_is_no_obstacle(net: Network, stack: ExitStack) -> None:
    zone = zone_of(stack, net.address(0), net.address(1))
    first, second = (pod(net, number, by_dns(zone)) for number in range(2))
    start(second)
    eventually(lambda: phase_of(second) == "discovering", "it looks")
    second.broker.stop()
    # The first pod comes to the address of the second, and that to another one.
    first.broker.settings = {**first.broker.settings, "listener.vmq.default": f"{net.address(1)}:{net.port}"}
    second.broker.settings = {**second.broker.settings, "listener.vmq.default": f"{net.address(0)}:{net.port}"}
    start(first, second)
    await_one_cluster(first, second)


@pytest.mark.parametrize("host", [NAME, f"*.{NAME}"], ids=["the service", "its pods"])
def test_pods_find_each_other_over_tls_by_a_certificate_for_the_service_or_its_pods(
    net: Network, stack: ExitStack, tmp_path: Path, host: str
) -> None:
    authority = CertificateAuthority()
    ca = authority.write(tmp_path, "nodes-ca")
    zone = zone_of(stack, net.address(0), net.address(1))
    nodes = []
    for number in range(2):
        certificate, key = authority.issue_for_node(host).write(tmp_path, f"node-{number}")
        settings: dict[str, Setting] = {
            **by_dns(zone, cluster__discovery__expect=2),
            "listener.vmq.default": "off",
            "listener.vmqs.default": f"{net.address(number)}:{net.port}",
            "listener.vmqs.default.certfile": str(certificate),
            "listener.vmqs.default.keyfile": str(key),
            "listener.vmqs.default.cafile": str(ca),
        }
        name = f"VerneMQ@broker-{number}.{NAME}" if host.startswith("*") else f"node{number}@{NAME}"
        nodes.append(net.node(number, settings, name=name))
    start(*nodes)
    await_one_cluster(*nodes)


@pytest.mark.parametrize("by", [{"service": SERVICE}, {"label_selector": SELECTOR}], ids=["service", "labels"])
def test_pods_find_each_other_through_the_api_of_kubernetes(
    net: Network, stack: ExitStack, tmp_path: Path, by: dict[str, str]
) -> None:
    api = stack.enter_context(serving(Api(tmp_path / "account", [net.address(number) for number in range(3)])))
    pods = [pod(net, number, api.settings(**by)) for number in range(3)]
    start(*pods)
    assert seconds_to_ready(*pods) < START_S
    await_one_cluster(*pods)


def test_pods_wait_for_an_api_that_is_down(net: Network, stack: ExitStack, tmp_path: Path) -> None:
    api = Api(tmp_path / "account", [net.address(0), net.address(1)])
    settings: dict[str, Setting] = {**api.settings(service=SERVICE), "cluster.discovery.patience": 0}
    pods = [pod(net, number, settings) for number in range(2)]
    start(*pods)
    for node in pods:
        eventually(lambda node=node: f"at {api.url}" in waits_for(node), "it says what is down")  # type: ignore[misc]
    stays_discovering(*pods, for_s=1.0)
    stack.enter_context(serving(api))
    await_one_cluster(*pods)
