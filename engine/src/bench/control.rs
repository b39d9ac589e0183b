//! What a run and whoever started it share: counters to watch, the wish to stop, the report at the end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock::{self, Nanos};
use super::report::Value;

/// The counters that a live display shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Clients that are connected now.
    pub connected: u64,
    /// Messages published so far.
    pub sent: u64,
    /// Messages received so far.
    pub received: u64,
    /// Time since the start.
    pub elapsed: Nanos,
}

/// Shared by the generator's thread and its owner.
#[derive(Debug)]
pub struct Control {
    started_at: Nanos,
    stop: AtomicBool,
    connected: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    result: Mutex<Option<Value>>,
    ended: Condvar,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            started_at: clock::now(),
            stop: AtomicBool::new(false),
            connected: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            result: Mutex::new(None),
            ended: Condvar::new(),
        }
    }
}

impl Control {
    /// When the run began.
    pub fn started_at(&self) -> Nanos {
        self.started_at
    }

    /// Asks the run to end early.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Publishes the counters.
    pub fn show(&self, connected: u64, sent: u64, received: u64) {
        self.connected.store(connected, Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
        self.received.store(received, Ordering::Relaxed);
    }

    /// The counters as they stand.
    pub fn progress(&self) -> Progress {
        Progress {
            connected: self.connected.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            elapsed: clock::now() - self.started_at,
        }
    }

    /// The run has ended.
    pub fn finish(&self, result: Value) {
        *self.result.lock() = Some(result);
        self.ended.notify_all();
    }

    /// Waits for the end. True when it has come.
    pub fn wait(&self, timeout: Duration) -> bool {
        let mut result = self.result.lock();
        let deadline = Instant::now().checked_add(timeout);
        while result.is_none() {
            match deadline {
                Some(deadline) if self.ended.wait_until(&mut result, deadline).timed_out() => break,
                Some(_) => {}
                None => self.ended.wait(&mut result),
            }
        }
        result.is_some()
    }

    /// The report of a run that has ended.
    pub fn result(&self) -> Option<Value> {
        self.result.lock().clone()
    }
}
