"""Access: anonymous clients where they are not allowed, and what a client may not publish."""

import pytest

from protocol import requests
from protocol.answers import Connack
from protocol.client import NetWith, Network, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Will
from protocol.wire import Version


@in_v5("MQTT-3.1.4-2", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
@in_v3("MQTT-3.2.2-4", "MQTT-3.2.2-5")
@both_versions
@pytest.mark.parametrize("username", [None, "somebody"])
def test_a_client_is_refused_where_nobody_vouches_for_it(
    net_with: NetWith, version: Version, username: str | None
) -> None:
    client = net_with(allow_anonymous=False).open(version)
    connack = client.handshake(username=username, password=None if username is None else b"guess")
    refused = (0x86, 0x87) if version is V5 else (4, 5)
    assert connack.code in (refused if username else refused[1:])
    assert not connack.session_present
    client.expect_closed()


@in_v5("MQTT-3.1.4-2")
@both_versions
def test_a_refused_client_neither_takes_over_nor_leaves_a_session(net_with: NetWith, version: Version) -> None:
    net = net_with(max_client_id_size=30)
    topic = unique("t")
    watcher = net.connect(version)
    watcher.subscribe(topic)
    client = net.open(version)
    connack = client.handshake("x" * 31, clean_start=False, will=Will(topic, b"never"))
    assert isinstance(connack, Connack)
    assert connack.code != 0
    client.expect_closed()
    watcher.barrier()


@in_v3("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_unauthorised_publish_is_acknowledged_and_not_passed_on_before_version_5(net: Network, qos: int) -> None:
    client = net.connect(V3)
    client.subscribe("$private/#", qos=2)
    client.publish("$private/x", b"x", qos=qos)
    client.barrier()


@in_v5("MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_an_unauthorised_publish_is_told_so(net: Network, qos: int) -> None:
    client = net.connect(V5)
    assert client.publish("$private/x", b"x", qos=qos) == 0x87
    client.barrier()


@both_versions
def test_a_client_may_have_a_will_only_where_it_may_publish(net: Network, version: Version) -> None:
    watcher = net.connect(version)
    watcher.subscribe("$private/#")
    client = net.open(version)
    client.send(requests.connect(version, unique(), will=Will("$private/will", b"x")))
    client.expect_or_close(Connack)
    client.reset()
    other = net.connect(version)
    other.publish(unique("t"), b"x", qos=1)
    watcher.barrier()
