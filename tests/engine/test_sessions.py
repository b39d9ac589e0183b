"""Sessions as Python sees them: pages, facts, ends."""

import time

import pytest

from engine.running import Running, eventually
from protocol.requests import Filter, Will
from protocol.wire import Property, Version
from strogoff._engine import SessionInfo


def session(running: Running, client_id: str) -> SessionInfo:
    found = running.engine.session(client_id)
    assert found is not None, f"{client_id} has no session"
    return found


def test_a_session_tells_its_facts(running: Running) -> None:
    before = time.time()
    client = running.connect(
        Version.V5, "c", clean_start=False, keep_alive=33, properties=[(Property.SESSION_EXPIRY_INTERVAL, 60)]
    )
    client.subscribe("a", "b", qos=1)
    info = session(running, "c")
    assert (info.client_id, info.mountpoint, info.username, info.is_online) == ("c", "", None, True)
    assert (info.peer_host, info.listener, info.protocol) == ("127.0.0.1", "default", 5)
    assert (info.clean_session, info.session_expiry_interval, info.keep_alive) == (False, 60, 33)
    assert (info.online_messages, info.offline_messages, info.waiting_acks) == (0, 0, 0)
    assert (info.subscriptions, info.deliver_mode, info.num_sessions) == (2, "fanout", 1)
    assert info.bytes_received > 0
    assert info.bytes_sent > 0
    assert info.session_started_at is not None
    assert before - 1 <= info.queue_started_at <= info.session_started_at + 1 <= time.time() + 2


def test_an_offline_session_has_no_peer_and_keeps_its_queue(running: Running) -> None:
    client = running.resume(Version.V5, "c")
    client.subscribe("t", qos=1)
    client.disconnect()
    eventually(lambda: not session(running, "c").is_online, "the client is offline")
    running.connect(Version.V5).publish("t", qos=1)
    info = session(running, "c")
    assert (info.peer_host, info.peer_port, info.listener, info.session_started_at) == (None, None, None, None)
    assert (info.offline_messages, info.online_messages, info.subscriptions) == (1, 0, 1)
    assert running.engine.session_count() == (1, 1)


def test_messages_under_way_and_waiting_are_counted(running: Running) -> None:
    slow = running.connect(Version.V5, "slow", properties=[(Property.RECEIVE_MAXIMUM, 2)])
    slow.subscribe("t", qos=1)
    publisher = running.connect(Version.V5)
    for _ in range(5):
        publisher.publish("t", qos=1)
    info = session(running, "slow")
    assert (info.waiting_acks, info.online_messages) == (2, 3)


def test_pages_give_every_session_once_in_order(running: Running) -> None:
    names = sorted(f"client-{number}" for number in range(25))
    for name in names:
        running.connect(Version.V3_1_1, name)
    found: list[str] = []
    after: tuple[str, str] | None = None
    while page := running.engine.sessions(after=after, limit=10):
        assert len(page) <= 10
        found += [each.client_id for each in page]
        after = (page[-1].mountpoint, page[-1].client_id)
    assert found == names
    assert [each.client_id for each in running.engine.sessions(after=("", "client-23"), limit=1)] == ["client-24"]
    assert running.engine.sessions(limit=0) == []


def test_subscriptions_are_told_as_they_were_made(running: Running) -> None:
    client = running.connect(Version.V5, "c")
    filters = [Filter("b", 2, no_local=True, retain_as_published=True), Filter("$share/g/a", 1)]
    client.subscribe(*filters, properties=[(Property.SUBSCRIPTION_IDENTIFIER, 5)])
    shared, plain = running.engine.subscriptions("c")
    assert (shared.topic, shared.qos, shared.no_local) == ("$share/g/a", 1, False)
    assert (plain.topic, plain.qos, plain.no_local, plain.retain_as_published) == ("b", 2, True, True)
    assert (plain.identifier, shared.identifier) == (5, 5)
    assert running.engine.subscriptions("nobody") == []


@pytest.mark.parametrize("version", Version)
def test_disconnecting_tells_version_5_clients_why(running: Running, version: Version) -> None:
    client = running.resume(version, "c")
    assert running.engine.disconnect("c", reason_code=0x9D)
    client.expect_refusal(0x9D)
    assert not session(running, "c").is_online
    assert not running.engine.disconnect("nobody")


def test_disconnecting_publishes_the_will(running: Running) -> None:
    watcher = running.connect(Version.V5)
    watcher.subscribe("will")
    client = running.connect(Version.V5, "c", will=Will("will", b"gone"))
    running.engine.disconnect("c")
    client.expect_refusal(0x98)
    assert watcher.receive().payload == b"gone"


@pytest.mark.parametrize("is_online", [True, False])
def test_cleaning_up_ends_the_session_with_all_that_is_in_it(running: Running, is_online: bool) -> None:
    client = running.resume(Version.V5, "c")
    client.subscribe("t", qos=1)
    if not is_online:
        client.disconnect()
    assert running.engine.disconnect("c", cleanup=True)
    assert running.engine.session("c") is None
    assert running.metric("router_subscriptions") == 0
    assert not running.engine.disconnect("c", cleanup=True)
    again = running.resume(Version.V5, "c")
    assert again.referee.connack is not None
    assert not again.referee.connack.session_present


@pytest.mark.parametrize("version", [Version.V3_1_1, Version.V5])
def test_a_session_that_ends_with_its_connection_is_not_taken_over(running: Running, version: Version) -> None:
    """[MQTT-3.1.2-6], MQTT 5 §3.1.2.11.2: the state of a clean session is not reused in any subsequent session."""
    clean = running.connect(version, "c", clean_start=True)
    clean.subscribe("t", qos=1)
    taker = running.resume(version, "c")
    assert taker.referee.connack is not None
    assert not taker.referee.connack.session_present
    assert running.engine.subscriptions("c") == []
