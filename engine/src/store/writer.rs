//! Writing and syncing: how what was appended comes into the files, and the promise about it.
//!
//! Whoever commits writes all that waits, under the writer's lock and outside the log's. A chunk that cannot be written
//! stays at the head of the queue, so the files only ever hold a beginning of the log.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::log::Chunk;
use super::record;
use super::segment::Segment;
use super::types::{Lsn, Refusal, SegmentNo, SyncMode};
use super::{Store, encode_refusal};

/// What waits to be written.
#[derive(Default)]
pub(super) struct Writer {
    pub queue: VecDeque<Chunk>,
    spent: Vec<Vec<u8>>,
}

/// How far the files hold the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WrittenAt {
    pub lsn: Lsn,
    pub segment: SegmentNo,
    pub offset: u64,
}

/// Bytes that are written again at once after a failed sync.
const REWRITE: usize = 1 << 20;
/// Longest sleep of [`Store::wait_kept`] between two looks.
const LOOK_MS: u64 = 20;

impl Store {
    /// Whether the promise of the sync mode holds up to here: synced with [`SyncMode::Always`], written otherwise.
    #[inline]
    pub fn is_kept(&self, lsn: Lsn) -> bool {
        let kept = match self.sync_mode() {
            SyncMode::Always => &self.synced,
            SyncMode::Interval | SyncMode::Never => &self.written,
        };
        kept.load(Ordering::Acquire) >= lsn
    }

    /// Writes what was appended up to here, and says whether it is kept. With [`SyncMode::Always`] it asks for a sync
    /// and does not wait for it: [`super::Event::Kept`] tells when to look again.
    pub fn commit(&self, lsn: Lsn) -> bool {
        if self.is_kept(lsn) {
            return true;
        }
        let is_written = self.write(lsn, false);
        if is_written && self.sync_mode() == SyncMode::Always {
            self.ask_for_sync();
        }
        self.is_kept(lsn)
    }

    /// Commits, and waits until it is kept or the time is over. Says whether it is kept.
    pub fn wait_kept(&self, lsn: Lsn, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.commit(lsn) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut guard = self.kept_lock.lock();
            if !self.is_kept(lsn) {
                self.kept.wait_for(&mut guard, left.min(Duration::from_millis(LOOK_MS)));
            }
        }
        true
    }

    /// The end of the log, as far as it has to be kept.
    pub fn appended(&self) -> Lsn {
        self.log.lock().needed_end()
    }

    /// The end of the log.
    pub(super) fn end(&self) -> Lsn {
        self.log.lock().end()
    }

    /// Writes up to a position, and says whether that worked. While writing fails or room is scarce only the keeper writes,
    /// with `is_keeper`.
    pub(super) fn write(&self, lsn: Lsn, is_keeper: bool) -> bool {
        if self.written.load(Ordering::Acquire) >= lsn {
            return true;
        }
        let mut writer = self.writer.lock();
        if self.written.load(Ordering::Acquire) >= lsn {
            return true;
        }
        let is_for_keeper = self.is_write_failing.load(Ordering::Relaxed) || self.is_scarce.load(Ordering::Relaxed);
        if is_for_keeper && !is_keeper {
            self.has_waiting.store(true, Ordering::Relaxed);
            return false;
        }
        let Writer { queue, spent } = &mut *writer;
        self.log.lock().take(queue, spent);
        while let Some(chunk) = queue.front() {
            if let Err(error) = self.write_chunk(chunk, is_keeper) {
                self.note_write_failure(chunk, &error);
                break;
            }
            if let Some(chunk) = queue.pop_front() {
                spent.push(chunk.bytes);
            }
        }
        if queue.is_empty() {
            self.is_write_failing.store(false, Ordering::Relaxed);
        } else {
            self.has_waiting.store(true, Ordering::Relaxed);
        }
        self.written.load(Ordering::Acquire) >= lsn
    }

    fn write_chunk(&self, chunk: &Chunk, is_keeper: bool) -> io::Result<()> {
        let segment = &chunk.segment;
        if segment.file().is_none() {
            self.give_file(segment, is_keeper)?;
        }
        let file = segment.file().ok_or(io::ErrorKind::NotFound)?;
        file.write_at(&chunk.bytes, chunk.offset)?;
        self.counters.writes.fetch_add(1, Ordering::Relaxed);
        self.counters.written_bytes.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
        let _ = self.unsynced_since_ms.compare_exchange(0, self.clock_ms(), Ordering::Relaxed, Ordering::Relaxed);
        segment.written.store(chunk.end_offset(), Ordering::Release);
        *self.written_at.lock() = WrittenAt { lsn: chunk.end, segment: segment.number, offset: chunk.end_offset() };
        self.written.store(chunk.end, Ordering::Release);
        Ok(())
    }

    fn note_write_failure(&self, chunk: &Chunk, error: &io::Error) {
        self.counters.write_failures.fetch_add(1, Ordering::Relaxed);
        self.is_write_failing.store(true, Ordering::Relaxed);
        if chunk.segment.file().is_none() {
            // Not a failure of the disk: there is no room for a new file.
            self.room.store(encode_refusal(Some(Refusal::Full)), Ordering::Relaxed);
        }
        let text = format!(
            "{}: cannot write {} bytes at {}: {error}. They are kept in memory and written again until that works; \
             publishes are refused meanwhile",
            chunk.segment.name(),
            chunk.bytes.len(),
            chunk.offset
        );
        self.fail(text);
    }

    /// Syncs everything that is written. Segments that hold nothing any more are deleted instead if `drops_dead`.
    ///
    /// They are deleted only once all that makes them superfluous is synced, and the promise is told only once they
    /// are gone for good, so a loss of power at any moment leaves a beginning of the log.
    pub(super) fn sync(&self, drops_dead: bool) -> io::Result<()> {
        let _turn = self.syncing.lock();
        let (first, end) = {
            let mut log = self.log.lock();
            let first = log.segments[0].segment.number + log.dead() as SegmentNo;
            if drops_dead && first > log.segments[0].segment.number {
                // Synced before they go, so that segments which are gone without this are known to be missing.
                self.make_room(&mut log, record::MARK_MAX);
                log.note_oldest(first);
            }
            (first, log.end())
        };
        // What made a segment superfluous may still wait to be written. Only the keeper drops segments.
        let is_written = self.write(end, drops_dead);
        let first = if drops_dead && is_written && self.backups.load(Ordering::Acquire) == 0 { first } else { 0 };
        let at = *self.written_at.lock();
        let began = self.clock_ms();
        self.sync_files(first)?;
        self.delete_before(first)?;
        self.is_sync_failing.store(false, Ordering::Relaxed);
        self.synced.fetch_max(at.lsn, Ordering::AcqRel);
        let is_behind = self.written.load(Ordering::Acquire) > at.lsn;
        self.unsynced_since_ms.store(if is_behind { began } else { 0 }, Ordering::Relaxed);
        self.note_synced(at);
        Ok(())
    }

    fn note_synced(&self, at: WrittenAt) {
        let mut log = self.log.lock();
        if log.is_note_due(at.lsn) {
            self.make_room(&mut log, record::MARK_MAX);
            log.note(at.lsn, at.segment, at.offset);
        }
        drop(log);
        drop(self.kept_lock.lock());
        self.kept.notify_all();
    }

    /// Whether anything but records of syncs was appended since the last sync.
    pub(super) fn is_unsynced(&self) -> bool {
        self.log.lock().is_unsynced()
    }

    /// Syncs the files of all segments from `first` on that need it, and the directory.
    fn sync_files(&self, first: SegmentNo) -> io::Result<()> {
        if self.is_directory_dirty.swap(false, Ordering::AcqRel)
            && let Err(error) = self.sync_directory()
        {
            self.is_directory_dirty.store(true, Ordering::Release);
            return Err(error);
        }
        let dirty: Vec<Arc<Segment>> = {
            let log = self.log.lock();
            let wanted = |segment: &Arc<Segment>| segment.number >= first && segment.is_dirty();
            log.segments.iter().map(|entry| entry.segment.clone()).filter(wanted).collect()
        };
        for segment in dirty {
            self.sync_file(&segment).inspect_err(|error| self.note_sync_failure(&segment.name(), error))?;
        }
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.disk.sync_directory().inspect_err(|error| self.note_sync_failure("the directory", error))
    }

    fn sync_file(&self, segment: &Segment) -> io::Result<()> {
        let Some(file) = segment.file() else { return Ok(()) };
        let end = segment.written.load(Ordering::Acquire);
        if segment.is_doubtful.load(Ordering::Relaxed) {
            write_again(segment, end)?;
        }
        let began = Instant::now();
        let outcome = file.sync();
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        self.counters.sync_us.fetch_add(took, Ordering::Relaxed);
        self.counters.sync_us_max.fetch_max(took, Ordering::Relaxed);
        segment.is_doubtful.store(outcome.is_err(), Ordering::Relaxed);
        outcome?;
        segment.synced.store(end, Ordering::Release);
        Ok(())
    }

    fn note_sync_failure(&self, name: &str, error: &io::Error) {
        self.counters.sync_failures.fetch_add(1, Ordering::Relaxed);
        self.is_sync_failing.store(true, Ordering::Relaxed);
        let text = format!(
            "{name}: cannot sync: {error}. What was written since the last sync is written again until that works; \
             publishes are refused meanwhile"
        );
        self.fail(text);
    }

    /// Deletes the segments before `first`, in which nothing is left, and waits until they are gone for good.
    pub(super) fn delete_before(&self, first: SegmentNo) -> io::Result<()> {
        let mut is_any = false;
        loop {
            let oldest = {
                let log = self.log.lock();
                Some(log.segments[0].segment.clone()).filter(|oldest| oldest.number < first)
            };
            let Some(oldest) = oldest else { break };
            if oldest.file().is_some() {
                match self.disk.remove(&oldest.name()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        self.note_sync_failure(&oldest.name(), &error);
                        return Err(error);
                    }
                    _ => {}
                }
                self.file_bytes.fetch_sub(oldest.size, Ordering::Relaxed);
            }
            self.log.lock().segments.pop_front();
            self.counters.cleaned_segments.fetch_add(1, Ordering::Relaxed);
            is_any = true;
        }
        if is_any { self.sync_directory() } else { Ok(()) }
    }
}

/// Writes again what was written since the last good sync. After a failed one the kernel takes those pages for clean, so
/// another sync alone would say that all is well. What it gives back is checked, as it may be what was there before.
fn write_again(segment: &Segment, end: u64) -> io::Result<()> {
    let Some(file) = segment.file() else { return Ok(()) };
    let mut at = segment.synced.load(Ordering::Acquire);
    let mut bytes = Vec::new();
    while at < end {
        let size = (end - at).min(REWRITE.max(bytes.len()) as u64) as usize;
        bytes.resize(size, 0);
        file.read_at(&mut bytes, at)?;
        let mut sound = 0;
        let needed = loop {
            match record::read(&bytes[sound..], segment.salt) {
                Ok(raw) => sound += raw.len(),
                Err(record::Bad::Short(needed)) if at + ((sound + needed) as u64) <= end => break needed,
                Err(_) if sound == bytes.len() => break 0,
                Err(_) => return Err(io::Error::other("the system lost what was written before the failed sync")),
            }
        };
        if sound == 0 {
            // One record that is larger than the piece.
            bytes.resize(needed, 0);
            continue;
        }
        file.write_at(&bytes[..sound], at)?;
        at += sound as u64;
    }
    Ok(())
}
