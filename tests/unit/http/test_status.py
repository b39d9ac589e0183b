"""Who is told the status of a node."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from strogoff.broker import Broker
from strogoff.cluster.requests import RemoteError
from strogoff.http.status import serve_other_nodes

Serving = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Node:
    """A node as its status page sees it. It has no figures: whoever is told them finds that out."""

    node_name = "one@127.0.0.1"

    def __init__(self, members: list[str]) -> None:
        self.cluster = self
        self.members = members
        self.told: dict[str, Serving] = {}

    def serve(self, kind: str, handler: Serving) -> None:
        self.told[kind] = handler

    def reachable(self) -> list[str]:
        return self.members

    @property
    def has_begun(self) -> bool:
        raise LookupError("figures")


def ask(members: list[str], asking: str) -> None:
    node = Node(members)
    serve_other_nodes(cast("Broker", node))
    asyncio.run(cast("Any", node.told["status"](asking, {})))


def test_a_node_with_a_link_that_is_no_member_is_not_told_the_status() -> None:
    with pytest.raises(RemoteError, match=r"stranger@10\.0\.0\.9 is no member that one@127\.0\.0\.1 can reach"):
        ask(["two@127.0.0.1"], "stranger@10.0.0.9")


def test_a_member_is_told_the_status() -> None:
    with pytest.raises(LookupError, match="figures"):
        ask(["two@127.0.0.1"], "two@127.0.0.1")
