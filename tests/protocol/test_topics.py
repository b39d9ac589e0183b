"""Topic names and filters: what is well-formed, and which filter matches which topic."""

import pytest

from protocol import requests
from protocol.client import NetWith, Network, fence, unique
from protocol.marks import both_versions, in_v3, in_v5
from protocol.requests import Filter
from protocol.wire import Version

MATCHES = [
    ("sport/tennis/player1/#", "sport/tennis/player1", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/final", True),
    ("sport/tennis/player1/#", "sport/tennis/player10", False),
    ("sport/tennis/+", "sport/tennis/player1", True),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False),
    ("sport/tennis/+", "sport/tennis", False),
    ("sport/+", "sport", False),
    ("sport/+", "sport/", True),
    ("sport/+/", "sport/a/", True),
    ("sport/+/", "sport/a", False),
    ("+/+", "/finance", True),
    ("/+", "/finance", True),
    ("+", "/finance", False),
    ("+/tennis/#", "sport/tennis/x/y", True),
    ("sport/+/player1", "sport/tennis/player1", True),
    ("a//b", "a//b", True),
    ("a//b", "a/b", False),
    ("a/+/b", "a//b", True),
    ("/", "/", True),
    ("/", "a", False),
    ("ACCOUNTS", "Accounts", False),
    ("Accounts payable", "Accounts payable", True),
    ("é", "e\u0301", False),
    ("a/b", "a/b/", False),
    ("a/b/", "a/b", False),
    ("a/$b", "a/$b", True),
    ("a/+", "a/$b", True),
    ("a/#", "a/$b/c", True),
    ("./..", "./..", True),
    ("a/./b", "a/b", False),
]


@in_v3("MQTT-3.3.2-3", "MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.3-4", "MQTT-4.5.0-1")
@in_v5("MQTT-3.3.2-3", "MQTT-4.7.1-1", "MQTT-4.7.1-2", "MQTT-4.7.3-4", "MQTT-4.5.0-1")
@both_versions
@pytest.mark.parametrize(("topic_filter", "topic", "matches"), MATCHES)
def test_filters_match_topics_as_specified(
    net: Network, version: Version, topic_filter: str, topic: str, matches: bool
) -> None:
    client = net.connect(version)
    client.subscribe(topic_filter)
    client.publish(topic, b"x", qos=0)
    if matches:
        assert client.receive().topic == topic
    fence(client, client)


@in_v3("MQTT-4.7.1-2", "MQTT-4.7.1-3")
@in_v5("MQTT-4.7.1-1", "MQTT-4.7.1-2")
@both_versions
@pytest.mark.parametrize("topic_filter", ["#", "+", "+/#", "a/#", "a/+/#", "+/+", "/#", "/+/", "$SYS/#", "$x/+/y"])
def test_well_placed_wildcards_are_accepted(net: Network, version: Version, topic_filter: str) -> None:
    client = net.connect(version)
    assert client.subscribe(topic_filter, qos=2).codes == (2,)
    client.unsubscribe(topic_filter)
    client.barrier()


@in_v3("MQTT-4.7.1-2", "MQTT-4.7.1-3")
@in_v5("MQTT-4.7.1-1", "MQTT-4.7.1-2")
@both_versions
@pytest.mark.parametrize(
    "topic_filter", ["a#", "a/#/b", "#/", "##", "#/#", "a/b#", "+a", "a+", "a/+b/c", "a/b+", "++", "+#", "#+"]
)
def test_misplaced_wildcards_are_refused(net: Network, version: Version, topic_filter: str) -> None:
    client = net.connect(version)
    client.send(requests.subscribe(version, 1, [Filter(topic_filter)]))
    client.expect_filter_refused()


@in_v3("MQTT-3.3.2-2", "MQTT-4.7.1-1")
@in_v5("MQTT-3.3.2-2", "MQTT-4.7.0-1")
@both_versions
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("topic", ["a/+", "#", "+", "a#", "a+b/c"])
def test_a_topic_name_with_a_wildcard_is_refused(net: Network, version: Version, topic: str, qos: int) -> None:
    client = net.connect(version)
    client.send(requests.publish(version, topic, b"x", qos=qos, packet_id=1 if qos else None))
    client.expect_refusal(0x81, 0x82, 0x90)


@in_v3("MQTT-4.7.3-1")
@in_v5("MQTT-4.7.3-1")
@both_versions
@pytest.mark.parametrize("kind", ["topic name", "filter", "filter to remove"])
def test_an_empty_topic_is_refused(net: Network, version: Version, kind: str) -> None:
    client = net.connect(version)
    if kind == "topic name":
        client.send(requests.publish(version, "", b"x"))
        client.expect_refusal(0x81, 0x82, 0x90)
    elif kind == "filter":
        client.send(requests.subscribe(version, 1, [Filter("")]))
        client.expect_filter_refused()
    else:
        client.send(requests.unsubscribe(version, 1, [""]))
        client.expect_refusal(0x81, 0x82, 0x8F)


@in_v3("MQTT-4.7.3-3")
@in_v5("MQTT-4.7.3-3")
@both_versions
def test_the_longest_topic_is_served(net: Network, version: Version) -> None:
    topic = unique("t").ljust(65_535, "x")
    client = net.connect(version)
    assert client.subscribe(topic, qos=1).codes == (1,)
    client.publish(topic, b"x", qos=1)
    assert client.receive().topic == topic


@in_v3("MQTT-4.7.2-1")
@in_v5("MQTT-4.7.2-1")
@both_versions
@pytest.mark.parametrize("topic_filter", ["#", "+/#", "+/node/+"])
def test_a_leading_wildcard_does_not_match_topics_under_a_dollar(
    net_with: NetWith, version: Version, topic_filter: str
) -> None:
    # The broker itself publishes below $SYS, to one client that names it and to one that does not.
    dollar_net = net_with(systree_interval=100)
    by_name, by_wildcard = dollar_net.connect(version), dollar_net.connect(version)
    by_wildcard.subscribe(topic_filter)
    by_name.subscribe("$SYS/#")
    assert by_name.receive().topic.startswith("$SYS/")
    fence(by_name, by_wildcard)


@in_v3("MQTT-4.7.3-4")
@in_v5("MQTT-4.7.3-4")
@both_versions
def test_topics_are_passed_on_as_they_were_published(net: Network, version: Version) -> None:
    root = unique("t")
    client = net.connect(version)
    client.subscribe(f"{root}/#")
    names = ["", " ", "A", "a", "é", "e\u0301", "..", "%20", "a b", "\u3000", "//"]
    for name in names:
        client.publish(f"{root}/{name}", b"x")
        assert client.receive().topic == f"{root}/{name}"
