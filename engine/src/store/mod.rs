//! The embedded store: queues, sessions, retained messages and metadata, in one log.
//!
//! Everything that has to survive is a record at the end of one log; what is in memory is rebuilt by reading it from the
//! start. So a crash, at whatever moment, leaves a beginning of what happened, and nothing that contradicts itself. The log is
//! cut into segments, and room comes back by cleaning the oldest.
//!
//! ```text
//! append_*      under the log's lock, into a buffer   append.rs, metadata.rs, log.rs, *record.rs
//! commit        buffer to file, under the writer's    writer.rs
//! load          a body back, by its slot              bodies.rs, slots.rs
//! keeper        a thread: spare, sync, clean, retry   keeper.rs, room.rs, cleaning.rs
//! open, check   the log read again                    recovery.rs, replay.rs, scan.rs, repair.rs, report.rs
//! ```
//!
//! Invariants: the files hold a beginning of the log, whole records only. `written` and `synced` never run ahead of the
//! files. A segment is deleted only once everything that makes it superfluous is synced. No lock of the store is held
//! while an [`Owner`] or the event callback runs, so both may call the store; locks nest in the order writer, log, spare.

mod append;
mod bodies;
pub(crate) mod bytes;
mod cleaning;
mod disk;
mod keeper;
mod log;
mod metadata;
mod queue_record;
mod record;
mod recovery;
mod repair;
mod replay;
mod report;
mod room;
mod scan;
mod segment;
mod session_record;
#[cfg(test)]
pub mod simulated;
mod slots;
mod types;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

pub use disk::{Disk, File, RealDisk};
pub(crate) use record::{fits, put_layout, read_layout};
pub use repair::check;
pub use report::{Damage, Report};
pub use segment::VERSION;
pub(crate) use session_record::{put_session, read_session};
pub use types::*;

use keeper::Wishes;
use log::Log;
use room::Spare;
use writer::{Writer, WrittenAt};

/// Those whose queues are stored.
pub trait Owner: Send + Sync {
    /// Waits until the owners of all queues know of what was appended for them before this call.
    fn settle(&self);

    /// Appends anew what this queue has in segments up to `up_to`: session record, subscriptions, received packet
    /// identifiers, entries. Returns the lowest segment in which it has something now, `None` when it is over.
    ///
    /// More than that may be appended. Entries replace all that the queue has of the slots they name, see
    /// [`Store::append_entries`].
    fn rewrite(&self, store: &Store, queue: QueueId, up_to: SegmentNo) -> Option<SegmentNo>;
}

/// The store.
pub struct Store {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    salt: u32,
    wall_base_ms: u64,
    began: Instant,

    log: Mutex<Log>,
    spare: Mutex<Spare>,
    writer: Mutex<Writer>,
    /// Held while files are synced or deleted.
    syncing: Mutex<()>,
    written_at: Mutex<WrittenAt>,
    kept_lock: Mutex<()>,
    kept: Condvar,

    /// Everything before this position is in the files.
    written: AtomicU64,
    /// Everything before this position is synced.
    synced: AtomicU64,

    sync_mode: AtomicU8,
    sync_interval_ms: AtomicU64,
    max_bytes: AtomicU64,
    /// Bytes of all files.
    file_bytes: AtomicU64,
    backups: AtomicUsize,
    /// Why publishes are refused for lack of room, as [`encode_refusal`] has it.
    room: AtomicU8,
    /// Why there is no spare for publishes.
    tight: AtomicU8,
    /// There is a spare segment that publishes may use.
    has_spare: AtomicBool,
    /// Publishes may use what is left of the active segment: the reserve is whole.
    is_roomy: AtomicBool,
    /// The keeper is cleaning, and may use all of the reserve.
    is_cleaning: AtomicBool,
    /// The keeper is cleaning and has hardly enough room for it, so nobody else writes.
    is_scarce: AtomicBool,
    is_directory_dirty: AtomicBool,
    is_write_failing: AtomicBool,
    is_sync_failing: AtomicBool,
    is_sync_wanted: AtomicBool,
    /// A commit was turned away since the keeper last said that things are kept.
    has_waiting: AtomicBool,
    /// Time of the first write after the last sync, 0 for none.
    unsynced_since_ms: AtomicU64,
    /// A failure that was not told yet.
    failure: Mutex<Option<String>>,

    wishes: Mutex<Wishes>,
    woken: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    reads: AtomicU64,
    read_errors: AtomicU64,
    cache_hits: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
    sync_us_max: AtomicU64,
    sync_failures: AtomicU64,
    write_failures: AtomicU64,
    cleaned_segments: AtomicU64,
    cleaned_bytes: AtomicU64,
    refusals: AtomicU64,
}

impl Store {
    /// Puts a store together around a log that begins at `written_at`, and whose last segment is the active one.
    fn new(disk: Arc<dyn Disk>, options: &Options, log: Log, spare: Spare, file_bytes: u64) -> Self {
        let active = log.active_ref().segment.number;
        let segment_bytes = room::segment_size(options.segment_bytes, options.max_bytes);
        let file_bytes = file_bytes + spare.reserve_bytes(segment_bytes);
        let (lsn, offset) = (log.end(), log.offset());
        Self {
            disk,
            salt: log.active_ref().segment.salt,
            segment_bytes,
            wall_base_ms: options.wall_base_ms,
            began: Instant::now(),
            log: Mutex::new(log),
            is_scarce: AtomicBool::new(false),
            spare: Mutex::new(spare),
            writer: Mutex::default(),
            syncing: Mutex::default(),
            written_at: Mutex::new(WrittenAt { lsn, segment: active, offset }),
            kept_lock: Mutex::default(),
            kept: Condvar::new(),
            written: AtomicU64::new(lsn),
            synced: AtomicU64::new(lsn),
            sync_mode: AtomicU8::new(encode_sync_mode(options.sync)),
            sync_interval_ms: AtomicU64::new(options.sync_interval_ms),
            max_bytes: AtomicU64::new(options.max_bytes),
            file_bytes: AtomicU64::new(file_bytes),
            backups: AtomicUsize::new(0),
            room: AtomicU8::new(0),
            tight: AtomicU8::new(0),
            has_spare: AtomicBool::new(false),
            is_roomy: AtomicBool::new(false),
            is_cleaning: AtomicBool::new(false),
            is_directory_dirty: AtomicBool::new(true),
            is_write_failing: AtomicBool::new(false),
            is_sync_failing: AtomicBool::new(false),
            is_sync_wanted: AtomicBool::new(false),
            has_waiting: AtomicBool::new(false),
            unsynced_since_ms: AtomicU64::new(0),
            failure: Mutex::default(),
            wishes: Mutex::default(),
            woken: Condvar::new(),
            thread: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// The smallest limit for all files that a running store can keep to, since the size of its segments stays.
    pub fn max_bytes_min(&self) -> u64 {
        room::QUOTA_SEGMENTS * self.segment_bytes
    }

    /// Changes options of a running store. The size of segments stays.
    pub fn reconfigure(&self, sync: SyncMode, sync_interval_ms: u64, max_bytes: u64, cache_bytes: usize) {
        self.sync_mode.store(encode_sync_mode(sync), Ordering::Relaxed);
        self.sync_interval_ms.store(sync_interval_ms, Ordering::Relaxed);
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
        self.log.lock().slots.limit_cache(cache_bytes);
        // Those who wait look again at what they wait for.
        self.has_waiting.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Why publishes cannot be stored now; `None`: they can.
    #[inline]
    pub fn refusal(&self) -> Option<Refusal> {
        let room = self.room.load(Ordering::Relaxed);
        if room != 0 {
            return decode_refusal(room);
        }
        let is_failing = self.is_write_failing.load(Ordering::Relaxed) || self.is_sync_failing.load(Ordering::Relaxed);
        is_failing.then_some(Refusal::Failing)
    }

    /// Counters and sizes.
    pub fn figures(&self) -> Figures {
        let counters = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let since = get(&self.unsynced_since_ms);
        let has_spare = self.spare.lock().segment.is_some();
        let waits_in_writer: usize =
            self.writer.try_lock().map_or(0, |writer| writer.queue.iter().map(|chunk| chunk.bytes.len()).sum());
        let log = self.log.lock();
        let (cached, cached_bytes) = log.slots.cached();
        Figures {
            bytes: get(&self.file_bytes),
            live_bytes: log.live(),
            segments: log.segments.len() + usize::from(has_spare),
            messages: log.slots.len(),
            entries: log.slots.refs(),
            cached,
            cached_bytes,
            buffered_bytes: log.chunk_bytes + log.buffer.len() as u64 + waits_in_writer as u64,
            reads: get(&counters.reads),
            read_errors: get(&counters.read_errors),
            cache_hits: get(&counters.cache_hits),
            writes: get(&counters.writes),
            written_bytes: get(&counters.written_bytes),
            syncs: get(&counters.syncs),
            sync_us: get(&counters.sync_us),
            sync_us_max: get(&counters.sync_us_max),
            sync_failures: get(&counters.sync_failures),
            write_failures: get(&counters.write_failures),
            cleaned_segments: get(&counters.cleaned_segments),
            cleaned_bytes: get(&counters.cleaned_bytes),
            refusals: get(&counters.refusals),
            unsynced_age_ms: if since == 0 { 0 } else { self.clock_ms().saturating_sub(since) },
        }
    }

    fn sync_mode(&self) -> SyncMode {
        match self.sync_mode.load(Ordering::Relaxed) {
            0 => SyncMode::Always,
            1 => SyncMode::Interval,
            _ => SyncMode::Never,
        }
    }

    /// Milliseconds since the store was opened, from 1 on.
    fn clock_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX) + 1
    }
}

fn encode_sync_mode(mode: SyncMode) -> u8 {
    match mode {
        SyncMode::Always => 0,
        SyncMode::Interval => 1,
        SyncMode::Never => 2,
    }
}

fn encode_refusal(refusal: Option<Refusal>) -> u8 {
    match refusal {
        None => 0,
        Some(Refusal::Full) => 1,
        Some(Refusal::Quota) => 2,
        Some(Refusal::Failing) => 3,
    }
}

fn decode_refusal(code: u8) -> Option<Refusal> {
    match code {
        0 => None,
        1 => Some(Refusal::Full),
        2 => Some(Refusal::Quota),
        _ => Some(Refusal::Failing),
    }
}
