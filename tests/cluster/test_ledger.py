"""The ledger finds what a cluster must not do: a judge that sees nothing would pass everything."""

import pytest

from cluster.ledger import Ledger, Stream, read_payload


def judged(qos: int, acknowledged: list[int], delivered: list[int]) -> None:
    """Judge one subscriber of one stream of ten messages."""
    ledger, stream = Ledger(), Stream("p", "t", qos)
    for _ in range(10):
        ledger.next_number(stream)
    for number in acknowledged:
        ledger.note_acknowledged(stream, number)
    for number in delivered:
        ledger.note_delivery("s", *read_payload("t", stream.payload(number)))
    ledger.judge("s", [stream])


@pytest.mark.parametrize(
    ("qos", "acknowledged", "delivered"),
    [
        pytest.param(0, [], [0, 2, 3], id="QoS 0 may get lost"),
        pytest.param(1, [0, 1], [0, 1, 2], id="QoS 1 may arrive without an acknowledgement"),
        pytest.param(1, [0, 1], [0, 1, 0, 1, 2], id="QoS 1 may come twice"),
        pytest.param(2, [0, 1], [0, 1, 2], id="QoS 2 once and in order"),
    ],
)
def test_what_is_promised_passes(qos: int, acknowledged: list[int], delivered: list[int]) -> None:
    judged(qos, acknowledged, delivered)


@pytest.mark.parametrize(
    ("qos", "acknowledged", "delivered", "finding"),
    [
        pytest.param(1, [0, 1, 2], [0, 2], r"1 that were acknowledged are missing: \[1\]", id="QoS 1 is lost"),
        pytest.param(2, [0], [], "missing", id="QoS 2 is lost"),
        pytest.param(2, [0, 1], [0, 1, 1], r"1 came twice: \[1\]", id="QoS 2 comes twice"),
        pytest.param(0, [], [0, 0], "came twice", id="QoS 0 comes twice"),
        pytest.param(1, [0, 1], [1, 0], "0 came after 1", id="the order is not kept"),
        pytest.param(1, [0], [0, 10], "10 was never sent", id="what nobody sent arrives"),
    ],
)
def test_what_breaks_a_promise_is_found(qos: int, acknowledged: list[int], delivered: list[int], finding: str) -> None:
    with pytest.raises(AssertionError, match=finding):
        judged(qos, acknowledged, delivered)


def test_a_group_must_get_each_message_and_qos_2_only_once() -> None:
    ledger, stream = Ledger(), Stream("p", "t", 2)
    for _ in range(3):
        ledger.note_acknowledged(stream, ledger.next_number(stream))
    ledger.note_delivery("a", stream, 0)
    ledger.note_delivery("b", stream, 1)
    with pytest.raises(AssertionError, match=r"1 came to nobody: \[2\]"):
        ledger.judge_group(["a", "b"], [stream])
    ledger.note_delivery("a", stream, 2)
    ledger.judge_group(["a", "b"], [stream])
    ledger.note_delivery("b", stream, 2)
    with pytest.raises(AssertionError, match="came to two members"):
        ledger.judge_group(["a", "b"], [stream])
