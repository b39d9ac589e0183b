//! What clients and insiders of this node subscribe to, as far as other nodes have to know: each filter once, and of each
//! shared group how many members it has and whether one of them is connected.
//!
//! The routing table has all of it. Here it is only noted where something has changed, and the control plane, which tells
//! other nodes, gets what is so when it asks: so what it hears is never older than what it heard before. It is nothing to
//! anybody until [`ChangeSet::watch`] is called.

use std::sync::Arc;

use crate::routing::{Subscriber, SubscriptionOptions};

use super::change_set::{ChangeSet, Named};
use super::{Node, SessionRef, SessionState};

/// Places of the routing table that are looked at under one lock.
const WALKED_AT_ONCE: usize = 1_024;
/// How filters of shared subscriptions begin.
const SHARED_PREFIX: &str = "$share/";

/// Something that can be subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteKey {
    /// Name space.
    pub mountpoint: Arc<str>,
    /// The filter, without `$share/` and the group.
    pub filter: Box<str>,
    /// The shared group.
    pub group: Option<Box<str>>,
}

impl Named for RouteKey {
    fn name_len(&self) -> usize {
        self.filter.len() + self.group.as_ref().map_or(0, |group| group.len())
    }
}

/// Who subscribes to something on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// How many; of direct subscribers it only matters whether there is one.
    pub count: u32,
    /// Whether one of a group is connected.
    pub has_online: bool,
}

/// What this node subscribes to.
pub type LocalRoute = (RouteKey, Members);

/// Where a walk over all that this node subscribes to goes on: in a mountpoint, at a position.
pub type RoutesCursor = (String, u64);

/// What has changed.
#[derive(Debug, Default)]
pub struct RouteChanges {
    /// What is so now.
    pub routes: Vec<LocalRoute>,
    /// More has changed than could be noted: all of it has to be read anew.
    pub is_overflown: bool,
}

/// Where subscriptions of this node have changed.
pub type Interest = ChangeSet<RouteKey>;

impl Node {
    /// Makes or replaces a subscription of this node.
    pub fn subscribe(
        &self,
        mountpoint: &Arc<str>,
        filter: &str,
        group: Option<&str>,
        subscriber: SessionRef,
        options: SubscriptionOptions,
    ) {
        let is_watched = self.interest.is_watched() && subscriber.is_announced();
        let is_news = {
            let mut router = self.router.write();
            let is_news = is_watched && (group.is_some() || router.members(mountpoint, filter, None).count == 0);
            router.subscribe(mountpoint, filter, group, subscriber, options);
            is_news
        };
        if is_news {
            self.interest.note(key(mountpoint, filter, group));
        }
    }

    /// Removes subscriptions of one subscriber of this node under one lock; how many there were.
    pub fn unsubscribe_all<'f>(
        &self,
        mountpoint: &Arc<str>,
        filters: impl IntoIterator<Item = (&'f str, Option<&'f str>)>,
        subscriber: &SessionRef,
    ) -> usize {
        let is_watched = self.interest.is_watched() && subscriber.is_announced();
        let mut news = Vec::new();
        let mut removed = 0;
        let mut router = self.router.write();
        for (filter, group) in filters {
            if !router.unsubscribe(mountpoint, filter, group, subscriber.id()) {
                continue;
            }
            removed += 1;
            if is_watched && (group.is_some() || router.members(mountpoint, filter, None).count == 0) {
                news.push(key(mountpoint, filter, group));
            }
        }
        drop(router);
        for key in news {
            self.interest.note(key);
        }
        removed
    }

    /// A client of a session has come or gone, which is news where the session is in a shared group.
    pub(super) fn note_presence(&self, session: &SessionRef, state: &SessionState) {
        if !self.interest.is_watched() {
            return;
        }
        let mountpoint = &session.subscriber_id().mountpoint;
        for filter in state.session.subscriptions.keys() {
            let shared = filter.strip_prefix(SHARED_PREFIX).and_then(|rest| rest.split_once('/'));
            if let Some((group, filter)) = shared {
                self.interest.note(key(mountpoint, filter, Some(group)));
            }
        }
    }

    /// Takes out at most `limit` changes, with what is so now.
    pub fn route_changes(&self, limit: usize) -> RouteChanges {
        let (keys, is_overflown) = self.interest.take(limit);
        let mut routes = Vec::with_capacity(keys.len());
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let table = self.router.read();
            routes.extend(keys.by_ref().take(WALKED_AT_ONCE).map(|key| {
                let members = table.members(&key.mountpoint, &key.filter, key.group.as_deref());
                (key, members)
            }));
        }
        RouteChanges { routes, is_overflown }
    }

    /// All that this node subscribes to, in pages: the one behind `after`, of about `limit` at least if there are so many, and
    /// where the next begins. What is there during the whole walk is told once.
    pub fn local_routes(&self, after: Option<RoutesCursor>, limit: usize) -> (Vec<LocalRoute>, Option<RoutesCursor>) {
        let mut cursor = after.unwrap_or_default();
        let mut routes = Vec::new();
        loop {
            let table = self.router.read();
            let is_over = !table.walk(&cursor.0, &mut cursor.1, WALKED_AT_ONCE, &mut |mountpoint, filter, found| {
                if found.members().iter().any(|member| member.subscriber.is_announced()) {
                    let members = Members { count: 1, has_online: true };
                    routes.push((key(mountpoint, filter, None), members));
                }
                for group in found.groups() {
                    let members = super::router::announced(group);
                    if members.count > 0 {
                        routes.push((key(mountpoint, filter, Some(group.name())), members));
                    }
                }
            });
            if is_over {
                match table.mountpoint_after(&cursor.0) {
                    Some(mountpoint) => cursor = (mountpoint, 0),
                    None => return (routes, None),
                }
            }
            if routes.len() >= limit {
                return (routes, Some(cursor));
            }
        }
    }
}

fn key(mountpoint: &Arc<str>, filter: &str, group: Option<&str>) -> RouteKey {
    RouteKey { mountpoint: Arc::clone(mountpoint), filter: filter.into(), group: group.map(Into::into) }
}
