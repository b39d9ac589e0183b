"""Fixtures that every test may use: running brokers.

`broker`         one broker with default settings, shared by the tests of a module: use your own client ids and topics
`broker_with`    `broker_with(max_keep_alive=2)`, or `broker_with({"listener.tcp.x": ...})` for keys with dots: a broker
                 with these settings; tests of a module that ask for the same settings share one
`own_broker`     the same call, but the broker belongs to this test alone, which may stop, kill and restart it

Each gives a `BrokerProcess` that answers on `127.0.0.1:broker.port`. What a broker logged during a test is part of the
report when the test fails, and a broker that died or would not stop is an error.
"""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from enum import IntEnum
from typing import Any

import pytest

from broker_process import BrokerProcess, Setting, StartBroker

_running: dict[int, BrokerProcess] = {}
_log_start = pytest.StashKey[dict[int, int]]()


@pytest.fixture(scope="module")
def broker(broker_with: StartBroker) -> BrokerProcess:
    """A broker with default settings, shared by the tests of one module."""
    return broker_with()


@pytest.fixture(scope="module")
def broker_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """Gives a broker with the settings named in the call; equal settings give the same broker within a module."""
    started: dict[tuple[tuple[str, Setting], ...], BrokerProcess] = {}
    with ExitStack() as stack:
        fresh = _starter(stack, lambda: BrokerProcess(tmp_path_factory.mktemp("broker")))

        def shared(settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> BrokerProcess:
            key = tuple(sorted({**(settings or {}), **more}.items()))
            if key not in started:
                started[key] = fresh(settings, **more)
            return started[key]

        yield shared


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBroker]:
    """Gives a broker of this test's own with the settings named in the call."""
    with ExitStack() as stack:
        yield _starter(stack, lambda: BrokerProcess(tmp_path_factory.mktemp("broker")))


def _starter(stack: ExitStack, create: Callable[[], BrokerProcess]) -> StartBroker:
    def start(settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> BrokerProcess:
        broker = create()
        broker.settings = {**(settings or {}), **more}
        # A store takes 160 MB, and there are hundreds of brokers in a run.
        stack.callback(shutil.rmtree, broker.data_directory, ignore_errors=True)
        stack.enter_context(broker)
        _running[id(broker)] = broker
        stack.callback(_running.pop, id(broker), None)
        return broker

    return start


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[_log_start] = {key: broker.log_size() for key, broker in _running.items()}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        before = item.stash.get(_log_start, {})
        for key, broker in _running.items():
            text = broker.log_tail(before.get(key, 0))
            report.sections.append((f"log of the broker on port {broker.port}", text))
    return report


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Protocol versions and property names read as what they are in the names of tests."""
    return val.name if isinstance(val, IntEnum) else None
