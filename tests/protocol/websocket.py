"""WebSocket as a client of tests speaks it: frames by hand, so that wrong ones can be sent as well (RFC 6455)."""

import base64
import hashlib
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping

from protocol.client import Connection, dial

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

Headers = Mapping[str, str | None]
"""Headers to be sent beside or instead of the usual ones; None leaves one out."""


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = None) -> bytes:
    """A client's frame; `mask` b"" leaves the mask out, which a client may not."""
    mask = secrets.token_bytes(4) if mask is None else mask
    flag = 0x80 if mask else 0
    size = len(payload)
    if size <= 125:
        length = bytes([flag | size])
    elif size <= 0xFFFF:
        length = bytes([flag | 126]) + struct.pack(">H", size)
    else:
        length = bytes([flag | 127]) + struct.pack(">Q", size)
    if mask:
        pattern = (mask * (size // 4 + 1))[:size]
        payload = (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + mask + payload


def request(path: str = "/mqtt", headers: Headers | None = None, *, key: str = "AAAAAAAAAAAAAAAAAAAAAA==") -> bytes:
    """The request for an upgrade."""
    fields: dict[str, str | None] = {
        "Host": "broker",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "mqtt",
        **(headers or {}),
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class Answer:
    """The head of an HTTP answer, and what came behind it."""

    def __init__(self, connection: Connection) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received:
            data = connection.recv(65_536)
            assert data, f"the connection ended within the answer: {bytes(received)!r}"
            received += data
        head, self.rest = bytes(received).split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split(" ")[1])
        pairs = (line.split(": ", 1) for line in lines)
        self.headers = {name.lower(): value for name, value in pairs}


class WebSocket:
    """A connection after its upgrade: bytes go out in one frame a call, and come in whatever frames they came in."""

    def __init__(self, connection: Connection, headers: Headers | None = None) -> None:
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        connection.sendall(request(headers=headers, key=key))
        self.answer = Answer(connection)
        assert self.answer.status == 101, self.answer.status
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        assert self.answer.headers["sec-websocket-accept"] == accept
        self.connection = connection
        self.controls: deque[tuple[int, bytes]] = deque()
        self._received = bytearray(self.answer.rest)

    def sendall(self, data: bytes, /) -> None:
        self.connection.sendall(frame(BINARY, data))

    def recv(self, _size: int = 0, /) -> bytes:
        """The payload of the next data frame; b"" behind a close frame, or at the end. Pings are not answered."""
        while True:
            taken = self.next_frame()
            if taken is None:
                return b""
            opcode, payload = taken
            if opcode == BINARY and payload:
                return payload
            if opcode != BINARY:
                self.controls.append(taken)
            if opcode == CLOSE:
                return b""

    def next_frame(self) -> tuple[int, bytes] | None:
        """Opcode and payload of the next frame; None at the end. Fails on what a server may not send."""
        while (taken := self._take()) is None:
            try:
                data = self.connection.recv(65_536)
            except ConnectionError:
                data = b""
            if not data:
                assert not self._received, f"the connection ended inside a frame: {bytes(self._received).hex(' ')}"
                return None
            self._received += data
        return taken

    def _take(self) -> tuple[int, bytes] | None:
        received = self._received
        if len(received) < 2:
            return None
        first, size = received[0], received[1]
        assert first & 0xF0 == 0x80, f"a frame in pieces or with reserved bits: {first:#x}"
        assert first & 0x0F in {BINARY, CLOSE, PING, PONG}, f"opcode {first & 0x0F}"
        assert size < 0x80, "a server's frame has no mask"
        start = {126: 4, 127: 10}.get(size, 2)
        if len(received) < start:
            return None
        if size > 125:
            size = int.from_bytes(received[2:start], "big")
        if len(received) < start + size:
            return None
        payload = bytes(received[start : start + size])
        del received[: start + size]
        return first & 0x0F, payload

    def settimeout(self, seconds: float, /) -> None:
        self.connection.settimeout(seconds)

    def setsockopt(self, level: int, name: int, value: bytes, /) -> None:
        self.connection.setsockopt(level, name, value)

    def close(self) -> None:
        self.connection.close()


def dial_websocket(port: int, headers: Headers | None = None, below: Callable[[int], Connection] = dial) -> WebSocket:
    """A WebSocket connection to the loopback interface."""
    return WebSocket(below(port), headers)


def close_code(payload: bytes) -> int:
    """Status code of a close frame."""
    assert len(payload) >= 2, "a close frame without a status code"
    return int.from_bytes(payload[:2], "big")


def raw_socket(websocket: WebSocket) -> socket.socket:
    """The socket below."""
    assert isinstance(websocket.connection, socket.socket)
    return websocket.connection
