"""What was acknowledged and what arrived, and whether that is what a cluster promises."""

import itertools
import threading
from collections import defaultdict
from dataclasses import dataclass

EXACTLY_ONCE = 2


@dataclass(frozen=True, slots=True)
class Stream:
    """What one publisher sends to one topic, numbered from 0."""

    publisher: str
    topic: str
    qos: int

    def payload(self, number: int) -> bytes:
        return f"{self.publisher} {self.qos} {number}".encode()

    def __str__(self) -> str:
        return f"QoS {self.qos} from {self.publisher} on {self.topic}"


def read_payload(topic: str, payload: bytes) -> tuple[Stream, int]:
    """The stream and the number of a message."""
    publisher, qos, number = payload.decode().split()
    return Stream(publisher, topic, int(qos)), int(number)


class Ledger:
    """Clients on any thread write into it; it is judged when they have stopped.

    A delivery is written down before its acknowledgement is sent, an acknowledged publish when its acknowledgement is
    there, so neither side can blame the other.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[Stream, int] = defaultdict(int)
        self._acknowledged: dict[Stream, set[int]] = defaultdict(set)
        self._deliveries: dict[tuple[str, Stream], list[int]] = defaultdict(list)
        self._first: dict[Stream, int] = defaultdict(int)

    def begin(self, stream: Stream, number: int) -> None:
        """Messages before this one prove nothing: the subscriptions were not there yet."""
        self._first[stream] = number

    def next_number(self, stream: Stream) -> int:
        """The number for a message that is about to be sent."""
        with self._lock:
            self._sent[stream] += 1
            return self._sent[stream] - 1

    def note_acknowledged(self, stream: Stream, number: int) -> None:
        with self._lock:
            self._acknowledged[stream].add(number)

    def note_delivery(self, subscriber: str, stream: Stream, number: int) -> None:
        with self._lock:
            self._deliveries[subscriber, stream].append(number)

    def acknowledged(self, stream: Stream) -> set[int]:
        """Numbers that were acknowledged, up to now."""
        with self._lock:
            return {number for number in self._acknowledged[stream] if number >= self._first[stream]}

    def delivered(self, subscriber: str, stream: Stream) -> list[int]:
        """Numbers that arrived, in order, up to now."""
        with self._lock:
            return list(self._deliveries[subscriber, stream])

    def missing(self, streams: list[Stream], *subscribers: str) -> set[int]:
        """Numbers that were acknowledged and came to none of the subscribers."""
        missing: set[int] = set()
        for stream in streams:
            if stream.qos:
                missing |= self.acknowledged(stream).difference(*(self.delivered(each, stream) for each in subscribers))
        return missing

    def judge(self, subscriber: str, streams: list[Stream]) -> None:
        """Raises `AssertionError` where an acknowledged message is missing, one came twice, or not in order."""
        for stream in streams:
            where = f"{subscriber}: {stream}"
            numbers = self.delivered(subscriber, stream)
            missing = self.missing([stream], subscriber)
            assert not missing, f"{where}: {len(missing)} that were acknowledged are missing: {sorted(missing)[:20]}"
            self.judge_order(where, stream, numbers)

    def judge_order(self, where: str, stream: Stream, numbers: list[int]) -> None:
        """The order of the publisher, and nothing twice but with QoS 1. `where`: for the message of the error."""
        firsts = list(dict.fromkeys(numbers))
        for earlier, later in itertools.pairwise(firsts):
            assert earlier < later, f"{where}: {later} came after {earlier}"
        assert not firsts or firsts[-1] < self._sent[stream], f"{where}: {firsts[-1]} was never sent"
        if stream.qos != 1:
            twice = sorted({number for number in firsts if numbers.count(number) > 1}) if firsts != numbers else []
            assert not twice, f"{where}: {len(twice)} came twice: {twice[:20]}"

    def judge_group(self, subscribers: list[str], streams: list[Stream]) -> None:
        """For a shared subscription: every acknowledged message came to one of them, each got what it got in order."""
        for stream in streams:
            missing = self.missing([stream], *subscribers)
            assert not missing, f"{stream}: {len(missing)} came to nobody: {sorted(missing)[:20]}"
            everything: list[int] = []
            for subscriber in subscribers:
                numbers = self.delivered(subscriber, stream)
                everything += set(numbers)
                self.judge_order(f"{subscriber}: {stream}", stream, numbers)
            if stream.qos == EXACTLY_ONCE:
                assert len(everything) == len(set(everything)), f"{stream}: one message came to two members"
