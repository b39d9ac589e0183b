"""The profiles of hypothesis, for whoever has property tests.

The default profile is deterministic and quick. `HYPOTHESIS_PROFILE=search` tries new examples, and many more of them.
"""

import os

from hypothesis import HealthCheck, Phase, settings

__all__ = ["load_profile"]


def load_profile(*also_allowed: HealthCheck) -> None:
    """Use the profile that the environment names. `also_allowed`: what the tests of a folder do on purpose."""
    settings.register_profile(
        "default",
        derandomize=True,
        deadline=None,
        max_examples=150,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, *also_allowed],
    )
    settings.register_profile("search", settings.get_profile("default"), derandomize=False, max_examples=2_000)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
