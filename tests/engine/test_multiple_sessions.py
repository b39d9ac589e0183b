"""`allow_multiple_sessions`: several connections with one client id."""

from collections.abc import Callable

import pytest

from engine.running import Running, eventually
from protocol.answers import Publish
from protocol.client import Client
from protocol.wire import Version

Run = Callable[..., Running]


def pair(running: Running, version: Version = Version.V3_1_1) -> tuple[Client, Client]:
    return running.connect(version, "same", clean_start=False), running.connect(version, "same", clean_start=False)


@pytest.mark.parametrize("version", Version)
def test_a_second_connection_does_not_end_the_first(run: Run, version: Version) -> None:
    running = run({"allow_multiple_sessions": True})
    first, second = pair(running, version)
    first.barrier()
    second.barrier()
    (session,) = running.engine.sessions()
    assert (session.client_id, session.num_sessions, session.is_online) == ("same", 2, True)


def test_with_fanout_every_connection_gets_every_message(run: Run) -> None:
    running = run({"allow_multiple_sessions": True, "queue_deliver_mode": "fanout"})
    clients = pair(running)
    clients[0].subscribe("t", qos=1)
    publisher = running.connect(Version.V5)
    for number in range(6):
        publisher.publish("t", b"%d" % number, qos=1)
    for client in clients:
        assert client.receive_payloads(6) == [b"%d" % number for number in range(6)]
        client.barrier()


def test_with_balance_every_message_goes_to_one_connection(run: Run) -> None:
    running = run({"allow_multiple_sessions": True, "queue_deliver_mode": "balance"})
    clients = pair(running)
    clients[1].subscribe("t", qos=1)
    publisher = running.connect(Version.V5)
    for number in range(10):
        publisher.publish("t", b"%d" % number, qos=1)
    halves = [client.receive_payloads(5) for client in clients]
    assert sorted(halves[0] + halves[1]) == [b"%d" % number for number in range(10)]
    for client in clients:
        client.barrier()


def test_with_balance_nothing_is_lost_when_a_connection_leaves_without_acknowledging(run: Run) -> None:
    running = run({"allow_multiple_sessions": True, "queue_deliver_mode": "balance"})
    first, second = pair(running)
    first.subscribe("t", qos=1)
    publisher = running.connect(Version.V5)
    for number in range(4):
        publisher.publish("t", b"%d" % number, qos=1)
    unacknowledged = [second.expect(Publish).payload for _ in range(2)]
    second.close()
    payloads = first.receive_payloads(4)
    assert sorted(payloads) == [b"0", b"1", b"2", b"3"]
    assert payloads[2:] == unacknowledged
    first.barrier()


def test_the_session_goes_on_with_the_connection_that_is_left(run: Run) -> None:
    running = run({"allow_multiple_sessions": True})
    first, second = pair(running)
    first.subscribe("t", qos=1)
    first.disconnect()
    eventually(lambda: running.engine.sessions()[0].num_sessions == 1, "one connection is left")
    running.connect(Version.V5).publish("t", b"x", qos=1)
    assert second.receive().payload == b"x"


def test_when_all_have_left_messages_are_kept_for_whoever_comes_first(run: Run) -> None:
    running = run({"allow_multiple_sessions": True})
    first, second = pair(running)
    first.subscribe("t", qos=1)
    second.disconnect()
    first.disconnect()
    eventually(lambda: running.engine.session_count() == (0, 1), "nobody is left")
    running.connect(Version.V5).publish("t", b"x", qos=1)
    back = running.connect(Version.V3_1_1, "same", clean_start=False)
    assert back.receive().payload == b"x"


def test_the_operator_disconnects_all_of_them(run: Run) -> None:
    running = run({"allow_multiple_sessions": True})
    clients = pair(running, Version.V5)
    assert running.engine.disconnect("same", cleanup=True)
    for client in clients:
        client.expect_refusal(0x98)
    eventually(lambda: running.engine.sessions() == [], "no session is left")


def test_clean_sessions_leave_nothing_behind(run: Run) -> None:
    running = run({"allow_multiple_sessions": True})
    clients = [running.connect(Version.V3_1_1, "same") for _ in range(3)]
    clients[0].subscribe("t")
    for client in clients:
        client.disconnect()
    eventually(lambda: running.engine.session_count() == (0, 0), "every session ended")
    assert running.metric("router_subscriptions") == 0
