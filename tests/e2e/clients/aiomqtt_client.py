"""aiomqtt, with its loop in a thread."""

import socket
from collections.abc import AsyncIterator

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY

from e2e.clients.connection import DEADLINE_S, Message, Profile, Version
from e2e.clients.loop_thread import LoopThread
from e2e.clients.paho_client import message_of, properties_of, session_properties


class Aiomqtt:
    def __init__(self, profile: Profile) -> None:
        self._loop = LoopThread()
        self._client = self._loop.run(_connected(profile))
        self._messages: AsyncIterator[aiomqtt.Message] = aiter(self._client.messages)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        granted = self._loop.run(self._client.subscribe(topic_filter, qos))
        # A list of reason codes in MQTT 5, a tuple of numbers before.
        assert all(getattr(each, "value", each) < 0x80 for each in granted), granted

    def publish(self, message: Message) -> None:
        properties = properties_of(message)
        self._loop.run(
            self._client.publish(message.topic, message.payload, message.qos, message.retain, properties=properties)
        )

    def received(self) -> Message:
        return message_of(self._loop.run(_next(self._messages)))

    def disconnect(self) -> None:
        self._loop.run(self._client.__aexit__(None, None, None))
        self._loop.close()

    def vanish(self) -> None:
        # aiomqtt has no call for it; the paho client beneath owns the socket.
        connection = self._client._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        self._loop.run(_lost(self._messages))
        self._loop.run(self._client.__aexit__(None, None, None))
        self._loop.close()


async def _connected(profile: Profile) -> aiomqtt.Client:
    is_5 = profile.version == Version.MQTT_5
    will = profile.will
    client = aiomqtt.Client(
        "127.0.0.1",
        profile.port,
        identifier=profile.client_id,
        protocol=aiomqtt.ProtocolVersion(int(profile.version)),
        clean_session=None if is_5 else not profile.keep,
        clean_start=False if is_5 and profile.keep else MQTT_CLEAN_START_FIRST_ONLY,
        properties=session_properties(profile),
        will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
        timeout=DEADLINE_S,
    )
    return await client.__aenter__()


async def _next(messages: AsyncIterator[aiomqtt.Message]) -> aiomqtt.Message:
    return await anext(messages)


async def _lost(messages: AsyncIterator[aiomqtt.Message]) -> None:
    try:
        while True:
            await anext(messages)
    except aiomqtt.MqttError:
        return
