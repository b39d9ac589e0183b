"""One connection for a client id in the whole cluster, whichever nodes its clients come to. Real processes."""

import threading

from cluster.clients import NetworkOf, StartNode, await_route, clients_of, clustered, stopped
from cluster.real_nodes import ClusterNode, eventually
from protocol.answers import Disconnect, Publish
from protocol.client import Network
from protocol.marks import V5, both_versions
from protocol.requests import Will
from protocol.wire import Property, Version

TAKEN_OVER = 0x8E
ROUNDS = 25


def holders(nodes: list[ClusterNode], client_id: str) -> list[str]:
    """The nodes with a connection of the client."""
    return [node.name for node in nodes if client_id in clients_of(node, "--is_online=true")]


@both_versions
def test_a_connection_ends_when_its_client_id_comes_to_another_node(
    started: StartNode, at: NetworkOf, version: Version
) -> None:
    one, two = clustered(started, "one", "two")
    first = at(one).connect(version, "same")
    second = at(two).connect(version, "same")
    if version is V5:
        assert first.expect(Disconnect).code == TAKEN_OVER
    first.expect_closed()
    third = at(one).connect(version, "same")
    if version is V5:
        assert second.expect(Disconnect).code == TAKEN_OVER
    second.expect_closed()
    third.barrier()


def test_a_takeover_publishes_the_will_unless_that_has_a_delay(started: StartNode, at: NetworkOf) -> None:
    one, two = clustered(started, "one", "two")
    watcher, publisher = at(two).connect(V5), at(one).connect(V5)
    watcher.subscribe("wills/#", qos=1)
    await_route(publisher, watcher, "wills/route")
    kept: list[tuple[Property, object]] = [(Property.SESSION_EXPIRY_INTERVAL, 300)]
    later = Will("wills/later", b"no", 1, properties=[(Property.WILL_DELAY_INTERVAL, 1)])
    at(one).connect(V5, "later", clean_start=False, will=later, properties=kept)
    at(two).connect(V5, "later", clean_start=False, properties=kept)
    at(one).connect(V5, "now", clean_start=False, will=Will("wills/now", b"yes", 1), properties=kept)
    at(two).connect(V5, "now", clean_start=False, properties=kept)
    arrived = watcher.receive()
    assert (arrived.topic, arrived.payload) == ("wills/now", b"yes")
    assert watcher.poll(Publish, 2.0) is None


def test_a_clean_start_ends_the_session_that_another_node_has(started: StartNode, at: NetworkOf) -> None:
    one, two = clustered(started, "one", "two")
    at(one).resume(V5, "same").disconnect()
    at(two).connect(V5, "same").disconnect()
    connack = at(one).resume(V5, "same").referee.connack
    assert connack is not None
    assert not connack.session_present


def test_of_connections_that_were_made_while_nodes_could_not_reach_each_other_the_later_one_stays(
    started: StartNode, at: NetworkOf
) -> None:
    one, two = clustered(started, "one", "two")
    early = at(two).connect(V5, "early-on-two")
    with stopped(two):
        eventually(lambda: one.sees(down=(two,)), "two is away")
        late = at(one).connect(V5, "early-on-two")
        other = at(one).connect(V5, "only-on-one")
    assert early.expect(Disconnect).code == TAKEN_OVER
    eventually(lambda: one.sees(two) and two.sees(one), "they see each other again")
    late.barrier()
    other.barrier()
    assert holders([one, two], "early-on-two") == [one.name]


def test_of_many_that_come_at_the_same_time_one_stays(started: StartNode, at: NetworkOf) -> None:
    nodes = clustered(started, "one", "two", "three")
    networks = [at(node) for node in nodes]
    for number in range(ROUNDS):
        client_id = f"raced-{number:03}"
        start = threading.Barrier(len(networks))

        def come(network: Network, client_id: str = client_id, start: threading.Barrier = start) -> None:
            client = network.open(V5)
            start.wait()
            client.handshake(client_id)

        threads = [threading.Thread(target=come, args=(network,)) for network in networks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(ROUNDS):
        client_id = f"raced-{number:03}"
        eventually(lambda client_id=client_id: len(holders(nodes, client_id)) == 1, f"one has {client_id}")  # type: ignore[misc]
