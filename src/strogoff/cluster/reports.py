"""What other nodes say of themselves: their phase, how they reach this node, and how far they are behind it."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests

__all__ = ["REQUEST", "Report", "ask_for_reports"]

REQUEST: Final = "report"
ANSWER_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Report:
    """`phase`: that the node is in. `link`: how it reaches the one that asks. `seen`: how many of that one's writes to
    the metadata it has, up to the first that it lacks.
    """

    phase: str
    link: str
    seen: int

    def payload(self) -> dict[str, Any]:
        """The report as an answer."""
        return {"phase": self.phase, "link": self.link, "seen": self.seen}


async def ask_for_reports(
    requests: Requests, nodes: Iterable[str], warn: Callable[[str, str], None]
) -> dict[str, Report]:
    """Those of the nodes that answer in time; `warn` is told of the others, and why."""

    async def ask(node: str) -> tuple[str, Report | None]:
        try:
            answer = await requests.ask(node, REQUEST, {}, timeout_s=ANSWER_TIMEOUT_S)
            return node, Report(str(answer["phase"]), str(answer["link"]), int(answer["seen"]))
        except (NoAnswerError, RemoteError) as error:
            warn(node, str(error))
        except (KeyError, TypeError, ValueError) as error:
            warn(node, f"its answer cannot be read ({error!r})")
        return node, None

    reports = await asyncio.gather(*(ask(node) for node in nodes))
    return {node: report for node, report in reports if report is not None}
