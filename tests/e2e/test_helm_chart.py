"""The chart, rendered by Helm: what Kubernetes takes, what fits together, and what VerneMQ's chart takes."""

import ast
import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import kubernetes_validate
import pytest
import yaml

from e2e.kubelet.rendering import CHART, RenderingError, lint, notes, render
from strogoff.cli.main import main
from strogoff.config import load
from strogoff.config.parser import parse_file

Manifest: TypeAlias = Mapping[str, Any]

VERSIONS = ("1.25", "1.29", "1.33", "1.37")
OF_OPERATORS = {"ServiceMonitor", "Certificate"}

# All values of VerneMQ's chart 2.1, each with something else than its default where there is a choice.
OF_VERNEMQ: dict[str, Any] = {
    "replicaCount": 2,
    "image": {"repository": "registry.example/mqtt", "tag": "1.2.3-alpine", "pullPolicy": "Always"},
    "nameOverride": "broker",
    "fullnameOverride": "my-broker",
    "service": {
        "enabled": True,
        "type": "LoadBalancer",
        "loadBalancerIP": "10.0.0.9",
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
        "externalTrafficPolicy": "Local",
        "externalIPs": ["10.0.0.10"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
        "mqtt": {"enabled": True, "port": 1883, "nodePort": 1883},
        "mqtts": {"enabled": True, "port": 8883, "nodePort": 8883},
        "ws": {"enabled": True, "port": 8080, "nodePort": 8080},
        "wss": {"enabled": True, "port": 8443, "nodePort": 8443},
        "api": {"enabled": True, "type": "NodePort", "port": 8888, "nodePort": 30888, "annotations": {}},
    },
    "headlessService": {"customPorts": [{"name": "mqtt-alt", "port": 1884, "targetPort": 1884}]},
    "ingress": {
        "enabled": True,
        "className": "nginx",
        "labels": {},
        "annotations": {"e": "f"},
        "hosts": ["mqtt.example.org"],
        "paths": [{"path": "/mqtt", "pathType": "Prefix"}],
        "tls": [{"secretName": "web", "hosts": ["mqtt.example.org"]}],
    },
    "resources": {"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "mqtt", "operator": "Exists", "effect": "NoSchedule"}],
    "podAntiAffinity": "hard",
    "securityContext": {"runAsUser": 10000, "runAsGroup": 10000, "fsGroup": 10000},
    "containerSecurityContext": {"readOnlyRootFilesystem": True},
    "rbac": {
        "create": True,
        "serviceAccount": {"create": True, "name": "mqtt-account", "automountServiceAccountToken": True},
    },
    "persistentVolume": {
        "enabled": True,
        "accessModes": ["ReadWriteOnce"],
        "size": "20Gi",
        "storageClass": "-",
        "annotations": {"g": "h"},
    },
    "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
    "extraVolumes": [{"name": "more", "emptyDir": {}}],
    "secretMounts": [{"name": "users", "secretName": "users", "path": "/etc/users"}],
    "statefulset": {
        "podManagementPolicy": "OrderedReady",
        "updateStrategy": "RollingUpdate",
        "rollingUpdate": {"partition": 1},
        "terminationGracePeriodSeconds": 60,
        "livenessProbe": {
            "initialDelaySeconds": 90,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 3,
        },
        "readinessProbe": {"tcpSocket": {"port": 1883}, "initialDelaySeconds": 90},
        "podAnnotations": {"i": "j"},
        "annotations": {"k": "l"},
        "labels": {"m": "n"},
        "podLabels": {"o": "p"},
        "lifecycle": {},
        "imagePullSecrets": [{"name": "pull"}],
    },
    "pdb": {"enabled": True, "minAvailable": 1},
    "certificates": {"cert": {}, "key": {}, "ca": {}, "secret": {"labels": {}, "annotations": {}}},
    "additionalEnv": [
        {"name": "DOCKER_VERNEMQ_ACCEPT_EULA", "value": "yes"},
        {"name": "DOCKER_VERNEMQ_ALLOW_REGISTER_DURING_NETSPLIT", "value": "on"},
        {"name": "DOCKER_VERNEMQ_LISTENER__SSL__CERTFILE", "value": "/etc/users/tls.crt"},
        {"name": "DOCKER_VERNEMQ_LISTENER__SSL__KEYFILE", "value": "/etc/users/tls.key"},
        {"name": "DOCKER_VERNEMQ_LISTENER__WSS__CERTFILE", "value": "/etc/users/tls.crt"},
        {"name": "DOCKER_VERNEMQ_LISTENER__WSS__KEYFILE", "value": "/etc/users/tls.key"},
    ],
    "envFrom": [{"secretRef": {"name": "vernemq-users"}}],
    "acl": {"enabled": True, "content": "topic a/#\npattern b/%c\n", "labels": {"q": "r"}, "annotations": {"s": "t"}},
    "serviceMonitor": {"create": True, "interval": "15s", "labels": {"release": "prometheus"}},
}

VALUE_SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "of VerneMQ": OF_VERNEMQ,
    "one node without a disk": {
        "replicaCount": 1,
        "persistentVolume": {"enabled": False},
        "pdb": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "podAntiAffinity": "none",
        "drain": {"leave": "no"},
        "discovery": "none",
    },
    "closed": {
        "cookie": {"existingSecret": "cookie"},
        "clusterTls": {"enabled": True, "certManager": {"enabled": True, "issuerRef": {"name": "nodes"}}},
        "networkPolicy": {
            "from": [{"namespaceSelector": {"matchLabels": {"mqtt": "yes"}}}],
            "extraIngress": [{"ports": [{"port": 1999, "protocol": "TCP"}]}],
        },
    },
    "own secrets": {
        "cookie": {"value": "not vmq"},
        "clusterTls": {"enabled": True, "existingSecret": "cluster-certificate"},
        "certificates": {"cert": "CERTIFICATE", "key": "KEY", "ca": "CA", "secret": {"labels": {"a": "b"}}},
        "service": {"mqtts": {"enabled": True}, "wss": {"enabled": True, "port": 443}, "mqtt": {"enabled": False}},
    },
    "through the API": {"discovery": "kubernetes", "rbac": {"serviceAccount": {"create": False, "name": "there"}}},
    "everything else": {
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "priorityClassName": "high",
        "initContainers": [{"name": "first", "image": "busybox"}],
        "extraContainers": [{"name": "beside", "image": "busybox"}],
        "statefulset": {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
        "persistentVolumeClaimRetentionPolicy": {"whenScaled": "Delete"},
        "pdb": {"minAvailable": "50%"},
        "ingress": {"enabled": True},
        "service": {"ws": {"enabled": True}, "type": "NodePort", "mqtt": {"nodePort": 31883}},
        "config": {"plugins.vmq_passwd": True, "max_retained_messages": 10_000_000, "nodename": "x#y"},
    },
}


@pytest.fixture(params=VALUE_SETS)
def manifests(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(VALUE_SETS[request.param])


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def named(manifests: list[dict[str, Any]], kind: str, ending: str = "") -> dict[str, Any]:
    [found] = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"].endswith(ending)]
    return found


def pod(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = named(manifests, "StatefulSet")["spec"]["template"]["spec"]
    return found


def broker(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = [container for container in pod(manifests)["containers"] if container["name"] == "strogoff"]
    return dict(found)


def configuration_file(manifests: list[dict[str, Any]], directory: Path) -> Path:
    file = directory / "strogoff.conf"
    file.write_text(named(manifests, "ConfigMap", "-config")["data"]["strogoff.conf"])
    return file


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_manifests(manifests: list[dict[str, Any]], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_a_manifest_that_is_wrong_is_noticed() -> None:
    wrong = render({"resources": {"limit": {"cpu": 1}}})
    with pytest.raises(kubernetes_validate.ValidationError, match="limit"):
        kubernetes_validate.validate(named(wrong, "StatefulSet"), VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_helm_finds_nothing_to_complain_about(name: str) -> None:
    assert lint(VALUE_SETS[name]) == []


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"replicas": 3}, "replicas"),
        ({"replicaCount": "three"}, "replicaCount"),
        ({"service": {"mqtt": {"port": 70_000}}}, "port"),
        ({"drain": {"leave": "perhaps"}}, "leave"),
        ({"clusterTls": {"enabled": True, "certManager": {"enabled": True}}}, "issuerRef.name: the issuer that signs"),
        ({"clusterTls": {"enabled": True}, "discovery": "kubernetes"}, "use dns, or static"),
        ({"certificates": {"cert": "CERTIFICATE"}}, "certificates.key: the key of certificates.cert"),
    ],
)
def test_values_that_are_not_understood_are_refused(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RenderingError, match=complaint):
        render(values)


def test_the_readme_of_the_chart_tells_of_every_value() -> None:
    readme = (CHART / "README.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert [name for name in values if f"`{name}" not in readme] == []
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(values) == set(schema["properties"]) - {"global", "enabled"}


def test_the_chart_is_of_the_version_of_the_broker() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = (CHART.parents[2] / "engine" / "Cargo.toml").read_text()
    assert f'version = "{chart["appVersion"]}"' in cargo


# -- what fits together --------------------------------------------------------------------------------------------


def test_services_and_policies_are_about_the_pods(manifests: list[dict[str, Any]]) -> None:
    stateful_set = named(manifests, "StatefulSet")
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in of_kind(manifests, "Service")]
    selectors += [stateful_set["spec"]["selector"]["matchLabels"]]
    selectors += [budget["spec"]["selector"]["matchLabels"] for budget in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [policy["spec"]["podSelector"]["matchLabels"] for policy in of_kind(manifests, "NetworkPolicy")]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    assert stateful_set["spec"]["serviceName"] in {s["metadata"]["name"] for s in of_kind(manifests, "Service")}


def test_ports_that_are_named_are_there(manifests: list[dict[str, Any]]) -> None:
    container = broker(manifests)
    ports = {port["name"] for port in container["ports"]}
    numbers = {port["containerPort"] for port in container["ports"]}
    used = [container[probe].get("httpGet", {}).get("port", "api") for probe in ("startupProbe", "livenessProbe")]
    used += [port["targetPort"] for service in of_kind(manifests, "Service") for port in service["spec"]["ports"]]
    used += [
        port["port"]
        for policy in of_kind(manifests, "NetworkPolicy")
        for rule in policy["spec"]["ingress"]
        for port in rule["ports"]
    ]
    # The one that an own rule of a policy is about is the user's.
    assert {port for port in used if port != 1999} <= ports | numbers
    for ingress in of_kind(manifests, "Ingress"):
        [path] = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
        assert path["backend"]["service"]["port"]["name"] in ports


def test_volumes_that_are_mounted_are_there(manifests: list[dict[str, Any]]) -> None:
    claims = named(manifests, "StatefulSet")["spec"].get("volumeClaimTemplates", [])
    volumes = [volume["name"] for volume in pod(manifests)["volumes"]] + [claim["metadata"]["name"] for claim in claims]
    mounted = [mount["name"] for mount in broker(manifests)["volumeMounts"]]
    assert sorted(volumes) == sorted(mounted)


def data_sources(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for volume in pod(manifests)["volumes"]:
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", ()):
            yield "ConfigMap", source["configMap"]["name"]


def test_what_is_mounted_is_made_by_the_chart_or_was_named_by_the_user(manifests: list[dict[str, Any]]) -> None:
    made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    made |= {("Secret", manifest["spec"]["secretName"]) for manifest in of_kind(manifests, "Certificate")}
    of_user = {("Secret", name) for name in ("cookie", "cluster-certificate", "users")}
    assert set(data_sources(manifests)) <= made | of_user


def test_pods_may_do_no_more_than_they_have_to(manifests: list[dict[str, Any]]) -> None:
    spec, container = pod(manifests), broker(manifests)
    assert spec["securityContext"]["runAsUser"] == 10_000
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["enableServiceLinks"] is False
    asks = bool(of_kind(manifests, "Role"))
    assert spec["automountServiceAccountToken"] is asks


@pytest.mark.parametrize(
    ("values", "resources"),
    [
        ({}, {"statefulsets"}),
        ({"discovery": "kubernetes"}, {"statefulsets", "endpointslices"}),
        ({"discovery": "kubernetes", "drain": {"leave": "no"}}, {"endpointslices"}),
        (
            {"discovery": "kubernetes", "config": {"cluster.discovery.kubernetes.label_selector": "a=b"}},
            {"statefulsets", "pods"},
        ),
        ({"drain": {"leave": "no"}}, set()),
        ({"statefulset": {"lifecycle": {"preStop": {"exec": {"command": ["true"]}}}}}, set()),
        ({"rbac": {"create": False}}, set()),
    ],
)
def test_rights_are_those_that_are_used(values: dict[str, Any], resources: set[str]) -> None:
    roles = of_kind(render(values), "Role")
    rules = [rule for role in roles for rule in role["rules"]]
    assert {resource for rule in rules for resource in rule["resources"]} == resources
    assert all(set(rule["verbs"]) <= {"get", "list"} for rule in rules)
    assert [rule["resourceNames"] for rule in rules if "statefulsets" in rule["resources"]] in ([], [["test-strogoff"]])


def test_the_three_probes_ask_three_different_things() -> None:
    container = broker(render({}))
    paths = [container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")]
    assert paths == ["/health/started", "/health/live", "/health/ready"]


def test_a_probe_without_values_has_the_times_of_kubernetes() -> None:
    container = broker(render({"statefulset": {"livenessProbe": None, "startupProbe": {"periodSeconds": 7}}}))
    assert container["livenessProbe"] == {"httpGet": {"path": "/health/live", "port": "api"}}
    assert container["startupProbe"]["periodSeconds"] == 7
    assert container["startupProbe"]["failureThreshold"] == 300


@pytest.mark.parametrize("grace", [20, 60, 300])
def test_a_pod_has_time_to_stop_when_it_has_drained(grace: int) -> None:
    container = broker(render({"statefulset": {"terminationGracePeriodSeconds": grace}}))
    command = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command[:3] == ["strogoff", "drain", "--leave=auto"]
    timeout = int(command[-1].removeprefix("--timeout="))
    assert 1 <= timeout <= max(1, grace - 30)
    # The command takes its own words.
    with pytest.raises(SystemExit) as ended:
        main([*command[1:], "--help"])
    assert ended.value.code == 0


def test_nodes_find_each_other_before_they_are_ready() -> None:
    manifests = render({}, name="mine", namespace="iot")
    headless = named(manifests, "Service", "-headless")
    assert headless["spec"]["clusterIP"] == "None"
    assert headless["spec"]["publishNotReadyAddresses"] is True
    assert named(manifests, "StatefulSet")["spec"]["podManagementPolicy"] == "Parallel"
    domain = "mine-strogoff-headless.iot.svc.cluster.local"
    environment = {entry["name"]: entry.get("value") for entry in broker(manifests)["env"]}
    assert environment["STROGOFF_SET_NODENAME"] == f"VerneMQ@$(MY_POD_NAME).{domain}"
    assert f"cluster.discovery.dns.name = {domain}\n" in named(manifests, "ConfigMap")["data"]["strogoff.conf"]


def test_names_have_room_for_what_is_put_behind_them() -> None:
    manifests = render({}, name="a" * 53)
    assert all(len(manifest["metadata"]["name"]) <= 63 for manifest in manifests)


def test_the_certificate_of_cert_manager_is_good_for_all_nodes_and_both_ends() -> None:
    certificate = named(render(VALUE_SETS["closed"], name="mine", namespace="iot"), "Certificate")["spec"]
    domain = "mine-strogoff-headless.iot.svc.cluster.local"
    assert certificate["dnsNames"] == [domain, f"*.{domain}"]
    assert {"server auth", "client auth"} <= set(certificate["usages"])
    assert certificate["issuerRef"] == {"name": "nodes", "kind": "Issuer", "group": "cert-manager.io"}


def test_prometheus_is_sent_to_a_port_that_is_there() -> None:
    manifests = render(OF_VERNEMQ)
    monitor, headless = named(manifests, "ServiceMonitor")["spec"], named(manifests, "Service", "-headless")
    assert monitor["selector"]["matchLabels"].items() <= headless["metadata"]["labels"].items()
    [endpoint] = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in headless["spec"]["ports"]}


def test_secrets_are_what_was_given() -> None:
    manifests = render(VALUE_SETS["own secrets"])
    cookie, certificate = named(manifests, "Secret", "-cookie"), named(manifests, "Secret", "-certs")
    assert base64.b64decode(cookie["data"]["cookie"]) == b"not vmq"
    assert {name: base64.b64decode(text) for name, text in certificate["data"].items()} == {
        "tls.crt": b"CERTIFICATE",
        "tls.key": b"KEY",
        "ca.crt": b"CA",
    }


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ({}, "well-known default secret"),
        ({"persistentVolume": {"enabled": False}}, "comes back empty"),
        ({"statefulset": {"podManagementPolicy": "OrderedReady"}}, "OrderedReady"),
        ({"rbac": {"create": False}}, "rbac.create is off"),
    ],
)
def test_what_is_risky_is_said_after_the_installation(values: dict[str, Any], warning: str) -> None:
    safe = {"cookie": {"existingSecret": "cookie"}}
    assert warning not in notes(safe)
    assert warning in notes(values)


# -- the configuration ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in VALUE_SETS if name != "everything else"])
def test_a_broker_starts_with_the_configuration(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render(VALUE_SETS[name])
    for entry in broker(manifests)["env"]:
        # The secret is not there; what Kubernetes fills in is not filled in.
        if "value" in entry and not entry["name"].endswith("_FILE"):
            monkeypatch.setenv(entry["name"], entry["value"].replace("$(MY_POD_NAME)", "pod-0"))
    code = main(["config", "check", str(configuration_file(manifests, tmp_path))])
    output = capsys.readouterr()
    assert code == 0, output.err


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (True, "on"),
        (False, "off"),
        (10_000_000, "10000000"),
        (0.5, "0.5"),
        ("a#b", "a#b"),
        (" a ", " a "),
        ("", ""),
        ("one\ntwo", "one\ntwo"),
        ("$(</etc/secret/password)", "$(</etc/secret/password)"),
    ],
)
def test_a_value_comes_through_as_it_is(value: object, read: str, tmp_path: Path) -> None:
    manifests = render({"config": {"graphite_prefix": value}})
    parsed = parse_file(configuration_file(manifests, tmp_path))
    assert not parsed.problems
    assert [item.text for item in parsed.assignments if item.key == "graphite_prefix"] == [read]


def test_lines_of_the_user_go_before_those_of_the_chart(tmp_path: Path) -> None:
    values = {"config": {"listener.tcp.default": "0.0.0.0:1999"}, "extraConfig": "allow_anonymous = on\n"}
    file = configuration_file(render({**values, "discovery": "none"}), tmp_path)
    configuration = load(file)
    assert configuration.get("allow_anonymous") is True
    assert configuration.get("listener.tcp.default").port == 1999


def test_a_list_of_nodes_is_as_long_as_there_are_replicas_unless_it_is_the_users() -> None:
    data = named(render({"discovery": "static", "replicaCount": 2}, name="mine", namespace="iot"), "ConfigMap")["data"]
    assert data["nodes"].splitlines() == [
        f"VerneMQ@mine-strogoff-{number}.mine-strogoff-headless.iot.svc.cluster.local" for number in (0, 1)
    ]
    assert "cluster.discovery = file\n" in data["strogoff.conf"]
    values = {"discovery": "static", "config": {"cluster.discovery.static.nodes": "a@b,c@d"}}
    own = named(render(values), "ConfigMap")["data"]
    assert "cluster.discovery = static\n" in own["strogoff.conf"]
    assert "nodes" not in own


def test_a_changed_configuration_reaches_the_pods_and_changed_rules_need_no_restart() -> None:
    def annotations(values: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = named(render(values), "StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        return found

    acl = {"enabled": True, "content": "topic a\n"}
    assert annotations({"acl": acl}) != annotations({"acl": acl, "config": {"allow_anonymous": True}})
    assert annotations({"acl": acl}) == annotations({"acl": {**acl, "content": "topic b\n"}, "replicaCount": 5})
    by_list = {"discovery": "static"}
    assert annotations(by_list) == annotations({**by_list, "replicaCount": 5})
    mounts = {mount["mountPath"]: mount for mount in broker(render({"acl": acl}))["volumeMounts"]}
    # A file that is mounted by subPath would never change in a pod that runs.
    assert all("subPath" not in mount for mount in mounts.values())


# -- the guide -----------------------------------------------------------------------------------------------------

GUIDE = (CHART.parents[2] / "docs" / "kubernetes.md").read_text()


def test_the_values_of_the_guide_are_taken_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    together: dict[str, Any] = {}
    shown = re.findall(r"^```yaml\n# values\.yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 3
    for text in shown:
        for name, value in yaml.safe_load(text).items():
            together[name] = {**together.get(name, {}), **value} if isinstance(value, dict) else value
    manifests = render(together)
    for manifest in manifests:
        if manifest["kind"] not in OF_OPERATORS:
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    file = configuration_file(manifests, tmp_path)
    # A secret is read when the configuration is.
    mounted = "/etc/factory/password"
    assert mounted in file.read_text()
    (tmp_path / "password").write_text("secret")
    file.write_text(file.read_text().replace(mounted, str(tmp_path / "password")))
    assert main(["config", "check", str(file)]) == 0, capsys.readouterr().err


def texts_of_the_program() -> Iterator[str]:
    """All texts in its source, with a line end where a value is put in."""
    for path in (CHART.parents[2] / "src" / "strogoff").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_messages_that_the_guide_explains_are_said() -> None:
    said = list(texts_of_the_program())
    table = GUIDE.partition("## What you see")[2].partition("And what VerneMQ says")[0]
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    messages = [message for row in rows for message in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(messages) > 15
    for message in messages:
        pattern = re.compile(".*".join(re.escape(part) for part in message.split("...")), re.DOTALL)
        # What the operating system says is no text of the program.
        assert "No such file" in message or any(pattern.search(text) for text in said), message
