//! Where something has changed since the control plane asked last. Only the names are noted; what is so is read when it asks,
//! so what it hears is never older than what it heard before.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Changes that may wait. Beyond that all has to be read anew.
pub const CHANGES_MAX: usize = 100_000;
/// Bytes of their names.
const CHANGES_BYTES_MAX: usize = 32 * 1_024 * 1_024;
/// What a change takes beside its name.
const CHANGE_BYTES: usize = 64;

/// The name of something that changes.
pub trait Named: Eq + Hash {
    /// Bytes of it.
    fn name_len(&self) -> usize;
}

#[derive(Debug)]
struct Changed<K> {
    names: HashSet<K, ahash::RandomState>,
    /// Taken out of the set, not told yet.
    due: Vec<K>,
    bytes: usize,
    is_overflown: bool,
}

impl<K> Default for Changed<K> {
    fn default() -> Self {
        Self { names: HashSet::default(), due: Vec::new(), bytes: 0, is_overflown: false }
    }
}

impl<K: Named> Changed<K> {
    fn is_quiet(&self) -> bool {
        self.names.is_empty() && self.due.is_empty() && !self.is_overflown
    }

    /// True: it is the first one that waits.
    fn note(&mut self, name: K) -> bool {
        let is_first = self.is_quiet();
        if self.is_overflown {
            return false;
        }
        let size = CHANGE_BYTES + name.name_len();
        if self.names.insert(name) {
            self.bytes += size;
        }
        if self.names.len() + self.due.len() > CHANGES_MAX || self.bytes > CHANGES_BYTES_MAX {
            *self = Self { is_overflown: true, ..Self::default() };
        }
        is_first
    }

    fn take(&mut self, limit: usize) -> Vec<K> {
        if self.due.is_empty() {
            self.due = self.names.drain().collect();
        }
        let from = self.due.len().saturating_sub(limit);
        let taken = self.due.split_off(from);
        let bytes: usize = taken.iter().map(|name| CHANGE_BYTES + name.name_len()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        taken
    }
}

/// The changes.
pub struct ChangeSet<K> {
    is_watched: AtomicBool,
    changed: Mutex<Changed<K>>,
    signal: OnceLock<Box<dyn Fn() + Send + Sync>>,
    overflows: AtomicU64,
}

impl<K> Default for ChangeSet<K> {
    fn default() -> Self {
        let (changed, signal) = (Mutex::default(), OnceLock::new());
        Self { is_watched: AtomicBool::new(false), changed, signal, overflows: AtomicU64::new(0) }
    }
}

impl<K: Named> ChangeSet<K> {
    /// Notes changes from now on. `signal` is called when the first one waits, on the thread that made it. False: somebody
    /// watches already.
    pub fn watch(&self, signal: impl Fn() + Send + Sync + 'static) -> bool {
        let is_first = self.signal.set(Box::new(signal)).is_ok();
        self.set_watched(true);
        is_first
    }

    /// Notes changes from now on, or does not.
    pub fn set_watched(&self, is_watched: bool) {
        self.is_watched.store(is_watched, Ordering::Release);
    }

    /// Whether anybody wants to know.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Times that more changed than could be noted.
    pub fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Changes that wait.
    pub fn waiting(&self) -> usize {
        let changed = self.changed.lock();
        changed.names.len() + changed.due.len()
    }

    /// Something has changed.
    pub(super) fn note(&self, name: K) {
        let is_first = {
            let mut changed = self.changed.lock();
            let was_overflown = changed.is_overflown;
            let is_first = changed.note(name);
            if changed.is_overflown && !was_overflown {
                self.overflows.fetch_add(1, Ordering::Relaxed);
            }
            is_first
        };
        if is_first && let Some(signal) = self.signal.get() {
            signal();
        }
    }

    /// Takes out at most so many, and whether more has changed than could be noted.
    pub(super) fn take(&self, limit: usize) -> (Vec<K>, bool) {
        let mut changed = self.changed.lock();
        (changed.take(limit), std::mem::take(&mut changed.is_overflown))
    }
}
