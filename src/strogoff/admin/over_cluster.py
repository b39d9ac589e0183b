"""Commands that cover other nodes of the cluster: each node answers for itself, and the answers are put together.

Which nodes a command covers is declared by its `Reach`. A node runs the same command line as the one that was asked, so
nothing is decided twice; what a node cannot say in time is missing, and the operator is told so.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

from strogoff.admin.arguments import Call
from strogoff.admin.lines import Order, read_line
from strogoff.admin.registry import Command, Reach, Registry
from strogoff.admin.result import (
    CommandError,
    NotHereError,
    Part,
    Result,
    Table,
    Text,
    part_from_wire,
    part_to_wire,
)
from strogoff.broker import Broker
from strogoff.cluster.requests import NoAnswerError, RemoteError

__all__ = ["ANSWER_BYTES_MAX", "answer", "serve_other_nodes"]

REQUEST: Final = "command"
ANSWER_TIMEOUT_S: Final = 10.0
ANSWER_BYTES_MAX: Final = 1_000_000
"""What one node sends of its rows: a large answer would hold up what else the nodes have to tell each other."""


async def answer(broker: Broker, command: Command, call: Call) -> Result:
    """Run a command on all nodes that it covers. Raises `CommandError`."""
    if command.reach is Reach.WHERE_IT_IS:
        return await _where_it_is(broker, command, call)
    named = [value for name, value in call.flags if name == "node"]
    is_asked_for = bool(named) or call.switch("all")
    if command.reach is Reach.NODE or (command.reach is Reach.NODES_ASKED_FOR and not is_asked_for):
        return await command.handler(broker, call)
    exact = next((value for value in named if value is not None and not value.startswith("~")), None)
    if exact == broker.node_name:
        return await command.handler(broker, call)
    if exact is not None:
        return await _from_one(broker, exact, command, call)
    return await _from_all(broker, command, call)


def serve_other_nodes(broker: Broker, registry: Registry) -> None:
    """Answer the command lines of other members from now on."""

    async def run(node: str, payload: dict[str, Any]) -> dict[str, Any]:
        # A node that has not joined yet can ask, too, and may bear the name of a member that is down.
        if node not in broker.cluster.reachable():
            raise RemoteError(f"{node} is no member that {broker.node_name} can reach")
        try:
            order = read_line(registry, [str(word) for word in payload.get("words", [])])
            if not isinstance(order, Order) or order.command.reach is Reach.NODE:
                raise CommandError("this command is not for other nodes")
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                result = await order.command.handler(broker, order.call)
        except TimeoutError:
            # Whoever asked has given up by now.
            raise RemoteError(f"the command took longer than {ANSWER_TIMEOUT_S:g} s") from None
        except NotHereError as error:
            return {"not_here": str(error)}
        except CommandError as error:
            raise RemoteError(str(error)) from None
        return await asyncio.to_thread(_to_wire, result)

    broker.cluster.serve(REQUEST, run)


async def _from_one(broker: Broker, node: str, command: Command, call: Call) -> Result:
    others = broker.cluster.others()
    if node not in others:
        members = ", ".join([broker.node_name, *others])
        raise CommandError(f"--node={node}: no such node; the cluster has {members}")
    try:
        return await _ask(broker, node, command, call)
    except (NoAnswerError, RemoteError, ValueError) as error:
        raise CommandError(f"{node}: {error}") from None


async def _from_all(broker: Broker, command: Command, call: Call) -> Result:
    results = [(broker.node_name, await command.handler(broker, call))]
    others = broker.cluster.others()
    answers = await asyncio.gather(*(_ask(broker, node, command, call) for node in others), return_exceptions=True)
    silent: list[str] = []
    for node, found in zip(others, answers, strict=True):
        match found:
            case Result():
                results.append((node, found))
            case NoAnswerError() | RemoteError() | CommandError() | ValueError():
                silent.append(f"{node} is left out: {found}")
            case BaseException():
                raise found
    notes = [f"{node}: {note}" if others else note for node, result in results for note in result.notes]
    return Result(_together([result.parts for _, result in results]), (*notes, *silent))


async def _where_it_is(broker: Broker, command: Command, call: Call) -> Result:
    """Here, or on the first node that has what the command is about."""
    try:
        return await command.handler(broker, call)
    except NotHereError as error:
        not_here = error
    silent: list[str] = []
    for node in broker.cluster.others():
        try:
            return await _ask(broker, node, command, call)
        except NotHereError:
            continue
        except RemoteError as error:
            raise CommandError(f"{node}: {error}") from None
        except (NoAnswerError, ValueError) as error:
            silent.append(f"{node} was not asked ({error})")
    raise NotHereError("; ".join([str(not_here), *silent]))


async def _ask(broker: Broker, node: str, command: Command, call: Call) -> Result:
    """The answer of another node. Raises `NoAnswerError`, `RemoteError`, `NotHereError`, `ValueError`."""
    payload = {"words": _words(command, call)}
    got = await broker.cluster.requests.ask(node, REQUEST, payload, timeout_s=ANSWER_TIMEOUT_S)
    if "not_here" in got:
        raise NotHereError(str(got["not_here"]))
    try:
        return Result(tuple(part_from_wire(part) for part in got["parts"]), tuple(map(str, got["notes"])))
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"its answer cannot be read ({error!r})") from None


def _words(command: Command, call: Call) -> list[str]:
    """The command line that a call was made of."""
    arguments = [f"{name}={value}" for name, value in call.arguments]
    flags = [f"--{name}" if value is None else f"--{name}={value}" for name, value in call.flags]
    return [*command.path, *arguments, *call.words, *flags]


def _together(answers: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
    """The parts of all nodes: rows under the same columns in one table, texts one below the other."""
    parts: list[Part] = []
    for part in (part for answer in answers for part in answer):
        before = parts[-1] if parts else None
        match before, part:
            case Table(), Table() if before.columns == part.columns:
                parts[-1] = Table(part.columns, [*before.rows, *part.rows])
            case Text(table=Table() as first), Text(table=Table() as second) if first.columns == second.columns:
                table = Table(first.columns, [*first.rows, *second.rows])
                parts[-1] = Text(f"{before.text}\n{part.text}", table)
            case _:
                parts.append(part)
    return tuple(parts)


def _to_wire(result: Result) -> dict[str, Any]:
    """An answer of at most `ANSWER_BYTES_MAX`: rows beyond are left out, with a note; a text raises `RemoteError`."""
    notes = list(result.notes)
    parts = []
    left = ANSWER_BYTES_MAX
    for part in result.parts:
        fitting: Part = part
        if isinstance(part, Table):
            sizes = [len(json.dumps(row)) for row in part.rows]
            number = _fitting(sizes, left)
            left -= sum(sizes[:number])
            if number < len(part.rows):
                fitting = Table(part.columns, part.rows[:number])
                notes.append(f"only the first {number} rows are shown, which is what a node sends: ask on that node")
        wire = part_to_wire(fitting)
        if not isinstance(part, Table):
            left -= len(json.dumps(wire))
            if left < 0:
                raise RemoteError(f"its answer takes more than {ANSWER_BYTES_MAX} bytes: ask on that node")
        parts.append(wire)
    return {"parts": parts, "notes": notes}


def _fitting(sizes: Sequence[int], room: int) -> int:
    """How many of the first have room together."""
    for number, size in enumerate(sizes):
        room -= size
        if room < 0:
            return number
    return len(sizes)
