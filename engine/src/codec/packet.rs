//! Any packet: which decoder its first byte calls for, and the checks that all kinds share (MQTT 5 §2.1).

use super::frame::type_zero;
use super::{
    Acknowledgement, AcknowledgementKind, Auth, ConnAck, Connect, DecodeError, Disconnect, Frame, PacketType,
    ProtocolVersion, Publish, SubAck, Subscribe, UnsubAck, Unsubscribe, encode_pingreq, encode_pingresp,
};

/// A decoded packet. Strings and binary data are borrowed from the bytes that it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the specification's
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    ConnAck(Box<ConnAck<'a>>),
    Publish(Publish<'a>),
    PubAck(Acknowledgement<'a>),
    PubRec(Acknowledgement<'a>),
    PubRel(Acknowledgement<'a>),
    PubComp(Acknowledgement<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

/// Decodes one packet of a connection that speaks `version`. A CONNECT names its own version and ignores it.
///
/// Both directions are decoded: that a client must not send, say, a CONNACK is for the session to see.
#[inline]
pub fn decode(version: ProtocolVersion, frame: Frame<'_>) -> Result<Packet<'_>, DecodeError> {
    let Some(packet) = PacketType::from_first_byte(frame.first_byte) else {
        return Err(type_zero());
    };
    if let Err(error) = check_header(packet, version, &frame) {
        return Err(error.in_packet(packet));
    }
    let body = frame.body;
    let acknowledgement = |kind| Acknowledgement::decode(version, kind, body);
    // Those that go with each message are decoded in line, the others in functions of their own.
    let decoded = match packet {
        PacketType::Publish => Publish::decode(version, frame.first_byte, body).map(Packet::Publish),
        PacketType::PubAck => acknowledgement(AcknowledgementKind::PubAck).map(Packet::PubAck),
        PacketType::PubRec => acknowledgement(AcknowledgementKind::PubRec).map(Packet::PubRec),
        PacketType::PubRel => acknowledgement(AcknowledgementKind::PubRel).map(Packet::PubRel),
        PacketType::PubComp => acknowledgement(AcknowledgementKind::PubComp).map(Packet::PubComp),
        PacketType::PingReq => without_body(Packet::PingReq, body),
        PacketType::PingResp => without_body(Packet::PingResp, body),
        PacketType::Connect => Connect::decode(frame).map(|packet| Packet::Connect(Box::new(packet))),
        PacketType::ConnAck => ConnAck::decode(version, body).map(|packet| Packet::ConnAck(Box::new(packet))),
        PacketType::Subscribe => Subscribe::decode(version, body).map(Packet::Subscribe),
        PacketType::SubAck => SubAck::decode(version, body).map(Packet::SubAck),
        PacketType::Unsubscribe => Unsubscribe::decode(version, body).map(Packet::Unsubscribe),
        PacketType::UnsubAck => UnsubAck::decode(version, body).map(Packet::UnsubAck),
        PacketType::Disconnect => Disconnect::decode(version, body).map(Packet::Disconnect),
        PacketType::Auth => Auth::decode(version, body).map(Packet::Auth),
    };
    match decoded {
        Ok(decoded) => Ok(decoded),
        Err(error) => Err(error.in_packet(packet)),
    }
}

/// What can be wrong with a fixed header of this type: its flags, and a length longer than it has to be.
#[inline]
fn check_header(packet: PacketType, version: ProtocolVersion, frame: &Frame<'_>) -> Result<(), DecodeError> {
    if packet != PacketType::Publish && frame.first_byte != packet.first_byte() {
        check_flags(packet, version, frame.first_byte)?;
    }
    // [MQTT-1.5.5-1]: 3.1.1 has no such rule, and a CONNECT is not yet known to be version 5.
    if version == ProtocolVersion::V5 && packet != PacketType::Connect && !frame.length_is_minimal() {
        return Err(longer_length_than_needed());
    }
    Ok(())
}

#[cold]
pub(super) fn longer_length_than_needed() -> DecodeError {
    DecodeError::malformed("remaining length", "is not encoded in the fewest bytes possible")
}

/// Flags other than the prescribed ones are malformed ([MQTT-2.1.3-1], [MQTT-3.14.1-1]; 3.1.1: [MQTT-2.2.2-2]).
/// In 3.1 the packets that `QoS` 1 applies to may also have DUP set, when they are sent again.
#[cold]
fn check_flags(packet: PacketType, version: ProtocolVersion, first_byte: u8) -> Result<(), DecodeError> {
    const DUP: u8 = 0b1000;
    let may_repeat = matches!(packet, PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe);
    if version == ProtocolVersion::V3_1 && may_repeat && first_byte == packet.first_byte() | DUP {
        return Ok(());
    }
    Err(DecodeError::malformed("fixed header", "has flags that are not those of this packet"))
}

#[inline]
fn without_body<'a>(packet: Packet<'a>, body: &[u8]) -> Result<Packet<'a>, DecodeError> {
    if body.is_empty() {
        return Ok(packet);
    }
    Err(DecodeError::malformed("the packet", "has a body although it must be empty"))
}

impl Packet<'_> {
    /// The kind of packet.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }

    /// Appends the packet. `version` is ignored for a CONNECT, which names its own. What a version cannot say is not
    /// written: see [`ConnAck::encode`] and [`Auth::encode`].
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Self::Connect(packet) => packet.encode(out),
            Self::ConnAck(packet) => packet.encode(version, out),
            Self::Publish(packet) => packet.encode(version, out),
            Self::PubAck(packet) => packet.encode(AcknowledgementKind::PubAck, version, out),
            Self::PubRec(packet) => packet.encode(AcknowledgementKind::PubRec, version, out),
            Self::PubRel(packet) => packet.encode(AcknowledgementKind::PubRel, version, out),
            Self::PubComp(packet) => packet.encode(AcknowledgementKind::PubComp, version, out),
            Self::Subscribe(packet) => packet.encode(version, out),
            Self::SubAck(packet) => packet.encode(version, out),
            Self::Unsubscribe(packet) => packet.encode(version, out),
            Self::UnsubAck(packet) => packet.encode(version, out),
            Self::PingReq => encode_pingreq(out),
            Self::PingResp => encode_pingresp(out),
            Self::Disconnect(packet) => packet.encode(version, out),
            Self::Auth(packet) => packet.encode(version, out),
        }
    }
}
