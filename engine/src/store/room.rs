//! Room: segments for what is appended next, and who may still append when there is little of it.
//!
//! One segment is created ahead, the *spare*. Publishes are refused once no spare can be had and less than half of the
//! active segment is left, so that the bookkeeping that frees room still finds some. Bookkeeping is never refused: what
//! finds no room on the disk waits in memory for a segment whose file is still to be created.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::log::Log;
use super::record::MARK_MAX;
use super::segment::{HEADER, Segment};
use super::types::{Refusal, SegmentNo};
use super::{Store, decode_refusal, encode_refusal};

/// Smallest segment.
pub(super) const SEGMENT_MIN: u64 = 64 * 1024;
/// Largest, so that offsets fit into 32 bits even behind a record that got a segment of its own.
pub(super) const SEGMENT_MAX: u64 = 1 << 30;
/// A quota is this many segments at least.
const QUOTA_SEGMENTS: u64 = 8;
/// Segments of a quota that only bookkeeping and cleaning use.
const RESERVED_SEGMENTS: u64 = 2;

/// The segment that comes next.
pub(super) struct Spare {
    /// With its file, if it was created.
    pub segment: Option<Arc<Segment>>,
    /// It was created from the part of the quota that publishes may not use.
    pub is_reserve: bool,
    /// Its number.
    pub next: SegmentNo,
}

/// The size of segments that goes with a quota.
pub(super) fn segment_size(segment_bytes: u64, max_bytes: u64) -> u64 {
    let wanted = if max_bytes == 0 { segment_bytes } else { segment_bytes.min(max_bytes / QUOTA_SEGMENTS) };
    wanted.clamp(SEGMENT_MIN, SEGMENT_MAX)
}

impl Store {
    /// Whether messages that take up to `bound` bytes, the largest of them `largest`, may be appended.
    #[inline]
    pub(super) fn admit(&self, log: &Log, bound: usize, largest: usize) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let left = log.left();
        let fits = bound as u64 <= left;
        if fits && (self.has_spare.load(Ordering::Relaxed) || left - bound as u64 >= self.segment_bytes / 2) {
            return Ok(());
        }
        if let Some(tight) = decode_refusal(self.tight.load(Ordering::Relaxed)) {
            return Err(self.refuse(tight));
        }
        // The second half of a segment is for publishes only where there is a spare: a burst does not wait for the keeper.
        let wanted = if fits { 0 } else { largest };
        let mut spare = self.spare.lock();
        self.prepare(&mut spare, wanted as u64, true).map_err(|(refusal, _)| self.refuse(refusal))
    }

    /// Why messages that take about `bytes` cannot be stored now; `None`: they can, unless others take the room first.
    #[inline]
    pub fn refusal_of(&self, bytes: usize) -> Option<Refusal> {
        if self.refusal().is_some() {
            return self.refusal();
        }
        let is_roomy = self.has_spare.load(Ordering::Relaxed) && (bytes as u64) < self.segment_bytes / 4;
        if is_roomy { None } else { self.admit(&self.log.lock(), bytes, bytes).err() }
    }

    /// From now on publishes are refused.
    pub(super) fn refuse(&self, refusal: Refusal) -> Refusal {
        self.room.store(encode_refusal(Some(refusal)), Ordering::Relaxed);
        self.wake();
        refusal
    }

    /// Seals the active segment and goes on in the next one, which gets room for a record of `bound` bytes.
    #[cold]
    pub(super) fn roll(&self, log: &mut Log, bound: usize) {
        let mut spare = self.spare.lock();
        let waits_for_file = log.active_ref().segment.file().is_none();
        // Files are created in order. Where one cannot be had, those behind it have to wait too.
        if waits_for_file || self.prepare(&mut spare, bound as u64, false).is_err() {
            self.discard(&mut spare);
            spare.segment = Some(Arc::new(Segment::new(spare.next, self.size_for(bound as u64), self.salt)));
        }
        if let Some(segment) = spare.segment.take() {
            spare.next += 1;
            spare.is_reserve = false;
            self.has_spare.store(false, Ordering::Relaxed);
            log.roll_to(segment);
        }
        drop(spare);
        self.wake();
    }

    /// Goes on in another segment, which has its file. Without room for one everything stays as it is.
    pub(super) fn roll_if_there_is_room(&self, log: &mut Log) -> io::Result<()> {
        let has_file = log.active_ref().segment.file().is_some();
        let is_prepared = has_file && self.prepare(&mut self.spare.lock(), 0, false).is_ok();
        if !is_prepared {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "there is no room for another file of the store"));
        }
        self.roll(log, 0);
        Ok(())
    }

    fn size_for(&self, bound: u64) -> u64 {
        self.segment_bytes.max(HEADER + MARK_MAX as u64 + bound)
    }

    /// Sees to it that there is a spare with room for a record of `bound` bytes.
    pub(super) fn prepare(
        &self,
        spare: &mut Spare,
        bound: u64,
        is_for_publishes: bool,
    ) -> Result<(), (Refusal, Option<io::Error>)> {
        let size = self.size_for(bound);
        if spare.segment.as_ref().is_some_and(|segment| segment.size < size) {
            self.discard(spare);
        }
        if is_for_publishes && spare.is_reserve && spare.segment.is_some() {
            if !self.is_within_quota(0) {
                return Err((Refusal::Quota, None));
            }
            spare.is_reserve = false;
        }
        if spare.segment.is_some() {
            self.has_spare.store(!spare.is_reserve, Ordering::Relaxed);
            return Ok(());
        }
        let is_reserve = !self.is_within_quota(size);
        if is_for_publishes && is_reserve {
            return Err((Refusal::Quota, None));
        }
        let segment = Arc::new(Segment::new(spare.next, size, self.salt));
        self.create_file(&segment).map_err(|error| (Refusal::Full, Some(error)))?;
        spare.segment = Some(segment);
        spare.is_reserve = is_reserve;
        self.has_spare.store(!is_reserve, Ordering::Relaxed);
        Ok(())
    }

    /// Whether publishes may use `more` bytes.
    pub(super) fn is_within_quota(&self, more: u64) -> bool {
        let max = self.max_bytes.load(Ordering::Relaxed);
        let reserved = RESERVED_SEGMENTS * self.segment_bytes;
        max == 0 || self.file_bytes.load(Ordering::Relaxed) + more <= max.saturating_sub(reserved)
    }

    /// Creates the file of a segment.
    pub(super) fn create_file(&self, segment: &Segment) -> io::Result<()> {
        if segment.create_file(&*self.disk)? {
            self.file_bytes.fetch_add(segment.size, Ordering::Relaxed);
            self.is_directory_dirty.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn discard(&self, spare: &mut Spare) {
        let Some(segment) = spare.segment.take() else { return };
        self.has_spare.store(false, Ordering::Relaxed);
        if segment.file().is_some() {
            match self.disk.remove(&segment.name()) {
                Ok(()) => {
                    self.file_bytes.fetch_sub(segment.size, Ordering::Relaxed);
                }
                // It stays, and creating its successor of the same name will say so.
                Err(_) => spare.segment = Some(segment),
            }
        }
    }
}
