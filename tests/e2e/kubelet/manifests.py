"""What the stand-in takes of manifests: stateful sets and services, and a refusal of what it does not know.

A field that would be passed over in silence might be the one that a test is about, so an unknown one is an error.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Manifest: TypeAlias = Mapping[str, Any]

DEFAULT_GRACE_S = 30
_ELSEWHERE = frozenset(
    {
        "affinity",
        "dnsPolicy",
        "imagePullSecrets",
        "nodeSelector",
        "priorityClassName",
        "schedulerName",
        "serviceAccount",
        "serviceAccountName",
        "tolerations",
        "topologySpreadConstraints",
    }
)
"""What says where a pod may run and who it is for the API, of which there is one of each here."""


class ManifestError(ValueError):
    """The stand-in cannot do what a manifest asks for; the message names the field."""


def _known(value: Manifest, where: str, *names: str, passed_over: frozenset[str] = frozenset()) -> None:
    unknown = sorted(set(value) - set(names) - passed_over)
    if unknown:
        raise ManifestError(f"{where}: the stand-in does not know {', '.join(unknown)}")


@dataclass(frozen=True, slots=True)
class HttpGet:
    """GET of a path. `port`: a number, or the name of one of the container's."""

    path: str
    port: int | str
    is_tls: bool = False
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TcpSocket:
    """A connection that is made and closed."""

    port: int | str


@dataclass(frozen=True, slots=True)
class Exec:
    """A program in the container."""

    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing, for a time."""

    seconds: float


Action: TypeAlias = HttpGet | TcpSocket | Exec | Sleep


def read_action(value: Manifest, where: str) -> Action:
    """The one thing that a probe or a hook does."""
    if "httpGet" in value:
        get = value["httpGet"]
        _known(get, f"{where}.httpGet", "path", "port", "scheme", "httpHeaders")
        headers = tuple((header["name"], header["value"]) for header in get.get("httpHeaders", ()))
        return HttpGet(get.get("path", "/"), get["port"], get.get("scheme", "HTTP") == "HTTPS", headers)
    if "tcpSocket" in value:
        _known(value["tcpSocket"], f"{where}.tcpSocket", "port")
        return TcpSocket(value["tcpSocket"]["port"])
    if "exec" in value:
        _known(value["exec"], f"{where}.exec", "command")
        return Exec(tuple(value["exec"]["command"]))
    if "sleep" in value:
        return Sleep(float(value["sleep"]["seconds"]))
    raise ManifestError(f"{where}: the stand-in does not know what to do: {', '.join(value) or 'nothing'}")


@dataclass(frozen=True, slots=True)
class Probe:
    """What is asked of a container, and how often. The times in seconds, with the defaults of Kubernetes."""

    action: Action
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3
    grace_s: float | None = None
    """Of a container that is ended for it; None: the pod's."""


def read_probe(value: Manifest | None, where: str) -> Probe | None:
    if value is None:
        return None
    actions = {name: value[name] for name in ("httpGet", "tcpSocket", "exec") if name in value}
    _known(
        value,
        where,
        *("httpGet", "tcpSocket", "exec", "initialDelaySeconds", "periodSeconds", "timeoutSeconds"),
        *("successThreshold", "failureThreshold", "terminationGracePeriodSeconds"),
    )
    return Probe(
        read_action(actions, where),
        float(value.get("initialDelaySeconds", 0)),
        float(value.get("periodSeconds", 10)),
        float(value.get("timeoutSeconds", 1)),
        int(value.get("successThreshold", 1)),
        int(value.get("failureThreshold", 3)),
        value.get("terminationGracePeriodSeconds"),
    )


@dataclass(frozen=True, slots=True)
class Security:
    """Who a container's programs are, and what they may. None: the image's user, here root."""

    user: int | None = None
    group: int | None = None
    fs_group: int | None = None
    is_root_read_only: bool = False
    drops_capabilities: bool = False
    may_gain_privileges: bool = True


def read_security(pod: Manifest, container: Manifest, where: str) -> Security:
    """What both levels say; the container's own word counts for more."""
    elsewhere = frozenset({"runAsNonRoot", "seccompProfile", "fsGroupChangePolicy", "privileged", "supplementalGroups"})
    both = ("runAsUser", "runAsGroup")
    _known(pod, f"{where} securityContext of the pod", *both, "fsGroup", passed_over=elsewhere)
    own = ("readOnlyRootFilesystem", "allowPrivilegeEscalation", "capabilities")
    _known(container, f"{where}.securityContext", *both, *own, passed_over=elsewhere)
    user = container.get("runAsUser", pod.get("runAsUser"))
    if container.get("runAsNonRoot", pod.get("runAsNonRoot")) and not user:
        raise ManifestError(f"{where}: runAsNonRoot, but no runAsUser says who it is")
    return Security(
        user,
        container.get("runAsGroup", pod.get("runAsGroup")),
        pod.get("fsGroup"),
        bool(container.get("readOnlyRootFilesystem", False)),
        "ALL" in container.get("capabilities", {}).get("drop", ()),
        bool(container.get("allowPrivilegeEscalation", True)),
    )


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume, or with `sub_path` one thing in it, at a path of a container."""

    volume: str
    path: str
    sub_path: str = ""
    is_read_only: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a pod. `env`, `env_from`: as they stand in the manifest."""

    name: str
    image: str
    command: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    working_directory: str | None
    env: tuple[Manifest, ...]
    env_from: tuple[Manifest, ...]
    ports: Mapping[str, int]
    mounts: tuple[Mount, ...]
    security: Security
    startup: Probe | None
    liveness: Probe | None
    readiness: Probe | None
    pre_stop: Action | None

    def port(self, port: int | str) -> int:
        """The number of a port, which may be named. Raises `ManifestError`."""
        if isinstance(port, int):
            return port
        if port not in self.ports:
            raise ManifestError(f"container {self.name}: there is no port {port}")
        return self.ports[port]


def read_container(value: Manifest, pod_security: Manifest) -> Container:
    where = f"container {value.get('name')}"
    _known(
        value,
        where,
        *("name", "image", "command", "args", "workingDir", "env", "envFrom", "ports", "volumeMounts"),
        *("securityContext", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle"),
        passed_over=frozenset({"imagePullPolicy", "resources", "terminationMessagePolicy", "terminationMessagePath"}),
    )
    lifecycle = value.get("lifecycle") or {}
    _known(lifecycle, f"{where}.lifecycle", "preStop")
    for port in value.get("ports") or ():
        _known(port, f"{where}.ports", "name", "containerPort", "protocol")
    return Container(
        value["name"],
        value.get("image", ""),
        tuple(value["command"]) if value.get("command") else None,
        tuple(value["args"]) if value.get("args") else None,
        value.get("workingDir"),
        tuple(value.get("env") or ()),
        tuple(value.get("envFrom") or ()),
        {port["name"]: port["containerPort"] for port in value.get("ports") or () if "name" in port},
        tuple(_read_mount(mount, where) for mount in value.get("volumeMounts") or ()),
        read_security(pod_security, value.get("securityContext") or {}, where),
        read_probe(value.get("startupProbe"), f"{where}.startupProbe"),
        read_probe(value.get("livenessProbe"), f"{where}.livenessProbe"),
        read_probe(value.get("readinessProbe"), f"{where}.readinessProbe"),
        read_action(lifecycle["preStop"], f"{where}.lifecycle.preStop") if "preStop" in lifecycle else None,
    )


def _read_mount(value: Manifest, where: str) -> Mount:
    _known(value, f"{where}.volumeMounts", "name", "mountPath", "subPath", "readOnly")
    return Mount(value["name"], value["mountPath"], value.get("subPath", ""), bool(value.get("readOnly", False)))


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """Of which the pods of a stateful set are made. `revision`: another one for each other template."""

    revision: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    init_containers: tuple[Container, ...]
    containers: tuple[Container, ...]
    volumes: Mapping[str, Manifest]
    grace_s: float
    fs_group: int | None
    service_account: str
    has_service_account_token: bool
    has_service_links: bool

    def port(self, port: int | str) -> int:
        """The number of a port of one of the containers. Raises `ManifestError`."""
        if isinstance(port, int):
            return port
        for container in self.containers:
            if port in container.ports:
                return container.ports[port]
        raise ManifestError(f"no container has a port {port}")


def read_template(value: Manifest) -> PodTemplate:
    _known(value, "template", "metadata", "spec")
    metadata, spec = value.get("metadata") or {}, value["spec"]
    own = ("initContainers", "containers", "volumes", "terminationGracePeriodSeconds", "securityContext")
    more = ("restartPolicy", "enableServiceLinks", "automountServiceAccountToken")
    _known(spec, "template.spec", *own, *more, passed_over=_ELSEWHERE)
    if spec.get("restartPolicy", "Always") != "Always":
        raise ManifestError("template.spec.restartPolicy: the pods of a stateful set have Always")
    security = spec.get("securityContext") or {}
    return PodTemplate(
        hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10],
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        tuple(read_container(container, security) for container in spec.get("initContainers") or ()),
        tuple(read_container(container, security) for container in spec["containers"]),
        {volume["name"]: volume for volume in spec.get("volumes") or ()},
        float(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_S)),
        security.get("fsGroup"),
        spec.get("serviceAccountName", "default"),
        bool(spec.get("automountServiceAccountToken", True)),
        bool(spec.get("enableServiceLinks", True)),
    )


@dataclass(frozen=True, slots=True)
class StatefulSet:
    """`claims`: names of the volumes that each pod keeps. `partition`: ordinals below it are not updated."""

    name: str
    namespace: str
    replicas: int
    service: str
    is_parallel: bool
    is_rolling: bool
    partition: int
    template: PodTemplate
    claims: tuple[str, ...] = ()
    deletes_claims_when_scaled: bool = False
    min_ready_s: float = 0.0
    """How long a pod has to be ready until it counts."""

    def pod_name(self, ordinal: int) -> str:
        return f"{self.name}-{ordinal}"


def read_stateful_set(value: Manifest) -> StatefulSet:
    spec, metadata = value["spec"], value["metadata"]
    _known(
        spec,
        "spec",
        *("replicas", "selector", "serviceName", "podManagementPolicy", "updateStrategy", "template"),
        *("volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
        passed_over=frozenset({"revisionHistoryLimit"}),
    )
    strategy = spec.get("updateStrategy") or {}
    rolling = strategy.get("rollingUpdate") or {}
    _known(strategy, "spec.updateStrategy", "type", "rollingUpdate")
    _known(rolling, "spec.updateStrategy.rollingUpdate", "partition")
    template = read_template(spec["template"])
    wanted = spec["selector"]["matchLabels"]
    if not selects(wanted, template.labels):
        raise ManifestError("spec.selector does not select the labels of spec.template")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    return StatefulSet(
        metadata["name"],
        metadata.get("namespace", "default"),
        int(spec.get("replicas", 1)),
        spec["serviceName"],
        spec.get("podManagementPolicy", "OrderedReady") == "Parallel",
        strategy.get("type", "RollingUpdate") == "RollingUpdate",
        int(rolling.get("partition", 0)),
        template,
        tuple(claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates") or ()),
        retention.get("whenScaled", "Retain") == "Delete",
        float(spec.get("minReadySeconds", 0)),
    )


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a service, and the pods' port behind it."""

    name: str
    number: int
    target: int | str
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Service:
    """A name for those pods that have all labels of the selector."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    is_headless: bool
    publishes_not_ready: bool
    ports: tuple[ServicePort, ...] = field(default=())


def read_service(value: Manifest) -> Service:
    spec, metadata = value["spec"], value["metadata"]
    own = ("selector", "clusterIP", "publishNotReadyAddresses", "ports")
    passed_over = frozenset({"type", "sessionAffinity", "sessionAffinityConfig", "externalTrafficPolicy", "ipFamilies"})
    _known(spec, f"service {metadata['name']}", *own, passed_over=passed_over | {"ipFamilyPolicy"})
    ports = tuple(
        ServicePort(
            port.get("name", ""), port["port"], port.get("targetPort", port["port"]), port.get("protocol", "TCP")
        )
        for port in spec.get("ports") or ()
    )
    return Service(
        metadata["name"],
        metadata.get("namespace", "default"),
        spec["selector"],
        spec.get("clusterIP") == "None",
        bool(spec.get("publishNotReadyAddresses", False)),
        ports,
    )


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether an object has all labels of a selector; an empty one selects nothing here."""
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def of_kind(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest.get("kind") == kind]
