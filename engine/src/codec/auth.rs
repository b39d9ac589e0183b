//! AUTH: a step of an enhanced authentication (MQTT 5 §3.15, §4.12). Unknown before version 5.

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// An AUTH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue authentication or re-authenticate.
    pub reason: ReasonCode,
    /// Authentication method and data, reason string and user properties.
    pub properties: Properties<'a>,
}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::Auth);

impl<'a> Auth<'a> {
    /// Reads a body. An empty one means success (§3.15.2.1); any other has to name the method (§3.15.2.2.2).
    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        if version != ProtocolVersion::V5 {
            return Err(DecodeError::malformed("packet type", "is 15, which is forbidden before version 5"));
        }
        let mut reader = Reader::new(body);
        if reader.is_empty() {
            return Ok(Self { reason: ReasonCode::SUCCESS, properties: Properties::new() });
        }
        let reason = ReasonCode(reader.u8("reason code")?);
        // [MQTT-3.15.2-1]
        if !reason.is_allowed_in(PacketType::Auth) {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        }
        let properties = Properties::decode(reader.property_list()?, OWNER)?;
        reader.finish()?;
        if properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication method", "is missing"));
        }
        Ok(Self { reason, properties })
    }

    /// Appends the packet; writes nothing before version 5, which has no such packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if version == ProtocolVersion::V5 {
            write_packet(self, version, out);
        }
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.15.2-2], [MQTT-3.15.2-3]). Returns false, having written nothing, when
    /// it cannot be made to fit or the version has no such packet.
    pub fn encode_within(&self, version: ProtocolVersion, max_packet_size: u32, out: &mut Vec<u8>) -> bool {
        version == ProtocolVersion::V5 && write_packet_within(self, version, max_packet_size, out)
    }
}

impl Body for Auth<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Auth.first_byte()
    }

    fn write<S: Sink>(&self, _version: ProtocolVersion, keep: Keep, sink: &mut S) {
        if self.reason == ReasonCode::SUCCESS && self.properties.is_empty(OWNER, keep) {
            return;
        }
        sink.u8(self.reason.0);
        self.properties.write(OWNER, keep, sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::round_trip::{decode_error, decode_one};

    const V5: ProtocolVersion = ProtocolVersion::V5;

    // [MQTT-3.15.1-1], [MQTT-3.15.2-1], §3.15.2.2.2
    #[test]
    fn an_auth_that_breaks_a_rule_is_refused() {
        let cases: [(ProtocolVersion, &[u8], u8); 5] = [
            (V5, &[0xf1, 0], 0x81),
            (V5, &[0xf0, 2, 1, 0], 0x82),
            (V5, &[0xf0, 2, 0x18, 0], 0x82),
            (V5, &[0xf0, 1, 0x18], 0x81),
            (ProtocolVersion::V3_1_1, &[0xf0, 0], 0x81),
        ];
        for (version, bytes, reason) in cases {
            assert_eq!(decode_error(version, bytes).reason.0, reason, "{bytes:x?}");
        }
    }

    // [MQTT-3.15.2-2], §3.15.2.1
    #[test]
    fn success_may_be_empty_and_older_versions_have_no_auth() {
        let success = Auth { reason: ReasonCode::SUCCESS, properties: Properties::new() };
        assert_eq!(decode_one(V5, &[0xf0, 0]), Ok(Packet::Auth(success.clone())));
        let mut out = Vec::new();
        success.encode(V5, &mut out);
        assert_eq!(out, [0xf0, 0]);
        out.clear();
        success.encode(ProtocolVersion::V3_1_1, &mut out);
        assert!(out.is_empty());
        let mut step = Auth { reason: ReasonCode::CONTINUE_AUTHENTICATION, properties: Properties::new() };
        step.properties.authentication_method = Some("m");
        step.properties.reason_string = Some("one more");
        assert!(step.encode_within(V5, 9, &mut out));
        assert_eq!(out, [0xf0, 6, 0x18, 4, 0x15, 0, 1, b'm']);
    }
}
