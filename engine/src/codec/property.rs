//! One property: its identifier, its value, and the packets that may carry it (MQTT 5 §2.2.2).

use super::wire::{Reader, Sink, varint_size};
use super::{DecodeError, PacketType, QoS, ReasonCode};

/// A property and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the specification's; units and ranges are in `definition`
pub enum Property<'a> {
    PayloadFormat(u8),
    MessageExpiry(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiry(u32),
    AssignedClientId(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelay(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(QoS),
    RetainAvailable(bool),
    User(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifiersAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// The identifier of the User Property, the only one that any list may hold more than once.
const USER: u8 = 0x26;
/// The identifier of the Subscription Identifier, which a PUBLISH may hold more than once.
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;

/// Whose property list it is: a kind of packet, or the will of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PropertyOwner(u16);

impl PropertyOwner {
    /// The will in a CONNECT (§3.1.3.2).
    pub const WILL: Self = Self(1);

    /// The packet itself.
    pub const fn packet(packet: PacketType) -> Self {
        Self(1 << packet as u16)
    }

    const fn or(self, packet: PacketType) -> Self {
        Self(self.0 | Self::packet(packet).0)
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const WILL: PropertyOwner = PropertyOwner::WILL;
const CONNECT: PropertyOwner = PropertyOwner::packet(PacketType::Connect);
const CONNACK: PropertyOwner = PropertyOwner::packet(PacketType::ConnAck);
const PUBLISH: PropertyOwner = PropertyOwner::packet(PacketType::Publish);
const SUBSCRIBE: PropertyOwner = PropertyOwner::packet(PacketType::Subscribe);
const ANY: PropertyOwner = PropertyOwner(u16::MAX);
const ANSWERS: PropertyOwner = CONNACK
    .or(PacketType::PubAck)
    .or(PacketType::PubRec)
    .or(PacketType::PubRel)
    .or(PacketType::PubComp)
    .or(PacketType::SubAck)
    .or(PacketType::UnsubAck)
    .or(PacketType::Disconnect)
    .or(PacketType::Auth);

/// The name of a property and the lists that may hold it (table 2-4); `None` for an undefined identifier.
const fn definition(identifier: u8) -> Option<(&'static str, PropertyOwner)> {
    Some(match identifier {
        0x01 => ("payload format indicator", PUBLISH.or_owner(WILL)),
        0x02 => ("message expiry interval", PUBLISH.or_owner(WILL)),
        0x03 => ("content type", PUBLISH.or_owner(WILL)),
        0x08 => ("response topic", PUBLISH.or_owner(WILL)),
        0x09 => ("correlation data", PUBLISH.or_owner(WILL)),
        SUBSCRIPTION_IDENTIFIER => ("subscription identifier", PUBLISH.or_owner(SUBSCRIBE)),
        0x11 => ("session expiry interval", CONNECT.or_owner(CONNACK).or(PacketType::Disconnect)),
        0x12 => ("assigned client identifier", CONNACK),
        0x13 => ("server keep alive", CONNACK),
        0x15 => ("authentication method", CONNECT.or_owner(CONNACK).or(PacketType::Auth)),
        0x16 => ("authentication data", CONNECT.or_owner(CONNACK).or(PacketType::Auth)),
        0x17 => ("request problem information", CONNECT),
        0x18 => ("will delay interval", WILL),
        0x19 => ("request response information", CONNECT),
        0x1a => ("response information", CONNACK),
        0x1c => ("server reference", CONNACK.or(PacketType::Disconnect)),
        0x1f => ("reason string", ANSWERS),
        0x21 => ("receive maximum", CONNECT.or_owner(CONNACK)),
        0x22 => ("topic alias maximum", CONNECT.or_owner(CONNACK)),
        0x23 => ("topic alias", PUBLISH),
        0x24 => ("maximum QoS", CONNACK),
        0x25 => ("retain available", CONNACK),
        USER => ("user property", ANY),
        0x27 => ("maximum packet size", CONNECT.or_owner(CONNACK)),
        0x28 => ("wildcard subscription available", CONNACK),
        0x29 => ("subscription identifiers available", CONNACK),
        0x2a => ("shared subscription available", CONNACK),
        _ => return None,
    })
}

impl PropertyOwner {
    const fn or_owner(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl<'a> Property<'a> {
    /// The identifier on the wire.
    pub const fn identifier(&self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 0x01,
            Self::MessageExpiry(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionIdentifier(_) => SUBSCRIPTION_IDENTIFIER,
            Self::SessionExpiry(_) => 0x11,
            Self::AssignedClientId(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelay(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1a,
            Self::ServerReference(_) => 0x1c,
            Self::ReasonString(_) => 0x1f,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQoS(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::User(..) => USER,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardSubscriptionAvailable(_) => 0x28,
            Self::SubscriptionIdentifiersAvailable(_) => 0x29,
            Self::SharedSubscriptionAvailable(_) => 0x2a,
        }
    }

    /// Whether a list of this owner may hold it.
    pub(super) fn is_allowed_in(&self, owner: PropertyOwner) -> bool {
        definition(self.identifier()).is_some_and(|(_, owners)| owners.contains(owner))
    }

    /// The bytes it takes on the wire, identifier included.
    pub(super) fn write<S: Sink>(&self, sink: &mut S) {
        sink.u8(self.identifier());
        match *self {
            Self::PayloadFormat(value) => sink.u8(value),
            Self::MaximumQoS(qos) => sink.u8(qos as u8),
            Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifiersAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => sink.u8(u8::from(value)),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => sink.u16(value),
            Self::MessageExpiry(value)
            | Self::SessionExpiry(value)
            | Self::WillDelay(value)
            | Self::MaximumPacketSize(value) => sink.u32(value),
            Self::SubscriptionIdentifier(value) => sink.varint(value as usize),
            Self::CorrelationData(data) | Self::AuthenticationData(data) => sink.binary(data),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientId(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => sink.string(text),
            Self::User(name, value) => {
                sink.string(name);
                sink.string(value);
            }
        }
    }

    /// Reads the value that follows an identifier, and checks its range.
    /// The properties of a list that has been checked before, in their order.
    pub fn list(encoded: &'a [u8]) -> impl Iterator<Item = Self> {
        CheckedProperties::new(encoded).map(|(property, _)| property)
    }

    /// Appends the property to an encoded list.
    pub fn append(&self, list: &mut Vec<u8>) {
        self.write(list);
    }

    fn read_value(identifier: u8, name: &'static str, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(match identifier {
            0x01 => match reader.u8(name)? {
                value @ 0..=1 => Self::PayloadFormat(value),
                _ => return Err(neither_0_nor_1(name)),
            },
            0x02 => Self::MessageExpiry(reader.u32(name)?),
            0x03 => Self::ContentType(reader.string(name)?),
            0x08 => Self::ResponseTopic(response_topic(reader, name)?),
            0x09 => Self::CorrelationData(reader.binary(name)?),
            SUBSCRIPTION_IDENTIFIER => {
                let value = reader.varint(name)?;
                // A variable byte integer has at most 28 bits.
                Self::SubscriptionIdentifier(not_0(u32::try_from(value).unwrap_or(0), name)?)
            }
            0x11 => Self::SessionExpiry(reader.u32(name)?),
            0x12 => Self::AssignedClientId(reader.string(name)?),
            0x13 => Self::ServerKeepAlive(reader.u16(name)?),
            0x15 => Self::AuthenticationMethod(reader.string(name)?),
            0x16 => Self::AuthenticationData(reader.binary(name)?),
            0x17 => Self::RequestProblemInformation(boolean(reader, name)?),
            0x18 => Self::WillDelay(reader.u32(name)?),
            0x19 => Self::RequestResponseInformation(boolean(reader, name)?),
            0x1a => Self::ResponseInformation(reader.string(name)?),
            0x1c => Self::ServerReference(reader.string(name)?),
            0x1f => Self::ReasonString(reader.string(name)?),
            0x21 => Self::ReceiveMaximum(not_0(reader.u16(name)?, name)?),
            0x22 => Self::TopicAliasMaximum(reader.u16(name)?),
            // [MQTT-3.3.2-8]
            0x23 => match reader.u16(name)? {
                0 => return Err(DecodeError::new(ReasonCode::TOPIC_ALIAS_INVALID, name, "is 0")),
                alias => Self::TopicAlias(alias),
            },
            0x24 => Self::MaximumQoS(if boolean(reader, name)? { QoS::AtLeastOnce } else { QoS::AtMostOnce }),
            0x25 => Self::RetainAvailable(boolean(reader, name)?),
            // [MQTT-1.5.7-1]: name and value are both strings.
            USER => Self::User(reader.string("user property name")?, reader.string("user property value")?),
            0x27 => Self::MaximumPacketSize(not_0(reader.u32(name)?, name)?),
            0x28 => Self::WildcardSubscriptionAvailable(boolean(reader, name)?),
            0x29 => Self::SubscriptionIdentifiersAvailable(boolean(reader, name)?),
            0x2a => Self::SharedSubscriptionAvailable(boolean(reader, name)?),
            _ => return Err(undefined()),
        })
    }
}

#[cold]
fn undefined() -> DecodeError {
    DecodeError::malformed("property identifier", "is not defined")
}

#[cold]
fn neither_0_nor_1(name: &'static str) -> DecodeError {
    DecodeError::protocol(name, "is neither 0 nor 1")
}

fn boolean(reader: &mut Reader<'_>, name: &'static str) -> Result<bool, DecodeError> {
    match reader.u8(name)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(neither_0_nor_1(name)),
    }
}

fn not_0<T: PartialEq + Default>(value: T, name: &'static str) -> Result<T, DecodeError> {
    if value == T::default() {
        return Err(DecodeError::protocol(name, "is 0"));
    }
    Ok(value)
}

/// [MQTT-3.3.2-13], [MQTT-3.3.2-14], [MQTT-4.7.3-1]
fn response_topic<'a>(reader: &mut Reader<'a>, name: &'static str) -> Result<&'a str, DecodeError> {
    let topic = reader.string(name)?;
    match super::text::validate_topic_name(topic) {
        Ok(()) => Ok(topic),
        Err(error) => Err(DecodeError::protocol(name, error.detail())),
    }
}

/// Reads a property list, checking that each property may stand in it and, but for the two that may, stands in it
/// once (§2.2.2.2).
#[derive(Debug)]
pub(super) struct PropertyReader<'a> {
    reader: Reader<'a>,
    owner: PropertyOwner,
    /// One bit for each identifier met.
    seen: u64,
}

impl<'a> PropertyReader<'a> {
    /// `list` is the encoded list without its length.
    pub fn new(list: &'a [u8], owner: PropertyOwner) -> Self {
        Self { reader: Reader::new(list), owner, seen: 0 }
    }

    /// The next property, or `None` at the end of the list.
    pub fn next(&mut self) -> Result<Option<Property<'a>>, DecodeError> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        // Identifiers are variable byte integers but all that are defined are below 0x80.
        let identifier = self.reader.u8("property identifier")?;
        let Some((name, owners)) = definition(identifier) else {
            return Err(undefined());
        };
        if !owners.contains(self.owner) {
            return Err(DecodeError::malformed(name, "is a property that does not belong here"));
        }
        let bit = 1_u64 << identifier;
        let may_repeat = identifier == USER || (identifier == SUBSCRIPTION_IDENTIFIER && self.owner == PUBLISH);
        if self.seen & bit != 0 && !may_repeat {
            return Err(DecodeError::protocol(name, "is given more than once"));
        }
        self.seen |= bit;
        Property::read_value(identifier, name, &mut self.reader).map(Some)
    }
}

/// Each property of a list that has been checked before, with its encoded bytes.
#[derive(Debug, Clone)]
pub(super) struct CheckedProperties<'a> {
    reader: Reader<'a>,
}

impl<'a> CheckedProperties<'a> {
    pub fn new(list: &'a [u8]) -> Self {
        Self { reader: Reader::new(list) }
    }
}

impl<'a> Iterator for CheckedProperties<'a> {
    type Item = (Property<'a>, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let before = self.reader.rest();
        let identifier = self.reader.u8("property identifier").ok()?;
        let (name, _) = definition(identifier)?;
        let property = Property::read_value(identifier, name, &mut self.reader).ok()?;
        let encoded = before.get(..before.len() - self.reader.rest().len())?;
        Some((property, encoded))
    }
}

/// Bytes of a Subscription Identifier property.
#[inline]
pub(super) const fn subscription_identifier_size(identifier: u32) -> usize {
    1 + varint_size(identifier as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &[u8], packet: PacketType) -> Result<Vec<Property<'_>>, DecodeError> {
        let mut reader = PropertyReader::new(list, PropertyOwner::packet(packet));
        let mut properties = Vec::new();
        while let Some(property) = reader.next()? {
            properties.push(property);
        }
        Ok(properties)
    }

    /// One example of every property.
    const EXAMPLES: [Property<'static>; 27] = [
        Property::PayloadFormat(1),
        Property::MessageExpiry(7),
        Property::ContentType("text"),
        Property::ResponseTopic("a/b"),
        Property::CorrelationData(&[0, 255]),
        Property::SubscriptionIdentifier(268_435_455),
        Property::SessionExpiry(u32::MAX),
        Property::AssignedClientId("id"),
        Property::ServerKeepAlive(0),
        Property::AuthenticationMethod("SCRAM"),
        Property::AuthenticationData(&[]),
        Property::RequestProblemInformation(false),
        Property::WillDelay(1),
        Property::RequestResponseInformation(true),
        Property::ResponseInformation("r"),
        Property::ServerReference("s"),
        Property::ReasonString("why"),
        Property::ReceiveMaximum(1),
        Property::TopicAliasMaximum(0),
        Property::TopicAlias(1),
        Property::MaximumQoS(QoS::AtLeastOnce),
        Property::RetainAvailable(false),
        Property::User("k", "v"),
        Property::MaximumPacketSize(1),
        Property::WildcardSubscriptionAvailable(true),
        Property::SubscriptionIdentifiersAvailable(true),
        Property::SharedSubscriptionAvailable(false),
    ];

    #[test]
    fn every_property_reads_back_where_it_belongs_and_is_malformed_elsewhere() {
        for property in EXAMPLES {
            let mut list = Vec::new();
            property.write(&mut list);
            let mut homes = 0;
            for bit in 0..16 {
                let owner = PropertyOwner(1 << bit);
                let result = PropertyReader::new(&list, owner).next();
                if property.is_allowed_in(owner) {
                    homes += 1;
                    assert_eq!(result, Ok(Some(property)));
                } else {
                    assert_eq!(result.unwrap_err().reason, ReasonCode::MALFORMED_PACKET, "{property:?} {bit}");
                }
            }
            assert!(homes > 0, "{property:?}");
            let checked: Vec<_> = CheckedProperties::new(&list).collect();
            assert_eq!(checked, [(property, &list[..])]);
        }
    }

    #[test]
    fn all_defined_identifiers_have_an_example() {
        let defined: Vec<u8> = (0..=u8::MAX).filter(|id| definition(*id).is_some()).collect();
        assert_eq!(defined, EXAMPLES.map(|property| property.identifier()));
    }

    #[test]
    fn a_property_stands_once_unless_it_may_repeat() {
        for property in EXAMPLES {
            let mut list = Vec::new();
            property.write(&mut list);
            property.write(&mut list);
            let packet = (1..=15)
                .filter_map(|number| PacketType::from_first_byte(number << 4))
                .find(|packet| property.is_allowed_in(PropertyOwner::packet(*packet)));
            let owner = packet.map_or(WILL, PropertyOwner::packet);
            let mut reader = PropertyReader::new(&list, owner);
            assert_eq!(reader.next(), Ok(Some(property)));
            match property {
                Property::User(..) | Property::SubscriptionIdentifier(_) => {
                    assert_eq!(reader.next(), Ok(Some(property)));
                }
                _ => assert_eq!(reader.next().unwrap_err().reason, ReasonCode::PROTOCOL_ERROR, "{property:?}"),
            }
        }
        let twice = [0x0b, 1, 0x0b, 2];
        assert_eq!(read(&twice, PacketType::Subscribe).unwrap_err().detail, "is given more than once");
        assert_eq!(read(&twice, PacketType::Publish).unwrap().len(), 2);
    }

    // [MQTT-3.3.2-8], [MQTT-3.3.2-14], MQTT 5 §3.1.2.11, §3.2.2.3, §3.8.2.1
    #[test]
    fn values_out_of_range_are_refused() {
        let cases: [(&[u8], PacketType, u8); 12] = [
            (&[0x01, 2], PacketType::Publish, 0x82),
            (&[0x0b, 0], PacketType::Subscribe, 0x82),
            (&[0x17, 2], PacketType::Connect, 0x82),
            (&[0x21, 0, 0], PacketType::Connect, 0x82),
            (&[0x27, 0, 0, 0, 0], PacketType::Connect, 0x82),
            (&[0x24, 2], PacketType::ConnAck, 0x82),
            (&[0x23, 0, 0], PacketType::Publish, 0x94),
            (&[0x08, 0, 1, b'#'], PacketType::Publish, 0x82),
            (&[0x08, 0, 0], PacketType::Publish, 0x82),
            (&[0x08, 0, 2, b'a', 0], PacketType::Publish, 0x81),
            (&[0x7f], PacketType::Publish, 0x81),
            (&[0xa6, 0x00], PacketType::Publish, 0x81),
        ];
        for (list, packet, reason) in cases {
            assert_eq!(read(list, packet).unwrap_err().reason.0, reason, "{list:x?}");
        }
    }

    // [MQTT-1.5.7-1]
    #[test]
    fn both_strings_of_a_user_property_are_checked() {
        for list in [&[0x26, 0, 1, 0, 0, 0][..], &[0x26, 0, 0, 0, 1, 0xff], &[0x26, 0, 1, b'a']] {
            assert_eq!(read(list, PacketType::PubAck).unwrap_err().reason, ReasonCode::MALFORMED_PACKET);
        }
    }
}
