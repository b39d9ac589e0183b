"""One broker with a bridge to a mosquitto: what goes over, in which form, and what happens when one side is away."""

import signal

import pytest

from bridge.brokers import Bridged, Mosquitto, await_connected, bridge_rows, bridge_settings
from bridge.hearing import Clients
from broker_process import Setting
from cluster.real_nodes import eventually
from protocol.answers import Publish
from protocol.marks import V3, V5
from protocol.wire import Property

VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_go_both_ways_at_the_qos_of_the_rules(
    remote: Mosquitto, bridged: Bridged, clients: Clients, version: int, qos: int
) -> None:
    rules = (f"out/* out {qos} l r", f"in/* in {qos} l r")
    broker = bridged(bridge_settings(remote.port, *rules, mqtt_version=version))
    await_connected(broker)
    here, there = clients(broker.port).connect(V5), clients(remote.port).connect(V5)
    there.subscribe("r/out/#", qos=2)
    here.subscribe("l/in/#", qos=2)
    for number in range(20):
        here.publish(f"l/out/{number}", b"%d" % number, qos=2)
        there.publish(f"r/in/{number}", b"%d" % number, qos=2)
    for number in range(20):
        out, came = there.receive(), here.receive()
        assert (out.topic, out.payload, out.qos) == (f"r/out/{number}", b"%d" % number, qos)
        assert (came.topic, came.payload, came.qos) == (f"l/in/{number}", b"%d" % number, qos)
    there.barrier()
    here.barrier()


@VERSIONS
def test_what_a_both_rule_has_brought_does_not_go_back(
    remote: Mosquitto, bridged: Bridged, clients: Clients, version: int
) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* both 1", mqtt_version=version))
    await_connected(broker)
    here, there = clients(broker.port).connect(V5), clients(remote.port).connect(V5)
    here.subscribe("t/#", qos=1)
    there.subscribe("t/#", qos=1)
    here.publish("t/x", b"from here", qos=1)
    there.publish("t/x", b"from there", qos=1)
    for client in (here, there):
        got = []
        for _ in range(2):
            message = client.receive()
            got.append(message.payload)
        assert sorted(got) == [b"from here", b"from there"]
    # Whatever would go round would have come back with these.
    here.publish("t/end", b"", qos=1)
    there.publish("t/end", b"", qos=1)
    for client in (here, there):
        for _ in range(2):
            message = client.receive()
            assert message.topic == "t/end"
        client.expect_nothing(0.3)


def test_properties_travel_both_ways(remote: Mosquitto, bridged: Bridged, clients: Clients) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* both 1", mqtt_version=5))
    await_connected(broker)
    here, there = clients(broker.port).connect(V5), clients(remote.port).connect(V5)
    properties = [
        (Property.PAYLOAD_FORMAT_INDICATOR, 1),
        (Property.CONTENT_TYPE, "text/plain"),
        (Property.RESPONSE_TOPIC, "a/b"),
        (Property.CORRELATION_DATA, b"c"),
        (Property.MESSAGE_EXPIRY_INTERVAL, 60),
        (Property.USER_PROPERTY, ("k", "v")),
    ]
    for sender, receiver in ((here, there), (there, here)):
        receiver.subscribe("t/p", qos=1)
        sender.publish("t/p", b"x", qos=1, properties=properties)
        message = receiver.receive()
        got = list(message.properties)
        assert set(properties[:4]) | {properties[5]} <= set(got)
        assert {value for name, value in got if name is Property.MESSAGE_EXPIRY_INTERVAL} <= {59, 60}
        receiver.unsubscribe("t/p")


def test_what_comes_while_the_other_broker_is_away_goes_when_it_is_back_in_order(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    settings = bridge_settings(remote.port, "t/* out 1", persistent_queue=True, mqtt_version=4)
    broker = bridged(settings)
    await_connected(broker)
    listener = clients(remote.port).resume(V3, "listener")
    listener.subscribe("t/#", qos=1)
    listener.disconnect()
    remote.stop()
    publisher = clients(broker.port).connect(V5)
    for number in range(300):
        publisher.publish(f"t/{number}", b"%d" % number, qos=1)
    eventually(lambda: bridge_rows(broker)["br"]["buffer size"] == "300", "all of them wait")
    assert bridge_rows(broker)["br"]["state"] in {"connecting", "disconnected"}
    broker.kill()
    broker.start()
    publisher = clients(broker.port).connect(V5)
    publisher.publish("t/last", b"last", qos=1)
    remote.start()
    listener = clients(remote.port).resume(V3, "listener")
    expected = [b"%d" % number for number in range(300)] + [b"last"]
    got: list[bytes] = []
    while not got or got[-1] != b"last":
        message = listener.receive()
        got.append(message.payload)
    assert got == expected
    eventually(lambda: bridge_rows(broker)["br"]["buffer size"] == "0", "nothing waits any more")


def test_a_full_buffer_drops_what_comes_and_counts_it(remote: Mosquitto, bridged: Bridged, clients: Clients) -> None:
    options = {"max_outgoing_buffered_messages": 50, "outgoing_batch_size": 10}
    broker = bridged(bridge_settings(remote.port, "t/* out 1", **options))
    await_connected(broker)
    remote.stop()
    await_connected(broker, state="disconnected")
    publisher = clients(broker.port).connect(V5)
    for number in range(200):
        publisher.publish("t/x", b"%d" % number, qos=1)

    def is_counted() -> bool:
        row = bridge_rows(broker)["br"]
        return int(row["buffer size"]) + int(row["buffer dropped msgs"]) == 200

    eventually(is_counted, "each message waits or is counted")
    assert 50 <= int(bridge_rows(broker)["br"]["buffer size"]) <= 60
    metrics = broker.admin("metrics", "show")
    assert "bridge_dropped" in metrics
    assert "br_vmq_bridge_publish_out_1" in metrics


def test_what_the_other_broker_has_for_the_bridge_waits_there(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* in 1", mqtt_version=4))
    await_connected(broker)
    here = clients(broker.port).resume(V5, "here")
    here.subscribe("t/#", qos=1)
    here.disconnect()
    broker.stop()
    there = clients(remote.port).connect(V3)
    for number in range(50):
        there.publish("t/x", b"%d" % number, qos=1)
    broker.start()
    here = clients(broker.port).resume(V5, "here")
    assert here.receive_payloads(50) == [b"%d" % number for number in range(50)]


def test_a_link_that_is_half_open_is_noticed(remote: Mosquitto, bridged: Bridged) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* in 1", keepalive_interval=1, connect_timeout=500))
    await_connected(broker)
    remote.suspend(signal.SIGSTOP)
    try:
        await_connected(broker, state="disconnected")
        row = bridge_rows(broker)["br"]
        assert "PINGREQ" in row["last error"] or "not answered within" in row["last error"]
        eventually(
            lambda: "not answered within 500 ms" in bridge_rows(broker)["br"]["last error"], "CONNACK is awaited"
        )
    finally:
        remote.suspend(signal.SIGCONT)
    await_connected(broker)


def test_retained_messages_are_kept_where_the_rule_says_so(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    there = clients(remote.port).connect(V5)
    there.publish("kept/in", b"in", qos=1, retain=True)
    rules = ("kept/in in 1 retain", "kept/out out 1 retain", "plain/out out 1")
    broker = bridged(bridge_settings(remote.port, *rules, mqtt_version=5))
    await_connected(broker)
    here = clients(broker.port).connect(V5)
    here.publish("kept/out", b"out", qos=1, retain=True)
    here.publish("plain/out", b"out", qos=1, retain=True)

    def kept(port: int, topic: str) -> bool:
        client = clients(port).connect(V5)
        client.subscribe(topic, qos=0)
        message = client.poll(Publish, 0.3)
        return message is not None and message.retain

    eventually(lambda: kept(broker.port, "kept/in"), "it is retained here")
    eventually(lambda: kept(remote.port, "kept/out"), "it is retained there")
    assert not kept(remote.port, "plain/out")


def test_operators_stop_start_and_restart_bridges(remote: Mosquitto, bridged: Bridged) -> None:
    settings = {**bridge_settings(remote.port, "t/*", name="a"), **bridge_settings(remote.port, "t/*", name="b")}
    broker = bridged(settings)
    await_connected(broker)
    assert broker.admin("bridge", "stop", "name=a").strip() == "Done"
    rows = bridge_rows(broker)
    assert (rows["a"]["state"], rows["b"]["state"]) == ("stopped", "connected")
    assert broker.admin("bridge", "start", "name=a").strip() == "Done"
    await_connected(broker)
    since = bridge_rows(broker)["b"]["since"]
    assert broker.admin("bridge", "restart", "name=a").strip() == "Done"
    await_connected(broker)
    assert bridge_rows(broker)["b"]["since"] == since
    refused = broker.program("vmq-admin", "bridge", "stop", "name=c")
    assert refused.returncode != 0
    assert "there is no bridge c on this node: there are a, b" in refused.stderr


def test_the_way_by_hand(remote: Mosquitto, bridged: Bridged) -> None:
    settings = bridge_settings(remote.port, "t/*")
    del settings["plugins.vmq_bridge"]
    broker = bridged(settings)
    assert bridge_rows(broker) == {}
    broker.admin("plugin", "enable", "--name=vmq_bridge")
    broker.admin("bridge", "start")
    await_connected(broker)
    broker.admin("plugin", "disable", "--name=vmq_bridge")
    assert bridge_rows(broker) == {}


def test_a_change_restarts_only_the_bridge_that_it_is_about(remote: Mosquitto, bridged: Bridged) -> None:
    settings = {**bridge_settings(remote.port, "t/*", name="a"), **bridge_settings(remote.port, "t/*", name="b")}
    broker = bridged(settings)
    await_connected(broker)
    before = remote.log().count("as ")
    broker.admin("set", "max_inflight_messages=30")
    broker.admin("set", "vmq_bridge.tcp.a.keepalive_interval=5")
    eventually(lambda: remote.log().count("k5") > 0, "the bridge connects with the other keep alive")
    await_connected(broker)
    assert remote.log().count("as ") - before == 1


def test_a_bridge_is_nobodys_client(remote: Mosquitto, bridged: Bridged, clients: Clients) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* both 1", persistent_queue=True))
    await_connected(broker)
    assert "$bridge" not in broker.admin("session", "show", "--client_id")
    holds = broker.admin("node", "history")
    assert "the bridge br subscribes to t/#" in holds
    client = clients(broker.port).open(V5)
    assert client.handshake("$bridge/br").code == 0x85
    assert bridge_rows(broker)["br"]["state"] == "connected"


def test_what_waits_for_a_bridge_that_is_configured_no_more_is_given_up_and_told(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    settings = bridge_settings(remote.port, "t/* out 1", persistent_queue=True)
    broker = bridged(settings)
    await_connected(broker)
    remote.stop()
    publisher = clients(broker.port).connect(V5)
    for _ in range(7):
        publisher.publish("t/x", b"x", qos=1)
    broker.stop()
    key = "vmq_bridge.tcp.br"
    broker.settings = {name: value for name, value in broker.settings.items() if not name.startswith(key)}
    broker.start()
    broker.await_log("a bridge is configured no more: what waited for it is given up")
    assert '"messages": 7' in broker.log_tail()
    assert "the bridge br" not in broker.admin("node", "history")


@pytest.mark.parametrize("qos", [0, 1])
def test_what_waits_for_a_slow_broker_goes_on_by_itself(
    remote: Mosquitto, bridged: Bridged, clients: Clients, qos: int
) -> None:
    """More than all sockets and buffers on the way hold; and no timer that would set things going."""
    options: dict[str, Setting] = {"keepalive_interval": 0, "max_outgoing_buffered_messages": "infinity"}
    broker = bridged(bridge_settings(remote.port, f"t/* out {qos}", mqtt_version=4, **options))
    await_connected(broker)
    there = clients(remote.port).connect(V3)
    there.subscribe("t/#", qos=qos)
    here = clients(broker.port).connect(V5)
    count, payload = 2_000, b"x" * 8_000
    remote.suspend(signal.SIGSTOP)
    try:
        for number in range(count):
            here.publish("t/x", b"%06d" % number + payload, qos=qos)
        here.barrier()
    finally:
        remote.suspend(signal.SIGCONT)
    assert [int(each[:6]) for each in there.receive_payloads(count)] == list(range(count))


def test_a_bridge_whose_session_here_was_ended_while_the_other_broker_was_away_begins_anew(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    broker = bridged(bridge_settings(remote.port, "t/* out 1", mqtt_version=4))
    await_connected(broker)
    remote.stop()
    eventually(lambda: bridge_rows(broker)["br"]["last error"], "it has noticed")
    broker.admin("session", "disconnect", "client-id=$bridge/br")
    remote.start()
    await_connected(broker)
    there = clients(remote.port).connect(V3)
    there.subscribe("t/#", qos=1)
    here = clients(broker.port).connect(V5)

    def goes_over() -> bool:
        here.publish("t/x", b"x", qos=1)
        return there.poll(Publish, 0.3) is not None

    eventually(goes_over, "messages go over")


def test_qos_2_is_exactly_once_over_restarts_of_the_bridge(
    remote: Mosquitto, bridged: Bridged, clients: Clients
) -> None:
    """A bridge that goes on with a session does not know which identifiers it has left unreleased there."""
    settings = bridge_settings(remote.port, "t/* out 2", "u/* in 2", mqtt_version=5, persistent_queue=True)
    broker = bridged(settings)
    await_connected(broker)
    there = clients(remote.port).connect(V5)
    there.subscribe("t/#", qos=2)
    here = clients(broker.port).resume(V5, "here")
    here.subscribe("u/#", qos=2)
    for number in range(30):
        here.publish("t/x", b"%d" % number, qos=2)
        there.publish("u/x", b"%d" % number, qos=2)
        if number % 10 == 9:
            broker.admin("bridge", "restart")
    assert sorted(int(each) for each in there.receive_payloads(30)) == list(range(30))
    assert sorted(int(each) for each in here.receive_payloads(30)) == list(range(30))
    there.expect_nothing(0.5)
    here.expect_nothing(0.5)
