"""The stand-in does with small programs what a kubelet does: it starts, probes, ends and replaces them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.kubelet.network import why_impossible
from e2e.kubelet.stand_in import StandIn, stand_in

pytestmark = pytest.mark.skipif(why_impossible() is not None, reason=str(why_impossible()))

LABELS = {"app": "small"}
SERVE = """
import http.server, pathlib, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_well = not pathlib.Path("/tmp/sick" + self.path.replace("/", "-")).exists()
        self.send_response(200 if is_well else 503)
        self.end_headers()
        self.wfile.write(socket.gethostname().encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
NAMES = "import socket, sys; print(sorted({each[4][0] for each in socket.getaddrinfo(sys.argv[1], 1)}))"


@pytest.fixture
def kubernetes(tmp_path: Path) -> Iterator[StandIn]:
    with stand_in(tmp_path) as kubernetes:
        yield kubernetes


def small(container: dict[str, Any], replicas: int = 1, *, claims: bool = False, **more: Any) -> list[dict[str, Any]]:
    """A stateful set of one small program, and its services. `more`: for the pods."""
    ports = [{"name": "http", "containerPort": 8000}]
    spec: dict[str, Any] = {
        "replicas": replicas,
        "serviceName": "pods",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {"containers": [{"name": "main", "ports": ports, **container}], **more},
        },
    }
    if claims:
        spec["volumeClaimTemplates"] = [{"metadata": {"name": "data"}}]
    service = {"selector": LABELS, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}
    return [
        {"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"colour": "green"}},
        {"kind": "Service", "metadata": {"name": "pods"}, "spec": {**service, "clusterIP": "None"}},
        {"kind": "Service", "metadata": {"name": "web"}, "spec": service},
        {"kind": "StatefulSet", "metadata": {"name": "small"}, "spec": spec},
    ]


def server(**more: Any) -> dict[str, Any]:
    ready = {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 2, "failureThreshold": 1}
    return {"command": ["python", "-c", SERVE], "readinessProbe": ready, **more}


def said(kubernetes: StandIn, pod: str, *command: str) -> str:
    done = kubernetes.execute(pod, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_container_has_its_environment_files_user_and_root(kubernetes: StandIn) -> None:
    env = [{"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    volumes = [{"name": "map", "configMap": {"name": "map"}}, {"name": "empty", "emptyDir": {}}]
    mounts = [
        {"name": "map", "mountPath": "/etc/small/map", "readOnly": True},
        {"name": "empty", "mountPath": "/var/lib/small"},
    ]
    container = server(env=env, volumeMounts=mounts, securityContext={"readOnlyRootFilesystem": True})
    pod = {"runAsUser": 10_000, "fsGroup": 10_000}
    kubernetes.apply(small(container, volumes=volumes, securityContext=pod))
    kubernetes.await_pods("small", 1)
    script = "id -u; hostname; echo $ME; echo $WEB_SERVICE_PORT; cat /etc/small/map/colour; echo"
    assert said(kubernetes, "small-0", "sh", "-c", script).split() == ["10000", "small-0", "small-0", "80", "green"]
    written = (
        "touch /var/lib/small/x && ! touch /etc/small/x && ! touch /etc/small/map/x && ! touch /x && echo as wanted"
    )
    assert said(kubernetes, "small-0", "sh", "-c", written) == "as wanted"
    assert said(kubernetes, "small-0", "sh", "-c", "echo /proc/[0-9]*").split()[0] == "/proc/1"
    changed = {"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"colour": "red"}}
    kubernetes.apply([changed])
    assert said(kubernetes, "small-0", "cat", "/etc/small/map/colour") == "red"


def test_names_and_services_lead_to_pods_that_are_ready(kubernetes: StandIn) -> None:
    kubernetes.apply(small(server(), 3))
    pods = kubernetes.await_pods("small", 3)

    def found(name: str) -> list[str]:
        return list(json.loads(said(kubernetes, "small-0", "python", "-c", NAMES, name).replace("'", '"')))

    assert found("pods") == sorted(pod.address for pod in pods.values())
    assert found("small-2.pods.default.svc.cluster.local") == [pods["small-2"].address]
    assert found("web") == [kubernetes.service_address("web")]
    asked = {said(kubernetes, "small-0", "python", "-c", ASK, "http://web/") for _ in range(6)}
    assert asked == {"small-0", "small-1", "small-2"}
    said(kubernetes, "small-1", "touch", "/tmp/sick-ready")
    kubernetes.eventually(lambda: not kubernetes.pods()["small-1"].is_ready, "it is not ready")
    assert found("pods") == sorted(pods[name].address for name in ("small-0", "small-2"))
    assert "small-1" not in {said(kubernetes, "small-0", "python", "-c", ASK, "http://web/") for _ in range(6)}
    assert kubernetes.pods()["small-1"].restarts == 0


def test_a_container_that_is_not_alive_is_ended_and_run_again(kubernetes: StandIn) -> None:
    live = {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 2, "failureThreshold": 2}
    kubernetes.apply(small(server(livenessProbe=live), terminationGracePeriodSeconds=1))
    kubernetes.await_pods("small", 1)
    said(kubernetes, "small-0", "touch", "/tmp/sick-live")
    kubernetes.eventually(lambda: kubernetes.pods()["small-0"].restarts == 1, "it is run again")
    kubernetes.await_pods("small", 1)
    # Process 1 without a handler does not hear SIGTERM, so it took the grace and SIGKILL.
    assert kubernetes.pods()["small-0"].containers["main"].exit_code == 137


def test_initial_containers_come_first_and_are_run_again_until_they_succeed(kubernetes: StandIn) -> None:
    volumes = [{"name": "empty", "emptyDir": {}}]
    mounts = [{"name": "empty", "mountPath": "/data"}]
    once = "echo try; test -e /data/tried || { touch /data/tried; exit 1; }"
    initial = [
        {"name": "first", "command": ["sh", "-c", once], "volumeMounts": mounts},
        {"name": "second", "command": ["sh", "-c", "cp /data/tried /data/done"], "volumeMounts": mounts},
    ]
    kubernetes.apply(small(server(volumeMounts=mounts), volumes=volumes, initContainers=initial))
    pods = kubernetes.await_pods("small", 1)
    assert said(kubernetes, "small-0", "ls", "/data").split() == ["done", "tried"]
    assert pods["small-0"].containers["first"].restarts == 1
    assert pods["small-0"].containers["second"].exit_code == 0


def test_a_container_that_fails_again_and_again_is_not_ready_and_says_why(kubernetes: StandIn) -> None:
    kubernetes.apply(small({"command": ["sh", "-c", "echo first; echo no such thing >&2; exit 3"]}))
    kubernetes.eventually(lambda: kubernetes.pods()["small-0"].restarts >= 3, "it is run again")
    status = kubernetes.pods()["small-0"].containers["main"]
    assert (status.exit_code, status.last_line, kubernetes.pods()["small-0"].is_ready) == (3, "no such thing", False)


def test_a_pod_without_a_machine_has_no_name_and_holds_up_nobody(kubernetes: StandIn) -> None:
    kubernetes.hold("small-0")
    kubernetes.apply(small(server(), 2))
    kubernetes.eventually(lambda: (pod := kubernetes.pods().get("small-1")) and pod.is_ready, "the other one is there")
    assert list(kubernetes.pods()) == ["small-1"]
    assert kubernetes.execute("small-1", "python", "-c", NAMES, "small-0.pods").returncode == 1
    kubernetes.let_go()
    kubernetes.await_pods("small", 2)
    said(kubernetes, "small-1", "python", "-c", NAMES, "small-0.pods")


def test_what_a_pod_needs_and_lacks_is_waited_for(kubernetes: StandIn) -> None:
    env = [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]
    kubernetes.apply(small(server(env=env)))
    wanted = "CreateContainerConfigError: there is no secret late"
    kubernetes.eventually(lambda: kubernetes.pods()["small-0"].containers["main"].waits_for == wanted, "it waits")
    kubernetes.apply([{"kind": "Secret", "metadata": {"name": "late"}, "stringData": {"k": "v"}}])
    kubernetes.await_pods("small", 1)


def test_a_pod_ends_with_its_hook_then_sigterm_and_keeps_its_volume(kubernetes: StandIn) -> None:
    script = "trap 'echo term >>/data/story; exit 0' TERM; echo began >>/data/story; while :; do sleep 0.05; done"
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >>/data/story; sleep 0.2"]}}}
    mounts = [{"name": "data", "mountPath": "/data"}]
    readiness = {"exec": {"command": ["test", "-s", "/data/story"]}, "periodSeconds": 1}
    container = {
        "command": ["sh", "-c", script],
        "volumeMounts": mounts,
        "lifecycle": hook,
        "readinessProbe": readiness,
    }
    kubernetes.apply(small(container, claims=True))
    first = kubernetes.await_pods("small", 1)["small-0"]
    kubernetes.delete_pod("small-0")
    kubernetes.eventually(lambda: kubernetes.pods().get("small-0", first).uid != first.uid, "it is made anew")
    second = kubernetes.await_pods("small", 1)["small-0"]
    assert second.address != first.address
    assert said(kubernetes, "small-0", "cat", "/data/story").split() == ["began", "hook", "term", "began"]
    kubernetes.scale("small", 0)
    kubernetes.await_pods("small", 0)
    kubernetes.scale("small", 1)
    kubernetes.await_pods("small", 1)
    assert said(kubernetes, "small-0", "wc", "-l", "/data/story").split()[0] == "7"


@pytest.mark.parametrize("keeps_volumes", [True, False])
def test_a_lost_machine_is_noticed_late_and_its_pod_made_anew(kubernetes: StandIn, keeps_volumes: bool) -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    kubernetes.apply(small(server(volumeMounts=mounts), 2, claims=True))
    first = kubernetes.await_pods("small", 2)["small-1"]
    said(kubernetes, "small-1", "touch", "/data/x")
    kubernetes.lose_node("small-1", keeps_volumes=keeps_volumes)
    assert kubernetes.pods()["small-1"].is_ready
    kubernetes.eventually(lambda: not kubernetes.pods()["small-1"].is_ready, "it is noticed")
    second = kubernetes.await_pods("small", 2)["small-1"]
    assert second.uid != first.uid
    assert said(kubernetes, "small-1", "ls", "/data") == ("x" if keeps_volumes else "")


def test_a_new_template_replaces_one_pod_after_the_other_from_the_highest(kubernetes: StandIn) -> None:
    kubernetes.apply(small(server(), 3, terminationGracePeriodSeconds=1))
    before = kubernetes.await_pods("small", 3)
    changed = small(server(env=[{"name": "NEW", "value": "1"}]), 3, terminationGracePeriodSeconds=1)
    kubernetes.apply(changed)
    order: list[str] = []

    def is_done() -> bool:
        now = kubernetes.pods()
        assert sum(name not in now or not now[name].is_ready for name in before) <= 1
        fresh = [name for name in now if now[name].uid != before[name].uid]
        order.extend(name for name in fresh if name not in order)
        return len(fresh) == 3

    kubernetes.eventually(is_done, "all are new")
    kubernetes.await_pods("small", 3)
    assert order == ["small-2", "small-1", "small-0"]
