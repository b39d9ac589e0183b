"""Requests between nodes: an answer, an error of the other side, or none in time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests

Talk = Callable[[Requests, Requests], Awaitable[None]]


def between_two(talk: Talk, *, is_up: bool = True) -> None:
    """Let two nodes, a and b, talk over a link that delivers at once."""

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            ends: dict[str, Requests] = {}

            def sender(own: str) -> Callable[[str, bytes], bool]:
                def send(node: str, data: bytes) -> bool:
                    if is_up:
                        asyncio.get_running_loop().call_soon(ends[node].receive, own, data)
                    return is_up

                return send

            ends["a"], ends["b"] = Requests(sender("a"), tasks), Requests(sender("b"), tasks)
            await talk(ends["a"], ends["b"])

    asyncio.run(run())


async def doubled(_: str, payload: dict[str, Any]) -> dict[str, Any]:
    return {"twice": payload["number"] * 2}


async def refused(_: str, __: dict[str, Any]) -> dict[str, Any]:
    raise RemoteError("not today")


async def broken(_: str, __: dict[str, Any]) -> dict[str, Any]:
    raise ZeroDivisionError


async def silent(_: str, __: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.2)
    return {}


def test_each_request_gets_its_own_answer() -> None:
    async def talk(a: Requests, b: Requests) -> None:
        b.serve("double", doubled)
        answers = await asyncio.gather(*(a.ask("b", "double", {"number": n}, timeout_s=5) for n in range(50)))
        assert [answer["twice"] for answer in answers] == [2 * n for n in range(50)]

    between_two(talk)


@pytest.mark.parametrize(
    ("handler", "reason"), [(refused, "not today"), (broken, "an internal error"), (None, "knows no requests 'it'")]
)
def test_an_error_of_the_other_side_is_told(handler: Any, reason: str) -> None:
    async def talk(a: Requests, b: Requests) -> None:
        if handler is not None:
            b.serve("it", handler)
        with pytest.raises(RemoteError, match=reason):
            await a.ask("b", "it", {}, timeout_s=5)

    between_two(talk)


def test_no_answer_in_time_is_told_and_a_late_one_harms_nobody() -> None:
    async def talk(a: Requests, b: Requests) -> None:
        b.serve("it", silent)
        with pytest.raises(NoAnswerError, match=r"b did not answer within 0\.05 s"):
            await a.ask("b", "it", {}, timeout_s=0.05)
        await asyncio.sleep(0.3)

    between_two(talk)


def test_a_link_that_goes_down_ends_the_wait() -> None:
    async def talk(a: Requests, b: Requests) -> None:
        b.serve("it", silent)
        asking = asyncio.ensure_future(a.ask("b", "it", {}, timeout_s=60))
        await asyncio.sleep(0)
        a.lost("b")
        with pytest.raises(NoAnswerError, match="the link to b went down"):
            await asking

    between_two(talk)


def test_a_node_that_is_not_reachable_is_told_at_once() -> None:
    async def talk(a: Requests, _: Requests) -> None:
        with pytest.raises(NoAnswerError, match="b is not reachable"):
            await a.ask("b", "it", {}, timeout_s=60)

    between_two(talk, is_up=False)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"{}", b'{"version":2,"what":"x","id":1,"kind":"k","payload":{}}']
)
def test_bytes_that_are_no_message_are_dropped(data: bytes) -> None:
    async def talk(a: Requests, b: Requests) -> None:
        b.serve("double", doubled)
        b.receive("a", data)
        assert (await a.ask("b", "double", {"number": 1}, timeout_s=5))["twice"] == 2

    between_two(talk)
