//! The routing tables of all mountpoints.

use std::collections::HashMap;
use std::sync::Arc;

use crate::routing::{OnFilter, RemoteMembers, Route, SharedGroup, Subscriber, SubscriptionOptions, SubscriptionTrie};

use super::SessionRef;
use super::interest::Members;

/// What is shown of a filter: its mountpoint, itself, what there is on it.
type Visit<'v> = &'v mut dyn FnMut(&Arc<str>, &str, OnFilter<'_, SessionRef>);

/// One topic trie a mountpoint; nearly everybody has only the default one.
#[derive(Default)]
pub struct Router {
    /// Subscriptions made so far.
    made: u64,
    default: SubscriptionTrie<SessionRef>,
    others: HashMap<Arc<str>, SubscriptionTrie<SessionRef>, ahash::RandomState>,
}

impl Router {
    fn trie(&self, mountpoint: &str) -> Option<&SubscriptionTrie<SessionRef>> {
        if mountpoint.is_empty() { Some(&self.default) } else { self.others.get(mountpoint) }
    }

    fn trie_mut(&mut self, mountpoint: &Arc<str>) -> &mut SubscriptionTrie<SessionRef> {
        if mountpoint.is_empty() { &mut self.default } else { self.others.entry(mountpoint.clone()).or_default() }
    }

    fn known_trie_mut(&mut self, mountpoint: &str) -> Option<&mut SubscriptionTrie<SessionRef>> {
        if mountpoint.is_empty() { Some(&mut self.default) } else { self.others.get_mut(mountpoint) }
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
        self.made += 1;
        let trie = self.trie_mut(mountpoint);
        match group {
            Some(group) => trie.subscribe_shared(group, filter, subscriber, options),
            None => trie.subscribe(filter, subscriber, options),
        };
    }

    /// Subscriptions made so far: as long as it stays the same, nobody has to get what they did not get before.
    #[inline]
    pub fn made(&self) -> u64 {
        self.made
    }

    /// Removes a subscription. False: there was none.
    pub fn unsubscribe(&mut self, mountpoint: &str, filter: &str, group: Option<&str>, id: u64) -> bool {
        let Some(trie) = self.known_trie_mut(mountpoint) else { return false };
        let removed = match group {
            Some(group) => trie.unsubscribe_shared(group, filter, id),
            None => trie.unsubscribe(filter, id),
        };
        if trie.is_empty() {
            self.others.remove(mountpoint);
        }
        removed.is_some()
    }

    /// Says what members a shared group has on another node.
    pub fn share_remotely(
        &mut self,
        mountpoint: &Arc<str>,
        filter: &str,
        group: &str,
        remote: RemoteMembers<SessionRef>,
    ) {
        self.trie_mut(mountpoint).share_remotely(group, filter, remote);
    }

    /// A shared group has no members on another node any more. False: it had none.
    pub fn unshare_remotely(&mut self, mountpoint: &str, filter: &str, group: &str, id: u64) -> bool {
        let Some(trie) = self.known_trie_mut(mountpoint) else { return false };
        let has_ended = trie.unshare_remotely(group, filter, id);
        if trie.is_empty() {
            self.others.remove(mountpoint);
        }
        has_ended
    }

    /// Who subscribes to a filter on this node, as far as others are told.
    pub(super) fn members(&self, mountpoint: &str, filter: &str, group: Option<&str>) -> Members {
        let Some(found) = self.trie(mountpoint).and_then(|trie| trie.at(filter)) else { return Members::default() };
        if let Some(name) = group {
            let group = found.groups().find(|group| group.name() == name);
            return group.map(|group| announced(group)).unwrap_or_default();
        }
        let is_there = found.members().iter().any(|member| member.subscriber.is_announced());
        Members { count: u32::from(is_there), has_online: is_there }
    }

    /// Shows what there is on filters of a mountpoint, see [`SubscriptionTrie::walk`]. False: there is no more of it.
    pub(super) fn walk(&self, mountpoint: &str, position: &mut u64, limit: usize, visit: Visit<'_>) -> bool {
        let empty: Arc<str> = Arc::default();
        let (name, trie) = if mountpoint.is_empty() {
            (&empty, &self.default)
        } else {
            let Some(entry) = self.others.get_key_value(mountpoint) else { return false };
            entry
        };
        let next = trie.walk(*position, limit, |filter, found| visit(name, filter, found));
        *position = next.unwrap_or_default();
        next.is_some()
    }

    /// The mountpoint that a walk over all of them comes to behind this one; the empty one is the first.
    pub(super) fn mountpoint_after(&self, mountpoint: &str) -> Option<String> {
        self.others.keys().filter(|name| ***name > *mountpoint).min().map(ToString::to_string)
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

/// The members of a group on this node, as far as others are told.
pub(super) fn announced(group: &SharedGroup<SessionRef>) -> Members {
    let mut members = Members::default();
    for member in group.members().iter().filter(|member| member.subscriber.is_announced()) {
        members.count += 1;
        members.has_online = members.has_online || member.subscriber.is_online();
    }
    members
}
