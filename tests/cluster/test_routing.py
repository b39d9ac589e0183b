"""Messages between nodes: clients on one node publish, clients on others subscribe. Real processes on the loopback."""

import itertools
import threading
import time

import pytest

from cluster.clients import Connect, StartNode, await_route, clustered, metric, stopped
from cluster.real_nodes import LINK_TIMEOUT_MS, eventually
from protocol.answers import Puback, Publish, Pubrec
from protocol.client import Client
from protocol.marks import V5
from protocol.requests import Filter, publish
from protocol.wire import Property
from strogoff.cli.exit_codes import ExitCode


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_reaches_a_subscriber_on_another_node_once_and_in_order(
    started: StartNode, connect: Connect, qos: int
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a/+", "a/#", qos=2)
    await_route(publisher, subscriber, "a/b")
    for number in range(200):
        assert publisher.publish("a/b", b"%d" % number, qos=qos) == 0
    arrived = [subscriber.receive() for _ in range(200)]
    assert [message.payload for message in arrived] == [b"%d" % number for number in range(200)]
    assert {message.qos for message in arrived} == {qos}
    subscriber.barrier()
    assert metric(one, "router_matches_remote") >= 200


def test_properties_and_mountpoint_survive_the_way(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a")
    await_route(publisher, subscriber, "a")
    properties = [(Property.CONTENT_TYPE, "text"), (Property.USER_PROPERTY, ("k", "v"))]
    publisher.publish("a", b"x" * 300_000, qos=1, properties=properties)
    arrived = subscriber.receive()
    assert arrived.payload == b"x" * 300_000
    assert arrived.value(Property.CONTENT_TYPE) == "text"
    assert arrived.value(Property.USER_PROPERTY) == ("k", "v")


def test_a_node_learns_of_subscriptions_that_were_there_before_it_joined(started: StartNode, connect: Connect) -> None:
    one, two = started("one"), started("two")
    subscriber = connect(one)
    for number in range(0, 2_500, 100):
        subscriber.subscribe(*(Filter(f"before/{number + each}") for each in range(100)))
    assert two.join(one) == "Done"
    publisher = connect(two)
    await_route(publisher, subscriber, "before/2499")
    publisher.publish("before/0", b"first")
    assert subscriber.receive().payload == b"first"


def test_a_message_does_not_come_back_and_goes_to_each_node_once(started: StartNode, connect: Connect) -> None:
    nodes = clustered(started, "one", "two", "three")
    subscribers = [connect(node) for node in nodes]
    for subscriber in subscribers:
        subscriber.subscribe("#", "a/b", "+/b")
    publisher = connect(nodes[0])
    for subscriber in subscribers:
        await_route(publisher, subscriber, "a/b")
    time.sleep(0.3)
    for subscriber in subscribers:
        while subscriber.poll(Publish, 0.1):
            pass
    publisher.publish("a/b", b"one", qos=1)
    for subscriber in subscribers:
        assert subscriber.receive().payload == b"one"
        subscriber.expect_nothing(0.3)


def test_unsubscribing_ends_the_route(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a")
    await_route(publisher, subscriber, "a")
    subscriber.unsubscribe("a")
    # No matching subscribers [MQTT 5.0, 3.4.2.1].
    eventually(lambda: publisher.publish("a", qos=1) == 0x10, "the route is gone")


def test_the_acknowledgement_waits_for_the_other_node_until_it_counts_as_down(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a", qos=1)
    await_route(publisher, subscriber, "a")
    with stopped(two):
        publisher.send(publish(V5, "a", b"held", qos=1, packet_id=1))
        assert publisher.poll(Puback, LINK_TIMEOUT_MS / 1_000 / 3) is None
        assert publisher.expect(Puback, 3 * LINK_TIMEOUT_MS / 1_000).code == 0
    assert subscriber.receive(timeout=15).payload == b"held"


def test_nobody_waits_for_a_node_without_subscribers(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    publisher, other = connect(one), connect(one)
    other.subscribe("a", qos=1)
    with stopped(two):
        began = time.monotonic()
        publisher.publish("a", b"x", qos=1)
        assert time.monotonic() - began < LINK_TIMEOUT_MS / 1_000 / 4
    assert other.receive().payload == b"x"


def test_with_publish_ack_local_nobody_waits_for_other_nodes(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two", cluster__publish_ack="local")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a", qos=1)
    await_route(publisher, subscriber, "a")
    with stopped(two):
        began = time.monotonic()
        publisher.publish("a", b"x", qos=1)
        assert time.monotonic() - began < LINK_TIMEOUT_MS / 1_000 / 4
    assert subscriber.receive(timeout=15).payload == b"x"


class Publishing(threading.Thread):
    """A publisher that goes on until it is told to stop; `acknowledged`: numbers that were."""

    def __init__(self, client: Client, topic: str, qos: int) -> None:
        super().__init__()
        self.client = client
        self.topic, self.qos = topic, qos
        self.acknowledged: list[int] = []
        self.is_over = threading.Event()

    def run(self) -> None:
        for number in itertools.count():
            if self.is_over.is_set():
                return
            self.client.publish(self.topic, b"%d" % number, qos=self.qos)
            self.acknowledged.append(number)
            time.sleep(0.002)

    def end(self) -> list[int]:
        self.is_over.set()
        self.join()
        return self.acknowledged


def collect(subscriber: Client, last: int) -> list[int]:
    """Numbers of messages up to the one that was acknowledged last."""
    numbers: list[int] = []
    while last not in numbers:
        numbers.append(int(subscriber.receive(timeout=20).payload))
    while (late := subscriber.poll(Publish, 0.5)) is not None:
        subscriber.complete(late)
        numbers.append(int(late.payload))
    return numbers


@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_acknowledged_is_lost_while_the_subscribers_node_is_killed(
    started: StartNode, connect: Connect, qos: int
) -> None:
    one, two = clustered(started, "one", "two", max_offline_messages=-1, max_online_messages=-1)
    subscriber = connect(two, "lasting")
    subscriber.subscribe("k", qos=2)
    probe = connect(one)
    await_route(probe, subscriber, "k")
    subscriber.disconnect()
    publishing = Publishing(connect(one), "k", qos)
    publishing.start()
    for _ in range(3):
        time.sleep(0.5)
        two.broker.kill()
        time.sleep(0.3)
        two.broker.start()
        eventually(lambda: one.sees(two), "it is back")
    time.sleep(0.5)
    acknowledged = publishing.end()
    subscriber = connect(two, "lasting")
    numbers = collect(subscriber, acknowledged[-1])
    assert set(acknowledged) <= set(numbers)
    if qos == 2:
        assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("qos", [1, 2])
def test_nothing_acknowledged_is_lost_with_the_publishers_node(started: StartNode, connect: Connect, qos: int) -> None:
    one, two = clustered(started, "one", "two", max_offline_messages=-1, max_online_messages=-1)
    subscriber = connect(two, "lasting")
    subscriber.subscribe("k", qos=2)
    await_route(connect(one), subscriber, "k")
    publisher = connect(one)
    acknowledged = []
    for number in range(300):
        publisher.publish("k", b"%d" % number, qos=qos)
        acknowledged.append(number)
    one.broker.kill()
    assert collect(subscriber, acknowledged[-1]) == acknowledged
    one.broker.start()
    eventually(lambda: two.sees(one), "it is back")


def test_with_every_write_synced_the_acknowledgement_waits_for_the_disk_of_the_other_node(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two", store__sync="always")
    subscriber = connect(two, "lasting")
    subscriber.subscribe("k", qos=1)
    publisher = connect(one)
    await_route(publisher, subscriber, "k")
    subscriber.disconnect()
    for number in range(50):
        assert publisher.publish("k", b"%d" % number, qos=1) == 0
    two.broker.kill()
    two.broker.start()
    assert connect(two, "lasting").receive_payloads(50) == [b"%d" % number for number in range(50)]


def test_a_node_that_has_just_started_knows_what_nodes_that_are_away_subscribe_to(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = connect(two, "lasting")
    subscriber.subscribe("k", "gone", qos=1)
    publisher = connect(one)
    await_route(publisher, subscriber, "k")
    subscriber.unsubscribe("gone")
    eventually(lambda: publisher.publish("gone", qos=1) == 0x10, "the route is gone")
    two.broker.kill()
    one.broker.stop()
    one.broker.start()
    publisher = connect(one)
    # No matching subscribers [MQTT 5.0, 3.4.2.1].
    assert publisher.publish("gone", qos=1) == 0x10
    assert publisher.publish("k", b"waits", qos=1) == 0
    two.broker.start()
    assert connect(two, "lasting").receive(timeout=15).payload == b"waits"


def test_a_qos_2_message_sent_again_after_a_crash_reaches_the_node_that_had_not_taken_it(
    started: StartNode, connect: Connect
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, here = connect(two, "lasting"), connect(one, "here")
    subscriber.subscribe("k", qos=2)
    here.subscribe("k", qos=2)
    await_route(connect(one), subscriber, "k")
    publisher = connect(one, "sender")
    with stopped(two):
        publisher.send(publish(V5, "k", b"held", qos=2, packet_id=1))
        assert publisher.poll(Pubrec, LINK_TIMEOUT_MS / 1_000 / 3) is None
        two.broker.kill()
        one.broker.kill()
        two.broker.start()
    one.broker.start()
    eventually(lambda: one.sees(two), "it is back")
    publisher, subscriber, here = connect(one, "sender"), connect(two, "lasting"), connect(one, "here")
    assert publisher.publish("k", b"held", qos=2, dup=True, packet_id=1) == 0
    assert publisher.publish("k", b"next", qos=2) == 0
    for client in (subscriber, here):
        assert client.receive_payloads(2) == [b"held", b"next"]


@pytest.mark.parametrize("dies_too", [False, True], ids=["the other lives", "the other dies too"])
def test_a_qos_2_message_sent_again_after_a_crash_does_not_come_twice_to_a_node_that_had_taken_it(
    started: StartNode, connect: Connect, dies_too: bool
) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = connect(two, "lasting")
    subscriber.subscribe("k", qos=2)
    publisher = connect(one, "sender")
    await_route(publisher, subscriber, "k")
    subscriber.close()
    publisher.send(publish(V5, "k", b"once", qos=2, packet_id=1))
    publisher.expect(Pubrec)
    one.broker.kill()
    if dies_too:
        two.broker.kill()
        two.broker.start()
    one.broker.start()
    eventually(lambda: one.sees(two), "it is back")
    publisher = connect(one, "sender")
    # As if PUBREC had not arrived.
    assert publisher.publish("k", b"once", qos=2, dup=True, packet_id=1) == 0
    assert publisher.publish("k", b"next", qos=2) == 0
    subscriber = connect(two, "lasting")
    assert subscriber.receive_payloads(2) == [b"once", b"next"]
    subscriber.barrier()


def test_one_dead_node_holds_nobody_up(started: StartNode, connect: Connect) -> None:
    one, two, last = clustered(started, "one", "two", "three")
    subscribers = [connect(two), connect(last)]
    publisher = connect(one)
    for subscriber in subscribers:
        subscriber.subscribe("a", qos=1)
        await_route(publisher, subscriber, "a")
    while subscribers[0].poll(Publish, 0.2):
        pass
    last.broker.kill()
    eventually(lambda: one.sees(two, down=(last,)), "it counts as down")
    began = time.monotonic()
    for number in range(100):
        publisher.publish("a", b"%d" % number, qos=1)
    assert time.monotonic() - began < LINK_TIMEOUT_MS / 1_000
    assert subscribers[0].receive_payloads(100) == [b"%d" % number for number in range(100)]
    last.broker.start()


def test_a_group_over_two_nodes_gets_each_message_once(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two", shared_subscription_policy="random")
    here, there, publisher = connect(one), connect(two), connect(one)
    here.subscribe("$share/g/a", qos=1)
    there.subscribe("$share/g/a", qos=1)
    while not there.poll(Publish, 0.05):
        publisher.publish("a", b"route?")
    for member in (here, there):
        while member.poll(Publish, 0.2):
            pass
    for number in range(200):
        publisher.publish("a", b"%d" % number, qos=1)
    got: dict[str, list[int]] = {"here": [], "there": []}
    deadline = time.monotonic() + 10
    while sum(map(len, got.values())) < 200 and time.monotonic() < deadline:
        for name, member in (("here", here), ("there", there)):
            arrived = member.poll(Publish, 0.01)
            if arrived is not None:
                member.complete(arrived)
                got[name].append(int(arrived.payload))
    assert sorted(got["here"] + got["there"]) == list(range(200))
    assert len(got["here"]) > 50
    assert len(got["there"]) > 50
    here.expect_nothing(0.2)
    there.expect_nothing(0.2)


def test_prefer_local_keeps_messages_on_the_node(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    here, there, publisher = connect(one), connect(two), connect(one)
    there.subscribe("$share/g/a", qos=1)
    await_route(publisher, there, "a")
    here.subscribe("$share/g/a", qos=1)
    for number in range(20):
        publisher.publish("a", b"%d" % number, qos=1)
    assert here.receive_payloads(20) == [b"%d" % number for number in range(20)]
    there.expect_nothing(0.3)


def test_prefer_online_before_local_takes_the_connected_member_elsewhere(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two", shared_subscription_policy="prefer_online_before_local")
    away, there, publisher = connect(one, "away"), connect(two), connect(one)
    there.subscribe("$share/g/a", qos=1)
    await_route(publisher, there, "a")
    away.subscribe("$share/g/a", qos=1)
    away.disconnect()
    for number in range(20):
        publisher.publish("a", b"%d" % number, qos=1)
    assert there.receive_payloads(20) == [b"%d" % number for number in range(20)]


def test_local_only_leaves_members_elsewhere_out(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two", shared_subscription_policy="local_only")
    there, probe, publisher = connect(two), connect(two), connect(one)
    there.subscribe("$share/g/a")
    probe.subscribe("a")
    await_route(publisher, probe, "a")
    there.expect_nothing(0.3)


def test_direct_interest_and_a_group_are_one_copy_for_a_node(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    direct, member, publisher = connect(two), connect(two), connect(one)
    direct.subscribe("a", qos=1)
    member.subscribe("$share/g/a", qos=1)
    await_route(publisher, direct, "a")
    await_route(publisher, member, "a")
    for subscriber in (direct, member):
        while subscriber.poll(Publish, 0.2):
            pass
    before = metric(one, "cluster_messages_sent")
    publisher.publish("a", b"x", qos=1)
    assert direct.receive().payload == member.receive().payload == b"x"
    assert metric(one, "cluster_messages_sent") == before + 1


def test_a_retained_message_is_on_every_node_at_once(started: StartNode, connect: Connect) -> None:
    nodes = clustered(started, "one", "two", "three")
    publisher = connect(nodes[0])
    for qos in (0, 1):
        publisher.publish("r/t", b"%d" % qos, qos=qos, retain=True)
        time.sleep(0.1)
        for node in nodes:
            late = connect(node)
            late.subscribe("r/#", qos=1)
            arrived = late.receive()
            assert (arrived.payload, arrived.retain) == (b"%d" % qos, True)
            late.barrier()
            late.close()
    publisher.publish("r/t", b"", qos=1, retain=True)
    for node in nodes:
        late = connect(node)
        late.subscribe("r/#", qos=1)
        late.barrier()


def test_whoever_subscribes_while_it_is_published_gets_a_retained_message(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    publisher = connect(one)
    for number in range(100):
        subscriber = connect(two)
        topic = f"m/{number}"
        if number % 2:
            subscriber.send(publish(V5, "unrelated", b"", qos=0))
            publisher.send(publish(V5, topic, b"x", qos=1, packet_id=1, retain=True))
            subscriber.subscribe(topic, qos=1)
            publisher.expect(Puback)
        else:
            subscriber.subscribe(topic, qos=1)
            publisher.publish(topic, b"x", qos=1, retain=True)
        assert subscriber.receive().payload == b"x"
        subscriber.close()


def test_a_node_that_is_taken_out_gets_nothing_more(started: StartNode, connect: Connect) -> None:
    one, two = clustered(started, "one", "two")
    subscriber, publisher = connect(two), connect(one)
    subscriber.subscribe("a", qos=1)
    await_route(publisher, subscriber, "a")
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "it counts as down")
    assert publisher.publish("a", b"kept", qos=1) == 0
    one.broker.admin("cluster", "leave", f"node={two.name}")
    assert publisher.publish("a", b"for nobody", qos=1) == 0x10
    two.broker.launch()
    assert two.broker.await_end() == ExitCode.REMOVED
    assert publisher.publish("a", b"for nobody", qos=1) == 0x10
