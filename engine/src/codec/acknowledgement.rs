//! PUBACK, PUBREC, PUBREL and PUBCOMP: the four packets that settle a message (MQTT 5 §3.4 to §3.7).

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// Which of the four it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AcknowledgementKind {
    /// Ends a `QoS` 1 delivery.
    PubAck = 4,
    /// The receiver of a `QoS` 2 message has it.
    PubRec = 5,
    /// The sender of a `QoS` 2 message will not send it again.
    PubRel = 6,
    /// Ends a `QoS` 2 delivery.
    PubComp = 7,
}

impl AcknowledgementKind {
    /// The packet type of this kind.
    #[inline]
    pub const fn packet_type(self) -> PacketType {
        match self {
            Self::PubAck => PacketType::PubAck,
            Self::PubRec => PacketType::PubRec,
            Self::PubRel => PacketType::PubRel,
            Self::PubComp => PacketType::PubComp,
        }
    }
}

/// A packet that answers for one packet identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The packet identifier of the message, not 0.
    pub packet_id: u16,
    /// Always success before version 5.
    pub reason: ReasonCode,
    /// Reason string and user properties; empty before version 5.
    pub properties: Properties<'a>,
}

impl<'a> Acknowledgement<'a> {
    /// Success, without properties.
    #[inline]
    pub fn success(packet_id: u16) -> Self {
        Self::with_reason(packet_id, ReasonCode::SUCCESS)
    }

    /// Any result, without properties.
    #[inline]
    pub fn with_reason(packet_id: u16, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: Properties::new() }
    }

    /// Reads a body. Reason code and property length may be left out in version 5 (§3.4.2.1, §3.4.2.2.1).
    #[inline]
    pub(super) fn decode(
        version: ProtocolVersion,
        kind: AcknowledgementKind,
        body: &'a [u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if reader.is_empty() {
            return Ok(Self::success(packet_id));
        }
        if version != ProtocolVersion::V5 {
            reader.finish()?;
        }
        Self::decode_result(packet_id, kind.packet_type(), reader)
    }

    #[inline(never)]
    fn decode_result(packet_id: u16, packet: PacketType, mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let reason = ReasonCode(reader.u8("reason code")?);
        // [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
        if !reason.is_allowed_in(packet) {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        }
        let list = if reader.is_empty() { &[] } else { reader.property_list()? };
        reader.finish()?;
        let properties = Properties::decode(list, PropertyOwner::packet(packet))?;
        Ok(Self { packet_id, reason, properties })
    }

    /// Appends the packet. Before version 5 only the packet identifier is written.
    pub fn encode(&self, kind: AcknowledgementKind, version: ProtocolVersion, out: &mut Vec<u8>) {
        write_packet(&Settling { kind, acknowledgement: self }, version, out);
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.4.2-2], [MQTT-3.4.2-3] and the same of 3.5, 3.6 and 3.7). Returns
    /// false, having written nothing, when it cannot be made to fit.
    pub fn encode_within(
        &self,
        kind: AcknowledgementKind,
        version: ProtocolVersion,
        max_packet_size: u32,
        out: &mut Vec<u8>,
    ) -> bool {
        write_packet_within(&Settling { kind, acknowledgement: self }, version, max_packet_size, out)
    }
}

struct Settling<'a> {
    kind: AcknowledgementKind,
    acknowledgement: &'a Acknowledgement<'a>,
}

impl Body for Settling<'_> {
    fn first_byte(&self) -> u8 {
        self.kind.packet_type().first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        let Acknowledgement { packet_id, reason, properties } = self.acknowledgement;
        let owner = PropertyOwner::packet(self.kind.packet_type());
        sink.u16(*packet_id);
        if version != ProtocolVersion::V5 {
            return;
        }
        let bare = properties.is_empty(owner, keep);
        if bare && *reason == ReasonCode::SUCCESS {
            return;
        }
        sink.u8(reason.0);
        if !bare {
            properties.write(owner, keep, sink);
        }
    }
}

#[inline]
fn encode_success(kind: AcknowledgementKind, packet_id: u16, out: &mut Vec<u8>) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind.packet_type().first_byte(), 2, high, low]);
}

/// Appends a successful PUBACK, the same in all versions.
#[inline]
pub fn encode_puback(packet_id: u16, out: &mut Vec<u8>) {
    encode_success(AcknowledgementKind::PubAck, packet_id, out);
}

/// Appends a successful PUBREC, the same in all versions.
#[inline]
pub fn encode_pubrec(packet_id: u16, out: &mut Vec<u8>) {
    encode_success(AcknowledgementKind::PubRec, packet_id, out);
}

/// Appends a successful PUBREL, the same in all versions.
#[inline]
pub fn encode_pubrel(packet_id: u16, out: &mut Vec<u8>) {
    encode_success(AcknowledgementKind::PubRel, packet_id, out);
}

/// Appends a successful PUBCOMP, the same in all versions.
#[inline]
pub fn encode_pubcomp(packet_id: u16, out: &mut Vec<u8>) {
    encode_success(AcknowledgementKind::PubComp, packet_id, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::{decode_error, decode_one};
    use crate::codec::{Packet, UserProperties};

    const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    #[test]
    fn success_is_four_bytes_in_every_version() {
        type Encode = fn(u16, &mut Vec<u8>);
        let functions: [(Encode, AcknowledgementKind, u8); 4] = [
            (encode_puback, AcknowledgementKind::PubAck, 0x40),
            (encode_pubrec, AcknowledgementKind::PubRec, 0x50),
            // [MQTT-3.6.1-1]
            (encode_pubrel, AcknowledgementKind::PubRel, 0x62),
            (encode_pubcomp, AcknowledgementKind::PubComp, 0x70),
        ];
        for (encode, kind, first_byte) in functions {
            let mut fast = Vec::new();
            encode(0x1234, &mut fast);
            assert_eq!(fast, [first_byte, 2, 0x12, 0x34]);
            for version in [ProtocolVersion::V3_1, V4, V5] {
                let mut out = Vec::new();
                Acknowledgement::success(0x1234).encode(kind, version, &mut out);
                assert_eq!(out, fast);
            }
        }
    }

    // §3.4.2.1, §3.4.2.2.1
    #[test]
    fn reason_and_property_length_may_be_left_out() {
        let expected = Acknowledgement::with_reason(1, ReasonCode::NO_MATCHING_SUBSCRIBERS);
        for bytes in [&[0x40, 3, 0, 1, 0x10][..], &[0x40, 4, 0, 1, 0x10, 0]] {
            assert_eq!(decode_one(V5, bytes), Ok(Packet::PubAck(expected.clone())));
        }
        let mut out = Vec::new();
        expected.encode(AcknowledgementKind::PubAck, V5, &mut out);
        assert_eq!(out, [0x40, 3, 0, 1, 0x10]);
    }

    // [MQTT-3.4.2-1], [MQTT-3.6.2-1], [MQTT-2.2.1-3], [MQTT-3.6.1-1]; 3.1.1: [MQTT-2.2.2-2]
    #[test]
    fn an_acknowledgement_that_breaks_a_rule_is_refused() {
        let cases: [(ProtocolVersion, &[u8], u8); 8] = [
            (V5, &[0x40, 3, 0, 1, 0x92], 0x82),
            (V5, &[0x62, 3, 0, 1, 0x10], 0x82),
            (V5, &[0x40, 5, 0, 1, 0, 0, 0], 0x81),
            (V5, &[0x40, 1, 0], 0x81),
            (V4, &[0x40, 2, 0, 0], 0x82),
            (V4, &[0x40, 3, 0, 1, 0], 0x81),
            (V4, &[0x60, 2, 0, 1], 0x81),
            (V4, &[0x41, 2, 0, 1], 0x81),
        ];
        for (version, bytes, reason) in cases {
            assert_eq!(decode_error(version, bytes).reason.0, reason, "{bytes:x?}");
        }
    }

    // [MQTT-3.4.2-2], [MQTT-3.4.2-3]
    #[test]
    fn what_only_informs_is_left_out_when_space_is_short() {
        let mut refused = Acknowledgement::with_reason(1, ReasonCode::NOT_AUTHORIZED);
        refused.properties.reason_string = Some("no");
        refused.properties.user_properties = UserProperties::Pairs(&[("k", "v")]);
        let sizes = [(19, 18), (18, 18), (17, 11), (11, 11), (10, 5), (5, 5)];
        for (limit, size) in sizes {
            let mut out = Vec::new();
            assert!(refused.encode_within(AcknowledgementKind::PubAck, V5, limit, &mut out));
            assert_eq!(out.len(), size, "limit {limit}");
        }
        let mut out = Vec::new();
        assert!(!refused.encode_within(AcknowledgementKind::PubAck, V5, 4, &mut out));
        assert!(out.is_empty());
    }
}
