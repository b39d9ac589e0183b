"""The variables of a container: its own, those of maps, secrets and services, and what is told about its pod."""

import base64
from typing import Any

import pytest

from e2e.kubelet.environment import Data, PodFacts, environment_of, expanded, service_links
from e2e.kubelet.manifests import ManifestError, Service, ServicePort, read_container

FACTS = PodFacts("broker-1", "test", "uid", "10.88.0.7", "node", "account", {"app": "x"}, {"note": "y"})


def data() -> Data:
    found = Data()
    secret = {"password": base64.b64encode(b"secret").decode()}
    found.read({"kind": "Secret", "metadata": {"name": "s"}, "data": secret, "stringData": {"user": "me"}})
    found.read({"kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"A": "1", "B": "2"}})
    return found


def variables(
    *env: dict[str, Any], env_from: tuple[dict[str, Any], ...] = (), links: dict[str, str] | None = None
) -> dict[str, str]:
    container = read_container({"name": "c", "env": list(env), "envFrom": env_from}, {})
    return environment_of(container, FACTS, data(), links)


def ref(path: str) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"fieldRef": {"fieldPath": path}}}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "broker-1"),
        ("metadata.namespace", "test"),
        ("status.podIP", "10.88.0.7"),
        ("metadata.labels['app']", "x"),
        ("metadata.annotations['note']", "y"),
        ("metadata.labels['none']", ""),
    ],
)
def test_a_pod_is_told_about_itself(path: str, value: str) -> None:
    assert variables(ref(path)) == {"X": value}


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"does not know status\.phase"):
        variables(ref("status.phase"))


def test_a_variable_may_use_those_before_it() -> None:
    assert (
        variables({"name": "A", "value": "a"}, {"name": "B", "value": "$(A)-$(LATER)-$$(A)"})["B"] == "a-$(LATER)-$(A)"
    )
    assert expanded("100$ $(A", {"A": "x"}) == "100$ $(A"


def test_maps_and_secrets_give_all_or_one_of_their_entries() -> None:
    password = {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}}
    all_of_map: dict[str, Any] = {"configMapRef": {"name": "m"}, "prefix": "M_"}
    none = {"secretRef": {"name": "none", "optional": True}}
    assert variables(password, env_from=(all_of_map, none)) == {"M_A": "1", "M_B": "2", "P": "secret"}


def test_what_is_missing_is_named_unless_it_may_be() -> None:
    def of(name: str, **more: bool) -> dict[str, Any]:
        return {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": name, **more}}}

    with pytest.raises(ManifestError, match="the secret s has no key none"):
        variables(of("none"))
    assert variables(of("none", optional=True)) == {}
    with pytest.raises(ManifestError, match="there is no configMap none"):
        variables(env_from=({"configMapRef": {"name": "none"}},))


def test_a_service_with_an_address_is_told_of_and_a_headless_one_is_not() -> None:
    client = Service("my-mqtt", "test", {}, False, False, (ServicePort("mqtt", 1883, "mqtt"),))
    headless = Service("headless", "test", {}, True, True, (ServicePort("mqtt", 1883, "mqtt"),))
    links = service_links([(client, "10.96.0.9"), (headless, "")])
    assert links["MY_MQTT_SERVICE_HOST"] == "10.96.0.9"
    assert links["MY_MQTT_PORT"] == "tcp://10.96.0.9:1883"
    assert links["MY_MQTT_SERVICE_PORT_MQTT"] == "1883"
    assert not any(name.startswith("HEADLESS") for name in links)
    assert variables({"name": "MY_MQTT_PORT", "value": "own"}, links=links)["MY_MQTT_PORT"] == "own"
