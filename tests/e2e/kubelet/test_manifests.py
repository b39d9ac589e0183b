"""What the stand-in reads of manifests, and what it refuses."""

from typing import Any

import pytest

from e2e.kubelet.example import example
from e2e.kubelet.manifests import (
    HttpGet,
    ManifestError,
    Probe,
    TcpSocket,
    read_action,
    read_probe,
    read_service,
    read_stateful_set,
    selects,
)


def manifest(**spec: Any) -> dict[str, Any]:
    found = example(3)[0]
    found["spec"] |= spec
    return found


def test_a_stateful_set_has_the_defaults_of_kubernetes() -> None:
    found = read_stateful_set(manifest())
    assert (found.replicas, found.is_parallel, found.is_rolling, found.partition) == (3, False, True, 0)
    assert found.claims == ("data",)
    assert not found.deletes_claims_when_scaled
    assert found.template.containers[0].port("mqtt") == 1883


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ({"ordinals": {"start": 1}}, "spec: the stand-in does not know ordinals"),
        ({"updateStrategy": {"rollingUpdate": {"maxUnavailable": 2}}}, "maxUnavailable"),
        ({"selector": {"matchLabels": {"app": "another"}}}, "spec.selector does not select"),
    ],
)
def test_what_is_not_known_is_refused_by_name(field: dict[str, Any], names: str) -> None:
    with pytest.raises(ManifestError, match=names):
        read_stateful_set(manifest(**field))


def test_an_unknown_field_of_a_container_is_refused() -> None:
    found = manifest()
    found["spec"]["template"]["spec"]["containers"][0]["restartPolicy"] = "Always"
    with pytest.raises(ManifestError, match="container strogoff: the stand-in does not know restartPolicy"):
        read_stateful_set(found)


def test_who_is_no_root_needs_a_number() -> None:
    found = manifest()
    found["spec"]["template"]["spec"]["securityContext"] = {"runAsNonRoot": True}
    with pytest.raises(ManifestError, match="no runAsUser"):
        read_stateful_set(found)


def test_another_template_is_another_revision_and_another_size_is_not() -> None:
    first = read_stateful_set(manifest())
    assert read_stateful_set(manifest(replicas=5)).template.revision == first.template.revision
    changed = read_stateful_set(example(3, settings={"max_inflight_messages": "7"})[0])
    assert changed.template.revision != first.template.revision


def test_a_probe_has_the_defaults_of_kubernetes() -> None:
    assert read_probe({"tcpSocket": {"port": "mqtt"}}, "probe") == Probe(TcpSocket("mqtt"), 0, 10, 1, 1, 3, None)
    assert read_probe(None, "probe") is None
    with pytest.raises(ManifestError, match="probe: the stand-in does not know grpc"):
        read_probe({"grpc": {"port": 1}}, "probe")


def test_an_action_is_one_of_those_that_there_are() -> None:
    assert read_action({"httpGet": {"port": 1, "scheme": "HTTPS"}}, "hook") == HttpGet("/", 1, is_tls=True)
    with pytest.raises(ManifestError, match="hook: the stand-in does not know what to do: nothing"):
        read_action({}, "hook")


def test_a_service_without_an_address_is_headless() -> None:
    _, headless, client = (read_service(each) if each["kind"] == "Service" else None for each in example())
    assert headless is not None
    assert client is not None
    assert (headless.is_headless, headless.publishes_not_ready) == (True, True)
    assert (client.is_headless, client.publishes_not_ready) == (False, False)
    assert selects(client.selector, {**client.selector, "more": "x"})
    assert not selects(client.selector, {})
    assert not selects({}, {"any": "thing"})
