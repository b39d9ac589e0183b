"""Tests of the cluster: the profile of hypothesis, the same as for property tests."""

from hypothesis_profiles import load_profile

load_profile()
