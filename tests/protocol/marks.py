"""Marks of the conformance tests: which statements a test covers, and in which versions it runs.

A statement counts as covered by a test only where the test runs in the version of that statement: a number may stand
for different rules in the two versions.
"""

import pytest

from protocol.wire import Version

V3 = Version.V3_1_1
V5 = Version.V5

both_versions = pytest.mark.parametrize("version", [V3, V5], ids=str)
"""Run the test in 3.1.1 and in 5.0."""


def in_v3(*statements: str) -> pytest.MarkDecorator:
    """The test covers these statements of MQTT 3.1.1."""
    return pytest.mark.normative("3.1.1", *statements)


def in_v5(*statements: str) -> pytest.MarkDecorator:
    """The test covers these statements of MQTT 5.0."""
    return pytest.mark.normative("5.0", *statements)
