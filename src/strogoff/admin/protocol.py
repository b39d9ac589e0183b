"""The admin socket's wire: one request and one response a connection, each a length and that much JSON.

A frame is four bytes of length, most significant first, then UTF-8 JSON. The request is `{"words": [...], "progress":
true}`, the words of the command line after the program's name, and whether the program wants to hear how a command that
takes long is getting on. The response is `{"ok": true, "format": ..., "parts": [...], "notes": [...]}` or `{"ok":
false, "error": sentence}`; any number of `{"progress": text}` may come before it, at most `PROGRESS_INTERVAL_S` apart.
`version` stands in all of them; a program of another version is told so.
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strogoff.admin.render import Format
from strogoff.admin.result import Result, part_from_wire, part_to_wire

__all__ = [
    "HEADER_SIZE",
    "PROGRESS_INTERVAL_S",
    "REQUEST_SIZE_MAX",
    "RESPONSE_SIZE_MAX",
    "SOCKET_NAME",
    "TIMEOUT_S",
    "Failure",
    "Progress",
    "ProtocolError",
    "Request",
    "Success",
    "frame_size",
    "reachable_path",
    "response_from",
]

SOCKET_NAME = "admin.sock"
VERSION = 1
HEADER_SIZE = 4
REQUEST_SIZE_MAX = 1 << 20
RESPONSE_SIZE_MAX = 64 << 20
WORDS_MAX = 10_000
TIMEOUT_S = 60.0
"""How long a command may take that is not a lasting one; VerneMQ's limit."""
PROGRESS_INTERVAL_S = 1.0

# What `sockaddr_un` holds on the systems there are, with the ending zero: 104 bytes on BSD and macOS, 108 on Linux.
_SOCKET_PATH_SIZE_MAX = 103
_LENGTH = struct.Struct("!I")


class ProtocolError(Exception):
    """What came over the socket is not of this protocol; the message says in what way."""


@dataclass(frozen=True, slots=True)
class Request:
    """The words of one command line, and whether progress may come before the response."""

    words: tuple[str, ...]
    wants_progress: bool = False

    def encode(self) -> bytes:
        """The request as a frame. Raises `ProtocolError` when it is too large to be sent."""
        data = {"version": VERSION, "words": self.words, "progress": self.wants_progress}
        return _frame(data, REQUEST_SIZE_MAX)

    @staticmethod
    def decode(body: bytes) -> "Request":
        """The request in a frame's body. Raises `ProtocolError`."""
        data = _object(body)
        words = data.get("words")
        if not isinstance(words, list) or len(words) > WORDS_MAX or not all(isinstance(word, str) for word in words):
            raise ProtocolError(f"expected at most {WORDS_MAX} words")
        return Request(tuple(words), data.get("progress") is True)


@dataclass(frozen=True, slots=True)
class Success:
    """A command's result and the format it was asked for in."""

    result: Result
    format: Format

    def encode(self) -> bytes:
        """The response as a frame. Raises `ProtocolError` when the result is larger than a response may be."""
        parts = [part_to_wire(part) for part in self.result.parts]
        head = {"version": VERSION, "ok": True, "format": self.format.value}
        return _frame({**head, "parts": parts, "notes": self.result.notes}, RESPONSE_SIZE_MAX)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result, in a sentence."""

    error: str

    def encode(self) -> bytes:
        """The response as a frame."""
        return _frame({"version": VERSION, "ok": False, "error": self.error}, RESPONSE_SIZE_MAX)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a command is that takes long. The response is still to come."""

    text: str

    def encode(self) -> bytes:
        """As a frame."""
        return _frame({"version": VERSION, "progress": self.text}, RESPONSE_SIZE_MAX)


def response_from(body: bytes) -> Success | Failure | Progress:
    """The response in a frame's body, or what may come before it. Raises `ProtocolError`."""
    data = _object(body)
    try:
        if "progress" in data:
            return Progress(str(data["progress"]))
        if not data["ok"]:
            return Failure(str(data["error"]))
        parts = tuple(part_from_wire(part) for part in data["parts"])
        return Success(Result(parts, tuple(data["notes"])), Format(data["format"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"not a response of this protocol ({error!r})") from error


def frame_size(header: bytes, maximum: int) -> int:
    """The size of the body that follows the header. Raises `ProtocolError` above `maximum`."""
    size: int = _LENGTH.unpack(header)[0]
    if size > maximum:
        raise ProtocolError(f"a frame of {size} bytes, where {maximum} is the limit")
    return size


@contextlib.contextmanager
def reachable_path(path: Path) -> Iterator[str]:
    """A name for a socket's path that is short enough to bind or connect to, valid inside the `with`.

    The system's limit is about a hundred bytes, which a data directory can well exceed. On Linux the directory is then
    named by an open descriptor. Raises `OSError` when there is no directory, or no such way on this system.
    """
    if len(os.fsencode(path)) <= _SOCKET_PATH_SIZE_MAX:
        yield str(path)
        return
    if not Path("/proc/self/fd").is_dir():
        raise OSError(f"{path} is longer than {_SOCKET_PATH_SIZE_MAX} bytes: use a data directory with a shorter path")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _frame(data: Mapping[str, Any], maximum: int) -> bytes:
    body = json.dumps(data, separators=(",", ":")).encode()
    if len(body) > maximum:
        raise ProtocolError(f"{len(body)} bytes, where {maximum} is the limit")
    return _LENGTH.pack(len(body)) + body


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    # A body of nested brackets ends in a RecursionError.
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON ({error})") from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise ProtocolError(f"expected an object of version {VERSION}: are the node and this program of one release?")
    return data
