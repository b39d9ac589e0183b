"""What publishers were promised and what subscribers got, and the judgement over it. Pure: no sockets, no clock.

The devices of `devices.py` enter what they see. What is wrong whatever comes later is noted at once; what only the end
can show is found by `judge`. Times are any clock that grows; all entries of one ledger use the same.
"""

import enum
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice, takewhile
from typing import TypeAlias

from protocol.answers import Publish

__all__ = ["Kind", "Ledger", "Message", "MessageKey", "Problem", "Span", "SubscriberPage", "matches", "told"]

MessageKey: TypeAlias = tuple[str, int]
"""Publisher and number; the numbers of a publisher grow in the order in which it publishes."""

SHARE = "$share/"


class Kind(enum.Enum):
    """The promises that can be broken."""

    LOST = "a message that was acknowledged did not arrive"
    TWICE = "a message was delivered more than once"
    ORDER = "messages of one publisher and topic came out of order"
    IDENTIFIER = "a packet identifier changed, or was used for two messages"
    DUP = "a redelivery did not have DUP set"
    SESSION = "session present was wrong"
    FOREIGN = "something arrived that was not to arrive, or was not what was sent"
    UNFINISHED = "an exchange of packets did not come to its end"
    PROTOCOL = "a packet broke the protocol"
    RETAINED = "a retained message was not the last one that was acknowledged"


@dataclass(slots=True, frozen=True)
class Problem:
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.kind.name}: {self.text}"


def told(problems: list["Problem"], most: int = 5) -> str:
    """What is wrong, for a person: how often each kind came, and the first of each."""
    kinds = Counter(problem.kind for problem in problems)
    lines = []
    for kind, number in kinds.items():
        lines.append(f"{number} times {kind.name}, {kind.value}:")
        lines += [f"    {problem.text}" for problem in problems if problem.kind is kind][:most]
    return "\n".join(lines)


@dataclass(slots=True)
class Message:
    """One message as its publisher knows it."""

    publisher: str
    number: int
    topic: str
    qos: int
    retain: bool
    payload: bytes
    begun_at: float
    sends: int = 0
    accepted_at: float | None = None
    """When the publisher got PUBACK or PUBREC."""
    refused_with: int | None = None

    @property
    def key(self) -> MessageKey:
        return self.publisher, self.number

    @property
    def has_one_copy(self) -> bool:
        """Whether the broker knows that it is one message: QoS 1 that is sent again may have become two."""
        return self.qos == 2 or self.sends == 1


@dataclass(slots=True)
class Span:
    """The life of one subscription. Between asking and the answer it may exist or not."""

    topic_filter: str
    qos: int
    asked_at: float
    granted_at: float = math.inf
    leaving_at: float = math.inf
    left_at: float = math.inf

    def must_have(self, message: Message) -> bool:
        return (
            message.accepted_at is not None
            and message.begun_at >= self.granted_at
            and message.accepted_at <= self.leaving_at
            and matches(self.topic_filter, message.topic)
        )

    def may_have(self, message: Message) -> bool:
        ended = message.accepted_at if message.accepted_at is not None else math.inf
        return ended >= self.asked_at and message.begun_at <= self.left_at and matches(self.topic_filter, message.topic)


@dataclass(slots=True)
class _Receipt:
    """What one subscriber got of one message."""

    packet_id: int
    connection: int
    arrivals: int = 0
    deliveries: int = 0
    is_complete: bool = False
    """The subscriber has sent PUBACK or PUBREC."""


@dataclass(slots=True)
class SubscriberPage:
    """What one subscriber asked for and got."""

    name: str
    ledger: "Ledger"
    spans: list[Span] = field(default_factory=list)
    receipts: dict[MessageKey, _Receipt] = field(default_factory=dict)
    _last_first: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def group(self) -> str | None:
        """The filter of a shared subscription, whose members share one duty."""
        shared = (span.topic_filter for span in self.spans if span.topic_filter.startswith(SHARE))
        return next(shared, None)

    def arrived(self, publish: Publish, *, connection: int, is_new: bool) -> MessageKey | None:
        """Enter a PUBLISH of QoS 1 or 2. `is_new`: by the receiver's rules for its QoS it is no repetition."""
        message = self.ledger.identify(publish)
        if message is None or publish.packet_id is None:
            self._note(Kind.FOREIGN, f"got {publish}, which nobody sent")
            return None
        receipt = self.receipts.get(message.key)
        if receipt is None:
            receipt = self.receipts[message.key] = _Receipt(publish.packet_id, connection)
            self._first(message, publish)
        else:
            self._again(message, receipt, publish, connection, is_new=is_new)
        receipt.arrivals += 1
        receipt.deliveries += is_new
        receipt.packet_id, receipt.connection = publish.packet_id, connection
        self.ledger.counts["arrivals"] += 1
        self.ledger.counts["redeliveries"] += publish.dup
        return message.key

    def completed(self, key: MessageKey) -> None:
        """The subscriber sends PUBACK or PUBREC, and so takes the message over."""
        self.receipts[key].is_complete = True

    def _first(self, message: Message, publish: Publish) -> None:
        flow = (message.publisher, message.topic)
        before = self._last_first.get(flow, -1)
        # A copy that the publisher made may go to another member of a group than the first one.
        if message.number < before and (self.group is None or message.has_one_copy):
            self._note(Kind.ORDER, f"got {message.key} on {message.topic} for the first time after {before}")
        self._last_first[flow] = max(before, message.number)
        granted = [span.qos for span in self.spans_of(message)]
        # Whether it may have come at all is judged at the end, when it is known how long its publisher waited.
        if granted and publish.qos not in {min(message.qos, qos) for qos in granted}:
            self._note(Kind.FOREIGN, f"got {message.key} with QoS {publish.qos}, was granted {granted}")

    def _again(self, message: Message, receipt: _Receipt, publish: Publish, connection: int, *, is_new: bool) -> None:
        if not message.has_one_copy:
            return
        what = f"{message.key}, QoS {publish.qos}, connection {connection}"
        if connection == receipt.connection:
            self._note(Kind.TWICE, f"{what}: came twice on one connection")
        if publish.packet_id != receipt.packet_id:
            self._note(Kind.IDENTIFIER, f"{what}: came as {receipt.packet_id} before, now as {publish.packet_id}")
        if not publish.dup:
            self._note(Kind.DUP, f"{what}: came as {publish.packet_id} again without DUP")
        if publish.qos == 2 and is_new and receipt.deliveries:
            self._note(Kind.TWICE, f"{what}: came again after it was complete")

    def _note(self, kind: Kind, text: str) -> None:
        self.ledger.note(kind, f"{self.name} {text}")

    def spans_of(self, message: Message) -> Iterator[Span]:
        """The subscriptions for which it may have come. A subscriber has one at a time, so the search ends early."""
        for span in reversed(self.spans):
            if span.may_have(message):
                yield span
            if span.asked_at < message.begun_at:
                return

    def unexpected(self) -> Iterator[Message]:
        for key in self.receipts:
            message = self.ledger.messages[key]
            if not any(True for _ in self.spans_of(message)):
                yield message


@dataclass(slots=True)
class Ledger:
    """All that was published and received in one run."""

    messages: dict[MessageKey, Message] = field(default_factory=dict)
    pages: dict[str, SubscriberPage] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    # -- entries -----------------------------------------------------------------------------------------------

    def note(self, kind: Kind, text: str) -> None:
        self.problems.append(Problem(kind, text))

    def page(self, name: str) -> SubscriberPage:
        return self.pages.setdefault(name, SubscriberPage(name, self))

    def begin(self, message: Message) -> None:
        assert message.key not in self.messages, f"{message.key} is in the ledger already"
        self.messages[message.key] = message

    def accept(self, message: Message, now: float) -> None:
        message.accepted_at = now
        self.counts["accepted"] += 1

    def refuse(self, message: Message, code: int) -> None:
        message.refused_with = code
        self.counts["refused"] += 1

    def count_as_of(self, moment: float) -> None:
        """What was entered later than this was said by then, by a broker that ended then."""
        for message in self.messages.values():
            if message.accepted_at is not None:
                message.accepted_at = min(message.accepted_at, moment)
        for span in (span for page in self.pages.values() for span in page.spans):
            if span.granted_at < math.inf:
                span.granted_at = min(span.granted_at, moment)

    def identify(self, publish: Publish) -> Message | None:
        """The message that this is a copy of, in topic and in every byte; None for anything else."""
        publisher, _, rest = publish.payload.partition(b" ")
        number = rest.partition(b" ")[0]
        if not number.isdigit():
            return None
        message = self.messages.get((publisher.decode(errors="replace"), int(number)))
        if message is None or (message.topic, message.payload) != (publish.topic, publish.payload):
            return None
        return message

    # -- judgement ---------------------------------------------------------------------------------------------

    def due(self, is_promised: Callable[[float], bool] = lambda _: True) -> list[tuple[str, MessageKey]]:
        """Whom which message must reach: subscriber, or filter of the shared group, and message.

        `is_promised`: whether what was acknowledged at this time must have been kept.
        """
        duties: dict[tuple[str, MessageKey], None] = {}
        # They are in the order in which they were begun.
        messages = list(self.messages.values())
        for page in self.pages.values():
            for span in page.spans:
                if not is_promised(span.granted_at):
                    continue
                first = bisect_left(messages, span.granted_at, key=lambda each: each.begun_at)
                for message in takewhile(partial(_is_begun_by, span.leaving_at), islice(messages, first, None)):
                    if span.must_have(message) and is_promised(message.accepted_at or math.inf):
                        duties[page.group or page.name, message.key] = None
        return list(duties)

    def has(self, who: str, key: MessageKey) -> bool:
        """Whether the message reached this subscriber, or a member of this group, who has taken it over."""
        return any(key in page.receipts and page.receipts[key].is_complete for page in self._pages_of(who))

    def _pages_of(self, who: str) -> list[SubscriberPage]:
        if who in self.pages:
            return [self.pages[who]]
        return [page for page in self.pages.values() if page.group == who]

    def missing(self) -> list[tuple[str, MessageKey]]:
        return [(who, key) for who, key in self.due() if not self.has(who, key)]

    def judge(self) -> list[Problem]:
        """Everything that is wrong, what was noted on the way first. Call it when all has been drained."""
        return [*self.problems, *self._lost(self.missing()), *self._doubled(), *self._unwanted()]

    def judge_losses(self, lost_at: list[float], grace: float) -> list[Problem]:
        """What is wrong where only that is promised which was acknowledged longer than `grace` before the next loss.

        What was younger may be lost, doubled or out of order.
        """

        def is_promised(moment: float) -> bool:
            return min((each for each in lost_at if each >= moment), default=math.inf) > moment + grace

        missing = [(who, key) for who, key in self.due(is_promised) if not self.has(who, key)]
        noted = [each for each in self.problems if each.kind in (Kind.FOREIGN, Kind.PROTOCOL)]
        return [*noted, *self._lost(missing)]

    def _lost(self, missing: list[tuple[str, MessageKey]]) -> list[Problem]:
        found = []
        for who, key in missing:
            message = self.messages[key]
            receipts = [page.receipts[key] for page in self._pages_of(who) if key in page.receipts]
            seen = "came, was not acknowledged, and did not come again" if receipts else "did not come"
            found.append(
                Problem(
                    Kind.LOST,
                    f"{who}: {key} on {message.topic}, QoS {message.qos}, accepted at {message.accepted_at}, {seen}",
                )
            )
        return found

    def _doubled(self) -> list[Problem]:
        """QoS 2 from end to end: once for a subscriber, and once for a shared group."""
        found = []
        deliveries: Counter[tuple[str, MessageKey]] = Counter()
        for page in self.pages.values():
            if not page.spans or min(span.qos for span in page.spans) < 2:
                continue
            for key, receipt in page.receipts.items():
                if self.messages[key].qos == 2:
                    deliveries[page.group or page.name, key] += receipt.deliveries
        for (who, key), count in deliveries.items():
            if count > 1:
                found.append(Problem(Kind.TWICE, f"{who}: {key} was delivered {count} times at QoS 2"))
        return found

    def _unwanted(self) -> list[Problem]:
        found = []
        for page in self.pages.values():
            found += [
                Problem(Kind.FOREIGN, f"{page.name} got {message.key} without a subscription for it")
                for message in page.unexpected()
            ]
            for key in page.receipts:
                message = self.messages[key]
                if message.refused_with is not None and message.sends == 1:
                    code = f"0x{message.refused_with:02x}"
                    found.append(Problem(Kind.FOREIGN, f"{page.name} got {key}, which was refused with {code}"))
        return found

    def last_retained(self) -> dict[str, bytes]:
        """Topic -> payload of what must be retained now, if every publisher has come to its end."""
        kept: dict[str, bytes] = {}
        for message in sorted(self.messages.values(), key=lambda each: each.number):
            if message.retain and message.accepted_at is not None:
                kept[message.topic] = message.payload
        return {topic: payload for topic, payload in kept.items() if payload}


def _is_begun_by(moment: float, message: Message) -> bool:
    return message.begun_at <= moment


@lru_cache(maxsize=65_536)
def matches(topic_filter: str, topic: str) -> bool:
    """Whether a filter, which may be a shared one, takes a topic (4.7)."""
    if topic_filter.startswith(SHARE):
        topic_filter = topic_filter.split("/", 2)[2]
    wanted, levels = topic_filter.split("/"), topic.split("/")
    for index, each in enumerate(wanted):
        if each == "#":
            return True
        if index >= len(levels) or each not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)
