//! Retained messages between nodes, as the control planes lead them.

use pyo3::prelude::*;

use crate::broker::RetainedCursor;
use crate::message::MessageId;

use super::engine::Engine;

/// Stamp and origin, whether it was deleted, and when it expires as Unix time in ms.
pub type KnownTuple = (u64, u32, bool, Option<u64>);
/// Mountpoint and topic, stamp and origin, and when it expires as Unix time in ms.
pub type RetainedTuple = (String, String, u64, u32, Option<u64>);
/// Where a walk goes on: mountpoint and place.
pub type CursorTuple = (String, u32);

#[pymethods]
impl Engine {
    #[pyo3(signature = (*, watched))]
    fn watch_retained(&self, watched: bool) {
        self.node.retained_topics.set_watched(watched);
    }

    #[pyo3(signature = (limit=1_000))]
    fn retained_changes(&self, limit: usize) -> (Vec<(String, String)>, bool) {
        let (topics, is_overflown) = self.node.retained_changes(limit);
        let told = topics.into_iter().map(|changed| (changed.mountpoint.to_string(), changed.topic.into()));
        (told.collect(), is_overflown)
    }

    fn known_retained(&self, mountpoint: &str, topic: &str) -> Option<KnownTuple> {
        let known = self.node.known_retained(mountpoint, topic)?;
        let MessageId { stamp, origin } = known.message_id;
        Some((stamp, origin, known.is_deleted, self.node.expiry_unix_ms(known.expires_at)))
    }

    #[pyo3(signature = (after=None, limit=1_000))]
    fn retained_page(
        &self,
        py: Python<'_>,
        after: Option<CursorTuple>,
        limit: usize,
    ) -> (Vec<RetainedTuple>, Option<CursorTuple>) {
        let cursor =
            after.map(|(mountpoint, position)| RetainedCursor { mountpoint: mountpoint.as_str().into(), position });
        let (found, next) = py.detach(|| self.node.retained_page(cursor, limit.max(1)));
        let found = found.into_iter().map(|(name, known)| {
            let MessageId { stamp, origin } = known.message_id;
            let expires_at = self.node.expiry_unix_ms(known.expires_at);
            (name.mountpoint.to_string(), name.topic.into(), stamp, origin, expires_at)
        });
        (found.collect(), next.map(|cursor| (cursor.mountpoint.to_string(), cursor.position)))
    }

    fn forget_retained(&self, py: Python<'_>, mountpoint: &str, topic: &str, stamp: u64, origin: u32) -> bool {
        py.detach(|| self.node.forget_retained_of(mountpoint, topic, MessageId { origin, stamp }))
    }

    fn send_retained(&self, py: Python<'_>, peer: &str, topics: Vec<(String, String)>) -> Option<usize> {
        py.detach(|| self.node.send_retained(peer, topics))
    }
}
