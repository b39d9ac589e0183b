//! Accepting: from listening sockets to connections, spread over the workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use crate::broker::Peer;
use crate::broker::events::Level;
use crate::codec::ReasonCode;
use crate::message::Millis;
use crate::metrics::Counter;
use crate::protocol::Ending;
use crate::transport::Transport;

use super::slot::Slot;
use super::worker::{FIRST_LISTENER, Worker};
use super::{Acceptor, Kind, ListenerState, Mail, Mailbox};

/// Connections accepted before those that are open get their turn.
const ACCEPTS_MAX: usize = 256;
/// When accepting failed or the listener is full it is tried again after so long.
const ACCEPT_RETRY_MS: Millis = 50;
/// A worker with this many connections more than another, and an eighth, lets that one accept.
const IMBALANCE_MAX: usize = 4;
/// A worker with this many TLS handshakes more than another lets that one accept.
const HANDSHAKE_IMBALANCE_MAX: usize = 2;

/// A listener that this worker accepts from.
pub(super) struct LocalListener {
    pub state: Arc<ListenerState>,
    socket: Acceptor,
    /// Of which time of the listener the socket is.
    generation: u64,
    /// Connections may wait in the backlog.
    pub is_pending: bool,
    /// Who comes next had to wait because of `max_connection_rate`.
    is_held_back: bool,
}

impl Worker {
    pub(super) fn accept(&mut self, index: usize) {
        if let Some(Some(listener)) = self.listeners.get_mut(index) {
            listener.is_pending = true;
        }
        self.accept_pending(index);
    }

    /// Accepts what waits, unless another worker has fewer connections: then that one goes on. One worker accepts at a
    /// time, so that a client that comes wakes one thread, and a crowd of them one busy thread.
    pub(super) fn accept_pending(&mut self, index: usize) {
        for _ in 0..ACCEPTS_MAX {
            let Some(Some(listener)) = self.listeners.get_mut(index) else { return };
            let loads = self.colleagues.iter().map(|colleague| Load::of(colleague));
            if let Some(other) = less_busy(Load::of(&self.mailbox), loads, listener.state.options.kind.is_tls()) {
                let colleague = Arc::clone(&self.colleagues[other]);
                return self.pass_on(index, &colleague);
            }
            if listener.state.generation.load(Ordering::Acquire) != listener.generation {
                self.listeners[index] = None;
                return;
            }
            if let Some(rate) = &listener.state.rate {
                let ready_at = rate.lock().ready_at(self.cx.now);
                if ready_at > self.cx.now {
                    listener.is_held_back = true;
                    self.accept_retry_at = self.accept_retry_at.min(ready_at);
                    return;
                }
            }
            if !listener.state.enter() {
                self.accept_retry_at = self.accept_retry_at.min(self.cx.now + ACCEPT_RETRY_MS);
                return;
            }
            let was_held_back = std::mem::take(&mut listener.is_held_back);
            match listener.socket.accept() {
                Ok((socket, peer)) => {
                    let state = Arc::clone(&listener.state);
                    if let Some(rate) = &state.rate {
                        rate.lock().take();
                        self.cx.tally.add(Counter::ConnectionRateLimited, was_held_back.into());
                    }
                    self.open(socket, peer, state);
                }
                Err(error) => {
                    listener.state.leave();
                    match error.kind() {
                        io::ErrorKind::WouldBlock => listener.is_pending = false,
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                        _ => {
                            self.cx.tally.add(Counter::AcceptError, 1);
                            self.accept_retry_at = self.accept_retry_at.min(self.cx.now + ACCEPT_RETRY_MS);
                            let name = listener.state.options.name.to_string();
                            let fields = vec![("listener", name), ("error", error.to_string())];
                            self.node.log(&mut self.cx, Level::Error, "a connection could not be accepted", fields);
                        }
                    }
                    return;
                }
            }
        }
        self.accept_retry_at = self.cx.now;
    }

    /// Gives a listener to another worker.
    fn pass_on(&mut self, index: usize, colleague: &Mailbox) {
        let Some(mut listener) = self.listeners.get_mut(index).and_then(Option::take) else { return };
        // It fails only when the socket is not watched, which is what is wanted.
        let _ = self.poll.registry().deregister(&mut listener.socket);
        let LocalListener { state, socket, generation, .. } = listener;
        colleague.send(Mail::Listen { state, socket, generation });
    }

    /// Takes a socket whose other end a part of the broker has.
    pub(super) fn adopt(&mut self, state: Arc<ListenerState>, socket: mio::net::TcpStream) {
        if !self.is_stopping && state.enter() {
            self.open(socket, Peer::Local, state);
        }
    }

    fn open(&mut self, mut socket: mio::net::TcpStream, peer: Peer, listener: Arc<ListenerState>) {
        self.cx.tally.add(Counter::SocketOpen, 1);
        listener.total.fetch_add(1, Ordering::Relaxed);
        let key = self.slots.vacant_key();
        let watched = self.poll.registry().register(&mut socket, Token(key), Interest::READABLE);
        let kind = listener.options.kind;
        let opened = watched.and_then(|()| {
            if kind == Kind::Tcp {
                Ok(Transport::plain(socket))
            } else {
                Transport::layered(socket, listener.tls.load().as_deref())
            }
        });
        let transport = match opened {
            Ok(transport) => transport,
            Err(error) => {
                self.cx.tally.add(Counter::AcceptError, 1);
                self.cx.tally.add(Counter::SocketClose, 1);
                listener.leave();
                let fields = vec![("peer", peer.to_string()), ("error", error.to_string())];
                self.node.log(&mut self.cx, Level::Error, "a connection could not be watched", fields);
                return;
            }
        };
        self.mailbox.connections.fetch_add(1, Ordering::Relaxed);
        self.mailbox.websockets.fetch_add(kind.is_websocket().into(), Ordering::Relaxed);
        let slot = Slot::new(transport, self.node.new_connection_id(), peer, listener, self.cx.now);
        let limit = slot.opening.time_limit(&slot.listener.options, &self.cx.settings);
        self.mailbox.handshakes.fetch_add(slot.awaits_tls().into(), Ordering::Relaxed);
        self.slots.insert(Box::new(slot));
        self.arm(key, self.cx.now.saturating_add(limit));
    }

    pub(super) fn listen(&mut self, state: Arc<ListenerState>, mut socket: Acceptor, generation: u64) {
        if self.is_stopping || state.generation.load(Ordering::Acquire) != generation {
            // It was closed while it was on its way to this worker.
            return;
        }
        let index = self.listeners.iter().position(Option::is_none).unwrap_or(self.listeners.len());
        let token = Token(FIRST_LISTENER + index);
        if let Err(error) = self.poll.registry().register(&mut socket, token, Interest::READABLE) {
            let fields = vec![("listener", state.options.name.to_string()), ("error", error.to_string())];
            self.node.log(&mut self.cx, Level::Error, "a worker cannot watch a listener", fields);
            return;
        }
        if index == self.listeners.len() {
            self.listeners.push(None);
        }
        let listener = LocalListener { state, socket, generation, is_pending: true, is_held_back: false };
        self.listeners[index] = Some(listener);
        self.accept_pending(index);
    }

    /// Forgets a listening socket that is shut, and ends its connections if asked.
    pub(super) fn unlisten(&mut self, listener_id: u64, kill_sessions: bool) {
        for place in &mut self.listeners {
            let is_over = |listener: &LocalListener| {
                listener.state.id == listener_id
                    && listener.state.generation.load(Ordering::Acquire) != listener.generation
            };
            if place.as_ref().is_some_and(is_over) {
                *place = None;
            }
        }
        if kill_sessions {
            let reason = ReasonCode::ADMINISTRATIVE_ACTION;
            self.close_all(&Ending::Administrative { reason }, |slot| slot.listener.id == listener_id);
        }
    }
}

/// What a worker has to do.
#[derive(Debug, Clone, Copy)]
struct Load {
    connections: usize,
    handshakes: usize,
}

impl Load {
    fn of(mailbox: &Mailbox) -> Self {
        Self {
            connections: mailbox.connections.load(Ordering::Relaxed),
            handshakes: mailbox.handshakes.load(Ordering::Relaxed),
        }
    }

    fn has_many_fewer_connections(self, other: Self) -> bool {
        self.connections + IMBALANCE_MAX + other.connections / 8 < other.connections
    }
}

/// Which worker should take the next connections, if it is one of the colleagues.
///
/// That is the one with the fewest connections, if it has many fewer. Where a handshake of TLS comes first, it is also the
/// one with the fewest of these, since they cost more than anything that the connections do for a while: a crowd that comes
/// at once would otherwise wait for one worker. Connections come first, or two workers could pass a listener to each other
/// for ever, each for its own reason.
fn less_busy(own: Load, colleagues: impl Iterator<Item = Load> + Clone, is_tls: bool) -> Option<usize> {
    let fewest = colleagues.clone().enumerate().min_by_key(|(_, load)| load.connections)?;
    if fewest.1.has_many_fewer_connections(own) {
        return Some(fewest.0);
    }
    colleagues
        .enumerate()
        .filter(|(_, load)| is_tls && !own.has_many_fewer_connections(*load))
        .min_by_key(|(_, load)| load.handshakes)
        .filter(|(_, load)| load.handshakes + HANDSHAKE_IMBALANCE_MAX < own.handshakes)
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(is_tls: bool, own: (usize, usize), colleagues: &[(usize, usize)]) -> Option<usize> {
        let load = |(connections, handshakes)| Load { connections, handshakes };
        less_busy(load(own), colleagues.iter().copied().map(load), is_tls)
    }

    #[test]
    fn connections_are_spread_with_some_tolerance() {
        assert_eq!(chosen(false, (4, 0), &[(0, 0)]), None);
        assert_eq!(chosen(false, (5, 0), &[(0, 0)]), Some(0));
        assert_eq!(chosen(false, (1_000, 0), &[(900, 0), (875, 0)]), None);
        assert_eq!(chosen(false, (1_000, 0), &[(900, 0), (870, 0)]), Some(1));
        assert_eq!(chosen(true, (1_000, 0), &[]), None);
    }

    #[test]
    fn handshakes_of_tls_are_spread_within_that_tolerance() {
        assert_eq!(chosen(true, (1_000, 3), &[(1_000, 1), (1_000, 0)]), Some(1));
        assert_eq!(chosen(true, (1_000, 2), &[(1_000, 0)]), None);
        assert_eq!(chosen(false, (1_000, 3), &[(1_000, 0)]), None);
    }

    #[test]
    fn no_two_workers_pass_a_listener_to_each_other_for_ever() {
        let loads = [(0, 0), (0, 9), (6, 0), (6, 9), (100, 0), (100, 9), (115, 4), (120, 0), (1_000, 9)];
        for one in loads {
            for other in loads {
                for is_tls in [false, true] {
                    let passes = [chosen(is_tls, one, &[other]), chosen(is_tls, other, &[one])];
                    assert!(passes.contains(&None), "{one:?} {other:?}");
                }
            }
        }
    }
}
