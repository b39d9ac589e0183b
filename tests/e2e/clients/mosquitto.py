"""The programs mosquitto_pub and mosquitto_sub as one client: a subscription is one process, each publish another."""

import json
import queue
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from e2e.clients.connection import DEADLINE_S, SESSION_EXPIRY_S, Message, Profile, Version
from e2e.clients.line_process import LineProcess

_VERSION_WORDS = {Version.MQTT_3_1: "mqttv31", Version.MQTT_3_1_1: "mqttv311", Version.MQTT_5: "mqttv5"}


class Mosquitto:
    """`subscribe` starts mosquitto_sub, so it can be called once; until then nothing is connected."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._directory = tempfile.TemporaryDirectory(prefix="mosquitto-sub-")
        self._granted: queue.Queue[str] = queue.Queue()
        self._messages: queue.Queue[str] = queue.Queue()
        self._subscriber: LineProcess | None = None

    def subscribe(self, topic_filter: str, qos: int) -> None:
        assert self._subscriber is None, "mosquitto_sub has all its subscriptions from its command line"
        # Written to a pipe, the line that tells of the SUBACK would wait in a buffer for the next message.
        command = ["stdbuf", "--output=L", "mosquitto_sub", *self._address(), *self._session(), *self._will()]
        command += ["-i", self._profile.client_id]
        # -d tells of the SUBACK, %j writes a message with its properties as JSON.
        command += ["-d", "-F", "%j", "-t", topic_filter, "-q", str(qos)]
        self._subscriber = LineProcess(command, self._take, Path(self._directory.name) / "errors")
        self._subscriber.next_of(self._granted, "SUBACK")

    def publish(self, message: Message) -> None:
        command = ["mosquitto_pub", *self._address(), *self._will(), "-t", message.topic, "-q", str(message.qos)]
        # From its standard input it takes everything but nothing.
        command += ["-s"] if message.payload else ["-n"]
        command += ["-r"] if message.retain else []
        command += _properties(message)
        done = subprocess.run(command, input=message.payload, capture_output=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == 0, done.stderr.decode()

    def received(self) -> Message:
        assert self._subscriber is not None
        # Two user properties of one name are legal, and so are the two members of one name that they become.
        parts = dict(json.loads(self._subscriber.next_of(self._messages, "a message"), object_pairs_hook=list))
        properties: dict[str, Any] = dict(parts.get("properties", []))
        correlation_data = properties.get("correlation-data")
        return Message(
            topic=parts["topic"],
            payload=(parts["payload"] or "").encode(),
            qos=parts["qos"],
            retain=bool(parts["retain"]),
            user_properties=tuple((name, text) for name, text in properties.get("user-properties", [])),
            response_topic=properties.get("response-topic"),
            correlation_data=None if correlation_data is None else correlation_data.encode(),
            content_type=properties.get("content-type"),
        )

    def disconnect(self) -> None:
        # In MQTT 5, mosquitto_sub answers SIGTERM with a DISCONNECT that asks for the will (reason code 0x04).
        if self._subscriber is not None:
            self._subscriber.terminate()
        self._directory.cleanup()

    def vanish(self) -> None:
        if self._subscriber is not None:
            self._subscriber.kill()
        self._directory.cleanup()

    def _take(self, line: str) -> None:
        if line.startswith("{"):
            self._messages.put(line)
        elif line.startswith("Subscribed "):
            self._granted.put(line)

    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self._profile.port), "-V", _VERSION_WORDS[self._profile.version]]

    def _session(self) -> list[str]:
        if not self._profile.keep:
            return []
        return ["-c", "-x", str(SESSION_EXPIRY_S)] if self._profile.version == Version.MQTT_5 else ["-c"]

    def _will(self) -> list[str]:
        will = self._profile.will
        if will is None:
            return []
        words = ["--will-topic", will.topic, "--will-payload", will.payload.decode(), "--will-qos", str(will.qos)]
        return [*words, "--will-retain"] if will.retain else words


def _properties(message: Message) -> list[str]:
    words = [word for name, text in message.user_properties for word in ("-D", "publish", "user-property", name, text)]
    correlation_data = message.correlation_data
    for name, value in (
        ("response-topic", message.response_topic),
        ("correlation-data", None if correlation_data is None else correlation_data.decode()),
        ("content-type", message.content_type),
    ):
        if value is not None:
            words += ["-D", "publish", name, value]
    return words
