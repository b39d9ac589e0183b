//! SUBSCRIBE: the topic filters that a client wants, and how it wants them (MQTT 5 §3.8).

use super::frame::{Body, Keep, write_packet};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::text::{SHARE_PREFIX, TextError, validate_subscription_filter};
use super::wire::{Reader, Sink};
use super::{DecodeError, PacketType, ProtocolVersion, QoS, ReasonCode};

/// When a subscription is answered with retained messages (§3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: each time the filter is subscribed to.
    #[default]
    Always = 0,
    /// 1: when the subscription did not exist before.
    IfNew = 1,
    /// 2: not at all.
    Never = 2,
}

/// How a client wants the messages of one subscription (§3.8.3.1). Before version 5 only `qos` can differ from its
/// default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscribeOptions {
    /// The highest `QoS` that messages are delivered with.
    pub qos: QoS,
    /// Not the messages that the client publishes itself.
    pub no_local: bool,
    /// The RETAIN flag as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// The options that a byte of this version stands for; `reason` and clause when it stands for none.
    fn from_byte(version: ProtocolVersion, byte: u8) -> Result<Self, DecodeError> {
        const FIELD: &str = "subscription options";
        let reserved = match version {
            // 3.1 reserved these bits without giving them a value.
            ProtocolVersion::V3_1 => 0,
            ProtocolVersion::V3_1_1 => 0b1111_1100,
            ProtocolVersion::V5 => 0b1100_0000,
        };
        // [MQTT-3.8.3-5]; 3.1.1: [MQTT-3.8.3-4]
        if byte & reserved != 0 {
            return Err(DecodeError::malformed(FIELD, "have a reserved bit set"));
        }
        let Some(qos) = QoS::from_u8(byte & 3) else {
            // Version 5 calls this a protocol error (§3.8.3.1).
            return Err(match version {
                ProtocolVersion::V5 => DecodeError::protocol(FIELD, "ask for QoS 3"),
                _ => DecodeError::malformed(FIELD, "ask for QoS 3"),
            });
        };
        if version != ProtocolVersion::V5 {
            return Ok(Self { qos, ..Self::default() });
        }
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(DecodeError::protocol(FIELD, "have retain handling 3")),
        };
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    fn to_byte(self, version: ProtocolVersion) -> u8 {
        let qos = self.qos as u8;
        if version != ProtocolVersion::V5 {
            return qos;
        }
        qos | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | (self.retain_handling as u8) << 4
    }
}

/// A SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Subscription identifier and user properties; empty before version 5.
    pub properties: Properties<'a>,
    filters: Filters<'a>,
    count: usize,
}

#[derive(Debug, Clone, Copy)]
enum Filters<'a> {
    Listed(&'a [(&'a str, SubscribeOptions)]),
    /// The payload of a decoded packet, checked.
    Encoded(ProtocolVersion, &'a [u8]),
}

impl PartialEq for Filters<'_> {
    fn eq(&self, other: &Self) -> bool {
        FilterIter(*self).eq(FilterIter(*other))
    }
}

impl Eq for Filters<'_> {}

const OWNER: PropertyOwner = PropertyOwner::packet(PacketType::Subscribe);

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE to be sent. `filters` are valid and at least one ([MQTT-3.8.3-2]).
    pub fn new(packet_id: u16, properties: Properties<'a>, filters: &'a [(&'a str, SubscribeOptions)]) -> Self {
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
            let filter = read_filter(&mut reader)?;
            let options = SubscribeOptions::from_byte(version, reader.u8("subscription options")?)?;
            // [MQTT-3.8.3-4]
            if options.no_local && filter.starts_with(SHARE_PREFIX) {
                return Err(DecodeError::protocol("subscription options", "ask for no local on a shared subscription"));
            }
            count += 1;
        }
        // [MQTT-3.8.3-2]; 3.1.1: [MQTT-3.8.3-3]
        if count == 0 {
            return Err(DecodeError::protocol("the packet", "has no topic filter"));
        }
        Ok(Self { packet_id, properties, filters: Filters::Encoded(version, payload), count })
    }

    /// The topic filters with their options, in order. All are valid ([`validate_subscription_filter`]).
    pub fn filters(&self) -> FilterIter<'a> {
        FilterIter(self.filters)
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

/// A topic filter of a SUBSCRIBE or UNSUBSCRIBE, checked ([MQTT-3.8.3-1], [MQTT-3.10.3-1], §4.7, §4.8.2). Shared
/// filters are held to their rules in all versions, since they work in all.
pub(super) fn read_filter<'a>(reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
    let filter = reader.utf8("topic filter")?;
    match validate_subscription_filter(filter) {
        Ok(()) => Ok(filter),
        Err(TextError::Null) => Err(DecodeError::malformed("topic filter", TextError::Null.detail())),
        Err(error) => Err(DecodeError::new(ReasonCode::TOPIC_FILTER_INVALID, "topic filter", error.detail())),
    }
}

impl Body for Subscribe<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Subscribe.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        sink.u16(self.packet_id);
        if version == ProtocolVersion::V5 {
            self.properties.write(OWNER, keep, sink);
        }
        for (filter, options) in self.filters() {
            sink.string(filter);
            sink.u8(options.to_byte(version));
        }
    }
}

/// The topic filters of a [`Subscribe`].
#[derive(Debug, Clone)]
pub struct FilterIter<'a>(Filters<'a>);

impl<'a> Iterator for FilterIter<'a> {
    type Item = (&'a str, SubscribeOptions);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Filters::Listed(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(*first)
            }
            Filters::Encoded(version, payload) => {
                let mut reader = Reader::new(payload);
                let filter = reader.utf8("topic filter").ok()?;
                let options = SubscribeOptions::from_byte(*version, reader.u8("subscription options").ok()?).ok()?;
                *payload = reader.rest();
                Some((filter, options))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::round_trip::{decode_error, decode_one};

    const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
    const V5: ProtocolVersion = ProtocolVersion::V5;

    #[test]
    fn filters_keep_their_order_and_options() {
        let bytes = [0x82, 15, 0, 1, 2, 0x0b, 7, 0, 1, b'a', 0b10_1101, 0, 3, b'b', b'/', b'#', 2];
        let Ok(Packet::Subscribe(subscribe)) = decode_one(V5, &bytes) else { panic!("a SUBSCRIBE") };
        assert_eq!((subscribe.packet_id, subscribe.filter_count()), (1, 2));
        assert_eq!(subscribe.properties.subscription_identifier, Some(7));
        let all_set = SubscribeOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::Never,
        };
        let plain = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
        let filters: Vec<_> = subscribe.filters().collect();
        assert_eq!(filters, [("a", all_set), ("b/#", plain)]);
        let mut out = Vec::new();
        subscribe.encode(V5, &mut out);
        assert_eq!(out, bytes);
    }

    // [MQTT-3.8.1-1], [MQTT-3.8.3-1], [MQTT-3.8.3-2], [MQTT-3.8.3-4], [MQTT-3.8.3-5], [MQTT-4.7.1-1], [MQTT-4.8.2-1];
    // 3.1.1: [MQTT-3.8.3-3], [MQTT-3.8.3-4]
    #[test]
    fn a_subscribe_that_breaks_a_rule_is_refused() {
        let shared_no_local = [0x82, 14, 0, 1, 0, 0, 8, b'$', b's', b'h', b'a', b'r', b'e', b'/', b'#', 4];
        let cases: [(ProtocolVersion, &[u8], u8); 13] = [
            (V4, &[0x80, 6, 0, 1, 0, 1, b'a', 0], 0x81),
            (V4, &[0x8a, 6, 0, 1, 0, 1, b'a', 0], 0x81),
            (V4, &[0x82, 2, 0, 1], 0x82),
            (V4, &[0x82, 6, 0, 0, 0, 1, b'a', 0], 0x82),
            (V4, &[0x82, 6, 0, 1, 0, 1, b'a', 3], 0x81),
            (V4, &[0x82, 6, 0, 1, 0, 1, b'a', 4], 0x81),
            (V4, &[0x82, 5, 0, 1, 0, 1, b'a'], 0x81),
            (V4, &[0x82, 5, 0, 1, 0, 0, 0], 0x8f),
            (V4, &[0x82, 6, 0, 1, 0, 1, 0, 0], 0x81),
            (V5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40], 0x81),
            (V5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], 0x82),
            (V5, &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], 0x82),
            (V5, &shared_no_local, 0x8f),
        ];
        for (version, bytes, reason) in cases {
            assert_eq!(decode_error(version, bytes).reason.0, reason, "{bytes:x?}");
        }
        let options = SubscribeOptions { no_local: true, ..SubscribeOptions::default() };
        let mut bytes = Vec::new();
        Subscribe::new(1, Properties::new(), &[("$share/g/a", options)]).encode(V5, &mut bytes);
        assert_eq!(decode_error(V5, &bytes).reason, ReasonCode::PROTOCOL_ERROR);
    }

    #[test]
    fn version_3_1_may_set_dup_and_ignores_reserved_option_bits() {
        let bytes = [0x8a, 6, 0, 1, 0, 1, b'a', 0b100_0001];
        let Ok(Packet::Subscribe(subscribe)) = decode_one(ProtocolVersion::V3_1, &bytes) else { panic!("a SUBSCRIBE") };
        let at_least_once = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        assert!(subscribe.filters().eq([("a", at_least_once)]));
    }
}
