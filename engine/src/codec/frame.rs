//! The fixed header: where one packet ends in a stream of bytes, and how a whole packet is written (MQTT 5 §2.1).

use super::wire::{Count, Sink, VARIABLE_BYTE_INTEGER_MAX, Varint, read_varint, varint_size};
use super::{DecodeError, ProtocolVersion, ReasonCode};

/// The most bytes a packet can have: one for type and flags, four of length, and the largest length (§2.1.4).
pub const PACKET_SIZE_MAX: usize = 5 + VARIABLE_BYTE_INTEGER_MAX;

/// The kinds of packet, with the number that the fixed header gives them (§2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // the names are the specification's
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type that the first byte of a packet names; `None` for the forbidden type 0.
    #[inline]
    pub const fn from_first_byte(first_byte: u8) -> Option<Self> {
        Some(match first_byte >> 4 {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The name as the specification prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The first byte of such a packet, with the flags the specification prescribes ([MQTT-2.1.3-1], 3.1.1:
    /// [MQTT-2.2.2-1]). Those of a PUBLISH are not fixed and are 0 here.
    #[inline]
    pub const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

/// One whole packet, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Everything after the fixed header.
    pub body: &'a [u8],
    /// Bytes of the whole packet: what to drop from the input once it is dealt with.
    pub size: usize,
}

impl Frame<'_> {
    /// Whether the remaining length is written in the fewest bytes, as version 5 demands ([MQTT-1.5.5-1]).
    #[inline]
    pub(super) fn length_is_minimal(&self) -> bool {
        self.size == 1 + varint_size(self.body.len()) + self.body.len()
    }
}

/// What the start of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameStep<'a> {
    /// A whole packet.
    Frame(Frame<'a>),
    /// Less than a packet. `needed` is the size of the whole packet in bytes once its header tells.
    Incomplete {
        /// Bytes that the input must have for this packet to be whole.
        needed: Option<usize>,
    },
}

/// Finds the packet at the start of `input`.
///
/// `max_packet_size` is the most bytes a whole packet may have. A larger one is refused with 0x95 as soon as its
/// length is known, before its body arrives, so that input never has to be buffered beyond this limit.
///
/// Flags are checked by [`super::decode`], which knows the version.
#[inline]
pub fn next_frame(input: &[u8], max_packet_size: usize) -> Result<FrameStep<'_>, DecodeError> {
    let Some((&first_byte, after_type)) = input.split_first() else {
        return Ok(FrameStep::Incomplete { needed: None });
    };
    let (length, length_size) = match read_varint(after_type) {
        Varint::Value(length, length_size) => (length, length_size),
        Varint::Incomplete => return incomplete_header(first_byte),
        Varint::TooLong => return Err(DecodeError::malformed("remaining length", "is longer than four bytes")),
    };
    let size = 1 + length_size + length;
    if size > max_packet_size {
        return Err(too_large(first_byte));
    }
    match input.get(1 + length_size..size) {
        Some(body) => Ok(FrameStep::Frame(Frame { first_byte, body, size })),
        None if first_byte < 0x10 => Err(type_zero()),
        None => Ok(FrameStep::Incomplete { needed: Some(size) }),
    }
}

#[cold]
fn incomplete_header(first_byte: u8) -> Result<FrameStep<'static>, DecodeError> {
    if first_byte < 0x10 { Err(type_zero()) } else { Ok(FrameStep::Incomplete { needed: None }) }
}

#[cold]
pub(super) fn type_zero() -> DecodeError {
    DecodeError::malformed("packet type", "is 0, which is forbidden")
}

#[cold]
fn too_large(first_byte: u8) -> DecodeError {
    let error = DecodeError::new(ReasonCode::PACKET_TOO_LARGE, "the packet", "is larger than the maximum packet size");
    match PacketType::from_first_byte(first_byte) {
        Some(packet) => error.in_packet(packet),
        None => type_zero(),
    }
}

/// Which of the properties that only inform are written when space is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    /// Neither user properties nor the reason string.
    Required,
    /// The reason string but no user properties.
    ReasonString,
    /// Everything.
    All,
}

/// The part of a packet after its fixed header, for one way of writing whole packets.
pub(super) trait Body {
    /// Packet type and flags.
    fn first_byte(&self) -> u8;
    /// Writes variable header and payload.
    fn write<S: Sink>(&self, version: ProtocolVersion, keep: Keep, sink: &mut S);
}

/// Appends a whole packet to `out`. Its size must not exceed [`PACKET_SIZE_MAX`].
pub(super) fn write_packet<B: Body>(body: &B, version: ProtocolVersion, out: &mut Vec<u8>) {
    let mut count = Count::default();
    body.write(version, Keep::All, &mut count);
    append(body, version, Keep::All, count.0, out);
}

/// Appends the fullest form of a packet that has at most `max_packet_size` bytes, leaving out first the user
/// properties and then the reason string. Returns false, having written nothing, when no form fits.
pub(super) fn write_packet_within<B: Body>(
    body: &B,
    version: ProtocolVersion,
    max_packet_size: u32,
    out: &mut Vec<u8>,
) -> bool {
    let limit = usize::try_from(max_packet_size).unwrap_or(usize::MAX).min(PACKET_SIZE_MAX);
    for keep in [Keep::All, Keep::ReasonString, Keep::Required] {
        let mut count = Count::default();
        body.write(version, keep, &mut count);
        if 1 + varint_size(count.0) + count.0 <= limit {
            append(body, version, keep, count.0, out);
            return true;
        }
    }
    false
}

fn append<B: Body>(body: &B, version: ProtocolVersion, keep: Keep, length: usize, out: &mut Vec<u8>) {
    out.reserve(1 + varint_size(length) + length);
    out.u8(body.first_byte());
    out.varint(length);
    body.write(version, keep, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_packets() {
        let input = [0xc0, 0x00, 0x40, 0x02, 0x00, 0x07, 0x30];
        let FrameStep::Frame(ping) = next_frame(&input, 100).unwrap() else { panic!("a whole PINGREQ is there") };
        assert_eq!(ping, Frame { first_byte: 0xc0, body: &[], size: 2 });
        let FrameStep::Frame(ack) = next_frame(&input[2..], 100).unwrap() else { panic!("a whole PUBACK is there") };
        assert_eq!(ack, Frame { first_byte: 0x40, body: &[0, 7], size: 4 });
        assert_eq!(next_frame(&input[6..], 100), Ok(FrameStep::Incomplete { needed: None }));
        assert_eq!(next_frame(&input[2..5], 100), Ok(FrameStep::Incomplete { needed: Some(4) }));
        assert_eq!(next_frame(&[], 100), Ok(FrameStep::Incomplete { needed: None }));
    }

    #[test]
    fn a_packet_above_the_limit_is_refused_before_its_body_arrives() {
        let error = next_frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 1_000_000).unwrap_err();
        assert_eq!(error.reason, ReasonCode::PACKET_TOO_LARGE);
        assert_eq!(error.to_string(), "PUBLISH: the packet is larger than the maximum packet size");
        let at_limit = next_frame(&[0x30, 0x05], 7).unwrap();
        assert_eq!(at_limit, FrameStep::Incomplete { needed: Some(7) });
        assert!(next_frame(&[0x30, 0x06], 7).is_err());
        assert_eq!(PACKET_SIZE_MAX, 268_435_460);
    }

    #[test]
    fn type_zero_and_endless_lengths_are_malformed() {
        for input in [&[0x00][..], &[0x0f, 0x05], &[0x00, 0xff, 0xff]] {
            assert_eq!(next_frame(input, 100).unwrap_err().reason, ReasonCode::MALFORMED_PACKET);
        }
        let error = next_frame(&[0x30, 0x80, 0x80, 0x80, 0x80], usize::MAX).unwrap_err();
        assert_eq!(error.detail, "is longer than four bytes");
    }

    // [MQTT-2.1.3-1], 3.1.1: [MQTT-2.2.2-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
    #[test]
    fn prescribed_flags_are_written() {
        assert_eq!(PacketType::PubRel.first_byte(), 0x62);
        assert_eq!(PacketType::Subscribe.first_byte(), 0x82);
        assert_eq!(PacketType::Unsubscribe.first_byte(), 0xa2);
        assert_eq!(PacketType::Auth.first_byte(), 0xf0);
        for number in 1..=15 {
            let packet = PacketType::from_first_byte(number << 4).unwrap();
            assert_eq!(packet.first_byte() >> 4, number);
            assert_eq!(packet.name(), format!("{packet:?}").to_uppercase());
        }
        assert_eq!(PacketType::from_first_byte(0x0f), None);
    }
}
