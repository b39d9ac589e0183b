"""The chart as Helm renders it, run by the stand-in for Kubernetes."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import CertificateAuthority
from e2e.kubelet.brokers import IMAGE, Brokers
from e2e.kubelet.network import why_impossible
from e2e.kubelet.rendering import render
from e2e.kubelet.stand_in import stand_in

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))

NAME = "test-strogoff"
# What a test cannot wait for as long as people can, and the small disk that it has.
FAST: dict[str, Any] = {
    "config": {
        "allow_anonymous": True,
        "cluster.link_timeout": 1000,
        "store.segment_bytes": "256KB",
        # On from the first start, to a broker that is not there.
        "plugins.vmq_bridge": True,
        "vmq_bridge.tcp.away": "127.0.0.1:1",
        "vmq_bridge.tcp.away.topic.1": "all/# both 1",
    },
    "statefulset": {"minReadySeconds": 0, "terminationGracePeriodSeconds": 60},
    "cookie": {"value": "not vmq"},
    "drain": {"leave": "no", "pauseSeconds": 0},
}


@pytest.fixture
def brokers(tmp_path: Path) -> Iterator[Brokers]:
    with stand_in(tmp_path, IMAGE) as kubernetes:
        brokers = Brokers(kubernetes, NAME)
        try:
            yield brokers
        finally:
            brokers.end_clients()


@pytest.mark.parametrize("discovery", ["dns", "static"])
def test_pods_that_start_together_with_a_bridge_are_one_cluster_and_stay_it_through_an_update(
    brokers: Brokers, discovery: str
) -> None:
    values = {**FAST, "discovery": discovery}
    before = brokers.install(render(values), 3)
    brokers.await_one_cluster(3)
    changed = {**values, "config": {**FAST["config"], "max_offline_messages": 500}}
    brokers.kubernetes.apply(render(changed))
    after = brokers.kubernetes.await_pods(NAME, 3, timeout_s=120)
    assert all(after[name].address != before[name].address for name in before)
    brokers.await_one_cluster(3)
    assert "away" in brokers.admin(0, "bridge", "show", "--format=csv")
    shown = brokers.admin(0, "config", "show", "max_offline_messages", "distributed_cookie", "--format=csv")
    assert "/strogoff/conf/strogoff.conf" in shown
    assert "environment STROGOFF_SET_DISTRIBUTED_COOKIE_FILE" in shown


def test_nodes_find_each_other_over_tls_with_one_certificate_for_all(brokers: Brokers) -> None:
    values = {**FAST, "clusterTls": {"enabled": True, "existingSecret": "nodes"}}
    domain = f"{NAME}-headless.mqtt.svc.cluster.local"
    authority = CertificateAuthority()
    issued = authority.issue_for_node(domain, f"*.{domain}")
    files = {"tls.crt": issued.certificate_pem, "tls.key": issued.key_pem, "ca.crt": authority.pem}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "nodes", "namespace": "mqtt"},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    brokers.install([secret, *render(values)], 3)
    brokers.await_one_cluster(3)
    assert "/strogoff/tls/cluster/tls.crt" in brokers.admin(0, "tls", "show", "--format=csv")
