//! CONNACK: the server's answer to a CONNECT (MQTT 5 §3.2).

use super::frame::{Body, Keep, write_packet, write_packet_within};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// A CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server kept a session of this client. Not said in 3.1.
    pub session_present: bool,
    /// The result; before version 5 what the return code stands for.
    pub reason: ReasonCode,
    /// Empty before version 5.
    pub properties: Properties<'a>,
}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::ConnAck);

impl<'a> ConnAck<'a> {
    /// A refusal without properties ([MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]).
    pub fn refusal(reason: ReasonCode) -> Self {
        Self { session_present: false, reason, properties: Properties::new() }
    }

    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.u8("connect acknowledge flags")?;
        // [MQTT-3.2.2-1]; in 3.1 the byte is not used.
        if flags > 1 && version != ProtocolVersion::V3_1 {
            return Err(DecodeError::malformed("connect acknowledge flags", "have a reserved bit set"));
        }
        let session_present = flags & 1 != 0 && version != ProtocolVersion::V3_1;
        let code = reader.u8("reason code")?;
        let (reason, properties) = if version == ProtocolVersion::V5 {
            // [MQTT-3.2.2-8]
            let reason = Some(ReasonCode(code)).filter(|reason| reason.is_allowed_in(PacketType::ConnAck));
            (reason, Properties::decode(reader.property_list()?, OWNER)?)
        } else {
            (ReasonCode::from_connack_return_code_v3(code), Properties::new())
        };
        reader.finish()?;
        let Some(reason) = reason else {
            return Err(DecodeError::protocol("reason code", "is not one that this packet may carry"));
        };
        // [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]
        if session_present && reason != ReasonCode::SUCCESS {
            return Err(DecodeError::protocol("connect acknowledge flags", "say that a refused client has a session"));
        }
        Ok(Self { session_present, reason, properties })
    }

    /// Appends the packet. Before version 5 a reason that no return code stands for writes nothing: the connection
    /// is then closed without a CONNACK ([MQTT-3.2.2-6] of 3.1.1).
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        if self.can_be_said(version) {
            write_packet(self, version, out);
        }
    }

    /// Appends the packet, without user properties and then without its reason string if it would otherwise have more
    /// than `max_packet_size` bytes ([MQTT-3.2.2-19], [MQTT-3.2.2-20]). Returns false, having written nothing, when
    /// it cannot be made to fit or cannot be said in this version.
    pub fn encode_within(&self, version: ProtocolVersion, max_packet_size: u32, out: &mut Vec<u8>) -> bool {
        self.can_be_said(version) && write_packet_within(self, version, max_packet_size, out)
    }

    fn can_be_said(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::V5 || self.reason.connack_return_code_v3().is_some()
    }
}

impl Body for ConnAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::ConnAck.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        // [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]: a refusal never says that a session is present.
        let present = self.session_present && self.reason == ReasonCode::SUCCESS && version != ProtocolVersion::V3_1;
        sink.u8(u8::from(present));
        if version == ProtocolVersion::V5 {
            sink.u8(self.reason.0);
            self.properties.write(OWNER, keep, sink);
        } else {
            // `can_be_said` has ruled out that there is no code.
            sink.u8(self.reason.connack_return_code_v3().unwrap_or(3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::decode_error;

    fn encoded(connack: &ConnAck<'_>, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::new();
        connack.encode(version, &mut out);
        out
    }

    // [MQTT-3.2.2-1], [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.2.2-4]
    #[test]
    fn session_present_is_said_only_with_success() {
        let mut connack = ConnAck { session_present: true, ..ConnAck::refusal(ReasonCode::SUCCESS) };
        assert_eq!(encoded(&connack, ProtocolVersion::V5), [0x20, 3, 1, 0, 0]);
        assert_eq!(encoded(&connack, ProtocolVersion::V3_1_1), [0x20, 2, 1, 0]);
        assert_eq!(encoded(&connack, ProtocolVersion::V3_1), [0x20, 2, 0, 0]);
        connack.reason = ReasonCode::NOT_AUTHORIZED;
        assert_eq!(encoded(&connack, ProtocolVersion::V5), [0x20, 3, 0, 0x87, 0]);
        assert_eq!(encoded(&connack, ProtocolVersion::V3_1_1), [0x20, 2, 0, 5]);
    }

    // [MQTT-3.2.2-6] of 3.1.1
    #[test]
    fn what_has_no_return_code_writes_nothing_before_version_5() {
        let refusal = ConnAck::refusal(ReasonCode::MALFORMED_PACKET);
        assert!(encoded(&refusal, ProtocolVersion::V3_1_1).is_empty());
        assert!(!refusal.encode_within(ProtocolVersion::V3_1_1, 100, &mut Vec::new()));
        assert_eq!(encoded(&refusal, ProtocolVersion::V5), [0x20, 3, 0, 0x81, 0]);
    }

    // [MQTT-3.2.2-19], [MQTT-3.2.2-20]
    #[test]
    fn the_reason_string_goes_when_the_client_takes_only_small_packets() {
        let mut refusal = ConnAck::refusal(ReasonCode::BANNED);
        refusal.properties.reason_string = Some("banned since Monday");
        refusal.properties.server_keep_alive = Some(1);
        let mut out = Vec::new();
        assert!(refusal.encode_within(ProtocolVersion::V5, 8, &mut out));
        assert_eq!(out, [0x20, 6, 0, 0x8a, 3, 0x13, 0, 1]);
    }

    // [MQTT-3.2.2-1], [MQTT-3.2.2-6], [MQTT-3.2.2-8]
    #[test]
    fn a_client_refuses_what_a_connack_may_not_say() {
        let cases: [(ProtocolVersion, &[u8], u8); 6] = [
            (ProtocolVersion::V3_1_1, &[0x20, 2, 1, 5], 0x82),
            (ProtocolVersion::V5, &[0x20, 3, 2, 0, 0], 0x81),
            (ProtocolVersion::V5, &[0x20, 3, 0, 1, 0], 0x82),
            (ProtocolVersion::V5, &[0x20, 2, 0, 0], 0x81),
            (ProtocolVersion::V3_1_1, &[0x20, 2, 0, 6], 0x82),
            (ProtocolVersion::V3_1_1, &[0x20, 3, 0, 0, 0], 0x81),
        ];
        for (version, bytes, reason) in cases {
            assert_eq!(decode_error(version, bytes).reason.0, reason, "{bytes:x?}");
        }
    }
}
