"""gmqtt, with its loop in a thread."""

import queue
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from e2e.clients.connection import DEADLINE_S, SESSION_EXPIRY_S, Message, Profile, Version
from e2e.clients.loop_thread import LoopThread

_VERSION_NUMBERS = {Version.MQTT_3_1_1: MQTTv311, Version.MQTT_5: MQTTv50}


class Gmqtt:
    def __init__(self, profile: Profile) -> None:
        self._loop = LoopThread()
        self._messages: queue.Queue[Message] = queue.Queue()
        self._granted: queue.Queue[tuple[int, ...]] = queue.Queue()
        # What is sent and not yet acknowledged; empty means that all of it is.
        self._unacknowledged = PersistentStorage()
        self._client = self._loop.run(self._connected(profile))

    def subscribe(self, topic_filter: str, qos: int) -> None:
        async def ask() -> None:
            self._client.subscribe(topic_filter, qos=qos)

        self._loop.run(ask())
        granted = self._granted.get(timeout=DEADLINE_S)
        assert all(reason < 0x80 for reason in granted), granted

    def publish(self, message: Message) -> None:
        async def send() -> None:
            self._client.publish(_outgoing(message))
            await self._unacknowledged.wait_empty()

        self._loop.run(send())

    def received(self) -> Message:
        return self._messages.get(timeout=DEADLINE_S)

    def disconnect(self) -> None:
        self._loop.run(self._client.disconnect())
        self._loop.close()

    def vanish(self) -> None:
        async def abort() -> None:
            # gmqtt has no call for it, and would connect again.
            self._client.stop_reconnect()
            self._client._connection._transport.abort()

        self._loop.run(abort())
        self._loop.close()

    async def _connected(self, profile: Profile) -> Any:
        more: dict[str, Any] = {"will_message": None if profile.will is None else _outgoing(profile.will)}
        if profile.version == Version.MQTT_5:
            more["session_expiry_interval"] = SESSION_EXPIRY_S if profile.keep else 0
        client = gmqtt.Client(
            profile.client_id, clean_session=not profile.keep, persistent_storage=self._unacknowledged, **more
        )
        client.on_message = self._take
        client.on_subscribe = lambda _c, _mid, granted, _p: self._granted.put(tuple(granted))
        await client.connect("127.0.0.1", profile.port, version=_VERSION_NUMBERS[profile.version])
        return client

    def _take(self, _client: Any, topic: str, payload: bytes, qos: int, properties: dict[str, Any]) -> int:
        def only(name: str) -> Any:
            values = properties.get(name)
            return values[0] if values else None

        self._messages.put(
            Message(
                topic=topic,
                payload=bytes(payload),
                qos=qos,
                retain=bool(properties["retain"]),
                user_properties=tuple((name, text) for name, text in properties.get("user_property", [])),
                response_topic=only("response_topic"),
                correlation_data=only("correlation_data"),
                content_type=only("content_type"),
            )
        )
        return 0


def _outgoing(message: Message) -> Any:
    properties = {
        "user_property": list(message.user_properties) or None,
        "response_topic": message.response_topic,
        "correlation_data": message.correlation_data,
        "content_type": message.content_type,
    }
    given = {name: value for name, value in properties.items() if value is not None}
    return gmqtt.Message(message.topic, message.payload, message.qos, message.retain, **given)
