//! Other nodes as receivers: who they are, and what they have said that their clients subscribe to.
//!
//! Each is a subscriber of its own kind in the routing table, so it is found as all others are, and once for a message
//! whatever the number of its filters that match. Its routes stay while it cannot be reached, and go when it is no peer any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use crate::codec::text::validate_topic_filter;
use crate::message::{MessageId, Millis};
use crate::peer::PeerLink;
use crate::protocol::Session;
use crate::routing::{RemoteMembers, Subscriber, SubscriptionOptions};

use super::interest::RouteKey;
use super::receiving::{Receipt, ReceivingDesk};
use super::taken::TakenMessages;
use super::{Node, Receiver, Router, SessionRef, SubscriberId};

/// Routes that are changed under one lock.
const CHANGED_AT_ONCE: usize = 256;
/// Places of the routing table that are looked at under one lock.
const WALKED_AT_ONCE: usize = 1_024;
/// Longest name of anything.
const TEXT_LEN_MAX: usize = u16::MAX as usize;
/// How often it is told that messages for a node are dropped.
const OVERFLOW_INTERVAL_MS: Millis = 60_000;
/// A node gets a message as it was published, and makes of it what its own subscriptions say.
const AS_PUBLISHED: SubscriptionOptions =
    SubscriptionOptions { qos: 2, no_local: false, retain_as_published: true, identifier: 0 };

/// What another node has said about one of its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOfPeer {
    /// Name space.
    pub mountpoint: String,
    /// The filter, without `$share/` and the group.
    pub filter: String,
    /// The shared group.
    pub group: Option<String>,
    /// Members of the group.
    pub members: u32,
    /// Whether one of them is connected.
    pub has_online: bool,
}

impl RouteOfPeer {
    /// Whether it can be a route: what another node says is not believed unseen.
    fn is_sound(&self) -> bool {
        let is_short = |text: &str| text.len() <= TEXT_LEN_MAX;
        let is_group_sound = self
            .group
            .as_deref()
            .is_none_or(|group| !group.is_empty() && is_short(group) && !group.contains(['/', '+', '#', '\0']));
        is_group_sound
            && is_short(&self.mountpoint)
            && is_short(&self.filter)
            && validate_topic_filter(&self.filter).is_ok()
    }
}

/// Messages for a node that were dropped since that was told last.
#[derive(Debug, Default)]
struct Overflown {
    told_at: Millis,
    messages: u64,
}

/// Other nodes.
#[derive(Default)]
pub struct Remotes {
    ports: ArcSwap<Vec<SessionRef>>,
    has_any: AtomicBool,
    /// Held while routes of other nodes change, before the lock of the routing table.
    changing: Mutex<()>,
    overflown: Mutex<HashMap<u64, Overflown>>,
    last_stamp: AtomicU64,
    own_origin: AtomicU32,
    /// Batches that this node had begun to write down when it ended, and how many messages of them are there, by the peer.
    pub(super) begun: Mutex<HashMap<Arc<str>, (u64, u32)>>,
    /// QoS 2 messages of other nodes that came here.
    pub(super) taken: Mutex<TakenMessages>,
    pub(super) receipts: Mutex<Vec<Receipt>>,
    pub(super) desks: Mutex<Vec<ReceivingDesk>>,
}

impl Remotes {
    /// Whether there is another node.
    #[inline]
    pub fn has_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// All other nodes.
    #[inline]
    pub(super) fn ports(&self) -> Guard<Arc<Vec<SessionRef>>> {
        self.ports.load()
    }

    pub(super) fn port(&self, name: &str) -> Option<SessionRef> {
        let is_meant = |port: &&SessionRef| port.peer_link().is_some_and(|link| **link.name() == *name);
        self.ports.load().iter().find(is_meant).cloned()
    }

    /// The hybrid logical time of something that happens now: later than all that were given before, and than `wall_ms`.
    pub(super) fn stamp(&self, wall_ms: u64) -> u64 {
        self.stamps(wall_ms, 1)
    }

    /// The first of so many stamps, one after the other.
    pub(super) fn stamps(&self, wall_ms: u64, count: u64) -> u64 {
        let first = |last: u64| (wall_ms << 16).max(last.saturating_add(1));
        let next = |last: u64| Some(first(last).saturating_add(count.saturating_sub(1)));
        first(self.last_stamp.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default())
    }

    /// This node has a name, from which it names messages.
    pub fn set_own_name(&self, name: &str) {
        self.own_origin.store(MessageId::origin_of(name), Ordering::Relaxed);
    }

    /// The number of this node, see [`MessageId::origin_of`].
    pub(super) fn own_origin(&self) -> u32 {
        self.own_origin.load(Ordering::Relaxed)
    }

    /// The name of a message of this node, by its stamp.
    #[inline]
    pub(super) fn own_message_id(&self, stamp: u64) -> MessageId {
        MessageId { origin: self.own_origin.load(Ordering::Relaxed), stamp }
    }

    /// Another node has given this stamp: what happens here from now on is later.
    pub(super) fn observe(&self, stamp: u64) {
        self.last_stamp.fetch_max(stamp, Ordering::Relaxed);
    }

    /// Counts messages that a node does not get. How many are to be told now, once a minute.
    pub(super) fn note_overflow(&self, port: u64, messages: u64, now: Millis) -> Option<u64> {
        let mut overflown = self.overflown.lock();
        let entry = overflown.entry(port).or_default();
        entry.messages += messages;
        if entry.told_at > 0 && now < entry.told_at + OVERFLOW_INTERVAL_MS {
            return None;
        }
        entry.told_at = now;
        Some(std::mem::take(&mut entry.messages))
    }
}

impl Node {
    /// These are the other nodes from now on. What was known of one that is no more is forgotten.
    pub fn set_remotes(&self, links: Vec<Arc<PeerLink>>) {
        let _changing = self.remotes.changing.lock();
        let old = self.remotes.ports.load_full();
        let ports: Vec<SessionRef> = links
            .into_iter()
            .map(|link| {
                let known = old.iter().find(|port| port.peer_link().is_some_and(|known| Arc::ptr_eq(known, &link)));
                known.cloned().unwrap_or_else(|| self.new_port(link))
            })
            .collect();
        let stays = |port: &SessionRef| ports.iter().any(|other| other.id() == port.id());
        let gone: Vec<SessionRef> = old.iter().filter(|port| !stays(port)).cloned().collect();
        self.remotes.has_any.store(!ports.is_empty(), Ordering::Release);
        self.remotes.ports.store(Arc::new(ports));
        for port in gone {
            self.remotes.overflown.lock().remove(&port.id());
            if let Some(link) = port.peer_link() {
                self.remotes.taken.lock().forget(link.name());
            }
            self.forget_routes(&port, &HashSet::default());
        }
    }

    fn new_port(&self, link: Arc<PeerLink>) -> SessionRef {
        let identity = self.nobody();
        let id = SubscriberId { mountpoint: identity.mountpoint.clone(), client_id: Arc::clone(link.name()) };
        SessionRef::new(Session::new(self.new_session_id(), identity), id, Receiver::Peer(link), None)
    }

    /// Takes over what another node has said: routes that it has, and such that it has no more. With `is_all` the first are all
    /// that it has; those that stay are there all the while. How many were passed over because they cannot be; `None`: it is no
    /// peer.
    pub fn set_routes(&self, peer: &str, add: &[RouteOfPeer], remove: &[RouteOfPeer], is_all: bool) -> Option<usize> {
        let _changing = self.remotes.changing.lock();
        let port = self.remotes.port(peer)?;
        let mut unsound = 0;
        for slice in add.chunks(CHANGED_AT_ONCE) {
            let mut router = self.router.write();
            for route in slice {
                if route.is_sound() && (route.group.is_none() || route.members > 0) {
                    add_route(&mut router, &port, route);
                } else {
                    unsound += 1;
                }
            }
        }
        for slice in remove.chunks(CHANGED_AT_ONCE) {
            let mut router = self.router.write();
            for route in slice {
                remove_route(&mut router, &port, &route.mountpoint, &route.filter, route.group.as_deref());
            }
        }
        if is_all {
            let all = add.iter().map(|route| RouteKey {
                mountpoint: route.mountpoint.as_str().into(),
                filter: route.filter.as_str().into(),
                group: route.group.as_deref().map(Into::into),
            });
            self.forget_routes(&port, &all.collect());
        }
        Some(unsound)
    }

    /// Removes the routes of a node but for some, in slices so that publishers get their turn.
    fn forget_routes(&self, port: &SessionRef, but_for: &HashSet<RouteKey>) {
        let mut mountpoint = String::new();
        loop {
            let mut position = 0;
            loop {
                let mut gone = Vec::new();
                let has_more = self.router.read().walk(
                    &mountpoint,
                    &mut position,
                    WALKED_AT_ONCE,
                    &mut |mountpoint, filter, found| {
                        let mut note = |group: Option<&str>| {
                            let group = group.map(Box::from);
                            let key = RouteKey { mountpoint: Arc::clone(mountpoint), filter: filter.into(), group };
                            if !but_for.contains(&key) {
                                gone.push(key);
                            }
                        };
                        if found.members().iter().any(|member| member.subscriber.id() == port.id()) {
                            note(None);
                        }
                        for group in found.groups() {
                            if group.remotes().iter().any(|remote| remote.node.id() == port.id()) {
                                note(Some(group.name()));
                            }
                        }
                    },
                );
                for slice in gone.chunks(CHANGED_AT_ONCE) {
                    let mut router = self.router.write();
                    for key in slice {
                        remove_route(&mut router, port, &key.mountpoint, &key.filter, key.group.as_deref());
                    }
                }
                if !has_more {
                    break;
                }
            }
            let Some(next) = self.router.read().mountpoint_after(&mountpoint) else { return };
            mountpoint = next;
        }
    }
}

fn add_route(router: &mut Router, port: &SessionRef, route: &RouteOfPeer) {
    let mountpoint: Arc<str> = route.mountpoint.as_str().into();
    match &route.group {
        None => router.subscribe(&mountpoint, &route.filter, None, port.clone(), AS_PUBLISHED),
        Some(group) => {
            let remote = RemoteMembers { node: port.clone(), count: route.members, has_online: route.has_online };
            router.share_remotely(&mountpoint, &route.filter, group, remote);
        }
    }
}

fn remove_route(router: &mut Router, port: &SessionRef, mountpoint: &str, filter: &str, group: Option<&str>) {
    match group {
        None => router.unsubscribe(mountpoint, filter, None, port.id()),
        Some(group) => router.unshare_remotely(mountpoint, filter, group, port.id()),
    };
}
