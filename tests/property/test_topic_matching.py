"""Topic matching through the broker, against the rules of the specification written down as simply as they can be."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from engine.running import Running
from protocol import requests
from protocol.answers import Pingresp, Publish
from protocol.client import Client, unique
from protocol.requests import Filter
from protocol.wire import Property, Version
from strogoff._engine import Message

LEVELS = st.sampled_from(["", "a", "b", "aa", "$x", "é"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER_LEVELS = st.one_of(LEVELS, st.just("+"))


@st.composite
def filters(draw: st.DrawFn) -> str:
    """A filter that a client may subscribe to, often with wildcards, now and then beginning with `$`."""
    levels = draw(st.lists(FILTER_LEVELS, min_size=1, max_size=4))
    if draw(st.booleans()):
        levels.append("#")
    return "/".join(levels) or "#"


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter matches a topic name ([MQTT-4.7.1-1] to [MQTT-4.7.2-1])."""
    if topic.startswith("$") and topic_filter[0] in "+#":
        return False
    wanted, given_ = topic_filter.split("/"), topic.split("/")
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given_) or level not in ("+", given_[index]):
            return False
    return len(wanted) == len(given_)


@dataclass(slots=True)
class Listener:
    """A client whose subscriptions have identifiers, so that a message says which of them it came for."""

    client: Client
    identifiers: dict[str, int]

    def subscribe(self, topic_filters: list[str]) -> None:
        for identifier, topic_filter in enumerate(dict.fromkeys(topic_filters), 1):
            self.client.subscribe(Filter(topic_filter), properties=[(Property.SUBSCRIPTION_IDENTIFIER, identifier)])
            self.identifiers[topic_filter] = identifier


def publish(engine: Running, topics: list[str]) -> None:
    """From inside, since clients may not publish below `$`; the payload is the topic."""
    engine.engine.publish([Message(topic, topic.encode()) for topic in topics])


@given(topic_filters=st.lists(filters(), min_size=1, max_size=8), topics=st.lists(TOPICS, min_size=1, max_size=8))
def test_a_message_comes_once_for_all_subscriptions_that_match(
    engine: Running, topic_filters: list[str], topics: list[str]
) -> None:
    listener = Listener(engine.connect(Version.V5), {})
    listener.subscribe(topic_filters)
    publish(engine, topics)
    for topic in topics:
        expected = sorted(each for of, each in listener.identifiers.items() if matches(of, topic))
        if not expected:
            continue
        got = listener.client.receive()
        assert got.payload.decode() == topic
        assert sorted(map(str, got.values(Property.SUBSCRIPTION_IDENTIFIER))) == sorted(map(str, expected))
    listener.client.barrier()
    listener.client.disconnect()


@given(topic_filters=st.lists(filters(), min_size=1, max_size=8), topics=st.lists(TOPICS, min_size=1, max_size=8))
def test_after_unsubscribing_only_what_is_left_matches(
    engine: Running, topic_filters: list[str], topics: list[str]
) -> None:
    client = engine.connect(Version.V3_1_1)
    client.subscribe(*topic_filters)
    gone = topic_filters[::2]
    client.unsubscribe(*gone)
    left = [each for each in topic_filters if each not in gone]
    publish(engine, topics)
    for topic in topics:
        if any(matches(each, topic) for each in left):
            assert client.receive().payload.decode() == topic
    client.barrier()
    client.disconnect()


@given(topic_filters=st.lists(filters(), min_size=1, max_size=8), topics=st.lists(TOPICS, min_size=1, max_size=8))
def test_a_new_subscription_gets_the_retained_messages_that_match(
    engine: Running, topic_filters: list[str], topics: list[str]
) -> None:
    mountpoint = unique("m")
    engine.engine.publish([Message(topic, b"x", retain=True, mountpoint=mountpoint) for topic in topics])
    for topic_filter in topic_filters:
        found = [each.topic for each in engine.engine.retained(topic_filter, mountpoint=mountpoint)]
        assert sorted(found) == sorted({topic for topic in topics if matches(topic_filter, topic)})
    for topic in set(topics):
        assert engine.engine.delete_retained(topic, mountpoint=mountpoint)


@given(topic_filter=filters(), topic=TOPICS)
def test_a_shared_subscription_matches_as_its_filter_does(engine: Running, topic_filter: str, topic: str) -> None:
    members = [engine.connect(version) for version in (Version.V3_1_1, Version.V5)]
    group = unique("g")
    for member in members:
        member.subscribe(f"$share/{group}/{topic_filter}")
    publish(engine, [topic] * 6)
    if matches(topic_filter, topic):
        assert count_arrivals(members) == 6
    for member in members:
        member.barrier()
        member.disconnect()


def count_arrivals(members: list[Client]) -> int:
    """Messages that all members together got; each has answered a PINGREQ after the last of them."""
    count = 0
    for member in members:
        member.send(requests.pingreq())
        member.expect(Pingresp)
        while member.poll(Publish, within=0.0) is not None:
            count += 1
    return count
