"""One pod: its host in the network, its volumes, its containers in their order, and how it ends."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from e2e.kubelet import api, volumes
from e2e.kubelet.api import Api
from e2e.kubelet.container_worker import ContainerStatus, ContainerWorker, Pace
from e2e.kubelet.containers import Bind, Image, Plan
from e2e.kubelet.environment import Data, PodFacts, environment_of
from e2e.kubelet.manifests import Container, ManifestError, StatefulSet
from e2e.kubelet.network import DNS_ADDRESS, Network
from e2e.kubelet.probing import RestartDelay
from e2e.kubelet.records import DOMAIN

_NAME_SERVICE: Final = "passwd: files\ngroup: files\nhosts: files dns\n"


@dataclass(frozen=True, slots=True)
class Machine:
    """What all pods have in common. `links`: variables that tell of services. `api`: that they may ask."""

    network: Network
    directory: Path
    image: Image
    data: Data
    pace: Pace
    api: Api
    links: Callable[[], Mapping[str, str]]

    def claim(self, name: str) -> Path:
        """What outlasts a pod."""
        return self.directory / "claims" / name


@dataclass(frozen=True, slots=True)
class PodStatus:
    """A pod at one moment."""

    name: str
    uid: str
    address: str
    revision: str
    is_ready: bool
    is_ending: bool
    containers: Mapping[str, ContainerStatus]

    @property
    def restarts(self) -> int:
        return sum(status.restarts for status in self.containers.values())


class Pod:
    """A pod of a stateful set, from its making on. `live` is its life; it ends after `end` or `lose`."""

    def __init__(self, machine: Machine, stateful_set: StatefulSet, ordinal: int) -> None:
        self.ordinal = ordinal
        self.template = stateful_set.template
        self.stateful_set = stateful_set
        self.name = stateful_set.pod_name(ordinal)
        self.is_ending = False
        self.is_out_of_sight = False
        """Nothing has been heard of its machine for so long that it counts as not ready."""
        self._ready_since: float | None = None
        self._machine = machine
        self._host = machine.network.host(self.name)
        self.address = self._host.address
        self.uid = secrets.token_hex(8)
        self._directory = machine.directory / "pods" / f"{self.name}-{self.uid}"
        (self._directory / "logs").mkdir(parents=True)
        labels = {
            **self.template.labels,
            "statefulset.kubernetes.io/pod-name": self.name,
            "apps.kubernetes.io/pod-index": str(ordinal),
            "controller-revision-hash": self.template.revision,
        }
        self.facts = PodFacts(
            self.name,
            stateful_set.namespace,
            self.uid,
            self.address,
            f"node-of-{self.name}",
            self.template.service_account,
            labels,
            self.template.annotations,
        )
        self._initial = [self._worker(container) for container in self.template.init_containers]
        self._workers = [self._worker(container) for container in self.template.containers]
        self._obstacle = ""
        self._end = asyncio.Event()
        self._loss = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether all of its containers are, as far as anybody knows."""
        return not self.is_out_of_sight and all(worker.status.is_ready for worker in self._workers)

    def is_available(self, now: float) -> bool:
        """Whether it has been ready for as long as its stateful set wants. `now`: seconds; ask from time to time."""
        if not self.is_ready:
            self._ready_since = None
            return False
        if self._ready_since is None:
            self._ready_since = now
        return (now - self._ready_since) * self._machine.pace.factor >= self.stateful_set.min_ready_s

    def manifest(self) -> dict[str, Any]:
        """What the API tells of it."""
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": self.facts.namespace,
            "uid": self.uid,
            "labels": dict(self.facts.labels),
        }
        if self.is_ending:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        ready = {"type": "Ready", "status": str(self.is_ready)}
        return {
            "metadata": metadata,
            "spec": {"hostname": self.name, "subdomain": self.stateful_set.service},
            "status": {"phase": "Running", "podIP": self.address, "conditions": [ready]},
        }

    @property
    def workers(self) -> Sequence[ContainerWorker]:
        """Of all its containers, the initial ones first."""
        return (*self._initial, *self._workers)

    def worker(self, container: str | None = None) -> ContainerWorker:
        """Of the container of this name, or of the first one."""
        if container is None:
            return self._workers[0]
        return next(worker for worker in self.workers if worker.container.name == container)

    def status(self) -> PodStatus:
        containers = {worker.container.name: replace(worker.status) for worker in self.workers}
        if self._obstacle:
            containers["(volumes)"] = ContainerStatus(waits_for=self._obstacle)
        return PodStatus(
            self.name, self.uid, self.address, self.template.revision, self.is_ready, self.is_ending, containers
        )

    # -- its life ----------------------------------------------------------------------------------------------

    async def live(self) -> None:
        """From its volumes to the end of its last program. Everything that it has is given back."""
        life = asyncio.ensure_future(self._run())
        end, loss = asyncio.ensure_future(self._end.wait()), asyncio.ensure_future(self._loss.wait())
        try:
            await asyncio.wait({life, end, loss}, return_when=asyncio.FIRST_COMPLETED)
            if end.done() and not life.done():
                ending = asyncio.ensure_future(self._end_workers())
                await asyncio.wait({ending, loss}, return_when=asyncio.FIRST_COMPLETED)
                await _cancelled(ending)
        finally:
            for worker in self.workers:
                worker.kill()
            try:
                await _cancelled(end)
                await _cancelled(loss)
                await _cancelled(life)
            finally:
                self._host.close()
                volumes.remove(self._directory / "volumes")

    async def _end_workers(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for worker in self.workers:
                tasks.create_task(worker.end(), name=f"end of {self.name} {worker.container.name}")

    def end(self) -> None:
        """Have it end in an orderly way. Idempotent."""
        self.is_ending = True
        self._end.set()

    def lose(self) -> None:
        """Its machine is gone, from one moment to the next: nobody out there is told anything."""
        self._host.unplug()
        for worker in self.workers:
            worker.kill()
        self._loss.set()

    @property
    def is_lost(self) -> bool:
        return self._loss.is_set()

    def refresh(self) -> None:
        """Show in its volumes what stands in maps and secrets now."""
        for name, volume in self.template.volumes.items():
            if volumes.is_of_data(volume):
                self._make_volume(name)

    async def _run(self) -> None:
        await self._make_volumes()
        for worker in self._initial:
            delay = RestartDelay()
            while await worker.run_once() != 0:
                worker.status.restarts += 1
                await self._machine.pace.sleep(delay.after_run(0))
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(worker.run(), name=f"{self.name} {worker.container.name}")

    async def _make_volumes(self) -> None:
        while True:
            try:
                for name in (*self.template.volumes, *self.stateful_set.claims):
                    self._make_volume(name)
            except ManifestError as error:
                self._obstacle = str(error)
                await self._machine.pace.sleep(1.0)
            else:
                self._obstacle = ""
                return

    def _make_volume(self, name: str) -> None:
        volume = self.template.volumes.get(name, {"name": name, "persistentVolumeClaim": {}})
        volumes.make_volume(volume, self._volume_path(name), self._machine.data, self.facts, self.template.fs_group)

    def claims(self) -> dict[str, Path]:
        """Its volumes that outlast it."""
        return {name: self._machine.claim(f"{name}-{self.name}") for name in self.stateful_set.claims}

    def _volume_path(self, name: str) -> Path:
        claims = self.claims()
        if name in claims:
            return claims[name]
        if name not in self.template.volumes:
            raise ManifestError(f"there is no volume {name}")
        return self._directory / "volumes" / name

    # -- its containers ----------------------------------------------------------------------------------------

    def _worker(self, container: Container) -> ContainerWorker:
        def plan(log: Path) -> Plan:
            return self._plan(container, log)

        logs = self._directory / "logs"
        return ContainerWorker(container, plan, logs, self.address, self.template.grace_s, self._machine.pace)

    def _plan(self, container: Container, log: Path) -> Plan:
        image = self._machine.image
        links = {"KUBERNETES_SERVICE_HOST": api.ADDRESS, "KUBERNETES_SERVICE_PORT": str(api.PORT)}
        if self.template.has_service_links:
            links |= self._machine.links()
        variables = environment_of(container, self.facts, self._machine.data, links)
        environment = image.variables() | {"HOSTNAME": self.name} | variables
        command = container.command or image.entry_point
        arguments = container.arguments
        if arguments is None:
            arguments = () if container.command else image.arguments
        security = container.security
        if security.user is None:
            security = replace(security, user=image.user)
        files = [Bind(path, target, is_read_only=True) for target, path in image.files.items()]
        return Plan(
            self._host.namespace,
            (*command, *arguments),
            environment,
            container.working_directory or image.working_directory,
            security,
            (*files, *self._system_binds(), *self._binds(container)),
            self._directory / f"start-{container.name}",
            log,
        )

    def _binds(self, container: Container) -> list[Bind]:
        binds = []
        for mount in container.mounts:
            source = self._volume_path(mount.volume) / mount.sub_path
            if not source.exists():
                raise ManifestError(f"volume {mount.volume} has no {mount.sub_path}")
            binds.append(Bind(source, mount.path, mount.is_read_only))
        return binds

    def _system_binds(self) -> list[Bind]:
        """What a kubelet puts into each container so that names are found, and the API may be asked."""
        namespace, service = self.facts.namespace, self.stateful_set.service
        full_name = f"{self.name}.{service}.{namespace}.svc.{DOMAIN}"
        files = {
            "resolv.conf": f"nameserver {DNS_ADDRESS}\n"
            f"search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n",
            "hosts": f"127.0.0.1\tlocalhost\n{self.address}\t{full_name}\t{self.name}\n",
            "hostname": f"{self.name}\n",
            "nsswitch.conf": _NAME_SERVICE,
        }
        directory = self._directory / "etc"
        directory.mkdir(exist_ok=True)
        for name, text in files.items():
            (directory / name).write_text(text)
        binds = [Bind(directory / name, f"/etc/{name}") for name in files]
        if self.template.has_service_account_token:
            account = self._directory / "account"
            account.mkdir(exist_ok=True)
            told = self._machine.api.account_files(self.template.service_account, namespace, self.uid)
            for name, content in told.items():
                (account / name).write_bytes(content)
            binds.append(Bind(account, api.MOUNT_PATH, is_read_only=True))
        return binds


async def _cancelled(task: "asyncio.Future[Any]") -> None:
    """Return when it has ended. Raises what it raised, if it had ended before."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
