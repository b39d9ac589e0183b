//! One publisher's message: encoded once, then only its packet identifier and stamp change.

use super::clock::Nanos;
use super::link::{Link, SentAt};
use super::stamp::{STAMP_SIZE, Stamp};
use crate::codec::{ProtocolVersion, PublishHead, QoS};
use crate::protocol::client::Refusal;

/// A publisher: whole packets are copied from its template.
#[derive(Debug)]
pub struct Publisher {
    template: Vec<u8>,
    qos: QoS,
    retain: bool,
    packet_id_at: usize,
    stamp_at: usize,
    /// Number of the last message.
    sequence: u32,
}

/// What all messages of a run have in common.
#[derive(Debug, Clone, Copy)]
pub struct MessageShape {
    /// The version to encode for.
    pub version: ProtocolVersion,
    /// How hard they are delivered.
    pub qos: QoS,
    /// Whether they are retained.
    pub retain: bool,
    /// Bytes of the payload, at least [`STAMP_SIZE`].
    pub size: usize,
}

impl MessageShape {
    /// The head of such a message on a topic.
    pub fn head<'a>(&self, topic: &'a str) -> PublishHead<'a> {
        PublishHead {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            packet_id: 1,
            topic,
            topic_alias: None,
            message_expiry: None,
            subscription_identifiers: &[],
            properties: &[],
            payload_len: self.size,
        }
    }
}

impl Publisher {
    /// A publisher on one topic.
    pub fn new(shape: &MessageShape, topic: &str) -> Self {
        let head = shape.head(topic);
        let mut template = Vec::with_capacity(head.encoded_size(shape.version));
        head.encode(shape.version, &mut template);
        let stamp_at = template.len();
        template.resize(stamp_at + shape.size, b'.');
        let packet_id_at = head.packet_id_offset(shape.version);
        Self { template, qos: shape.qos, retain: shape.retain, packet_id_at, stamp_at, sequence: 0 }
    }

    /// Whether the broker takes its messages at all.
    pub fn check(&self, link: &Link) -> Result<(), Refusal> {
        link.client.check(self.qos, self.retain, self.template.len())
    }

    /// How many messages `link` takes now.
    #[inline]
    pub fn room(&self, link: &Link) -> usize {
        if !link.takes_more() {
            return 0;
        }
        if self.qos == QoS::AtMostOnce { usize::MAX } else { link.client.room() }
    }

    /// Publishes the next message. `stamp.sequence` is set here. False when it was not possible.
    #[inline]
    pub fn publish(&mut self, link: &mut Link, stamp: Stamp, at: Nanos) -> bool {
        // Numbers do not begin again: four billion messages of one publisher are enough.
        let Some(sequence) = self.sequence.checked_add(1) else { return false };
        let packet_id = match self.qos {
            QoS::AtMostOnce => 0,
            qos => match link.client.begin(qos, SentAt(at)) {
                Ok(packet_id) => packet_id,
                Err(_) => return false,
            },
        };
        self.sequence = sequence;
        let stamp = Stamp { sequence, ..stamp };
        if packet_id != 0
            && let Some(bytes) = self.template.get_mut(self.packet_id_at..self.packet_id_at + 2)
        {
            bytes.copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(bytes) = self.template.get_mut(self.stamp_at..self.stamp_at + STAMP_SIZE) {
            bytes.copy_from_slice(&stamp.to_bytes());
        }
        link.output.extend_from_slice(&self.template);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{ConnAck, FrameStep, Packet, Properties, ReasonCode, decode, next_frame};
    use crate::protocol::client::ClientSettings;

    #[test]
    fn what_is_published_decodes_to_the_next_message_in_every_version() {
        for version in [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let mut link = Link::new(ClientSettings { version, ..ClientSettings::default() }, None);
                let (mut connack, mut answers) = (Vec::new(), Vec::new());
                let accepted =
                    ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties: Properties::new() };
                accepted.encode(version, &mut connack);
                link.client.connect(&mut answers);
                link.client.receive(&connack, &mut answers).unwrap();
                let mut publisher = Publisher::new(&MessageShape { version, qos, retain: true, size: 200 }, "a/b");
                let stamp = Stamp { run: 1, publisher: 2, sequence: 0, sent_at: 3 };
                assert!(publisher.publish(&mut link, stamp, 4));
                let first = link.output.len();
                assert!(publisher.publish(&mut link, stamp, 5));
                let Ok(FrameStep::Frame(frame)) = next_frame(&link.output[first..], 1_000) else { panic!("no packet") };
                let Ok(Packet::Publish(publish)) = decode(version, frame) else { panic!("no PUBLISH") };
                assert_eq!(
                    (publish.topic, publish.qos, publish.retain, publish.payload.len()),
                    ("a/b", qos, true, 200)
                );
                assert_eq!(publish.packet_id, if qos == QoS::AtMostOnce { 0 } else { 2 });
                assert_eq!(Stamp::read(publish.payload), Some(Stamp { sequence: 2, ..stamp }));
            }
        }
    }
}
