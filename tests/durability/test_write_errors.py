"""A disk that fails: the broker says so, refuses what it cannot keep, holds what is not kept yet, and recovers alone.

The fault layer between the broker and the files of its store makes the calls fail, as long as the test says.
"""

import time

import pytest

from broker_process import Setting
from durability.faults import Call, Error
from durability.node import Node, StartNode, session_present, wait_until
from protocol import requests
from protocol.answers import Puback, Pubrec
from protocol.client import Client, unique
from protocol.marks import V3, V5
from protocol.wire import PacketType

SETTINGS: dict[str, Setting] = {"store.segment_bytes": "64KB", "store.sync_interval": 50}
FAULTS: list[tuple[str, Call, Error, int, bool]] = [
    # store.sync, the call that fails, how, each or each n-th, torn
    ("always", "write", "EIO", 1, True),
    ("always", "sync", "EIO", 1, False),
    ("always", "sync", "EIO", 2, False),
    ("interval", "write", "ENOSPC", 1, True),
    ("never", "write", "EIO", 1, False),
]
ERROR_TEXT = {"EIO": "Input/output error", "ENOSPC": "No space left on device"}

each_fault = pytest.mark.parametrize(
    ("sync", "call", "error", "every", "torn"),
    FAULTS,
    ids=[f"{sync}-{call}-{error}-{every}{'-torn' if torn else ''}" for sync, call, error, every, torn in FAULTS],
)


class Offers:
    """Messages for a session that is away, and what became of each."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.topic = unique("t")
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self.open: dict[int, Client] = {}
        """Neither accepted nor refused yet, each with its publisher."""
        client = node.net.resume(V5, unique())
        client.subscribe(self.topic, qos=2)
        client.disconnect()
        self.client_id = client.client_id
        self.publisher = node.net.connect(V5)
        self._number = 0

    def offer(self, publisher: Client | None = None) -> int:
        """Publish one message at QoS 1 and see what comes at once; gives its number."""
        publisher = publisher or self.publisher
        self._number += 1
        publisher.send(requests.publish(V5, self.topic, b"%d " % self._number, qos=1, packet_id=self._number))
        self.open[self._number] = publisher
        self.look()
        return self._number

    def look(self) -> None:
        """Take what acknowledgements there are."""
        for publisher in set(self.open.values()):
            while (answer := publisher.poll(Puback)) is not None:
                del self.open[answer.packet_id]
                (self.accepted if answer.code < 0x80 else self.refused).append(answer.packet_id)

    def all_answered(self) -> bool:
        self.look()
        return not self.open

    def is_accepted(self) -> bool:
        """Offer one more; whether it was accepted, which takes a moment where the disk is asked."""
        number = self.offer()
        deadline = time.monotonic() + 1
        while number in self.open and time.monotonic() < deadline:
            self.look()
        return number in self.accepted

    def offer_and_wait(self, padding: bytes) -> bool:
        """Publish one message; whether it was accepted, and not refused, nor its connection closed."""
        self._number += 1
        payload = b"%d " % self._number + padding
        self.publisher.send(requests.publish(V5, self.topic, payload, qos=1, packet_id=self._number))
        puback = self.publisher.expect_or_close(Puback)
        if puback is None or puback.code >= 0x80:
            return False
        self.accepted.append(self._number)
        return True

    def is_refused(self) -> bool:
        """Offer one more on a connection of its own, since acknowledgements of one connection come in order."""
        number = self.offer(self.node.net.connect(V5))
        self.look()
        return number in self.refused

    def arrived(self) -> list[int]:
        """What the session gets."""
        client = self.node.net.resume(V5, self.client_id)
        assert session_present(client)
        received = [int(payload.split()[0]) for payload in client.receive_payloads(len(self.accepted))]
        client.barrier()
        client.disconnect()
        return received


@each_fault
def test_nothing_acknowledged_is_lost_by_a_disk_that_fails_for_a_while(
    node_with: StartNode, sync: str, call: Call, error: Error, every: int, torn: bool
) -> None:
    node = node_with({**SETTINGS, "store.sync": sync}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    for _ in range(5):
        assert offers.is_accepted()
    with node.faults.failing(call, error=error, every=every, torn=torn):
        for _ in range(20):
            offers.offer()
        before = set(offers.accepted)
        assert offers.open or offers.refused
    wait_until(offers.all_answered, "every message is accepted or refused")
    wait_until(offers.is_accepted, "messages are accepted again")
    assert before <= set(offers.accepted)
    node.restart("kill")
    # What was refused does not come, and what was held comes once.
    assert sorted(offers.arrived()) == sorted(offers.accepted)


@pytest.mark.parametrize(
    ("sync", "call", "error"), [("always", "sync", "EIO"), ("interval", "write", "EIO"), ("never", "write", "ENOSPC")]
)
def test_a_disk_that_fails_is_logged_and_messages_are_refused(
    node_with: StartNode, sync: str, call: Call, error: Error
) -> None:
    node = node_with({**SETTINGS, "store.sync": sync}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    assert offers.is_accepted()
    since = node.broker.log_size()
    with node.faults.failing(call, error=error):
        offers.offer()
        wait_until(lambda: ERROR_TEXT[error] in node.broker.log_tail(since), "the error is in the log")
        wait_until(offers.is_refused, "messages are refused")
        assert offers.accepted == [1]
        assert any(segment.name in node.broker.log_tail(since) for segment in node.segments())
    wait_until(offers.is_accepted, "messages are accepted again")
    node.broker.stop()


def test_a_failing_sync_is_a_reason_to_refuse_also_where_nobody_waits_for_it(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "interval"}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    with node.faults.failing("sync"):
        wait_until(offers.is_refused, "messages are refused")
    wait_until(offers.is_accepted, "messages are accepted again")


@pytest.mark.parametrize("call", ["allocate", "create"])
def test_a_disk_on_which_no_file_can_be_made_refuses_before_it_is_too_late(node_with: StartNode, call: Call) -> None:
    node = node_with({**SETTINGS, "max_offline_messages": -1}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    with node.faults.failing(call, error="ENOSPC"):
        while offers.offer_and_wait(padding=b" " * 4_000):
            assert len(offers.accepted) < 1_000
        assert offers.accepted
        wait_until(offers.is_refused, "messages are refused")
    offers.publisher = node.net.connect(V5)
    wait_until(offers.all_answered, "every message is accepted or refused")
    wait_until(offers.is_accepted, "messages are accepted again")
    node.restart("kill")
    assert offers.arrived() == offers.accepted


def test_files_that_cannot_be_removed_cost_no_message(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "max_offline_messages": -1}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    with node.faults.failing("remove"):
        for _ in range(2):
            for _ in range(100):
                # It is up to the broker whether it refuses meanwhile.
                offers.offer_and_wait(padding=b" " * 4_000)
            assert offers.arrived() == offers.accepted
            offers.accepted.clear()
        kept = len(node.segments())
    wait_until(lambda: len(node.segments()) < kept, "the files are removed")
    wait_until(offers.is_accepted, "messages are accepted")
    node.restart("kill")
    assert offers.arrived() == offers.accepted


def test_version_3_is_closed_while_the_disk_fails(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "always"}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    with node.faults.failing("write"):
        wait_until(offers.is_refused, "messages are refused")
        publisher = node.net.connect(V3)
        publisher.send(requests.publish(V3, offers.topic, b"x", qos=1, packet_id=1))
        publisher.expect_closed()
    wait_until(offers.is_accepted, "messages are accepted again")


def test_what_need_not_be_kept_flows_while_the_disk_fails(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "always"}, faults=True)
    assert node.faults is not None
    topic = unique("t")
    clean = node.net.connect(V5)
    clean.subscribe(topic, qos=2)
    offers = Offers(node)
    publisher = node.net.connect(V5)
    with node.faults.failing("write", "sync"):
        wait_until(offers.is_refused, "messages are refused")
        for qos in (0, 1, 2):
            assert publisher.publish(topic, b"%d" % qos, qos=qos) == 0
        assert clean.receive_payloads(3) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("sync", ["always", "interval"])
def test_pubrec_is_held_like_puback(node_with: StartNode, sync: str) -> None:
    node = node_with({**SETTINGS, "store.sync": sync}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    publisher = node.net.resume(V5, unique())
    with node.faults.failing("write"):
        publisher.send(requests.publish(V5, offers.topic, b"1 ", qos=2, packet_id=1))
        pubrec = publisher.poll(Pubrec, 0.3)
        # The broker may have met the fault by itself before.
        assert pubrec is None or pubrec.code >= 0x80
    if pubrec is None:
        assert publisher.expect(Pubrec).code == 0
        publisher.acknowledge(PacketType.PUBREL, 1)
        offers.accepted = [1]
    wait_until(offers.is_accepted, "messages are accepted again")
    node.restart("kill")
    assert offers.arrived() == offers.accepted


def test_what_a_publisher_is_owed_is_not_given_up_with_its_connection(node_with: StartNode) -> None:
    """A message whose acknowledgement was held is repeated by its publisher on the next connection."""
    node = node_with({**SETTINGS, "store.sync": "always"}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    publisher = node.net.resume(V5, unique())
    with node.faults.failing("sync"):
        publisher.send(requests.publish(V5, offers.topic, b"1", qos=2, packet_id=1))
        assert publisher.poll(Pubrec, 0.2) is None
        publisher.close()
    again: Client = node.net.resume(V5, publisher.client_id)
    again.send(requests.publish(V5, offers.topic, b"1", qos=2, packet_id=1, dup=True))
    assert again.expect(Pubrec).code < 0x80
    again.release(1)
    offers.accepted = [1]
    assert offers.arrived() == [1]


def test_a_broker_that_stops_while_the_disk_fails_stops_all_the_same(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "store.sync": "always"}, faults=True)
    assert node.faults is not None
    offers = Offers(node)
    assert offers.is_accepted()
    with node.faults.failing("write", "sync"):
        wait_until(offers.is_refused, "messages are refused")
        node.broker.stop()
    node.start()
    client = node.net.resume(V5, offers.client_id)
    assert client.receive().payload == b"1 "
