"""Judges what a server sends by what went before it on the same connection.

Every packet of every test passes here, so rules that hold at all times (packet identifiers in use, Receive Maximum,
topic aliases, sizes, what may precede CONNACK or follow DISCONNECT) are checked in all tests and not only in their own.
"""

from collections import Counter
from dataclasses import dataclass, field

from protocol.answers import (
    AnyAnswer,
    Auth,
    Connack,
    Disconnect,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Unsuback,
)
from protocol.wire import PacketType, Properties, Property, Reader, Version, ViolationError

ANSWERED_BY = {
    PacketType.SUBSCRIBE: Suback,
    PacketType.UNSUBSCRIBE: Unsuback,
    PacketType.PUBREL: Pubcomp,
}


@dataclass(slots=True)
class Referee:
    """The rules of one connection. Tell it what was `sent`; `received` raises `ViolationError`."""

    version: Version
    terms: dict[Property, object] = field(default_factory=dict)
    connack: Connack | None = None
    ended: bool = False
    open_ids: set[int] = field(default_factory=set)
    """Packet identifiers of QoS 1 and 2 deliveries on this connection that the client has not completed."""
    owed_pubrels: set[int] = field(default_factory=set)
    awaited: Counter[tuple[type, int]] = field(default_factory=Counter)
    """Answers that the client's packets call for: one each."""
    filter_counts: dict[tuple[type, int], int] = field(default_factory=dict)
    aliases: dict[int, str] = field(default_factory=dict)

    def agree(self, properties: Properties | bytes) -> None:
        """Note what the client's CONNECT asks the server to respect."""
        if not isinstance(properties, bytes):
            self.terms = dict(properties)

    def _term(self, name: Property, default: int) -> int:
        value = self.terms.get(name, default)
        return value if isinstance(value, int) else default

    # -- the client's packets ----------------------------------------------------------------------------------

    def sent(self, first_byte: int, body: bytes) -> None:
        """Note a packet of the client; one that is malformed leaves no trace, the server will not answer it."""
        kind = first_byte >> 4
        try:
            self._note(PacketType(kind), first_byte, Reader("own packet", body))
        except (ValueError, ViolationError):
            return

    def _note(self, kind: PacketType, first_byte: int, reader: Reader) -> None:
        if kind is PacketType.PUBLISH:
            qos = first_byte >> 1 & 3
            reader.binary("topic name")
            if qos:
                self.awaited[Puback if qos == 1 else Pubrec, reader.packet_id()] += 1
        elif kind in (PacketType.PUBACK, PacketType.PUBCOMP):
            self.open_ids.discard(reader.packet_id())
        elif kind is PacketType.PUBREC:
            packet_id = reader.packet_id()
            if reader.left and reader.u8("reason code") >= 0x80:
                self.open_ids.discard(packet_id)
            else:
                self.owed_pubrels.add(packet_id)
        elif kind in ANSWERED_BY:
            key = (ANSWERED_BY[kind], reader.packet_id())
            self.awaited[key] += 1
            if kind is not PacketType.PUBREL:
                self.filter_counts[key] = self._count_filters(kind, reader)

    def _count_filters(self, kind: PacketType, reader: Reader) -> int:
        if self.version is Version.V5:
            reader.take(reader.varint("property length"), "properties")
        count = 0
        while reader.left:
            reader.binary("topic filter")
            if kind is PacketType.SUBSCRIBE:
                reader.u8("options")
            count += 1
        return count

    # -- the server's packets ----------------------------------------------------------------------------------

    def received(self, answer: AnyAnswer) -> None:
        """Check a packet of the server against the course of the connection."""
        if self.ended:
            raise ViolationError(f"the server sent {answer} after its DISCONNECT or a refusing CONNACK")
        self._check_order(answer)
        self._check_terms(answer)
        if isinstance(answer, Publish):
            self._publish(answer)
        elif isinstance(answer, Pubrel):
            self._pubrel(answer)
        elif isinstance(answer, Puback | Pubrec | Pubcomp | Suback | Unsuback):
            self._acknowledgement(answer)

    def _check_order(self, answer: AnyAnswer) -> None:
        if isinstance(answer, Connack):
            if self.connack is not None:
                raise ViolationError("the server sent a second CONNACK")
            self.connack = answer
            self.ended = answer.code != 0
        elif isinstance(answer, Auth):
            if Property.AUTHENTICATION_METHOD not in self.terms:
                raise ViolationError("the server sent AUTH to a client that named no authentication method")
        elif self.connack is None:
            raise ViolationError(f"the server sent {answer} before its CONNACK")
        if isinstance(answer, Disconnect):
            self.ended = True

    def _check_terms(self, answer: AnyAnswer) -> None:
        limit = self._term(Property.MAXIMUM_PACKET_SIZE, 1 << 32)
        if answer.size > limit:
            raise ViolationError(f"the server sent {answer.size} bytes, the client accepts {limit} at most: {answer}")
        names = {name for name, _ in answer.properties}
        quiet = self._term(Property.REQUEST_PROBLEM_INFORMATION, 1) == 0
        told = names & {Property.REASON_STRING, Property.USER_PROPERTY}
        if quiet and told and not isinstance(answer, Publish | Connack | Disconnect):
            raise ViolationError(f"the server explains itself to a client that asked it not to: {answer}")
        method = self.terms.get(Property.AUTHENTICATION_METHOD)
        if isinstance(answer, Auth | Connack) and answer.value(Property.AUTHENTICATION_METHOD) not in (None, method):
            raise ViolationError(
                f"the server names another authentication method than the client's {method!r}: {answer}"
            )

    def _publish(self, publish: Publish) -> None:
        alias = publish.value(Property.TOPIC_ALIAS)
        if isinstance(alias, int):
            if alias > self._term(Property.TOPIC_ALIAS_MAXIMUM, 0):
                raise ViolationError(
                    f"the server uses topic alias {alias}, which the client does not accept: {publish}"
                )
            if not publish.topic and alias not in self.aliases:
                raise ViolationError(
                    f"the server uses topic alias {alias} before it said what that stands for: {publish}"
                )
            if publish.topic:
                self.aliases[alias] = publish.topic
        resumed = self.connack is not None and self.connack.session_present
        if publish.dup and not resumed:
            raise ViolationError(f"the server sets DUP in a session that began with this connection: {publish}")
        if publish.packet_id is None:
            return
        if publish.packet_id in self.open_ids:
            raise ViolationError(
                f"packet identifier {publish.packet_id} is in use on this connection already: {publish}"
            )
        self.open_ids.add(publish.packet_id)
        if len(self.open_ids) > self._term(Property.RECEIVE_MAXIMUM, 65_535):
            raise ViolationError(f"the server exceeds the client's Receive Maximum: {publish}")

    def _pubrel(self, pubrel: Pubrel) -> None:
        resumed = self.connack is not None and self.connack.session_present
        if pubrel.packet_id not in self.owed_pubrels and not resumed:
            raise ViolationError(f"the client sent no PUBREC that this answers: {pubrel}")
        self.owed_pubrels.discard(pubrel.packet_id)

    def _acknowledgement(self, answer: Puback | Pubrec | Pubcomp | Suback | Unsuback) -> None:
        key = (type(answer), answer.packet_id)
        if self.awaited[key] < 1:
            raise ViolationError(f"the client sent nothing that this answers: {answer}")
        self.awaited[key] -= 1
        expected = self.filter_counts.get(key)
        if isinstance(answer, Suback | Unsuback) and answer.codes and len(answer.codes) != expected:
            raise ViolationError(f"{expected} filters were named, {len(answer.codes)} codes came: {answer}")
