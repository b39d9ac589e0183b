//! A published message: borrowed while a batch is routed, shared once something has to keep it.
//!
//! The bytes of a message are one *span*: the topic name first, then (somewhere behind it) the properties that are
//! passed on and the payload. A PUBLISH body already has that shape, so a message that only passes through is never
//! copied: it is a [`Publication`] that points into the read buffer. The first queue, window or retained store that has to
//! keep it turns it into a [`Message`], one allocation that all of them share.

use triomphe::ThinArc;

/// Milliseconds on the engine's own monotonic clock, which starts near 0 with the process.
pub type Millis = u64;

/// No expiry: a message whose `expires_at` is this never expires.
pub const NEVER: Millis = Millis::MAX;

/// Where the store has a message. Whoever has a place with a slot keeps the message in the store until it gives the place up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the body is found; 0: the store does not have the message.
    pub slot: u32,
    /// The lowest segment of the log that has something to say about whoever holds this place.
    pub segment: u32,
}

impl Place {
    /// Not in the store.
    pub const NONE: Self = Self { slot: 0, segment: 0 };
    /// The slot of something that the store knows of, but whose body it need not keep any more.
    const BODILESS: u32 = u32::MAX;

    /// Whether the store knows of it.
    #[inline]
    pub const fn is_stored(self) -> bool {
        self.slot != 0
    }

    /// The slot of the body, if the store keeps one.
    #[inline]
    pub const fn body(self) -> Option<u32> {
        if self.slot == 0 || self.slot == Self::BODILESS { None } else { Some(self.slot) }
    }

    /// The same place without a body.
    #[must_use]
    pub const fn without_body(self) -> Self {
        if self.slot == 0 { self } else { Self { slot: Self::BODILESS, ..self } }
    }
}

/// Where the parts of a message lie in its span. The topic starts at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the topic name.
    pub topic_len: u32,
    /// Start of the forwardable properties, encoded for MQTT 5.
    pub properties_start: u32,
    /// Bytes of the forwardable properties.
    pub properties_len: u32,
    /// Start of the payload, which reaches to the end of the span.
    pub payload_start: u32,
}

/// What is known of a message beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Where the parts are.
    pub layout: Layout,
    /// Quality of service of the publisher, 0 to 2.
    pub qos: u8,
    /// RETAIN as the publisher set it.
    pub retain: bool,
    /// When it expires, [`NEVER`] for a message without expiry interval.
    pub expires_at: Millis,
    /// Session that published it (0: the broker itself), for No Local.
    pub origin: u64,
}

/// Names a message on all nodes that it goes to: the node where it was published, as a number, and its stamp there. The stamps of
/// a node grow, so of two of its messages the later one has the later stamp.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The node.
    pub origin: u32,
    /// Hybrid logical time; 0 for a message that goes to no other node, and has no name.
    pub stamp: u64,
}

impl MessageId {
    /// A message without a name.
    pub const NONE: Self = Self { origin: 0, stamp: 0 };

    /// Whether it is a name.
    pub fn is_some(self) -> bool {
        self.stamp != 0
    }

    /// Whether its message counts as the later one: nodes that know both agree on that.
    pub fn is_later_than(self, other: Self) -> bool {
        (self.stamp, self.origin) > (other.stamp, other.origin)
    }

    /// The number of a node, the same everywhere (FNV-1a).
    pub fn origin_of(node: &str) -> u32 {
        node.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

/// A message that lives in somebody else's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Facts and layout.
    pub head: Head,
    /// The bytes that `head.layout` describes.
    pub span: &'a [u8],
}

impl<'a> Publication<'a> {
    /// Lays topic, properties and payload out in `arena` (appended) and describes them.
    pub fn compose(arena: &mut Vec<u8>, topic: &[u8], properties: &[u8], payload: &[u8]) -> Layout {
        arena.reserve(topic.len() + properties.len() + payload.len());
        arena.extend_from_slice(topic);
        arena.extend_from_slice(properties);
        arena.extend_from_slice(payload);
        Layout {
            topic_len: topic.len() as u32,
            properties_start: topic.len() as u32,
            properties_len: properties.len() as u32,
            payload_start: (topic.len() + properties.len()) as u32,
        }
    }

    /// The topic name.
    #[inline]
    pub fn topic(&self) -> &'a [u8] {
        &self.span[..self.head.layout.topic_len as usize]
    }

    /// The topic name as text. Topics are checked where they enter, so this cannot fail for a message in the engine.
    pub fn topic_text(&self) -> &'a str {
        std::str::from_utf8(self.topic()).unwrap_or_default()
    }

    /// The forwardable properties, encoded for MQTT 5.
    #[inline]
    pub fn properties(&self) -> &'a [u8] {
        let start = self.head.layout.properties_start as usize;
        &self.span[start..start + self.head.layout.properties_len as usize]
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        &self.span[self.head.layout.payload_start as usize..]
    }

    /// Whether its expiry has passed.
    #[inline]
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.head.expires_at
    }

    /// Whole seconds left to be sent as Message Expiry Interval, `None` for a message without one [MQTT-3.3.2-6].
    #[inline]
    pub fn remaining_expiry_s(&self, now: Millis) -> Option<u32> {
        if self.head.expires_at == NEVER {
            return None;
        }
        Some(u32::try_from(self.head.expires_at.saturating_sub(now).div_ceil(1_000)).unwrap_or(u32::MAX))
    }
}

/// A message that is kept: cheap to clone, its bytes are shared.
#[derive(Clone, Debug)]
pub struct Message(ThinArc<Head, u8>);

impl Message {
    /// Copies a publication out of the buffer it lives in.
    pub fn keep(publication: &Publication<'_>) -> Self {
        Self(ThinArc::from_header_and_slice(publication.head, publication.span))
    }

    /// The message as a publication.
    #[inline]
    pub fn publication(&self) -> Publication<'_> {
        Publication { head: self.0.header.header, span: &self.0.slice }
    }

    /// Memory that it takes, shared by all who hold it.
    pub fn size(&self) -> usize {
        self.0.slice.len() + size_of::<Head>() + 2 * size_of::<usize>()
    }
}

/// The retained message of a topic.
#[derive(Clone, Debug)]
pub struct Retained {
    /// The message; `None`: it is only in the store.
    pub message: Option<Message>,
    /// When it expires, [`NEVER`] for a message without expiry interval.
    pub expires_at: Millis,
    /// Where the store has its body; 0: it does not.
    pub slot: u32,
    /// Memory that the message takes where it is in memory.
    pub size: u32,
    /// Quality of service of the publisher.
    pub qos: u8,
    /// What it is called on all nodes.
    pub message_id: MessageId,
}

impl Retained {
    /// A message in memory.
    pub fn new(message: Message, message_id: MessageId) -> Self {
        let head = message.publication().head;
        let size = message.size() as u32;
        Self { message: Some(message), expires_at: head.expires_at, slot: 0, size, qos: head.qos, message_id }
    }

    /// Whether its expiry has passed.
    pub fn is_expired(&self, now: Millis) -> bool {
        now >= self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(arena: &mut Vec<u8>, expires_at: Millis) -> Head {
        let layout = Publication::compose(arena, b"a/b", b"\x01\x01", b"payload");
        Head { layout, qos: 1, retain: false, expires_at, origin: 7 }
    }

    #[test]
    fn a_kept_message_has_the_parts_of_its_publication() {
        let mut arena = Vec::new();
        let head = publication(&mut arena, NEVER);
        let message = Message::keep(&Publication { head, span: &arena });
        drop(arena);
        let kept = message.publication();
        assert_eq!((kept.topic(), kept.properties(), kept.payload()), (&b"a/b"[..], &b"\x01\x01"[..], &b"payload"[..]));
    }

    #[test]
    fn remaining_expiry_counts_down_in_whole_seconds_and_ends() {
        let mut arena = Vec::new();
        let head = publication(&mut arena, 10_000);
        let publication = Publication { head, span: &arena };
        assert_eq!(publication.remaining_expiry_s(0), Some(10));
        assert_eq!(publication.remaining_expiry_s(9_001), Some(1));
        assert!(!publication.is_expired(9_999));
        assert!(publication.is_expired(10_000));
    }
}
