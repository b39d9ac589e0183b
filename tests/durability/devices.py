"""Clients with sessions that outlive connections and brokers; they keep over a reconnect what MQTT 4.1 asks for.

A publisher sends again what was not acknowledged, with DUP and the same identifier, and PUBREL for what was received; a
subscriber keeps QoS 2 identifiers until PUBREL. Both enter what they see in the ledger. A device reconnects until it
is told to stop. All devices of a test live in one event loop.
"""

import asyncio
import contextlib
import itertools
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from durability.ledger import Kind, Ledger, Message, MessageKey, Span
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
from protocol.requests import Filter
from protocol.wire import PacketType, Properties, Property, Version, ViolationError

__all__ = ["Device", "Publisher", "Subscriber"]

RETRY_S = 0.02
CONNACK_DEADLINE_S = 10.0
SESSION_EXPIRY_S = 86_400
WINDOW_MAX = 16
"""Publishes of one publisher without an acknowledgement."""


class Link(asyncio.Protocol):
    """One connection of a device: packets in and out, all of them judged by a referee."""

    def __init__(self, device: "Device") -> None:
        self.device = device
        self.referee = Referee(device.version)
        self.settled = asyncio.Event()
        """Set by CONNACK or by the end."""
        self.closed = asyncio.Event()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self.settled.set()
        self.closed.set()
        self.device.lost(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            for first_byte, body, size in _frames(self._buffer):
                answer = parse(self.device.version, first_byte, body, size)
                self.referee.received(answer)
                self.device.handle(self, answer)
        except ViolationError as error:
            self.device.ledger.note(Kind.PROTOCOL, f"{self.device.name}: {error}")
            self.abort()

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def send(self, packet: bytes) -> None:
        """Send one packet; after the end of the connection it is lost, as it would be on a network."""
        if self._transport is None or self._transport.is_closing():
            return
        for first_byte, body, _ in _frames(bytearray(packet)):
            self.referee.sent(first_byte, body)
        self._transport.write(packet)

    def close(self) -> None:
        """Close when all has been sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, as a failing network would."""
        if self._transport is not None:
            self._transport.abort()


def _frames(buffer: bytearray) -> "list[tuple[int, bytes, int]]":
    """Take the whole packets out of the buffer: first byte, body, size."""
    found = []
    at = 0
    while True:
        length, shift, start = 0, 0, at + 1
        while start < len(buffer) and shift < 28:
            byte = buffer[start]
            length |= (byte & 0x7F) << shift
            shift, start = shift + 7, start + 1
            if not byte & 0x80:
                break
        else:
            break
        if start + length > len(buffer):
            break
        found.append((buffer[at], bytes(buffer[start : start + length]), start + length - at))
        at = start + length
    del buffer[:at]
    return found


class Device:
    """What publishers and subscribers have in common: a name, a session, one connection after the other."""

    def __init__(self, name: str, version: Version, ledger: Ledger, *, receive_maximum: int | None = None) -> None:
        self.name = name
        self.version = version
        self.ledger = ledger
        self.connection = 0
        """Number of the connection, from 1."""
        self.present = asyncio.Event()
        """Set while the broker has accepted the connection."""
        self.wants_connection = asyncio.Event()
        self.wants_connection.set()
        self._properties: Properties = [(Property.SESSION_EXPIRY_INTERVAL, SESSION_EXPIRY_S)]
        if receive_maximum is not None:
            self._properties = [*self._properties, (Property.RECEIVE_MAXIMUM, receive_maximum)]
        self._link: Link | None = None
        self._has_session = False
        """A CONNACK said so, so that the broker must know the session from now on."""
        self._is_stopped = False
        self._ponged = asyncio.Event()
        self._packet_ids = itertools.cycle(range(1, 65_536))

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def run(self, port: int) -> None:
        """Connect, and connect again, until `stop`."""
        while not self._is_stopped:
            await self.wants_connection.wait()
            with contextlib.suppress(OSError):
                await self._one_connection(port)
            await asyncio.sleep(RETRY_S)

    async def _one_connection(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: Link(self), "127.0.0.1", port)
        self.connection += 1
        self._link = link
        properties = self._properties if self.version is Version.V5 else ()
        link.referee.agree(properties)
        link.send(requests.connect(self.version, self.name, clean_start=False, keep_alive=0, properties=properties))
        try:
            async with asyncio.timeout(CONNACK_DEADLINE_S):
                await link.settled.wait()
            await link.closed.wait()
        except TimeoutError:
            self.ledger.note(Kind.UNFINISHED, f"{self.name} got no CONNACK within {CONNACK_DEADLINE_S:g} s")
        finally:
            link.abort()

    def stop(self) -> None:
        """Disconnect for good; `run` returns soon."""
        self._is_stopped = True
        self.wants_connection.set()
        self.leave()

    def handle(self, link: Link, answer: AnyAnswer) -> None:
        if isinstance(answer, Connack):
            self._connack(link, answer)
        elif isinstance(answer, Disconnect):
            self.ledger.counts[f"DISCONNECT 0x{answer.code:02x}"] += 1
        elif isinstance(answer, Pingresp):
            self._ponged.set()
        else:
            self.handle_packet(link, answer)

    def _connack(self, link: Link, connack: Connack) -> None:
        if connack.code != 0:
            self.ledger.note(Kind.SESSION, f"{self.name}: CONNECT was refused with 0x{connack.code:02x}")
            return
        if self._has_session and not connack.session_present:
            self.ledger.note(Kind.SESSION, f"{self.name}, connection {self.connection}: the session is gone")
        if connack.session_present and self.connection == 1:
            self.ledger.note(Kind.SESSION, f"{self.name}: a session that nobody began is present")
        self._has_session = True
        self.present.set()
        link.settled.set()
        self.resume(link, is_new=not connack.session_present)

    def lost(self, link: Link) -> None:
        if link is self._link:
            self.present.clear()

    def leave(self, *, orderly: bool = True) -> None:
        """End the connection that there is, with DISCONNECT or without; the session stays."""
        if self._link is not None:
            if orderly:
                self._link.send(requests.disconnect(self.version))
                self._link.close()
            else:
                self._link.abort()
        self.present.clear()

    async def until_cut_off(self) -> None:
        """Return when the connection is over and all that came on it was read."""
        if self._link is not None:
            await self._link.closed.wait()

    async def ping(self) -> None:
        """Return when the broker has answered: what it had to send before is here. Raises `TimeoutError`."""
        self._ponged.clear()
        assert self._link is not None
        self._link.send(requests.pingreq())
        async with asyncio.timeout(CONNACK_DEADLINE_S):
            await self._ponged.wait()

    def resume(self, link: Link, *, is_new: bool) -> None:
        """Go on with the session on a new connection."""

    def handle_packet(self, link: Link, answer: AnyAnswer) -> None:
        """Do what the packet asks for."""
        raise NotImplementedError

    def not_asked_for(self, answer: AnyAnswer) -> None:
        """Note a packet that answers nothing that this device said."""
        self.ledger.note(Kind.PROTOCOL, f"{self.name} got {answer} and has not asked for it")


@dataclass(slots=True)
class _Flight:
    """A message on its way to the broker."""

    message: Message
    packet_id: int
    received_on: int = 0
    """QoS 2: the connection on which PUBREC came; PUBREL is on its way."""


class Publisher(Device):
    """Publishes what it is given, at most `WINDOW_MAX` at a time, until each is acknowledged or refused."""

    def __init__(self, name: str, version: Version, ledger: Ledger) -> None:
        super().__init__(name, version, ledger)
        self.flights: dict[int, _Flight] = {}
        self._numbers = itertools.count(1)

    @property
    def is_done(self) -> bool:
        return not self.flights

    @property
    def has_room(self) -> bool:
        return self.present.is_set() and len(self.flights) < WINDOW_MAX

    def publish(self, topic: str, qos: int, make_payload: Callable[[int], bytes], *, retain: bool = False) -> None:
        """Begin to publish one message; `make_payload` gets its number."""
        number = next(self._numbers)
        message = Message(self.name, number, topic, qos, retain, make_payload(number), self.now)
        self.ledger.begin(message)
        flight = _Flight(message, self._free_id())
        self.flights[flight.packet_id] = flight
        assert self._link is not None
        self._send(self._link, flight, dup=False)

    def _free_id(self) -> int:
        return next(each for each in self._packet_ids if each not in self.flights)

    def _send(self, link: Link, flight: _Flight, *, dup: bool) -> None:
        message = flight.message
        message.sends += 1
        link.send(
            requests.publish(
                self.version,
                message.topic,
                message.payload,
                qos=message.qos,
                packet_id=flight.packet_id,
                retain=message.retain,
                dup=dup,
            )
        )

    def resume(self, link: Link, *, is_new: bool) -> None:
        """Send again, in the order of the first time: PUBREL where PUBREC came, else PUBLISH."""
        for flight in list(self.flights.values()):
            if not flight.received_on:
                self._send(link, flight, dup=not is_new)
            elif is_new:
                # The broker has the message and has forgotten the exchange; there is nothing left to say.
                del self.flights[flight.packet_id]
            else:
                link.send(requests.acknowledge(PacketType.PUBREL, self.version, flight.packet_id))

    def handle_packet(self, link: Link, answer: AnyAnswer) -> None:
        flight = self.flights.get(answer.packet_id) if isinstance(answer, Puback | Pubrec | Pubcomp) else None
        if isinstance(answer, Pubcomp):
            self._pubcomp(flight, answer)
        elif isinstance(answer, Puback | Pubrec) and flight is not None:
            self._acknowledged(link, flight, answer)
        else:
            self.not_asked_for(answer)

    def _acknowledged(self, link: Link, flight: _Flight, answer: Puback | Pubrec) -> None:
        if answer.code >= 0x80:
            self.ledger.refuse(flight.message, answer.code)
            del self.flights[flight.packet_id]
            return
        if not flight.received_on:
            self.ledger.accept(flight.message, self.now)
        if isinstance(answer, Puback):
            del self.flights[flight.packet_id]
        else:
            flight.received_on = self.connection
            link.send(requests.acknowledge(PacketType.PUBREL, self.version, flight.packet_id))

    def _pubcomp(self, flight: _Flight | None, pubcomp: Pubcomp) -> None:
        if flight is None or not flight.received_on:
            self.ledger.note(Kind.PROTOCOL, f"{self.name} got {pubcomp}, and has sent no PUBREL")
            return
        if pubcomp.code != 0 and flight.received_on == self.connection:
            # Where PUBREL was sent again, the broker may have handled the first and forgotten the identifier.
            self.ledger.note(Kind.IDENTIFIER, f"{self.name} got {pubcomp} for {flight.message.key}")
        del self.flights[flight.packet_id]


@dataclass(slots=True)
class _Wish:
    """A SUBSCRIBE or UNSUBSCRIBE that is not answered yet; it is sent again on the next connection."""

    span: Span
    leaves: bool
    packet_id: int = 0


@dataclass(slots=True)
class _Held:
    """What the session of a subscriber keeps of the messages it got."""

    unacknowledged: dict[int, MessageKey] = field(default_factory=dict)
    """QoS 1 and PUBACK was never sent."""
    unreleased: dict[int, MessageKey] = field(default_factory=dict)
    """QoS 2 and PUBREL has not come."""


class Subscriber(Device):
    """Takes messages, acknowledges each `delay_s` after it came, in order; comes and goes as it is told."""

    def __init__(
        self, name: str, version: Version, ledger: Ledger, *, delay_s: float = 0.0, receive_maximum: int | None = None
    ) -> None:
        super().__init__(name, version, ledger, receive_maximum=receive_maximum)
        self.page = ledger.page(name)
        self.delay_s = delay_s
        self.held = _Held()
        self._wish: _Wish | None = None
        self._answers: deque[tuple[float, Callable[[], None]]] = deque()

    # -- subscriptions -----------------------------------------------------------------------------------------

    @property
    def is_settled(self) -> bool:
        """Whether the last wish was answered."""
        return self._wish is None

    def subscribe(self, topic_filter: str, qos: int) -> None:
        span = Span(topic_filter, qos, asked_at=self.now)
        self.page.spans.append(span)
        self._ask(_Wish(span, leaves=False))

    def unsubscribe(self) -> None:
        """Give up the last subscription."""
        span = self.page.spans[-1]
        span.leaving_at = self.now
        self._ask(_Wish(span, leaves=True))

    def _ask(self, wish: _Wish) -> None:
        assert self._wish is None, f"{self.name} waits for an answer already"
        self._wish = wish
        if self.present.is_set() and self._link is not None:
            self._send_wish(self._link)

    def _send_wish(self, link: Link) -> None:
        wish = self._wish
        if wish is None:
            return
        wish.packet_id = next(self._packet_ids)
        span = wish.span
        if wish.leaves:
            link.send(requests.unsubscribe(self.version, wish.packet_id, [span.topic_filter]))
        else:
            link.send(requests.subscribe(self.version, wish.packet_id, [Filter(span.topic_filter, span.qos)]))

    def _wish_granted(self, answer: Suback | Unsuback) -> None:
        wish = self._wish
        if wish is None or wish.packet_id != answer.packet_id:
            self.ledger.note(Kind.PROTOCOL, f"{self.name} got {answer}, and has not asked for it")
            return
        self._wish = None
        if wish.leaves:
            wish.span.left_at = self.now
        elif isinstance(answer, Suback) and answer.codes == (wish.span.qos,):
            wish.span.granted_at = self.now
        else:
            self.ledger.note(Kind.PROTOCOL, f"{self.name} asked for QoS {wish.span.qos} and got {answer}")

    # -- messages ----------------------------------------------------------------------------------------------

    @property
    def is_done(self) -> bool:
        return not (self._answers or self.held.unacknowledged or self.held.unreleased)

    def resume(self, link: Link, *, is_new: bool) -> None:
        """Forget what the last connection still had to say; the broker asks for it again."""
        self._answers.clear()
        if is_new:
            self.held = _Held()
        self._send_wish(link)

    def handle_packet(self, link: Link, answer: AnyAnswer) -> None:
        if isinstance(answer, Publish):
            self._publish(link, answer)
        elif isinstance(answer, Pubrel):
            self._later(partial(self._pubrel, link, answer.packet_id))
        elif isinstance(answer, Suback | Unsuback):
            self._wish_granted(answer)
        else:
            self.not_asked_for(answer)

    def _publish(self, link: Link, publish: Publish) -> None:
        packet_id = publish.packet_id
        if packet_id is None:
            self.ledger.note(Kind.FOREIGN, f"{self.name} got {publish} with QoS 0")
            return
        book = self.held.unreleased if publish.qos == 2 else self.held.unacknowledged
        before = book.get(packet_id)
        is_new = publish.qos == 1 or before is None
        key = self.page.arrived(publish, connection=self.connection, is_new=is_new)
        if key is None:
            return
        if before is not None and before != key:
            self.ledger.note(
                Kind.IDENTIFIER, f"{self.name} got {key} as {packet_id}, which is still in use for {before}"
            )
        book[packet_id] = key
        self._later(partial(self._acknowledge, link, publish.qos, packet_id, key))

    def _acknowledge(self, link: Link, qos: int, packet_id: int, key: MessageKey) -> None:
        if not link.is_open:
            return
        link.send(requests.acknowledge(PacketType.PUBREC if qos == 2 else PacketType.PUBACK, self.version, packet_id))
        self.page.completed(key)
        if qos == 1:
            self.held.unacknowledged.pop(packet_id, None)

    def _pubrel(self, link: Link, packet_id: int) -> None:
        if link.is_open:
            self.held.unreleased.pop(packet_id, None)
            link.send(requests.acknowledge(PacketType.PUBCOMP, self.version, packet_id))

    def _later(self, answer: Callable[[], None]) -> None:
        if self.delay_s == 0 and not self._answers:
            answer()
            return
        self._answers.append((self.now + self.delay_s, answer))
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_later(self.delay_s, self._answer_due)

    def _answer_due(self) -> None:
        while self._answers and self._answers[0][0] <= self.now + 0.001:
            self._answers.popleft()[1]()
        if self._answers:
            asyncio.get_running_loop().call_at(self._answers[0][0], self._answer_due)
