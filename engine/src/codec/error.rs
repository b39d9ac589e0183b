//! What the decoder says of bytes that are not MQTT: the reason code to answer with and a sentence for the log.

use std::fmt;

use super::{PacketType, ProtocolVersion, ReasonCode};

/// Why a packet cannot be accepted. Displays as one sentence for people, for example
/// `SUBSCRIBE: topic filter has '#' before its last level`.
///
/// The connection that sent the bytes has to be closed ([MQTT-4.13.1-1], [MQTT-4.13.2-1]); with version 5 `reason` is
/// what a CONNACK or DISCONNECT may carry before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    /// The reason code of MQTT 5 §2.4 that fits, also when the peer speaks an older version.
    pub reason: ReasonCode,
    /// The kind of packet the bytes claimed to be, once that is known.
    pub packet: Option<PacketType>,
    /// The field that is wrong, in the specification's words.
    pub field: &'static str,
    /// What is wrong with `field`; the two read as one clause.
    pub detail: &'static str,
    /// For a CONNECT whose protocol name and level were read: the version in which to answer with a CONNACK.
    /// `None` means that the peer would not understand one.
    pub connect_version: Option<ProtocolVersion>,
}

impl DecodeError {
    /// An error with any reason code.
    #[cold]
    pub const fn new(reason: ReasonCode, field: &'static str, detail: &'static str) -> Self {
        Self { reason, packet: None, field, detail, connect_version: None }
    }

    /// The bytes cannot be parsed: 0x81 ([MQTT-4.13.1-1]).
    #[cold]
    pub const fn malformed(field: &'static str, detail: &'static str) -> Self {
        Self::new(ReasonCode::MALFORMED_PACKET, field, detail)
    }

    /// The bytes can be parsed but the protocol does not allow what they say: 0x82.
    #[cold]
    pub const fn protocol(field: &'static str, detail: &'static str) -> Self {
        Self::new(ReasonCode::PROTOCOL_ERROR, field, detail)
    }

    /// The same error, saying in which kind of packet it was found.
    #[cold]
    pub(super) fn in_packet(self, packet: PacketType) -> Self {
        Self { packet: Some(packet), ..self }
    }

    /// The same error, saying in which version a CONNACK may answer.
    #[cold]
    pub(super) fn answer_as(self, version: ProtocolVersion) -> Self {
        Self { connect_version: Some(version), ..self }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packet) = self.packet {
            write!(formatter, "{}: ", packet.name())?;
        }
        write!(formatter, "{} {}", self.field, self.detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_as_a_sentence() {
        let error = DecodeError::malformed("topic name", "is not valid UTF-8");
        assert_eq!(error.to_string(), "topic name is not valid UTF-8");
        assert_eq!(error.in_packet(PacketType::Publish).to_string(), "PUBLISH: topic name is not valid UTF-8");
        assert_eq!(error.reason, ReasonCode::MALFORMED_PACKET);
    }
}
