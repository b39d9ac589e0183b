//! Bodies and how they are read back: from the cache, from memory while they wait to be written, or from a file.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Store;
use super::log::Chunk;
use super::record::{self, HEAD, Kind};
use super::report::Damage;
use super::segment::Segment;
use super::types::{LoadError, Lsn, Slot};
use crate::message::Message;

/// Where a record is, with all that it takes to read it outside the lock.
#[derive(Clone)]
pub(super) struct RecordPlace {
    /// Keeps the file readable even if it is deleted meanwhile.
    pub segment: Arc<Segment>,
    pub offset: u32,
    pub len: u32,
    /// The position in the log behind it.
    pub end: Lsn,
}

impl Store {
    /// Keeps a body in memory, as far as the cache has room.
    pub fn offer(&self, slot: Slot, message: &Message) {
        self.log.lock().slots.offer(slot, message);
    }

    /// The body in a slot that the caller refers to.
    pub fn load(&self, slot: Slot) -> Result<Message, LoadError> {
        let (seq, place) = {
            let mut log = self.log.lock();
            if let Some(message) = log.slots.cached_message(slot) {
                drop(log);
                self.counters.cache_hits.fetch_add(1, Ordering::Relaxed);
                return Ok(message);
            }
            let body = log.slots.get(slot).ok_or(LoadError::Empty(slot))?;
            let (seq, number, offset, len) = (body.seq, body.segment, body.offset, body.len);
            let entry = log.segment(number).ok_or(LoadError::Empty(slot))?;
            let end = entry.lsn(u64::from(offset) + u64::from(len));
            (seq, RecordPlace { segment: entry.segment.clone(), offset, len, end })
        };
        self.counters.reads.fetch_add(1, Ordering::Relaxed);
        self.decode_message(seq, &place).inspect_err(|_| {
            self.counters.read_errors.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn decode_message(&self, seq: u64, place: &RecordPlace) -> Result<Message, LoadError> {
        let bytes = self.fetch(place)?;
        let raw = record::read(&bytes, place.segment.salt).map_err(|_| damaged(place))?;
        let message = record::read_message(raw.payload).map_err(|_| damaged(place))?;
        if raw.kind != Kind::Message || message.seq != seq {
            return Err(damaged(place));
        }
        let mut publication = message.publication;
        publication.head.expires_at = self.to_millis(publication.head.expires_at);
        Ok(Message::keep(&publication))
    }

    /// The bytes of a record, which are sound.
    pub(super) fn fetch(&self, place: &RecordPlace) -> Result<Vec<u8>, LoadError> {
        if !self.write(place.end, false)
            && let Some(bytes) = self.unwritten(place)
        {
            return Ok(bytes);
        }
        let mut bytes = vec![0; place.len as usize];
        let file = place.segment.file().ok_or_else(|| damaged(place))?;
        file.read_at(&mut bytes, place.offset.into())
            .map_err(|error| LoadError::Io { file: place.segment.name(), error })?;
        match record::read(&bytes, place.segment.salt) {
            Ok(raw) if raw.len() == bytes.len() => Ok(bytes),
            _ => Err(damaged(place)),
        }
    }

    /// The bytes of a record that waits to be written; `None`: it does not any more.
    fn unwritten(&self, place: &RecordPlace) -> Option<Vec<u8>> {
        let (from, size) = (u64::from(place.offset), place.len as usize);
        let part = |offset: u64, bytes: &[u8]| {
            let start = usize::try_from(from.checked_sub(offset)?).ok()?;
            bytes.get(start..start.checked_add(size)?).map(<[u8]>::to_vec)
        };
        let in_chunk = |chunk: &Chunk| {
            let is_there = chunk.segment.number == place.segment.number;
            if is_there { part(chunk.offset, &chunk.bytes) } else { None }
        };
        // The writer takes from the log while it holds its own lock, so this order misses nothing.
        let writer = self.writer.lock();
        if let Some(bytes) = writer.queue.iter().find_map(in_chunk) {
            return Some(bytes);
        }
        let log = self.log.lock();
        log.chunks.iter().find_map(in_chunk).or_else(|| {
            let is_there = log.active_ref().segment.number == place.segment.number;
            if is_there { part(log.buffer_offset, &log.buffer) } else { None }
        })
    }
}

/// The error for a record that is not what was written.
pub(super) fn damaged(place: &RecordPlace) -> LoadError {
    LoadError::Damaged(Damage {
        file: place.segment.name(),
        offset: place.offset.into(),
        what: format!("the record of {} bytes is not what was written", (place.len as usize).max(HEAD)),
    })
}
