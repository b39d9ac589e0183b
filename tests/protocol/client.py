"""A synchronous MQTT client over a raw socket, for tests: sends any bytes, and has every answer judged by `Referee`.

`Network` opens clients to one broker and closes them when the test ends. `Client.expect` waits for one kind of packet
and keeps what else arrives, in order, for later calls; `barrier` and `fence` show that nothing else arrived, without
waiting.
"""

import contextlib
import itertools
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeVar

from broker_process import Setting
from protocol import requests
from protocol.answers import (
    AnyAnswer,
    Connack,
    Disconnect,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
    parse,
)
from protocol.referee import Referee
from protocol.requests import Filter, Will
from protocol.wire import PacketType, Properties, Property, Version

A = TypeVar("A")

DEADLINE_S = 5.0
"""How long a test waits for what must come."""

PEER_MAY_BE_SILENT = "STROGOFF_TEST_PEER" in os.environ
"""A server may close without CONNACK or DISCONNECT; ours explains itself, other brokers often do not."""

_numbers = itertools.count(1)
_run = secrets.token_hex(3)


def unique(prefix: str = "c") -> str:
    """A name that no other test uses; short and alphanumeric, so that every server takes it as a client id."""
    return f"{prefix}{_run}{next(_numbers):x}"


class Connection(Protocol):
    """What a client writes to and reads from; a socket is one."""

    def sendall(self, data: bytes, /) -> None: ...
    def recv(self, size: int, /) -> bytes: ...
    def settimeout(self, seconds: float, /) -> None: ...
    def setsockopt(self, level: int, name: int, value: bytes, /) -> None: ...
    def close(self) -> None: ...


def dial(port: int) -> socket.socket:
    """A TCP connection to the loopback interface."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Client:
    """One connection: to a port of the loopback interface, or one that is there already.

    The version decides how packets are written and read.
    """

    def __init__(self, where: int | Connection, version: Version) -> None:
        self.version = version
        self.client_id = ""
        self.referee = Referee(version)
        self._inbox: deque[AnyAnswer] = deque()
        self._buffer = bytearray()
        self._outgoing = bytearray()
        self._closed = False
        self._packet_ids = itertools.cycle(range(1, 65_536))
        self._socket = dial(where) if isinstance(where, int) else where

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # -- bytes -------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send bytes as they are: one packet, several, or a part of one."""
        self._note_sent(data)
        self._socket.settimeout(DEADLINE_S)
        self._socket.sendall(data)

    def flood(self, data: bytes) -> None:
        """Send what the server takes of `data` at once, and stop when it takes no more."""
        self._socket.settimeout(0.2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            self._socket.sendall(data)

    def close(self) -> None:
        """Close the socket without DISCONNECT. Idempotent."""
        self._socket.close()

    def reset(self) -> None:
        """Break the connection with a TCP reset, as a failing network would."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, (1).to_bytes(4, "little") + bytes(4))
        self._socket.close()

    def _note_sent(self, data: bytes) -> None:
        self._outgoing += data
        while (frame := _split(self._outgoing)) is not None:
            first_byte, body, size = frame
            self.referee.sent(first_byte, body)
            del self._outgoing[:size]

    def _read(self, deadline: float) -> bool:
        """Read what is there into the inbox. False at the end of the stream; raises `TimeoutError` at the deadline."""
        if self._closed:
            return False
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            data = self._socket.recv(65_536)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            self._closed = True
            assert not self._buffer, f"the connection ended inside a packet, after {bytes(self._buffer).hex(' ')}"
            return False
        self._buffer += data
        while (frame := _split(self._buffer)) is not None:
            first_byte, body, size = frame
            del self._buffer[:size]
            answer = parse(self.version, first_byte, body, size)
            self.referee.received(answer)
            self._inbox.append(answer)
        return True

    # -- answers -----------------------------------------------------------------------------------------------

    def expect(self, kind: type[A], timeout: float = DEADLINE_S) -> A:
        """The next packet of this kind; packets of other kinds stay for later. Fails when it does not come."""
        deadline = time.monotonic() + timeout
        while True:
            for index, answer in enumerate(self._inbox):
                if isinstance(answer, kind):
                    del self._inbox[index]
                    return answer
            assert self._more(deadline), f"the connection was closed, {kind.__name__} was expected; {self._unread()}"

    def poll(self, kind: type[A], within: float = 0.01) -> A | None:
        """The next packet of this kind if it comes within so short a time, else None."""
        deadline = time.monotonic() + within
        while not any(isinstance(answer, kind) for answer in self._inbox):
            try:
                assert self._read(deadline), f"the connection was closed; {self._unread()}"
            except TimeoutError:
                return None
        return self.expect(kind)

    def _more(self, deadline: float) -> bool:
        try:
            return self._read(deadline)
        except TimeoutError:
            raise AssertionError(f"nothing more came within the deadline; {self._unread()}") from None

    def _unread(self) -> str:
        return f"unread: {list(self._inbox)}" if self._inbox else "nothing is unread"

    def expect_closed(self, timeout: float = DEADLINE_S) -> None:
        """The server closes, and has said nothing that was not read before."""
        deadline = time.monotonic() + timeout
        while self._more(deadline):
            pass
        assert not self._inbox, f"the connection was to be closed without a further packet; {self._unread()}"

    def expect_refusal(self, *codes: int, timeout: float = DEADLINE_S) -> None:
        """The server ends the connection: version 5 with DISCONNECT and one of these reason codes, older by closing."""
        if self.version is Version.V5 and not PEER_MAY_BE_SILENT:
            disconnect = self.expect(Disconnect, timeout)
            wanted = " or ".join(f"0x{code:02x}" for code in codes)
            assert disconnect.code in codes, f"DISCONNECT says 0x{disconnect.code:02x}, {wanted} was expected"
        elif PEER_MAY_BE_SILENT:
            self._drop_disconnect(timeout)
        self.expect_closed(timeout)

    def _drop_disconnect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._more(deadline):
            pass
        self._inbox = deque(each for each in self._inbox if not isinstance(each, Disconnect))

    def expect_connect_refusal(self, *codes: int, silence_allowed: bool = False) -> None:
        """The server ends a connection whose CONNECT is wrong: version 5 with CONNACK and one of these reason codes.

        Older versions get no CONNACK. Version 5 may get none where `silence_allowed`: the server cannot know it yet.
        """
        deadline = time.monotonic() + DEADLINE_S
        while self._more(deadline):
            pass
        if self._inbox and self.version is Version.V5:
            connack = self.expect(Connack)
            assert connack.code in codes, f"CONNACK says 0x{connack.code:02x}"
        elif self.version is Version.V5:
            assert silence_allowed or PEER_MAY_BE_SILENT, "the connection was closed without a CONNACK"
        self.expect_closed()

    def expect_filter_refused(self) -> None:
        """The server refuses the only filter of a SUBSCRIBE: by its SUBACK, or by ending the connection."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._inbox and self._more(deadline):
            pass
        if self._inbox and isinstance(self._inbox[0], Suback):
            codes = self.expect(Suback).codes
            assert codes[0] >= 0x80, f"the filter was accepted, with code {codes[0]}"
        else:
            self.expect_refusal(0x81, 0x82, 0x8F)

    def expect_or_close(self, kind: type[A]) -> A | None:
        """The next packet, which must be of this kind, or None when the server closed without a further one."""
        deadline = time.monotonic() + DEADLINE_S
        while not self._inbox and self._more(deadline):
            pass
        return self.expect(kind) if self._inbox else None

    def expect_nothing(self, within: float = 0.2) -> None:
        """Nothing arrives for so long. Prefer `barrier` or `fence`, which need no waiting."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                assert self._read(deadline), f"the connection was closed; {self._unread()}"
            except TimeoutError:
                break
        assert not self._inbox, f"nothing was to come; {self._unread()}"

    def barrier(self) -> None:
        """The server handled all that this client sent, and nothing but what the test has read came of it."""
        self.send(requests.pingreq())
        self.expect(Pingresp)
        assert not self._inbox, f"nothing but PINGRESP was to come; {self._unread()}"

    # -- exchanges ---------------------------------------------------------------------------------------------

    def handshake(
        self,
        client_id: str | None = None,
        *,
        clean_start: bool = True,
        keep_alive: int = 60,
        will: Will | None = None,
        username: str | None = None,
        password: bytes | None = None,
        properties: Properties = (),
    ) -> Connack:
        """Send CONNECT and give the CONNACK, whatever it says."""
        self.client_id = unique() if client_id is None else client_id
        self.referee.agree(properties)
        self.send(
            requests.connect(
                self.version,
                self.client_id,
                clean_start=clean_start,
                keep_alive=keep_alive,
                will=will,
                username=username,
                password=password,
                properties=properties,
            )
        )
        return self.expect(Connack)

    def next_packet_id(self) -> int:
        return next(self._packet_ids)

    def subscribe(
        self, *filters: str | Filter, qos: int = 0, properties: Properties = (), packet_id: int | None = None
    ) -> Suback:
        """Subscribe, to strings with `qos`, and give the SUBACK."""
        packet_id = packet_id or self.next_packet_id()
        wanted = [Filter(each, qos) if isinstance(each, str) else each for each in filters]
        self.send(requests.subscribe(self.version, packet_id, wanted, properties=properties))
        suback = self.expect(Suback)
        assert suback.packet_id == packet_id
        return suback

    def unsubscribe(self, *filters: str, packet_id: int | None = None) -> Unsuback:
        packet_id = packet_id or self.next_packet_id()
        self.send(requests.unsubscribe(self.version, packet_id, filters))
        unsuback = self.expect(Unsuback)
        assert unsuback.packet_id == packet_id
        return unsuback

    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 0,
        retain: bool = False,
        dup: bool = False,
        properties: Properties = (),
        packet_id: int | None = None,
    ) -> int:
        """Publish and complete the exchange of the QoS. The reason code of PUBACK or PUBREC, 0 where there is none."""
        packet_id = (packet_id or self.next_packet_id()) if qos else None
        self.send(
            requests.publish(
                self.version,
                topic,
                payload,
                qos=qos,
                packet_id=packet_id,
                retain=retain,
                dup=dup,
                properties=properties,
            )
        )
        if packet_id is None:
            return 0
        if qos == 1:
            puback = self.expect(Puback)
            assert puback.packet_id == packet_id
            return puback.code
        pubrec = self.expect(Pubrec)
        assert pubrec.packet_id == packet_id
        if pubrec.code < 0x80:
            self.release(packet_id)
        return pubrec.code

    def release(self, packet_id: int) -> None:
        """Send PUBREL and take its PUBCOMP, which must report success."""
        self.acknowledge(PacketType.PUBREL, packet_id)
        pubcomp = self.expect(Pubcomp)
        assert (pubcomp.packet_id, pubcomp.code) == (packet_id, 0)

    def acknowledge(self, kind: PacketType, packet_id: int | None, code: int = 0, properties: Properties = ()) -> None:
        """Send PUBACK, PUBREC, PUBREL or PUBCOMP."""
        assert packet_id is not None, "a message of QoS 0 is not acknowledged"
        self.send(requests.acknowledge(kind, self.version, packet_id, code, properties))

    def complete(self, publish: Publish) -> None:
        """Do what the QoS of a received message asks of its receiver."""
        if publish.qos == 1:
            self.acknowledge(PacketType.PUBACK, publish.packet_id)
        elif publish.qos == 2:
            self.acknowledge(PacketType.PUBREC, publish.packet_id)
            assert self.expect(Pubrel).packet_id == publish.packet_id
            self.acknowledge(PacketType.PUBCOMP, publish.packet_id)

    def receive(self, timeout: float = DEADLINE_S) -> Publish:
        """The next message, acknowledged in full."""
        publish = self.expect(Publish, timeout)
        self.complete(publish)
        return publish

    def receive_payloads(self, count: int) -> list[bytes]:
        return [self.receive().payload for _ in range(count)]

    def send_disconnect(self, code: int = 0, properties: Properties = ()) -> None:
        """DISCONNECT, without a look at what the server makes of it."""
        self.send(requests.disconnect(self.version, code, properties))

    def disconnect(self, code: int = 0, properties: Properties = ()) -> None:
        """DISCONNECT, then close when the server did: what the DISCONNECT changes is in force afterwards."""
        self.send_disconnect(code, properties)
        self.expect_closed()
        self.close()


def fence(publisher: Client, subscriber: Client, *, qos: int = 0) -> None:
    """Show that `publisher` has sent nothing (of this QoS) to `subscriber` that the test has not read.

    A last message on a topic of its own must arrive at once, since the order of one publisher is kept.
    """
    topic = unique("fence/")
    subscriber.subscribe(topic, qos=qos)
    publisher.publish(topic, qos=qos)
    arrived = subscriber.receive()
    assert arrived.topic == topic, f"nothing was to come before the fence, but this did: {arrived}"
    subscriber.barrier()


class Network:
    """Opens clients to the broker on `port`, over what `dial` makes; `close` closes them all."""

    def __init__(self, port: int, dial: Callable[[int], Connection] = dial) -> None:
        self.port = port
        self._dial = dial
        self._clients: list[Client] = []

    def open(self, version: Version) -> Client:
        """A connection on which nothing has been sent."""
        client = Client(self._dial(self.port), version)
        self._clients.append(client)
        return client

    def connect(
        self,
        version: Version,
        client_id: str | None = None,
        *,
        clean_start: bool = True,
        keep_alive: int = 60,
        will: Will | None = None,
        properties: Properties = (),
    ) -> Client:
        """A client that the broker has accepted; its CONNACK is `client.referee.connack`."""
        client = self.open(version)
        connack = client.handshake(
            client_id, clean_start=clean_start, keep_alive=keep_alive, will=will, properties=properties
        )
        assert connack.code == 0, f"CONNECT was refused: {connack}"
        return client

    def resume(self, version: Version, client_id: str, *, properties: Properties = ()) -> Client:
        """A client with a session that outlives its connection: continued where there is one, else begun."""
        lasting: Properties = [(Property.SESSION_EXPIRY_INTERVAL, 300), *properties]
        return self.connect(version, client_id, clean_start=False, properties=lasting if version is Version.V5 else ())

    def refused(self, version: Version, data: bytes) -> Client:
        """A connection on which `data` was sent first, for a broker that is to refuse it."""
        client = self.open(version)
        client.send(data)
        return client

    def close(self) -> None:
        """Close all connections, without DISCONNECT."""
        for client in self._clients:
            client.close()


class NetWith(Protocol):
    """What the fixture `net_with` is: settings of a broker in, a network to such a broker out."""

    def __call__(self, settings: Mapping[str, Setting] | None = None, /, **more: Setting) -> Network: ...


def _split(data: bytearray) -> tuple[int, bytes, int] | None:
    """The first packet in `data`: first byte, body, whole size. None while it is incomplete."""
    length = 0
    for index in range(1, 5):
        if index >= len(data):
            return None
        length |= (data[index] & 0x7F) << (7 * (index - 1))
        if not data[index] & 0x80:
            end = index + 1 + length
            return (data[0], bytes(data[index + 1 : end]), end) if len(data) >= end else None
    return None
