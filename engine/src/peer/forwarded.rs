//! A message of a client on its way to another node, and a batch of them as bytes.
//!
//! ```text
//! message   length of what follows (u32), flags (u8), stamp (u64), [origin (u32)], mountpoint, [milliseconds left (u64)], [client id],
//!           [number of shared groups (u16), group and filter of each], bytes of the topic (u16), of the properties (u32),
//!           topic, properties, payload
//! ```
//!
//! Texts have their length (u16) before them. What stands in brackets is there when its flag is set. A QoS of 3 is that of a
//! repeat: a message of QoS 2 which may have come from an earlier run of the node that sends it, with the same stamp.

use crate::message::{Head, Layout, MessageId, Millis, NEVER, Publication};

use super::bytes::{Malformed, Reader, put_text};

const QOS: u8 = 0b11;
const REPEAT: u8 = 3;
const RETAIN: u8 = 1 << 2;
const EXPIRES: u8 = 1 << 3;
const DIRECT: u8 = 1 << 4;
const SHARED: u8 = 1 << 5;
const RETAINED_UPDATE: u8 = 1 << 6;
const RETAINED_STATE: u8 = 1 << 7;

/// Bytes before a message's flags.
pub(super) const MESSAGE_LENGTH_LEN: usize = 4;
/// Longest mountpoint, client id, group, filter or topic.
const TEXT_LEN_MAX: usize = u16::MAX as usize;

/// Shared groups, one member of each of which gets the message on the receiving node. Two are equal only in the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups<'a> {
    /// As the router names them: group and filter.
    Listed(&'a [(&'a str, &'a str)]),
    /// As they came; checked before.
    Encoded(&'a [u8]),
}

impl Default for Groups<'_> {
    fn default() -> Self {
        Self::Listed(&[])
    }
}

impl<'a> Groups<'a> {
    /// Group and filter of each.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let (listed, encoded): (&[_], &[u8]) = match *self {
            Self::Listed(listed) => (listed, &[]),
            Self::Encoded(encoded) => (&[], encoded),
        };
        let mut reader = Reader(encoded);
        let read = std::iter::from_fn(move || Some((reader.text().ok()?, reader.text().ok()?)));
        listed.iter().copied().chain(read)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Listed(listed) => listed.is_empty(),
            Self::Encoded(encoded) => encoded.is_empty(),
        }
    }
}

/// A message between two nodes.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// Where its topic belongs.
    pub mountpoint: &'a str,
    /// The message. Its publisher's session is of another node, so `origin` is not sent.
    pub publication: Publication<'a>,
    /// It is for this client alone and is not routed.
    pub receiver: Option<&'a str>,
    /// Shared groups whose member was chosen on the receiving node.
    pub groups: Groups<'a>,
    /// It changes the retained message of its topic.
    pub is_retained_update: bool,
    /// It is the retained message of its topic already, under this name, and is handed to nobody.
    pub retained_as: Option<MessageId>,
    /// It is of QoS 2, and may have come from an earlier run of the node that sends it, with the same stamp.
    pub is_repeat: bool,
    /// Hybrid logical time of the publish.
    pub stamp: u64,
}

impl<'a> Forwarded<'a> {
    /// A message that the receiving node routes to its own subscribers.
    pub fn routed(mountpoint: &'a str, publication: Publication<'a>, stamp: u64) -> Self {
        Self {
            mountpoint,
            publication,
            receiver: None,
            groups: Groups::default(),
            is_retained_update: false,
            retained_as: None,
            is_repeat: false,
            stamp,
        }
    }

    /// Whether it is kept until the peer has it, and never sent twice: one of QoS 1 or 2, and one that is retained, which is
    /// there for those who come later.
    pub fn is_reliable(&self) -> bool {
        self.publication.head.qos > 0 || self.is_retained_update || self.retained_as.is_some()
    }

    /// Whether it must not come twice, whatever becomes of either node.
    pub fn is_exactly_once(&self) -> bool {
        self.publication.head.qos == 2 && self.retained_as.is_none()
    }

    /// Whether a batch can have it: every text and list has its limit.
    pub(super) fn is_encodable(&self) -> bool {
        let is_short = |text: &str| text.len() <= TEXT_LEN_MAX;
        self.publication.topic().len() <= TEXT_LEN_MAX
            && is_short(self.mountpoint)
            && self.receiver.is_none_or(is_short)
            && match self.groups {
                // It came in the same form.
                Groups::Encoded(_) => true,
                Groups::Listed(listed) => {
                    listed.len() <= TEXT_LEN_MAX
                        && listed.iter().all(|(group, filter)| is_short(group) && is_short(filter))
                }
            }
    }

    /// Bytes that [`Forwarded::encode`] appends.
    pub fn encoded_size(&self) -> usize {
        let text = |text: &str| 2 + text.len();
        let publication = &self.publication;
        let span = publication.topic().len() + publication.properties().len() + publication.payload().len();
        let mut size = MESSAGE_LENGTH_LEN + 1 + 8 + text(self.mountpoint) + 2 + 4 + span;
        if publication.head.expires_at != NEVER {
            size += 8;
        }
        size += self.retained_as.map_or(0, |_| 4);
        size += self.receiver.map_or(0, text);
        if !self.groups.is_empty() {
            size += 2 + self.groups.iter().map(|(group, filter)| text(group) + text(filter)).sum::<usize>();
        }
        size
    }

    /// Appends it. The expiry is told as the time that is left, since each node has a clock of its own.
    pub fn encode(&self, now: Millis, buffer: &mut Vec<u8>) {
        debug_assert!(self.is_encodable());
        let start = buffer.len();
        let Publication { head, .. } = &self.publication;
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        debug_assert!(!self.is_repeat || head.qos == 2);
        let qos = if self.is_repeat { REPEAT } else { head.qos & QOS };
        let flags = qos
            | flag(head.retain, RETAIN)
            | flag(head.expires_at != NEVER, EXPIRES)
            | flag(self.receiver.is_some(), DIRECT)
            | flag(!self.groups.is_empty(), SHARED)
            | flag(self.is_retained_update, RETAINED_UPDATE)
            | flag(self.retained_as.is_some(), RETAINED_UPDATE | RETAINED_STATE);
        buffer.extend_from_slice(&[0; MESSAGE_LENGTH_LEN]);
        buffer.push(flags);
        buffer.extend_from_slice(&self.stamp.to_be_bytes());
        if let Some(message_id) = self.retained_as {
            buffer.extend_from_slice(&message_id.origin.to_be_bytes());
        }
        put_text(buffer, self.mountpoint.as_bytes());
        if head.expires_at != NEVER {
            buffer.extend_from_slice(&head.expires_at.saturating_sub(now).to_be_bytes());
        }
        if let Some(receiver) = self.receiver {
            put_text(buffer, receiver.as_bytes());
        }
        if !self.groups.is_empty() {
            buffer.extend_from_slice(&(self.groups.iter().count() as u16).to_be_bytes());
            for (group, filter) in self.groups.iter() {
                put_text(buffer, group.as_bytes());
                put_text(buffer, filter.as_bytes());
            }
        }
        let (topic, properties) = (self.publication.topic(), self.publication.properties());
        buffer.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        buffer.extend_from_slice(&(properties.len() as u32).to_be_bytes());
        buffer.extend_from_slice(topic);
        buffer.extend_from_slice(properties);
        buffer.extend_from_slice(self.publication.payload());
        let length = (buffer.len() - start - MESSAGE_LENGTH_LEN) as u32;
        buffer[start..start + MESSAGE_LENGTH_LEN].copy_from_slice(&length.to_be_bytes());
    }

    /// Reads a message. What `IS_CHECKED` was found to be text before is not looked at again.
    fn decode<const IS_CHECKED: bool>(bytes: &'a [u8], now: Millis) -> Result<Self, Malformed> {
        let mut reader = Reader(bytes);
        let flags = reader.u8()?;
        let is_repeat = flags & QOS == REPEAT;
        let qos = if is_repeat { 2 } else { flags & QOS };
        let is_state = flags & RETAINED_STATE != 0;
        let must_be_set = if is_state { RETAIN | RETAINED_UPDATE } else { 0 };
        if flags & must_be_set != must_be_set {
            return Err(Malformed);
        }
        let stamp = reader.u64()?;
        let retained_as = if is_state { Some(MessageId { origin: reader.u32()?, stamp }) } else { None };
        let mountpoint = reader.text()?;
        let expires_at = if flags & EXPIRES == 0 { NEVER } else { now.saturating_add(reader.u64()?).min(NEVER - 1) };
        let receiver = if flags & DIRECT == 0 { None } else { Some(reader.text()?) };
        let groups = if flags & SHARED == 0 { Groups::default() } else { read_groups::<IS_CHECKED>(&mut reader)? };
        let topic_len = u32::from(reader.u16()?);
        let properties_len = reader.u32()?;
        let span = reader.0;
        let topic = reader.take(topic_len as usize)?;
        reader.take(properties_len as usize)?;
        if !IS_CHECKED && (topic.is_empty() || std::str::from_utf8(topic).is_err()) {
            return Err(Malformed);
        }
        let layout = Layout {
            topic_len,
            properties_start: topic_len,
            properties_len,
            payload_start: topic_len + properties_len,
        };
        let head = Head { layout, qos, retain: flags & RETAIN != 0, expires_at, origin: 0 };
        let publication = Publication { head, span };
        let is_retained_update = flags & RETAINED_UPDATE != 0;
        Ok(Self { mountpoint, publication, receiver, groups, is_retained_update, retained_as, is_repeat, stamp })
    }
}

fn read_groups<'a, const IS_CHECKED: bool>(reader: &mut Reader<'a>) -> Result<Groups<'a>, Malformed> {
    let count = reader.u16()?;
    if count == 0 {
        return Err(Malformed);
    }
    let start = reader.0;
    for _ in 0..2 * u32::from(count) {
        if IS_CHECKED {
            let length = reader.u16()?;
            reader.take(usize::from(length))?;
        } else {
            reader.text()?;
        }
    }
    Ok(Groups::Encoded(&start[..start.len() - reader.0.len()]))
}

/// QoS of the message at the front of a batch that this node wrote, whether it is reliable, and its bytes.
pub(super) fn own_message(bytes: &[u8]) -> (u8, bool, usize) {
    let length = bytes.first_chunk::<MESSAGE_LENGTH_LEN>().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let flags = bytes.get(MESSAGE_LENGTH_LEN).copied().unwrap_or_default();
    ((flags & QOS).min(2), flags & (QOS | RETAINED_UPDATE) != 0, MESSAGE_LENGTH_LEN + length)
}

/// The messages of a batch, in their order. They borrow the bytes that came.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    left: usize,
    now: Millis,
}

impl<'a> Messages<'a> {
    /// Checks all of a batch, so that it is taken whole or not at all.
    pub fn check(bytes: &'a [u8], now: Millis) -> Result<Self, Malformed> {
        let mut rest = Reader(bytes);
        let mut left = 0;
        while !rest.0.is_empty() {
            let length = rest.u32()?;
            Forwarded::decode::<false>(rest.take(length as usize)?, now)?;
            left += 1;
        }
        Ok(Self { rest: bytes, left, now })
    }

    /// The bytes of those that are left, in which they lie.
    pub fn bytes(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Forwarded<'a>;

    fn next(&mut self) -> Option<Forwarded<'a>> {
        let mut reader = Reader(self.rest);
        let length = reader.u32().ok()?;
        let message = Forwarded::decode::<true>(reader.take(length as usize).ok()?, self.now).ok()?;
        self.rest = reader.0;
        self.left -= 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn publication(span: &[u8], qos: u8, expires_at: Millis) -> Publication<'_> {
        let layout = Layout { topic_len: 3, properties_start: 3, properties_len: 2, payload_start: 5 };
        Publication { head: Head { layout, qos, retain: true, expires_at, origin: 9 }, span }
    }

    #[test]
    fn a_message_arrives_with_everything_that_was_said_about_it() {
        let groups = [("g", "a/+"), ("h", "#")];
        let message = Forwarded {
            mountpoint: "mp",
            publication: publication(b"a/b\x01\x01payload", 2, 5_000),
            receiver: Some("client"),
            groups: Groups::Listed(&groups),
            is_retained_update: true,
            retained_as: Some(MessageId { origin: 5, stamp: 77 }),
            is_repeat: true,
            stamp: 77,
        };
        let mut bytes = Vec::new();
        message.encode(1_000, &mut bytes);
        assert_eq!(bytes.len(), message.encoded_size());
        let mut messages = Messages::check(&bytes, 100).unwrap();
        let back = messages.next().unwrap();
        assert!(messages.next().is_none());
        assert_eq!((back.mountpoint, back.receiver, back.stamp), ("mp", Some("client"), 77));
        assert!(back.is_retained_update && back.is_repeat);
        assert_eq!(back.retained_as, message.retained_as);
        assert_eq!(back.groups.iter().collect::<Vec<_>>(), groups);
        let Head { qos, retain, expires_at, origin, .. } = back.publication.head;
        assert_eq!((qos, retain, expires_at, origin), (2, true, 4_100, 0));
        assert_eq!(back.publication.topic(), b"a/b");
        assert_eq!(back.publication.properties(), b"\x01\x01");
        assert_eq!(back.publication.payload(), b"payload");
    }

    #[test]
    fn what_lies_between_the_parts_of_a_packet_is_not_sent() {
        // A PUBLISH body: a packet identifier and the length of the properties stand behind the topic.
        let span = b"a/b\x00\x07\x02\x01\x01xyz";
        let layout = Layout { topic_len: 3, properties_start: 6, properties_len: 2, payload_start: 8 };
        let publication =
            Publication { head: Head { layout, qos: 1, retain: false, expires_at: NEVER, origin: 1 }, span };
        let message = Forwarded::routed("", publication, 1);
        let mut bytes = Vec::new();
        message.encode(1, &mut bytes);
        assert_eq!(bytes.len(), message.encoded_size());
        let back = Messages::check(&bytes, 1).unwrap().next().unwrap();
        assert_eq!(back.publication.span, b"a/b\x01\x01xyz");
        assert_eq!(back.publication.head.expires_at, NEVER);
        assert!(back.groups.is_empty() && back.receiver.is_none());
    }

    #[test]
    fn a_batch_with_one_bad_message_is_refused_whole() {
        let mut bytes = Vec::new();
        Forwarded::routed("", publication(b"a/b\x01\x01x", 1, NEVER), 1).encode(1, &mut bytes);
        let good = bytes.len();
        bytes.extend_from_within(..);
        bytes[good + MESSAGE_LENGTH_LEN] = RETAINED_STATE;
        assert!(Messages::check(&bytes[..good], 1).is_ok());
        assert!(Messages::check(&bytes, 1).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200)) {
            if let Ok(messages) = Messages::check(&bytes, 1) {
                for message in messages {
                    let publication = message.publication;
                    prop_assert!(publication.topic().len() + publication.payload().len() <= publication.span.len());
                    message.groups.iter().count();
                }
            }
        }
    }
}
