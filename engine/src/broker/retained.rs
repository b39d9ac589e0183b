//! Retained messages of all mountpoints.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::{Message, Millis};
use crate::routing::RetainedTrie;

/// One retained trie a mountpoint.
#[derive(Default)]
pub struct RetainedStore {
    tries: HashMap<Arc<str>, RetainedTrie<Message>, ahash::RandomState>,
    count: usize,
    swept_at: Millis,
}

impl RetainedStore {
    /// Keeps a message as the retained one of its topic. False: it is new and `limit` messages are kept already (0: no limit).
    pub fn set(&mut self, mountpoint: &Arc<str>, message: Message, limit: usize) -> bool {
        let topic = message.publication().topic_text().to_owned();
        let is_full = limit > 0 && self.count >= limit;
        let trie = self.tries.entry(mountpoint.clone()).or_default();
        if is_full && trie.get(&topic).is_none() {
            return false;
        }
        if trie.set(&topic, message).is_none() {
            self.count += 1;
        }
        true
    }

    /// Forgets the retained message of a topic. False: there was none.
    pub fn remove(&mut self, mountpoint: &str, topic: &str) -> bool {
        let Some(trie) = self.tries.get_mut(mountpoint) else { return false };
        let removed = trie.remove(topic).is_some();
        if removed {
            self.count -= 1;
        }
        if trie.is_empty() {
            self.tries.remove(mountpoint);
        }
        removed
    }

    /// Visits what matches a filter and has not expired, until `visit` says false.
    pub fn matching(&self, mountpoint: &str, filter: &str, now: Millis, visit: &mut dyn FnMut(&Message) -> bool) {
        if let Some(trie) = self.tries.get(mountpoint) {
            trie.matching(filter, &mut |_, message| message.publication().is_expired(now) || visit(message));
        }
    }

    /// Sweeps unless that was done within `interval_ms`.
    pub fn sweep_if_due(&mut self, now: Millis, interval_ms: Millis) -> usize {
        if self.swept_at > 0 && now < self.swept_at + interval_ms { 0 } else { self.sweep(now) }
    }

    /// Forgets what has expired and tells how many went.
    pub fn sweep(&mut self, now: Millis) -> usize {
        self.swept_at = now;
        let before = self.count;
        for trie in self.tries.values_mut() {
            trie.retain(|_, message| !message.publication().is_expired(now));
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
