"""Clients of a real library (paho) that publish and subscribe without end, and write into a ledger what happened."""

import threading
import time
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from cluster.ledger import Ledger, Stream, read_payload

CLIENT_PORT = 1883
KEEP_ALIVE_S = 60

_TURN_S = 0.005
_REDIAL_S = 0.05
_UNACKNOWLEDGED_MAX = 50
_END_DEADLINE_S = 20.0


class Place(Protocol):
    """Where a client is: a host, or another namespace of the network."""

    def enter(self) -> None:
        """Move the calling thread there, for good."""


class _Connected:
    """A client on a thread of its own, at a place, which is connected again until it is ended.

    `keep_alive_s`: a broker that cannot be reached any more is given up after so long.
    """

    def __init__(
        self,
        place: Place,
        name: str,
        *,
        broker: str = "127.0.0.1",
        is_lasting: bool = False,
        keep_alive_s: int = KEEP_ALIVE_S,
    ) -> None:
        self.name = name
        self.connections = 0
        self._place, self._broker, self._keep_alive_s = place, broker, keep_alive_s
        self._paho = paho.Client(CallbackAPIVersion.VERSION2, name, clean_session=not is_lasting)
        self._paho.on_connect = self._on_connect
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Disconnect and wait for the thread. Idempotent."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()

    def come_back(self) -> None:
        """Connect again after `end`, as the same client, which knows what it was in the middle of."""
        self._is_over.clear()
        self._thread = threading.Thread(target=self._run, name=self.name)
        self.start()

    def _run(self) -> None:
        self._place.enter()
        while not self._is_over.is_set():
            try:
                self._paho.connect(self._broker, CLIENT_PORT, self._keep_alive_s)
            except OSError:
                self._is_over.wait(_REDIAL_S)
                continue
            while not self._is_over.is_set() and self._paho.loop(_TURN_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                # Before CONNACK it would overtake what paho sends again then.
                if self._paho.is_connected():
                    self._turn()
        if self._paho.is_connected():
            self._paho.disconnect()
            while self._paho.loop(_TURN_S) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        if code == "Server unavailable":
            # A node that does not answer about client ids may be out of reach, which is not known yet.
            self._is_over.wait(_REDIAL_S)
            return
        assert not code.is_failure, f"{self.name} was refused: {code}"
        self.connections += 1
        self._greet(is_session_present=flags.session_present)

    def _greet(self, *, is_session_present: bool) -> None:
        """What is done at each connection."""

    def _turn(self) -> None:
        """What is done between turns of the loop."""


class Subscriber(_Connected):
    """Subscribes with QoS 2 and writes down what arrives."""

    def __init__(
        self,
        ledger: Ledger,
        place: Place,
        name: str,
        topic_filter: str,
        *,
        broker: str = "127.0.0.1",
        is_lasting: bool = True,
        keep_alive_s: int = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(place, name, broker=broker, is_lasting=is_lasting, keep_alive_s=keep_alive_s)
        self._ledger, self._filter = ledger, topic_filter
        self.is_subscribed = threading.Event()
        self._paho.on_subscribe = lambda *_: self.is_subscribed.set()
        self._paho.on_message = self._on_message

    def _greet(self, *, is_session_present: bool) -> None:
        if not is_session_present:
            self._paho.subscribe(self._filter, qos=2)

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        self._ledger.note_delivery(self.name, *read_payload(message.topic, message.payload))


class Publisher(_Connected):
    """Publishes to `TOPIC/0`, `TOPIC/1` and `TOPIC/2`, each with that QoS, in turns."""

    def __init__(
        self,
        ledger: Ledger,
        place: Place,
        name: str,
        topic: str,
        *,
        every_s: float = 0.005,
        broker: str = "127.0.0.1",
        keep_alive_s: int = KEEP_ALIVE_S,
    ) -> None:
        super().__init__(place, name, broker=broker, is_lasting=True, keep_alive_s=keep_alive_s)
        self.streams = [Stream(name, f"{topic}/{qos}", qos) for qos in (0, 1, 2)]
        self._ledger, self._every_s = ledger, every_s
        self._paho.on_publish = self._on_publish
        self._paho.max_inflight_messages_set(_UNACKNOWLEDGED_MAX)
        self._unacknowledged: dict[int, tuple[Stream, int]] = {}
        self._turns = 0
        self._due = 0.0
        self._is_paused = threading.Event()

    def end(self) -> None:
        """Stop when all that was sent is acknowledged."""
        self._is_paused.set()
        deadline = time.monotonic() + _END_DEADLINE_S
        while self._unacknowledged and not self._is_over.is_set():
            if time.monotonic() > deadline:
                super().end()
                msg = f"{self.name}: {len(self._unacknowledged)} messages were not acknowledged"
                raise AssertionError(msg)
            time.sleep(_TURN_S)
        super().end()

    def abandon(self) -> None:
        """Stop whatever is still to be acknowledged: its node is gone."""
        super().end()

    def _on_publish(self, _client: Any, _data: Any, packet_id: int, code: Any, _properties: Any) -> None:
        assert not code.is_failure, f"{self.name}: refused with {code}"
        sent = self._unacknowledged.pop(packet_id, None)
        if sent is not None:
            self._ledger.note_acknowledged(*sent)

    def _turn(self) -> None:
        now = time.monotonic()
        if now < self._due or self._is_paused.is_set() or len(self._unacknowledged) >= _UNACKNOWLEDGED_MAX:
            return
        self._due = now + self._every_s
        stream = self.streams[self._turns % len(self.streams)]
        self._turns += 1
        number = self._ledger.next_number(stream)
        sent = self._paho.publish(stream.topic, stream.payload(number), qos=stream.qos)
        if stream.qos:
            self._unacknowledged[sent.mid] = (stream, number)
