//! A session as bytes, on its way to another node.
//!
//! ```text
//! head     version (u8), size of the session's record (varint), record, subscriptions: number, then each
//!          filter, options (u8), identifier (varint); QoS 2 identifiers of the client: number, then each (u16)
//! entry    flags (u8), number in the window (varint), stamp and node of the message (2 varints), subscription identifiers:
//!          number, then each (varint); milliseconds since the Unix epoch when it expires, 0 for never (varint); layout (4 varints),
//!          size and bytes of the message
//! ```

use smallvec::SmallVec;

use crate::message::{Head, Message, MessageId, Millis, NEVER, Publication};
use crate::routing::SubscriptionOptions;
use crate::store::bytes::{Malformed, Reader, put_bytes, put_varint};
use crate::store::{EntryState, SessionRecord, fits, put_layout, put_session, read_layout, read_session};

use super::node::Clock;

const VERSION: u8 = 1;

const QOS: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
const PUBLISHED_QOS_SHIFT: u8 = 3;
const PUBLISHED_RETAIN: u8 = 1 << 5;
const SENT: u8 = 1 << 6;
const RELEASED: u8 = 1 << 7;

/// What a session is without its messages.
pub(super) struct Luggage {
    pub record: SessionRecord,
    pub subscriptions: Vec<(Box<str>, SubscriptionOptions)>,
    pub received: Vec<u16>,
}

/// A message of a session.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub state: EntryState,
    pub qos: u8,
    pub retain: bool,
    pub message_id: MessageId,
    pub identifiers: SmallVec<[u32; 1]>,
    /// `None` where the client has it.
    pub message: Option<Message>,
}

/// A session's record as bytes.
pub(super) fn put_record(record: &SessionRecord) -> Vec<u8> {
    let mut session = Vec::new();
    put_session(&mut session, 0, record);
    session
}

pub(super) fn put_luggage<'s>(
    session: &[u8],
    subscriptions: impl ExactSizeIterator<Item = (&'s str, SubscriptionOptions)>,
    received: &[u16],
) -> Vec<u8> {
    let mut buffer = vec![VERSION];
    put_bytes(&mut buffer, session);
    put_varint(&mut buffer, subscriptions.len() as u64);
    for (filter, options) in subscriptions {
        put_bytes(&mut buffer, filter.as_bytes());
        buffer.push(options.to_byte());
        put_varint(&mut buffer, options.identifier.into());
    }
    put_varint(&mut buffer, received.len() as u64);
    for packet_id in received {
        buffer.extend_from_slice(&packet_id.to_le_bytes());
    }
    buffer
}

pub(super) fn read_luggage(bytes: &[u8]) -> Result<Luggage, Malformed> {
    let mut reader = Reader(bytes);
    if reader.u8()? != VERSION {
        return Err(Malformed);
    }
    let (_, record) = read_session(reader.bytes()?)?;
    let mut subscriptions = Vec::new();
    for _ in 0..reader.varint()? {
        let filter = reader.text()?.into();
        let byte = reader.u8()?;
        subscriptions.push((filter, SubscriptionOptions::from_byte(byte, reader.varint_u32()?)));
    }
    let mut received = Vec::new();
    for _ in 0..reader.varint()? {
        received.push(reader.u16()?);
    }
    if reader.is_empty() { Ok(Luggage { record, subscriptions, received }) } else { Err(Malformed) }
}

pub(super) fn put_entry(buffer: &mut Vec<u8>, clock: &Clock, entry: &Entry) {
    let publication = entry.message.as_ref().map(Message::publication);
    let head = publication.map(|publication| publication.head);
    let mut flags = entry.qos & QOS;
    flags |= if entry.retain { RETAIN } else { 0 };
    flags |= head.map_or(0, |head| head.qos & QOS) << PUBLISHED_QOS_SHIFT;
    flags |= if head.is_some_and(|head| head.retain) { PUBLISHED_RETAIN } else { 0 };
    let (bit, number) = match entry.state {
        EntryState::Waiting => (0, 0),
        EntryState::Sent(number) => (SENT, number),
        EntryState::Released(number) => (RELEASED, number),
    };
    buffer.push(flags | bit);
    put_varint(buffer, number);
    put_varint(buffer, entry.message_id.stamp);
    put_varint(buffer, entry.message_id.origin.into());
    put_varint(buffer, entry.identifiers.len() as u64);
    for identifier in &entry.identifiers {
        put_varint(buffer, (*identifier).into());
    }
    let Some(publication) = publication else { return };
    let expires_at = publication.head.expires_at;
    put_varint(buffer, if expires_at == NEVER { 0 } else { clock.wall_ms(expires_at) });
    put_layout(buffer, publication.head.layout);
    put_bytes(buffer, publication.span);
}

pub(super) fn read_entries(bytes: &[u8], clock: &Clock) -> Result<Vec<Entry>, Malformed> {
    let mut reader = Reader(bytes);
    let mut entries = Vec::new();
    while !reader.is_empty() {
        entries.push(read_entry(&mut reader, clock)?);
    }
    Ok(entries)
}

fn read_entry(reader: &mut Reader<'_>, clock: &Clock) -> Result<Entry, Malformed> {
    let flags = reader.u8()?;
    let number = reader.varint()?;
    let message_id = MessageId { stamp: reader.varint()?, origin: reader.varint_u32()? };
    let mut identifiers = SmallVec::new();
    for _ in 0..reader.varint()? {
        identifiers.push(reader.varint_u32()?);
    }
    let state = match flags & (SENT | RELEASED) {
        0 => EntryState::Waiting,
        SENT => EntryState::Sent(number),
        RELEASED => EntryState::Released(number),
        _ => return Err(Malformed),
    };
    let message =
        if matches!(state, EntryState::Released(_)) { None } else { Some(read_message(reader, clock, flags)?) };
    let (qos, retain) = ((flags & QOS).min(2), flags & RETAIN != 0);
    Ok(Entry { state, qos, retain, message_id, identifiers, message })
}

fn read_message(reader: &mut Reader<'_>, clock: &Clock, flags: u8) -> Result<Message, Malformed> {
    let expires_at: Millis = match reader.varint()? {
        0 => NEVER,
        wall_ms => clock.millis(wall_ms),
    };
    let layout = read_layout(reader)?;
    let span = reader.bytes()?;
    if !fits(layout, span.len()) || std::str::from_utf8(&span[..layout.topic_len as usize]).is_err() {
        return Err(Malformed);
    }
    let qos = (flags >> PUBLISHED_QOS_SHIFT & QOS).min(2);
    let head = Head { layout, qos, retain: flags & PUBLISHED_RETAIN != 0, expires_at, origin: 0 };
    Ok(Message::keep(&Publication { head, span }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(state: EntryState, topic: &str, payload: &[u8], qos: u8, stamp: u64, expires_at: Millis) -> Entry {
        let mut span = Vec::new();
        let layout = Publication::compose(&mut span, topic.as_bytes(), &[], payload);
        let head = Head { layout, qos, retain: true, expires_at, origin: 0 };
        let is_here = !matches!(state, EntryState::Released(_));
        let message = is_here.then(|| Message::keep(&Publication { head, span: &span }));
        let message_id = MessageId { origin: 5, stamp };
        Entry { state, qos, retain: false, message_id, identifiers: SmallVec::from_slice(&[3, 70_000]), message }
    }

    proptest! {
        #[test]
        fn messages_come_back_as_they_were(
            topic in "[a-zäß/]{1,40}", payload: Vec<u8>, qos in 1..=2_u8, stamp: u64, number in 1..u64::MAX,
            kind in 0..3_u8, expires_in in proptest::option::of(1..1_000_000_u64),
        ) {
            let clock = Clock::start();
            let state = match kind {
                0 => EntryState::Waiting,
                1 => EntryState::Sent(number),
                _ => EntryState::Released(number),
            };
            let expires_at = expires_in.map_or(NEVER, |after| clock.now() + after);
            let given = entry(state, &topic, &payload, qos, stamp, expires_at);
            let mut bytes = Vec::new();
            put_entry(&mut bytes, &clock, &given);
            put_entry(&mut bytes, &clock, &given);
            let back = read_entries(&bytes, &clock).unwrap();
            prop_assert_eq!(back.len(), 2);
            for entry in back {
                prop_assert_eq!((entry.state, entry.qos, entry.retain), (given.state, given.qos, given.retain));
                prop_assert_eq!((entry.message_id, &entry.identifiers), (given.message_id, &given.identifiers));
                let (came, went) = (entry.message.as_ref(), given.message.as_ref());
                prop_assert_eq!(came.map(|m| m.publication().span), went.map(|m| m.publication().span));
                prop_assert_eq!(came.map(|m| m.publication().head), went.map(|m| m.publication().head));
            }
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes: Vec<u8>, cut in 0..200_usize, flip: u8) {
            let clock = Clock::start();
            let _ = read_luggage(&bytes);
            let _ = read_entries(&bytes, &clock);
            let mut whole = Vec::new();
            put_entry(&mut whole, &clock, &entry(EntryState::Sent(9), "a/b", b"payload", 1, 7, NEVER));
            let place = cut % whole.len();
            let _ = read_entries(&whole[..place], &clock);
            whole[place] ^= flip;
            let _ = read_entries(&whole, &clock);
        }
    }
}
