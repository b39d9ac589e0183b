//! A connection as its worker sees it.

use std::sync::Arc;

use crate::broker::{Peer, SessionRef};
use crate::message::{Millis, NEVER};
use crate::protocol::connect::Registration;
use crate::settings::Settings;
use crate::transport::Transport;

use super::{ListenerOptions, ListenerState};

/// How long a proxy may take for its header.
const PROXY_HEADER_MS: Millis = 10_000;

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

/// What a connection has to go through before MQTT begins, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The PROXY header has not come.
    ProxyHeader,
    /// The TLS handshake goes on.
    Tls,
    /// The HTTP request for WebSocket has not come.
    Upgrade,
    /// MQTT.
    Done,
}

/// What is known of a client before it says who it is.
#[derive(Clone, Debug, Default)]
pub struct Introduction {
    /// User name that counts instead of the one in CONNECT.
    pub username: Option<String>,
    /// Its certificate, DER.
    pub certificate: Option<Arc<[u8]>>,
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
    /// The claim to its client id, which other nodes have to hear of first.
    Claim,
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
    /// The socket and its layers.
    pub transport: Arc<Transport>,
    /// Unique in the engine.
    pub connection_id: u64,
    /// Address of the client.
    pub peer: Peer,
    /// Where it came in.
    pub listener: Arc<ListenerState>,
    /// How far it is.
    pub stage: Stage,
    /// How far the layers are.
    pub opening: Opening,
    /// What is known of the client without CONNECT; most connections have nothing of the kind.
    pub introduction: Option<Box<Introduction>>,
    /// The client has sent something.
    pub has_begun: bool,
    /// A layer has something to write that the socket did not take.
    pub wants_write: bool,
    /// The worker is told when the socket takes more.
    pub is_watched: bool,
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
    /// Our side is closed.
    pub is_finished: bool,
    /// When a draining connection is given up.
    pub drain_until: Millis,
    /// Its entry among the worker's timers.
    pub next_check: Millis,
}

impl Slot {
    /// A connection that has just been accepted.
    pub fn new(
        transport: Transport,
        connection_id: u64,
        peer: Peer,
        listener: Arc<ListenerState>,
        now: Millis,
    ) -> Self {
        let lifetime_ms = listener.options.lifetime_ms;
        let opening = Opening::first(&listener.options);
        Self {
            transport: Arc::new(transport),
            connection_id,
            peer,
            listener,
            stage: Stage::Connecting,
            opening,
            introduction: None,
            has_begun: false,
            wants_write: false,
            is_watched: false,
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
            is_finished: false,
            drain_until: NEVER,
            next_check: NEVER,
        }
    }

    /// Whether there is a TLS handshake which is not over.
    pub fn awaits_tls(&self) -> bool {
        self.listener.options.kind.is_tls() && matches!(self.opening, Opening::ProxyHeader | Opening::Tls)
    }

    /// Whether its bytes may be processed now.
    pub fn may_read(&self, now: Millis) -> bool {
        self.ticket.is_none() && !self.is_output_full && self.throttled_until <= now
    }
}

impl Opening {
    /// Where a connection to a listener begins.
    fn first(options: &ListenerOptions) -> Self {
        if options.expects_proxy_header { Self::ProxyHeader } else { Self::ProxyHeader.next(options) }
    }

    /// What comes after a step.
    pub fn next(self, options: &ListenerOptions) -> Self {
        match self {
            Self::ProxyHeader if options.kind.is_tls() => Self::Tls,
            Self::ProxyHeader | Self::Tls if options.kind.is_websocket() => Self::Upgrade,
            _ => Self::Done,
        }
    }

    /// How long a step may take. Behind the last one CONNECT has as long as the upgrade.
    pub fn time_limit(self, options: &ListenerOptions, settings: &Settings) -> Millis {
        match self {
            Self::ProxyHeader => PROXY_HEADER_MS,
            Self::Tls => options.tls_handshake_ms,
            Self::Upgrade | Self::Done => settings.mqtt_connect_timeout,
        }
    }
}
