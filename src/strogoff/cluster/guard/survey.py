"""Walks through what this node holds: sessions and retained messages of the engine, rows of the metadata."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from strogoff._engine import SessionInfo, SubscriptionInfo
from strogoff.cluster.guard.inventory import EXAMPLES_MAX, Inventory, Kind, Tally
from strogoff.cluster.metadata import MetadataStore

__all__ = ["EngineHoldings", "survey"]

SESSIONS_A_PAGE: Final = 10_000
RETAINED_A_PAGE: Final = 10_000
ROWS_A_PAGE: Final = 1_000


class EngineHoldings(Protocol):
    """What is needed of the engine."""

    def sessions(self, *, after: tuple[str, str] | None = None, limit: int = 1_000) -> list[SessionInfo]:
        """A page of all sessions."""

    def subscriptions(self, client_id: str, mountpoint: str = "") -> list[SubscriptionInfo]:
        """Those of a session."""

    def retained_page(
        self, after: tuple[str, int] | None = None, limit: int = 1_000
    ) -> tuple[list[tuple[str, str, int, int, int | None]], tuple[str, int] | None]:
        """A page of all retained messages, and where the next begins."""


async def survey(
    engine: EngineHoldings, metadata: MetadataStore | None, name: str, internal: Callable[[], Sequence[str]]
) -> Inventory:
    """What the node `name` holds. `internal`: what the broker has for itself, in words. Reads, and changes nothing."""
    tally = Tally(name)
    tally.internal(internal())
    await asyncio.to_thread(_sessions, engine, tally)
    await asyncio.to_thread(_retained, engine, tally)
    if metadata is not None:
        await _rows(metadata, tally)
    return tally.inventory()


def _sessions(engine: EngineHoldings, tally: Tally) -> None:
    after: tuple[str, str] | None = None
    while page := engine.sessions(after=after, limit=SESSIONS_A_PAGE):
        for info in page:
            if info.clean_session:
                continue
            filters: list[str] = []
            if info.subscriptions and tally.wants_examples(Kind.SUBSCRIPTIONS):
                found = engine.subscriptions(info.client_id, info.mountpoint)
                filters = [each.topic for each in found[:EXAMPLES_MAX]]
            tally.session(
                info.mountpoint,
                info.client_id,
                waiting=info.online_messages + info.offline_messages,
                subscriptions=info.subscriptions,
                filters=filters,
            )
        after = page[-1].mountpoint, page[-1].client_id


def _retained(engine: EngineHoldings, tally: Tally) -> None:
    cursor: tuple[str, int] | None = None
    while True:
        page, cursor = engine.retained_page(cursor, RETAINED_A_PAGE)
        for mountpoint, topic, *_ in page:
            tally.retained(mountpoint, topic)
        if cursor is None:
            return


async def _rows(metadata: MetadataStore, tally: Tally) -> None:
    after: bytes | None = None
    while page := metadata.scan(b"", after=after, limit=ROWS_A_PAGE):
        for key, _ in page:
            tally.row(key)
        after = page[-1][0]
        # Many rows must not hold up the loop.
        await asyncio.sleep(0)
