"""Clients of several libraries that stay connected as those libraries do it, and write into a ledger what happened.

Each subscribes to one filter with QoS 1 and a session that lasts; those that can tell what was acknowledged also
publish with QoS 1. Sessions and times between two dials are set as the libraries' own documents say, nothing else.
"""

import asyncio
import contextlib
import json
import tempfile
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import aiomqtt
import gmqtt
import paho.mqtt.client as paho
from gmqtt.mqtt.constants import MQTTv50
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from cluster.ledger import Ledger, Stream, read_payload
from e2e.clients.connection import DEADLINE_S, SESSION_EXPIRY_S
from e2e.clients.line_process import LineProcess
from e2e.clients.loop_thread import LoopThread

_SCRIPT = Path(__file__).with_name("enduring.js")
_EVERY_S = 0.02
_REDIAL_S = 1


class Enduring(ABC):
    """A client on the broker at 127.0.0.1:`port`. `connections`: how many were made that the broker accepted."""

    def __init__(self, ledger: Ledger, name: str, port: int, topic: str) -> None:
        self.name = name
        self.connections = 0
        self.streams = [Stream(name, f"{topic}/{name}", 1)] if self.publishes else []
        self.is_subscribed = threading.Event()
        self._ledger, self._port, self._filter = ledger, port, f"{topic}/#"

    publishes = True

    @abstractmethod
    def start(self) -> None:
        """Connect, and go on from there."""

    @abstractmethod
    def end_publishing(self) -> None:
        """Return when nothing more is published, and all that was is acknowledged."""

    @abstractmethod
    def close(self) -> None:
        """End it. Idempotent."""

    def _arrived(self, topic: str, payload: bytes) -> None:
        self._ledger.note_delivery(self.name, *read_payload(topic, payload))


class EnduringPaho(Enduring):
    """paho-mqtt with its own thread, MQTT 5. What it could not send it sends again when it is connected again."""

    def start(self) -> None:
        self._client = paho.Client(CallbackAPIVersion.VERSION2, self.name, protocol=paho.MQTTv5)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.on_subscribe = lambda *_: self.is_subscribed.set()
        self._client.on_publish = self._on_publish
        # By packet identifier. An acknowledgement may be here before the call has told the identifier.
        self._unacknowledged: dict[int, int] = {}
        self._early: set[int] = set()
        self._books = threading.Lock()
        self._is_idle = threading.Event()
        self._publisher = threading.Thread(target=self._publish)
        self._is_over = threading.Event()
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        self._client.connect("127.0.0.1", self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        self._publisher.start()

    def end_publishing(self) -> None:
        self._is_over.set()
        self._publisher.join()
        assert not self._unacknowledged or self._is_idle.wait(DEADLINE_S), f"{self.name}: {self._unacknowledged}"

    def close(self) -> None:
        self._is_over.set()
        self._publisher.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _publish(self) -> None:
        (stream,) = self.streams
        while not self._is_over.wait(_EVERY_S):
            if not self._client.is_connected():
                continue
            number = self._ledger.next_number(stream)
            self._is_idle.clear()
            sent = self._client.publish(stream.topic, stream.payload(number), qos=1)
            with self._books:
                self._unacknowledged[sent.mid] = number
                if sent.mid in self._early:
                    self._early.remove(sent.mid)
                    self._acknowledged(sent.mid)

    def _on_publish(self, _client: Any, _data: Any, packet_id: int, code: Any, _properties: Any) -> None:
        assert not code.is_failure, f"{self.name}: refused with {code}"
        with self._books:
            if packet_id in self._unacknowledged:
                self._acknowledged(packet_id)
            else:
                self._early.add(packet_id)

    def _acknowledged(self, packet_id: int) -> None:
        self._ledger.note_acknowledged(self.streams[0], self._unacknowledged.pop(packet_id))
        if not self._unacknowledged:
            self._is_idle.set()

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            return
        self.connections += 1
        if not flags.session_present:
            client.subscribe(self._filter, qos=1)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._arrived(message.topic, message.payload)


class EnduringAiomqtt(Enduring):
    """aiomqtt, MQTT 3.1.1, in the loop that its documents show: whoever gets an error connects and does it again."""

    def start(self) -> None:
        self._is_over, self._is_idle = asyncio.Event(), threading.Event()
        self._loop = LoopThread()
        self._task = self._loop.run(self._begun())

    def end_publishing(self) -> None:
        self._loop.run(self._set_over())
        assert self._is_idle.wait(DEADLINE_S), f"{self.name} still publishes"

    def close(self) -> None:
        self._loop.run(self._ended())
        self._loop.close()

    async def _begun(self) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._run())

    async def _set_over(self) -> None:
        self._is_over.set()

    async def _ended(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        (stream,) = self.streams
        self._number = self._ledger.next_number(stream)
        while True:
            client = aiomqtt.Client("127.0.0.1", self._port, identifier=self.name, clean_session=False)
            try:
                async with client:
                    self.connections += 1
                    if not self.is_subscribed.is_set():
                        await client.subscribe(self._filter, qos=1)
                        self.is_subscribed.set()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._listen(client))
                        tasks.create_task(self._publish(client, stream))
            except* aiomqtt.MqttError:
                await asyncio.sleep(_REDIAL_S)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            self._arrived(str(message.topic), message.payload)

    async def _publish(self, client: aiomqtt.Client, stream: Stream) -> None:
        while not self._is_over.is_set():
            await client.publish(stream.topic, stream.payload(self._number), qos=1)
            self._ledger.note_acknowledged(stream, self._number)
            self._number = self._ledger.next_number(stream)
            await asyncio.sleep(_EVERY_S)
        self._is_idle.set()


class EnduringGmqtt(Enduring):
    """gmqtt, MQTT 5. It does not tell what was acknowledged, so it only subscribes."""

    publishes = False

    def start(self) -> None:
        self._loop = LoopThread()
        self._client = self._loop.run(self._begun())

    def end_publishing(self) -> None:
        pass

    def close(self) -> None:
        self._loop.run(self._client.disconnect())
        self._loop.close()

    async def _begun(self) -> Any:
        client = gmqtt.Client(self.name, clean_session=False, session_expiry_interval=SESSION_EXPIRY_S)
        client.set_config({"reconnect_retries": gmqtt.constants.UNLIMITED_RECONNECTS, "reconnect_delay": _REDIAL_S})
        client.on_connect, client.on_message = self._on_connect, self._on_message
        client.on_subscribe = lambda *_: self.is_subscribed.set()
        await client.connect("127.0.0.1", self._port, version=MQTTv50)
        return client

    def _on_connect(self, client: Any, flags: int, code: int, _properties: Any) -> None:
        if code:
            return
        self.connections += 1
        if not flags & 1:
            client.subscribe(self._filter, qos=1)

    def _on_message(self, _client: Any, topic: str, payload: bytes, _qos: int, _properties: Any) -> int:
        self._arrived(topic, bytes(payload))
        return 0


class EnduringMosquitto(Enduring):
    """The program mosquitto_sub, MQTT 3.1.1: with MQTT 5 it ends when the server says that it shuts down."""

    publishes = False

    def start(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mosquitto-sub-")
        session = ("-V", "mqttv311", "-c", "-i", self.name)
        command = ["stdbuf", "--output=L", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(self._port), *session]
        command += ["-d", "-F", "> %t %p", "-t", self._filter, "-q", "1"]
        self._process: LineProcess | None = LineProcess(command, self._take, Path(self._directory.name) / "errors")

    def end_publishing(self) -> None:
        pass

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process = None
            self._directory.cleanup()

    def _take(self, line: str) -> None:
        if line.startswith("> "):
            _, topic, payload = line.split(" ", 2)
            self._arrived(topic, payload.encode())
        elif line.endswith("received CONNACK (0)"):
            self.connections += 1
        elif line.startswith("Subscribed "):
            self.is_subscribed.set()


class EnduringMqttJs(Enduring):
    """MQTT.js in a process of Node.js, MQTT 3.1.1. What it could not send it sends again when it is connected again."""

    def start(self) -> None:
        (stream,) = self.streams
        self._directory = tempfile.TemporaryDirectory(prefix="mqttjs-")
        self._published: int | None = None
        self._acknowledged: set[int] = set()
        self._is_idle = threading.Event()
        url = f"mqtt://127.0.0.1:{self._port}"
        beginning = stream.payload(0).decode().rpartition(" ")[0]
        words = [url, self.name, self._filter, stream.topic, beginning, str(int(_EVERY_S * 1_000))]
        errors = Path(self._directory.name) / "errors"
        self._process: LineProcess | None = LineProcess(["node", str(_SCRIPT), *words], self._take, errors)

    def end_publishing(self) -> None:
        assert self._process is not None
        self._process.write("end")
        assert self._is_idle.wait(DEADLINE_S), f"{self.name} still waits for acknowledgements"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None
            self._directory.cleanup()

    def _take(self, line: str) -> None:
        report: dict[str, Any] = json.loads(line)
        match report:
            case {"topic": topic, "payload": payload}:
                self._arrived(topic, payload.encode())
            case {"acknowledged": number}:
                self._acknowledged.add(number)
                self._ledger.note_acknowledged(self.streams[0], number)
            case {"connected": is_session_present}:
                self.connections += 1
                if is_session_present:
                    self.is_subscribed.set()
            case {"subscribed": True}:
                self.is_subscribed.set()
            case {"published": count}:
                self._published = count
                for _ in range(count):
                    self._ledger.next_number(self.streams[0])
        if self._published == len(self._acknowledged):
            self._is_idle.set()
