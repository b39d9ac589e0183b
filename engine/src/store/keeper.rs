//! The keeper: the thread that keeps a spare segment, syncs, cleans, and gets the store through failures.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::cleaning::{Balance, Hindrance};
use super::types::{Event, Lsn, Refusal, SegmentNo, SyncMode};
use super::{Owner, Store, encode_refusal};

/// Time between two tries of something that failed.
const RETRY: Duration = Duration::from_millis(200);
/// Time between two looks at whether there is something to clean, and where room is tight.
const CLEANING_LOOK: Duration = Duration::from_millis(500);
const CLEANING_LOOK_TIGHT: Duration = Duration::from_millis(20);
/// Time after a cleaning that could not be done.
const CLEANING_PAUSE: Duration = Duration::from_secs(10);
/// With a gain of less than a quarter of what is cleaned, cleaning waits until there is half as much again.
const POOR_GAIN: u64 = 4;

/// What others want of the keeper.
#[derive(Default)]
pub(super) struct Wishes {
    is_woken: bool,
    is_stopped: bool,
    /// Rounds of cleaning asked for and done.
    rounds_wanted: u64,
    rounds_done: u64,
    round_failure: Option<io::Error>,
}

/// What the keeper knows between two turns.
struct Keeper {
    store: Arc<Store>,
    owner: Weak<dyn Owner>,
    on_event: Box<dyn Fn(Event) + Send + Sync>,
    told: Option<Refusal>,
    is_failure_told: bool,
    /// Up to where it was told that all is synced.
    kept_told: Lsn,
    sync_at: Instant,
    retry_at: Instant,
    clean_at: Instant,
    /// Below this size cleaning was found not to be worth it.
    poor_below: u64,
    tightness: Option<Tightness>,
}

/// Cleaning while room is tight: in passes over all that there is.
#[derive(Clone, Copy)]
struct Tightness {
    /// The last segment of the pass that is under way.
    pass: Option<SegmentNo>,
    /// Bytes in use when it became tight, or after the last pass.
    used: u64,
    /// Of these what seemed to be superfluous: what the last pass did not win back.
    residue: u64,
}

impl Store {
    /// Starts the keeper. It tells events from its own thread, without holding any lock.
    pub fn start(self: &Arc<Self>, owner: Weak<dyn Owner>, on_event: Box<dyn Fn(Event) + Send + Sync>) {
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return;
        }
        let now = Instant::now();
        let mut keeper = Keeper {
            store: self.clone(),
            owner,
            on_event,
            told: None,
            is_failure_told: false,
            kept_told: 0,
            sync_at: now,
            retry_at: now,
            clean_at: now + CLEANING_LOOK,
            poor_below: 0,
            tightness: None,
        };
        self.wishes.lock().is_stopped = false;
        let spawned = thread::Builder::new().name("store".into()).spawn(move || keeper.run());
        match spawned {
            Ok(handle) => *thread = Some(handle),
            Err(error) => self.fail(format!("cannot start the store's thread: {error}")),
        }
    }

    /// Writes and syncs everything and ends the keeper.
    pub fn stop(&self) {
        self.end_keeper();
        let end = self.end();
        if self.write(end, true) && self.is_unsynced() {
            // The failure is counted; there is nobody left to tell.
            let _ = self.sync(false);
            self.write(self.end(), true);
        }
    }

    /// Ends the keeper and leaves all else as it is.
    pub(super) fn end_keeper(&self) {
        let handle = self.thread.lock().take();
        self.wishes.lock().is_stopped = true;
        self.wake();
        if let Some(handle) = handle
            && handle.thread().id() != thread::current().id()
        {
            // It does not panic; if it did, the panic was printed.
            let _ = handle.join();
        }
    }

    /// Makes the keeper look at what there is to do.
    pub(super) fn wake(&self) {
        self.wishes.lock().is_woken = true;
        self.woken.notify_all();
    }

    /// Asks the keeper for a sync.
    pub(super) fn ask_for_sync(&self) {
        if !self.is_sync_wanted.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Notes a failure for the keeper to tell.
    pub(super) fn fail(&self, text: String) {
        self.failure.lock().get_or_insert(text);
        self.wake();
    }

    fn is_failing(&self) -> bool {
        self.is_write_failing.load(Ordering::Relaxed) || self.is_sync_failing.load(Ordering::Relaxed)
    }

    /// Cleans every segment that there is now, and returns the bytes of all files before and after.
    pub fn compact(&self) -> io::Result<(u64, u64)> {
        let before = self.file_bytes.load(Ordering::Relaxed);
        if self.thread.lock().is_none() {
            return Err(io::Error::other("the store is stopped"));
        }
        let mut wishes = self.wishes.lock();
        wishes.rounds_wanted += 1;
        let round = wishes.rounds_wanted;
        wishes.is_woken = true;
        self.woken.notify_all();
        while wishes.rounds_done < round && !wishes.is_stopped {
            self.woken.wait(&mut wishes);
        }
        let is_done = wishes.rounds_done >= round;
        match wishes.round_failure.take() {
            Some(error) => Err(error),
            None if !is_done => Err(io::Error::other("the store was stopped")),
            None => Ok((before, self.file_bytes.load(Ordering::Relaxed))),
        }
    }

    /// Makes a backup possible: everything so far is synced in files that do not change and stay until
    /// [`Self::end_backup`]. Returns their names.
    pub fn begin_backup(&self) -> io::Result<Vec<String>> {
        self.backups.fetch_add(1, Ordering::AcqRel);
        let names = self.seal();
        if names.is_err() {
            self.end_backup();
        }
        names
    }

    fn seal(&self) -> io::Result<Vec<String>> {
        // A deletion that is under way ends first. Cleaning may go on, as it deletes nothing now.
        drop(self.syncing.lock());
        let (names, end) = {
            let mut log = self.log.lock();
            self.roll_if_there_is_room(&mut log)?;
            let names = log.segments.iter().map(|entry| entry.segment.name());
            let sealed = log.segments.len() - 1;
            (names.take(sealed).collect(), log.end())
        };
        if !self.write(end, false) {
            return Err(io::Error::other("what was appended cannot be written now"));
        }
        self.sync(false)?;
        Ok(names)
    }

    /// Ends a backup.
    pub fn end_backup(&self) {
        let _ = self.backups.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
        self.wake();
    }

    /// Sees to it that there are a spare segment and the reserve, and that publishes are refused or taken as the room
    /// demands.
    pub(super) fn keep_spare(&self) -> Option<io::Error> {
        if self.waits_for_file() {
            // Its file comes first, and the writer gives it.
            self.tight.store(encode_refusal(Some(Refusal::Full)), Ordering::Relaxed);
            return None;
        }
        match self.prepare(&mut self.spare.lock(), 0) {
            Ok(()) => {
                self.tight.store(0, Ordering::Relaxed);
                self.room.store(0, Ordering::Relaxed);
                None
            }
            Err((refusal, error)) => {
                self.tight.store(encode_refusal(Some(refusal)), Ordering::Relaxed);
                if !self.is_roomy.load(Ordering::Relaxed) {
                    self.room.store(encode_refusal(Some(refusal)), Ordering::Relaxed);
                }
                error
            }
        }
    }

    fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed) != 0
    }

    /// Whether the active segment has no file yet, for want of room.
    fn waits_for_file(&self) -> bool {
        self.log.lock().active_ref().segment.file().is_none()
    }
}

impl Keeper {
    fn run(&mut self) {
        loop {
            let (is_stopped, round) = self.wait();
            if is_stopped {
                self.store.woken.notify_all();
                return;
            }
            self.serve();
            if let Some(round) = round {
                self.clean_round(round);
            }
            self.clean_if_due();
        }
    }

    /// Sleeps until there is something to do. Says whether that is to end, or which round of cleaning is asked for.
    fn wait(&self) -> (bool, Option<u64>) {
        let now = Instant::now();
        let mut until = self.sync_at.min(self.clean_at);
        if self.store.is_failing() || self.store.is_tight() {
            until = until.min(self.retry_at);
        }
        let mut wishes = self.store.wishes.lock();
        if !wishes.is_woken && until > now {
            self.store.woken.wait_for(&mut wishes, until - now);
        }
        wishes.is_woken = false;
        let round = Some(wishes.rounds_wanted).filter(|&wanted| wanted > wishes.rounds_done);
        (wishes.is_stopped, round)
    }

    /// Does all that cannot wait: writes and syncs that are due, the spare, and news.
    fn serve(&mut self) {
        let now = Instant::now();
        let store = self.store.clone();
        let may_retry = now >= self.retry_at;
        let was_failing = store.is_failing();
        if may_retry {
            self.retry_at = now + RETRY;
        }
        if was_failing && may_retry {
            store.write(store.end(), true);
        }
        self.sync_if_due(now, was_failing, may_retry);
        if !was_failing || may_retry {
            self.keep_spare(may_retry);
        }
        self.tell();
        // Who is turned away at this very moment is told the next time.
        if !store.is_failing() && store.has_waiting.swap(false, Ordering::Relaxed) {
            (self.on_event)(Event::Kept);
        }
    }

    fn sync_if_due(&mut self, now: Instant, was_failing: bool, may_retry: bool) {
        let store = &self.store;
        let is_timely = now >= self.sync_at;
        if is_timely {
            let interval = store.sync_interval_ms.load(Ordering::Relaxed).max(1);
            self.sync_at = now + Duration::from_millis(interval);
            store.write(store.end(), false);
        }
        let mode = store.sync_mode();
        // Also if the mode has changed since: whoever asked waits.
        let is_asked = store.is_sync_wanted.swap(false, Ordering::AcqRel);
        let is_due = if was_failing {
            may_retry && (mode != SyncMode::Never || store.is_sync_failing.load(Ordering::Relaxed))
        } else {
            is_asked || (is_timely && mode != SyncMode::Never)
        };
        if is_due && (store.is_unsynced() || store.is_sync_failing.load(Ordering::Relaxed)) {
            // A failure is noted where it happens, and told later.
            let _ = store.sync(true);
        }
        let synced = store.synced.load(Ordering::Acquire);
        if (mode == SyncMode::Always || is_asked) && synced > self.kept_told {
            (self.on_event)(Event::Kept);
        }
        self.kept_told = synced;
    }

    fn keep_spare(&mut self, may_retry: bool) {
        if self.store.is_tight() && !may_retry {
            return;
        }
        let error = self.store.keep_spare();
        let refusal = self.store.refusal();
        if refusal == self.told {
            return;
        }
        self.told = refusal;
        let event = match refusal {
            None => Event::Accepting,
            Some(refusal) => Event::Refusing(refusal, self.explain(refusal, error)),
        };
        (self.on_event)(event);
    }

    fn explain(&self, refusal: Refusal, error: Option<io::Error>) -> String {
        let bytes = self.store.file_bytes.load(Ordering::Relaxed);
        match refusal {
            Refusal::Full => {
                let error = error.map_or_else(String::new, |error| format!(" ({error})"));
                format!("the disk has no room for another segment of the store{error}")
            }
            Refusal::Quota => {
                let max = self.store.max_bytes.load(Ordering::Relaxed);
                format!("the store has {bytes} bytes and may not have more than {max}")
            }
            Refusal::Failing => "the store cannot write or sync its files".into(),
        }
    }

    /// Tells a failure once, until it is over.
    fn tell(&mut self) {
        let failure = self.store.failure.lock().take();
        if let Some(text) = failure
            && !self.is_failure_told
        {
            self.is_failure_told = true;
            (self.on_event)(Event::Failure(text));
        }
        if !self.store.is_failing() {
            self.is_failure_told = false;
        }
    }

    fn clean_if_due(&mut self) {
        let now = Instant::now();
        if now < self.clean_at {
            return;
        }
        let store = &self.store;
        self.clean_at = now + if store.is_tight() { CLEANING_LOOK_TIGHT } else { CLEANING_LOOK };
        // What fails for want of a file is what cleaning is to end.
        if store.is_failing() && !store.waits_for_file() {
            return;
        }
        let balance = store.balance();
        let is_worth_it = balance.is_oldest_spent || balance.total >= self.poor_below;
        let is_due = is_worth_it && store.wants_cleaning(&balance);
        let is_passing = self.is_passing(&balance);
        self.store.is_scarce.store(self.is_scarce(is_passing), Ordering::Relaxed);
        if !is_passing && !is_due {
            return;
        }
        match self.clean(&balance) {
            Ok(true) => self.clean_at = now,
            Ok(false) => {}
            Err(error) => {
                self.store.is_scarce.store(false, Ordering::Relaxed);
                self.clean_at = Instant::now() + CLEANING_PAUSE;
                if !self.store.is_failing() {
                    (self.on_event)(Event::Notice(format!("cannot clean the store: {error}")));
                }
            }
        }
    }

    /// Whether everything is being cleaned because room is tight. A pass begins when there seems to be something to win,
    /// or enough was appended to look for it, and ends with the segment that was the last one then.
    fn is_passing(&mut self, balance: &Balance) -> bool {
        if !self.store.is_tight() {
            self.tightness = None;
            return false;
        }
        let superfluous = balance.used.saturating_sub(balance.live);
        let start = Tightness { pass: None, used: balance.used, residue: 0 };
        let tightness = self.tightness.get_or_insert(start);
        if tightness.pass.is_some_and(|last| balance.oldest > last) {
            *tightness = Tightness { residue: superfluous, ..start };
        }
        let size = self.store.segment_bytes;
        // What waits for a file is written by the pass, so there is never another one for the same.
        let is_due = superfluous > tightness.residue + size
            || balance.used > tightness.used + size / 2
            || self.store.waits_for_file();
        if tightness.pass.is_none() && is_due {
            tightness.pass = Some(self.store.log.lock().active_ref().segment.number);
        }
        tightness.pass.is_some()
    }

    /// As long as a pass might run out of room, nobody but the keeper writes: what clients leave behind comes with its next
    /// step.
    fn is_scarce(&self, is_passing: bool) -> bool {
        is_passing && self.store.room_left() < self.store.segment_bytes + self.store.segment_bytes / 2
    }

    fn clean(&mut self, balance: &Balance) -> io::Result<bool> {
        if balance.dead > 0 {
            let before = self.store.file_bytes.load(Ordering::Relaxed);
            self.store.delete_dead()?;
            return Ok(self.store.file_bytes.load(Ordering::Relaxed) < before);
        }
        let size = self.store.log.lock().segments[0].segment.size;
        let store = self.store.clone();
        let from = store.appended();
        let is_cleaned = self.clean_oldest()?.is_none();
        let spent = (store.appended() - from).min(size);
        if is_cleaned && (size - spent) * POOR_GAIN < size {
            self.poor_below = balance.total + balance.total / 2;
        } else if is_cleaned {
            self.poor_below = 0;
        }
        Ok(is_cleaned)
    }

    /// Says why it was not cleaned, if it was not.
    fn clean_oldest(&mut self) -> io::Result<Option<Hindrance>> {
        let store = self.store.clone();
        let owner = self.owner.upgrade();
        store.clean_oldest(owner.as_deref(), &mut || self.serve())
    }

    /// Cleans all segments that there are.
    fn clean_round(&mut self, round: u64) {
        let up_to = self.store.log.lock().active_ref().segment.number;
        let outcome = self.clean_up_to(up_to);
        let mut wishes = self.store.wishes.lock();
        wishes.rounds_done = round;
        wishes.round_failure = outcome.err();
        drop(wishes);
        self.store.woken.notify_all();
    }

    fn clean_up_to(&mut self, up_to: SegmentNo) -> io::Result<()> {
        // Also the active one: what it holds that is over is to go too.
        self.store.roll(&mut self.store.log.lock(), 0);
        while self.store.log.lock().segments[0].segment.number <= up_to {
            if let Some(reason) = self.clean_oldest()? {
                return Err(io::Error::other(reason.to_string()));
            }
        }
        Ok(())
    }
}

/// For tests: what the keeper would do next, without a thread.
#[cfg(test)]
impl Store {
    pub(super) fn clean_all(&self, owner: &dyn Owner) -> io::Result<bool> {
        Ok(self.clean_oldest(Some(owner), &mut || {})?.is_none())
    }
}
