"""Property tests: the profile of hypothesis, and one engine for all examples of a module."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck

from engine.running import Running
from hypothesis_profiles import load_profile

load_profile(HealthCheck.function_scoped_fixture)


@pytest.fixture(scope="module")
def engine() -> Iterator[Running]:
    """An engine without limits on depth, window and queues; every example uses client ids and topics of its own."""
    settings_without_limits = {
        "topic_max_depth": 0,
        "max_online_messages": -1,
        "max_offline_messages": -1,
        "topic_alias_max_broker": 3,
        "topic_alias_max_client": 3,
    }
    with Running(settings_without_limits, max_connections=10_000) as running:
        yield running
