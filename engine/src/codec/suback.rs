//! SUBACK: what became of each topic filter of a SUBSCRIBE (MQTT 5 §3.9).

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// A SUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// That of the SUBSCRIBE ([MQTT-3.8.4-2]).
    pub packet_id: u16,
    /// Reason string and user properties; empty before version 5.
    pub properties: Properties<'a>,
    /// One for each filter, in their order ([MQTT-3.9.3-1]).
    pub reasons: &'a [ReasonCode],
}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::SubAck);

impl<'a> SubAck<'a> {
    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = if version == ProtocolVersion::V5 {
            Properties::decode(reader.property_list()?, OWNER)?
        } else {
            Properties::new()
        };
        let reasons = ReasonCode::from_bytes(reader.rest());
        // [MQTT-3.9.3-2]; before version 5 success is a QoS and failure is 0x80.
        let allowed = |reason: &ReasonCode| {
            reason.is_allowed_in(PacketType::SubAck) && (version == ProtocolVersion::V5 || reason.0 <= 0x80)
        };
        if !reasons.iter().all(allowed) {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        }
        if reasons.is_empty() {
            return Err(DecodeError::protocol("the packet", "has no reason code"));
        }
        Ok(Self { packet_id, properties, reasons })
    }

    /// Appends the packet. Before version 5 every failure is 0x80.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write_packet(self, version, out);
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.9.2-1], [MQTT-3.9.2-2]). Returns false, having written nothing, when it
    /// cannot be made to fit.
    pub fn encode_within(&self, version: ProtocolVersion, max_packet_size: u32, out: &mut Vec<u8>) -> bool {
        write_packet_within(self, version, max_packet_size, out)
    }
}

impl Body for SubAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::SubAck.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        sink.u16(self.packet_id);
        if version == ProtocolVersion::V5 {
            self.properties.write(OWNER, keep, sink);
        }
        for reason in self.reasons {
            let failed_before_v5 = reason.is_error() && version != ProtocolVersion::V5;
            sink.u8(if failed_before_v5 { 0x80 } else { reason.0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::decode_error;

    // [MQTT-3.9.3-1], [MQTT-3.9.3-2]; 3.1.1: [MQTT-3.9.3-2]
    #[test]
    fn failures_are_told_apart_only_in_version_5() {
        let reasons = [ReasonCode::GRANTED_QOS_2, ReasonCode::NOT_AUTHORIZED, ReasonCode::GRANTED_QOS_0];
        let suback = SubAck { packet_id: 1, properties: Properties::new(), reasons: &reasons };
        let mut out = Vec::new();
        suback.encode(ProtocolVersion::V5, &mut out);
        assert_eq!(out, [0x90, 6, 0, 1, 0, 2, 0x87, 0]);
        out.clear();
        suback.encode(ProtocolVersion::V3_1_1, &mut out);
        assert_eq!(out, [0x90, 5, 0, 1, 2, 0x80, 0]);
        assert_eq!(decode_error(ProtocolVersion::V3_1_1, &[0x90, 3, 0, 1, 0x87]).reason.0, 0x82);
        assert_eq!(decode_error(ProtocolVersion::V5, &[0x90, 4, 0, 1, 0, 3]).reason.0, 0x82);
        assert_eq!(decode_error(ProtocolVersion::V5, &[0x90, 3, 0, 1, 0]).reason.0, 0x82);
    }

    // [MQTT-3.9.2-1]
    #[test]
    fn the_reason_string_goes_before_the_reason_codes() {
        let mut suback = SubAck { packet_id: 1, properties: Properties::new(), reasons: &[ReasonCode::SUCCESS] };
        suback.properties.reason_string = Some("long");
        let mut out = Vec::new();
        assert!(suback.encode_within(ProtocolVersion::V5, 12, &mut out));
        assert_eq!(out, [0x90, 4, 0, 1, 0, 0]);
        assert!(!suback.encode_within(ProtocolVersion::V5, 5, &mut out));
    }
}
