//! Room: segments for what is appended next, and who may still append when there is little of it.
//!
//! One segment is created ahead, the *spare*. Beside it some files are kept that nobody has written to, the *reserve*: they
//! become segments when no other file can be had, because the disk is full or the quota is reached. Publishes are refused
//! as soon as the reserve is not whole. Bookkeeping, which frees room, may take a part of it; the rest is for cleaning, which
//! needs room for what it copies before it wins any. Bookkeeping is never refused: what finds no file, or comes while
//! cleaning uses its own part, waits in memory, and with it the clients whom it concerns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::{Disk, File};
use super::log::Log;
use super::record::MARK_MAX;
use super::segment::{HEADER, Segment, is_unused};
use super::types::{Refusal, SegmentNo};
use super::{Store, decode_refusal, encode_refusal};

/// Smallest segment.
pub(super) const SEGMENT_MIN: u64 = 64 * 1024;
/// Largest, so that offsets fit into 32 bits even behind a record that got a segment of its own.
pub(super) const SEGMENT_MAX: u64 = 1 << 30;
/// A quota is this many segments at least.
pub(super) const QUOTA_SEGMENTS: u64 = 16;
/// Files in a whole reserve.
pub(super) const RESERVE: usize = 3;
/// Files of it that only cleaning may take: one for what it copies, one for what is appended meanwhile.
const RESERVE_FOR_CLEANING: usize = 2;
/// What the files of the reserve are called, with a number. Listing a store passes over what begins with a dot.
const RESERVE_NAME: &str = ".reserve-";

/// What segments are made of next.
pub(super) struct Spare {
    /// The segment that comes next, with its file, if it was created.
    pub segment: Option<Arc<Segment>>,
    /// Its number.
    pub next: SegmentNo,
    /// Files of the size of a segment that nobody has written to.
    reserve: Vec<Reserved>,
}

/// A file of the reserve.
struct Reserved {
    name: String,
    file: Arc<dyn File>,
}

impl Spare {
    /// What comes behind the segment `active`, with the files of the reserve that are there already. Those that do not have
    /// `segment_bytes`, or have been written to, are removed.
    pub fn new(disk: &dyn Disk, active: SegmentNo, segment_bytes: u64) -> io::Result<Self> {
        let mut reserve = Vec::new();
        let mut names = disk.list()?;
        names.retain(|name| name.starts_with(RESERVE_NAME));
        names.sort();
        for name in names {
            let file = disk.open(&name)?;
            if reserve.len() < RESERVE && file.size()? == segment_bytes && is_unused(&*file)? {
                reserve.push(Reserved { name, file });
            } else {
                disk.remove(&name)?;
            }
        }
        Ok(Self { segment: None, next: active + 1, reserve })
    }

    /// Bytes of its files in a store with segments of `segment_bytes`.
    pub fn reserve_bytes(&self, segment_bytes: u64) -> u64 {
        self.reserve.len() as u64 * segment_bytes
    }

    fn is_whole(&self) -> bool {
        self.reserve.len() == RESERVE
    }

    /// A name that no file of the reserve has.
    fn free_name(&self) -> String {
        let is_taken = |name: &String| self.reserve.iter().any(|reserved| reserved.name == *name);
        (1..=RESERVE)
            .map(|number| format!("{RESERVE_NAME}{number}"))
            .find(|name| !is_taken(name))
            .unwrap_or_else(|| RESERVE_NAME.into())
    }
}

/// The size of segments that goes with a quota.
pub(super) fn segment_size(segment_bytes: u64, max_bytes: u64) -> u64 {
    let wanted = if max_bytes == 0 { segment_bytes } else { segment_bytes.min(max_bytes / QUOTA_SEGMENTS) };
    wanted.clamp(SEGMENT_MIN, SEGMENT_MAX)
}

impl Store {
    /// Whether messages that take up to `bound` bytes may be appended.
    #[inline]
    pub(super) fn admit(&self, log: &Log, bound: usize) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let fits = bound as u64 <= log.left();
        if fits && self.is_roomy.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Some(tight) = decode_refusal(self.tight.load(Ordering::Relaxed)) {
            return Err(self.refuse(tight));
        }
        // A burst does not wait for the keeper. All of it fits into the segment that comes next.
        let wanted = if fits { 0 } else { bound };
        let mut spare = self.spare.lock();
        self.prepare(&mut spare, wanted as u64).map_err(|(refusal, _)| self.refuse(refusal))
    }

    /// Why messages that take about `bytes` cannot be stored now; `None`: they can, unless others take the room first.
    #[inline]
    pub fn refusal_of(&self, bytes: usize) -> Option<Refusal> {
        if self.refusal().is_some() {
            return self.refusal();
        }
        let is_roomy = self.has_spare.load(Ordering::Relaxed) && (bytes as u64) < self.segment_bytes / 4;
        if is_roomy { None } else { self.admit(&self.log.lock(), bytes).err() }
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
        // Files are given in order: where one cannot be had now, those behind it wait too, and the writer gets them.
        let has_file = !waits_for_file
            && self.fill_reserve(&mut spare, RESERVE_FOR_CLEANING).is_ok()
            && self.have_segment(&mut spare, bound as u64).is_ok();
        if !has_file {
            self.discard(&mut spare);
            spare.segment = Some(Arc::new(Segment::new(spare.next, self.size_for(bound as u64), self.salt)));
        }
        if let Some(segment) = spare.segment.take() {
            spare.next += 1;
            self.has_spare.store(false, Ordering::Relaxed);
            log.roll_to(segment);
        }
        drop(spare);
        self.wake();
    }

    /// Goes on in another segment, which has its file. Without room for one everything stays as it is.
    pub(super) fn roll_if_there_is_room(&self, log: &mut Log) -> io::Result<()> {
        let has_file = log.active_ref().segment.file().is_some();
        let is_prepared = has_file && self.have_segment(&mut self.spare.lock(), 0).is_ok();
        if !is_prepared {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "there is no room for another file of the store: free some space first",
            ));
        }
        self.roll(log, 0);
        Ok(())
    }

    fn size_for(&self, bound: u64) -> u64 {
        self.segment_bytes.max(HEADER + MARK_MAX as u64 + bound)
    }

    /// Sees to it that the reserve is whole and that there is a spare with room for a record of `bound` bytes, so that
    /// publishes may be taken.
    pub(super) fn prepare(&self, spare: &mut Spare, bound: u64) -> Result<(), (Refusal, Option<io::Error>)> {
        let outcome = if self.is_within_quota(0) {
            self.fill_reserve(spare, RESERVE).and_then(|()| self.have_segment(spare, bound))
        } else {
            Err((Refusal::Quota, None))
        };
        self.is_roomy.store(spare.is_whole() && self.is_within_quota(0), Ordering::Relaxed);
        self.has_spare.store(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }

    /// Sees to it that there is a spare with room for a record of `bound` bytes.
    fn have_segment(&self, spare: &mut Spare, bound: u64) -> Result<(), (Refusal, Option<io::Error>)> {
        let size = self.size_for(bound);
        if spare.segment.as_ref().is_some_and(|segment| segment.size < size) {
            self.discard(spare);
        }
        if spare.segment.is_some() {
            return Ok(());
        }
        if !self.is_within_quota(size) {
            return Err((Refusal::Quota, None));
        }
        let segment = Arc::new(Segment::new(spare.next, size, self.salt));
        self.create_file(&segment).map_err(|error| (Refusal::Full, Some(error)))?;
        spare.segment = Some(segment);
        Ok(())
    }

    /// Sees to it that there are so many files in the reserve. They come before any other file, so that what cleaning frees
    /// is not used up by what made it necessary.
    fn fill_reserve(&self, spare: &mut Spare, wanted: usize) -> Result<(), (Refusal, Option<io::Error>)> {
        while spare.reserve.len() < wanted {
            if !self.is_within_quota(self.segment_bytes) {
                return Err((Refusal::Quota, None));
            }
            let name = spare.free_name();
            let file = self.disk.create(&name, self.segment_bytes).map_err(|error| (Refusal::Full, Some(error)))?;
            self.note_new_file(self.segment_bytes);
            spare.reserve.push(Reserved { name, file });
        }
        Ok(())
    }

    /// Whether the files may take `more` bytes.
    pub(super) fn is_within_quota(&self, more: u64) -> bool {
        let max = self.max_bytes.load(Ordering::Relaxed);
        max == 0 || self.file_bytes.load(Ordering::Relaxed) + more <= max
    }

    /// Gives a segment its file: a new one or, where there is no room for that, one of the reserve.
    ///
    /// A quota yields to what can neither wait nor have a file of the reserve. A full disk cannot.
    pub(super) fn give_file(&self, segment: &Segment, is_keeper: bool) -> io::Result<()> {
        let mut spare = self.spare.lock();
        let is_cleaning = is_keeper && self.is_cleaning.load(Ordering::Relaxed);
        let kept = if is_cleaning { 0 } else { RESERVE_FOR_CLEANING };
        if let Err((Refusal::Full, Some(error))) = self.fill_reserve(&mut spare, kept) {
            return Err(error);
        }
        let may_take = spare.reserve.len() > kept && segment.size == self.segment_bytes;
        if may_take && !self.is_within_quota(segment.size) {
            return self.take_reserve(&mut spare, segment);
        }
        match self.create_file(segment) {
            Err(_) if may_take => self.take_reserve(&mut spare, segment),
            outcome => outcome,
        }
    }

    /// Makes a file of the reserve that of a segment. Its new name is safe before anything is written to it, so what has
    /// the name of the reserve after a crash is unused.
    fn take_reserve(&self, spare: &mut Spare, segment: &Segment) -> io::Result<()> {
        let Some(reserved) = spare.reserve.pop() else { return Err(io::ErrorKind::StorageFull.into()) };
        self.is_roomy.store(false, Ordering::Relaxed);
        let name = segment.name();
        if let Err(error) = self.disk.rename(&reserved.name, &name) {
            spare.reserve.push(reserved);
            return Err(error);
        }
        let taken = self.disk.sync_directory().and_then(|()| segment.take_file(reserved.file.clone()));
        taken.inspect_err(|_| {
            // Best effort: the error above is what counts. Without its name it is no reserve, and in the way of a segment,
            // which removes it.
            if self.disk.rename(&name, &reserved.name).is_ok() {
                spare.reserve.push(reserved);
            } else {
                self.file_bytes.fetch_sub(self.segment_bytes, Ordering::Relaxed);
            }
        })
    }

    /// Creates the file of a segment.
    fn create_file(&self, segment: &Segment) -> io::Result<()> {
        if segment.create_file(&*self.disk)? {
            self.note_new_file(segment.size);
        }
        Ok(())
    }

    /// Bytes that cleaning finds in the active segment and the reserve.
    pub(super) fn room_left(&self) -> u64 {
        let log = self.log.lock();
        let left = if log.active_ref().segment.file().is_some() { log.left() } else { 0 };
        drop(log);
        left + self.spare.lock().reserve_bytes(self.segment_bytes)
    }

    fn note_new_file(&self, size: u64) {
        self.file_bytes.fetch_add(size, Ordering::Relaxed);
        self.is_directory_dirty.store(true, Ordering::Release);
    }

    fn discard(&self, spare: &mut Spare) {
        let Some(segment) = spare.segment.take() else { return };
        self.has_spare.store(false, Ordering::Relaxed);
        if segment.file().is_some() {
            // If it stays, it is in the way of another segment with its number, which removes it.
            let _ = self.disk.remove(&segment.name());
            self.file_bytes.fetch_sub(segment.size, Ordering::Relaxed);
        }
    }
}
