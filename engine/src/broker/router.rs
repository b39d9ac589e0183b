//! The routing tables of all mountpoints.

use std::collections::HashMap;
use std::sync::Arc;

use crate::routing::{Route, SubscriptionOptions, SubscriptionTrie};

use super::SessionRef;

/// One topic trie a mountpoint; nearly everybody has only the default one.
#[derive(Default)]
pub struct Router {
    default: SubscriptionTrie<SessionRef>,
    others: HashMap<Arc<str>, SubscriptionTrie<SessionRef>, ahash::RandomState>,
}

impl Router {
    fn trie(&self, mountpoint: &str) -> Option<&SubscriptionTrie<SessionRef>> {
        if mountpoint.is_empty() { Some(&self.default) } else { self.others.get(mountpoint) }
    }

    /// Makes or replaces a subscription.
    pub fn subscribe(
        &mut self,
        mountpoint: &Arc<str>,
        filter: &str,
        group: Option<&str>,
        subscriber: SessionRef,
        options: SubscriptionOptions,
    ) {
        let trie =
            if mountpoint.is_empty() { &mut self.default } else { self.others.entry(mountpoint.clone()).or_default() };
        match group {
            Some(group) => trie.subscribe_shared(group, filter, subscriber, options),
            None => trie.subscribe(filter, subscriber, options),
        };
    }

    /// Removes a subscription. False: there was none.
    pub fn unsubscribe(&mut self, mountpoint: &str, filter: &str, group: Option<&str>, id: u64) -> bool {
        let trie = if mountpoint.is_empty() { Some(&mut self.default) } else { self.others.get_mut(mountpoint) };
        let Some(trie) = trie else { return false };
        let removed = match group {
            Some(group) => trie.unsubscribe_shared(group, filter, id),
            None => trie.unsubscribe(filter, id),
        };
        if trie.is_empty() {
            self.others.remove(mountpoint);
        }
        removed.is_some()
    }

    /// Finds who gets a message on this topic.
    #[inline]
    pub fn route(&self, mountpoint: &str, topic: &str, route: &mut Route<SessionRef>) {
        match self.trie(mountpoint) {
            Some(trie) => trie.route(topic, route),
            None => route.clear(),
        }
    }

    /// Subscriptions of all mountpoints.
    pub fn len(&self) -> usize {
        self.default.len() + self.others.values().map(SubscriptionTrie::len).sum::<usize>()
    }

    /// Whether there is no subscription.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated memory in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.default.memory_bytes() + self.others.values().map(SubscriptionTrie::memory_bytes).sum::<usize>()
    }
}
