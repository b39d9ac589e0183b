"""Tells the service manager that started the node how far it is: systemd's `Type=notify`, sd_notify(3).

Without `NOTIFY_SOCKET` in the environment nobody wants to know, and nothing happens.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from strogoff.observe.logging import get_logger
from strogoff.phases import Phase

__all__ = ["SOCKET_VARIABLE", "tell"]

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"

_log = get_logger("broker")


def tell(phase: Phase, *, is_restart: bool = False, environment: Mapping[str, str] = os.environ) -> None:
    """Say that a phase was entered. `is_restart`: the node stops to start again in the same process.

    Such a stop is not told: a manager that hears of a stop ends the process when its time for stopping is over.
    """
    address = environment.get(SOCKET_VARIABLE)
    if not address:
        return
    lines = [f"STATUS={phase.value}"]
    if phase is Phase.READY:
        lines.append("READY=1")
    elif phase is Phase.DRAINING and not is_restart:
        lines.append("STOPPING=1")
    # A leading @ stands for the zero byte of an abstract address.
    path = "\0" + address[1:] if address.startswith("@") else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager:
            manager.sendto("\n".join(lines).encode(), path)
    except (OSError, ValueError) as error:
        _log.warning(
            "the service manager cannot be told how far the node is",
            phase=phase.value,
            socket=address,
            reason=str(error),
        )
