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

fn id_of(mountpoint: &str, client_id: &str) -> SubscriberId {
    SubscriberId { mountpoint: mountpoint.into(), client_id: client_id.into() }
}

fn error_of(reason: NotTaken) -> PyErr {
    match reason {
        NotTaken::Malformed => PyValueError::new_err("these bytes are none of a session"),
        NotTaken::Unknown => PyKeyError::new_err("no such session is on its way"),
        NotTaken::Refused(Refusal::Full) => store_error("the disk is full"),
        NotTaken::Refused(Refusal::Quota) => store_error("store.max_bytes is reached"),
        NotTaken::Refused(Refusal::Failing) => store_error("the disk fails"),
    }
}

impl Engine {
    pub(super) fn begin(&self, py: Python<'_>, mountpoint: &str, client_id: &str) -> Option<Py<PyBytes>> {
        let packed = py.detach(|| self.node.begin_move(&id_of(mountpoint, client_id)))?;
        Some(PyBytes::new(py, &packed).unbind())
    }

    pub(super) fn pack(
        &self,
        py: Python<'_>,
        mountpoint: &str,
        client_id: &str,
        after: usize,
        bytes_max: usize,
    ) -> Option<PackedTuple> {
        let id = id_of(mountpoint, client_id);
        let packed = py.detach(|| self.work(|node, cx, _| node.pack_messages(cx, &id, after, bytes_max)))?;
        Some((PyBytes::new(py, &packed.bytes).unbind(), packed.until, packed.is_all))
    }

    pub(super) fn take(&self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.work(|node, cx, _| node.take_session(cx, data))).map_err(error_of)
    }

    pub(super) fn take_packed(&self, py: Python<'_>, mountpoint: &str, client_id: &str, data: &[u8]) -> PyResult<()> {
        py.detach(|| self.node.take_messages(&id_of(mountpoint, client_id), data)).map_err(error_of)
    }

    pub(super) fn finish(&self, py: Python<'_>, mountpoint: &str, client_id: &str, is_whole: bool) -> PyResult<()> {
        let id = id_of(mountpoint, client_id);
        py.detach(|| self.work(|node, cx, batch| node.finish_move(cx, batch, &id, is_whole))).map_err(error_of)
    }

    pub(super) fn close(&self, py: Python<'_>, sessions: Vec<(String, String)>) {
        py.detach(|| {
            for (mountpoint, client_id) in sessions {
                self.node.close_move(&id_of(&mountpoint, &client_id));
            }
        });
    }

    pub(super) fn end(&self, py: Python<'_>, sessions: Vec<(String, String)>, has_gone: bool) {
        py.detach(|| {
            self.work(|node, cx, _| {
                for (mountpoint, client_id) in sessions {
                    let id = id_of(&mountpoint, &client_id);
                    if has_gone {
                        node.end_move(cx, &id);
                    } else {
                        node.abandon_move(&id);
                    }
                }
            });
        });
    }

    pub(super) fn changes_of_sessions(&self, limit: usize) -> (Vec<(String, String)>, bool) {
        let (ids, is_overflown) = self.node.session_changes(limit);
        let told = ids.into_iter().map(|id| (id.mountpoint.to_string(), id.client_id.to_string()));
        (told.collect(), is_overflown)
    }

    pub(super) fn kept(&self, py: Python<'_>, mountpoint: &str, client_id: &str) -> Option<KeptTuple> {
        let kept = py.detach(|| self.node.kept_session(&id_of(mountpoint, client_id)))?;
        Some((PyBytes::new(py, &kept.session).unbind(), kept.subscriptions))
    }

    pub(super) fn make(&self, py: Python<'_>, session: Vec<u8>, subscriptions: Vec<(String, u8, u32)>) -> PyResult<()> {
        let known = KeptSession { session, subscriptions };
        py.detach(|| self.work(|node, cx, _| node.make_session(cx, &known))).map_err(error_of)
    }

    pub(super) fn fence(&self, py: Python<'_>, sessions: Vec<(String, String)>, fences: Vec<(String, u64)>) {
        let fences = fences.into_iter().map(|(node, stamp)| (MessageId::origin_of(&node), stamp)).collect();
        py.detach(|| {
            self.work(|node, cx, _| {
                for (mountpoint, client_id) in sessions {
                    node.set_fences(cx, &id_of(&mountpoint, &client_id), &fences);
                }
            });
        });
    }

    pub(super) fn wait_for_turns(&self, py: Python<'_>, timeout: Duration) -> bool {
        py.detach(|| {
            let are_over = self.workers.get().is_none_or(|workers| workers.wait_for_turns(timeout));
            // What is published from inside, and what comes from other nodes.
            self.work(|node, _, _| node.settle());
            are_over
        })
    }
}
