"""The other end of the admin socket, for programs: send one command line, get the response."""

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from strogoff.admin.protocol import (
    HEADER_SIZE,
    RESPONSE_SIZE_MAX,
    SOCKET_NAME,
    TIMEOUT_S,
    Failure,
    Progress,
    ProtocolError,
    Request,
    Success,
    frame_size,
    reachable_path,
    response_from,
)

__all__ = ["NodeNotReachedError", "ask"]

# The node gives a command up by itself, or tells how far it is; a little later it is the node that does not answer.
_DEADLINE_S = TIMEOUT_S + 5.0


class NodeNotReachedError(Exception):
    """No node answers on the socket; the message names the socket and says why."""


def _nobody_looks(_text: str) -> None:
    """Where progress goes that nobody wants to see."""


def ask(
    data_directory: Path,
    words: Sequence[str],
    *,
    timeout_s: float = _DEADLINE_S,
    tell: Callable[[str], None] = _nobody_looks,
) -> Success | Failure:
    """Have the node that owns the data directory run one command line. `tell` is given lines about how far it is.

    Raises `NodeNotReachedError` when no node answers in time, or something else answers.
    """
    path = data_directory / SOCKET_NAME
    try:
        frame = Request(tuple(words), wants_progress=True).encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            with reachable_path(path) as address:
                connection.connect(address)
            connection.sendall(frame)
            while isinstance(response := _next_response(connection), Progress):
                tell(response.text)
            return response
    except (FileNotFoundError, ConnectionRefusedError):
        raise NodeNotReachedError(
            f"no node is running on {path}: start it, or name its --data-dir or --config"
        ) from None
    except PermissionError:
        raise NodeNotReachedError(f"{path} is for the user who runs the node: use the same user") from None
    except TimeoutError:
        raise NodeNotReachedError(f"the node on {path} did not answer within {timeout_s:.0f} s") from None
    except (OSError, ProtocolError) as error:
        raise NodeNotReachedError(f"talking to the node on {path} failed: {error}") from error


def _next_response(connection: socket.socket) -> Success | Failure | Progress:
    size = frame_size(_read(connection, HEADER_SIZE), RESPONSE_SIZE_MAX)
    return response_from(_read(connection, size))


def _read(connection: socket.socket, size: int) -> bytes:
    buffer = bytearray(size)
    view = memoryview(buffer)
    while view:
        taken = connection.recv_into(view)
        if taken == 0:
            raise ProtocolError("the node closed the connection before it had answered")
        view = view[taken:]
    return bytes(buffer)
