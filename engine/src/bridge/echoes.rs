//! What was sent to a broker that will send it back: one that speaks 3.x and does not know what a bridge is.
//!
//! Such a broker sends each message to all who subscribe to it, whoever published it. So of the messages that come with a topic and
//! payload as they were sent a moment before, as many are left out as were sent: if one of them was somebody else's, the number is
//! right all the same.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};

/// How long an echo may take.
const ECHO_MS: u64 = 30_000;
/// Messages whose echoes are awaited.
const AWAITED_MAX: usize = 100_000;

/// The echoes that are awaited.
#[derive(Debug, Default)]
pub(super) struct Echoes {
    hasher: RandomState,
    awaited: HashMap<u64, u32, ahash::RandomState>,
    /// When they are given up, oldest first.
    due: VecDeque<(u64, u64)>,
}

impl Echoes {
    fn key(&self, topic: &str, payload: &[u8]) -> u64 {
        self.hasher.hash_one((topic, payload))
    }

    /// A message is sent that will come back.
    pub fn sent(&mut self, topic: &str, payload: &[u8], now_ms: u64) {
        while let Some((at, key)) = self.due.front().copied()
            && (at <= now_ms || self.due.len() >= AWAITED_MAX)
        {
            self.due.pop_front();
            self.forget(key);
        }
        let key = self.key(topic, payload);
        *self.awaited.entry(key).or_default() += 1;
        self.due.push_back((now_ms + ECHO_MS, key));
    }

    /// Whether what has come is one of those.
    pub fn is_echo(&mut self, topic: &str, payload: &[u8]) -> bool {
        !self.awaited.is_empty() && self.forget(self.key(topic, payload))
    }

    /// Forgets all: the other broker has no session in which they could come.
    pub fn clear(&mut self) {
        self.awaited.clear();
        self.due.clear();
    }

    /// An entry of `due` may outlive its echo; then it takes away one that was sent later, and is awaited no more.
    fn forget(&mut self, key: u64) -> bool {
        let Some(count) = self.awaited.get_mut(&key) else { return false };
        *count -= 1;
        if *count == 0 {
            self.awaited.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_left_out_as_were_sent() {
        let mut echoes = Echoes::default();
        assert!(!echoes.is_echo("t", b"x"));
        echoes.sent("t", b"x", 0);
        echoes.sent("t", b"x", 0);
        assert!(!echoes.is_echo("t", b"y") && !echoes.is_echo("u", b"x"));
        assert!(echoes.is_echo("t", b"x") && echoes.is_echo("t", b"x"));
        assert!(!echoes.is_echo("t", b"x"));
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let mut echoes = Echoes::default();
        echoes.sent("t", b"x", 0);
        echoes.sent("t", b"y", ECHO_MS);
        assert!(!echoes.is_echo("t", b"x"));
        for number in 0..AWAITED_MAX as u64 {
            echoes.sent("t", &number.to_be_bytes(), ECHO_MS);
        }
        assert!(!echoes.is_echo("t", b"y"));
        assert!(echoes.awaited.len() <= AWAITED_MAX);
    }
}
