//! How a PUBLISH is written: everything up to its payload, which is shared rather than copied (MQTT 5 §3.3).

use super::property::{Property, subscription_identifier_size};
use super::publish::first_byte;
use super::text::clip;
use super::wire::{Sink, varint_size};
use super::{ProtocolVersion, QoS};

/// A PUBLISH without its payload.
///
/// The caller keeps `topic` a valid topic name of at most 65,535 bytes, `properties` an encoded list as
/// [`super::PublishProperties::write_forwardable`] makes it, and [`PublishHead::encoded_size`] within
/// [`super::PACKET_SIZE_MAX`].
#[derive(Debug, Clone, Copy)]
pub struct PublishHead<'a> {
    /// Whether this is a repetition ([MQTT-3.3.1-1]).
    pub dup: bool,
    /// How hard it is delivered.
    pub qos: QoS,
    /// The RETAIN flag (§3.3.1.3).
    pub retain: bool,
    /// Not written with `QoS` 0 ([MQTT-2.2.1-2]); otherwise not 0.
    pub packet_id: u16,
    /// May be empty with a topic alias that the receiver knows.
    pub topic: &'a str,
    /// Version 5: the number that stands for the topic name.
    pub topic_alias: Option<u16>,
    /// Version 5: seconds that are left to the message.
    pub message_expiry: Option<u32>,
    /// Version 5: the subscriptions that the message is for ([MQTT-3.3.4-3]).
    pub subscription_identifiers: &'a [u32],
    /// Version 5: all other properties, encoded, without a length.
    pub properties: &'a [u8],
    /// Bytes of the payload that will follow.
    pub payload_len: usize,
}

impl PublishHead<'_> {
    #[inline]
    fn property_size(&self) -> usize {
        let mut size = self.properties.len();
        if self.topic_alias.is_some() {
            size += 3;
        }
        if self.message_expiry.is_some() {
            size += 5;
        }
        for identifier in self.subscription_identifiers {
            size += subscription_identifier_size(*identifier);
        }
        size
    }

    /// The remaining length, payload included, and the part of it that the property list is.
    #[inline]
    fn lengths(&self, version: ProtocolVersion) -> (usize, usize) {
        let mut length = 2 + clip(self.topic).len() + self.payload_len;
        if self.qos > QoS::AtMostOnce {
            length += 2;
        }
        if version != ProtocolVersion::V5 {
            return (length, 0);
        }
        let property_size = self.property_size();
        (length + varint_size(property_size) + property_size, property_size)
    }

    /// Bytes of the whole packet, payload included: what a receiver's maximum packet size is compared with.
    #[inline]
    pub fn encoded_size(&self, version: ProtocolVersion) -> usize {
        let (length, _) = self.lengths(version);
        1 + varint_size(length) + length
    }

    /// Where in the packet the packet identifier stands, in bytes from its start (with `QoS` 0: would stand). Lets a
    /// packet that goes to many receivers be encoded once and given its identifier later.
    #[inline]
    pub fn packet_id_offset(&self, version: ProtocolVersion) -> usize {
        let (length, _) = self.lengths(version);
        1 + varint_size(length) + 2 + clip(self.topic).len()
    }

    /// Appends everything up to the payload; the caller sends `payload_len` bytes after it.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let (length, property_size) = self.lengths(version);
        out.reserve(5 + length - self.payload_len);
        out.u8(first_byte(self.dup && self.qos > QoS::AtMostOnce, self.qos, self.retain));
        out.varint(length);
        out.string(self.topic);
        if self.qos > QoS::AtMostOnce {
            out.u16(self.packet_id);
        }
        if version == ProtocolVersion::V5 {
            out.varint(property_size);
            if let Some(alias) = self.topic_alias {
                Property::TopicAlias(alias).write(out);
            }
            if let Some(seconds) = self.message_expiry {
                Property::MessageExpiry(seconds).write(out);
            }
            for identifier in self.subscription_identifiers {
                Property::SubscriptionIdentifier(*identifier).write(out);
            }
            out.put(self.properties);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::round_trip::decode_one;
    use crate::codec::{Packet, PublishProperties};

    const HEAD: PublishHead<'static> = PublishHead {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: 0x0a0b,
        topic: "a/b",
        topic_alias: None,
        message_expiry: None,
        subscription_identifiers: &[],
        properties: &[],
        payload_len: 2,
    };

    fn whole(head: &PublishHead<'_>, version: ProtocolVersion) -> Vec<u8> {
        let mut out = Vec::new();
        head.encode(version, &mut out);
        out.extend(std::iter::repeat_n(b'x', head.payload_len));
        assert_eq!(out.len(), head.encoded_size(version));
        out
    }

    #[test]
    fn the_wire_form_is_the_specifications() {
        let v4 = whole(&HEAD, ProtocolVersion::V3_1_1);
        assert_eq!(v4, [0x33, 9, 0, 3, b'a', b'/', b'b', 0x0a, 0x0b, b'x', b'x']);
        // [MQTT-2.2.2-1]: a property length of 0 when there are none.
        let v5 = whole(&HEAD, ProtocolVersion::V5);
        assert_eq!(v5, [0x33, 10, 0, 3, b'a', b'/', b'b', 0x0a, 0x0b, 0, b'x', b'x']);
    }

    // [MQTT-3.3.1-2], [MQTT-2.2.1-2]; 3.1.1: [MQTT-2.3.1-5]
    #[test]
    fn qos_0_has_neither_dup_nor_packet_identifier() {
        let head = PublishHead { qos: QoS::AtMostOnce, dup: true, retain: false, ..HEAD };
        assert_eq!(whole(&head, ProtocolVersion::V3_1), [0x30, 7, 0, 3, b'a', b'/', b'b', b'x', b'x']);
    }

    #[test]
    fn properties_are_told_in_version_5_only() {
        let properties = [0x26, 0, 1, b'k', 0, 1, b'v'];
        let head = PublishHead {
            topic_alias: Some(9),
            message_expiry: Some(60),
            subscription_identifiers: &[1, 200],
            properties: &properties,
            payload_len: 300,
            ..HEAD
        };
        let bytes = whole(&head, ProtocolVersion::V5);
        let Ok(Packet::Publish(publish)) = decode_one(ProtocolVersion::V5, &bytes) else { panic!("a PUBLISH") };
        let PublishProperties { topic_alias, message_expiry, subscription_identifiers, .. } = &publish.properties;
        assert_eq!((*topic_alias, *message_expiry, &subscription_identifiers[..]), (Some(9), Some(60), &[1, 200][..]));
        let mut forwardable = Vec::new();
        publish.properties.write_forwardable(&mut forwardable);
        assert_eq!(forwardable, properties);
        let old = whole(&head, ProtocolVersion::V3_1_1);
        assert_eq!(old.len(), whole(&PublishHead { payload_len: 300, ..HEAD }, ProtocolVersion::V3_1_1).len());
    }

    #[test]
    fn the_packet_identifier_is_where_its_offset_says() {
        for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            for payload_len in [0, 200, 20_000] {
                let head = PublishHead { payload_len, ..HEAD };
                let at = head.packet_id_offset(version);
                assert_eq!(whole(&head, version)[at..at + 2], [0x0a, 0x0b]);
            }
        }
    }
}
