//! UNSUBACK: what became of each topic filter of an UNSUBSCRIBE (MQTT 5 §3.11).

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// An UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// That of the UNSUBSCRIBE ([MQTT-3.10.4-5]).
    pub packet_id: u16,
    /// Reason string and user properties; empty before version 5.
    pub properties: Properties<'a>,
    /// One for each filter, in their order ([MQTT-3.11.3-1]); none before version 5.
    pub reasons: &'a [ReasonCode],
}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::UnsubAck);

impl<'a> UnsubAck<'a> {
    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        if version != ProtocolVersion::V5 {
            reader.finish()?;
            return Ok(Self { packet_id, properties: Properties::new(), reasons: &[] });
        }
        let properties = Properties::decode(reader.property_list()?, OWNER)?;
        let reasons = ReasonCode::from_bytes(reader.rest());
        // [MQTT-3.11.3-2]
        if !reasons.iter().all(|reason| reason.is_allowed_in(PacketType::UnsubAck)) {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        }
        if reasons.is_empty() {
            return Err(DecodeError::protocol("the packet", "has no reason code"));
        }
        Ok(Self { packet_id, properties, reasons })
    }

    /// Appends the packet. Before version 5 only the packet identifier is written.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write_packet(self, version, out);
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.11.2-1], [MQTT-3.11.2-2]). Returns false, having written nothing, when
    /// it cannot be made to fit.
    pub fn encode_within(&self, version: ProtocolVersion, max_packet_size: u32, out: &mut Vec<u8>) -> bool {
        write_packet_within(self, version, max_packet_size, out)
    }
}

impl Body for UnsubAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::UnsubAck.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        sink.u16(self.packet_id);
        if version == ProtocolVersion::V5 {
            self.properties.write(OWNER, keep, sink);
            for reason in self.reasons {
                sink.u8(reason.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::decode_error;

    // [MQTT-3.11.3-1], [MQTT-3.11.3-2], [MQTT-3.11.2-1]
    #[test]
    fn reason_codes_exist_in_version_5_only() {
        let reasons = [ReasonCode::SUCCESS, ReasonCode::NO_SUBSCRIPTION_EXISTED];
        let mut unsuback = UnsubAck { packet_id: 1, properties: Properties::new(), reasons: &reasons };
        unsuback.properties.reason_string = Some("gone");
        let mut out = Vec::new();
        unsuback.encode(ProtocolVersion::V3_1_1, &mut out);
        assert_eq!(out, [0xb0, 2, 0, 1]);
        out.clear();
        assert!(unsuback.encode_within(ProtocolVersion::V5, 7, &mut out));
        assert_eq!(out, [0xb0, 5, 0, 1, 0, 0, 0x11]);
        assert_eq!(decode_error(ProtocolVersion::V5, &[0xb0, 4, 0, 1, 0, 1]).reason.0, 0x82);
        assert_eq!(decode_error(ProtocolVersion::V5, &[0xb0, 3, 0, 1, 0]).reason.0, 0x82);
        assert_eq!(decode_error(ProtocolVersion::V3_1_1, &[0xb0, 3, 0, 1, 0]).reason.0, 0x81);
    }
}
