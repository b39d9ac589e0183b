"""What docs/differences-from-vernemq.md says about MQTT and no test of the specification shows."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from broker_process import BrokerProcess, Setting, StartBroker
from protocol import requests
from protocol.answers import Puback, Publish
from protocol.client import Network, unique
from protocol.marks import V3, V5, both_versions
from protocol.wire import Version


@contextmanager
def network(broker: BrokerProcess) -> Iterator[Network]:
    with closing(Network(broker.port)) as net:
        yield net


@both_versions
def test_max_message_rate_slows_the_fast_client_down_and_nobody_else(
    broker_with: StartBroker, version: Version
) -> None:
    with network(broker_with(max_message_rate=10)) as net:
        fast, other = net.connect(version), net.connect(version)
        start = time.monotonic()
        # The bucket holds one second's worth; the other half has to wait for it to be filled.
        for packet_id in range(1, 21):
            fast.send(requests.publish(version, "rate", b"x", qos=1, packet_id=packet_id))
        other.publish("rate", b"x", qos=1)
        assert time.monotonic() - start < 0.5
        for _ in range(20):
            fast.expect(Puback)
        assert 0.7 < time.monotonic() - start < 3.0


@pytest.mark.parametrize(("mode", "copies"), [("fanout", 2), ("balance", 1)])
def test_several_clients_may_share_one_client_id(broker_with: StartBroker, mode: str, copies: int) -> None:
    settings: dict[str, Setting] = {"allow_multiple_sessions": True, "queue_deliver_mode": mode}
    with network(broker_with(settings)) as net:
        topic, publisher = unique("t"), net.connect(V3)
        one = net.connect(V3, unique())
        one.subscribe(topic, qos=1)
        two = net.connect(V3, one.client_id, clean_start=False)
        for number in range(10):
            publisher.publish(topic, bytes([number]), qos=1)
        got = [*one.receive_payloads(5 * copies), *two.receive_payloads(5 * copies)]
        one.barrier()
        two.barrier()
        assert sorted(got) == sorted([bytes([number]) for number in range(10)] * copies)


@both_versions
def test_a_queue_is_limited_in_bytes_too(broker_with: StartBroker, version: Version) -> None:
    with network(broker_with(max_queued_bytes="100KB")) as net:
        topic, publisher = unique("t"), net.connect(version)
        away = net.resume(version, unique())
        away.subscribe(topic, qos=1)
        away.disconnect()
        for number in range(20):
            publisher.publish(topic, bytes([number]) * 10_000, qos=1)
        again = net.resume(version, away.client_id)
        kept = 0
        while (message := again.poll(Publish, within=0.5)) is not None:
            assert message.payload[0] == kept
            again.complete(message)
            kept += 1
        assert 5 <= kept <= 10


def test_persistent_client_expiration_does_not_make_a_version_5_session_last(broker_with: StartBroker) -> None:
    with network(broker_with(persistent_client_expiration="1h")) as net:
        client = net.connect(V5, unique(), clean_start=False)
        client.disconnect()
        connack = net.connect(V5, client.client_id, clean_start=False).referee.connack
        assert connack is not None
        assert not connack.session_present
