"""A load of publishers and subscribers with everything that can go wrong about them, for brokers that crash under it.

Publishers of both versions at QoS 1 and 2, some with retained messages; persistent subscribers that are always there,
come and go, acknowledge slowly, take one message at a time, change their subscription, or share one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from durability.devices import Device, Publisher, Subscriber
from durability.ledger import Kind, Ledger
from protocol.answers import Pingresp, Publish
from protocol.client import Network
from protocol.marks import V3, V5
from protocol.requests import pingreq

__all__ = ["STALL_S", "STALL_WITH_LOSSES_S", "Load", "Pace"]

STALL_S = 10.0
"""How long nothing may move while the load is drained."""
STALL_WITH_LOSSES_S = 2.0
"""The same where messages and exchanges may have been lost, so that waiting for all of them is in vain."""

_FILLER = bytes(range(33, 127)) * 200


@dataclass(slots=True, frozen=True)
class Pace:
    """How much is published: bursts of up to `burst` messages, `gap_s` apart on average, by each publisher."""

    gap_s: float = 0.03
    burst: int = 4
    size: int = 300
    large_size: int = 9_000
    """One message of fifty is so large."""


@dataclass(slots=True)
class Load:
    """All devices of one run. `async with load.on(port)`, then `drain`."""

    rng: Random
    pace: Pace = Pace()
    stall_s: float = STALL_S
    ledger: Ledger = field(default_factory=Ledger)
    publishers: list[tuple[Publisher, Sequence[tuple[str, int]]]] = field(default_factory=list)
    """Each with its topics and their QoS."""
    keepers: list[Publisher] = field(default_factory=list)
    """They publish retained messages."""
    subscribers: list[Subscriber] = field(default_factory=list)
    travellers: list[Subscriber] = field(default_factory=list)
    """Those who come and go."""
    changeable: list[Subscriber] = field(default_factory=list)
    """Those who subscribe and unsubscribe."""
    sleeper: Subscriber | None = None
    """Away from the beginning to the end, so that the store has to keep everything."""
    _port: int = 0
    _is_ending: bool = False
    _routines: list[asyncio.Task[None]] = field(default_factory=list)

    # -- who takes part ----------------------------------------------------------------------------------------

    def cast(self, *, has_sleeper: bool = False) -> None:
        """Add everybody."""
        for name, version, qualities in (
            ("p1", V3, (1, 1, 1)),
            ("p2", V5, (1, 1, 1)),
            ("p3", V3, (2, 2, 2)),
            ("p4", V5, (2, 2, 2)),
            ("p5", V5, (1, 2, 2)),
        ):
            topics = [(f"load/{name}/{index}", qos) for index, qos in enumerate(qualities)]
            self.publishers.append((Publisher(name, version, self.ledger), topics))
        self.keepers = [Publisher("k3", V3, self.ledger), Publisher("k5", V5, self.ledger)]
        everything = "load/#"
        self.add_subscriber("all-v5-qos2", V5, everything, 2)
        self.add_subscriber("all-v3-qos1", V3, everything, 1)
        self.travellers = [
            self.add_subscriber("traveller-v3-qos2", V3, "load/+/0", 2),
            self.add_subscriber("traveller-v5-qos1", V5, everything, 1),
        ]
        self.add_subscriber("slow-v5-qos2", V5, "load/+/1", 2, delay_s=0.15)
        self.add_subscriber("slow-v3-qos1", V3, "load/+/2", 1, delay_s=0.1)
        self.add_subscriber("one-by-one-qos2", V5, "load/p4/#", 2, receive_maximum=1)
        self.add_subscriber("one-by-one-qos1", V5, "load/p2/0", 1, receive_maximum=1)
        self.changeable = [self.add_subscriber("changeable", V5, "load/+/2", 2)]
        for name in ("shares-a", "shares-b"):
            self.add_subscriber(name, V5, f"$share/crew/{everything}", 2)
        if has_sleeper:
            self.sleeper = self.add_subscriber("sleeper", V5, everything, 2)

    def add_subscriber(self, name: str, version: Any, topic_filter: str, qos: int, **more: Any) -> Subscriber:
        subscriber = Subscriber(name, version, self.ledger, **more)
        subscriber.subscribe(topic_filter, qos)
        self.subscribers.append(subscriber)
        return subscriber

    @property
    def devices(self) -> list[Device]:
        return [*(publisher for publisher, _ in self.publishers), *self.keepers, *self.subscribers]

    # -- the course of a run -----------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def on(self, port: int) -> AsyncIterator[None]:
        """Everybody connects, subscribes and begins; at the end everybody goes."""
        self._port = port
        asyncio.get_running_loop().set_exception_handler(self._harness_failed)
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(device.run(port))
            try:
                await self._until(lambda: all(each.is_settled for each in self.subscribers), "subscribe")
                await self._until(lambda: all(each.present.is_set() for each in self.devices), "connect")
                self._begin(tasks)
                yield
            finally:
                self._end_routines()
                for device in self.devices:
                    device.stop()

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        if self.sleeper is not None:
            self.sleeper.wants_connection.clear()
            self.sleeper.leave()
        routines = [self._publish(publisher, topics) for publisher, topics in self.publishers]
        routines += [self._keep(publisher) for publisher in self.keepers]
        routines += [self._travel(subscriber) for subscriber in self.travellers]
        routines += [self._change(subscriber) for subscriber in self.changeable]
        self._routines = [tasks.create_task(routine) for routine in routines]

    def _end_routines(self) -> None:
        for routine in self._routines:
            routine.cancel()
        self._routines.clear()

    def _harness_failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.ledger.note(Kind.UNFINISHED, f"the harness failed: {context['message']}: {context.get('exception')!r}")

    async def until_cut_off(self) -> None:
        """Return when every device has read what a dead broker had sent, and knows that it is gone."""
        async with asyncio.timeout(STALL_S):
            await asyncio.gather(*(device.until_cut_off() for device in self.devices))

    async def drain(self) -> None:
        """Publish no more, bring every exchange to its end and every message to everybody, as far as it goes."""
        self._end_routines()
        for subscriber in self.subscribers:
            subscriber.wants_connection.set()
        publishers = [*(publisher for publisher, _ in self.publishers), *self.keepers]
        await self._until(lambda: all(each.is_done for each in publishers), "have every message acknowledged")
        await self._until(lambda: all(each.is_settled for each in self.subscribers), "have its subscription")
        missing = self.ledger.missing()

        def nothing_missing() -> bool:
            missing[:] = [(who, key) for who, key in missing if not self.ledger.has(who, key)]
            return not missing

        await self._until(nothing_missing, "have every message")
        await self._until(lambda: all(each.is_done for each in self.subscribers), "have every PUBREL")
        await self._last_look()

    async def _last_look(self) -> None:
        """See what comes that should not."""
        with contextlib.suppress(TimeoutError):
            for _ in range(2):
                await asyncio.gather(*(each.ping() for each in self.subscribers if each.present.is_set()))
        retained = await asyncio.to_thread(retained_messages, self._port, "keep/#")
        wanted = self.ledger.last_retained()
        for topic in sorted(wanted.keys() | retained.keys()):
            if wanted.get(topic) != retained.get(topic):
                is_, should = (_beginning(each.get(topic)) for each in (retained, wanted))
                self.ledger.note(Kind.RETAINED, f"{topic} has {is_}, the last acknowledged is {should}")

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait as long as packets flow; note it when they do not any more and the condition still does not hold."""
        progress, since = self._progress(), asyncio.get_running_loop().time()
        while not condition():
            await asyncio.sleep(0.05)
            now, before = asyncio.get_running_loop().time(), progress
            progress = self._progress()
            if progress != before:
                since = now
            elif now - since > self.stall_s:
                self.ledger.note(Kind.UNFINISHED, f"not everybody could {what}: nothing came for {self.stall_s:g} s")
                return

    def _progress(self) -> tuple[int, int]:
        counts = self.ledger.counts
        return counts["arrivals"], counts["accepted"] + counts["refused"]

    # -- routines ----------------------------------------------------------------------------------------------

    async def _publish(self, publisher: Publisher, topics: Sequence[tuple[str, int]]) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / self.pace.gap_s))
            for _ in range(self.rng.randint(1, self.pace.burst)):
                if publisher.has_room:
                    publisher.publish(*self.rng.choice(topics), self._payload_of(publisher))

    async def _keep(self, publisher: Publisher) -> None:
        """Replace and delete retained messages of some topics, and leave one for ever on others."""
        for turn in range(1_000_000_000):
            await asyncio.sleep(self.rng.expovariate(1 / (3 * self.pace.gap_s)))
            if not publisher.has_room:
                continue
            topic = self.rng.choice([f"keep/{publisher.name}/for-ever/{turn}"] + [f"keep/{publisher.name}/now"] * 3)
            is_deletion = topic.endswith("now") and self.rng.random() < 0.3
            payload = (lambda _: b"") if is_deletion else self._payload_of(publisher)
            publisher.publish(topic, self.rng.choice((1, 2)), payload, retain=True)

    async def _travel(self, subscriber: Subscriber) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.1, 0.8))
            subscriber.wants_connection.clear()
            subscriber.leave(orderly=self.rng.random() < 0.5)
            await asyncio.sleep(self.rng.uniform(0.2, 1.5))
            subscriber.wants_connection.set()

    async def _change(self, subscriber: Subscriber) -> None:
        is_subscribed = True
        while True:
            await asyncio.sleep(self.rng.uniform(0.05, 0.6))
            if not subscriber.is_settled:
                continue
            if is_subscribed:
                subscriber.unsubscribe()
            else:
                subscriber.subscribe(subscriber.page.spans[-1].topic_filter, 2)
            is_subscribed = not is_subscribed

    def _payload_of(self, publisher: Publisher) -> Callable[[int], bytes]:
        size = self.pace.large_size if self.rng.random() < 0.02 else self.rng.randint(0, self.pace.size)
        return lambda number: f"{publisher.name} {number} ".encode() + _FILLER[number % 90 : number % 90 + size]


def retained_messages(port: int, topic_filter: str) -> dict[str, bytes]:
    """What a new subscriber gets as retained."""
    with contextlib.closing(Network(port)) as net:
        client = net.connect(V5)
        client.subscribe(topic_filter)
        found: dict[str, bytes] = {}
        for _ in range(2):
            client.send(pingreq())
            client.expect(Pingresp)
            while (publish := client.poll(Publish)) is not None:
                found[publish.topic] = publish.payload
        return found


def _beginning(payload: bytes | None) -> str:
    return "nothing" if payload is None else repr(payload[:20])
