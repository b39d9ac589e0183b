"""Clients that people use, each in every version of MQTT that it speaks: what they send arrives as they sent it."""

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest

from broker_process import BrokerProcess
from e2e.clients.aiomqtt_client import Aiomqtt
from e2e.clients.connection import Connection, Message, Profile, Version
from e2e.clients.gmqtt_client import Gmqtt
from e2e.clients.mosquitto import Mosquitto
from e2e.clients.mqttjs import MqttJs
from e2e.clients.paho_client import Paho

ALL_VERSIONS = tuple(Version)
CLIENTS: dict[str, tuple[Callable[[Profile], Connection], tuple[Version, ...]]] = {
    "mosquitto": (Mosquitto, ALL_VERSIONS),
    "paho-mqtt": (Paho, ALL_VERSIONS),
    "aiomqtt": (Aiomqtt, ALL_VERSIONS),
    "gmqtt": (Gmqtt, (Version.MQTT_3_1_1, Version.MQTT_5)),
    "mqtt.js": (MqttJs, ALL_VERSIONS),
}

Connect: TypeAlias = Callable[..., Connection]
_numbers = itertools.count(1)


SPOKEN = [(name, version) for name, (_, versions) in CLIENTS.items() for version in versions]


@pytest.fixture(params=SPOKEN, ids=[f"{name}-{version.name}" for name, version in SPOKEN])
def spoken(request: pytest.FixtureRequest) -> tuple[str, Version]:
    """A client and a version that it speaks."""
    pair: tuple[str, Version] = request.param
    return pair


@pytest.fixture(params=list(CLIENTS))
def name(request: pytest.FixtureRequest) -> str:
    """A client."""
    text: str = request.param
    return text


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"real/{next(_numbers)}/temperature"


@pytest.fixture
def connect(broker: BrokerProcess) -> Iterator[Connect]:
    """`connect("gmqtt", Version.MQTT_5, "some-id", keep=True)`; all are disconnected when the test ends."""
    with ExitStack() as stack:

        def by_name(name: str, version: Version, client_id: str | None = None, **options: object) -> Connection:
            create, _ = CLIENTS[name]
            profile = Profile(broker.port, client_id or f"real-{next(_numbers)}", version, **options)  # type: ignore[arg-type]
            connection = Once(create(profile))
            stack.callback(connection.disconnect)
            return connection

        yield by_name


class Once:
    """A connection that is ended once: by the test, or else when the test is over."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_open = True
        self.subscribe = connection.subscribe
        self.publish = connection.publish
        self.received = connection.received

    def disconnect(self) -> None:
        self._end(self._connection.disconnect)

    def vanish(self) -> None:
        self._end(self._connection.vanish)

    def _end(self, end: Callable[[], None]) -> None:
        if self._is_open:
            self._is_open = False
            end()


@pytest.mark.parametrize("program", ["mosquitto_pub", "mosquitto_sub", "node"])
def test_the_client_programs_are_installed(program: str) -> None:
    assert shutil.which(program), f"{program} is missing: see the Debian packages in README.md"


def test_mqtt_js_is_installed() -> None:
    package = Path(__file__).parent / "node_modules" / "mqtt"
    assert package.is_dir(), "MQTT.js is missing: `make test` installs what package.json names"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_goes_round(connect: Connect, spoken: tuple[str, Version], topic: str, qos: int) -> None:
    client = connect(*spoken)
    client.subscribe(topic, qos)
    sent = [Message(topic, f"{number} °C".encode(), qos) for number in range(5)]
    for message in sent:
        client.publish(message)
    assert [client.received() for _ in sent] == sent


def test_the_lower_qos_of_message_and_subscription_holds(
    connect: Connect, spoken: tuple[str, Version], topic: str
) -> None:
    client = connect(*spoken)
    client.subscribe(topic, 1)
    for qos in (0, 1, 2):
        client.publish(Message(topic, b"x", qos))
    assert [client.received().qos for _ in range(3)] == [0, 1, 1]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_meets_later_subscribers_until_it_is_cleared(
    connect: Connect, spoken: tuple[str, Version], topic: str, qos: int
) -> None:
    publisher = connect(*spoken)
    publisher.subscribe(topic, 2)
    for payload in (b"old", b"new"):
        publisher.publish(Message(topic, payload, qos, retain=True))
        # Nothing acknowledges QoS 0, but what came back has been there.
        assert publisher.received() == Message(topic, payload, qos, retain=False)
    later = connect(*spoken)
    later.subscribe(topic, 2)
    assert later.received() == Message(topic, b"new", qos, retain=True)

    publisher.publish(Message(topic, b"", qos, retain=True))
    assert later.received() == Message(topic, b"", qos, retain=False)
    last = connect(*spoken)
    last.subscribe(topic, 2)
    publisher.publish(Message(topic, b"live", 1))
    assert last.received() == Message(topic, b"live", 1)


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_will_of_a_client_that_vanishes_is_published(
    connect: Connect, spoken: tuple[str, Version], topic: str, qos: int
) -> None:
    heir = connect(*spoken)
    heir.subscribe(f"{topic}/#", 2)
    will = Message(f"{topic}/will", b"gone", qos)
    mortal = connect(*spoken, will=will)
    mortal.subscribe(f"{topic}/other", 0)
    mortal.vanish()
    assert heir.received() == will


def test_a_client_that_says_goodbye_leaves_no_will(connect: Connect, spoken: tuple[str, Version], topic: str) -> None:
    heir = connect(*spoken)
    heir.subscribe(f"{topic}/#", 2)
    polite = connect(*spoken, will=Message(f"{topic}/will", b"gone", 1))
    polite.publish(Message("elsewhere", b"x", 1))
    polite.disconnect()
    after = Message(f"{topic}/after", b"nothing came before", 1)
    heir.publish(after)
    assert heir.received() == after


def test_a_client_may_ask_for_its_will_when_it_says_goodbye(connect: Connect, topic: str) -> None:
    heir = connect("paho-mqtt", Version.MQTT_5)
    heir.subscribe(f"{topic}/#", 1)
    will = Message(f"{topic}/will", b"gone", 1)
    # Which is what mosquitto_sub does when it is terminated.
    polite = connect("mosquitto", Version.MQTT_5, will=will)
    polite.subscribe(f"{topic}/other", 0)
    polite.disconnect()
    assert heir.received() == will


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("end", ["disconnect", "vanish"])
def test_a_persistent_session_gets_what_came_while_its_client_was_away(
    connect: Connect, spoken: tuple[str, Version], topic: str, qos: int, end: str
) -> None:
    client_id = f"away-{next(_numbers)}"
    before = connect(*spoken, client_id, keep=True)
    before.subscribe(topic, qos)
    getattr(before, end)()

    publisher = connect(*spoken)
    missed = [Message(topic, f"message {number}".encode(), qos) for number in range(30)]
    for message in missed:
        publisher.publish(message)

    after = connect(*spoken, client_id, keep=True)
    # mosquitto_sub does not connect without a subscription. This one is not the one that counts.
    after.subscribe(f"{topic}/other", 0)
    assert [after.received() for _ in missed] == missed


def test_a_session_that_is_not_kept_is_forgotten(connect: Connect, spoken: tuple[str, Version], topic: str) -> None:
    client_id = f"forgotten-{next(_numbers)}"
    before = connect(*spoken, client_id)
    before.subscribe(topic, 1)
    before.disconnect()
    publisher = connect(*spoken)
    publisher.publish(Message(topic, b"nobody gets this", 1))
    after = connect(*spoken, client_id, keep=True)
    after.subscribe(topic, 1)
    publisher.publish(Message(topic, b"somebody gets this", 1))
    assert after.received().payload == b"somebody gets this"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_properties_of_a_message_arrive_unchanged(connect: Connect, name: str, topic: str, qos: int) -> None:
    client = connect(name, Version.MQTT_5)
    client.subscribe(topic, qos)
    sent = Message(
        topic,
        b"<t>20</t>",
        qos,
        # One name twice: allowed, and the order counts [MQTT-3.3.2-18].
        user_properties=(("unit", "celsius"), ("unit", "kelvin"), ("ort", "Köln")),
        response_topic=f"{topic}/answer",
        correlation_data=b"request 7",
        content_type="text/xml",
    )
    client.publish(sent)
    assert client.received() == sent


def test_a_request_is_answered_where_it_says(connect: Connect, name: str, topic: str) -> None:
    asking, answering = connect(name, Version.MQTT_5), connect(name, Version.MQTT_5)
    answering.subscribe(topic, 1)
    asking.subscribe(f"{topic}/answer", 1)
    asking.publish(Message(topic, b"2 + 2", 1, response_topic=f"{topic}/answer", correlation_data=b"sum-1"))
    request = answering.received()
    assert request.response_topic is not None
    answering.publish(Message(request.response_topic, b"4", 1, correlation_data=request.correlation_data))
    assert asking.received() == Message(f"{topic}/answer", b"4", 1, correlation_data=b"sum-1")


def test_a_payload_of_every_byte_arrives_unchanged(connect: Connect, topic: str) -> None:
    payload = bytes(range(256)) * 4096
    # mosquitto_sub writes payloads as text, so it can only be the sender here.
    receivers = [connect(name, Version.MQTT_5) for name in CLIENTS if name != "mosquitto"]
    for receiver in receivers:
        receiver.subscribe(topic, 1)
    for name in CLIENTS:
        connect(name, Version.MQTT_3_1_1).publish(Message(topic, payload, 1))
    for receiver in receivers:
        assert [receiver.received().payload == payload for _ in CLIENTS] == [True] * len(CLIENTS)


@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_every_client_reads_what_every_other_client_sends(connect: Connect, topic: str, version: Version) -> None:
    names = [name for name, (_, versions) in CLIENTS.items() if version in versions]
    receivers = [connect(name, other) for name in CLIENTS for other in CLIENTS[name][1]]
    for receiver in receivers:
        receiver.subscribe(topic, 2)
    sent = [Message(topic, f"from {name}, QoS {qos}".encode(), qos) for name in names for qos in (0, 1, 2)]
    for name in names:
        sender = connect(name, version)
        for message in sent:
            if message.payload.startswith(f"from {name},".encode()):
                sender.publish(message)
    for receiver in receivers:
        # QoS 0 is not promised, but nothing here is slow enough to lose it. The order is promised for each sender.
        got = [receiver.received() for _ in sent]
        for name in names:
            mark = f"from {name},".encode()
            assert [each for each in got if each.payload.startswith(mark)] == [
                each for each in sent if each.payload.startswith(mark)
            ]
