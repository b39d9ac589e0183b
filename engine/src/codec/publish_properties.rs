//! The properties of a PUBLISH (MQTT 5 §3.3.2.3): what this receiver acts on, and what it passes on unchanged.

use smallvec::SmallVec;

use super::properties::UserProperties;
use super::property::{CheckedProperties, Property, PropertyOwner, PropertyReader};
use super::{DecodeError, PacketType};

/// The properties of a decoded PUBLISH. `raw` says it all; the other fields are what decoding found in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// The encoded list without its length.
    pub raw: &'a [u8],
    /// 1 when the payload is UTF-8 (§3.3.2.3.2).
    pub payload_format: Option<u8>,
    /// Seconds after which the message is no longer of use (§3.3.2.3.3).
    pub message_expiry: Option<u32>,
    /// The number that stands for the topic name, never 0 ([MQTT-3.3.2-8]).
    pub topic_alias: Option<u16>,
    /// Where an answer goes; a valid topic name ([MQTT-3.3.2-14]).
    pub response_topic: Option<&'a str>,
    /// What the answer is recognised by (§3.3.2.3.6).
    pub correlation_data: Option<&'a [u8]>,
    /// What the payload is (§3.3.2.3.9).
    pub content_type: Option<&'a str>,
    /// The subscriptions that the message is for, 1 to 268,435,455 each. Only a server sends them ([MQTT-3.3.4-6]).
    pub subscription_identifiers: SmallVec<[u32; 1]>,
}

impl<'a> PublishProperties<'a> {
    /// Reads an encoded list without its length.
    #[inline]
    pub(super) fn decode(list: &'a [u8]) -> Result<Self, DecodeError> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        Self::decode_some(list)
    }

    fn decode_some(list: &'a [u8]) -> Result<Self, DecodeError> {
        let mut properties = Self { raw: list, ..Self::default() };
        let mut reader = PropertyReader::new(list, PropertyOwner::packet(PacketType::Publish));
        while let Some(property) = reader.next()? {
            match property {
                Property::PayloadFormat(value) => properties.payload_format = Some(value),
                Property::MessageExpiry(value) => properties.message_expiry = Some(value),
                Property::TopicAlias(value) => properties.topic_alias = Some(value),
                Property::ResponseTopic(value) => properties.response_topic = Some(value),
                Property::CorrelationData(value) => properties.correlation_data = Some(value),
                Property::ContentType(value) => properties.content_type = Some(value),
                Property::SubscriptionIdentifier(value) => properties.subscription_identifiers.push(value),
                // User properties stay in `raw`; the reader lets no others through.
                _ => {}
            }
        }
        Ok(properties)
    }

    /// The user properties in their order.
    pub fn user_properties(&self) -> UserProperties<'a> {
        UserProperties::Encoded(self.raw)
    }

    /// Whether `raw` can be passed on as it is, holding no topic alias, message expiry or subscription identifier:
    /// these three belong to one connection or change on the way.
    #[inline]
    pub fn forwardable_is_raw(&self) -> bool {
        self.topic_alias.is_none() && self.message_expiry.is_none() && self.subscription_identifiers.is_empty()
    }

    /// Appends the encoded properties that a server passes on unchanged and in order: all but topic alias, message
    /// expiry and subscription identifiers ([MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20]).
    #[inline]
    pub fn write_forwardable(&self, out: &mut Vec<u8>) {
        if self.forwardable_is_raw() {
            out.extend_from_slice(self.raw);
            return;
        }
        for (property, encoded) in CheckedProperties::new(self.raw) {
            let stays = matches!(
                property,
                Property::TopicAlias(_) | Property::MessageExpiry(_) | Property::SubscriptionIdentifier(_)
            );
            if !stays {
                out.extend_from_slice(encoded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(properties: &[Property<'_>]) -> Vec<u8> {
        let mut list = Vec::new();
        for property in properties {
            property.write(&mut list);
        }
        list
    }

    // [MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20]
    #[test]
    fn what_a_server_passes_on_keeps_its_order() {
        let list = encoded(&[
            Property::User("b", "2"),
            Property::TopicAlias(3),
            Property::PayloadFormat(1),
            Property::SubscriptionIdentifier(300),
            Property::User("a", "1"),
            Property::MessageExpiry(5),
            Property::ResponseTopic("r"),
            Property::CorrelationData(&[1]),
            Property::SubscriptionIdentifier(4),
            Property::ContentType("c"),
            Property::User("b", "2"),
        ]);
        let properties = PublishProperties::decode(&list).unwrap();
        assert!(!properties.forwardable_is_raw());
        assert_eq!(properties.subscription_identifiers[..], [300, 4]);
        assert_eq!((properties.topic_alias, properties.message_expiry), (Some(3), Some(5)));
        let pairs: Vec<_> = properties.user_properties().into_iter().collect();
        assert_eq!(pairs, [("b", "2"), ("a", "1"), ("b", "2")]);
        let mut forwarded = Vec::new();
        properties.write_forwardable(&mut forwarded);
        let expected = encoded(&[
            Property::User("b", "2"),
            Property::PayloadFormat(1),
            Property::User("a", "1"),
            Property::ResponseTopic("r"),
            Property::CorrelationData(&[1]),
            Property::ContentType("c"),
            Property::User("b", "2"),
        ]);
        assert_eq!(forwarded, expected);
        let again = PublishProperties::decode(&expected).unwrap();
        assert!(again.forwardable_is_raw());
        let mut unchanged = Vec::new();
        again.write_forwardable(&mut unchanged);
        assert_eq!(unchanged, expected);
    }
}
