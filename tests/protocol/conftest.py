"""Fixtures of the conformance tests: connections to a broker that are closed when the test ends."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing

import pytest

from broker_process import Setting, StartBroker
from protocol.client import NetWith, Network


@pytest.fixture
def net(net_with: NetWith) -> Network:
    """Opens connections to the module's broker, which has default settings."""
    return net_with()


@pytest.fixture
def net_with(broker_with: StartBroker) -> Iterator[NetWith]:
    """Opens connections to a broker with the settings of the call: `net_with(max_keep_alive=2)`."""
    with ExitStack() as stack:

        def network(settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> Network:
            return stack.enter_context(closing(Network(broker_with(settings, **more).port)))

        yield network
