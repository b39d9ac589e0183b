"""Tests with a restart in the middle. All tests of a module share it, since a restart takes its time.

A test is a generator: what happens before the restart, `yield`, what holds afterwards::

    @over_a_restart("stop", "kill")
    def test_a_kept_session_is_present(node: Node) -> Halves:
        client = node.net.resume(V5, unique())
        yield
        assert session_present(node.net.resume(V5, client.client_id))

The first test of a group (same module, same restarts, same settings) runs what comes before the restart of all that
were selected, then restarts; each test runs what is left of it, and fails with what went wrong in any of its parts.
With `over_restarts` there are several restarts, and as many times `yield`. The broker is shared: use your own client
ids and topics.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import pytest

from broker_process import BrokerError, Setting
from durability.node import End, Node, StartNode

__all__ = ["Halves", "RestartGroups", "over_a_restart", "over_restarts"]

Halves: TypeAlias = Iterator[None]
Restart: TypeAlias = tuple[End, int]
"""How the broker ends, and how much later it is for the next one, in seconds."""


@dataclass(slots=True, frozen=True)
class _Terms:
    """What tests have to agree in to share a node."""

    restarts: tuple[Restart, ...]
    settings: tuple[tuple[str, Setting], ...]


@dataclass(slots=True, frozen=True)
class _Written:
    """A test as it was written."""

    parts: Callable[..., Halves]
    later_s: int
    restarts: tuple[Restart, ...]
    settings: tuple[tuple[str, Setting], ...]

    def terms(self, item: pytest.Function) -> _Terms:
        one = ((cast("End", item.callspec.params["end"]), self.later_s),) if not self.restarts else ()
        return _Terms(self.restarts or one, self.settings)


Decorator: TypeAlias = Callable[[Callable[..., Halves]], Callable[..., None]]


def over_a_restart(*ends: End, later_s: int = 0, **settings: Setting) -> Decorator:
    """Make a test of a function with two halves, once for each way to end; its argument `node` is the shared node.

    `later_s`: for the broker it is so much later after the restart.
    """

    def decorate(parts: Callable[..., Halves]) -> Callable[..., None]:
        test = _test_of(_Written(parts, later_s, (), tuple(sorted(settings.items()))), "end")
        marked: Callable[..., None] = pytest.mark.parametrize("end", ends)(test)
        return marked

    return decorate


def over_restarts(*restarts: Restart, **settings: Setting) -> Decorator:
    """Make a test of a function with one part more than there are restarts."""

    def decorate(parts: Callable[..., Halves]) -> Callable[..., None]:
        return _test_of(_Written(parts, 0, restarts, tuple(sorted(settings.items()))))

    return decorate


def _test_of(written: _Written, *more: str) -> Callable[..., None]:
    def test(last_part: Callable[[], None], **_arguments: object) -> None:
        last_part()

    names = ["last_part", *more, *(name for name in inspect.signature(written.parts).parameters if name != "node")]
    parameters = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    for name in ("__name__", "__doc__", "__module__"):
        setattr(test, name, getattr(written.parts, name))
    test.written = written  # type: ignore[attr-defined]
    return test


@dataclass(slots=True)
class _Group:
    node: Node
    begun: dict[str, Halves] = field(default_factory=dict)
    """Id of the test -> its generator, which stands at a restart."""
    failed: dict[str, BaseException] = field(default_factory=dict)

    def begin(self, item: pytest.Function, written: _Written) -> None:
        wanted = inspect.signature(written.parts).parameters
        given = item.callspec.params if hasattr(item, "callspec") else {}
        parameters: dict[str, Any] = {name: value for name, value in given.items() if name in wanted}
        self.begun[item.nodeid] = written.parts(node=self.node, **parameters)

    def go_on(self) -> None:
        """Run every test up to its next restart."""
        for nodeid, parts in self.begun.items():
            if nodeid in self.failed:
                continue
            try:
                next(parts)
            except StopIteration:
                self.failed[nodeid] = AssertionError("the test has fewer parts than restarts")
            except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - raised where the test is reported
                self.failed[nodeid] = error

    def restart(self, end: End, later_s: int) -> None:
        try:
            self.node.settle()
            self.node.restart(end, later_s=later_s)
        except (BrokerError, AssertionError) as error:
            self.failed = dict.fromkeys(self.begun, error) | self.failed

    def finish(self, nodeid: str) -> None:
        if nodeid in self.failed:
            raise self.failed[nodeid]
        for _ in self.begun.pop(nodeid):
            pytest.fail("the test has more parts than restarts")

    def close(self) -> None:
        """End the tests that were not finished."""
        for parts in self.begun.values():
            if inspect.isgenerator(parts):
                parts.close()


@dataclass(slots=True)
class RestartGroups:
    """The groups of one module, each with a node that was restarted."""

    start: StartNode
    stack: ExitStack
    _groups: dict[_Terms, _Group] = field(default_factory=dict)

    def last_part(self, item: pytest.Function) -> tuple[Node, Callable[[], None]]:
        """The node of this test's group, restarted, and what is left to do of the test."""
        written: _Written = item.obj.written
        terms = written.terms(item)
        if terms not in self._groups:
            self._groups[terms] = self._begin(item, terms)
        group = self._groups[terms]
        return group.node, lambda: group.finish(item.nodeid)

    def _begin(self, item: pytest.Function, terms: _Terms) -> _Group:
        group = _Group(self.start(dict(terms.settings)))
        self.stack.callback(group.close)
        for each in item.session.items:
            if isinstance(each, pytest.Function) and each.module is item.module:
                written: _Written | None = getattr(each.obj, "written", None)
                if written is not None and written.terms(each) == terms:
                    group.begin(each, written)
        for end, later_s in terms.restarts:
            group.go_on()
            group.restart(end, later_s)
        return group
