"""Delivery against a model of sessions: clients come, go, subscribe, publish, read and acknowledge in any order.

Nothing of QoS 1 and 2 is lost for a session that stays, nothing of QoS 2 comes twice, and the order of each publisher,
topic and QoS is kept.
"""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from engine.running import Running, eventually
from property.model import Copy, Model
from protocol import requests
from protocol.answers import Pingresp, Publish, Pubrel
from protocol.client import Client, unique
from protocol.wire import PacketType, Property, Version

NAMES = ("p", "q", "r")
TOPICS = ("x", "y", "z/z")
QOS = st.sampled_from([0, 1, 2])


class Sessions(RuleBasedStateMachine):
    """Three client ids, each with a version of its own, and the model beside the broker."""

    engine: Running

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.clients: dict[str, Client] = {}
        self.versions: dict[str, Version] = {}
        self.unanswered: dict[str, deque[Publish]] = {name: deque() for name in NAMES}
        self.received: dict[str, set[int]] = {name: set() for name in NAMES}
        self.run = unique("run")
        self.published = 0

    # A CONNACK of 3.1 does not say whether there was a session, so that the referee cannot judge what follows it.
    @initialize(
        versions=st.tuples(*[st.sampled_from([Version.V3_1_1, Version.V5]) for _ in NAMES]),
        persistent=st.tuples(*[st.booleans() for _ in NAMES]),
        qos=st.tuples(*[QOS for _ in NAMES]),
    )
    def everybody_comes(
        self, versions: tuple[Version, ...], persistent: tuple[bool, ...], qos: tuple[int, ...]
    ) -> None:
        self.versions = dict(zip(NAMES, versions, strict=True))
        for name, stays, granted in zip(NAMES, persistent, qos, strict=True):
            self.connect(name, persistent=stays, window=2)
            for topic in TOPICS:
                self.subscribe_to(name, topic, granted)

    # -- rules -------------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(NAMES), persistent=st.booleans(), window=st.sampled_from([1, 2, 65_535]))
    def connect(self, name: str, persistent: bool, window: int) -> None:
        if name in self.clients:
            self.leave(name, orderly=False)
        properties = [(Property.RECEIVE_MAXIMUM, window), (Property.TOPIC_ALIAS_MAXIMUM, 2)]
        if persistent:
            properties.append((Property.SESSION_EXPIRY_INTERVAL, 3_600))
        version = self.versions[name]
        client = self.engine.connect(
            version,
            self.client_id(name),
            clean_start=not persistent,
            properties=properties if version is Version.V5 else (),
        )
        assert client.referee.connack is not None
        had_session = self.model.connect(name, persistent=persistent)
        assert client.referee.connack.session_present == had_session
        if not had_session:
            self.received[name].clear()
        self.clients[name] = client

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), orderly=st.booleans())
    def disconnect(self, data: st.DataObject, orderly: bool) -> None:
        self.leave(data.draw(st.sampled_from(sorted(self.clients))), orderly=orderly)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), topic=st.sampled_from(TOPICS), qos=QOS)
    def subscribe(self, data: st.DataObject, topic: str, qos: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.clients)))
        self.subscribe_to(name, topic, qos)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), topic=st.sampled_from(TOPICS))
    def unsubscribe(self, data: st.DataObject, topic: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.clients)))
        self.clients[name].unsubscribe(self.topic(topic))
        self.model.sessions[name].subscriptions.pop(topic, None)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), topic=st.sampled_from(TOPICS), qos=QOS, count=st.integers(1, 6))
    def publish(self, data: st.DataObject, topic: str, qos: int, count: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.clients)))
        client = self.clients[name]
        for _ in range(count):
            self.published += 1
            client.publish(self.topic(topic), b"%s %d" % (name.encode(), self.published), qos=qos)
            self.model.publish(name, topic, self.published, qos)
        # A message of QoS 0 is not acknowledged: the answer to this shows that the broker has it.
        client.send(requests.pingreq())
        client.expect(Pingresp)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), count=st.integers(1, 3))
    def read_a_little(self, data: st.DataObject, count: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.clients)))
        for _ in range(count):
            self.take(name)

    @precondition(lambda self: any(self.unanswered.values()))
    @rule(data=st.data())
    def answer_one(self, data: st.DataObject) -> None:
        names = sorted(name for name in self.clients if self.unanswered[name])
        if names:
            self.answer(data.draw(st.sampled_from(names)))

    # -- what the rules are made of ----------------------------------------------------------------------------

    def client_id(self, name: str) -> str:
        return f"{self.run}{name}"

    def topic(self, topic: str) -> str:
        return f"{self.run}/{topic}"

    def subscribe_to(self, name: str, topic: str, qos: int) -> None:
        self.clients[name].subscribe(self.topic(topic), qos=qos)
        self.model.sessions[name].subscriptions[topic] = qos

    def leave(self, name: str, *, orderly: bool) -> None:
        client = self.clients.pop(name)
        if orderly:
            client.send_disconnect()
        client.close()
        self.unanswered[name].clear()
        eventually(lambda: not self.is_online(name), f"{name} is offline")
        self.model.leave(name)

    def is_online(self, name: str) -> bool:
        session = self.engine.engine.session(self.client_id(name))
        return session is not None and session.is_online

    def take(self, name: str) -> bool:
        """Take what has come to a client: one message, to be answered later. False when nothing came."""
        client = self.clients[name]
        publish = client.poll(Publish, within=0.0)
        if publish is None:
            return False
        if publish.qos == 2 and publish.packet_id in self.received[name]:
            # A repeat within one exchange, which the receiver recognises by the identifier [MQTT-4.3.3-10].
            self.unanswered[name].append(publish)
            return True
        if publish.qos == 2:
            assert publish.packet_id is not None
            self.received[name].add(publish.packet_id)
        if publish.qos > 0:
            self.unanswered[name].append(publish)
        publisher, number = publish.payload.decode().split()
        topic = self.plain_topic(client, publish)
        self.model.arrived(name, Copy(publisher, topic, int(number), publish.qos))
        return True

    def plain_topic(self, client: Client, publish: Publish) -> str:
        alias = publish.value(Property.TOPIC_ALIAS)
        topic = publish.topic or client.referee.aliases[int(str(alias))]
        return topic.removeprefix(f"{self.run}/")

    def answer(self, name: str) -> None:
        client, publish = self.clients[name], self.unanswered[name].popleft()
        if publish.qos == 1:
            client.acknowledge(PacketType.PUBACK, publish.packet_id)
            return
        client.acknowledge(PacketType.PUBREC, publish.packet_id)
        self.release(name, client.expect(Pubrel))

    def release(self, name: str, pubrel: Pubrel) -> None:
        self.clients[name].acknowledge(PacketType.PUBCOMP, pubrel.packet_id)
        self.received[name].discard(pubrel.packet_id)

    def teardown(self) -> None:
        """Everybody who has a session comes back, takes and answers everything; then the model is asked."""
        try:
            for name, session in self.model.sessions.items():
                if name not in self.clients and session.persistent:
                    self.connect(name, persistent=True, window=65_535)
            for name in self.clients:
                eventually(lambda name=name: self.is_quiet(name), f"{name} has everything")  # type: ignore[misc]
            self.model.check()
        finally:
            for name in sorted(self.clients):
                self.engine.engine.disconnect(self.client_id(name), cleanup=True)
                self.clients[name].close()
            for name in self.model.sessions:
                self.engine.engine.disconnect(self.client_id(name), cleanup=True)

    def is_quiet(self, name: str) -> bool:
        client = self.clients[name]
        moved = False
        while (pubrel := client.poll(Pubrel, within=0.0)) is not None:
            self.release(name, pubrel)
            moved = True
        while self.take(name):
            moved = True
        while self.unanswered[name]:
            self.answer(name)
            moved = True
        session = self.engine.engine.session(self.client_id(name))
        assert session is not None
        is_empty = session.online_messages == 0 and session.waiting_acks == 0
        return is_empty and not moved


def test_every_message_arrives_as_its_qos_promises_whatever_clients_do(engine: Running) -> None:
    class OfThisEngine(Sessions):
        pass

    OfThisEngine.engine = engine
    run_state_machine_as_test(OfThisEngine, settings=settings(stateful_step_count=40))
