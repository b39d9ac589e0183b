"""Messages: what is encoded is decoded again, and whatever else comes is refused, without taking more memory than it
has bytes."""

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strogoff.cluster.swc import Actor, DecodeError, RefusalReason, Replica
from strogoff.cluster.swc.clock import normalised
from strogoff.cluster.swc.container import encoded
from strogoff.cluster.swc.dots import COUNTER_MAX, COUNTER_SHIFT
from strogoff.cluster.swc.messages import (
    Broadcast,
    Message,
    PageState,
    PullAnswer,
    PullRefusal,
    PullRequest,
    decode,
    encode,
)

U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
KEYS = st.binary(max_size=20)
VALUES = st.one_of(st.none(), st.binary(max_size=40))
ENTRIES = st.builds(normalised, st.integers(0, 1 << 40), st.integers(0, 1 << 80))

ACTORS = st.dictionaries(
    st.integers(0, 0xFFFF), st.builds(Actor, st.text(max_size=30), U64), min_size=1, max_size=5
).filter(lambda actors: len(set(actors.values())) == len(actors))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    actors = draw(ACTORS)
    indices = st.sampled_from(sorted(actors))
    dots = st.builds(lambda actor, counter: counter << COUNTER_SHIFT | actor, indices, st.integers(1, COUNTER_MAX))
    clocks = st.dictionaries(indices, ENTRIES)
    columns = st.dictionaries(indices, st.dictionaries(indices, st.integers(0, 1 << 40)))
    clock = draw(clocks)
    retired = frozenset(draw(st.lists(st.sampled_from(sorted(clock)))) if clock else ())
    match draw(st.integers(0, 3)):
        case 0:
            items = draw(st.lists(st.tuples(KEYS, VALUES, st.lists(dots, max_size=3).map(tuple)), max_size=8))
            return Broadcast(actors, draw(indices), draw(st.integers(1, 1 << 46)), items)
        case 1:
            return PullRequest(
                actors, draw(U64), draw(U64), draw(U32), draw(st.booleans()), draw(U64), clock, retired, draw(columns)
            )
        case 2:
            rows = st.builds(encoded, st.dictionaries(dots, VALUES, min_size=1, max_size=4))
            position, following = sorted((draw(U32), draw(U32)))
            return PullAnswer(
                actors,
                draw(U64),
                draw(U64),
                position,
                following,
                draw(st.sampled_from(PageState)),
                clock,
                retired,
                draw(clocks),
                draw(st.none() | clocks),
                draw(columns),
                draw(st.lists(st.tuples(KEYS, rows), max_size=6)),
            )
        case _:
            return PullRefusal(draw(U64), draw(st.sampled_from(RefusalReason)))


@given(messages())
def test_a_message_comes_out_as_it_went_in(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_a_decode_error(data: bytes) -> None:
    refused_or_read(data)
    for kind in range(6):
        refused_or_read(bytes((1, kind)) + data)


@given(messages(), st.data())
def test_a_damaged_message_is_a_message_or_a_decode_error(message: Message, data: st.DataObject) -> None:
    encoded_message = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded_message) - 1))
        encoded_message[at] = data.draw(st.integers(0, 255))
    refused_or_read(bytes(encoded_message))
    refused_or_read(bytes(encoded_message[: data.draw(st.integers(0, len(encoded_message)))]))


@given(messages(), st.data())
def test_a_replica_survives_whatever_a_member_sends(message: Message, data: st.DataObject) -> None:
    one, other = Actor("one", 1), Actor("other", 2)
    replica = Replica(one, members=[one, other], nonce=0)
    replica.put(b"k", b"v")
    encoded_message = bytearray(encode(message))
    encoded_message[data.draw(st.integers(0, len(encoded_message) - 1))] = data.draw(st.integers(0, 255))
    for sender in (other, Actor("stranger", 3)):
        try:
            replica.receive(sender, bytes(encoded_message))
        except DecodeError:
            continue
    assert replica.get(b"k") == b"v"
    replica.take()


def refused_or_read(data: bytes) -> None:
    try:
        decode(data)
    except DecodeError:
        return


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x01\x01" + b"\xff" * 4, id="actors"),
        pytest.param(b"\x01\x01" + bytes(4) + struct.pack("<HQI", 0, 1, 0xFFFF_FFFF), id="items"),
        pytest.param(b"\x01\x02" + bytes(4) + bytes(29) + b"\xff" * 4, id="entries"),
        pytest.param(b"\x01\x03" + bytes(4) + bytes(26) + b"\xff" * 40, id="rows"),
    ],
)
def test_a_count_of_things_that_do_not_follow_takes_no_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_an_entry_may_not_claim_dots_far_above_its_base() -> None:
    actor = {0: Actor("a", 1)}
    request = PullRequest(actor, 1, 0, 0, whole=False, past_digest=0, clock={0: (0, 1 << 70_000)}, retired=frozenset())
    with pytest.raises(DecodeError, match="no clock"):
        decode(encode(request))


def test_another_version_is_told_by_its_number() -> None:
    with pytest.raises(DecodeError, match="version 9"):
        decode(b"\x09\x01")
