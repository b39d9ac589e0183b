//! Which connection has a client id, when several nodes have clients of the same: the one that claimed it last.
//!
//! Each CONNECT claims its client id with a stamp in hybrid logical time. Where the node is in a cluster the control plane
//! tells the others of the claim before the client gets its session, and they give way here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::codec::ReasonCode;
use crate::message::Millis;
use crate::protocol::{Context, Ending, Expiry};

use super::registration::say_goodbye;
use super::{Batch, Node, SessionRef, SubscriberId};

/// What a claim of another node has found here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yielded {
    /// No session, any more.
    Nothing,
    /// A session without a connection, which lasts.
    Kept,
    /// A connection that claimed the client id later: the other one has to give way.
    Newer,
}

/// A claim as other nodes are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Whose client id.
    pub id: &'a SubscriberId,
    /// Hybrid logical time.
    pub stamp: u64,
    /// Of two claims with one stamp the other node's counts.
    pub wins_ties: bool,
    /// The session ends, whatever its client asked for.
    pub clean_start: bool,
}

/// Claims of connections to one client id that wait for the other nodes.
#[derive(Debug, Default)]
struct Waiting {
    stamps: SmallVec<[u64; 2]>,
    /// The latest claim of another node meanwhile; what is older than that does not stand.
    overtaken_by: Option<u64>,
}

/// Claims of this node that wait for the others.
#[derive(Debug, Default)]
pub struct Claims {
    are_asked: AtomicBool,
    waiting: Mutex<HashMap<SubscriberId, Waiting, ahash::RandomState>>,
}

impl Claims {
    /// Another node claims a client id: whether a later claim to it waits here. Earlier ones do not stand any more.
    fn overtake(&self, claim: &Claim<'_>) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(waiting) = waiting.get_mut(claim.id) else { return false };
        let latest = waiting.stamps.iter().copied().max().unwrap_or_default();
        if claim.is_older_than(latest) {
            return true;
        }
        waiting.overtaken_by = waiting.overtaken_by.max(Some(claim.stamp));
        false
    }
}

impl Claim<'_> {
    /// Whether a claim of this node with such a stamp is the later one.
    fn is_older_than(&self, stamp: u64) -> bool {
        stamp > self.stamp || (stamp == self.stamp && !self.wins_ties)
    }
}

impl Node {
    /// The stamp of something that happens now.
    pub fn stamp(&self, now: Millis) -> u64 {
        self.remotes.stamp(self.clock.wall_ms(now))
    }

    /// Another node has given this stamp: what happens here from now on is later.
    pub fn observe_stamp(&self, stamp: u64) {
        self.remotes.observe(stamp);
    }

    /// Whether a CONNECT waits until the control plane has told other nodes of its claim.
    #[inline]
    pub fn are_claims_asked(&self) -> bool {
        self.claims.are_asked.load(Ordering::Relaxed)
    }

    /// Says whether it does.
    pub fn ask_about_claims(&self, are_asked: bool) {
        self.claims.are_asked.store(are_asked, Ordering::Relaxed);
    }

    /// A claim begins to wait for the other nodes.
    pub fn begin_claim(&self, id: &SubscriberId, stamp: u64) {
        self.claims.waiting.lock().entry(id.clone()).or_default().stamps.push(stamp);
    }

    /// Whether no other node has claimed the client id since.
    pub fn does_claim_stand(&self, id: &SubscriberId, stamp: u64) -> bool {
        let waiting = self.claims.waiting.lock();
        waiting.get(id).and_then(|waiting| waiting.overtaken_by).is_none_or(|other| other < stamp)
    }

    /// The claim waits no more. Whether it stands.
    pub fn end_claim(&self, id: &SubscriberId, stamp: u64) -> bool {
        let mut all = self.claims.waiting.lock();
        let Some(waiting) = all.get_mut(id) else { return true };
        let stands = waiting.overtaken_by.is_none_or(|other| other < stamp);
        if let Some(position) = waiting.stamps.iter().position(|known| *known == stamp) {
            waiting.stamps.swap_remove(position);
        }
        if waiting.stamps.is_empty() {
            all.remove(id);
        }
        stands
    }

    /// Gives way to a claim of another node: ends the connection that claimed the client id before, and the session where it
    /// does not last.
    pub fn give_way(&self, cx: &mut Context, batch: &mut Batch, claim: &Claim<'_>) -> Yielded {
        self.remotes.observe(claim.stamp);
        if self.claims.overtake(claim) {
            return Yielded::Newer;
        }
        let Some(session) = self.registry.get(claim.id) else { return Yielded::Nothing };
        let mut state = session.lock();
        if state.is_ended {
            return Yielded::Nothing;
        }
        if let Some(link) = &state.link {
            if claim.is_older_than(link.claimed_at) {
                return Yielded::Newer;
            }
            say_goodbye(cx, batch, &mut state, ReasonCode::SESSION_TAKEN_OVER);
            if claim.clean_start {
                state.session.expiry = Expiry::WithConnection;
            }
            let has_delay = state.session.will.as_ref().is_some_and(|will| will.delay_s > 0);
            let keeps_will = cx.settings.suppress_lwt_on_session_takeover || (has_delay && !claim.clean_start);
            self.end_connection(cx, batch, &session, state, &Ending::TakenOver { keeps_will });
        } else if claim.clean_start {
            drop(state);
            self.disconnect_session(cx, batch, &session, ReasonCode::SESSION_TAKEN_OVER, true);
        } else {
            // The client is back in time, if elsewhere: its will is not sent [MQTT-3.1.3-9].
            state.pending_will = None;
            state.will_at = None;
            self.schedule(&mut state, &session);
            self.record_session(&mut state);
            drop(state);
        }
        if session.lock().is_ended { Yielded::Nothing } else { Yielded::Kept }
    }

    /// The connections that claimed their client ids at a stamp or later, each with its own, and whether it began with a new
    /// session.
    pub fn claims_since(&self, stamp: u64) -> Vec<(SessionRef, u64, bool)> {
        let mut claims = Vec::new();
        for session in self.registry.all().into_iter().filter(|session| !session.is_internal()) {
            let claim = session.lock().link.as_ref().map(|link| (link.claimed_at, link.is_clean));
            let claim = claim.filter(|(claimed_at, _)| *claimed_at >= stamp);
            claims.extend(claim.map(|(claimed_at, is_clean)| (session, claimed_at, is_clean)));
        }
        claims
    }
}
