"""The end of an engine."""

import time

import pytest

from engine.running import Running
from protocol.requests import Will
from protocol.wire import Version
from strogoff._engine import Engine, Message, Verdict


@pytest.mark.parametrize("version", Version)
def test_clients_are_told_that_the_server_shuts_down(running: Running, version: Version) -> None:
    client = running.connect(version)
    running.engine.stop()
    client.expect_refusal(0x8B)
    with pytest.raises(ConnectionRefusedError):
        running.open(version)


def test_what_was_on_its_way_still_arrives(running: Running) -> None:
    client = running.connect(Version.V5)
    client.subscribe("t")
    running.engine.publish([Message("t", b"%d" % number) for number in range(100)])
    running.engine.stop()
    assert client.receive_payloads(100) == [b"%d" % number for number in range(100)]
    client.expect_refusal(0x8B)


def test_a_client_that_does_not_read_does_not_hold_up_the_end(running: Running) -> None:
    deaf = running.connect(Version.V3_1_1)
    deaf.subscribe("t")
    running.engine.publish([Message("t", bytes(1_000_000)) for _ in range(20)])
    before = time.monotonic()
    running.engine.stop(500)
    assert time.monotonic() - before < 3.0


def test_stopping_twice_or_before_the_start_does_nothing(running: Running) -> None:
    running.engine.stop()
    running.engine.stop()
    Engine().stop()


def test_a_stopped_engine_still_answers_questions(running: Running) -> None:
    running.resume(Version.V5, "stays").subscribe("t", qos=1)
    running.connect(Version.V5, "c", will=Will("t", b"will", qos=1))
    running.engine.stop()
    assert running.engine.listeners() == []
    assert running.engine.session_count()[0] == 0
    assert running.engine.publish([Message("t", b"x", 1)]) == [1]
    assert not running.engine.resolve(1, Verdict.allow())
    assert running.engine.drain() is not None
