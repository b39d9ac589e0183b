"""Property tests: the profile of hypothesis, and one engine for all examples of a module.

The default profile is deterministic and quick. `HYPOTHESIS_PROFILE=search` tries new examples, and many more of them.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

from engine.running import Running

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=150,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("search", settings.get_profile("default"), derandomize=False, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


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
