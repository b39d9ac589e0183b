//! Appending: what the hot path does. One lock, no I/O, no allocation a record.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Store;
use super::bytes::{VARINT_32_MAX, put_bytes, put_varint};
use super::log::Log;
use super::queue_record;
use super::record::{self, HEAD, Kind};
use super::session_record::put_session;
use super::slots::Body;
use super::types::{
    Appended, Change, EntrySnapshot, EntryState, Lsn, NewMessage, Place, QueueId, ReceivedId, Refusal, SegmentNo,
    SessionRecord, Slot,
};
use crate::message::{Head, NEVER};
use crate::routing::SubscriptionOptions;

/// What a [`crate::message::Message`] takes beside its span, see [`crate::message::Message::size`].
const MESSAGE_OVERHEAD: usize = size_of::<Head>() + 2 * size_of::<usize>();

/// What a packet identifier in use takes in a record.
const RECEIVED_BYTES: usize = 11;

/// What a message with a span of so many bytes takes in memory.
pub(super) fn message_size(span: usize) -> u32 {
    (span + MESSAGE_OVERHEAD) as u32
}

impl Store {
    /// Appends messages, all or none, and sets the place of each. A message whose targets are none and which is not
    /// retained gets slot 0.
    ///
    /// Each record is atomic: after a crash all queues of a message have it or none.
    pub fn append_messages(&self, batch: &mut [NewMessage<'_>]) -> Result<Lsn, Refusal> {
        self.append_messages_with(batch, None)
    }

    /// The same, with a row of metadata right behind them: nothing comes between, and they go to the file together.
    pub fn append_messages_with(
        &self,
        batch: &mut [NewMessage<'_>],
        row: Option<(&[u8], &[u8])>,
    ) -> Result<Lsn, Refusal> {
        let row_bound = row.map_or(0, |(key, value)| HEAD + record::metadata_bound(key, Some(value)));
        let bound = batch.iter().map(record::message_bound).sum::<usize>() + row_bound;
        let stored_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as u32;
        let mut log = self.log.lock();
        if let Err(refusal) = self.admit(&log, bound) {
            drop(log);
            self.counters.refusals.fetch_add(batch.len() as u64, Ordering::Relaxed);
            return Err(refusal);
        }
        for message in batch {
            self.append_message(&mut log, message, stored_at);
        }
        if let Some((key, value)) = row {
            self.append_metadata(&mut log, &[(key, Some(value))], row_bound);
        }
        Ok(log.end())
    }

    fn append_message(&self, log: &mut Log, message: &mut NewMessage<'_>, stored_at: u32) {
        self.make_room(log, record::message_bound(message));
        let seq = log.next_seq;
        log.next_seq += 1;
        let start = record::begin(&mut log.buffer, Kind::Message);
        let expires_at = self.to_unix(message.publication.head.expires_at);
        record::put_message(&mut log.buffer, message, seq, stored_at, expires_at);
        let (offset, len) = log.finish(start);
        if !log.unplaced.is_empty() {
            for target in message.targets {
                log.place(target.queue);
            }
        }
        let is_retained = message.retained_in.is_some();
        let refs = message.targets.len() as u32 + u32::from(is_retained);
        let segment = log.active_ref().segment.number;
        message.place = Place { slot: 0, segment };
        if refs == 0 {
            return;
        }
        let size = message_size(message.publication.span.len());
        let offset = offset as u32;
        let body = Body { seq, segment, offset, len, refs, size, stored_at, is_retained, ..Body::default() };
        let slot = log.slots.add(body);
        let active = log.active();
        active.live += u64::from(len);
        active.slots.push(slot);
        message.place.slot = slot;
    }

    /// Appends changes of a queue. `Done` and `Released` refer to a body once less, which is all there is to do for queue 0:
    /// a session that is not kept.
    pub fn append_changes(&self, queue: QueueId, changes: &[Change]) -> Appended {
        let bound = changes.iter().map(queue_record::change_bound).sum();
        let mut log = self.log.lock();
        if queue == 0 {
            release(&mut log, changes);
            return Appended { lsn: log.end(), segment: log.active_ref().segment.number };
        }
        let appended = self.append_of_queue(&mut log, Kind::Changes, queue, bound, |log| {
            for change in changes {
                let subject = queue_record::subject(change);
                let seq = subject.map_or(0, |slot| log.slots.seq(slot));
                // What is about a body that is not stored is nothing to store.
                if subject.is_some() && seq == 0 {
                    continue;
                }
                queue_record::put_change(&mut log.buffer, change, seq);
            }
        });
        release(&mut log, changes);
        appended
    }

    /// The bodies in these slots are referred to once more each, until a change says that this is over.
    pub fn pin(&self, slots: impl Iterator<Item = Slot>) {
        let mut log = self.log.lock();
        for slot in slots {
            log.slots.refer(slot);
        }
    }

    /// The segment that is appended to.
    pub fn current_segment(&self) -> SegmentNo {
        self.log.lock().active_ref().segment.number
    }

    /// When a message was stored, in seconds since the Unix epoch.
    pub fn stored_at(&self, slot: Slot) -> Option<u64> {
        self.log.lock().slots.get(slot).map(|body| body.stored_at.into())
    }

    /// Appends entries of a queue again, for cleaning. References stay as they are.
    ///
    /// They replace all that the queue has of the slots they name: whoever names one entry of a slot names all entries of
    /// this slot that the queue has, in the same call.
    pub fn append_entries(&self, queue: QueueId, entries: &[EntrySnapshot<'_>]) -> Appended {
        let bound = entries.iter().map(|entry| queue_record::entry_bound(entry.identifiers.len())).sum();
        self.append_of_queue(&mut self.log.lock(), Kind::Entries, queue, bound, |log| {
            for entry in entries {
                let seq = log.slots.seq(entry.slot);
                if seq == 0 && !matches!(entry.state, EntryState::Released(_)) {
                    continue;
                }
                let delivery = (entry.qos, entry.retain, entry.identifiers);
                queue_record::put_entry(&mut log.buffer, seq, delivery, entry.state);
            }
        })
    }

    /// Appends the record of a session, in place of the one before. Subscriptions and entries stay.
    pub fn append_session(&self, queue: QueueId, record: &SessionRecord) -> Appended {
        let mut payload = Vec::new();
        put_session(&mut payload, queue, record);
        let mut log = self.log.lock();
        self.make_room(&mut log, HEAD + payload.len());
        let start = record::begin(&mut log.buffer, Kind::Session);
        log.buffer.extend_from_slice(&payload);
        log.finish(start);
        log.place(queue);
        Appended { lsn: log.end(), segment: log.active_ref().segment.number }
    }

    /// Appends packet identifiers in use again, for cleaning. Where they go; the segment is the lowest.
    pub fn append_received(&self, queue: QueueId, ids: &[ReceivedId]) -> Appended {
        let at_once = self.part_bytes() / RECEIVED_BYTES;
        let parts = ids.chunks(at_once).map(|part| {
            self.append_of_queue(&mut self.log.lock(), Kind::Changes, queue, part.len() * RECEIVED_BYTES, |log| {
                for &id in part {
                    queue_record::put_received(&mut log.buffer, id);
                }
            })
        });
        parts.reduce(Appended::and).unwrap_or_else(|| self.nothing_appended())
    }

    /// Appends subscriptions again, for cleaning. Where they go; the segment is the lowest.
    pub fn append_subscriptions<'a>(
        &self,
        queue: QueueId,
        subscriptions: &mut dyn Iterator<Item = (&'a str, &'a SubscriptionOptions)>,
    ) -> Appended {
        let mut appended: Option<Appended> = None;
        let mut payload = Vec::new();
        let mut append = |payload: &mut Vec<u8>| {
            let part = self.append_of_queue(&mut self.log.lock(), Kind::Changes, queue, payload.len(), |log| {
                log.buffer.extend_from_slice(payload);
            });
            payload.clear();
            appended = Some(appended.map_or(part, |before| before.and(part)));
        };
        for (filter, options) in subscriptions {
            queue_record::put_subscription(&mut payload, filter, *options);
            if payload.len() >= self.part_bytes() {
                append(&mut payload);
            }
        }
        if !payload.is_empty() {
            append(&mut payload);
        }
        appended.unwrap_or_else(|| self.nothing_appended())
    }

    fn nothing_appended(&self) -> Appended {
        let log = self.log.lock();
        Appended { lsn: log.end(), segment: log.active_ref().segment.number }
    }

    /// What cleaning appends goes in records of about this size at most, so that they fit into what is left of segments and
    /// into the files of the reserve.
    pub fn part_bytes(&self) -> usize {
        (self.segment_bytes / 8) as usize
    }

    /// A queue that nobody has. It exists in the log once something is appended for it.
    pub fn new_queue(&self) -> QueueId {
        let mut log = self.log.lock();
        let queue = log.next_queue;
        log.next_queue = queue.wrapping_add(1).max(1);
        log.unplaced.insert(queue);
        queue
    }

    /// Ends a queue: session, subscriptions, packet identifiers and entries. `slots` are the bodies of its entries, once
    /// for each entry.
    pub fn end_queue(&self, queue: QueueId, slots: &mut dyn Iterator<Item = Slot>) -> Lsn {
        let mut log = self.log.lock();
        let was_placed = !log.unplaced.remove(&queue);
        if was_placed {
            self.append_of_queue(&mut log, Kind::Ended, queue, 0, |_| {});
        }
        for slot in slots {
            log.release(slot);
        }
        log.end()
    }

    /// A topic has no retained message any more. `slot` is the one it had.
    pub fn unretain(&self, mountpoint: &str, topic: &str, slot: Slot) -> Lsn {
        let mut log = self.log.lock();
        self.make_room(&mut log, HEAD + 2 * VARINT_32_MAX + mountpoint.len() + topic.len());
        let start = record::begin(&mut log.buffer, Kind::Unretained);
        put_bytes(&mut log.buffer, mountpoint.as_bytes());
        put_bytes(&mut log.buffer, topic.as_bytes());
        log.finish(start);
        drop_retained(&mut log, slot);
        log.end()
    }

    /// A retained message was replaced by another.
    ///
    /// One that has expired is for [`Self::unretain`], unless the caller does not mind that it is there again, expired,
    /// after a restart.
    pub fn drop_retained(&self, slot: Slot) {
        drop_retained(&mut self.log.lock(), slot);
    }

    /// Appends a record that begins with a queue; `encode` adds up to `bound` bytes.
    #[inline]
    fn append_of_queue(
        &self,
        log: &mut Log,
        kind: Kind,
        queue: QueueId,
        bound: usize,
        encode: impl FnOnce(&mut Log),
    ) -> Appended {
        self.make_room(log, HEAD + VARINT_32_MAX + bound);
        let start = record::begin(&mut log.buffer, kind);
        put_varint(&mut log.buffer, queue.into());
        encode(log);
        log.finish(start);
        log.place(queue);
        Appended { lsn: log.end(), segment: log.active_ref().segment.number }
    }

    /// Sees to it that a record of up to `bound` bytes fits into the active segment.
    #[inline]
    pub(super) fn make_room(&self, log: &mut Log, bound: usize) {
        if bound as u64 > log.left() {
            self.roll(log, bound);
        }
        log.buffer.reserve(bound);
    }

    /// Unix time in ms of a time on the engine's clock.
    #[inline]
    pub(super) fn to_unix(&self, at: u64) -> u64 {
        if at == NEVER { NEVER } else { self.wall_base_ms.saturating_add(at).min(NEVER - 1) }
    }

    /// The other way. What is past comes out as 1 at least.
    #[inline]
    pub(super) fn to_millis(&self, unix: u64) -> u64 {
        to_millis(unix, self.wall_base_ms)
    }
}

/// A Unix time in ms on the engine's clock.
pub(super) fn to_millis(unix: u64, wall_base_ms: u64) -> u64 {
    if unix == NEVER { NEVER } else { unix.saturating_sub(wall_base_ms).max(1) }
}

fn release(log: &mut Log, changes: &[Change]) {
    for change in changes {
        if let Change::Done { slot, .. } | Change::Released { slot, .. } = change {
            log.release(*slot);
        }
    }
}

fn drop_retained(log: &mut Log, slot: Slot) {
    if let Some(body) = log.slots.get_mut(slot) {
        body.is_retained = false;
    }
    log.release(slot);
}
