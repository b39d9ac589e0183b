//! Claims to client ids, which Python takes to the other nodes.

use pyo3::prelude::*;

use crate::broker::{Batch, Claim, Node, SubscriberId, Yielded};
use crate::protocol::Context;
use crate::routing::Subscriber;

use super::engine::Engine;

/// A CONNECT that waits until the other nodes have heard of it.
#[pyclass(frozen, get_all, module = "strogoff._engine")]
pub struct ClaimRequest {
    /// To be given back with the verdict.
    pub ticket: u64,
    /// Name space.
    pub mountpoint: String,
    /// Which client.
    pub client_id: String,
    /// Hybrid logical time.
    pub stamp: u64,
    /// Whatever session there is ends.
    pub clean_start: bool,
}

#[pymethods]
impl ClaimRequest {
    #[new]
    #[pyo3(signature = (*, ticket=0, mountpoint="", client_id="", stamp=0, clean_start=true))]
    fn new(ticket: u64, mountpoint: &str, client_id: &str, stamp: u64, clean_start: bool) -> Self {
        Self { ticket, mountpoint: mountpoint.to_owned(), client_id: client_id.to_owned(), stamp, clean_start }
    }
}

/// Mountpoint, client id, stamp, clean start.
pub type ClaimTuple = (String, String, u64, bool);

#[pymethods]
impl Engine {
    #[pyo3(signature = (*, asked))]
    fn ask_about_claims(&self, asked: bool) {
        self.node.ask_about_claims(asked);
    }

    #[pyo3(signature = (claims, *, wins_ties))]
    fn give_way(&self, py: Python<'_>, claims: Vec<ClaimTuple>, wins_ties: bool) -> Vec<&'static str> {
        let give_way = |node: &Node, cx: &mut Context, batch: &mut Batch| {
            let found = claims.into_iter().map(|(mountpoint, client_id, stamp, clean_start)| {
                let id = SubscriberId::new(&mountpoint, &client_id);
                match node.give_way(cx, batch, &Claim { id: &id, stamp, wins_ties, clean_start }) {
                    Yielded::Nothing => "nothing",
                    Yielded::Kept => "kept",
                    Yielded::Newer => "newer",
                }
            });
            found.collect()
        };
        py.detach(|| self.work(give_way))
    }

    fn claims_since(&self, py: Python<'_>, stamp: u64) -> Vec<ClaimTuple> {
        py.detach(|| {
            let claims = self.node.claims_since(stamp).into_iter();
            let told = claims.filter(|(session, ..)| session.is_announced() && session.main().is_none());
            told.map(|(session, stamp, is_clean)| {
                let id = session.subscriber_id();
                (id.mountpoint.to_string(), id.client_id.to_string(), stamp, is_clean)
            })
            .collect()
        })
    }

    fn observe_stamp(&self, stamp: u64) {
        self.node.observe_stamp(stamp);
    }

    fn stamp(&self) -> u64 {
        self.node.stamp(self.node.clock.now())
    }
}
