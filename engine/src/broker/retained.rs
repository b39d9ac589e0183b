//! Retained messages of all mountpoints.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::{Millis, Retained};
use crate::routing::RetainedTrie;

/// One retained trie a mountpoint.
#[derive(Default)]
pub struct RetainedStore {
    tries: HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>,
    count: usize,
    swept_at: Millis,
}

impl RetainedStore {
    /// What was kept before.
    pub fn restore(tries: HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>) -> Self {
        let count = tries.values().map(RetainedTrie::len).sum();
        Self { tries, count, swept_at: 0 }
    }

    /// Whether a topic has a retained message.
    pub fn has(&self, mountpoint: &str, topic: &str) -> bool {
        self.tries.get(mountpoint).is_some_and(|trie| trie.get(topic).is_some())
    }

    /// Keeps a message as the retained one of its topic; returns the one that it replaces.
    pub fn set(&mut self, mountpoint: &Arc<str>, topic: &str, retained: Retained) -> Option<Retained> {
        let trie = self.tries.entry(mountpoint.clone()).or_default();
        let replaced = trie.set(topic, retained);
        self.count += usize::from(replaced.is_none());
        replaced
    }

    /// Forgets the retained message of a topic and returns it.
    pub fn remove(&mut self, mountpoint: &str, topic: &str) -> Option<Retained> {
        let trie = self.tries.get_mut(mountpoint)?;
        let removed = trie.remove(topic);
        self.count -= usize::from(removed.is_some());
        if trie.is_empty() {
            self.tries.remove(mountpoint);
        }
        removed
    }

    /// What matches a filter and has not expired, `limit` at most.
    pub fn matching(&self, mountpoint: &str, filter: &str, now: Millis, limit: usize) -> Vec<Retained> {
        let mut found = Vec::new();
        if let Some(trie) = self.tries.get(mountpoint) {
            trie.matching(filter, &mut |_, retained| {
                if found.len() < limit && !retained.is_expired(now) {
                    found.push(retained.clone());
                }
                found.len() < limit
            });
        }
        found
    }

    /// Sweeps unless that was done within `interval_ms`. `swept` gets what goes.
    pub fn sweep_if_due(&mut self, now: Millis, interval_ms: Millis, swept: impl FnMut(&Retained)) -> usize {
        if self.swept_at > 0 && now < self.swept_at + interval_ms { 0 } else { self.sweep(now, swept) }
    }

    /// Forgets what has expired, which `swept` gets, and tells how many went.
    pub fn sweep(&mut self, now: Millis, mut swept: impl FnMut(&Retained)) -> usize {
        self.swept_at = now;
        let before = self.count;
        for trie in self.tries.values_mut() {
            trie.retain(|_, retained| {
                let is_over = retained.is_expired(now);
                if is_over {
                    swept(retained);
                }
                !is_over
            });
        }
        self.tries.retain(|_, trie| !trie.is_empty());
        self.count = self.tries.values().map(RetainedTrie::len).sum();
        before - self.count
    }

    /// Messages kept.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Estimated memory of the tries in bytes, without the messages.
    pub fn memory_bytes(&self) -> usize {
        self.tries.values().map(RetainedTrie::memory_bytes).sum()
    }
}
