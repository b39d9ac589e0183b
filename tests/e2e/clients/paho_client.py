"""paho-mqtt, with its network loop in a thread."""

import queue
import socket
import threading
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from e2e.clients.connection import DEADLINE_S, SESSION_EXPIRY_S, Message, Profile, Version


class Paho:
    def __init__(self, profile: Profile) -> None:
        is_5 = profile.version == Version.MQTT_5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            profile.client_id,
            clean_session=None if is_5 else not profile.keep,
            protocol=MQTTProtocolVersion(int(profile.version)),
            reconnect_on_failure=False,
            transport="websockets" if profile.layers.is_websocket else "tcp",
        )
        if profile.layers.ca is not None:
            self._client.tls_set(str(profile.layers.ca))
        self._messages: queue.Queue[Message] = queue.Queue()
        self._connected, self._disconnected = threading.Event(), threading.Event()
        self._granted: queue.Queue[Any] = queue.Queue()
        self._client.on_connect = lambda _c, _u, _f, reason, _p: None if reason.is_failure else self._connected.set()
        self._client.on_disconnect = lambda *_: self._disconnected.set()
        self._client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._granted.put(reasons)
        self._client.on_message = lambda _c, _u, message: self._messages.put(message_of(message))
        if (will := profile.will) is not None:
            self._client.will_set(will.topic, will.payload, will.qos, will.retain)
        options: dict[str, Any] = {}
        if is_5:
            options = {"clean_start": not profile.keep, "properties": session_properties(profile)}
        self._client.connect("127.0.0.1", profile.port, **options)
        self._client.loop_start()
        _await(self._connected, "CONNACK with success")

    def subscribe(self, topic_filter: str, qos: int) -> None:
        self._client.subscribe(topic_filter, qos)
        reasons = self._granted.get(timeout=DEADLINE_S)
        assert not any(reason.is_failure for reason in reasons), reasons

    def publish(self, message: Message) -> None:
        sent = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, properties=properties_of(message)
        )
        sent.wait_for_publish(DEADLINE_S)
        assert sent.is_published(), "no acknowledgement"

    def received(self) -> Message:
        return self._messages.get(timeout=DEADLINE_S)

    def disconnect(self) -> None:
        self._client.disconnect()
        _await(self._disconnected, "the end of the connection")
        self._client.loop_stop()

    def vanish(self) -> None:
        connection = self._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        _await(self._disconnected, "the end of the connection")
        self._client.loop_stop()


def session_properties(profile: Profile) -> Properties | None:
    """The properties of CONNECT that make a session last, or not."""
    if profile.version != Version.MQTT_5:
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = SESSION_EXPIRY_S if profile.keep else 0
    return properties


def properties_of(message: Message) -> Properties | None:
    """The properties of PUBLISH, or nothing when the message has none."""
    if not message.has_properties():
        return None
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.UserProperty = list(message.user_properties)
    if message.response_topic is not None:
        properties.ResponseTopic = message.response_topic
    if message.correlation_data is not None:
        properties.CorrelationData = message.correlation_data
    if message.content_type is not None:
        properties.ContentType = message.content_type
    return properties


def message_of(received: Any) -> Message:
    """A message of paho-mqtt or of aiomqtt, which names everything alike."""
    properties = getattr(received, "properties", None)
    return Message(
        topic=str(received.topic),
        payload=bytes(received.payload),
        qos=received.qos,
        retain=bool(received.retain),
        user_properties=tuple((name, text) for name, text in getattr(properties, "UserProperty", [])),
        response_topic=getattr(properties, "ResponseTopic", None),
        correlation_data=getattr(properties, "CorrelationData", None),
        content_type=getattr(properties, "ContentType", None),
    )


def _await(event: threading.Event, what: str) -> None:
    if not event.wait(DEADLINE_S):
        raise TimeoutError(f"{what} not within {DEADLINE_S:g} s")
