//! The wire forms of the messages of one batch, so that a publish to many subscribers is encoded once per form.
//!
//! Two subscribers get the same bytes (but for the packet identifier) when they agree in MQTT generation, QoS and RETAIN
//! and need nothing of their own in the packet (subscription identifiers, topic alias).

use crate::codec::{ProtocolVersion, PublishHead, QoS};
use crate::message::{Millis, Publication};

/// Forms a message can have: generation x QoS x RETAIN.
const FORMS: usize = 2 * 3 * 2;

#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    start: u32,
    /// 0: not encoded yet.
    end: u32,
    /// Position of the packet identifier from `start`.
    packet_id_at: u32,
}

/// The encoded forms of the messages of a run.
#[derive(Debug, Default)]
pub struct FrameCache {
    bytes: Vec<u8>,
    frames: Vec<Frame>,
}

/// An encoded packet and where its packet identifier goes (meaningless for QoS 0).
#[derive(Clone, Copy, Debug)]
pub struct Encoded<'a> {
    /// The packet with a placeholder for the identifier.
    pub bytes: &'a [u8],
    /// Offset of the identifier.
    pub packet_id_at: usize,
}

impl FrameCache {
    /// Forgets everything and makes room for `count` messages.
    pub fn begin(&mut self, count: usize) {
        self.bytes.clear();
        self.frames.clear();
        self.frames.resize(count * FORMS, Frame::default());
    }

    /// Memory that it holds on to.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The packet for message `index` in one form.
    pub fn encoded(
        &mut self,
        index: usize,
        publication: &Publication<'_>,
        version: ProtocolVersion,
        qos: u8,
        retain: bool,
        now: Millis,
    ) -> Encoded<'_> {
        let is_v5 = version == ProtocolVersion::V5;
        let form = (usize::from(is_v5) * 3 + usize::from(qos)) * 2 + usize::from(retain);
        let frame = &mut self.frames[index * FORMS + form];
        if frame.end == 0 {
            let start = self.bytes.len();
            let head = publish_head(publication, is_v5, qos, retain, now);
            head.encode(version, &mut self.bytes);
            let properties = if is_v5 { properties_size(&head) } else { 0 };
            let packet_id_at = self.bytes.len() - start - properties - 2;
            self.bytes.extend_from_slice(publication.payload());
            *frame = Frame {
                start: start as u32,
                end: self.bytes.len() as u32,
                packet_id_at: if qos == 0 { 0 } else { packet_id_at as u32 },
            };
        }
        Encoded {
            bytes: &self.bytes[frame.start as usize..frame.end as usize],
            packet_id_at: frame.packet_id_at as usize,
        }
    }
}

/// Bytes of the property length and the properties of an MQTT 5 PUBLISH without alias and identifiers.
fn properties_size(head: &PublishHead<'_>) -> usize {
    let length = head.properties.len() + if head.message_expiry.is_some() { 5 } else { 0 };
    let length_size = match length {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    };
    length_size + length
}

/// The header of a first delivery without anything that belongs to one subscriber only.
pub fn publish_head<'a>(
    publication: &Publication<'a>,
    is_v5: bool,
    qos: u8,
    retain: bool,
    now: Millis,
) -> PublishHead<'a> {
    PublishHead {
        dup: false,
        qos: QoS::from_u8(qos).unwrap_or(QoS::AtMostOnce),
        retain,
        packet_id: 1,
        topic: publication.topic_text(),
        topic_alias: None,
        message_expiry: if is_v5 { publication.remaining_expiry_s(now) } else { None },
        subscription_identifiers: &[],
        properties: if is_v5 { publication.properties() } else { &[] },
        payload_len: publication.payload().len(),
    }
}
