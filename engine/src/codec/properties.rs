//! The properties of a packet other than PUBLISH, and of a will: read as a whole and written as a whole.

use std::ops::{Deref, DerefMut};

use super::frame::Keep;
use super::property::{CheckedProperties, Property, PropertyOwner, PropertyReader};
use super::wire::{Count, Sink};
use super::{DecodeError, QoS};

/// The properties of a packet. As small as a pointer, and no more than that as long as nothing is set.
///
/// Dereferences to [`PropertySet`]; the first write allocates:
///
/// ```ignore
/// let mut properties = Properties::new();
/// properties.receive_maximum = Some(20);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Properties<'a> {
    set: Option<Box<PropertySet<'a>>>,
}

impl PartialEq for Properties<'_> {
    /// An allocated set in which nothing is set equals none.
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Properties<'_> {}

/// Every property that can stand in a packet other than PUBLISH or in a will; `None` where it is absent. Encoding a
/// packet writes those that its kind may carry (MQTT 5 §2.2.2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PropertySet<'a> {
    /// Seconds that the session outlives its connection; `u32::MAX` is for ever (§3.1.2.11.2).
    pub session_expiry: Option<u32>,
    /// `QoS` 1 and 2 messages that may be unacknowledged at a time, never 0 (§3.1.2.11.3).
    pub receive_maximum: Option<u16>,
    /// Bytes of the largest packet accepted, never 0 (§3.1.2.11.4).
    pub maximum_packet_size: Option<u32>,
    /// The largest topic alias accepted; 0 for none (§3.1.2.11.5).
    pub topic_alias_maximum: Option<u16>,
    /// Whether the client asks for response information (§3.1.2.11.6).
    pub request_response_information: Option<bool>,
    /// Whether reason strings and user properties may explain failures (§3.1.2.11.7).
    pub request_problem_information: Option<bool>,
    /// The name of the method of an enhanced authentication (§4.12).
    pub authentication_method: Option<&'a str>,
    /// A step of an enhanced authentication (§4.12).
    pub authentication_data: Option<&'a [u8]>,
    /// The highest `QoS` that the server supports, 0 or 1 (§3.2.2.3.4).
    pub maximum_qos: Option<QoS>,
    /// Whether the server supports retained messages (§3.2.2.3.5).
    pub retain_available: Option<bool>,
    /// The client identifier that the server chose (§3.2.2.3.7).
    pub assigned_client_id: Option<&'a str>,
    /// An explanation for people (§3.2.2.3.9).
    pub reason_string: Option<&'a str>,
    /// Whether the server supports wildcards in filters (§3.2.2.3.11).
    pub wildcard_subscription_available: Option<bool>,
    /// Whether the server supports subscription identifiers (§3.2.2.3.12).
    pub subscription_identifiers_available: Option<bool>,
    /// Whether the server supports shared subscriptions (§3.2.2.3.13).
    pub shared_subscription_available: Option<bool>,
    /// Seconds of keep alive that the server imposes (§3.2.2.3.14).
    pub server_keep_alive: Option<u16>,
    /// What response topics are made from (§3.2.2.3.15).
    pub response_information: Option<&'a str>,
    /// Where another server is (§3.2.2.3.16).
    pub server_reference: Option<&'a str>,
    /// The identifier of the subscriptions of a SUBSCRIBE, 1 to 268,435,455 (§3.8.2.1.2).
    pub subscription_identifier: Option<u32>,
    /// Seconds between the loss of a connection and its will (§3.1.3.2.2).
    pub will_delay: Option<u32>,
    /// 1 when the payload of a will is UTF-8 (§3.1.3.2.3).
    pub payload_format: Option<u8>,
    /// Seconds after which a will is no longer of use (§3.1.3.2.4).
    pub message_expiry: Option<u32>,
    /// What the payload of a will is (§3.1.3.2.5).
    pub content_type: Option<&'a str>,
    /// Where an answer to a will goes (§3.1.3.2.6).
    pub response_topic: Option<&'a str>,
    /// What the answer to a will is recognised by (§3.1.3.2.7).
    pub correlation_data: Option<&'a [u8]>,
    /// User properties in their order.
    pub user_properties: UserProperties<'a>,
}

static NOTHING_SET: PropertySet<'static> = PropertySet {
    session_expiry: None,
    receive_maximum: None,
    maximum_packet_size: None,
    topic_alias_maximum: None,
    request_response_information: None,
    request_problem_information: None,
    authentication_method: None,
    authentication_data: None,
    maximum_qos: None,
    retain_available: None,
    assigned_client_id: None,
    reason_string: None,
    wildcard_subscription_available: None,
    subscription_identifiers_available: None,
    shared_subscription_available: None,
    server_keep_alive: None,
    response_information: None,
    server_reference: None,
    subscription_identifier: None,
    will_delay: None,
    payload_format: None,
    message_expiry: None,
    content_type: None,
    response_topic: None,
    correlation_data: None,
    user_properties: UserProperties::Pairs(&[]),
};

impl<'a> Deref for Properties<'a> {
    type Target = PropertySet<'a>;

    #[inline]
    fn deref(&self) -> &PropertySet<'a> {
        self.set.as_deref().unwrap_or(&NOTHING_SET)
    }
}

impl<'a> DerefMut for Properties<'a> {
    fn deref_mut(&mut self) -> &mut PropertySet<'a> {
        self.set.get_or_insert_default()
    }
}

impl<'a> Properties<'a> {
    /// Nothing set, nothing allocated.
    #[inline]
    pub const fn new() -> Self {
        Self { set: None }
    }

    /// Reads an encoded list without its length. An empty list allocates nothing; any other allocates one set,
    /// whatever its size.
    #[inline]
    pub(super) fn decode(list: &'a [u8], owner: PropertyOwner) -> Result<Self, DecodeError> {
        if list.is_empty() {
            return Ok(Self::default());
        }
        let mut set = Box::<PropertySet<'a>>::default();
        let mut reader = PropertyReader::new(list, owner);
        while let Some(property) = reader.next()? {
            set.insert(property, list);
        }
        Ok(Self { set: Some(set) })
    }

    /// Whether no property would be written for `owner`.
    pub(super) fn is_empty(&self, owner: PropertyOwner, keep: Keep) -> bool {
        let Some(set) = &self.set else { return true };
        let mut count = Count::default();
        set.write_list(owner, keep, &mut count);
        count.0 == 0
    }

    /// Writes the length and the list ([MQTT-2.2.2-1]).
    pub(super) fn write<S: Sink>(&self, owner: PropertyOwner, keep: Keep, sink: &mut S) {
        let Some(set) = &self.set else {
            sink.u8(0);
            return;
        };
        let mut count = Count::default();
        set.write_list(owner, keep, &mut count);
        sink.varint(count.0);
        set.write_list(owner, keep, sink);
    }
}

impl<'a> PropertySet<'a> {
    /// The properties of a will that go with the message when it is published, encoded without a length: all but the
    /// will delay and the message expiry interval ([MQTT-3.1.3-10]).
    pub fn write_forwardable(&self, out: &mut Vec<u8>) {
        self.each(|property| match property {
            Property::PayloadFormat(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::User(..) => property.write(out),
            _ => {}
        });
    }

    /// All properties as a list without its length, to be kept or handed on whole.
    pub fn encoded(&self) -> Vec<u8> {
        let mut list = Vec::new();
        self.each(|property| property.write(&mut list));
        list
    }

    fn insert(&mut self, property: Property<'a>, list: &'a [u8]) {
        match property {
            Property::SessionExpiry(value) => self.session_expiry = Some(value),
            Property::ReceiveMaximum(value) => self.receive_maximum = Some(value),
            Property::MaximumPacketSize(value) => self.maximum_packet_size = Some(value),
            Property::TopicAliasMaximum(value) => self.topic_alias_maximum = Some(value),
            Property::RequestResponseInformation(value) => self.request_response_information = Some(value),
            Property::RequestProblemInformation(value) => self.request_problem_information = Some(value),
            Property::AuthenticationMethod(value) => self.authentication_method = Some(value),
            Property::AuthenticationData(value) => self.authentication_data = Some(value),
            Property::MaximumQoS(value) => self.maximum_qos = Some(value),
            Property::RetainAvailable(value) => self.retain_available = Some(value),
            Property::AssignedClientId(value) => self.assigned_client_id = Some(value),
            Property::ReasonString(value) => self.reason_string = Some(value),
            Property::WildcardSubscriptionAvailable(value) => self.wildcard_subscription_available = Some(value),
            Property::SubscriptionIdentifiersAvailable(value) => self.subscription_identifiers_available = Some(value),
            Property::SharedSubscriptionAvailable(value) => self.shared_subscription_available = Some(value),
            Property::ServerKeepAlive(value) => self.server_keep_alive = Some(value),
            Property::ResponseInformation(value) => self.response_information = Some(value),
            Property::ServerReference(value) => self.server_reference = Some(value),
            Property::SubscriptionIdentifier(value) => self.subscription_identifier = Some(value),
            Property::WillDelay(value) => self.will_delay = Some(value),
            Property::PayloadFormat(value) => self.payload_format = Some(value),
            Property::MessageExpiry(value) => self.message_expiry = Some(value),
            Property::ContentType(value) => self.content_type = Some(value),
            Property::ResponseTopic(value) => self.response_topic = Some(value),
            Property::CorrelationData(value) => self.correlation_data = Some(value),
            // The list itself holds them in their order; nothing is copied.
            Property::User(..) => self.user_properties = UserProperties::Encoded(list),
            // Only a PUBLISH may carry it, and its properties are not kept here.
            Property::TopicAlias(_) => {}
        }
    }

    fn each(&self, mut visit: impl FnMut(Property<'a>)) {
        let properties = [
            self.session_expiry.map(Property::SessionExpiry),
            self.receive_maximum.map(Property::ReceiveMaximum),
            self.maximum_packet_size.map(Property::MaximumPacketSize),
            self.topic_alias_maximum.map(Property::TopicAliasMaximum),
            self.request_response_information.map(Property::RequestResponseInformation),
            self.request_problem_information.map(Property::RequestProblemInformation),
            self.authentication_method.map(Property::AuthenticationMethod),
            self.authentication_data.map(Property::AuthenticationData),
            // 2 is the default and is not said (§3.2.2.3.4).
            self.maximum_qos.filter(|qos| *qos < QoS::ExactlyOnce).map(Property::MaximumQoS),
            self.retain_available.map(Property::RetainAvailable),
            self.assigned_client_id.map(Property::AssignedClientId),
            self.wildcard_subscription_available.map(Property::WildcardSubscriptionAvailable),
            self.subscription_identifiers_available.map(Property::SubscriptionIdentifiersAvailable),
            self.shared_subscription_available.map(Property::SharedSubscriptionAvailable),
            self.server_keep_alive.map(Property::ServerKeepAlive),
            self.response_information.map(Property::ResponseInformation),
            self.server_reference.map(Property::ServerReference),
            self.subscription_identifier.map(Property::SubscriptionIdentifier),
            self.will_delay.map(Property::WillDelay),
            self.payload_format.map(Property::PayloadFormat),
            self.message_expiry.map(Property::MessageExpiry),
            self.content_type.map(Property::ContentType),
            self.response_topic.map(Property::ResponseTopic),
            self.correlation_data.map(Property::CorrelationData),
            self.reason_string.map(Property::ReasonString),
        ];
        properties.into_iter().flatten().for_each(&mut visit);
        for (name, value) in self.user_properties {
            visit(Property::User(name, value));
        }
    }

    fn write_list<S: Sink>(&self, owner: PropertyOwner, keep: Keep, sink: &mut S) {
        self.each(|property| {
            let kept = match property {
                Property::User(..) => keep >= Keep::All,
                Property::ReasonString(_) => keep >= Keep::ReasonString,
                _ => true,
            };
            if kept && property.is_allowed_in(owner) {
                property.write(sink);
            }
        });
    }
}

/// User properties: pairs of a name and a value, in order; names may repeat (§1.5.7). Iterate over it.
#[derive(Debug, Clone, Copy)]
pub enum UserProperties<'a> {
    /// As given by who builds a packet.
    Pairs(&'a [(&'a str, &'a str)]),
    /// A property list of a decoded packet, whose other properties are passed over.
    Encoded(&'a [u8]),
}

impl Default for UserProperties<'_> {
    fn default() -> Self {
        Self::Pairs(&[])
    }
}

impl UserProperties<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.into_iter().next().is_none()
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.into_iter().eq(*other)
    }
}

impl Eq for UserProperties<'_> {}

impl<'a> IntoIterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = UserPropertyIter<'a>;

    fn into_iter(self) -> UserPropertyIter<'a> {
        UserPropertyIter(match self {
            Self::Pairs(pairs) => Source::Pairs(pairs.iter()),
            Self::Encoded(list) => Source::Encoded(CheckedProperties::new(list)),
        })
    }
}

/// The pairs of [`UserProperties`].
#[derive(Debug, Clone)]
pub struct UserPropertyIter<'a>(Source<'a>);

#[derive(Debug, Clone)]
enum Source<'a> {
    Pairs(std::slice::Iter<'a, (&'a str, &'a str)>),
    Encoded(CheckedProperties<'a>),
}

impl<'a> Iterator for UserPropertyIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Pairs(pairs) => pairs.next().copied(),
            Source::Encoded(list) => list.find_map(|(property, _)| match property {
                Property::User(name, value) => Some((name, value)),
                _ => None,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PacketType;

    const CONNACK: PropertyOwner = PropertyOwner::packet(PacketType::ConnAck);

    #[test]
    fn nothing_set_is_a_pointer_and_a_zero_length() {
        let properties = Properties::new();
        assert_eq!(size_of_val(&properties), size_of::<usize>());
        assert_eq!(properties.reason_string, None);
        let mut out = Vec::new();
        properties.write(CONNACK, Keep::All, &mut out);
        assert_eq!(out, [0]);
    }

    #[test]
    fn what_a_packet_may_not_carry_is_not_written() {
        let mut properties = Properties::new();
        properties.will_delay = Some(1);
        properties.server_keep_alive = Some(5);
        // 2 is said by leaving the property out (§3.2.2.3.4).
        properties.maximum_qos = Some(QoS::ExactlyOnce);
        let mut out = Vec::new();
        properties.write(CONNACK, Keep::All, &mut out);
        assert_eq!(out, [3, 0x13, 0, 5]);
        assert!(properties.is_empty(PropertyOwner::packet(PacketType::PubAck), Keep::All));
    }

    // [MQTT-3.1.3-10]
    #[test]
    fn a_will_passes_on_its_message_properties_in_order() {
        let mut properties = Properties::new();
        properties.will_delay = Some(1);
        properties.message_expiry = Some(2);
        properties.payload_format = Some(1);
        properties.user_properties = UserProperties::Pairs(&[("b", "1"), ("a", "2")]);
        let mut forwarded = Vec::new();
        properties.write_forwardable(&mut forwarded);
        assert_eq!(forwarded, [1, 1, 0x26, 0, 1, b'b', 0, 1, b'1', 0x26, 0, 1, b'a', 0, 1, b'2']);
    }

    #[test]
    fn user_properties_of_a_packet_are_read_in_place() {
        let list = [0x26, 0, 1, b'k', 0, 0, 0x1f, 0, 1, b'r', 0x26, 0, 1, b'k', 0, 1, b'v'];
        let properties = Properties::decode(&list, CONNACK).unwrap();
        assert_eq!(properties.reason_string, Some("r"));
        assert_eq!(properties.user_properties, UserProperties::Pairs(&[("k", ""), ("k", "v")]));
        assert!(!properties.user_properties.is_empty() && UserProperties::default().is_empty());
    }
}
