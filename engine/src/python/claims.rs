//! Claims to client ids, which Python takes to the other nodes.

use pyo3::prelude::*;

use crate::broker::{Batch, Claim, Node, SubscriberId, Yielded};
use crate::protocol::Context;
use crate::routing::Subscriber;

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

/// Gives way to claims of another node; what each has found.
pub fn give_way(
    node: &Node,
    cx: &mut Context,
    batch: &mut Batch,
    claims: Vec<ClaimTuple>,
    wins_ties: bool,
) -> Vec<&'static str> {
    claims
        .into_iter()
        .map(|(mountpoint, client_id, stamp, clean_start)| {
            let id = SubscriberId { mountpoint: mountpoint.into(), client_id: client_id.into() };
            let claim = Claim { id: &id, stamp, wins_ties, clean_start };
            match node.give_way(cx, batch, &claim) {
                Yielded::Nothing => "nothing",
                Yielded::Kept => "kept",
                Yielded::Newer => "newer",
            }
        })
        .collect()
}

/// The connections that claimed their client ids at a stamp or later.
pub fn claims_since(node: &Node, stamp: u64) -> Vec<ClaimTuple> {
    let claims = node.claims_since(stamp);
    let told = claims.iter().filter(|(session, ..)| session.is_announced() && session.main().is_none());
    told.map(|(session, stamp, is_clean)| {
        let id = session.subscriber_id();
        (id.mountpoint.to_string(), id.client_id.to_string(), *stamp, *is_clean)
    })
    .collect()
}
