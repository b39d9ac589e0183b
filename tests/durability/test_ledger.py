"""The ledger finds every kind of fault: what a broker without it would have done, and what is said of it."""

from collections.abc import Callable
from itertools import count

import pytest

from durability.ledger import Kind, Ledger, Message, Problem, Span, SubscriberPage, matches
from protocol.answers import Publish


class Story:
    """A publisher `p`, a subscriber `s` of QoS 2 with a subscription for everything, and a clock that ticks."""

    def __init__(self, topic_filter: str = "#", qos: int = 2) -> None:
        self.ledger = Ledger()
        self.clock = count()
        self.page = self.subscriber("s", topic_filter, qos)
        self.numbers = count(1)

    def subscriber(self, name: str, topic_filter: str, qos: int = 2) -> SubscriberPage:
        page = self.ledger.page(name)
        page.spans.append(Span(topic_filter, qos, asked_at=next(self.clock), granted_at=next(self.clock)))
        return page

    def published(self, topic: str = "t", *, qos: int = 2, sends: int = 1, accepted: bool = True) -> Message:
        number = next(self.numbers)
        message = Message("p", number, topic, qos, False, b"p %d body" % number, next(self.clock), sends)
        self.ledger.begin(message)
        if accepted:
            self.ledger.accept(message, next(self.clock))
        return message

    def arrives(
        self,
        message: Message,
        *,
        page: SubscriberPage | None = None,
        packet_id: int | None = None,
        dup: bool = False,
        connection: int = 1,
        is_new: bool = True,
        qos: int | None = None,
        payload: bytes | None = None,
        topic: str | None = None,
        completes: bool = True,
    ) -> None:
        page = page or self.page
        publish = Publish(
            topic=message.topic if topic is None else topic,
            payload=message.payload if payload is None else payload,
            qos=message.qos if qos is None else qos,
            retain=False,
            dup=dup,
            packet_id=message.number if packet_id is None else packet_id,
            size=0,
        )
        key = page.arrived(publish, connection=connection, is_new=is_new)
        if key is not None and completes:
            page.completed(key)

    def kinds(self) -> list[Kind]:
        return [problem.kind for problem in self.ledger.judge()]


def test_a_story_without_faults_has_no_problems() -> None:
    story = Story()
    for topic in ("a", "b", "a"):
        story.arrives(story.published(topic))
    story.arrives(story.published(qos=1), qos=1)
    assert story.kinds() == []
    assert story.ledger.counts["arrivals"] == 4


def lost(story: Story) -> None:
    story.published()


def lost_between(story: Story) -> None:
    story.arrives(story.published())
    story.published()
    story.arrives(story.published())


def came_and_was_not_acknowledged(story: Story) -> None:
    story.arrives(story.published(), completes=False)


def lost_for_one_of_two(story: Story) -> None:
    story.subscriber("other", "t")
    story.arrives(story.published())


def lost_for_a_group(story: Story) -> None:
    for name in ("a", "b"):
        story.subscriber(name, "$share/crew/t")
    story.arrives(story.published())


def twice_as_new(story: Story) -> None:
    message = story.published()
    story.arrives(message)
    story.arrives(message, connection=2, dup=True)


def twice_on_one_connection(story: Story) -> None:
    message = story.published(qos=1)
    story.arrives(message)
    story.arrives(message, dup=True)


def twice_in_a_group(story: Story) -> None:
    pages = [story.subscriber(name, "$share/crew/t") for name in ("a", "b")]
    message = story.published()
    for page in (story.page, *pages):
        story.arrives(message, page=page)


def disorder(story: Story) -> None:
    first, second = story.published(), story.published()
    story.arrives(second)
    story.arrives(first)


def another_identifier(story: Story) -> None:
    message = story.published(qos=1)
    story.arrives(message, packet_id=5)
    story.arrives(message, packet_id=6, connection=2, dup=True)


def no_dup(story: Story) -> None:
    message = story.published(qos=1)
    story.arrives(message)
    story.arrives(message, connection=2)


def nobody_sent_it(story: Story) -> None:
    story.arrives(story.published(), payload=b"q 1 body", completes=False)
    story.arrives(story.ledger.messages["p", 1])


def spoilt(story: Story) -> None:
    message = story.published()
    story.arrives(message, payload=b"p 1 bodY")
    story.arrives(message)


def wrong_topic(story: Story) -> None:
    message = story.published()
    story.arrives(message, topic="u")
    story.arrives(message)


def wrong_qos(story: Story) -> None:
    story.arrives(story.published(), qos=1)


def not_subscribed(story: Story) -> None:
    message = story.published()
    story.arrives(message)
    story.arrives(message, page=story.subscriber("late", "t"))


def refused_and_delivered(story: Story) -> None:
    message = story.published(accepted=False)
    story.ledger.refuse(message, 0x97)
    story.arrives(message)


@pytest.mark.parametrize(
    ("happens", "kinds"),
    [
        (lost, [Kind.LOST]),
        (lost_between, [Kind.LOST]),
        (came_and_was_not_acknowledged, [Kind.LOST]),
        (lost_for_one_of_two, [Kind.LOST]),
        (lost_for_a_group, [Kind.LOST]),
        (twice_as_new, [Kind.TWICE, Kind.TWICE]),
        (twice_on_one_connection, [Kind.TWICE]),
        (twice_in_a_group, [Kind.TWICE]),
        (disorder, [Kind.ORDER]),
        (another_identifier, [Kind.IDENTIFIER]),
        (no_dup, [Kind.DUP]),
        (nobody_sent_it, [Kind.FOREIGN]),
        (spoilt, [Kind.FOREIGN]),
        (wrong_topic, [Kind.FOREIGN]),
        (wrong_qos, [Kind.FOREIGN]),
        (not_subscribed, [Kind.FOREIGN]),
        (refused_and_delivered, [Kind.FOREIGN]),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_each_fault_is_found(happens: Callable[[Story], None], kinds: list[Kind]) -> None:
    story = Story()
    happens(story)
    assert story.kinds() == kinds


def allowed_redelivery(story: Story) -> None:
    message = story.published()
    story.arrives(message, packet_id=5, completes=False)
    story.arrives(message, packet_id=5, connection=2, dup=True, is_new=False)


def copies_that_the_publisher_made(story: Story) -> None:
    message = story.published(qos=1, sends=2)
    story.arrives(message, packet_id=5)
    story.arrives(message, packet_id=6)


def not_acknowledged_to_the_publisher(story: Story) -> None:
    story.published(accepted=False)


def published_before_the_subscription_was_granted(story: Story) -> None:
    message = story.published(accepted=False)
    story.subscriber("late", "t")
    story.ledger.accept(message, next(story.clock))
    story.arrives(message)


def published_while_the_subscriber_left(story: Story) -> None:
    message = story.published(accepted=False)
    story.page.spans[0].leaving_at = next(story.clock)
    story.ledger.accept(message, next(story.clock))


def disorder_of_two_topics(story: Story) -> None:
    first, second = story.published("a"), story.published("b")
    story.arrives(second)
    story.arrives(first)


def one_of_a_group(story: Story) -> None:
    pages = [story.subscriber(name, "$share/crew/t") for name in ("a", "b")]
    for page in pages:
        message = story.published()
        story.arrives(message)
        story.arrives(message, page=page)


def a_copy_for_another_member_of_a_group(story: Story) -> None:
    first, second = (story.subscriber(name, "$share/crew/t") for name in ("a", "b"))
    copied, other = story.published(qos=1, sends=2), story.published(qos=1)
    for page, messages in ((story.page, (copied, other)), (second, (copied,)), (first, (other, copied))):
        for message in messages:
            story.arrives(message, page=page)


@pytest.mark.parametrize(
    "happens",
    [
        allowed_redelivery,
        copies_that_the_publisher_made,
        not_acknowledged_to_the_publisher,
        published_before_the_subscription_was_granted,
        published_while_the_subscriber_left,
        disorder_of_two_topics,
        one_of_a_group,
        a_copy_for_another_member_of_a_group,
    ],
    ids=lambda each: each.__name__,
)
def test_what_mqtt_allows_is_no_fault(happens: Callable[[Story], None]) -> None:
    story = Story()
    happens(story)
    assert story.kinds() == []


def test_where_a_promise_is_kept_after_a_while_only_older_messages_count() -> None:
    story = Story()
    old = story.published()
    assert old.accepted_at is not None
    lost_at = old.accepted_at + 10
    young = story.published(accepted=False)
    story.ledger.accept(young, lost_at - 1)

    def keys(grace: float) -> list[Problem]:
        return story.ledger.judge_losses([lost_at], grace)

    assert [problem.text.startswith("s: ('p', 1)") for problem in keys(2)] == [True]
    assert keys(20) == []


def test_the_last_acknowledged_retained_message_of_a_topic_counts() -> None:
    ledger = Ledger()
    for number, (topic, payload) in enumerate([("a", b"1"), ("a", b"2"), ("b", b"1"), ("b", b""), ("c", b"1")]):
        message = Message("p", number, topic, 1, True, payload, 0.0)
        ledger.begin(message)
        ledger.accept(message, 1.0)
    assert ledger.last_retained() == {"a": b"2", "c": b"1"}


@pytest.mark.parametrize(
    ("topic_filter", "topic", "expected"),
    [
        ("#", "a/b", True),
        ("a/#", "a", True),
        ("a/+", "a/b", True),
        ("a/+", "a/b/c", False),
        ("a/+", "a", False),
        ("+/b", "a/b", True),
        ("a/b", "a/c", False),
        ("$share/crew/a/+", "a/b", True),
        ("$share/crew/a/+", "b/b", False),
    ],
)
def test_filters_take_topics(topic_filter: str, topic: str, expected: bool) -> None:
    assert matches(topic_filter, topic) is expected
