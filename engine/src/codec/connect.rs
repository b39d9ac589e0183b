//! CONNECT: how a client introduces itself (MQTT 5 §3.1), and the versions of the protocol.

use super::frame::{Body, Keep, write_packet};
use super::properties::Properties;
use super::property::PropertyOwner;
use super::text::{TextError, validate_topic_name};
use super::wire::{Reader, Sink};
use super::{DecodeError, Frame, PacketType, QoS, ReasonCode};

/// The versions that can be spoken, with the level that a CONNECT gives them (§3.1.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ProtocolVersion {
    /// MQTT 3.1, whose name on the wire is `MQIsdp`.
    V3_1 = 3,
    /// MQTT 3.1.1.
    V3_1_1 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl ProtocolVersion {
    /// The version with this level; `None` for any other.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Self::V3_1),
            4 => Some(Self::V3_1_1),
            5 => Some(Self::V5),
            _ => None,
        }
    }

    const fn protocol_name(self) -> &'static str {
        match self {
            Self::V3_1 => NAME_V3_1,
            Self::V3_1_1 | Self::V5 => NAME,
        }
    }
}

const NAME: &str = "MQTT";
const NAME_V3_1: &str = "MQIsdp";
/// The bit that a bridge sets in the level of 3.1 and 3.1.1, a convention of brokers outside of the specification.
const BRIDGE_BIT: u8 = 0x80;

const CLEAN_START: u8 = 1 << 1;
const WILL: u8 = 1 << 2;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_RETAIN: u8 = 1 << 5;
const PASSWORD: u8 = 1 << 6;
const USER_NAME: u8 = 1 << 7;

/// A CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version of the protocol that the connection speaks.
    pub version: ProtocolVersion,
    /// Whether the client says that it is the bridge of another broker (levels 131 and 132).
    pub bridge: bool,
    /// Clean Start, or Clean Session before version 5 (§3.1.2.4).
    pub clean_start: bool,
    /// Seconds within which the client sends something; 0 for any time (§3.1.2.10).
    pub keep_alive: u16,
    /// May be empty, when the client wants one assigned (§3.1.3.1).
    pub client_id: &'a str,
    /// The message to publish when the connection is lost (§3.1.2.5).
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password, which may be any bytes.
    pub password: Option<&'a [u8]>,
    /// Empty before version 5.
    pub properties: Properties<'a>,
}

/// The message that a server publishes for a client whose connection is lost (§3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will<'a> {
    /// How hard it is delivered.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// A valid topic name.
    pub topic: &'a str,
    /// The message itself.
    pub payload: &'a [u8],
    /// Empty before version 5.
    pub properties: Properties<'a>,
}

impl<'a> Connect<'a> {
    /// Reads a CONNECT, in whose body the version is found. An error after protocol name and level says in
    /// [`DecodeError::connect_version`] which kind of CONNACK the client would understand.
    #[inline(never)]
    pub(super) fn decode(frame: Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let name = reader.binary("protocol name")?;
        let level = reader.u8("protocol level")?;
        let (version, bridge) = protocol(name, level)?;
        if version == ProtocolVersion::V5 && !frame.length_is_minimal() {
            return Err(super::packet::longer_length_than_needed().answer_as(version));
        }
        Self::decode_rest(version, bridge, reader).map_err(|error| error.answer_as(version))
    }

    // The payload is in this order: [MQTT-3.1.3-1] of both versions.
    fn decode_rest(version: ProtocolVersion, bridge: bool, mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let flags = checked_flags(version, reader.u8("connect flags")?)?;
        let keep_alive = reader.u16("keep alive")?;
        let properties = if version == ProtocolVersion::V5 {
            Properties::decode(reader.property_list()?, PropertyOwner::packet(PacketType::Connect))?
        } else {
            Properties::new()
        };
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::protocol("authentication data", "comes without an authentication method"));
        }
        // [MQTT-3.1.3-4]
        let client_id = reader.string("client identifier")?;
        let will = if flags & WILL == 0 { None } else { Some(Will::decode(version, flags, &mut reader)?) };
        // In 3.1 the length of the packet takes precedence over the flags: a promised field may be missing.
        let expected = |flag: u8, reader: &Reader<'_>| {
            flags & flag != 0 && (version != ProtocolVersion::V3_1 || !reader.is_empty())
        };
        // [MQTT-3.1.2-16] to [MQTT-3.1.2-19]; 3.1.1: [MQTT-3.1.2-18] to [MQTT-3.1.2-21]
        let username = if expected(USER_NAME, &reader) { Some(reader.string("user name")?) } else { None };
        let password = if expected(PASSWORD, &reader) { Some(reader.binary("password")?) } else { None };
        reader.finish()?;
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self { version, bridge, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    /// Appends the packet in the version it names. A password without a user name is left out before version 5,
    /// where it cannot be said ([MQTT-3.1.2-22] of 3.1.1).
    pub fn encode(&self, out: &mut Vec<u8>) {
        write_packet(self, self.version, out);
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        if self.clean_start {
            flags |= CLEAN_START;
        }
        if let Some(will) = &self.will {
            flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
            if will.retain {
                flags |= WILL_RETAIN;
            }
        }
        if self.username.is_some() {
            flags |= USER_NAME;
        }
        if self.sent_password().is_some() {
            flags |= PASSWORD;
        }
        flags
    }

    fn sent_password(&self) -> Option<&'a [u8]> {
        self.password.filter(|_| self.username.is_some() || self.version == ProtocolVersion::V5)
    }
}

impl Body for Connect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Connect.first_byte()
    }

    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S) {
        sink.string(version.protocol_name());
        let bridge = self.bridge && version != ProtocolVersion::V5;
        sink.u8(version as u8 | if bridge { BRIDGE_BIT } else { 0 });
        sink.u8(self.flags());
        sink.u16(self.keep_alive);
        if version == ProtocolVersion::V5 {
            self.properties.write(PropertyOwner::packet(PacketType::Connect), keep, sink);
        }
        sink.string(self.client_id);
        if let Some(will) = &self.will {
            if version == ProtocolVersion::V5 {
                will.properties.write(PropertyOwner::WILL, keep, sink);
            }
            sink.string(will.topic);
            sink.binary(will.payload);
        }
        if let Some(username) = self.username {
            sink.string(username);
        }
        if let Some(password) = self.sent_password() {
            sink.binary(password);
        }
    }
}

impl<'a> Will<'a> {
    fn decode(version: ProtocolVersion, flags: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        // [MQTT-3.1.2-12]; 3.1.1: [MQTT-3.1.2-14]
        let Some(qos) = QoS::from_u8(flags >> WILL_QOS_SHIFT & 3) else {
            return Err(DecodeError::malformed("will QoS", "is 3"));
        };
        let properties = if version == ProtocolVersion::V5 {
            Properties::decode(reader.property_list()?, PropertyOwner::WILL)?
        } else {
            Properties::new()
        };
        // [MQTT-3.1.3-11]; 3.1.1: [MQTT-3.1.3-10]
        let topic = reader.utf8("will topic")?;
        match validate_topic_name(topic) {
            Ok(()) => {}
            Err(TextError::Null) => return Err(DecodeError::malformed("will topic", TextError::Null.detail())),
            Err(error) => {
                return Err(DecodeError::new(ReasonCode::TOPIC_NAME_INVALID, "will topic", error.detail()));
            }
        }
        let payload = reader.binary("will payload")?;
        Ok(Self { qos, retain: flags & WILL_RETAIN != 0, topic, payload, properties })
    }
}

/// The version that a protocol name and a level stand for, and whether a bridge speaks.
fn protocol(name: &[u8], level: u8) -> Result<(ProtocolVersion, bool), DecodeError> {
    const UNSUPPORTED: ReasonCode = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
    let is_mqtt = name == NAME.as_bytes();
    if !is_mqtt && name != NAME_V3_1.as_bytes() {
        // [MQTT-3.1.2-1]
        return Err(DecodeError::new(UNSUPPORTED, "protocol name", "is neither 'MQTT' nor 'MQIsdp'"));
    }
    let bridge = level & BRIDGE_BIT != 0;
    let plain = level & !BRIDGE_BIT;
    match ProtocolVersion::from_level(plain) {
        Some(version) if version.protocol_name().as_bytes() == name && !(bridge && version == ProtocolVersion::V5) => {
            Ok((version, bridge))
        }
        _ => {
            // [MQTT-3.1.2-2]: a version to come is told in the newest form that exists.
            let newest = is_mqtt && plain >= ProtocolVersion::V5 as u8;
            let answer = if newest { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
            let error = DecodeError::new(UNSUPPORTED, "protocol level", "is not one that is supported (3, 4, 5)");
            Err(error.answer_as(answer))
        }
    }
}

/// The connect flags, checked (§3.1.2.3). 3.1 reserved less of them and says nothing of the will's bits without a
/// will, so these are ignored there.
fn checked_flags(version: ProtocolVersion, flags: u8) -> Result<u8, DecodeError> {
    // [MQTT-3.1.2-22] of 3.1.1; 3.1 says the same.
    if version != ProtocolVersion::V5 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(DecodeError::malformed("connect flags", "have a password without a user name"));
    }
    if version == ProtocolVersion::V3_1 {
        return Ok(flags);
    }
    // [MQTT-3.1.2-3]
    if flags & 1 != 0 {
        return Err(DecodeError::malformed("connect flags", "have the reserved bit set"));
    }
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
    if flags & WILL == 0 && flags & (WILL_RETAIN | 3 << WILL_QOS_SHIFT) != 0 {
        return Err(DecodeError::malformed("connect flags", "have will QoS or will retain set without a will"));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Packet;
    use crate::codec::round_trip::{decode_error, decode_one};

    /// A CONNECT with this name, level, flags and rest; keep alive 10.
    fn bytes(name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        body.string(name);
        body.extend([level, flags, 0, 10]);
        body.extend_from_slice(rest);
        let mut out = vec![0x10];
        out.varint(body.len());
        out.extend(body);
        out
    }

    fn connect(bytes: &[u8]) -> Connect<'_> {
        match decode_one(ProtocolVersion::V3_1_1, bytes) {
            Ok(Packet::Connect(connect)) => *connect,
            other => panic!("expected a CONNECT, got {other:?}"),
        }
    }

    fn refusal(bytes: &[u8]) -> (u8, Option<ProtocolVersion>) {
        let error = decode_error(ProtocolVersion::V5, bytes);
        (error.reason.0, error.connect_version)
    }

    const EMPTY_ID: &[u8] = &[0, 0];
    const EMPTY_ID_V5: &[u8] = &[0, 0, 0];

    // [MQTT-3.1.2-1], [MQTT-3.1.2-2]
    #[test]
    fn version_and_bridge_come_from_name_and_level() {
        let levels = [
            ("MQIsdp", 3, ProtocolVersion::V3_1, false),
            ("MQIsdp", 131, ProtocolVersion::V3_1, true),
            ("MQTT", 4, ProtocolVersion::V3_1_1, false),
            ("MQTT", 132, ProtocolVersion::V3_1_1, true),
            ("MQTT", 5, ProtocolVersion::V5, false),
        ];
        for (name, level, version, bridge) in levels {
            let rest = if version == ProtocolVersion::V5 { EMPTY_ID_V5 } else { EMPTY_ID };
            let packet = bytes(name, level, CLEAN_START, rest);
            let connect = connect(&packet);
            assert_eq!((connect.version, connect.bridge, connect.keep_alive), (version, bridge, 10));
            let mut out = Vec::new();
            connect.encode(&mut out);
            assert_eq!(out, packet);
        }
        let unsupported = [
            ("MQTT", 6, Some(ProtocolVersion::V5)),
            ("MQTT", 133, Some(ProtocolVersion::V5)),
            ("MQTT", 3, Some(ProtocolVersion::V3_1_1)),
            ("MQTT", 0, Some(ProtocolVersion::V3_1_1)),
            ("MQIsdp", 4, Some(ProtocolVersion::V3_1_1)),
            ("MQIsdp", 6, Some(ProtocolVersion::V3_1_1)),
            ("HTTP", 4, None),
            ("", 4, None),
        ];
        for (name, level, answer) in unsupported {
            assert_eq!(refusal(&bytes(name, level, 0, EMPTY_ID)), (0x84, answer), "{name} {level}");
        }
    }

    // [MQTT-3.1.2-3], [MQTT-3.1.2-11] to [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-11], [MQTT-3.1.2-13] to [MQTT-3.1.2-15],
    // [MQTT-3.1.2-22]
    #[test]
    fn flags_that_contradict_each_other_are_malformed() {
        let v5 = Some(ProtocolVersion::V5);
        let v4 = Some(ProtocolVersion::V3_1_1);
        for flags in [1, WILL_RETAIN, 1 << WILL_QOS_SHIFT, 2 << WILL_QOS_SHIFT] {
            assert_eq!(refusal(&bytes("MQTT", 4, flags, EMPTY_ID)), (0x81, v4), "{flags:#b}");
            assert_eq!(refusal(&bytes("MQTT", 5, flags, EMPTY_ID_V5)), (0x81, v5), "{flags:#b}");
        }
        let will_qos_3 = WILL | 3 << WILL_QOS_SHIFT;
        assert_eq!(refusal(&bytes("MQTT", 4, will_qos_3, &[0, 0, 0, 1, b'w', 0, 0])), (0x81, v4));
        assert_eq!(refusal(&bytes("MQTT", 4, PASSWORD, &[0, 0, 0, 0])), (0x81, v4));
        let v3 = Some(ProtocolVersion::V3_1);
        assert_eq!(refusal(&bytes("MQIsdp", 3, PASSWORD, &[0, 0, 0, 0])), (0x81, v3));
        assert_eq!(connect(&bytes("MQTT", 5, PASSWORD, &[0, 0, 0, 0, 1, 255])).password, Some(&[255][..]));
    }

    // [MQTT-3.1.3-1], [MQTT-3.1.2-16] to [MQTT-3.1.2-19], [MQTT-3.1.2-9]
    #[test]
    fn the_payload_holds_what_the_flags_promise_in_order() {
        let flags = CLEAN_START | WILL | 2 << WILL_QOS_SHIFT | WILL_RETAIN | USER_NAME | PASSWORD;
        let payload = [0, 1, b'i', 0, 1, b'w', 0, 2, 0, 1, 0, 1, b'u', 0, 1, b'p'];
        let packet = bytes("MQTT", 4, flags, &payload);
        let connect = connect(&packet);
        assert_eq!((connect.client_id, connect.username, connect.password), ("i", Some("u"), Some(&b"p"[..])));
        let will = connect.will.clone().expect("a will");
        assert_eq!((will.qos, will.retain, will.topic, will.payload), (QoS::ExactlyOnce, true, "w", &[0, 1][..]));
        for end in 0..payload.len() {
            let short = bytes("MQTT", 4, flags, &payload[..end]);
            assert_eq!(refusal(&short), (0x81, Some(ProtocolVersion::V3_1_1)), "{end}");
        }
        let mut longer = payload.to_vec();
        longer.push(0);
        assert_eq!(refusal(&bytes("MQTT", 4, flags, &longer)).0, 0x81);
    }

    #[test]
    fn version_3_1_lets_promised_fields_be_missing() {
        let bytes = bytes("MQIsdp", 3, USER_NAME | PASSWORD, &[0, 1, b'i']);
        let connect = connect(&bytes);
        assert_eq!((connect.username, connect.password), (None, None));
    }

    // [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12]
    #[test]
    fn strings_and_the_will_topic_are_checked() {
        assert_eq!(refusal(&bytes("MQTT", 4, 0, &[0, 1, 0])).0, 0x81);
        assert_eq!(refusal(&bytes("MQTT", 4, USER_NAME, &[0, 0, 0, 1, 0xff])).0, 0x81);
        assert_eq!(refusal(&bytes("MQTT", 4, WILL, &[0, 0, 0, 1, b'#', 0, 0])).0, 0x90);
        assert_eq!(refusal(&bytes("MQTT", 4, WILL, &[0, 0, 0, 0, 0, 0])).0, 0x90);
        assert_eq!(refusal(&bytes("MQTT", 4, WILL, &[0, 0, 0, 1, 0, 0, 0])).0, 0x81);
    }

    #[test]
    fn version_5_properties_are_read_and_checked() {
        let packet = bytes("MQTT", 5, WILL, &[5, 0x11, 0, 0, 0, 9, 0, 0, 5, 0x18, 0, 0, 0, 3, 0, 1, b'w', 0, 0]);
        let connect = connect(&packet);
        assert_eq!(connect.properties.session_expiry, Some(9));
        assert_eq!(connect.will.and_then(|will| will.properties.will_delay), Some(3));
        // Authentication data without a method (§3.1.2.11.10).
        let lone_data = bytes("MQTT", 5, 0, &[4, 0x16, 0, 1, 7, 0, 0]);
        assert_eq!(refusal(&lone_data), (0x82, Some(ProtocolVersion::V5)));
    }

    // [MQTT-1.5.5-1]: only version 5 has the rule.
    #[test]
    fn a_longer_remaining_length_than_needed_is_malformed_in_version_5() {
        let stretch = |mut packet: Vec<u8>| {
            packet[1] |= 0x80;
            packet.insert(2, 0);
            packet
        };
        let error = refusal(&stretch(bytes("MQTT", 5, 0, EMPTY_ID_V5)));
        assert_eq!(error, (0x81, Some(ProtocolVersion::V5)));
        assert_eq!(connect(&stretch(bytes("MQTT", 4, 0, EMPTY_ID))).client_id, "");
        assert_eq!(decode_error(ProtocolVersion::V5, &[0x40, 0x82, 0, 0, 1]).reason, ReasonCode::MALFORMED_PACKET);
        assert!(decode_one(ProtocolVersion::V3_1_1, &[0x40, 0x82, 0, 0, 1]).is_ok());
    }
}
