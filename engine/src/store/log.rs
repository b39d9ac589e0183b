//! The state behind the log lock: the segments, the bytes that wait to be written, and who is where.
//!
//! The lock is a leaf but for the one of the spare segment, and is held for short: nothing here does I/O.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use super::record;
use super::segment::{HEADER, Segment};
use super::slots::Slots;
use super::types::{Lsn, QueueId, SegmentNo, Slot};

/// Bytes after which what waits becomes a chunk of its own.
pub(super) const CHUNK: usize = 256 * 1024;
/// Buffers that are kept for reuse.
const BUFFERS_MAX: usize = 8;
/// Capacity above which a buffer is not kept for reuse.
const BUFFER_MAX: usize = 4 * CHUNK;

/// Bytes to be written at one place: whole records.
pub(super) struct Chunk {
    pub segment: Arc<Segment>,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The position in the log behind it.
    pub end: Lsn,
}

impl Chunk {
    /// Where it ends in its segment.
    pub fn end_offset(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// What the log knows of a segment.
pub(super) struct LogSegment {
    pub segment: Arc<Segment>,
    /// Position in the log of the first byte behind the header; `None`: it was there before the store was opened.
    pub base: Option<Lsn>,
    /// Where its records end, once it is sealed.
    pub end: u64,
    /// Bytes of bodies and metadata in it that are needed.
    pub live: u64,
    /// The slots of the bodies that were appended to it, in order. Some are over, or somebody else's by now.
    pub slots: Vec<Slot>,
    /// Offsets of its metadata records.
    pub metadata: Vec<u32>,
}

impl LogSegment {
    pub fn new(segment: Arc<Segment>, base: Option<Lsn>) -> Self {
        Self { segment, base, end: HEADER, live: 0, slots: Vec::new(), metadata: Vec::new() }
    }

    /// The position in the log of an offset. 0 for what was there before.
    pub fn lsn(&self, offset: u64) -> Lsn {
        self.base.map_or(0, |base| base + (offset - HEADER))
    }
}

/// Where the value of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ValuePlace {
    pub segment: SegmentNo,
    /// Offset and length of the record.
    pub offset: u32,
    pub len: u32,
    /// Where the value is in the payload.
    pub value_offset: u32,
    pub value_len: u32,
    /// What it counts in the segment's live bytes.
    pub live: u32,
}

/// The state of the log.
pub(super) struct Log {
    /// Oldest first; the last one is the one that is appended to. Never empty.
    pub segments: VecDeque<LogSegment>,
    /// What was appended and is no chunk yet.
    pub buffer: Vec<u8>,
    /// Where it goes in the active segment.
    pub buffer_offset: u64,
    /// What waits to be written before it.
    pub chunks: VecDeque<Chunk>,
    pub chunk_bytes: u64,
    /// Empty buffers.
    buffers: Vec<Vec<u8>>,
    pub slots: Slots,
    pub next_seq: u64,
    pub next_queue: QueueId,
    /// Queues that have nothing in the log yet.
    pub unplaced: HashSet<QueueId, ahash::RandomState>,
    /// Queues by a segment before which they have nothing.
    pub holders: BTreeMap<SegmentNo, Vec<QueueId>>,
    /// Some queues are out of `holders` while their owner writes them again.
    pub is_rewriting: bool,
    pub metadata: BTreeMap<Box<[u8]>, ValuePlace>,
    /// Up to where a record of a sync says that all is synced.
    noted: Lsn,
    /// That record, if nothing was appended behind it.
    note_end: Lsn,
}

impl Log {
    /// A log whose last segment has nothing in it.
    pub fn new(segments: VecDeque<LogSegment>, cache_bytes: usize) -> Self {
        Self {
            segments,
            buffer: Vec::with_capacity(CHUNK / 4),
            buffer_offset: HEADER,
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            buffers: Vec::new(),
            slots: Slots::new(cache_bytes),
            next_seq: 1,
            next_queue: 1,
            unplaced: HashSet::default(),
            holders: BTreeMap::new(),
            is_rewriting: false,
            metadata: BTreeMap::new(),
            noted: 0,
            note_end: 0,
        }
    }

    /// The segment that is appended to.
    #[inline]
    pub fn active(&mut self) -> &mut LogSegment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    /// The same, to be looked at.
    #[inline]
    pub fn active_ref(&self) -> &LogSegment {
        &self.segments[self.segments.len() - 1]
    }

    /// Where the next record begins in the active segment.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.buffer_offset + self.buffer.len() as u64
    }

    /// The end of the log.
    #[inline]
    pub fn end(&self) -> Lsn {
        self.active_ref().lsn(self.offset())
    }

    /// The end of what has to be kept: a record of a sync is no reason for another.
    pub fn needed_end(&self) -> Lsn {
        let end = self.end();
        if end == self.note_end { self.noted } else { end }
    }

    /// Whether a record is due which says that everything before a position is synced.
    pub fn is_note_due(&self, lsn: Lsn) -> bool {
        lsn > self.noted
    }

    /// Appends that record. There is room for it.
    pub fn note(&mut self, lsn: Lsn, segment: SegmentNo, offset: u64) {
        let is_last = self.end() == lsn;
        let start = record::begin_synced(&mut self.buffer, segment, offset);
        self.finish(start);
        self.noted = lsn;
        self.note_end = if is_last { self.end() } else { 0 };
    }

    /// Whether anything that has to be kept came after the last sync.
    pub fn is_unsynced(&self) -> bool {
        self.needed_end() > self.noted
    }

    /// Bytes left in the active segment.
    #[inline]
    pub fn left(&self) -> u64 {
        self.active_ref().segment.size - self.offset()
    }

    /// A segment by its number.
    #[inline]
    pub fn segment(&mut self, number: SegmentNo) -> Option<&mut LogSegment> {
        let first = self.segments[0].segment.number;
        self.segments.get_mut(number.checked_sub(first)? as usize)
    }

    /// Ends the record that began at `start` in the buffer, and says its offset in the segment and its length.
    #[inline]
    pub fn finish(&mut self, start: usize) -> (u64, u32) {
        let salt = self.active_ref().segment.salt;
        record::finish(&mut self.buffer, start, salt);
        let placed = (self.buffer_offset + start as u64, (self.buffer.len() - start) as u32);
        if self.buffer.len() >= CHUNK {
            self.cut();
        }
        placed
    }

    /// Makes what is in the buffer a chunk.
    pub fn cut(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let end = self.end();
        let fresh = self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK + CHUNK / 4));
        let bytes = std::mem::replace(&mut self.buffer, fresh);
        let chunk = Chunk { segment: self.active_ref().segment.clone(), offset: self.buffer_offset, bytes, end };
        self.buffer_offset = chunk.end_offset();
        self.chunk_bytes += chunk.bytes.len() as u64;
        self.chunks.push_back(chunk);
    }

    /// Hands over all that waits to be written, and takes buffers back.
    pub fn take(&mut self, queue: &mut VecDeque<Chunk>, spent: &mut Vec<Vec<u8>>) {
        while let Some(mut buffer) = spent.pop() {
            if self.buffers.len() < BUFFERS_MAX && buffer.capacity() <= BUFFER_MAX {
                buffer.clear();
                self.buffers.push(buffer);
            }
        }
        self.cut();
        self.chunk_bytes = 0;
        queue.append(&mut self.chunks);
    }

    /// Seals the active segment and goes on in another.
    pub fn roll_to(&mut self, segment: Arc<Segment>) {
        self.cut();
        let (end, base) = (self.offset(), self.end());
        self.active().end = end;
        self.segments.push_back(LogSegment::new(segment, Some(base)));
        self.buffer_offset = HEADER;
        self.begin_segment(end);
    }

    /// Appending goes on where the last segment ends, which is at its start unless there was no room for a new one.
    pub fn begin_behind_what_was_read(&mut self) {
        self.buffer_offset = self.active_ref().end;
    }

    /// Appends the first record of a segment: where the one before ends.
    pub fn begin_segment(&mut self, previous_end: u64) {
        let (salt, oldest) = (self.active_ref().segment.salt, self.segments[0].segment.number);
        record::put_started(&mut self.buffer, previous_end, oldest, salt);
    }

    /// Appends that the segments before `oldest` are superfluous, for which there is room.
    pub fn note_oldest(&mut self, oldest: SegmentNo) {
        let salt = self.active_ref().segment.salt;
        record::put_oldest(&mut self.buffer, oldest, salt);
    }

    /// One less refers to a body.
    #[inline]
    pub fn release(&mut self, slot: Slot) {
        if let Some((segment, len)) = self.slots.release(slot)
            && let Some(segment) = self.segment(segment)
        {
            segment.live -= u64::from(len);
        }
    }

    /// Notes that a queue has something in the active segment, if it is its first.
    #[inline]
    pub fn place(&mut self, queue: QueueId) {
        if !self.unplaced.is_empty() && self.unplaced.remove(&queue) {
            let number = self.active_ref().segment.number;
            self.holders.entry(number).or_default().push(queue);
        }
    }

    /// Bytes of bodies and metadata that are needed.
    pub fn live(&self) -> u64 {
        self.segments.iter().map(|segment| segment.live).sum()
    }

    /// How many of the oldest segments hold nothing that is needed. The active one never counts.
    pub fn dead(&self) -> usize {
        if self.is_rewriting {
            return 0;
        }
        let sealed = self.segments.len() - 1;
        let held = self.holders.first_key_value().map_or(SegmentNo::MAX, |(&number, _)| number);
        self.segments
            .iter()
            .take(sealed)
            .take_while(|segment| segment.live == 0 && segment.segment.number < held)
            .count()
    }
}
