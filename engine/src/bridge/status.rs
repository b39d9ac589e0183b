//! What a bridge tells of itself to those who ask.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// How far the connection to the other broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// There is none.
    Away,
    /// It is being made.
    Connecting,
    /// The other broker has accepted it.
    Connected,
}

/// Shared between the thread of the bridge and those who ask.
#[derive(Debug, Default)]
pub struct Status {
    state: AtomicU8,
    pub(super) published_out: [AtomicU64; 3],
    pub(super) published_in: [AtomicU64; 3],
    pub(super) looped: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) expired: AtomicU64,
    pub(super) too_large: AtomicU64,
    pub(super) overflowed: AtomicU64,
    pub(super) held: AtomicUsize,
}

/// What a bridge has counted since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages sent to the other broker, by `QoS`.
    pub published_out: [u64; 3],
    /// Messages published on this node, by `QoS`.
    pub published_in: [u64; 3],
    /// Messages not passed on because they had been there before.
    pub looped: u64,
    /// Messages that the side refused for which they were.
    pub refused: u64,
    /// Messages whose time was over before they could be passed on.
    pub expired: u64,
    /// Messages not passed on because the other broker takes no packets so large.
    pub too_large: u64,
    /// Messages of `QoS` 0 that there was no room for.
    pub overflowed: u64,
    /// Messages that the bridge itself holds now.
    pub held: usize,
}

impl Status {
    /// How far the connection is.
    pub fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Away,
            1 => State::Connecting,
            _ => State::Connected,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        let all = |counts: &[AtomicU64; 3]| [0, 1, 2].map(|qos: usize| counts[qos].load(Ordering::Relaxed));
        Counts {
            published_out: all(&self.published_out),
            published_in: all(&self.published_in),
            looped: self.looped.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            too_large: self.too_large.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
