"""Fixtures of the durability tests: nodes that can be killed, restarted, starved of disk and lied to by it.

`node_with`  `node_with({"store.sync": "always"})`: a running node of this test's own, see `StartNode`
`node`       one with default settings
`running`    one that has something to lose; `killed`: the same, down

Tests over one restart that need nothing special share it: see `restarts.py`.
"""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from broker_process import Setting
from durability.faults import FaultLayer, compile_layer
from durability.node import Node, StartNode, make_node, mounted, unmount
from durability.populated import SETTINGS, Populated, populate
from durability.restarts import RestartGroups

_nodes = pytest.StashKey[list[Node]]()


@pytest.fixture(scope="session")
def fault_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fault layer, compiled."""
    return compile_layer(tmp_path_factory.mktemp("fault"))


@pytest.fixture
def node_with(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, fault_library: Path
) -> Iterator[StartNode]:
    """Starts a node with the settings of the call."""
    with ExitStack() as stack:
        yield _starter(stack, tmp_path_factory, fault_library, request.node.stash.setdefault(_nodes, []))


@pytest.fixture(scope="module")
def module_node_with(tmp_path_factory: pytest.TempPathFactory, fault_library: Path) -> Iterator[StartNode]:
    """The same call, for nodes that the tests of a module share."""
    with ExitStack() as stack:
        yield _starter(stack, tmp_path_factory, fault_library, [])


@pytest.fixture(scope="module")
def restart_groups(tmp_path_factory: pytest.TempPathFactory, fault_library: Path) -> Iterator[RestartGroups]:
    """The nodes of the tests over a restart."""
    with ExitStack() as stack:
        yield RestartGroups(_starter(stack, tmp_path_factory, fault_library, []), stack)


@pytest.fixture
def last_part(request: pytest.FixtureRequest, restart_groups: RestartGroups) -> Callable[[], None]:
    """What is left to do of a test over a restart."""
    node, finish = restart_groups.last_part(request.node)
    request.node.stash[_nodes] = [node]
    return finish


def _starter(stack: ExitStack, directories: pytest.TempPathFactory, library: Path, started: list[Node]) -> StartNode:
    def start(
        settings: Mapping[str, Setting] | None = None,
        /,
        *,
        disk_bytes: int = 0,
        faults: bool = False,
        journal: bool = False,
        store: Path | None = None,
        starts: bool = True,
        **more: Setting,
    ) -> Node:
        directory = directories.mktemp("node")
        node = make_node(directory, library, {**(settings or {}), **more})
        if disk_bytes:
            stack.callback(unmount, mounted(node.broker.data_directory, disk_bytes))
        if faults or journal:
            node.faults = FaultLayer(library, node.store, directory / "layer")
            node.keeps_journal = journal
        if store is not None:
            shutil.copytree(store, node.store)
        started.append(node)
        # A test may leave it dead; a broker that is up must end well. It waits for clients that do not close.
        stack.callback(node.broker.stop)
        stack.enter_context(closing(node.net))
        if starts:
            node.start()
        return node

    return start


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory, fault_library: Path) -> Populated:
    """A store with something in it, of a node that was killed; tests take copies of it."""
    with ExitStack() as stack:
        state = populate(_starter(stack, tmp_path_factory, fault_library, []))
        state.node.broker.kill()
    return state


@pytest.fixture
def killed(filled_store: Populated, node_with: StartNode) -> Populated:
    """A node that was killed and does not run, with a session, messages over several files, and a retained message."""
    node = node_with(SETTINGS, store=filled_store.node.store, starts=False)
    return Populated(node, filled_store.topic, filled_store.client_id, list(filled_store.payloads))


@pytest.fixture
def running(killed: Populated) -> Populated:
    """The same, started again."""
    killed.node.start()
    return killed


@pytest.fixture
def node(node_with: StartNode) -> Node:
    """A node with default settings, of this test's own."""
    return node_with()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and call.when == "call":
        for node in item.stash.get(_nodes, []):
            report.sections.append((f"log of the broker on port {node.broker.port}", node.broker.log_tail()))
    return report
