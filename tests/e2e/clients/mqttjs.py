"""MQTT.js in a Node.js process: `mqttjs.js` takes orders as lines of JSON and reports in the same way."""

import base64
import json
import queue
import tempfile
from pathlib import Path
from typing import Any

from e2e.clients.connection import SESSION_EXPIRY_S, Message, Profile, Version
from e2e.clients.line_process import LineProcess

_SCRIPT = Path(__file__).with_name("mqttjs.js")


class MqttJs:
    def __init__(self, profile: Profile) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mqttjs-")
        self._answers: queue.Queue[str] = queue.Queue()
        self._messages: queue.Queue[str] = queue.Queue()
        self._process = LineProcess(["node", str(_SCRIPT)], self._take, Path(self._directory.name) / "errors")
        self._ask("connect", url=_url(profile), options=_connect_options(profile))

    def subscribe(self, topic_filter: str, qos: int) -> None:
        (granted,) = self._ask("subscribe", filter=topic_filter, qos=qos)["granted"]
        assert granted["qos"] < 0x80, granted

    def publish(self, message: Message) -> None:
        self._ask("publish", **_outgoing(message))

    def received(self) -> Message:
        parts = json.loads(self._process.next_of(self._messages, "a message"))
        correlation_data = parts["correlationData"]
        return Message(
            topic=parts["topic"],
            payload=base64.b64decode(parts["payload"]),
            qos=parts["qos"],
            retain=parts["retain"],
            user_properties=tuple((name, text) for name, text in parts["userProperties"]),
            response_topic=parts["responseTopic"],
            correlation_data=None if correlation_data is None else base64.b64decode(correlation_data),
            content_type=parts["contentType"],
        )

    def disconnect(self) -> None:
        self._ask("end")
        self._process.terminate()
        self._directory.cleanup()

    def vanish(self) -> None:
        self._process.kill()
        self._directory.cleanup()

    def _ask(self, order: str, **parameters: Any) -> dict[str, Any]:
        self._process.write(json.dumps({"order": order, **parameters}))
        answer: dict[str, Any] = json.loads(self._process.next_of(self._answers, f"the answer to {order}"))
        assert "error" not in answer, answer
        return answer

    def _take(self, line: str) -> None:
        (self._messages if line.startswith('{"topic"') else self._answers).put(line)


def _url(profile: Profile) -> str:
    layers = profile.layers
    scheme = {(False, False): "mqtt", (False, True): "mqtts", (True, False): "ws", (True, True): "wss"}
    path = "/mqtt" if layers.is_websocket else ""
    return f"{scheme[layers.is_websocket, layers.ca is not None]}://127.0.0.1:{profile.port}{path}"


def _connect_options(profile: Profile) -> dict[str, Any]:
    options: dict[str, Any] = {
        "clientId": profile.client_id,
        "protocolVersion": int(profile.version),
        "protocolId": "MQIsdp" if profile.version == Version.MQTT_3_1 else "MQTT",
        "clean": not profile.keep,
        "reconnectPeriod": 0,
    }
    if profile.version == Version.MQTT_5:
        options["properties"] = {"sessionExpiryInterval": SESSION_EXPIRY_S if profile.keep else 0}
    if (ca := profile.layers.ca) is not None:
        options["ca"] = ca.read_text()
    if (will := profile.will) is not None:
        options["will"] = {
            "topic": will.topic,
            "payload": will.payload.decode(),
            "qos": will.qos,
            "retain": will.retain,
        }
    return options


def _outgoing(message: Message) -> dict[str, Any]:
    correlation_data = message.correlation_data
    return {
        "topic": message.topic,
        "payload": base64.b64encode(message.payload).decode(),
        "qos": message.qos,
        "retain": message.retain,
        "userProperties": message.user_properties,
        "responseTopic": message.response_topic,
        "correlationData": None if correlation_data is None else base64.b64encode(correlation_data).decode(),
        "contentType": message.content_type,
    }
