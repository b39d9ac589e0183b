//! UNSUBSCRIBE: the topic filters that a client no longer wants (MQTT 5 §3.10).

use super::frame::{Body, Keep, write_packet};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::subscribe::read_filter;
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion};

/// An UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// User properties; empty before version 5.
    pub properties: Properties<'a>,
    filters: Filters<'a>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
enum Filters<'a> {
    Listed(&'a [&'a str]),
    /// The payload of a decoded packet, checked.
    Encoded(&'a [u8]),
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        UnsubscribeFilterIter(*self).eq(UnsubscribeFilterIter(*other))
    }
}

impl Eq for Filters<'_> {}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::Unsubscribe);

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE to be sent. `filters` are valid and at least one ([MQTT-3.10.3-2]).
    pub fn new(packet_id: u16, properties: Properties<'a>, filters: &'a [&'a str]) -> Self {
        Self { packet_id, properties, filters: Filters::Listed(filters), count: filters.len() }
    }

    /// Reads a body and checks every filter. The filters stay where they are: nothing is allocated for them.
    #[inline(never)]
    pub(super) fn decode(version: ProtocolVersion, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = if version == ProtocolVersion::V5 {
            Properties::decode(reader.property_list()?, OWNER)?
        } else {
            Properties::new()
        };
        let payload = reader.rest();
        let mut count = 0;
        while !reader.is_empty() {
            read_filter(&mut reader)?;
            count += 1;
        }
        // [MQTT-3.10.3-2]
        if count == 0 {
            return Err(DecodeError::protocol("the packet", "has no topic filter"));
        }
        Ok(Self { packet_id, properties, filters: Filters::Encoded(payload), count })
    }

    /// The topic filters in order, all valid ([`super::text::validate_subscription_filter`]).
    pub fn filters(&self) -> UnsubscribeFilterIter<'a> {
        UnsubscribeFilterIter(self.filters)
    }

    /// The number of topic filters.
    pub fn filter_count(&self) -> usize {
        self.count
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        write_packet(self, version, out);
    }
}

impl Body for Unsubscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Unsubscribe.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        sink.u16(self.packet_id);
        if version == ProtocolVersion::V5 {
            self.properties.write(OWNER, keep, sink);
        }
        for filter in self.filters() {
            sink.string(filter);
        }
    }
}

/// The topic filters of an [`Unsubscribe`].
#[derive(Debug, Clone)]
pub struct UnsubscribeFilterIter<'a>(Filters<'a>);

impl<'a> Iterator for UnsubscribeFilterIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Filters::Listed(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(first)
            }
            Filters::Encoded(payload) => {
                let mut reader = Reader::new(payload);
                let filter = reader.utf8("topic filter").ok()?;
                *payload = reader.rest();
                Some(filter)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::round_trip::{decode_error, decode_one};

    #[test]
    fn filters_keep_their_order() {
        let bytes = [0xa2, 9, 0, 1, 0, 1, b'b', 0, 2, b'a', b'/'];
        let Ok(Packet::Unsubscribe(packet)) = decode_one(ProtocolVersion::V3_1_1, &bytes) else {
            panic!("an UNSUBSCRIBE")
        };
        assert_eq!(packet.filter_count(), 2);
        assert!(packet.filters().eq(["b", "a/"]));
        assert_eq!(packet, Unsubscribe::new(1, Properties::new(), &["b", "a/"]));
    }

    // [MQTT-3.10.1-1], [MQTT-3.10.3-1], [MQTT-3.10.3-2], [MQTT-4.7.1-1]; 3.1.1: [MQTT-3.10.3-2]
    #[test]
    fn an_unsubscribe_that_breaks_a_rule_is_refused() {
        let cases: [(&[u8], u8); 6] = [
            (&[0xa0, 5, 0, 1, 0, 1, b'a'], 0x81),
            (&[0xa2, 2, 0, 1], 0x82),
            (&[0xa2, 5, 0, 0, 0, 1, b'a'], 0x82),
            (&[0xa2, 5, 0, 1, 0, 1, 0xff], 0x81),
            (&[0xa2, 6, 0, 1, 0, 2, b'a', b'#'], 0x8f),
            (&[0xa2, 4, 0, 1, 0, 1], 0x81),
        ];
        for (bytes, reason) in cases {
            assert_eq!(decode_error(ProtocolVersion::V3_1_1, bytes).reason.0, reason, "{bytes:x?}");
        }
    }
}
