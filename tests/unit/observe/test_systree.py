"""The `$SYS` tree: what is published, and when."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import pytest

from strogoff import version
from strogoff._engine import Engine, Message
from strogoff.observe import systree
from strogoff.observe.metrics import MetricsSource, Series
from strogoff.observe.systree import Systree, SystreeSettings

SETTINGS = SystreeSettings(enabled=True, interval_s=20.0, mountpoint="", qos=0, retain=False)
DEADLINE_S = 10.0


@dataclasses.dataclass
class Sent:
    """A message as it was handed to the engine, whose own class does not show what it holds."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mountpoint: str


@pytest.fixture(autouse=True)
def visible_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    def message(topic: str, payload: bytes, qos: int, *, retain: bool, mountpoint: str) -> Sent:
        return Sent(topic, payload, qos, retain, mountpoint)

    monkeypatch.setattr(systree, "Message", message)


def _messages(series: Sequence[Series], settings: SystreeSettings = SETTINGS) -> dict[str, Sent]:
    batch = cast("list[Sent]", systree.messages("a@b", series, (3, 4), 61.9, settings))
    return {message.topic: message for message in batch}


def test_a_metrics_name_becomes_levels_of_the_topic_and_labels_are_summed() -> None:
    sent = _messages(
        [
            Series("mqtt_publish_received", "counter", 1, "", {"mqtt_version": "4"}),
            Series("mqtt_publish_received", "counter", 2, "", {"mqtt_version": "5"}),
            Series("socket_open", "counter", 7, ""),
        ]
    )
    assert sent["$SYS/a@b/mqtt/publish/received"].payload == b"3"
    assert sent["$SYS/a@b/socket/open"].payload == b"7"


def test_the_classic_topics_stand_beside_them() -> None:
    sent = {topic: message.payload for topic, message in _messages([Series("bytes_sent", "counter", 9, "")]).items()}
    del sent["$SYS/a@b/bytes/sent"]
    assert sent == {
        "$SYS/broker/version": f"strogoff version {version()}".encode(),
        "$SYS/broker/uptime": b"61 seconds",
        "$SYS/broker/clients/connected": b"3",
        "$SYS/broker/clients/disconnected": b"4",
        "$SYS/broker/clients/total": b"7",
        "$SYS/broker/bytes/sent": b"9",
    }


def test_messages_carry_what_the_keys_say() -> None:
    settings = dataclasses.replace(SETTINGS, qos=1, retain=True, mountpoint="m")
    for message in _messages([], settings).values():
        assert (message.qos, message.retain, message.mountpoint) == (1, True, "m")


@pytest.mark.parametrize(
    ("enabled", "interval_s", "wait_s"),
    [(True, 20.0, 20.0), (True, 0.0, None), (False, 20.0, None), (True, 0.001, 0.1)],
)
def test_an_interval_of_0_publishes_nothing_and_a_tiny_one_does_not_spin(
    enabled: bool, interval_s: float, wait_s: float | None
) -> None:
    assert dataclasses.replace(SETTINGS, enabled=enabled, interval_s=interval_s).wait_s == wait_s


class RecordingEngine:
    """The two methods of an engine that the publisher calls."""

    def __init__(self) -> None:
        self.batches: asyncio.Queue[list[Message]] = asyncio.Queue()

    def session_count(self) -> tuple[int, int]:
        return 0, 0

    def publish(self, messages: list[Message]) -> list[int]:
        self.batches.put_nowait(messages)
        return [0] * len(messages)


def test_the_publisher_follows_changed_settings_at_once() -> None:
    async def scenario() -> None:
        engine = RecordingEngine()
        current = [dataclasses.replace(SETTINGS, enabled=False)]
        metrics = MetricsSource(list[Any], int)
        publisher = Systree(cast("Engine", engine), metrics, "a@b", lambda: current[0])
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(publisher.run())
            await asyncio.sleep(0)
            assert engine.batches.empty()
            current[0] = dataclasses.replace(SETTINGS, interval_s=0.1)
            publisher.reconfigure()
            async with asyncio.timeout(DEADLINE_S):
                first, second = await engine.batches.get(), await engine.batches.get()
            current[0] = dataclasses.replace(SETTINGS, interval_s=0.0)
            publisher.reconfigure()
            running.cancel()
        assert len(first) == len(second) > 5

    asyncio.run(scenario())
