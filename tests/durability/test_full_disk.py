"""A disk that is full, and the broker's own limit: what must be kept is refused, the rest flows, and nothing is lost.

The data directory is a small file system in memory, mounted for the test, so this needs the rights of root.
"""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from broker_process import BrokerError, Setting
from durability.crash import CrashPlan, CrashRun
from durability.ledger import told
from durability.load import Pace
from durability.node import Node, StartNode, session_present, wait_until
from protocol import requests
from protocol.answers import Puback, Publish, Pubrec
from protocol.client import Client, unique
from protocol.marks import V3, V5
from protocol.wire import Version

MB = 1024 * 1024
QUOTA_EXCEEDED = 0x97
BODY = b"x" * 4_000
MESSAGES_MAX = 5_000
"""Far more than fit."""


@dataclass(slots=True)
class Filled:
    """A node, and a session that is away and for which its store is filled."""

    node: Node
    topic: str = field(default_factory=unique)
    accepted: list[bytes] = field(default_factory=list)
    client_id: str = field(default_factory=unique)
    _number: int = 0

    def __post_init__(self) -> None:
        client = self.node.net.resume(V5, self.client_id)
        client.subscribe(self.topic, qos=2)
        client.disconnect()

    def fill(self) -> None:
        """Publish for the session until a message is refused."""
        publisher = self.node.net.connect(V5)
        while (code := self.offer(publisher)) != QUOTA_EXCEEDED:
            assert len(self.accepted) < MESSAGES_MAX, "the store is never full"
            if code is None:
                publisher = self.node.net.connect(V5)

    def offer(self, publisher: Client, *, qos: int = 1) -> int | None:
        """Publish one more message; gives the reason code, None where the connection was closed instead."""
        self._number += 1
        payload = b"%d " % self._number + BODY
        packet_id = publisher.next_packet_id()
        publisher.send(requests.publish(publisher.version, self.topic, payload, qos=qos, packet_id=packet_id))
        answer = publisher.expect_or_close(Puback if qos == 1 else Pubrec)
        if answer is None:
            return None
        if answer.code < 0x80:
            self.accepted.append(payload)
            if qos == 2:
                publisher.release(packet_id)
        return answer.code

    def drain(self) -> None:
        """The session takes what it was promised, and gets no more than that."""
        client = self.node.net.resume(V5, self.client_id)
        assert session_present(client)
        received = client.receive_payloads(len(self.accepted))
        assert received == self.accepted
        client.barrier()
        client.disconnect()
        self.accepted.clear()

    def accepts(self, count: int) -> bool:
        """Publish until the session has so many messages or one is refused; whether it has them."""
        publisher = self.node.net.connect(V5)
        while len(self.accepted) < count and self.offer(publisher, qos=2) == 0:
            pass
        return len(self.accepted) >= count

    def accepts_again(self) -> None:
        wait_until(lambda: self.accepts(len(self.accepted) + 1), "messages are accepted again")


SETTINGS: dict[str, Setting] = {"max_offline_messages": -1, "max_online_messages": -1, "store.segment_bytes": "64KB"}


@pytest.fixture
def filled(request: pytest.FixtureRequest, node_with: StartNode) -> Filled:
    """A full store: of a full disk, or of one that may not become larger."""
    return filled_node(node_with, getattr(request, "param", "disk"))


@pytest.fixture(scope="module")
def full(request: pytest.FixtureRequest, module_node_with: StartNode) -> Filled:
    """The same, shared by tests that leave it full."""
    return filled_node(module_node_with, getattr(request, "param", "disk"))


def filled_node(node_with: StartNode, limit: str) -> Filled:
    if limit == "disk":
        state = Filled(node_with(SETTINGS, disk_bytes=2 * MB))
    else:
        state = Filled(node_with({**SETTINGS, "store.max_bytes": "2MB"}))
    state.fill()
    assert len(state.accepted) > 100
    return state


disk_or_quota = pytest.mark.parametrize("filled", ["disk", "quota"], indirect=True)
full_disk_or_quota = pytest.mark.parametrize("full", ["disk", "quota"], indirect=True)


@full_disk_or_quota
@pytest.mark.parametrize("qos", [1, 2])
def test_version_5_is_told_that_the_quota_is_exceeded(full: Filled, qos: int) -> None:
    publisher = full.node.net.connect(V5)
    for _ in range(3):
        assert full.offer(publisher, qos=qos) == QUOTA_EXCEEDED
    publisher.barrier()


@full_disk_or_quota
@pytest.mark.parametrize("qos", [1, 2])
def test_version_3_is_closed_without_an_acknowledgement(full: Filled, qos: int) -> None:
    publisher = full.node.net.connect(V3)
    publisher.send(requests.publish(V3, full.topic, BODY, qos=qos, packet_id=1))
    publisher.expect_closed()


def test_what_need_not_be_kept_flows_on(full: Filled) -> None:
    topic = unique("t")
    clean, durable = full.node.net.connect(V5), full.node.net.resume(V5, unique())
    publisher = full.node.net.connect(V5)
    clean.subscribe(topic, qos=2)
    assert publisher.publish(topic, b"clean", qos=1) == 0
    assert publisher.publish(topic, b"clean", qos=2) == 0
    assert clean.receive_payloads(2) == [b"clean", b"clean"]
    durable.subscribe(topic, qos=0)
    publisher.publish(topic, b"qos 0")
    assert publisher.publish(topic, b"qos 1 to 0", qos=1) == 0
    assert clean.receive_payloads(2) == [b"qos 0", b"qos 1 to 0"]
    assert durable.receive_payloads(2) == [b"qos 0", b"qos 1 to 0"]


def test_what_one_of_its_subscribers_must_keep_is_refused_as_a_whole(full: Filled) -> None:
    clean = full.node.net.connect(V5)
    clean.subscribe(full.topic, qos=1)
    publisher = full.node.net.connect(V5)
    assert full.offer(publisher) == QUOTA_EXCEEDED
    publisher.publish(full.topic, b"qos 0")
    assert clean.receive().payload == b"qos 0"
    clean.barrier()


def test_a_retained_message_that_must_be_kept_is_refused(full: Filled) -> None:
    topic = unique("t")
    publisher = full.node.net.connect(V5)
    assert publisher.publish(topic, BODY, qos=1, retain=True) == QUOTA_EXCEEDED
    late = full.node.net.connect(V5)
    late.subscribe(topic, qos=1)
    late.barrier()


@pytest.mark.parametrize("qos", [1, 2])
def test_the_first_message_that_does_not_fit_is_refused_like_the_next(node_with: StartNode, qos: int) -> None:
    state = Filled(node_with({**SETTINGS, "store.max_bytes": "1MB"}))
    publisher = state.node.net.connect(V5)
    while (code := state.offer(publisher, qos=qos)) == 0:
        assert len(state.accepted) < MESSAGES_MAX, "the store is never full"
    assert code == QUOTA_EXCEEDED
    publisher.barrier()


@disk_or_quota
def test_a_session_that_drains_makes_room(filled: Filled) -> None:
    for _ in range(2):
        filled.drain()
        # The files are cleaned meanwhile, so a message may be refused once more before there is room for it.
        wait_until(lambda: filled.accepts(100), "there is room for a hundred messages", timeout_s=30)
    filled.drain()


@disk_or_quota
def test_a_kill_while_the_store_is_full_loses_nothing(filled: Filled) -> None:
    filled.node.restart("kill")
    assert filled.offer(filled.node.net.connect(V5)) in (0, QUOTA_EXCEEDED)
    filled.node.restart("kill")
    filled.drain()
    filled.accepts_again()
    filled.node.restart("kill")
    filled.drain()


def test_a_stop_while_the_store_is_full_is_an_orderly_one(filled: Filled) -> None:
    filled.node.restart("stop")
    filled.drain()


def test_the_metrics_tell_that_publishes_are_refused(filled: Filled) -> None:
    publisher = filled.node.net.connect(V5)
    assert filled.offer(publisher) == QUOTA_EXCEEDED
    publisher.barrier()
    metrics = filled.node.metrics()
    assert metrics["store_refusing"] == 1
    assert metrics["store_publish_refused"] >= 1
    assert metrics["store_bytes"] >= metrics["store_live_bytes"] > len(filled.accepted) * len(BODY)
    filled.drain()
    filled.accepts_again()
    assert filled.node.metrics()["store_refusing"] == 0


def test_the_log_tells_when_refusing_begins_and_when_it_ends(filled: Filled) -> None:
    broker = filled.node.broker
    wait_until(lambda: "messages that would have to be kept are refused" in broker.log_tail(), "the beginning")
    before = broker.log_size()
    filled.drain()
    filled.accepts_again()
    wait_until(lambda: "the store takes messages again" in broker.log_tail(before), "the end")


@disk_or_quota
def test_clients_may_come_and_go_as_long_as_the_store_is_full(filled: Filled) -> None:
    """Each time something has to be written down about the session, and the messages must still be delivered."""
    visitor = filled.node.net.resume(V5, unique())
    for _ in range(1_000):
        visitor.disconnect()
        visitor = filled.node.net.resume(V5, visitor.client_id)
    visitor.close()
    filled.drain()
    filled.accepts_again()


def test_a_full_store_can_be_compacted_and_is_not_backed_up(filled: Filled, tmp_path: Path) -> None:
    admin = filled.node.broker.admin
    with pytest.raises(BrokerError, match="there is no room for another file of the store: free some space first"):
        admin("store", "backup", f"--file={tmp_path / 'full.tar'}")
    assert not list(tmp_path.glob("full*"))
    admin("store", "compact")
    filled.drain()
    filled.accepts_again()


def test_messages_are_accepted_again_when_the_disk_has_space_again(node_with: StartNode) -> None:
    node = node_with(SETTINGS, disk_bytes=3 * MB)
    ballast = node.broker.data_directory / "ballast"
    ballast.write_bytes(bytes(2 * MB))
    state = Filled(node)
    state.fill()
    ballast.unlink()
    state.accepts_again()
    node.restart("kill")
    state.drain()


def test_a_higher_limit_acts_at_once(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.max_bytes": "1MB"})
    state = Filled(node)
    state.fill()
    assert sum(segment.stat().st_size for segment in node.segments()) <= MB
    node.broker.admin("set", "store.max_bytes=4MB")
    state.accepts_again()
    state.drain()


def test_the_files_of_the_store_stay_within_the_limit(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.max_bytes": "1MB"})
    state = Filled(node)
    for _ in range(2):
        state.fill()
        assert sum(segment.stat().st_size for segment in node.segments()) <= MB
        state.drain()
        state.accepts_again()
        assert sum(segment.stat().st_size for segment in node.segments()) <= MB


@pytest.mark.parametrize(("version", "qos"), [(V3, 1), (V5, 2)], ids=str)
def test_what_is_acknowledged_in_a_burst_that_fills_the_disk_is_kept_and_no_more(
    node_with: StartNode, version: Version, qos: int
) -> None:
    node = node_with(SETTINGS, disk_bytes=2 * MB)
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=2)
    client.disconnect()
    publisher = node.net.connect(version)
    accepted: list[int] = []
    while (answered := burst(publisher, topic, qos, len(accepted) + 1)) == BURST:
        accepted += range(len(accepted) + 1, len(accepted) + 1 + BURST)
    accepted += range(len(accepted) + 1, len(accepted) + 1 + answered)
    assert 100 < len(accepted) < MESSAGES_MAX
    node.restart("kill")
    client = node.net.resume(V5, client.client_id)
    received = []
    while (publish := client.poll(Publish, 0.3)) is not None:
        client.complete(publish)
        received.append(int(publish.payload.split()[0]))
    assert received[: len(accepted)] == accepted
    # Version 3 was closed, and what the broker had acknowledged last may have been lost with the connection.
    assert len(received) == len(accepted) or version is V3


BURST = 20


def burst(publisher: Client, topic: str, qos: int, first: int) -> int:
    """Publish some messages at once; how many were accepted before the first that was not."""
    numbers = range(first, first + BURST)
    packets = [
        requests.publish(publisher.version, topic, b"%d " % number + BODY, qos=qos, packet_id=number)
        for number in numbers
    ]
    with contextlib.suppress(ConnectionError):
        publisher.send(b"".join(packets))
    accepted = 0
    for number in numbers:
        answer = publisher.expect_or_close(Puback if qos == 1 else Pubrec)
        if answer is None or answer.code >= 0x80:
            break
        assert answer.packet_id == number
        accepted += 1
    return accepted


@pytest.mark.parametrize("limit", ["disk", "quota"])
def test_a_load_that_fills_the_store_and_a_broker_that_is_killed_lose_nothing(node_with: StartNode, limit: str) -> None:
    if limit == "disk":
        node = node_with(SETTINGS, disk_bytes=2 * MB)
    else:
        node = node_with({**SETTINGS, "store.max_bytes": "2MB"})
    plan = CrashPlan(2, up_s=(0.5, 1.5))
    run = CrashRun(node.broker, plan, Random(20_000), Pace(size=8_000), has_sleeper=True)
    ledger = run.run()
    problems = ledger.judge()
    assert not problems, told(problems)
    assert ledger.counts["refused"] > 10
    assert ledger.counts["accepted"] > 100
