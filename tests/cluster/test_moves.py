"""Sessions that go to the node that their clients come to. Real processes."""

import itertools
import threading
import time

from cluster.clients import Connect, NetworkOf, StartNode, await_route, clients_of, clustered, metric
from cluster.real_nodes import ClusterNode, eventually
from protocol.answers import Pingresp
from protocol.client import Client
from protocol.marks import V5
from protocol.requests import pingreq

QUEUED = 500
TURNS = 12


def test_a_client_that_comes_to_another_node_has_its_subscriptions_and_its_queue(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = connect(one, "mover")
    subscriber.subscribe("a/+", qos=2)
    subscriber.disconnect()
    publisher = connect(one)
    sent = [b"%d" % number for number in range(QUEUED)]
    for number, payload in enumerate(sent):
        publisher.publish(f"a/{number % 3}", payload, qos=1 + number % 2)
    moved = connect(two, "mover")
    assert moved.referee.connack is not None
    assert moved.referee.connack.session_present
    assert moved.receive_payloads(QUEUED) == sent
    moved.barrier()
    publisher.publish("a/later", b"from one", qos=1)
    assert moved.receive().payload == b"from one"
    # It is where it was said to be, and nowhere else.
    assert "mover" not in clients_of(one)
    assert [metric(node, "cluster_sessions_out") for node in (one, two)] == [1, 0]
    assert [metric(node, "cluster_sessions_in") for node in (one, two)] == [0, 1]


def await_records(node: ClusterNode, count: int) -> None:
    """The node knows of so many sessions that last."""
    eventually(lambda: metric(node, "cluster_session_records") == count, f"{node.name} knows of {count} sessions")


class Publisher(threading.Thread):
    """Publishes as fast as one message at a time goes, and remembers what was acknowledged."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.acknowledged: list[bytes] = []
        self._stop_asked = threading.Event()

    @property
    def name_in_payloads(self) -> bytes:
        return self.client.client_id.encode() + b" "

    def run(self) -> None:
        for number in itertools.count():
            if self._stop_asked.is_set():
                return
            payload = self.name_in_payloads + b"%d" % number
            self.client.publish(f"load/{self.client.client_id}", payload, qos=1 + number % 2)
            self.acknowledged.append(payload)

    def end(self) -> None:
        self._stop_asked.set()
        self.join()


def leave(client: Client) -> None:
    """Go without DISCONNECT, when the server knows what was acknowledged. What was not read comes again."""
    client.send(pingreq())
    client.expect(Pingresp)
    client.close()


def test_nothing_is_lost_or_doubled_while_a_client_wanders_under_load(started: StartNode, connect: Connect) -> None:
    nodes = clustered(started, "one", "two", "three", max_offline_messages=-1, max_online_messages=-1)
    subscriber = connect(nodes[0], "wanderer")
    subscriber.subscribe("load/#", qos=2)
    publishers = [Publisher(connect(node)) for node in nodes]
    for publisher in publishers:
        await_route(publisher.client, subscriber, f"load/{publisher.client.client_id}/route")
    for publisher in publishers:
        publisher.start()
    arrived: list[bytes] = []
    try:
        for turn in range(TURNS):
            leave(subscriber)
            time.sleep(0.1)
            subscriber = connect(nodes[(turn + 1) % len(nodes)], "wanderer")
            assert subscriber.referee.connack is not None
            assert subscriber.referee.connack.session_present
            arrived += subscriber.receive_payloads(20)
    finally:
        for publisher in publishers:
            publisher.end()
    missing = {payload for publisher in publishers for payload in publisher.acknowledged} - set(arrived)
    while missing:
        payload = subscriber.receive().payload
        missing.discard(payload)
        arrived.append(payload)
    for publisher in publishers:
        of_it = [payload for payload in arrived if payload.startswith(publisher.name_in_payloads)]
        assert of_it == publisher.acknowledged


def test_a_session_whose_node_is_down_is_made_anew_and_gets_its_queue_when_that_returns(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = connect(two, "orphan")
    subscriber.subscribe("a/+", qos=2)
    subscriber.disconnect()
    publisher = connect(one)
    await_records(one, 1)
    early = [b"early %d" % number for number in range(50)]
    for payload in early:
        publisher.publish("a/early", payload, qos=2)
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "two is away")
    moved = connect(one, "orphan")
    assert moved.referee.connack is not None
    assert moved.referee.connack.session_present
    publisher.publish("a/now", b"now", qos=1)
    assert moved.receive().payload == b"now"
    two.broker.start()
    assert moved.receive_payloads(len(early)) == early
    eventually(lambda: one.sees(two) and two.sees(one), "they see each other again")
    publisher.publish("a/later", b"later", qos=1)
    assert moved.receive().payload == b"later"
    moved.barrier()


def test_sessions_of_a_node_that_is_taken_out_are_made_anew_on_the_others(started: StartNode, connect: Connect) -> None:
    one, two, three = clustered(started, "one", "two", "three")
    names = [f"left-{number}" for number in range(10)]
    for name in names:
        subscriber = connect(two, name)
        subscriber.subscribe("all", qos=1)
        subscriber.disconnect()
    await_records(one, len(names))
    await_records(three, len(names))
    two.broker.kill()
    eventually(lambda: one.sees(three, down=(two,)) and three.sees(one, down=(two,)), "two is away")
    assert one.broker.admin("cluster", "leave", f"node={two.name}").strip() == "Done"

    def count(node: ClusterNode) -> int:
        return sum(client_id.startswith("left-") for client_id in clients_of(node))

    eventually(lambda: count(one) + count(three) == len(names), "all are made anew")
    assert count(one), "some are on one"
    assert count(three), "and some on three"
    publisher = connect(one)
    publisher.publish("all", b"for all of them", qos=1)
    for name in names:
        client = connect(three, name)
        assert client.receive().payload == b"for all of them"
        client.barrier()


def test_a_session_that_began_anew_while_its_node_was_down_stays_new(
    started: StartNode, connect: Connect, at: NetworkOf
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = connect(two, "renewed")
    subscriber.subscribe("a/+", qos=2)
    subscriber.disconnect()
    publisher = connect(one)
    await_records(one, 1)
    publisher.publish("a/early", b"early", qos=2)
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "two is away")
    at(one).connect(V5, "renewed").disconnect()
    two.broker.start()
    eventually(lambda: one.sees(two) and two.sees(one), "they see each other again")
    eventually(lambda: "renewed" not in clients_of(two), "it ends")
    resumed = connect(two, "renewed")
    assert resumed.referee.connack is not None
    assert not resumed.referee.connack.session_present
