"""Waiting for a condition in a test with a loop of its own."""

import asyncio
from collections.abc import Callable

__all__ = ["DEADLINE_S", "until"]

DEADLINE_S = 10.0
_LOOK_S = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Return when it holds. Raises `AssertionError` at the deadline."""
    for _ in range(round(DEADLINE_S / _LOOK_S)):
        if condition():
            return
        await asyncio.sleep(_LOOK_S)
    raise AssertionError(f"not within {DEADLINE_S:g} s")
