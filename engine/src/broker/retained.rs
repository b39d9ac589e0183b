//! Retained messages of all mountpoints.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::{MessageId, Millis, Retained};
use crate::routing::RetainedTrie;

/// For so long, and twice that at most, it is known that a message was deleted.
const DELETED_KEPT_MS: Millis = 150_000;
/// So many deletions, and twice that at most, are known at a time.
const DELETED_MAX: usize = 50_000;

type Deletions = HashMap<Arc<str>, HashMap<Box<str>, MessageId, ahash::RandomState>, ahash::RandomState>;

/// What was deleted a short time ago, so that what is older and comes late from another node is known to be.
#[derive(Default)]
struct Deleted {
    young: Deletions,
    young_len: usize,
    young_since: Millis,
    old: Deletions,
}

impl Deleted {
    fn note(&mut self, mountpoint: &Arc<str>, topic: &str, message_id: MessageId, now: Millis) {
        if self.young_len >= DELETED_MAX || now > self.young_since + DELETED_KEPT_MS {
            self.old = std::mem::take(&mut self.young);
            (self.young_len, self.young_since) = (0, now);
        }
        let replaced = self.young.entry(mountpoint.clone()).or_default().insert(topic.into(), message_id);
        self.young_len += usize::from(replaced.is_none());
    }

    fn forget(&mut self, mountpoint: &str, topic: &str) {
        if self.young.get_mut(mountpoint).is_some_and(|topics| topics.remove(topic).is_some()) {
            self.young_len -= 1;
        }
        if let Some(topics) = self.old.get_mut(mountpoint) {
            topics.remove(topic);
        }
    }

    fn get(&self, mountpoint: &str, topic: &str) -> Option<MessageId> {
        let find = |deletions: &Deletions| deletions.get(mountpoint)?.get(topic).copied();
        find(&self.young).or_else(|| find(&self.old))
    }
}

/// What is known of a topic: its retained message, or that it was deleted a short time ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The name of the message, or of what deleted it.
    pub message_id: MessageId,
    /// It was deleted.
    pub is_deleted: bool,
    /// When the message expires.
    pub expires_at: Millis,
}

/// One retained trie a mountpoint.
#[derive(Default)]
pub struct RetainedStore {
    tries: HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>,
    count: usize,
    deleted: Deleted,
    swept_at: Millis,
}

impl RetainedStore {
    /// What was kept before.
    pub fn restore(tries: HashMap<Arc<str>, RetainedTrie<Retained>, ahash::RandomState>) -> Self {
        let count = tries.values().map(RetainedTrie::len).sum();
        Self { tries, count, ..Self::default() }
    }

    /// Whether a topic has a retained message.
    pub fn has(&self, mountpoint: &str, topic: &str) -> bool {
        self.tries.get(mountpoint).is_some_and(|trie| trie.get(topic).is_some())
    }

    /// What is known of a topic.
    pub fn known(&self, mountpoint: &str, topic: &str) -> Option<Known> {
        if let Some(retained) = self.tries.get(mountpoint).and_then(|trie| trie.get(topic)) {
            let Retained { message_id, expires_at, .. } = *retained;
            return Some(Known { message_id, is_deleted: false, expires_at });
        }
        let message_id = self.deleted.get(mountpoint, topic)?;
        Some(Known { message_id, is_deleted: true, expires_at: 0 })
    }

    /// The retained message of a topic.
    pub fn get(&self, mountpoint: &str, topic: &str) -> Option<&Retained> {
        self.tries.get(mountpoint)?.get(topic)
    }

    /// Remembers for a while that the message of a topic was deleted.
    pub fn note_deleted(&mut self, mountpoint: &Arc<str>, topic: &str, message_id: MessageId, now: Millis) {
        self.deleted.note(mountpoint, topic, message_id, now);
    }

    /// Shows a page of a mountpoint, see [`RetainedTrie::page`].
    pub fn page(
        &self,
        mountpoint: &str,
        position: u32,
        limit: usize,
        visit: &mut dyn FnMut(&str, &Retained),
    ) -> Option<u32> {
        self.tries.get(mountpoint)?.page(position, limit, visit)
    }

    /// The mountpoint that a walk over all of them comes to behind this one; `None` begins it.
    pub fn mountpoint_after(&self, mountpoint: Option<&str>) -> Option<Arc<str>> {
        let is_behind = |name: &&Arc<str>| mountpoint.is_none_or(|mountpoint| ***name > *mountpoint);
        self.tries.keys().filter(is_behind).min().cloned()
    }

    /// Keeps a message as the retained one of its topic; returns the one that it replaces.
    pub fn set(&mut self, mountpoint: &Arc<str>, topic: &str, retained: Retained) -> Option<Retained> {
        let trie = self.tries.entry(mountpoint.clone()).or_default();
        let replaced = trie.set(topic, retained);
        self.deleted.forget(mountpoint, topic);
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
