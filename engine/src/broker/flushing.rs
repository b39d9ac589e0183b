//! Connections that have something to write, and the end of a worker's turn, which flushes them.
//!
//! What tells of something that the store has not kept yet, or that other nodes have not taken yet, is held until they have.

use crate::protocol::{Context, UNKNOWN_LSN};

use super::{Batch, Flushed, Node, SessionRef, SessionState};

/// Rounds of refilling and flushing one connection before the others get their turn.
const FLUSH_ROUNDS_MAX: usize = 16;

impl Batch {
    /// Notes that a connection has something to write.
    #[inline]
    pub fn flush_later(&mut self, state: &mut SessionState, session: &SessionRef) {
        let (Some(link), Some(connection)) = (&mut state.link, &mut state.session.connection) else { return };
        if connection.output.is_empty() {
            self.pool.take_back(connection);
        } else if !link.is_flush_due && !link.is_blocked && !link.is_held {
            link.is_flush_due = true;
            self.flush_due.push(session.clone());
        }
    }

    /// Whether a connection waits for its flush.
    pub fn has_flush_due(&self) -> bool {
        !self.flush_due.is_empty() || self.outward.has_due()
    }

    /// Flushes every connection that was noted, once; first the links to other nodes, whose answers somebody may wait for.
    pub fn flush_all(&mut self, node: &Node, cx: &mut Context) {
        self.outward.flush();
        let mut due = std::mem::take(&mut self.flush_due);
        for session in due.drain(..) {
            let mut state = session.lock();
            if let Some(link) = &mut state.link {
                link.is_flush_due = false;
            }
            let is_done = self.flush(cx, &mut state, &session);
            node.tell(cx, &mut state, &session);
            if !is_done {
                self.flush_later(&mut state, &session);
            }
        }
        if self.flush_due.is_empty() {
            self.flush_due = due;
        }
    }

    /// The store has kept more: whoever waited for that is flushed at the end of the turn.
    pub fn release_held(&mut self) {
        let held = self.take_held();
        self.try_held(held);
    }

    /// Connections that somebody else noted as waiting for the store are flushed at the end of the turn, if it is time.
    pub fn try_held(&mut self, held: Vec<SessionRef>) {
        for session in held {
            let mut state = session.lock();
            if let Some(link) = &mut state.link {
                link.is_held = false;
            }
            self.flush_later(&mut state, &session);
        }
    }

    /// Whether a connection waits for the store.
    pub fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes out the connections that wait for the store: the caller sees to them.
    pub fn take_held(&mut self) -> Vec<SessionRef> {
        std::mem::take(&mut self.held)
    }

    /// Writes what waits and sends on what was queued behind it. False: there is more and the socket would take it.
    pub fn flush(&mut self, cx: &mut Context, state: &mut SessionState, session_ref: &SessionRef) -> bool {
        let SessionState { session, link: Some(link), .. } = state else { return true };
        if link.is_blocked {
            return true;
        }
        for _ in 0..FLUSH_ROUNDS_MAX {
            let Some(connection) = &mut session.connection else { return true };
            match link.flush(cx, connection) {
                Flushed::All => {}
                Flushed::Held => {
                    // Whoever is about to hand over what it waits for flushes it afterwards.
                    if connection.waits_for != UNKNOWN_LSN && !link.is_held {
                        link.is_held = true;
                        self.held.push(session_ref.clone());
                    }
                    return true;
                }
                Flushed::Blocked | Flushed::Broken => return true,
            }
            if !session.has_waiting() {
                if let Some(connection) = &mut session.connection {
                    self.pool.take_back(connection);
                }
                return true;
            }
            session.refill(cx);
            if !cx.changes.is_empty() {
                // What was refilled goes out once it is written down, which the caller sees to.
                return false;
            }
            if session.connection.as_ref().is_none_or(|connection| connection.output.is_empty()) {
                return true;
            }
        }
        false
    }
}
