"""Fixtures of the tests of the boundary: engines in this process that are stopped when the test ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from engine.running import Running


@pytest.fixture
def running() -> Iterator[Running]:
    """An engine with default settings that lets everybody in."""
    with Running() as engine:
        yield engine


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Starts engines with the settings and hooks of the call: `run({"max_message_rate": 1}, hooks=["on_publish"])`."""
    with ExitStack() as stack:

        def start(*arguments: object, **keywords: object) -> Running:
            return stack.enter_context(Running(*arguments, **keywords))  # type: ignore[arg-type]

        yield start
