"""A stateful set of brokers and its services, as a chart would give them, for nodes that are joined by hand."""

from typing import Any

NAME = "strogoff"
HEADLESS = "strogoff-headless"
LABELS = {"app.kubernetes.io/name": "strogoff", "app.kubernetes.io/instance": "test"}
PORTS = {"mqtt": 1883, "http": 8888, "vmq": 44053}


def example(
    replicas: int = 3, *, policy: str = "OrderedReady", settings: dict[str, str] | None = None, keeps_data: bool = True
) -> list[dict[str, Any]]:
    """Manifests of nodes that may be joined by hand. `settings`: keys of the configuration, with dots."""
    keys = {
        "nodename": f"strogoff@$(POD_NAME).{HEADLESS}.$(POD_NAMESPACE).svc.cluster.local",
        "listener.tcp.default": "0.0.0.0:1883",
        "listener.http.default": "0.0.0.0:8888",
        "listener.vmq.default": "0.0.0.0:44053",
        "cluster.advertised_address": f"$(POD_NAME).{HEADLESS}.$(POD_NAMESPACE).svc.cluster.local:44053",
        "cluster.link_timeout": "1000",
        "allow_anonymous": "on",
        "platform_data_dir": "/var/lib/strogoff",
        "store.segment_bytes": "256KB",
        **(settings or {}),
    }
    env = [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        *({"name": f"STROGOFF_SET_{key.replace('.', '__').upper()}", "value": text} for key, text in keys.items()),
    ]
    container = {
        "name": "strogoff",
        "image": "strogoff:test",
        "env": env,
        "ports": [{"name": name, "containerPort": number} for name, number in PORTS.items()],
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/strogoff"}],
        "securityContext": {"readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "startupProbe": probe("/health/started", failureThreshold=300),
        "livenessProbe": probe("/health/live", failureThreshold=3),
        "readinessProbe": probe("/health/ready", failureThreshold=2),
    }
    template_spec: dict[str, Any] = {
        "terminationGracePeriodSeconds": 60,
        "securityContext": {"runAsUser": 10000, "runAsGroup": 10000, "fsGroup": 10000},
        "containers": [container],
    }
    spec: dict[str, Any] = {
        "replicas": replicas,
        "serviceName": HEADLESS,
        "podManagementPolicy": policy,
        "selector": {"matchLabels": LABELS},
        "template": {"metadata": {"labels": LABELS}, "spec": template_spec},
    }
    if keeps_data:
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    else:
        template_spec["volumes"] = [{"name": "data", "emptyDir": {}}]
    return [
        {"kind": "StatefulSet", "metadata": {"name": NAME, "namespace": "test"}, "spec": spec},
        service(HEADLESS, clusterIP="None", publishNotReadyAddresses=True),
        service(NAME),
    ]


def service(name: str, **more: Any) -> dict[str, Any]:
    ports = [{"name": port, "port": number, "targetPort": port} for port, number in PORTS.items()]
    spec = {"selector": LABELS, "ports": ports, **more}
    return {"kind": "Service", "metadata": {"name": name, "namespace": "test"}, "spec": spec}


def probe(path: str, **more: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 5, **more}
