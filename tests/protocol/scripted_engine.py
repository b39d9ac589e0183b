"""An engine inside the test process, whose requests to Python a test answers: for what needs a plugin in a broker."""

import select
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from protocol.client import Network
from strogoff._engine import AuthRequest, Engine, PublishRequest, RegisterRequest, SubscribeRequest, Verdict

Request: TypeAlias = AuthRequest | PublishRequest | RegisterRequest | SubscribeRequest
Answer: TypeAlias = Callable[[Request], Verdict]


@contextmanager
def scripted_engine(hooks: Collection[str], answer: Answer) -> Iterator[Network]:
    """Start an engine that asks `answer` for a verdict at each of `hooks`, and give a network to it."""
    # `auth_on_register` is only asked where not everybody may connect.
    engine = Engine({"allow_anonymous": "auth_on_register" not in hooks, "workers": 1})
    engine.set_hooks(hooks)
    engine.start()
    done = threading.Event()
    driver = threading.Thread(target=_drive, args=(engine, answer, done), name="hooks")
    driver.start()
    network = Network(engine.open_listener("default", "tcp", "127.0.0.1", 0).port)
    try:
        yield network
    finally:
        network.close()
        done.set()
        driver.join()
        engine.stop(2_000)


def _drive(engine: Engine, answer: Answer, done: threading.Event) -> None:
    while not done.is_set():
        select.select([engine.event_fd()], [], [], 0.05)
        for event in engine.drain():
            if isinstance(event, Request):
                engine.resolve(event.ticket, answer(event))
