//! The end of a connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::broker::events::Level;
use crate::broker::{SubscriberId, name_of};
use crate::codec::ReasonCode;
use crate::message::Millis;
use crate::metrics::{Counter, Versioned};
use crate::protocol::Ending;

use super::slot::{Pending, Stage};
use super::worker::Worker;

/// How long a peer may take to read the last packet and close its side.
const DRAIN_MS: Millis = 1_000;

impl Worker {
    /// Ends a connection: DISCONNECT where there is one to send, the session's business, the log, then the socket.
    pub(super) fn close(&mut self, key: usize, ending: Ending) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let stage = std::mem::replace(&mut slot.stage, Stage::Draining);
        let connection_id = slot.connection_id;
        if let Some((ticket, _)) = slot.ticket.take() {
            self.node.close_ticket(ticket);
            self.tickets.take(ticket);
        }
        if let Stage::Deciding(deciding) = &stage
            && deciding.pending == Pending::Claim
        {
            let registration = &deciding.registration;
            self.node.end_claim(&SubscriberId::of(&registration.identity), registration.stamp);
        }
        self.count_ending(key, &stage, &ending);
        let is_to_drain = match stage {
            Stage::Serving(session) => {
                let mut locked = session.lock();
                let is_ours = locked.link.as_ref().is_some_and(|link| link.connection_id == connection_id);
                if is_ours {
                    match ending {
                        Ending::Broken { reason, cause } => {
                            locked.session.write_disconnect(&mut self.cx, reason, Some(&cause.to_string()));
                        }
                        Ending::Administrative { reason } => {
                            locked.session.write_disconnect(&mut self.cx, reason, None);
                        }
                        Ending::Client { .. } | Ending::Lost | Ending::TakenOver { .. } => {}
                    }
                    if !matches!(ending, Ending::Lost) {
                        self.batch.flush(&mut self.cx, &mut locked, &session);
                    }
                }
                drop(locked);
                if is_ours {
                    self.node.connection_ended(&mut self.cx, &mut self.batch, &session, connection_id, &ending);
                }
                // A layer ends with an exchange, so its peer still listens after DISCONNECT.
                let is_layered = self.slots.get(key).is_some_and(|slot| slot.transport.is_layered());
                match ending {
                    Ending::Lost => false,
                    Ending::Client { .. } => is_layered,
                    Ending::Broken { .. } | Ending::Administrative { .. } | Ending::TakenOver { .. } => true,
                }
            }
            Stage::Connecting | Stage::Deciding(_) => !matches!(ending, Ending::Lost),
            Stage::Draining => false,
        };
        if is_to_drain { self.drain(key) } else { self.remove(key) }
    }

    /// Closes our side and waits until the peer has read what we said: closing at once would reset the connection when
    /// bytes of the peer are unread, and the reset may overtake our last packet.
    pub(super) fn drain(&mut self, key: usize) {
        let now = self.cx.now;
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.is_read_closed {
            return self.remove(key);
        }
        slot.stage = Stage::Draining;
        slot.unread = Vec::new();
        slot.drain_until = now + DRAIN_MS;
        slot.throttled_until = 0;
        slot.is_output_full = false;
        slot.has_backlog = false;
        self.arm(key, now + DRAIN_MS);
        self.finish(key);
        // Not read here: this may run in the middle of a read, which has the buffer.
        self.read_again(key);
    }

    /// Says goodbye in all layers and closes our side, at once or when the socket takes it.
    pub(super) fn finish(&mut self, key: usize) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        if slot.is_finished {
            return;
        }
        match slot.transport.finish() {
            Ok(true) => slot.is_finished = true,
            Ok(false) => {
                slot.wants_write = true;
                self.watch_if_needed(key);
            }
            Err(_) => self.remove(key),
        }
    }

    /// Forgets a connection and closes its socket.
    pub(super) fn remove(&mut self, key: usize) {
        let Some(slot) = self.slots.try_remove(key) else { return };
        self.disarm(key, slot.next_check);
        slot.listener.leave();
        self.mailbox.connections.fetch_sub(1, Ordering::Relaxed);
        self.cx.tally.add(Counter::SocketClose, 1);
        self.mailbox.websockets.fetch_sub(slot.listener.options.kind.is_websocket().into(), Ordering::Relaxed);
        self.mailbox.handshakes.fetch_sub(slot.awaits_tls().into(), Ordering::Relaxed);
        if slot.transport.is_layered() && !slot.is_finished {
            // A last word, if the socket takes it.
            let _ = slot.transport.finish();
        }
        if Arc::strong_count(&slot.transport) > 1 {
            // A session holds it for a moment longer, while another connection takes over; it is to be closed now.
            slot.transport.abort();
        }
    }

    /// Counts and logs how a connection ended.
    fn count_ending(&mut self, key: usize, stage: &Stage, ending: &Ending) {
        let Some(slot) = self.slots.get(key) else { return };
        let Ending::Broken { reason, cause } = *ending else { return };
        let mut fields = vec![("peer", slot.peer.to_string()), ("reason_code", format!("0x{:02X}", reason.0))];
        let mut is_v5 = false;
        match stage {
            Stage::Serving(session) => {
                let identity = session.lock().session.identity.clone();
                is_v5 = identity.protocol_version == 5;
                fields.extend(name_of(&identity));
            }
            Stage::Deciding(deciding) => fields.extend(name_of(&deciding.registration.identity)),
            Stage::Connecting | Stage::Draining => {}
        }
        match reason {
            ReasonCode::KEEP_ALIVE_TIMEOUT if matches!(stage, Stage::Serving(_)) => {
                self.cx.tally.add_versioned(Versioned::KeepaliveExpired, is_v5, 1);
            }
            ReasonCode::PACKET_TOO_LARGE => self.cx.tally.add_versioned(Versioned::InvalidMsgSizeError, is_v5, 1),
            ReasonCode::KEEP_ALIVE_TIMEOUT | ReasonCode::MAXIMUM_CONNECT_TIME => {}
            _ => self.cx.tally.add(Counter::ProtocolError, 1),
        }
        self.node.log(&mut self.cx, Level::Warning, format!("connection closed: {cause}"), fields);
    }
}
