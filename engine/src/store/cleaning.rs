//! Cleaning: what is still needed in the oldest segment is appended again, then the segment is deleted.
//!
//! Only ever the oldest, so that a record which cancels something never has to be kept: when it is in the oldest segment,
//! all that it cancels is gone. The owners of queues write theirs again, bodies and metadata are copied here. Owners are
//! called without any lock of the store.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::log::Log;
use super::record::{self, Kind};
use super::segment::{HEADER, Segment};
use super::types::{QueueId, SegmentNo, Slot};
use super::{Owner, Store};

/// Bodies that are copied between two looks at what else there is to do.
const BATCH: usize = 256;
/// Bytes that are read at once.
const WINDOW: usize = 256 * 1024;
/// What an entry of a queue is taken to need in the log.
const ENTRY_ESTIMATE: u64 = 16;
/// What a session is taken to need in the log.
const QUEUE_ESTIMATE: u64 = 256;
/// Segments that may hold nothing of use before cleaning begins.
const SLACK_SEGMENTS: u64 = 3;

/// A body that is to be copied.
struct Wanted {
    slot: Slot,
    seq: u64,
    offset: u32,
    len: u32,
}

/// What cleaning goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    /// Bytes of all segments.
    pub total: u64,
    /// Bytes of all records in them.
    pub used: u64,
    /// Estimate of those that are needed.
    pub live: u64,
    /// The oldest segment.
    pub oldest: SegmentNo,
    /// Whether the oldest segment has no bodies and metadata, and few queues.
    pub is_oldest_spent: bool,
    /// How many of the oldest segments hold nothing at all.
    pub dead: usize,
}

/// Why the oldest segment cannot be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    NothingSealed,
    Backup,
    Unwritten,
    Held,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NothingSealed => "there is only one file",
            Self::Backup => "a backup is under way: try again when it is done",
            Self::Unwritten => "there is no room on the disk for what has to be copied, or it cannot be written",
            Self::Held => "a session could not be written again: the log says why",
        })
    }
}

impl Store {
    /// How full the log is with what is needed.
    pub(super) fn balance(&self) -> Balance {
        let log = self.log.lock();
        let queues: usize = log.holders.values().map(Vec::len).sum();
        let live = log.live() + log.slots.refs() * ENTRY_ESTIMATE + queues as u64 * QUEUE_ESTIMATE;
        let total = log.segments.iter().map(|entry| entry.segment.size).sum();
        let sealed = log.segments.iter().take(log.segments.len() - 1);
        let used = sealed.map(|entry| entry.end - HEADER).sum::<u64>() + log.offset() - HEADER;
        let oldest = &log.segments[0];
        let held: usize = log.holders.range(..=oldest.segment.number).map(|(_, queues)| queues.len()).sum();
        let is_oldest_spent =
            log.segments.len() > 1 && oldest.live == 0 && held as u64 * QUEUE_ESTIMATE <= oldest.segment.size / 16;
        Balance { total, used, live, oldest: oldest.segment.number, is_oldest_spent, dead: log.dead() }
    }

    /// Whether cleaning would bring back much room for little work.
    pub(super) fn wants_cleaning(&self, balance: &Balance) -> bool {
        let Balance { total, live, is_oldest_spent, .. } = *balance;
        is_oldest_spent || total > 2 * live + SLACK_SEGMENTS * self.segment_bytes
    }

    /// Cleans the oldest segment and deletes it, or says why that is not possible now; `between` is called often, for
    /// what cannot wait until the end. Only one thread at a time may do so, which is the keeper.
    pub(super) fn clean_oldest(
        &self,
        owner: Option<&dyn Owner>,
        between: &mut dyn FnMut(),
    ) -> io::Result<Option<Hindrance>> {
        self.with_the_whole_reserve(|| self.try_to_clean_oldest(owner, between))
    }

    /// Deletes the oldest segments as far as nothing in them is needed.
    pub(super) fn delete_dead(&self) -> io::Result<()> {
        // What made them superfluous is written first. If that cannot be, nothing is deleted.
        self.with_the_whole_reserve(|| self.sync(true))
    }

    fn with_the_whole_reserve<T>(&self, work: impl FnOnce() -> T) -> T {
        self.is_cleaning.store(true, Ordering::Relaxed);
        let outcome = work();
        self.is_cleaning.store(false, Ordering::Relaxed);
        outcome
    }

    fn try_to_clean_oldest(
        &self,
        owner: Option<&dyn Owner>,
        between: &mut dyn FnMut(),
    ) -> io::Result<Option<Hindrance>> {
        let oldest = {
            let log = self.log.lock();
            if log.segments.len() < 2 {
                return Ok(Some(Hindrance::NothingSealed));
            }
            log.segments[0].segment.clone()
        };
        if self.backups.load(Ordering::Acquire) > 0 {
            return Ok(Some(Hindrance::Backup));
        }
        // What is copied is read from the file.
        if !self.write(self.end(), true) {
            return Ok(Some(Hindrance::Unwritten));
        }
        if !self.rewrite_holders(owner, oldest.number, between) {
            return Ok(Some(Hindrance::Held));
        }
        self.copy_bodies(&oldest, between)?;
        self.copy_metadata(&oldest, between)?;
        // Nothing of it is needed now. This writes and syncs the copies, then deletes it.
        self.sync(true)?;
        let is_gone = self.log.lock().segments[0].segment.number > oldest.number;
        let is_written = self.written.load(Ordering::Acquire) >= self.end();
        Ok(match (is_gone, is_written) {
            (true, _) => None,
            (false, true) => Some(Hindrance::Held),
            (false, false) => Some(Hindrance::Unwritten),
        })
    }

    /// Lets the owners of all queues that may have something up to a segment write it again. False: not all could.
    fn rewrite_holders(&self, owner: Option<&dyn Owner>, up_to: SegmentNo, between: &mut dyn FnMut()) -> bool {
        if let Some(owner) = owner {
            owner.settle();
        }
        let mut queues: Vec<QueueId> = {
            let mut log = self.log.lock();
            log.is_rewriting = true;
            let later = log.holders.split_off(&(up_to + 1));
            std::mem::replace(&mut log.holders, later).into_values().flatten().collect()
        };
        let mut is_done = true;
        while is_done && let Some(queue) = queues.pop() {
            // Without an owner, or if it did not do what it was asked to, the segment has to stay.
            let holds = owner.map_or(Some(up_to), |owner| owner.rewrite(self, queue, up_to));
            if let Some(segment) = holds {
                self.log.lock().holders.entry(segment).or_default().push(queue);
                is_done = segment > up_to;
            }
            between();
        }
        let mut log = self.log.lock();
        log.is_rewriting = false;
        if !queues.is_empty() {
            log.holders.entry(up_to).or_default().append(&mut queues);
        }
        is_done
    }

    fn copy_bodies(&self, oldest: &Arc<Segment>, between: &mut dyn FnMut()) -> io::Result<()> {
        let mut window = Window::new(oldest);
        let mut next = 0;
        loop {
            let (wanted, seen) = self.log.lock().wanted_bodies(oldest.number, next);
            if seen == 0 {
                return Ok(());
            }
            next += seen;
            for body in &wanted {
                let raw = window.record(body.offset, body.len as usize)?;
                let message = record::read_message(raw.payload).map_err(|_| window_error(oldest, body.offset))?;
                let mut log = self.log.lock();
                self.copy_body(&mut log, oldest.number, body, &message);
            }
            between();
        }
    }

    /// Appends a body again, unless it was freed meanwhile.
    fn copy_body(&self, log: &mut Log, from: SegmentNo, wanted: &Wanted, message: &record::MessageRecord<'_>) {
        let is_there =
            |log: &Log| log.slots.get(wanted.slot).is_some_and(|body| body.seq == wanted.seq && body.segment == from);
        if !is_there(log) {
            return;
        }
        // A copy has no more fields than the original, and none of them is longer.
        self.make_room(log, wanted.len as usize);
        let is_retained = log.slots.get(wanted.slot).is_some_and(|body| body.is_retained);
        let start = record::begin(&mut log.buffer, Kind::Message);
        record::put_copy(&mut log.buffer, message, is_retained);
        let (offset, len) = log.finish(start);
        self.counters.cleaned_bytes.fetch_add(len.into(), Ordering::Relaxed);
        let segment = log.active_ref().segment.number;
        if let Some(body) = log.slots.get_mut(wanted.slot) {
            (body.segment, body.offset, body.len) = (segment, offset as u32, len);
        }
        if let Some(old) = log.segment(from) {
            old.live -= u64::from(wanted.len);
        }
        let active = log.active();
        active.live += u64::from(len);
        active.slots.push(wanted.slot);
    }

    fn copy_metadata(&self, oldest: &Arc<Segment>, between: &mut dyn FnMut()) -> io::Result<()> {
        let offsets = self.log.lock().segment(oldest.number).map_or(Vec::new(), |entry| entry.metadata.clone());
        let mut window = Window::new(oldest);
        for offset in offsets {
            let raw = window.record(offset, record::HEAD)?;
            let mut log = self.log.lock();
            let mut kept = Vec::new();
            for change in record::read_metadata(raw.payload) {
                let (key, value) = change.map_err(|_| window_error(oldest, offset))?;
                let Some((value, value_offset)) = value else { continue };
                let is_it = |place: &super::log::ValuePlace| {
                    (place.segment, place.offset, place.value_offset as usize) == (oldest.number, offset, value_offset)
                };
                if log.metadata.get(key).is_some_and(is_it) {
                    kept.push((key, Some(value)));
                }
            }
            if !kept.is_empty() {
                self.counters.cleaned_bytes.fetch_add(raw.len() as u64, Ordering::Relaxed);
                self.append_metadata(&mut log, &kept, raw.len());
            }
            drop(log);
            between();
        }
        Ok(())
    }
}

impl Log {
    /// The next bodies of a segment that are needed, from its slot number `from` on, and how many slots that were.
    fn wanted_bodies(&mut self, number: SegmentNo, from: usize) -> (Vec<Wanted>, usize) {
        let mut wanted = Vec::new();
        let mut seen = 0;
        let index = number.checked_sub(self.segments[0].segment.number);
        let Some(entry) = index.and_then(|index| self.segments.get(index as usize)) else { return (wanted, seen) };
        for &slot in entry.slots.iter().skip(from).take(16 * BATCH) {
            if wanted.len() == BATCH {
                break;
            }
            seen += 1;
            if let Some(body) = self.slots.get(slot).filter(|body| body.segment == number) {
                wanted.push(Wanted { slot, seq: body.seq, offset: body.offset, len: body.len });
            }
        }
        (wanted, seen)
    }
}

/// A part of a segment in memory.
struct Window<'a> {
    segment: &'a Segment,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(segment: &'a Segment) -> Self {
        Self { segment, start: 0, bytes: Vec::new() }
    }

    /// The record at an offset, of which `at_least` bytes are known to be needed.
    fn record(&mut self, offset: u32, at_least: usize) -> io::Result<record::Raw<'_>> {
        let mut needed = at_least;
        loop {
            self.cover(offset.into(), needed)?;
            let start = (u64::from(offset) - self.start) as usize;
            match record::read(&self.bytes[start..], self.segment.salt) {
                Err(record::Bad::Short(more)) if more > needed => needed = more,
                Err(_) => return Err(window_error(self.segment, offset)),
                Ok(_) => break,
            }
        }
        let start = (u64::from(offset) - self.start) as usize;
        record::read(&self.bytes[start..], self.segment.salt).map_err(|_| window_error(self.segment, offset))
    }

    fn cover(&mut self, offset: u64, size: usize) -> io::Result<()> {
        let end = self.start + self.bytes.len() as u64;
        if offset >= self.start && offset + size as u64 <= end {
            return Ok(());
        }
        let written = self.segment.written.load(Ordering::Acquire);
        let left = written.saturating_sub(offset);
        if (size as u64) > left {
            return Err(window_error(self.segment, offset as u32));
        }
        let length = left.min(size.max(WINDOW) as u64) as usize;
        self.bytes.resize(length, 0);
        self.start = offset;
        let file = self.segment.file().ok_or(io::ErrorKind::NotFound)?;
        file.read_at(&mut self.bytes, offset)
    }
}

fn window_error(segment: &Segment, offset: u32) -> io::Error {
    let text = format!("{} at byte {offset}: the record is not what was written", segment.name());
    io::Error::new(io::ErrorKind::InvalidData, text)
}
