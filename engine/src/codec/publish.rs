//! PUBLISH: a message on its way (MQTT 5 §3.3), read from the wire, and the levels of `QoS`. Writing: `publish_head`.

use super::publish_properties::PublishProperties;
use super::text::{TextError, clip, validate_topic_name};
use super::wire::{Reader, Sink, varint_size};
use super::{DecodeError, PacketType, ProtocolVersion, ReasonCode};

/// How hard a message is delivered (§4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// `QoS` 0: sent once, not acknowledged.
    #[default]
    AtMostOnce = 0,
    /// `QoS` 1: sent until acknowledged.
    AtLeastOnce = 1,
    /// `QoS` 2: sent until acknowledged, and delivered once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The `QoS` with this number; `None` above 2.
    #[inline]
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// A decoded PUBLISH. Everything in it is borrowed from the body of its packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a repetition (§3.3.1.1).
    pub dup: bool,
    /// How hard it is delivered.
    pub qos: QoS,
    /// Whether it is to be, or was, retained (§3.3.1.3).
    pub retain: bool,
    /// Empty only when a topic alias stands for it (version 5).
    pub topic: &'a str,
    /// 0 with `QoS` 0, never 0 otherwise ([MQTT-2.2.1-2], [MQTT-2.2.1-3]).
    pub packet_id: u16,
    /// Empty before version 5.
    pub properties: PublishProperties<'a>,
    /// The message itself, of any length including none.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Reads a body; `flags` is the first byte of the packet. Allocates nothing, except for a second subscription
    /// identifier, which only a server may send.
    #[inline]
    pub(super) fn decode(version: ProtocolVersion, flags: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        // [MQTT-3.3.1-4]
        let Some(qos) = QoS::from_u8(flags >> 1 & 3) else {
            return Err(DecodeError::malformed("QoS", "is 3"));
        };
        let dup = flags & 0b1000 != 0;
        // [MQTT-3.3.1-2]
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP flag", "is set although QoS is 0"));
        }
        // [MQTT-3.3.2-1]
        let topic = reader.utf8("topic name")?;
        let named = validate_topic_name(topic);
        // [MQTT-2.2.1-2]; 3.1.1: [MQTT-2.3.1-5]
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
        let properties = if version == ProtocolVersion::V5 {
            PublishProperties::decode(reader.property_list()?)?
        } else {
            PublishProperties::default()
        };
        if let Err(error) = named {
            check_unnamed(error, version, &properties)?;
        }
        Ok(Self { dup, qos, retain: flags & 1 != 0, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Appends the packet with the properties as they stand in `properties.raw`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let list = self.properties.raw;
        let is_v5 = version == ProtocolVersion::V5;
        let length = 2
            + clip(self.topic).len()
            + if self.qos > QoS::AtMostOnce { 2 } else { 0 }
            + if is_v5 { varint_size(list.len()) + list.len() } else { 0 }
            + self.payload.len();
        out.u8(first_byte(self.dup, self.qos, self.retain));
        out.varint(length);
        out.string(self.topic);
        if self.qos > QoS::AtMostOnce {
            out.u16(self.packet_id);
        }
        if is_v5 {
            out.varint(list.len());
            out.put(list);
        }
        out.put(self.payload);
    }
}

/// Packet type and flags of a PUBLISH (§3.3.1).
#[inline]
pub(super) const fn first_byte(dup: bool, qos: QoS, retain: bool) -> u8 {
    (PacketType::Publish as u8) << 4 | (dup as u8) << 3 | (qos as u8) << 1 | retain as u8
}

/// A topic name that is not valid by itself may still be empty when a topic alias stands for it (§3.3.2.1).
#[cold]
fn check_unnamed(
    error: TextError,
    version: ProtocolVersion,
    properties: &PublishProperties<'_>,
) -> Result<(), DecodeError> {
    let reason = match error {
        TextError::Empty if properties.topic_alias.is_some() => return Ok(()),
        TextError::Empty if version == ProtocolVersion::V5 => {
            return Err(DecodeError::protocol("topic name", "is empty and there is no topic alias"));
        }
        TextError::Null => ReasonCode::MALFORMED_PACKET,
        _ => ReasonCode::TOPIC_NAME_INVALID,
    };
    Err(DecodeError::new(reason, "topic name", error.detail()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::{decode_error, decode_one};
    use crate::codec::{Packet, PublishProperties};

    const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    fn publish(version: ProtocolVersion, bytes: &[u8]) -> Publish<'_> {
        match decode_one(version, bytes) {
            Ok(Packet::Publish(publish)) => publish,
            other => panic!("expected a PUBLISH, got {other:?}"),
        }
    }

    // [MQTT-3.3.2-1], [MQTT-2.2.1-2]; 3.1.1: [MQTT-2.3.1-5]
    #[test]
    fn a_qos_0_publish_has_a_topic_and_no_packet_identifier() {
        let publish = publish(V4, &[0x31, 5, 0, 1, b'a', 9, 8]);
        assert_eq!((publish.qos, publish.retain, publish.dup), (QoS::AtMostOnce, true, false));
        assert_eq!((publish.topic, publish.packet_id, publish.payload), ("a", 0, &[9, 8][..]));
    }

    #[test]
    fn a_version_5_publish_borrows_its_properties() {
        let bytes = [0x3d, 13, 0, 1, b'a', 1, 2, 5, 0x02, 0, 0, 0, 9, b'p', b'q'];
        let publish = publish(V5, &bytes);
        assert_eq!((publish.qos, publish.dup, publish.packet_id), (QoS::ExactlyOnce, true, 0x0102));
        assert_eq!(publish.properties.message_expiry, Some(9));
        assert_eq!(publish.payload, b"pq");
    }

    // [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-2.2.1-3], [MQTT-3.3.2-2], [MQTT-4.7.3-1]; 3.1.1: [MQTT-2.3.1-1]
    #[test]
    fn a_publish_that_breaks_a_rule_is_refused_with_its_reason() {
        let cases: [(&[u8], u8, &str); 9] = [
            (&[0x36, 5, 0, 1, b'a', 0, 1], 0x81, "PUBLISH: QoS is 3"),
            (&[0x38, 3, 0, 1, b'a'], 0x81, "PUBLISH: DUP flag is set although QoS is 0"),
            (&[0x32, 5, 0, 1, b'a', 0, 0], 0x82, "PUBLISH: packet identifier is 0"),
            (&[0x32, 4, 0, 1, b'a', 0], 0x81, "PUBLISH: packet identifier is cut short by the end of the packet"),
            (&[0x30, 5, 0, 3, b'a', b'/', b'+'], 0x90, "PUBLISH: topic name contains a wildcard ('+' or '#')"),
            (&[0x30, 4, 0, 2, b'a', 0], 0x81, "PUBLISH: topic name contains the null character U+0000"),
            (&[0x30, 3, 0, 1, 0xff], 0x81, "PUBLISH: topic name is not valid UTF-8"),
            (&[0x30, 2, 0, 0], 0x90, "PUBLISH: topic name is empty"),
            (&[0x30, 3, 0, 2, b'a'], 0x81, "PUBLISH: topic name is cut short by the end of the packet"),
        ];
        for (bytes, reason, sentence) in cases {
            let error = decode_error(V4, bytes);
            assert_eq!((error.reason.0, error.to_string().as_str()), (reason, sentence));
        }
    }

    // MQTT 5 §3.3.2.1, [MQTT-3.3.2-8]
    #[test]
    fn only_a_topic_alias_replaces_the_topic_name() {
        let publish = publish(V5, &[0x30, 6, 0, 0, 3, 0x23, 0, 7]);
        assert_eq!((publish.topic, publish.properties.topic_alias), ("", Some(7)));
        assert_eq!(decode_error(V5, &[0x30, 3, 0, 0, 0]).reason, ReasonCode::PROTOCOL_ERROR);
        assert_eq!(decode_error(V5, &[0x30, 6, 0, 0, 3, 0x23, 0, 0]).reason, ReasonCode::TOPIC_ALIAS_INVALID);
        let aliased_wildcard = [0x30, 7, 0, 1, b'#', 3, 0x23, 0, 7];
        assert_eq!(decode_error(V5, &aliased_wildcard).reason, ReasonCode::TOPIC_NAME_INVALID);
    }

    #[test]
    fn a_property_list_ends_within_the_packet() {
        for bytes in [&[0x30, 4, 0, 1, b'a', 1][..], &[0x30, 3, 0, 1, b'a'], &[0x30, 5, 0, 1, b'a', 1, 0x01]] {
            assert_eq!(decode_error(V5, bytes).reason, ReasonCode::MALFORMED_PACKET, "{bytes:x?}");
        }
    }

    #[test]
    fn a_publish_without_properties_is_the_default_set() {
        assert_eq!(publish(V5, &[0x30, 4, 0, 1, b'a', 0]).properties, PublishProperties::default());
    }
}
