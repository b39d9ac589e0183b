//! A connection as its worker sees it.

use std::sync::Arc;

use mio::net::TcpStream;

use crate::broker::{Peer, SessionRef};
use crate::message::{Millis, NEVER};
use crate::protocol::connect::Registration;

use super::ListenerState;

/// How far a connection has come.
#[derive(Debug)]
pub enum Stage {
    /// CONNECT has not come.
    Connecting,
    /// CONNECT has come and waits for a verdict, or for the client's next AUTH.
    Deciding(Box<Deciding>),
    /// A session has it.
    Serving(SessionRef),
    /// All is said: what still comes is thrown away until the peer closes too, so that it can read the last packet.
    Draining,
}

/// What a CONNECT waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// `auth_on_register`.
    Register,
    /// `on_auth`.
    Auth,
    /// The next AUTH of the client.
    ClientAuth,
    /// `auth_on_publish` for the will.
    Will,
}

/// A CONNECT under decision.
#[derive(Debug)]
pub struct Deciding {
    /// The CONNECT.
    pub registration: Registration,
    /// What it waits for.
    pub pending: Pending,
}

/// One connection.
#[derive(Debug)]
pub struct Slot {
    /// The socket.
    pub socket: Arc<TcpStream>,
    /// Unique in the engine.
    pub connection_id: u64,
    /// Address of the client.
    pub peer: Peer,
    /// Where it came in.
    pub listener: Arc<ListenerState>,
    /// How far it is.
    pub stage: Stage,
    /// Bytes that were read and not used: the begin of a packet, or what waits for a verdict.
    pub unread: Vec<u8>,
    /// Size of the packet that `unread` begins, once it is known.
    pub needed: usize,
    /// `unread` holds packets that can be processed once nothing has to be waited for.
    pub has_backlog: bool,
    /// The socket may have more to read.
    pub is_readable: bool,
    /// The peer has closed its side.
    pub is_read_closed: bool,
    /// It is in the worker's list of connections to be read again.
    pub is_queued: bool,
    /// The output is full and so is the socket: read nothing until the kernel takes more.
    pub is_output_full: bool,
    /// Read nothing until then.
    pub throttled_until: Millis,
    /// A request of this connection waits for a verdict.
    pub ticket: Option<(u64, Millis)>,
    /// How long the connection may last; 0: no limit.
    pub lifetime_ms: Millis,
    /// When the connection was accepted.
    pub opened_at: Millis,
    /// When the handshake came one step further.
    pub step_since: Millis,
    /// When something was read.
    pub last_received: Millis,
    /// Milliseconds of silence that are allowed; [`NEVER`]: any.
    pub silence_max: Millis,
    /// When a draining connection is given up.
    pub drain_until: Millis,
    /// Its entry among the worker's timers.
    pub next_check: Millis,
}

impl Slot {
    /// A connection that has just been accepted.
    pub fn new(socket: TcpStream, connection_id: u64, peer: Peer, listener: Arc<ListenerState>, now: Millis) -> Self {
        let lifetime_ms = listener.options.lifetime_ms;
        Self {
            socket: Arc::new(socket),
            connection_id,
            peer,
            listener,
            stage: Stage::Connecting,
            unread: Vec::new(),
            needed: 0,
            has_backlog: false,
            is_queued: false,
            is_readable: false,
            is_read_closed: false,
            is_output_full: false,
            throttled_until: 0,
            ticket: None,
            lifetime_ms,
            opened_at: now,
            step_since: now,
            last_received: now,
            silence_max: NEVER,
            drain_until: NEVER,
            next_check: NEVER,
        }
    }

    /// Whether its bytes may be processed now.
    pub fn may_read(&self, now: Millis) -> bool {
        self.ticket.is_none() && !self.is_output_full && self.throttled_until <= now
    }
}
