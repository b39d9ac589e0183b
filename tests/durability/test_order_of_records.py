"""What is written down, and in which order, where several things happen at once.

After a kill nothing is back, nothing is missing, and nothing comes twice.
"""

import pytest

from broker_process import BrokerError, Setting
from durability.node import StartNode, break_off, session_present, wait_until
from protocol import requests
from protocol.answers import Pingresp, Puback, Pubrec, Suback
from protocol.client import unique
from protocol.marks import V5, both_versions
from protocol.requests import Filter, Will
from protocol.wire import PacketType, Version

SETTINGS: dict[str, Setting] = {"store.segment_bytes": "64KB"}
PINGREQ = bytes([PacketType.PINGREQ << 4, 0])


def test_a_retained_message_set_right_behind_a_deletion_survives(node_with: StartNode) -> None:
    node = node_with(SETTINGS)
    topic = unique("t")
    publisher = node.net.connect(V5)
    payloads = [b"1", b"", b"2", b"", b"3"]
    publisher.send(
        b"".join(
            requests.publish(V5, topic, payload, qos=1, retain=True, packet_id=number)
            for number, payload in enumerate(payloads, 1)
        )
    )
    for _ in payloads:
        assert publisher.expect(Puback).code < 0x80
    node.restart("kill")
    reader = node.net.connect(V5)
    reader.subscribe(topic, qos=1)
    assert reader.receive().payload == b"3"
    reader.barrier()


def test_a_receipt_of_qos_2_survives_cleaning(node_with: StartNode) -> None:
    """Otherwise the message that its publisher sends again would be taken for another one."""
    node = node_with(SETTINGS)
    topic = unique("t")
    subscriber = node.net.resume(V5, unique())
    subscriber.subscribe(topic, qos=2)
    publisher = node.net.resume(V5, unique())
    packet_id = publisher.next_packet_id()
    packet = requests.publish(V5, topic, b"once", qos=2, packet_id=packet_id)
    publisher.send(packet)
    assert publisher.expect(Pubrec).code < 0x80
    assert subscriber.receive().payload == b"once"
    break_off(publisher)
    node.broker.admin("store", "compact")
    node.restart("kill")
    publisher = node.net.resume(V5, publisher.client_id)
    assert session_present(publisher)
    publisher.send(requests.publish(V5, topic, b"once", qos=2, packet_id=packet_id, dup=True))
    assert publisher.expect(Pubrec).code < 0x80
    publisher.release(packet_id)
    subscriber = node.net.resume(V5, subscriber.client_id)
    subscriber.barrier()


@both_versions
def test_a_session_that_a_clean_start_discarded_does_not_come_back(node_with: StartNode, version: Version) -> None:
    # So long that only the promise of CONNACK can have it written.
    node = node_with({**SETTINGS, "store.sync_interval": 60_000})
    topic = unique("t")
    old = node.net.resume(version, unique())
    old.subscribe(topic, qos=1)
    old.disconnect()
    node.settle()
    node.net.connect(version, old.client_id, clean_start=True)
    node.restart("kill")
    again = node.net.resume(version, old.client_id)
    assert not session_present(again)
    publisher = node.net.connect(V5)
    publisher.publish(topic, b"x", qos=1)
    again.barrier()


def test_messages_flow_on_when_the_way_to_sync_changes(node_with: StartNode) -> None:
    node = node_with(SETTINGS)
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    publishers = [node.net.connect(V5) for _ in range(4)]
    packets = [requests.publish(V5, topic, b"x", qos=1, packet_id=number) for number in range(1, 21)]
    for sync in ("always", "interval", "always", "never", "always", "interval"):
        node.broker.admin("set", f"store.sync={sync}")
        for publisher in publishers:
            publisher.send(b"".join(packets))
    for publisher in publishers:
        for _ in range(6 * len(packets)):
            assert publisher.expect(Puback).code < 0x80


def test_a_limit_that_the_files_cannot_keep_to_is_refused_while_the_node_runs(node_with: StartNode) -> None:
    node = node_with(SETTINGS)
    with pytest.raises(BrokerError, match=r"store\.max_bytes: at least 1MB while the node runs"):
        node.broker.admin("set", "store.max_bytes=512KB")
    node.broker.admin("set", "store.max_bytes=1MB")


def test_sessions_drain_when_the_limit_is_set_below_what_there_is(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "max_offline_messages": -1, "max_online_messages": -1})
    topic = unique("t")
    client = node.net.resume(V5, unique())
    client.subscribe(topic, qos=1)
    client.disconnect()
    publisher = node.net.connect(V5)
    for _ in range(600):
        assert publisher.publish(topic, b"x" * 4_000, qos=1) == 0
    node.broker.admin("set", "store.max_bytes=1MB")
    wait_until(lambda: publisher.publish(topic, b"x" * 4_000, qos=1) == 0x97, "publishes are refused")
    for _ in range(300):
        # Sessions that come and go leave something behind, which is cleaned away although there is too much already.
        visitor = node.net.resume(V5, client.client_id + "-visitor")
        visitor.disconnect()
    client = node.net.resume(V5, client.client_id)
    assert len(client.receive_payloads(600)) == 600
    client.barrier()
    wait_until(lambda: publisher.publish(topic, b"again", qos=1) == 0, "messages are accepted again", timeout_s=30)


def test_a_will_goes_out_while_the_store_takes_nothing(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "max_offline_messages": -1}, disk_bytes=2 * 1024 * 1024)
    filler, topic = unique("t"), unique("t")
    sleeper = node.net.resume(V5, unique())
    sleeper.subscribe(filler, qos=1)
    sleeper.subscribe(topic, qos=1)
    sleeper.disconnect()
    watcher = node.net.connect(V5)
    watcher.subscribe(topic, qos=1)
    mortal = node.net.connect(V5, will=Will(topic, b"gone", qos=1))
    publisher = node.net.connect(V5)
    while publisher.publish(filler, b"x" * 4_000, qos=1) == 0:
        pass
    break_off(mortal)
    assert watcher.receive().payload == b"gone"


def test_a_connection_that_the_store_holds_back_is_not_read_without_end(node_with: StartNode) -> None:
    node = node_with({**SETTINGS, "max_connection_buffer": "64KB"}, faults=True)
    assert node.faults is not None
    client = node.net.resume(V5, unique())
    with node.faults.failing("write"):
        # Nothing is answered before this is written down.
        client.send(requests.subscribe(V5, 1, [Filter(unique("t"), qos=1)]))
        client.flood(PINGREQ * 40_000)
        wait_until(lambda: node.metrics()["read_paused"] > 0, "it is not read any more")
    client.expect(Suback)
    for _ in range(40_000):
        client.expect(Pingresp)
