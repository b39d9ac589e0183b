"""Kubernetes without Kubernetes: stateful sets and services, done with processes and namespaces of the network.

A thread of its own does everything that a controller, a kubelet, a proxy and the DNS would; the test tells it what to
have and asks what there is. Everything ends with `stand_in`.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from e2e.kubelet import api, volumes
from e2e.kubelet.api import Api
from e2e.kubelet.container_worker import Pace
from e2e.kubelet.containers import Image
from e2e.kubelet.environment import Data, service_links
from e2e.kubelet.manifests import (
    Manifest,
    ManifestError,
    Service,
    StatefulSet,
    of_kind,
    read_service,
    read_stateful_set,
    selects,
)
from e2e.kubelet.names import NameServer
from e2e.kubelet.network import DNS_ADDRESS, Network
from e2e.kubelet.ordering import Create, Seen, next_steps
from e2e.kubelet.pods import Machine, Pod, PodStatus
from e2e.kubelet.records import Endpoint, Names, names_of
from e2e.kubelet.service_proxy import ServicePortProxy

T = TypeVar("T")

LOST_AFTER_S: Final = 40.0
"""A machine of which nothing is heard for so long has no pods that are ready."""
REPLACED_AFTER_S: Final = 60.0
"""After so much more its pods are made anew elsewhere. Kubernetes leaves that to people, or to what they install."""
_TURN_S: Final = 0.02
_ANSWER_S: Final = 30.0
_LOG_LINES: Final = 12


class StandIn:
    """What a test uses. All methods may be called from any thread but its own; they raise what has broken it."""

    def __init__(self, directory: Path, image: Image, pace: float) -> None:
        self.network = Network()
        self._data = Data()
        self._services: dict[str, tuple[Service, str]] = {}
        self._sets: dict[str, StatefulSet] = {}
        self._former: dict[str, StatefulSet] = {}
        self._held: set[str] = set()
        self._pods: dict[str, Pod] = {}
        self._pace = Pace(pace)
        self.api = Api(directory / "api", self._objects)
        self._machine = Machine(self.network, directory, image, self._data, self._pace, self.api, self._links)
        self.names = NameServer(self._lookup)
        self._proxies = AsyncExitStack()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_over = asyncio.Event()
        self._has_begun: Future[None] = Future()
        self._tasks = asyncio.TaskGroup()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stand-in")
        self._life: Future[None] = Future()

    # -- what there is to be -----------------------------------------------------------------------------------

    def apply(self, manifests: Sequence[Manifest]) -> None:
        """Have these objects; those that there are of the same names change. Kinds that do nothing here are passed
        over.
        """

        async def apply() -> None:
            for kind in ("ConfigMap", "Secret"):
                for manifest in of_kind(manifests, kind):
                    self._data.read(manifest)
            for kind in ("Role", "RoleBinding"):
                for manifest in of_kind(manifests, kind):
                    self.api.rights.read(manifest)
            for manifest in of_kind(manifests, "Service"):
                await self._have_service(read_service(manifest))
            for manifest in of_kind(manifests, "StatefulSet"):
                self._have_stateful_set(read_stateful_set(manifest))
            for pod in self._pods.values():
                pod.refresh()
            self._control_all()

        self._do(apply)

    def scale(self, name: str, replicas: int) -> None:
        async def scale() -> None:
            self._sets[name] = replace(self._sets[name], replicas=replicas)

        self._do(scale)

    def hold(self, *names: str) -> None:
        """There is no machine for these pods until `let_go`: they are not there, and have no address."""

        async def hold() -> None:
            self._held.update(names)

        self._do(hold)

    def let_go(self) -> None:
        """There are machines for all pods."""

        async def let_go() -> None:
            self._held.clear()

        self._do(let_go)

    def delete_pod(self, name: str) -> None:
        """End one pod; its stateful set makes another one."""

        async def delete() -> None:
            self._pods[name].end()

        self._do(delete)

    def crash(self, name: str) -> None:
        """The program of a pod's first container ends from one moment to the next, and is run again."""

        async def crash() -> None:
            running = self._pods[name].worker().running
            if running is not None:
                running.send(signal.SIGKILL)

        self._do(crash)

    def lose_node(self, name: str, *, keeps_volumes: bool) -> None:
        """The machine of a pod is gone at once. The pod is made anew when that has been noticed."""

        async def lose() -> None:
            pod = self._pods[name]
            pod.lose()
            self._tasks.create_task(self._replace_lost(pod, keeps_volumes=keeps_volumes), name=f"loss of {name}")

        self._do(lose)

    # -- what there is -----------------------------------------------------------------------------------------

    def pods(self) -> dict[str, PodStatus]:
        async def read() -> dict[str, PodStatus]:
            return {name: pod.status() for name, pod in sorted(self._pods.items())}

        return self._do(read)

    def log(self, pod: str, *, container: str | None = None, runs_ago: int = 0) -> str:
        async def read() -> str:
            return self._pods[pod].worker(container).log(runs_ago=runs_ago)

        return self._do(read)

    def execute(self, pod: str, *command: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a program in the first container of a pod, to its end."""

        async def find() -> tuple[list[str], dict[str, str]]:
            running = self._pods[pod].worker().running
            if running is None:
                raise AssertionError(f"{pod} does not run")
            return running.command(*command), dict(running.plan.environment)

        words, environment = self._do(find)
        return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)

    def service_address(self, name: str) -> str:
        """Where a service that is not headless has its ports."""
        return self._services[name][1]

    def await_pods(self, name: str, replicas: int, timeout_s: float = 60.0) -> dict[str, PodStatus]:
        """Return when a stateful set has exactly these pods, all ready and of its newest revision."""

        async def are_there() -> bool:
            stateful_set = self._sets[name]
            pods = self._of(stateful_set)
            return set(pods) == set(range(replicas)) and all(
                pod.is_ready
                and not pod.is_ending
                and not pod.is_lost
                and (pod.template.revision == stateful_set.template.revision or ordinal < stateful_set.partition)
                for ordinal, pod in pods.items()
            )

        self.eventually(lambda: self._do(are_there), f"{name} has {replicas} pods that are ready", timeout_s)
        return self.pods()

    def eventually(self, condition: Callable[[], object], what: str, timeout_s: float = 30.0) -> None:
        """Return when it holds. Raises `AssertionError` at the deadline, with what the pods have logged."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what}: not within {timeout_s:g} s\n{self.report()}")
            time.sleep(0.05)

    def report(self) -> str:
        """All pods, and the last lines of their logs."""

        async def read() -> list[str]:
            parts = []
            for name, pod in sorted(self._pods.items()):
                parts.append(f"--- {name}: {pod.status()}")
                for worker in pod.workers:
                    lines = (worker.log() or worker.log(runs_ago=1)).splitlines()
                    parts += [f"- {worker.container.name}", *lines[-_LOG_LINES:]]
            return parts

        return "\n".join(self._do(read))

    # -- its thread --------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._life = self._executor.submit(self._run)
        wait_for([self._life, self._has_begun], _ANSWER_S, FIRST_COMPLETED)
        self._check()

    def close(self) -> None:
        """End everything at once. Raises what has broken it before."""
        try:
            if self._loop is not None and not self._life.done():
                self._loop.call_soon_threadsafe(self._is_over.set)
            self._life.result(_ANSWER_S)
        finally:
            self._executor.shutdown(wait=False)
            self.network.close()

    def _check(self) -> None:
        if self._life.done():
            self._life.result()
            raise AssertionError("the stand-in has ended")

    def _do(self, action: Callable[[], Coroutine[None, None, T]]) -> T:
        """Have its thread do something, and give what comes of it."""
        self._check()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(action(), self._loop).result(_ANSWER_S)

    def _run(self) -> None:
        self.network.enter()
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.network.add_address(api.ADDRESS)
        async with self._proxies, self.names.serving(DNS_ADDRESS), self.api.serving(), self._tasks:
            control = self._tasks.create_task(self._control(), name="control")
            self._has_begun.set_result(None)
            await self._is_over.wait()
            control.cancel()
            for pod in self._pods.values():
                pod.lose()

    async def _control(self) -> None:
        while True:
            self._control_all()
            await asyncio.sleep(_TURN_S)

    def _control_all(self) -> None:
        for name, stateful_set in self._sets.items():
            self._control_set(name, stateful_set)

    def _control_set(self, name: str, stateful_set: StatefulSet) -> None:
        pods = self._of(stateful_set)
        seen = {ordinal: Seen(pod.template.revision, pod.is_ready, pod.is_ending) for ordinal, pod in pods.items()}
        former = self._former[name]
        for step in next_steps(stateful_set, seen, is_update_complete=former is stateful_set):
            if isinstance(step, Create):
                if stateful_set.pod_name(step.ordinal) in self._held:
                    continue
                template = former.template if step.is_former else stateful_set.template
                self._create(replace(stateful_set, template=template), step.ordinal)
            else:
                self._pods[stateful_set.pod_name(step.ordinal)].end()
        is_new = all(pod.template.revision == stateful_set.template.revision for pod in pods.values())
        if is_new and len(pods) >= stateful_set.replicas:
            self._former[name] = stateful_set

    def _create(self, stateful_set: StatefulSet, ordinal: int) -> None:
        pod = Pod(self._machine, stateful_set, ordinal)
        self._pods[pod.name] = pod
        self._tasks.create_task(self._live(pod), name=pod.name)

    async def _live(self, pod: Pod) -> None:
        await pod.live()
        if not pod.is_lost:
            self._forget(pod)

    def _forget(self, pod: Pod) -> None:
        self._pods.pop(pod.name, None)
        stateful_set = self._sets[pod.stateful_set.name]
        if pod.ordinal >= stateful_set.replicas and stateful_set.deletes_claims_when_scaled:
            for path in pod.claims().values():
                volumes.remove(path)

    async def _replace_lost(self, pod: Pod, *, keeps_volumes: bool) -> None:
        await self._pace.sleep(LOST_AFTER_S)
        pod.is_out_of_sight = True
        await self._pace.sleep(REPLACED_AFTER_S)
        if not keeps_volumes:
            for path in pod.claims().values():
                volumes.remove(path)
        self._forget(pod)

    # -- objects -----------------------------------------------------------------------------------------------

    def _have_stateful_set(self, stateful_set: StatefulSet) -> None:
        headless = self._services.get(stateful_set.service)
        if headless is None:
            raise ManifestError(f"stateful set {stateful_set.name}: there is no service {stateful_set.service}")
        self._sets[stateful_set.name] = stateful_set
        self._former.setdefault(stateful_set.name, stateful_set)

    async def _have_service(self, service: Service) -> None:
        known = self._services.get(service.name)
        if known is not None:
            self._services[service.name] = (service, known[1])
            return
        address = "" if service.is_headless else f"10.96.0.{10 + len(self._services)}"
        self._services[service.name] = (service, address)
        if service.is_headless:
            return
        self.network.add_address(address)
        for port in service.ports:
            proxy = ServicePortProxy(lambda port=port: self._targets(service.name, port.target))  # type: ignore[misc]
            await proxy.listen(address, port.number)
            self._proxies.push_async_callback(proxy.close)

    def _objects(self, resource: str, namespace: str) -> list[dict[str, Any]]:
        """What the API gives of a kind."""
        if resource == "pods":
            found = [pod.manifest() for pod in self._pods.values()]
        elif resource == "statefulsets":
            found = [
                {"metadata": {"name": each.name, "namespace": each.namespace}, "spec": {"replicas": each.replicas}}
                for each in self._sets.values()
            ]
        elif resource == "endpointslices":
            found = [self._endpoint_slice(service) for service, _ in self._services.values()]
        else:
            found = []
        return [each for each in found if each["metadata"]["namespace"] == namespace]

    def _endpoint_slice(self, service: Service) -> dict[str, Any]:
        """All pods of a service, also those that are not ready, of which it says so."""
        endpoints = [
            {
                "addresses": [pod.address],
                "hostname": pod.name,
                "conditions": {"ready": service.publishes_not_ready or (pod.is_ready and not pod.is_ending)},
            }
            for pod in self._pods.values()
            if selects(service.selector, pod.facts.labels)
        ]
        metadata = {
            "name": f"{service.name}-1",
            "namespace": service.namespace,
            "labels": {"kubernetes.io/service-name": service.name},
        }
        return {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints}

    def _of(self, stateful_set: StatefulSet) -> dict[int, Pod]:
        return {pod.ordinal: pod for pod in self._pods.values() if pod.stateful_set.name == stateful_set.name}

    def _selected(self, service: Service) -> list[Pod]:
        """The pods of a service that others are told of."""
        return [
            pod
            for pod in self._pods.values()
            if selects(service.selector, pod.facts.labels)
            and (service.publishes_not_ready or (pod.is_ready and not pod.is_ending))
        ]

    def _targets(self, name: str, port: int | str) -> list[tuple[str, int]]:
        return [(pod.address, pod.template.port(port)) for pod in self._selected(self._services[name][0])]

    def _links(self) -> dict[str, str]:
        return service_links(list(self._services.values()))

    def _lookup(self, name: str) -> Names | None:
        services = []
        for service, address in self._services.values():
            endpoints = [
                Endpoint(
                    pod.name,
                    pod.address,
                    tuple((port.name, port.protocol, pod.template.port(port.target)) for port in service.ports),
                )
                for pod in self._selected(service)
            ]
            services.append((service, address, endpoints))
        return names_of(services).get(name)


@contextmanager
def stand_in(directory: Path, image: Image | None = None, *, pace: float = 20.0) -> Iterator[StandIn]:
    """One for a test. `pace`: how many times faster than in a manifest the times between probes and starts pass."""
    kubernetes = StandIn(directory, image or Image(), pace)
    try:
        kubernetes.start()
        yield kubernetes
    finally:
        kubernetes.close()
