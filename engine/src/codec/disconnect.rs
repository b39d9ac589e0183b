//! DISCONNECT: the last packet of a connection (MQTT 5 §3.14). Before version 5 only a client sends it.

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// A DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Why the connection ends; always normal before version 5.
    pub reason: ReasonCode,
    /// Session expiry interval (from a client only, [MQTT-3.14.2-2]), server reference, reason string and user
    /// properties; empty before version 5.
    pub properties: Properties<'a>,
}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::Disconnect);

impl<'a> Disconnect<'a> {
    /// A reason without properties.
    pub fn with_reason(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::new() }
    }

    /// Reads a body. Reason code and property length may be left out in version 5 (§3.14.2.1, §3.14.2.2.1).
    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Self::with_reason(ReasonCode::NORMAL_DISCONNECTION));
        }
        if version != ProtocolVersion::V5 {
            reader.finish()?;
        }
        let reason = ReasonCode(reader.u8("reason code")?);
        // [MQTT-3.14.2-1]
        if !reason.is_allowed_in(PacketType::Disconnect) {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        }
        let list = if reader.is_empty() { &[] } else { reader.property_list()? };
        reader.finish()?;
        Ok(Self { reason, properties: Properties::decode(list, OWNER)? })
    }

    /// Appends the packet. Before version 5 it says nothing but that the client leaves.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write_packet(self, version, out);
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.14.2-3], [MQTT-3.14.2-4]). Returns false, having written nothing, when
    /// it cannot be made to fit.
    pub fn encode_within(&self, version: ProtocolVersion, max_packet_size: u32, out: &mut Vec<u8>) -> bool {
        write_packet_within(self, version, max_packet_size, out)
    }
}

impl Body for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Disconnect.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        if version != ProtocolVersion::V5 {
            return;
        }
        let bare = self.properties.is_empty(OWNER, keep);
        if bare && self.reason == ReasonCode::NORMAL_DISCONNECTION {
            return;
        }
        sink.u8(self.reason.0);
        if !bare {
            self.properties.write(OWNER, keep, sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::round_trip::{decode_error, decode_one};

    const V5: ProtocolVersion = ProtocolVersion::V5;

    // §3.14.2.1, §3.14.2.2.1
    #[test]
    fn reason_and_property_length_may_be_left_out() {
        let normal = Disconnect::with_reason(ReasonCode::NORMAL_DISCONNECTION);
        for version in [ProtocolVersion::V3_1, V5] {
            assert_eq!(decode_one(version, &[0xe0, 0]), Ok(Packet::Disconnect(normal.clone())));
            let mut out = Vec::new();
            normal.encode(version, &mut out);
            assert_eq!(out, [0xe0, 0]);
        }
        let with_will = Disconnect::with_reason(ReasonCode::DISCONNECT_WITH_WILL_MESSAGE);
        assert_eq!(decode_one(V5, &[0xe0, 1, 4]), Ok(Packet::Disconnect(with_will)));
    }

    // [MQTT-3.14.1-1], [MQTT-3.14.2-1]
    #[test]
    fn a_disconnect_that_breaks_a_rule_is_refused() {
        let cases: [(ProtocolVersion, &[u8], u8); 4] = [
            (V5, &[0xe1, 0], 0x81),
            (V5, &[0xe0, 1, 1], 0x82),
            (V5, &[0xe0, 3, 0, 0, 0], 0x81),
            (ProtocolVersion::V3_1_1, &[0xe0, 1, 0], 0x81),
        ];
        for (version, bytes, reason) in cases {
            assert_eq!(decode_error(version, bytes).reason.0, reason, "{bytes:x?}");
        }
    }

    // [MQTT-3.14.2-3], [MQTT-3.14.2-4]
    #[test]
    fn the_server_reference_stays_when_the_reason_string_goes() {
        let mut moved = Disconnect::with_reason(ReasonCode::SERVER_MOVED);
        moved.properties.server_reference = Some("b");
        moved.properties.reason_string = Some("see there");
        let mut out = Vec::new();
        assert!(moved.encode_within(V5, 10, &mut out));
        assert_eq!(out, [0xe0, 6, 0x9d, 4, 0x1c, 0, 1, b'b']);
    }
}
