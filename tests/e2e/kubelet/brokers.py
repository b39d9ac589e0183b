"""Brokers in the pods of the stand-in: which cluster they are, and clients that publish while the pods change.

The clients reach the brokers through their service, as anybody would, and what was acknowledged to them is counted.
"""

import csv
import io
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.ledger import EXACTLY_ONCE, Ledger, Stream
from cluster.load import Publisher, Subscriber
from e2e.kubelet.containers import Image
from e2e.kubelet.manifests import Manifest
from e2e.kubelet.pods import PodStatus
from e2e.kubelet.rendering import render
from e2e.kubelet.stand_in import StandIn
from protocol.client import unique

ROUNDS: Final = int(os.environ.get("STROGOFF_KUBELET_ROUNDS", "1"))
"""How often each story about nodes in pods is told; where it is set, also those that `make test` has no time for."""
only_in_long_run = pytest.mark.skipif("STROGOFF_KUBELET_ROUNDS" not in os.environ, reason="only in the long run")

KEEP_ALIVE_S: Final = 2
EVERY_S: Final = 0.02
IMAGE: Final = Image(
    ("strogoff",),
    ("start",),
    {"PYTHONDONTWRITEBYTECODE": "1"},
    working_directory="/strogoff",
    user=10_000,
    files={"/strogoff/etc/strogoff.conf": Path(__file__).parents[3] / "deploy" / "docker" / "strogoff.conf"},
)
"""What `deploy/docker` makes, as far as it can be told apart from this machine."""
CHART_NAME: Final = "test-strogoff"
_CONFIG: Final = {
    "allow_anonymous": True,
    "cluster.link_timeout": 1000,
    # For the first pod, which waits so long for others that the name server does not know yet.
    "cluster.discovery.patience": 3000,
    "store.segment_bytes": "256KB",
    # Whoever is away may miss nothing, however slow the machine is.
    "max_offline_messages": -1,
    "max_online_messages": -1,
}


def chart(replicas: int = 3, *, config: dict[str, Any] | None = None, **values: Any) -> list[dict[str, Any]]:
    """The chart for a small disk and impatient people. `config`: keys besides; `values`: of the chart."""
    return render(
        {"replicaCount": replicas, "config": {**_CONFIG, **(config or {})}, "drain": {"pauseSeconds": 1}, **values}
    )


FLOW_DEADLINE_S: Final = 60.0


@dataclass(slots=True)
class Brokers:
    """A stateful set of brokers and their service, which has the same name."""

    kubernetes: StandIn
    name: str
    ledger: Ledger = field(default_factory=Ledger)
    publishers: list[Publisher] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)

    def install(self, manifests: Sequence[Manifest], replicas: int) -> dict[str, PodStatus]:
        """Return when all pods are ready."""
        self.kubernetes.apply(manifests)
        return self.kubernetes.await_pods(self.name, replicas)

    def admin(self, pod: str | int, *words: str) -> str:
        """What `vmq-admin` prints in a pod. Raises `AssertionError` when it fails."""
        name = pod if isinstance(pod, str) else f"{self.name}-{pod}"
        done = self.kubernetes.execute(name, "vmq-admin", *words)
        assert done.returncode == 0, f"{name}: vmq-admin {' '.join(words)}: {done.stderr}"
        return done.stdout

    def links(self, ordinal: int) -> dict[str, str]:
        """How the node of a pod reaches each member of its cluster, by the pod's name."""
        table = csv.DictReader(io.StringIO(self.admin(ordinal, "cluster", "show", "--format=csv")))
        return {row["Node"].partition("@")[2].partition(".")[0]: row["link"] for row in table}

    def await_one_cluster(self, replicas: int, timeout_s: float = 30.0) -> None:
        """Return when the nodes of these pods have one another as members, and nobody else, and reach one another."""
        names = [f"{self.name}-{ordinal}" for ordinal in range(replicas)]
        for ordinal, name in enumerate(names):
            wanted = {other: "self" if other == name else "reachable" for other in names}
            try:
                self.kubernetes.eventually(
                    lambda ordinal=ordinal, wanted=wanted: self.links(ordinal) == wanted,  # type: ignore[misc]
                    f"{name} is in a cluster of {replicas}",
                    timeout_s,
                )
            except AssertionError as error:
                shown = "\n".join(self.admin(other, "cluster", "show") for other in range(replicas))
                raise AssertionError(f"{error}\n{shown}") from None

    def is_new(self, pod: str, before: Mapping[str, PodStatus]) -> bool:
        """Whether a pod has been made anew."""
        now = self.kubernetes.pods().get(pod)
        return now is not None and now.uid != before[pod].uid

    # -- clients -----------------------------------------------------------------------------------------------

    @contextmanager
    def load(self, *, publishers: int = 2, subscribers: int = 2, is_once: bool = False) -> Iterator[None]:
        """Clients that go on meanwhile, each connected again where its connection ends. Then everything is judged.

        `is_once`: also that nothing of QoS 2 comes twice. A publisher that sends again what a node that went away has
        not answered sends it to another one, which cannot know it: that is a message of its own then.
        """
        topic = unique("pods/")
        try:
            for _ in range(subscribers):
                self._subscribe(f"{topic}/#")
            for _ in range(publishers):
                self._publish(topic)
            self._await_flow()
            yield
            self._settle(is_once=is_once)
        finally:
            self.end_clients()

    def _subscribe(self, topic_filter: str) -> None:
        subscriber = Subscriber(
            self.ledger,
            self.kubernetes.network,
            unique("s"),
            topic_filter,
            broker=self.kubernetes.service_address(self.name),
            keep_alive_s=KEEP_ALIVE_S,
        )
        self.subscribers.append(subscriber)
        subscriber.start()
        is_there = subscriber.is_subscribed.wait(10)
        assert is_there, f"{subscriber.name} is not subscribed\n{self.kubernetes.report()}"

    def _publish(self, topic: str) -> None:
        publisher = Publisher(
            self.ledger,
            self.kubernetes.network,
            unique("p"),
            topic,
            every_s=EVERY_S,
            broker=self.kubernetes.service_address(self.name),
            keep_alive_s=KEEP_ALIVE_S,
        )
        self.publishers.append(publisher)
        publisher.start()

    def _streams(self) -> list[Stream]:
        return [stream for publisher in self.publishers for stream in publisher.streams if stream.qos]

    @contextmanager
    def subscribers_away(self) -> Iterator[None]:
        """They disconnect, and come back to their sessions at the end."""
        for subscriber in self.subscribers:
            subscriber.end()
        yield
        for subscriber in self.subscribers:
            subscriber.come_back()

    def publish_for_those_away(self, count: int) -> None:
        """Return when so many more of each stream are acknowledged, and publish no more."""
        for stream in self._streams():
            wanted = len(self.ledger.acknowledged(stream)) + count
            self.kubernetes.eventually(
                lambda stream=stream, wanted=wanted: len(self.ledger.acknowledged(stream)) >= wanted,  # type: ignore[misc]
                f"{count} more of {stream} are acknowledged",
                FLOW_DEADLINE_S,
            )
        for publisher in self.publishers:
            publisher.end()

    def _await_flow(self) -> None:
        """Return when each subscriber gets what is published now; from there on it counts."""
        self.goes_on("at the start")
        for stream in self._streams():
            self.ledger.begin(stream, max(self.ledger.acknowledged(stream), default=0))

    def goes_on(self, when: str) -> None:
        """Return when each subscriber has got something of each publisher that was acknowledged after this call."""
        for stream in self._streams():
            after = max(self.ledger.acknowledged(stream), default=-1)
            self.kubernetes.eventually(
                lambda stream=stream, after=after: max(self.ledger.acknowledged(stream), default=-1) > after,  # type: ignore[misc]
                f"{when}: more of {stream} is acknowledged than {after}",
                FLOW_DEADLINE_S,
            )
            for subscriber in self.subscribers:
                self.kubernetes.eventually(
                    lambda stream=stream, after=after, name=subscriber.name: (  # type: ignore[misc]
                        max(self.ledger.delivered(name, stream), default=-1) > after
                    ),
                    f"{when}: {subscriber.name} gets what comes after {after} of {stream}",
                    FLOW_DEADLINE_S,
                )

    def _settle(self, *, is_once: bool) -> None:
        for publisher in self.publishers:
            publisher.end()
        streams = self._streams()
        deadline = time.monotonic() + FLOW_DEADLINE_S
        while any(self.ledger.missing(streams, each.name) for each in self.subscribers) and time.monotonic() < deadline:
            time.sleep(0.05)
        for subscriber in self.subscribers:
            subscriber.end()
            for stream in streams:
                assert self.ledger.acknowledged(stream), f"{stream}: nothing was acknowledged"
                missing = sorted(self.ledger.missing([stream], subscriber.name))
                if missing:
                    text = f"{subscriber.name}: {len(missing)} of {stream} are missing: {missing[:20]}"
                    raise AssertionError(f"{text}\n{self.kubernetes.report()}")
                counts = Counter(self.ledger.delivered(subscriber.name, stream))
                twice = [number for number, count in counts.items() if count > 1]
                is_wrong = is_once and stream.qos == EXACTLY_ONCE and twice
                assert not is_wrong, f"{subscriber.name}: {len(twice)} of {stream} came twice: {twice[:20]}"

    def homes(self) -> dict[str, str]:
        """The pod that has the session of each subscriber."""
        found: dict[str, str] = {}
        for pod in self.kubernetes.pods():
            shown = self.admin(pod, "session", "show", "--client_id", "--limit=100000", "--format=csv")
            found |= {client: pod for client in shown.split() if any(client == each.name for each in self.subscribers)}
        return found

    def end_clients(self) -> None:
        for client in (*self.publishers, *self.subscribers):
            client.abandon() if isinstance(client, Publisher) else client.end()
        self.ledger, self.publishers, self.subscribers = Ledger(), [], []
