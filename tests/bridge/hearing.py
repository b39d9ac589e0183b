"""What tests of bridges need of clients: what opens them, and all that one hears."""

from collections.abc import Callable
from typing import TypeAlias

from protocol.answers import Publish
from protocol.client import Client, Network

__all__ = ["Clients", "everything"]

Clients: TypeAlias = Callable[[int], Network]
"""Gives what opens clients of the broker at a port."""

QUIET_S = 0.5


def everything(client: Client) -> list[bytes]:
    """The payloads that come until it is quiet."""
    got = []
    while (message := client.poll(Publish, QUIET_S)) is not None:
        client.complete(message)
        got.append(message.payload)
    return got
