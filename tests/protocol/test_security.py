"""Access: anonymous clients where they are not allowed, and what a client may not publish."""

import pytest

from protocol import requests
from protocol.answers import Connack
from protocol.client import NetWith, Network, fence, unique
from protocol.marks import V3, V5, both_versions, in_v3, in_v5
from protocol.requests import Will
from protocol.scripted_engine import Request, scripted_engine
from protocol.wire import Version
from strogoff._engine import RegisterRequest, Verdict


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


def turn_strangers_away(request: Request) -> Verdict:
    is_stranger = isinstance(request, RegisterRequest) and request.username == "stranger"
    return Verdict.deny(0x87) if is_stranger else Verdict.allow()


@in_v3("MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@in_v5("MQTT-3.1.4-2", "MQTT-3.1.4-6")
@both_versions
def test_a_refused_client_disturbs_nobody_of_the_same_client_id(version: Version) -> None:
    with scripted_engine(["auth_on_register"], turn_strangers_away) as net:
        topic = unique("t")
        client = net.connect(version)
        client.subscribe(topic, qos=1)
        stranger = net.open(version)
        connack = stranger.handshake(client.client_id, username="stranger", will=Will(topic, b"never", qos=1))
        assert (connack.code, connack.session_present) == (0x87 if version is V5 else 5, False)
        stranger.expect_closed()
        fence(client, client, qos=1)


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
    client_id = unique()
    client.send(requests.connect(version, client_id, will=Will("$private/will", b"x")))
    client.expect_or_close(Connack)
    # Taking the connection over ends it without DISCONNECT, if it was not refused.
    second = net.connect(version, client_id)
    fence(second, watcher)
