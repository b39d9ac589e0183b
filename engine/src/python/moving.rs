//! Sessions that go to other nodes, step by step as Python leads them.

use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::broker::{KeptSession, NotTaken, SubscriberId};
use crate::message::MessageId;
use crate::store::{Owner, Refusal};

use super::engine::Engine;
use super::store::store_error;

/// Some messages, how many there are up to their end, and whether that are all.
pub type PackedTuple = (Py<PyBytes>, usize, bool);

/// A session without its messages, and its subscriptions.
pub type KeptTuple = (Py<PyBytes>, Vec<(String, u8, u32)>);

fn error_of(reason: NotTaken) -> PyErr {
    match reason {
        NotTaken::Malformed => PyValueError::new_err("these bytes are none of a session"),
        NotTaken::Unknown => PyKeyError::new_err("no such session is on its way"),
        NotTaken::Refused(Refusal::Full) => store_error("the disk is full"),
        NotTaken::Refused(Refusal::Quota) => store_error("store.max_bytes is reached"),
        NotTaken::Refused(Refusal::Failing) => store_error("the disk fails"),
    }
}

#[pymethods]
impl Engine {
    fn begin_move(&self, py: Python<'_>, mountpoint: &str, client_id: &str) -> Option<Py<PyBytes>> {
        let packed = py.detach(|| self.node.begin_move(&SubscriberId::new(mountpoint, client_id)))?;
        Some(PyBytes::new(py, &packed).unbind())
    }

    #[pyo3(signature = (mountpoint, client_id, *, after=0, size=262_144))]
    fn pack_messages(
        &self,
        py: Python<'_>,
        mountpoint: &str,
        client_id: &str,
        after: usize,
        size: usize,
    ) -> Option<PackedTuple> {
        let id = SubscriberId::new(mountpoint, client_id);
        let packed = py.detach(|| self.work(|node, cx, _| node.pack_messages(cx, &id, after, size)))?;
        Some((PyBytes::new(py, &packed.bytes).unbind(), packed.until, packed.is_all))
    }

    fn take_session(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.work(|node, cx, _| node.take_session(cx, data))).map_err(error_of)
    }

    fn take_messages(&self, py: Python<'_>, mountpoint: &str, client_id: &str, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.node.take_messages(&SubscriberId::new(mountpoint, client_id), data)).map_err(error_of)
    }

    #[pyo3(signature = (mountpoint, client_id, *, whole))]
    fn finish_move(&self, py: Python<'_>, mountpoint: &str, client_id: &str, whole: bool) -> PyResult<()> {
        let id = SubscriberId::new(mountpoint, client_id);
        py.detach(|| self.work(|node, cx, batch| node.finish_move(cx, batch, &id, whole))).map_err(error_of)
    }

    fn close_moves(&self, py: Python<'_>, sessions: Vec<(String, String)>) {
        py.detach(|| {
            for (mountpoint, client_id) in sessions {
                self.node.close_move(&SubscriberId::new(&mountpoint, &client_id));
            }
        });
    }

    fn end_moves(&self, py: Python<'_>, sessions: Vec<(String, String)>) {
        py.detach(|| {
            self.work(|node, cx, _| {
                for (mountpoint, client_id) in sessions {
                    node.end_move(cx, &SubscriberId::new(&mountpoint, &client_id));
                }
            });
        });
    }

    fn abandon_moves(&self, py: Python<'_>, sessions: Vec<(String, String)>) {
        py.detach(|| {
            for (mountpoint, client_id) in sessions {
                self.node.abandon_move(&SubscriberId::new(&mountpoint, &client_id));
            }
        });
    }

    #[pyo3(signature = (*, watched))]
    fn watch_sessions(&self, watched: bool) {
        self.node.kept_sessions.set_watched(watched);
    }

    #[pyo3(signature = (limit=1_000))]
    fn session_changes(&self, limit: usize) -> (Vec<(String, String)>, bool) {
        let (ids, is_overflown) = self.node.session_changes(limit);
        let told = ids.into_iter().map(|id| (id.mountpoint.to_string(), id.client_id.to_string()));
        (told.collect(), is_overflown)
    }

    fn kept_session(&self, py: Python<'_>, mountpoint: &str, client_id: &str) -> Option<KeptTuple> {
        let kept = py.detach(|| self.node.kept_session(&SubscriberId::new(mountpoint, client_id)))?;
        Some((PyBytes::new(py, &kept.session).unbind(), kept.subscriptions))
    }

    fn make_session(&self, py: Python<'_>, session: Vec<u8>, subscriptions: Vec<(String, u8, u32)>) -> PyResult<()> {
        let known = KeptSession { session, subscriptions };
        py.detach(|| self.work(|node, cx, _| node.make_session(cx, &known))).map_err(error_of)
    }

    fn set_fences(&self, py: Python<'_>, sessions: Vec<(String, String)>, fences: Vec<(String, u64)>) {
        let fences = fences.into_iter().map(|(node, stamp)| (MessageId::origin_of(&node), stamp)).collect();
        py.detach(|| {
            self.work(|node, cx, _| {
                for (mountpoint, client_id) in sessions {
                    node.set_fences(cx, &SubscriberId::new(&mountpoint, &client_id), &fences);
                }
            });
        });
    }

    fn pass_turns(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        let timeout = Duration::from_millis(timeout_ms);
        py.detach(|| {
            let are_over = self.workers.get().is_none_or(|workers| workers.wait_for_turns(timeout));
            // What is published from inside, and what comes from other nodes.
            self.work(|node, _, _| node.settle());
            are_over
        })
    }

    fn lane_filled(&self, peer: &str) -> PyResult<u64> {
        self.cluster.lane_filled(peer)
    }

    fn lane_taken(&self, peer: &str, position: u64) -> PyResult<bool> {
        self.cluster.has_taken(peer, position)
    }
}
