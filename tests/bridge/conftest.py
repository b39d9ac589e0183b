"""The other broker, brokers with bridges, and clients of both."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.brokers import Bridged, Mosquitto
from broker_process import BrokerProcess, Setting
from protocol.client import Network


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Mosquitto]:
    """A mosquitto that runs."""
    mosquitto = Mosquitto(tmp_path / "mosquitto")
    mosquitto.start()
    yield mosquitto
    mosquitto.stop()


@pytest.fixture
def bridged(tmp_path: Path) -> Iterator[Bridged]:
    """A call that starts a broker with settings."""
    numbers = itertools.count()
    with ExitStack() as stack:

        def start(settings: Mapping[str, Setting], /) -> BrokerProcess:
            settings = {"store.segment_bytes": "256KB", **settings}
            broker = BrokerProcess(tmp_path / f"broker{next(numbers)}", settings)
            stack.callback(broker.stop)
            broker.start()
            return broker

        yield start


@pytest.fixture
def clients() -> Iterator[Callable[[int], Network]]:
    """Gives what opens clients of the broker at a port."""
    with ExitStack() as stack:

        def network(port: int) -> Network:
            network = Network(port)
            stack.callback(network.close)
            return network

        yield network
