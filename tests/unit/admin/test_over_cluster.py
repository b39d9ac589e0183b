"""Commands over several nodes, where the nodes are a table of what each one answers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from strogoff.admin.arguments import Call, parse
from strogoff.admin.over_cluster import ANSWER_BYTES_MAX, answer, serve_other_nodes
from strogoff.admin.registry import Command, Flag, FlagKind, Reach, Registry
from strogoff.admin.result import CommandError, NotHereError, Result, Table, Text
from strogoff.broker import Broker
from strogoff.cluster.requests import NoAnswerError, RemoteError

FLAGS = (Flag("node", "", kind=FlagKind.FIELD),)

Serving = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]


class Node:
    """A node as commands see it: its name, those it knows, and what it has."""

    def __init__(self, name: str, has: Result | Exception, nodes: "dict[str, Node]", reach: Reach) -> None:
        self.node_name = name
        self.cluster = self.requests = self
        self.has = has
        self.nodes = nodes
        self.is_silent = False
        self.delay_s = 0.0
        self.command = Command(("rows", "show"), "Rows.", self._command, flags=FLAGS, reach=reach)
        nodes[name] = self
        serve_other_nodes(cast("Broker", self), Registry([self.command]))

    async def _command(self, _broker: Broker, _call: Call) -> Result:
        await asyncio.sleep(self.delay_s)
        if isinstance(self.has, Exception):
            raise self.has
        return self.has

    def serve(self, _kind: str, handler: Serving) -> None:
        self.handler = handler

    def others(self) -> list[str]:
        return sorted(self.nodes.keys() - {self.node_name})

    def reachable(self) -> list[str]:
        return [node for node in self.others() if not self.nodes[node].is_silent]

    async def ask(self, node: str, _kind: str, payload: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        assert timeout_s > 0
        if self.nodes[node].is_silent:
            raise NoAnswerError(f"{node} is not reachable")
        return await self.nodes[node].handler(self.node_name, payload)

    def run(self, *words: str) -> Result:
        return asyncio.run(answer(cast("Broker", self), self.command, parse(self.command, words)))


def cluster(reach: Reach, **has: Result | Exception) -> list[Node]:
    nodes: dict[str, Node] = {}
    return [Node(name, each, nodes, reach) for name, each in has.items()]


def table(*values: str) -> Result:
    return Result.of(Table(("value",), [(value,) for value in values]))


def values(result: Result) -> list[object]:
    (part,) = result.parts
    assert isinstance(part, Table)
    return [value for (value,) in part.rows]


def test_rows_of_all_nodes_are_one_table_with_those_of_this_node_first() -> None:
    _, b, _ = cluster(Reach.CLUSTER, a=table("1"), b=table("2", "3"), c=table())
    assert values(b.run()) == ["2", "3", "1"]


def test_texts_stand_one_below_the_other_and_what_programs_read_is_one_table() -> None:
    texts = {name: Result.of(Text(f"of {name}", Table(("of",), [(name,)]))) for name in "ab"}
    a, _ = cluster(Reach.CLUSTER, **texts)
    assert a.run().parts == (Text("of a\nof b", Table(("of",), [("a",), ("b",)])),)


@pytest.mark.parametrize(
    ("reach", "words", "expected"),
    [
        (Reach.NODE, (), ["1"]),
        (Reach.NODE, ("--node",), ["1"]),
        (Reach.NODES_ASKED_FOR, (), ["1"]),
        (Reach.NODES_ASKED_FOR, ("--node",), ["1", "2"]),
        (Reach.NODES_ASKED_FOR, ("--node=b",), ["2"]),
        (Reach.NODES_ASKED_FOR, ("--node=a",), ["1"]),
        (Reach.CLUSTER, (), ["1", "2"]),
        (Reach.CLUSTER, ("--node=b",), ["2"]),
        (Reach.CLUSTER, ("--node=~a|b",), ["1", "2"]),
    ],
)
def test_which_nodes_answer_is_said_by_the_command_and_by_the_node_flag(
    reach: Reach, words: tuple[str, ...], expected: list[str]
) -> None:
    a, _ = cluster(reach, a=table("1"), b=table("2"))
    assert values(a.run(*words)) == expected


def test_a_node_that_is_not_in_the_cluster_is_an_error_that_names_those_that_are() -> None:
    a, _ = cluster(Reach.CLUSTER, a=table(), b=table())
    with pytest.raises(CommandError, match="--node=d: no such node; the cluster has a, b"):
        a.run("--node=d")


def test_a_node_that_does_not_answer_is_told_beside_what_others_said() -> None:
    a, b, _ = cluster(Reach.CLUSTER, a=table("1"), b=table("2"), c=CommandError("it starts"))
    b.is_silent = True
    result = a.run()
    assert values(result) == ["1"]
    assert result.notes == ("b is left out: b is not reachable", "c is left out: it starts")
    with pytest.raises(CommandError, match="b: b is not reachable"):
        a.run("--node=b")


def test_notes_of_nodes_say_whose_they_are() -> None:
    a, _ = cluster(Reach.CLUSTER, a=table("1"), b=Result.of(Table(("value",), []), notes=["there is more"]))
    assert a.run().notes == ("b: there is more",)


def test_a_node_sends_no_more_than_so_many_bytes_of_rows_and_says_where_it_stopped() -> None:
    value = "x" * 1_000
    number = ANSWER_BYTES_MAX // 1_000 + 10
    a, _ = cluster(Reach.CLUSTER, a=table(), b=table(*[value] * number))
    result = a.run()
    assert 0 < len(values(result)) < ANSWER_BYTES_MAX // 1_000
    (note,) = result.notes
    assert (
        note == f"b: only the first {len(values(result))} rows are shown, which is what a node sends: ask on that node"
    )


def test_a_text_that_is_too_large_is_missing_and_not_cut() -> None:
    a, _ = cluster(Reach.CLUSTER, a=Result.of(Text("a")), b=Result.of(Text("x" * ANSWER_BYTES_MAX)))
    result = a.run()
    assert result.parts == (Text("a"),)
    assert result.notes == (f"b is left out: its answer takes more than {ANSWER_BYTES_MAX} bytes: ask on that node",)


def test_what_is_not_here_is_looked_for_on_the_others() -> None:
    a, b, _ = cluster(Reach.WHERE_IT_IS, a=NotHereError("no a"), b=NotHereError("no b"), c=table("3"))
    assert values(a.run()) == ["3"]
    assert values(b.run()) == ["3"]


def test_where_nobody_has_it_those_that_were_not_asked_are_named() -> None:
    a, b, _ = cluster(Reach.WHERE_IT_IS, a=NotHereError("no a"), b=NotHereError("no b"), c=NotHereError("no c"))
    b.is_silent = True
    with pytest.raises(NotHereError, match=r"no a; b was not asked \(b is not reachable\)"):
        a.run()


def test_the_node_that_has_it_may_still_refuse() -> None:
    a, _ = cluster(Reach.WHERE_IT_IS, a=NotHereError("no a"), b=CommandError("no such filter"))
    with pytest.raises(CommandError, match="b: no such filter"):
        a.run()


def test_other_nodes_run_no_command_that_is_for_this_node_alone() -> None:
    a, _ = cluster(Reach.NODE, a=table("1"), b=table("2"))
    with pytest.raises(RemoteError, match="this command is not for other nodes"):
        asyncio.run(a.ask("b", "command", {"words": ["rows", "show"]}, timeout_s=1.0))
    with pytest.raises(RemoteError, match="no flag --colour"):
        asyncio.run(a.ask("b", "command", {"words": ["rows", "show", "--colour"]}, timeout_s=1.0))


def test_a_node_that_is_no_member_has_no_commands_run() -> None:
    _, b = cluster(Reach.CLUSTER, a=table("1"), b=table("2"))
    with pytest.raises(RemoteError, match="stranger is no member that b can reach"):
        asyncio.run(b.handler("stranger", {"words": ["rows", "show"]}))


def test_a_guest_with_the_name_of_a_member_that_is_down_has_no_commands_run() -> None:
    a, b = cluster(Reach.CLUSTER, a=table("1"), b=table("2"))
    a.is_silent = True
    with pytest.raises(RemoteError, match="a is no member that b can reach"):
        asyncio.run(b.handler("a", {"words": ["rows", "show"]}))


def test_a_command_for_another_node_is_given_up_with_whoever_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strogoff.admin.over_cluster.ANSWER_TIMEOUT_S", 0.05)
    a, b = cluster(Reach.CLUSTER, a=table("1"), b=table("2"))
    b.delay_s = 60.0
    assert a.run().notes == ("b is left out: the command took longer than 0.05 s",)
