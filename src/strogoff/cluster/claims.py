"""Who has a client id: one connection in the whole cluster, the one that claimed it last.

A client that connects claims its client id, with a stamp of the engine's hybrid logical clock. Before it gets its
session all nodes that can be reached are told: they end a connection that claimed the client id before, answer whether
there is a session of the client that lasts, or say that they have a later claim, and then this one does not stand.

A node that joins knows nothing of the sessions that other nodes have, nor they of its own. So a client that began with
a clean start on one side before has not ended the session of the other side: the older connection ends, and no more.

While a node cannot be reached both sides give the same client id to connections of their own. What was claimed
meanwhile is told as soon as it can be reached again, and the later claim stands on both sides.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from strogoff._engine import ClaimRequest, Verdict
from strogoff.cluster.requests import NoAnswerError, RemoteError, Requests
from strogoff.observe.logging import get_logger

__all__ = ["Claims"]

CLAIMS_A_MESSAGE: Final = 1_000
MARGIN: Final = 60_000 << 16
"""A minute of stamps: claims that were under way when a node went out of reach are told again."""
RETRY_MAX_S: Final = 10.0
RETRY_S: Final = 1.0
SERVER_UNAVAILABLE: Final = 0x88

Claim: TypeAlias = tuple[str, str, int, bool]
Session: TypeAlias = tuple[str, str]
StartTask: TypeAlias = Callable[[Coroutine[Any, Any, None], str], object]

_REFUSALS: Final = {
    "newer": "another node has a later connection with this client id",
    "silent": "another node does not answer, try again",
}
"""Answers that refuse a claim, and what the client is told."""

_log = get_logger("cluster.claims")


class EngineClaims(Protocol):
    """What is needed of the engine."""

    def ask_about_claims(self, *, asked: bool) -> None:
        """Whether a CONNECT waits for a verdict on its claim."""

    def give_way(self, claims: Sequence[Claim], *, wins_ties: bool) -> Sequence[str]:
        """Give way to claims of another node; what each has found."""

    def claims_since(self, stamp: int) -> list[Claim]:
        """The connections that claimed their client ids at a stamp or later."""

    def stamp(self) -> int:
        """The stamp of something that happens now."""

    def resolve_all(self, verdicts: Sequence[tuple[int, Verdict]]) -> int:
        """Answer many requests at once."""


class SessionMoves(Protocol):
    """What is needed of the moves."""

    async def at_rest(self, sessions: Iterable[tuple[str, str]]) -> None:
        """Wait until none of these sessions is on its way to another node."""

    async def bring(
        self, node: str, sessions: Iterable[tuple[str, str]], *, is_awaited: bool = False
    ) -> set[tuple[str, str]]:
        """Bring sessions of a node here; those that could not be."""


class SessionHomes(Protocol):
    """What is needed of the records."""

    async def settle(self, sessions: Sequence[tuple[tuple[str, str], bool]]) -> None:
        """No node that can be reached has these sessions, each with whether its client starts clean."""


class Claims:
    """The claims of one node. `reachable`: the nodes that have to be asked. `timeout_s`: how long one may take."""

    def __init__(
        self,
        engine: EngineClaims,
        name: str,
        *,
        requests: Requests,
        reachable: Callable[[], Sequence[str]],
        moves: "SessionMoves",
        homes: "SessionHomes",
        timeout_s: float,
        start_task: StartTask,
    ) -> None:
        self._engine = engine
        self._name = name
        self._requests = requests
        self._reachable = reachable
        self._moves = moves
        self._homes = homes
        self._timeout_s = timeout_s
        self._start_task = start_task
        self._told_until: dict[str, int] = {}
        """For each node out of reach: up to which stamp it has heard of all claims."""
        self.is_joining = False
        """Whether this node is joining the cluster of the others."""
        self.refused = 0
        """Clients that were refused since their client id or their session could not be had."""
        requests.serve("claim", self._asked)

    # -- what happens around it ------------------------------------------------------------------------------

    def reachable(self, node: str) -> None:
        """A node can be reached: it hears what was claimed while it could not be."""
        self._start_task(self._tell_held(node), f"claims for {node}")

    def unreachable(self, node: str) -> None:
        """A node cannot be reached any more."""
        self._told_until.setdefault(node, max(self._engine.stamp() - MARGIN, 0))

    def keep(self, nodes: Collection[str]) -> None:
        """The other members are these."""
        for node in set(self._told_until) - set(nodes):
            del self._told_until[node]
        self._engine.ask_about_claims(asked=bool(nodes))

    # -- claims of this node ---------------------------------------------------------------------------------

    def handle(self, requests: Sequence[ClaimRequest]) -> None:
        """Clients of this node wait for what the others say."""
        self._start_task(self._decide(requests), "claims")

    async def _decide(self, requests: Sequence[ClaimRequest]) -> None:
        nodes = self._reachable()
        claims = [(each.mountpoint, each.client_id, each.stamp, each.clean_start) for each in requests]
        await self._moves.at_rest(claim[:2] for claim in claims)
        found = await asyncio.gather(*(self._ask(node, claims) for node in nodes))
        refused: dict[Session, str] = {}
        holders: dict[str, list[Session]] = {}
        without_holder: list[tuple[Session, bool]] = []
        for number, claim in enumerate(claims):
            session, said = claim[:2], [answers[number] for answers in found]
            reason = next((reason for word, reason in _REFUSALS.items() if word in said), None)
            if reason is not None:
                refused[session] = reason
            elif "kept" not in said:
                without_holder.append((session, claim[3]))
            for node, word in zip(nodes, said, strict=True):
                if word == "kept" and reason is None:
                    holders.setdefault(node, []).append(session)
        await self._homes.settle(without_holder)
        for node, sessions in holders.items():
            for session in await self._moves.bring(node, sessions, is_awaited=True):
                refused[session] = "the session is on another node and could not be brought here, try again"
        self.refused += len(refused)
        self._engine.resolve_all(
            [(each.ticket, _verdict(refused.get((each.mountpoint, each.client_id)))) for each in requests]
        )

    async def _ask(self, node: str, claims: Sequence[Claim]) -> list[str]:
        """What each claim has found on a node: nothing where that cannot be reached any more."""
        try:
            answer = await self._requests.ask(node, "claim", {"claims": claims}, timeout_s=self._timeout_s)
            return _found(answer, len(claims))
        except (NoAnswerError, RemoteError, ValueError) as error:
            if node not in self._reachable():
                return ["nothing"] * len(claims)
            _log.warning("a node does not answer about client ids", node=node, claims=len(claims), reason=str(error))
            return ["silent"] * len(claims)

    # -- claims of others ------------------------------------------------------------------------------------

    async def _asked(self, node: str, payload: dict[str, Any]) -> dict[str, Any]:
        claims = _claims(payload)
        is_of_before = self.is_joining and payload.get("held") is True
        given = [_without_clean_start(claim) for claim in claims] if is_of_before else claims
        found = list(self._engine.give_way(given, wins_ties=node > self._name))
        if is_of_before:
            found = [
                "nothing" if claim[3] and word == "kept" else word for claim, word in zip(claims, found, strict=True)
            ]
        return {"found": found}

    async def _tell_held(self, node: str) -> None:
        """Tell a node of the connections of which it has not heard."""
        since = self._told_until.pop(node, 0)
        pause_s = RETRY_S
        while node in self._reachable():
            claims = await asyncio.to_thread(self._engine.claims_since, since)
            staying: set[Session] = set()
            try:
                for begin in range(0, len(claims), CLAIMS_A_MESSAGE):
                    staying |= await self._tell(node, claims[begin : begin + CLAIMS_A_MESSAGE])
            except (NoAnswerError, RemoteError, ValueError) as error:
                _log.warning("a node has not heard of all connections yet", node=node, reason=str(error))
            else:
                if not staying:
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
        self._told_until[node] = min(since, self._told_until.get(node, since))

    async def _tell(self, node: str, claims: Sequence[Claim]) -> set[Session]:
        """Tell a node of connections that were there before it could be reached, and bring their sessions here. Those
        that could not be brought.
        """
        is_of_before = self.is_joining
        given = [_without_clean_start(claim) for claim in claims] if is_of_before else claims
        payload = {"claims": given, "held": True}
        answer = await self._requests.ask(node, "claim", payload, timeout_s=self._timeout_s)
        found = zip(claims, _found(answer, len(claims)), strict=True)
        kept = [claim[:2] for claim, word in found if word == "kept" and not (is_of_before and claim[3])]
        return await self._moves.bring(node, kept)


def _without_clean_start(claim: Claim) -> Claim:
    return (*claim[:3], False)


def _verdict(refusal: str | None) -> Verdict:
    return Verdict.allow() if refusal is None else Verdict.deny(SERVER_UNAVAILABLE, refusal)


def _found(answer: dict[str, Any], count: int) -> list[str]:
    """What claims have found. Raises `ValueError` for an answer that cannot be one."""
    found = answer.get("found")
    if not isinstance(found, list) or len(found) != count or not set(found) <= {"nothing", "kept", "newer"}:
        raise ValueError("an answer that cannot be read")
    return found


def _claims(payload: dict[str, Any]) -> list[Claim]:
    """The claims in a request. Raises `RemoteError` for what cannot be any."""
    claims = []
    for each in payload.get("claims", ()):
        mountpoint, client_id, stamp, clean_start = each
        is_sound = isinstance(mountpoint, str) and isinstance(client_id, str) and isinstance(clean_start, bool)
        if not is_sound or not isinstance(stamp, int) or not 0 <= stamp < 2**64:
            raise RemoteError("a claim that cannot be read")
        claims.append((mountpoint, client_id, stamp, clean_start))
    return claims
