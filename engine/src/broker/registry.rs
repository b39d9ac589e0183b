//! Who has which client id.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::SessionRef;
use super::change_set::Named;
use crate::hooks::Identity;

/// Name of a session: client ids are unique within a mountpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId {
    /// Name space.
    pub mountpoint: Arc<str>,
    /// Client id.
    pub client_id: Arc<str>,
}

impl Named for SubscriberId {
    fn name_len(&self) -> usize {
        self.client_id.len()
    }
}

impl SubscriberId {
    /// A name from its parts.
    pub fn new(mountpoint: &str, client_id: &str) -> Self {
        Self { mountpoint: mountpoint.into(), client_id: client_id.into() }
    }

    /// The name of a client's session.
    pub fn of(identity: &Identity) -> Self {
        Self { mountpoint: identity.mountpoint.clone(), client_id: identity.client_id.clone() }
    }
}

type Shard = HashMap<SubscriberId, SessionRef, ahash::RandomState>;

const SHARDS: usize = 64;

/// All sessions of clients. A connection is registered under the lock of its client id's shard, so two clients that
/// connect with one client id at the same time do so one after the other.
pub struct Registry {
    hasher: ahash::RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { hasher: ahash::RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Registry {
    /// Locks the shard of a client id.
    pub fn shard(&self, id: &SubscriberId) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(id) as usize % SHARDS;
        self.shards[index].lock()
    }

    /// The session of a client id.
    pub fn get(&self, id: &SubscriberId) -> Option<SessionRef> {
        self.shard(id).get(id).cloned()
    }

    /// Sessions, online and offline.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions with a client and sessions without.
    pub fn count_online(&self) -> (usize, usize) {
        use crate::routing::Subscriber;
        let mut counts = (0, 0);
        for shard in &self.shards {
            for session in shard.lock().values() {
                if session.is_internal() {
                    continue;
                }
                if session.is_online() { counts.0 += 1 } else { counts.1 += 1 }
            }
        }
        counts
    }

    /// The first `limit` sessions behind `after`, in order.
    pub fn page(&self, after: Option<&SubscriberId>, limit: usize) -> Vec<SessionRef> {
        let mut page: Vec<SessionRef> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            page.extend(
                shard
                    .iter()
                    .filter(|(id, session)| !session.is_internal() && after.is_none_or(|after| *id > after))
                    .map(|(_, session)| session.clone()),
            );
            if page.len() > limit.saturating_mul(4) {
                smallest(&mut page, limit);
            }
        }
        smallest(&mut page, limit);
        page
    }

    /// All sessions.
    pub fn all(&self) -> Vec<SessionRef> {
        self.shards.iter().flat_map(|shard| shard.lock().values().cloned().collect::<Vec<_>>()).collect()
    }
}

fn smallest(page: &mut Vec<SessionRef>, limit: usize) {
    page.sort_unstable_by(|left, right| left.subscriber_id().cmp(right.subscriber_id()));
    page.truncate(limit);
}
