"""An engine in this process with a listener on the loopback interface, and a way to wait for what it tells Python."""

import select
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Self, TypeVar

from protocol.client import DEADLINE_S, Network
from strogoff._engine import (
    AuthRequest,
    DeliverRequest,
    Engine,
    LogEvent,
    MessageEvent,
    PublishRequest,
    RegisterRequest,
    SessionEvent,
    SubscribeRequest,
    SubscriptionEvent,
    UnsubscribeRequest,
)

AnyEvent = (
    RegisterRequest
    | PublishRequest
    | SubscribeRequest
    | UnsubscribeRequest
    | DeliverRequest
    | AuthRequest
    | SessionEvent
    | SubscriptionEvent
    | MessageEvent
    | LogEvent
)
E = TypeVar("E", bound=AnyEvent)
Setting = bool | int | str | None


class Running(Network):
    """A started engine with one listener, `default`. As a `Network` it opens clients to that listener."""

    def __init__(
        self,
        settings: Mapping[str, Setting] | None = None,
        *,
        hooks: Collection[str] = (),
        mountpoint: str = "",
        max_connections: int | None = 100,
        versions: Collection[int] = (3, 4, 5, 131),
    ) -> None:
        self.engine = Engine({"allow_anonymous": True, "workers": 2, **(settings or {})})
        self.engine.set_hooks(hooks)
        self.engine.start()
        listener = self.engine.open_listener(
            "default",
            "tcp",
            "127.0.0.1",
            0,
            mountpoint=mountpoint,
            max_connections=max_connections,
            allowed_protocol_versions=versions,
        )
        super().__init__(listener.port)
        self._events: deque[AnyEvent] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
        self.engine.stop(1_000)

    # -- events ------------------------------------------------------------------------------------------------

    def event(self, event_class: type[E], timeout: float = DEADLINE_S, **attributes: object) -> E:
        """The next event of this class with these attributes; others stay for later. Fails when it does not come."""
        deadline = time.monotonic() + timeout
        while True:
            for index, event in enumerate(self._events):
                if isinstance(event, event_class) and has(event, attributes):
                    del self._events[index]
                    return event
            assert self._read_events(deadline), f"no {event_class.__name__} with {attributes} came; {self._unread()}"

    def unread_events(self) -> list[AnyEvent]:
        """What has come and was not asked for yet, without what is for operators only."""
        self._events.extend(self.engine.drain())
        return [event for event in self._events if not isinstance(event, LogEvent)]

    def _read_events(self, deadline: float) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not is_readable(self.engine.event_fd(), left):
            return False
        self._events.extend(self.engine.drain())
        return True

    def _unread(self) -> str:
        names = [f"{type(event).__name__} {getattr(event, 'kind', '')}".strip() for event in self._events]
        return f"unread: {names}" if names else "nothing is unread"

    # -- counters ----------------------------------------------------------------------------------------------

    def metric(self, name: str, **labels: str) -> int:
        """The sum of all series of this name that have these labels."""
        found = [each for each in self.engine.metrics() if each.name == name]
        assert found, f"there is no metric {name}"
        return sum(each.value for each in found if labels.items() <= each.labels.items())


def has(event: object, attributes: Mapping[str, object]) -> bool:
    """Whether an event has all these attributes."""
    return all(getattr(event, name) == wanted for name, wanted in attributes.items())


def is_readable(descriptor: int, within: float = 0.0) -> bool:
    """Whether a descriptor is readable now, or becomes so within so many seconds."""
    return bool(select.select([descriptor], [], [], within)[0])


def eventually(holds: Callable[[], bool], what: str, timeout: float = DEADLINE_S) -> None:
    """Wait until something holds that the engine does on threads of its own. Fails with `what` at the deadline."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.005)
