//! What records say of a queue: deliveries, entries, and changes, as bytes and back.

use smallvec::SmallVec;

use super::bytes::{Malformed, Reader, VARINT_32_MAX, VARINT_64_MAX, put_bytes, put_varint};
use super::record::{QOS, RETAIN};
use super::types::{Change, EntryState, QueueId, ReceivedId, Slot};
use crate::routing::SubscriptionOptions;

pub(super) const HAS_IDENTIFIERS: u8 = 1 << 3;

/// A delivery as records have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delivery {
    pub qos: u8,
    pub retain: bool,
    pub identifiers: SmallVec<[u32; 1]>,
}

/// Appends what a queue has to know of a delivery; `more` are flags of the caller above the lowest four bits.
#[inline]
pub(super) fn put_delivery(buffer: &mut Vec<u8>, qos: u8, retain: bool, identifiers: &[u32], more: u8) {
    let retain = if retain { RETAIN } else { 0 };
    if identifiers.is_empty() {
        buffer.push(qos & QOS | retain | more);
        return;
    }
    buffer.push(qos & QOS | retain | HAS_IDENTIFIERS | more);
    put_varint(buffer, identifiers.len() as u64);
    for &identifier in identifiers {
        put_varint(buffer, identifier.into());
    }
}

/// Reads what [`put_delivery`] wrote, and the flags of the caller.
#[inline]
pub(super) fn read_delivery(reader: &mut Reader<'_>) -> Result<(Delivery, u8), Malformed> {
    let flags = reader.u8()?;
    let mut identifiers = SmallVec::new();
    if flags & HAS_IDENTIFIERS != 0 {
        // Each takes a byte at least, so a number that lies cannot make this large.
        for _ in 0..reader.varint()? {
            identifiers.push(reader.varint_u32()?);
        }
    }
    Ok((Delivery { qos: flags & QOS, retain: flags & RETAIN != 0, identifiers }, flags & 0xf0))
}

const WAITING: u8 = 0;
const SENT: u8 = 1 << 4;
const RELEASED: u8 = 2 << 4;

/// The most bytes that an entry takes.
pub(super) fn entry_bound(identifiers: usize) -> usize {
    1 + VARINT_32_MAX * (1 + identifiers) + 2 * VARINT_64_MAX
}

/// Appends an entry of a [`Kind::Entries`](super::record::Kind::Entries) record, which begins with the queue.
pub(super) fn put_entry(
    buffer: &mut Vec<u8>,
    seq: u64,
    (qos, retain, identifiers): (u8, bool, &[u32]),
    state: EntryState,
) {
    let (flag, number) = match state {
        EntryState::Waiting => (WAITING, None),
        EntryState::Sent(number) => (SENT, Some(number)),
        EntryState::Released(number) => (RELEASED, Some(number)),
    };
    put_delivery(buffer, qos, retain, identifiers, flag);
    put_varint(buffer, seq);
    if let Some(number) = number {
        put_varint(buffer, number);
    }
}

/// An entry as its record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryRecord {
    pub seq: u64,
    pub delivery: Delivery,
    pub state: EntryState,
}

/// Decodes the queue and the entries of a [`Kind::Entries`](super::record::Kind::Entries) record.
pub(super) fn read_entries(payload: &[u8]) -> Result<(QueueId, Vec<EntryRecord>), Malformed> {
    let mut reader = Reader(payload);
    let queue = reader.varint_u32()?;
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let (delivery, flag) = read_delivery(&mut reader)?;
        let seq = reader.varint()?;
        let state = match flag {
            WAITING => EntryState::Waiting,
            SENT => EntryState::Sent(reader.varint()?),
            RELEASED => EntryState::Released(reader.varint()?),
            _ => return Err(Malformed),
        };
        entries.push(EntryRecord { seq, delivery, state });
    }
    Ok((queue, entries))
}

/// The most bytes that a change takes.
#[inline]
pub(super) fn change_bound(change: &Change) -> usize {
    match change {
        Change::Queued { identifiers, .. } => 2 + VARINT_64_MAX + VARINT_32_MAX * (1 + identifiers.len()),
        Change::Subscribed { filter, .. } => subscription_bound(filter),
        Change::Unsubscribed { filter } => 1 + VARINT_32_MAX + filter.len(),
        _ => 1 + 2 * VARINT_64_MAX,
    }
}

/// The most bytes that a subscription takes.
pub(super) fn subscription_bound(filter: &str) -> usize {
    2 + 2 * VARINT_32_MAX + filter.len()
}

const OP_QUEUED: u8 = 0;
const OP_SENT: u8 = 1;
const OP_RELEASED: u8 = 2;
const OP_DONE: u8 = 3;
const OP_COMPLETED: u8 = 4;
const OP_RECEIVED: u8 = 5;
const OP_FORGOTTEN: u8 = 6;
const OP_SUBSCRIBED: u8 = 7;
const OP_UNSUBSCRIBED: u8 = 8;
const OP_RECEIVED_STAMPED: u8 = 9;

/// The body that a change is about, `None` for a change that is not about one or does not name it in its record.
#[inline]
pub(super) fn subject(change: &Change) -> Option<Slot> {
    match change {
        Change::Queued { slot, .. } | Change::Sent { slot, .. } => Some(*slot),
        // A slot of 0 is that of an entry whose body is gone already.
        Change::Done { slot, number } if *slot != 0 || *number == 0 => Some(*slot),
        _ => None,
    }
}

/// Appends a change of a [`Kind::Changes`](super::record::Kind::Changes) record, which begins with the queue. `seq` is that of the change's slot.
#[inline]
pub(super) fn put_change(buffer: &mut Vec<u8>, change: &Change, seq: u64) {
    match change {
        Change::Queued { qos, retain, identifiers, .. } => {
            buffer.push(OP_QUEUED);
            put_varint(buffer, seq);
            put_delivery(buffer, *qos, *retain, identifiers, 0);
        }
        Change::Sent { number, .. } => {
            buffer.push(OP_SENT);
            put_varint(buffer, seq);
            put_varint(buffer, *number);
        }
        Change::Released { number, .. } => {
            buffer.push(OP_RELEASED);
            put_varint(buffer, *number);
        }
        Change::Done { number, .. } => {
            buffer.push(OP_DONE);
            put_varint(buffer, seq);
            put_varint(buffer, *number);
        }
        Change::Completed { number } => {
            buffer.push(OP_COMPLETED);
            put_varint(buffer, *number);
        }
        Change::Received(received) => put_received(buffer, *received),
        Change::Forgotten(id) => {
            buffer.push(OP_FORGOTTEN);
            buffer.extend_from_slice(&id.to_le_bytes());
        }
        Change::Subscribed { filter, options } => put_subscription(buffer, filter, *options),
        Change::Unsubscribed { filter } => {
            buffer.push(OP_UNSUBSCRIBED);
            put_bytes(buffer, filter.as_bytes());
        }
    }
}

/// Appends [`Change::Received`].
pub(super) fn put_received(buffer: &mut Vec<u8>, ReceivedId { packet_id, stamp }: ReceivedId) {
    buffer.push(if stamp == 0 { OP_RECEIVED } else { OP_RECEIVED_STAMPED });
    buffer.extend_from_slice(&packet_id.to_le_bytes());
    if stamp != 0 {
        buffer.extend_from_slice(&stamp.to_le_bytes());
    }
}

/// Appends [`Change::Subscribed`].
pub(super) fn put_subscription(buffer: &mut Vec<u8>, filter: &str, options: SubscriptionOptions) {
    buffer.push(OP_SUBSCRIBED);
    put_bytes(buffer, filter.as_bytes());
    buffer.push(options.to_byte());
    put_varint(buffer, options.identifier.into());
}

/// A change as its record has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChangeRecord<'a> {
    Queued { seq: u64, delivery: Delivery },
    Sent { seq: u64, number: u64 },
    Released { number: u64 },
    Done { seq: u64, number: u64 },
    Completed { number: u64 },
    Received(ReceivedId),
    Forgotten(u16),
    Subscribed { filter: &'a str, options: SubscriptionOptions },
    Unsubscribed { filter: &'a str },
}

/// The changes of a [`Kind::Changes`](super::record::Kind::Changes) record, to be iterated.
pub(super) struct Changes<'a>(Reader<'a>);

/// Decodes the queue of a [`Kind::Changes`](super::record::Kind::Changes) record.
pub(super) fn read_changes(payload: &[u8]) -> Result<(QueueId, Changes<'_>), Malformed> {
    let mut reader = Reader(payload);
    Ok((reader.varint_u32()?, Changes(reader)))
}

impl<'a> Changes<'a> {
    fn read(&mut self) -> Result<ChangeRecord<'a>, Malformed> {
        let reader = &mut self.0;
        Ok(match reader.u8()? {
            OP_QUEUED => ChangeRecord::Queued { seq: reader.varint()?, delivery: read_delivery(reader)?.0 },
            OP_SENT => ChangeRecord::Sent { seq: reader.varint()?, number: reader.varint()? },
            OP_RELEASED => ChangeRecord::Released { number: reader.varint()? },
            OP_DONE => ChangeRecord::Done { seq: reader.varint()?, number: reader.varint()? },
            OP_COMPLETED => ChangeRecord::Completed { number: reader.varint()? },
            OP_RECEIVED => ChangeRecord::Received(ReceivedId { packet_id: reader.u16()?, stamp: 0 }),
            OP_RECEIVED_STAMPED => {
                ChangeRecord::Received(ReceivedId { packet_id: reader.u16()?, stamp: reader.u64()? })
            }
            OP_FORGOTTEN => ChangeRecord::Forgotten(reader.u16()?),
            OP_SUBSCRIBED => {
                let filter = reader.text()?;
                let byte = reader.u8()?;
                ChangeRecord::Subscribed { filter, options: SubscriptionOptions::from_byte(byte, reader.varint_u32()?) }
            }
            OP_UNSUBSCRIBED => ChangeRecord::Unsubscribed { filter: reader.text()? },
            _ => return Err(Malformed),
        })
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Result<ChangeRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let change = self.read();
        if change.is_err() {
            self.0 = Reader(&[]);
        }
        Some(change)
    }
}
