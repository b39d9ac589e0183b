"""What clients may do while too few nodes can be reached, with real processes of which two are away."""

import http.client
import json
import time

from broker_process import BrokerError, Setting, free_port
from cluster.clients import NetworkOf, StartNode, clustered, join, metric
from cluster.real_nodes import LINK_TIMEOUT_MS, ClusterNode, eventually
from protocol.answers import Puback, Pubrec, Suback, Unsuback
from protocol.client import Client, Network
from protocol.marks import V3, V5
from protocol.requests import publish, unsubscribe
from protocol.wire import Property, Version

KEYS = ("register", "publish", "subscribe", "unsubscribe")


def readiness(node: ClusterNode) -> str:
    lines = node.broker.admin("node", "status", "--format=csv").splitlines()
    return next(line.partition(",")[2].strip('"') for line in lines if line.startswith("cluster_ready,"))


def lose(first: ClusterNode, *others: ClusterNode) -> None:
    """Kill the others, and return when the first has drawn the consequence."""
    for other in others:
        other.broker.kill()
    eventually(lambda: readiness(first).startswith("the cluster is not ready: 1 of 3"), "it is not ready")


def is_connected(where: Network, version: Version) -> int:
    return where.open(version).handshake().code


def reason_of(answer: Puback | Pubrec | Suback | Unsuback) -> object:
    return answer.value(Property.REASON_STRING)


def test_with_the_defaults_everything_is_refused_with_a_reason(started: StartNode, at: NetworkOf) -> None:
    one, two, three = clustered(started, "one", "two", "three")
    where = at(one)
    client = where.connect(V5)
    client.subscribe("kept", qos=1)
    old: list[Client] = [where.connect(V3) for _ in range(3)]
    lose(one, two, three)
    why = "the cluster is not ready: 1 of 3 nodes can be reached"

    refused = where.open(V5).handshake()
    assert (refused.code, refused.value(Property.REASON_STRING)) == (0x88, why)
    assert is_connected(where, V3) == 3

    client.publish("kept", b"lost")
    client.send(publish(V5, "kept", b"x", qos=1, packet_id=50))
    puback = client.expect(Puback)
    assert (puback.code, reason_of(puback)) == (0x83, why)
    client.send(publish(V5, "kept", b"x", qos=2, packet_id=51))
    assert client.expect(Pubrec).code == 0x83
    suback = client.subscribe("a", "b")
    assert (suback.codes, reason_of(suback)) == ((0x83, 0x83), why)
    unsuback = client.unsubscribe("kept")
    assert (unsuback.codes, reason_of(unsuback)) == ((0x83,), why)
    client.barrier()

    old[0].send(publish(V3, "kept", b"x", qos=1, packet_id=1))
    old[0].expect_closed()
    assert old[1].subscribe("a").codes == (0x80,)
    old[2].send(unsubscribe(V3, 7, ["a"]))
    old[2].expect_closed()

    counted = [metric(one, f"netsplit_{what}_refused") for what in ("connect", "publish", "subscribe", "unsubscribe")]
    assert counted == [2, 4, 2, 2]
    assert metric(one, "netsplit_detected") == 1
    two.broker.launch()
    eventually(lambda: readiness(one) == "true", "it is ready again")
    assert client.publish("kept", b"there", qos=1) == 0
    assert client.receive().payload == b"there"
    assert (metric(one, "netsplit_resolved"), is_connected(where, V3)) == (1, 0)


def test_each_key_allows_what_it_names(started: StartNode, at: NetworkOf) -> None:
    settings: dict[str, Setting] = {f"allow_{key}_during_netsplit": "on" for key in KEYS}
    one, two, three = clustered(started, "one", "two", "three", **settings)
    lose(one, two, three)
    for version in (V3, V5):
        client = at(one).connect(version)
        assert client.subscribe("a", qos=1).codes == (1,)
        assert client.publish("a", b"x", qos=1) == 0
        assert client.receive().payload == b"x"
        client.unsubscribe("a")
    assert [metric(one, f"netsplit_{what}_refused") for what in ("connect", "publish", "subscribe")] == [0, 0, 0]


def test_a_key_and_the_rule_can_be_changed_while_the_node_runs(started: StartNode, at: NetworkOf) -> None:
    one, two, three = clustered(started, "one", "two", "three")
    lose(one, two, three)
    where = at(one)
    assert is_connected(where, V5) == 0x88
    one.broker.admin("set", "allow_register_during_netsplit=on")
    client = where.connect(V5)
    assert client.publish("a", b"x", qos=1) == 0x83
    one.broker.admin("set", "cluster.ready_when=any")
    assert client.publish("a", b"x", qos=1) == 0x10


def test_one_dead_node_of_two_does_not_stop_the_other(started: StartNode, at: NetworkOf) -> None:
    one, two = clustered(started, "one", "two")
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "it counts as down")
    client = at(one).connect(V5)
    assert client.subscribe("a", qos=1).codes == (1,)
    assert client.publish("a", b"x", qos=1) == 0
    assert readiness(one) == "true"


def test_health_and_log_say_who_cannot_be_reached(started: StartNode) -> None:
    port = free_port()
    one = started("one", cluster__ready_when="all", listener__http__default=f"127.0.0.1:{port}")
    two, three = started("two"), started("three")
    join(one, two, three)
    assert get(port, "/health/ready") == (200, {"status": "OK", "phase": "ready", "waits_for": []})
    three.broker.kill()
    eventually(lambda: get(port, "/health/ready")[0] == 503, "it is not ready")
    why = ["the cluster is not ready: 2 of 3 nodes can be reached", "three@127.0.0.1 cannot be reached"]
    expected = {"status": "DOWN", "reasons": why, "phase": "ready", "waits_for": []}
    assert get(port, "/health/ready") == (503, expected)
    assert get(port, "/health/listeners_full_cluster")[0] == 503
    assert get(port, "/health") == (200, {"status": "OK"})
    assert [get(port, f"/health/{probe}")[0] for probe in ("live", "started")] == [200, 200]
    one.broker.await_log("the cluster is not ready")
    three.broker.start()
    eventually(lambda: get(port, "/health/ready")[0] == 200, "it is ready again")
    one.broker.await_log("the cluster is ready again")
    assert two.broker.is_alive()


def get(port: int, path: str) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    status, body = response.status, json.loads(response.read())
    connection.close()
    return status, body


def test_what_is_published_right_after_a_start_reaches_other_nodes(started: StartNode, at: NetworkOf) -> None:
    one, two = clustered(started, "one", "two")
    subscriber = at(two).connect(V5)
    subscriber.subscribe("a", qos=1)
    for number in range(3):
        one.broker.kill()
        eventually(lambda: two.sees(down=(one,)), "it counts as down")
        one.broker.start()
        assert at(one).connect(V5).publish("a", b"%d" % number, qos=1) == 0
        assert subscriber.receive().payload == b"%d" % number


def test_a_node_that_starts_without_the_others_goes_on_after_the_link_timeout(started: StartNode) -> None:
    one, two, three = clustered(started, "one", "two", "three")
    for node in (one, two, three):
        node.broker.kill()
    one.broker.launch()
    began = time.monotonic()
    eventually(lambda: _status(one).startswith("the cluster is not ready: 1 of 3"), "it serves, and is not ready")
    assert time.monotonic() - began >= LINK_TIMEOUT_MS / 1_000
    one.broker.await_log("serves clients without being in step with all members")


def _status(node: ClusterNode) -> str:
    try:
        return readiness(node)
    except BrokerError:
        # It has only just been started.
        return ""


def test_the_status_page_of_one_node_has_all_that_it_reaches(started: StartNode) -> None:
    port = free_port()
    one = started("one", listener__http__default=f"127.0.0.1:{port}")
    two = started("two")
    join(one, two)
    status, body = get(port, "/status.json")
    assert status == 200
    assert isinstance(body, list)
    whole = {one.name: True, two.name: True}
    assert reached_by(port) == {one.name: whole, two.name: whole}
    assert body[0][two.name]["listeners"][0]["port"] == two.broker.port
    two.broker.kill()
    eventually(lambda: one.sees(down=(two,)), "it counts as down")
    eventually(lambda: reached_by(port) == {one.name: {one.name: True, two.name: False}}, "it is left out")


def reached_by(port: int) -> dict[str, object]:
    """Node -> which members it reaches, as the status page on a port says."""
    _, body = get(port, "/status.json")
    assert isinstance(body, list)
    [nodes] = body
    return {node: found["mystatus"][0] for node, found in nodes.items()}
