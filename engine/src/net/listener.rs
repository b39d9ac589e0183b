//! Listeners: where clients come in and on what terms.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::hooks::INTERNAL_LISTENER;
use crate::message::Millis;
use crate::policy::{AccessCell, Decider};
use crate::protocol::SessionLimits;
use crate::protocol::connect::Admission;
use crate::transport::tls::TlsConfig;
use crate::transport::websocket::upgrade::UpgradeLimits;

use super::acceptor::{Address, Doorstop};
use super::rate::Rate;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MQTT.
    Tcp,
    /// MQTT over TLS.
    Ssl,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
}

impl Kind {
    /// The kind of a name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Tcp, Self::Ssl, Self::Ws, Self::Wss].into_iter().find(|kind| kind.name() == name)
    }

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ssl => "ssl",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it is secured by TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::Wss)
    }

    /// Whether it speaks WebSocket.
    pub fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// Proxies that tell of their clients in HTTP headers.
#[derive(Clone, Debug)]
pub struct Forwarded {
    /// Whom to believe.
    pub trusted: Vec<IpAddr>,
    /// The header with the common name of the client's certificate, which replaces the user name.
    pub common_name_header: Option<String>,
}

/// Terms of a listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// What is spoken.
    pub kind: Kind,
    /// Who is admitted.
    pub admission: Admission,
    /// Connections at the same time.
    pub connections_max: Option<usize>,
    /// New connections a second.
    pub connection_rate: Option<u32>,
    /// How long a connection may last; 0: no limit.
    pub lifetime_ms: Millis,
    /// The common name of a client's certificate replaces the user name.
    pub identity_is_username: bool,
    /// How long a TLS handshake may take.
    pub tls_handshake_ms: Millis,
    /// Every connection begins with a PROXY header.
    pub expects_proxy_header: bool,
    /// The common name in a PROXY header replaces the user name.
    pub proxy_name_is_username: bool,
    /// Where clients come through an HTTP proxy.
    pub forwarded: Option<Forwarded>,
    /// Bytes of one WebSocket frame; 0: no limit.
    pub frame_size_max: u64,
    /// Of the HTTP request that asks for WebSocket.
    pub upgrade: UpgradeLimits,
}

/// A listener as the workers share it.
#[derive(Debug)]
pub struct ListenerState {
    /// Unique in the engine.
    pub id: u64,
    /// Its terms.
    pub options: ListenerOptions,
    /// Where it listens.
    pub address: Address,
    /// TLS for new connections.
    pub tls: ArcSwapOption<TlsConfig>,
    /// It accepts.
    pub is_open: AtomicBool,
    /// How often it was opened or closed: a socket of an earlier time is none of it any more.
    pub generation: AtomicU64,
    /// Ends the listening socket, whoever has it.
    pub doorstop: Mutex<Option<Doorstop>>,
    /// Tokens for new connections.
    pub rate: Option<Mutex<Rate>>,
    /// Connections that are open.
    pub active: AtomicUsize,
    /// Connections since it was opened.
    pub total: AtomicU64,
    /// Connections that ended before MQTT could begin: TLS, WebSocket or a PROXY header went wrong.
    pub failed: AtomicU64,
}

impl ListenerState {
    /// A listener that has just been opened.
    pub fn new(
        id: u64,
        options: ListenerOptions,
        address: Address,
        doorstop: Doorstop,
        tls: Option<TlsConfig>,
    ) -> Self {
        Self {
            id,
            rate: options.connection_rate.map(|rate| Mutex::new(Rate::new(rate))),
            options,
            address,
            tls: ArcSwapOption::from_pointee(tls),
            is_open: AtomicBool::new(true),
            generation: AtomicU64::new(0),
            doorstop: Mutex::new(Some(doorstop)),
            active: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// No listener at all, but the terms of a part of the broker. `limits`: what its session has in place of the settings.
    pub fn internal(mountpoint: &str, limits: SessionLimits) -> Self {
        let access = Arc::new(AccessCell::default());
        access.set([Decider::Open; 3]);
        let options = ListenerOptions {
            name: INTERNAL_LISTENER.into(),
            kind: Kind::Tcp,
            admission: Admission {
                mountpoint: mountpoint.into(),
                protocol_versions: vec![5],
                allow_anonymous: Some(true),
                listener: INTERNAL_LISTENER.into(),
                access,
                limits,
            },
            connections_max: None,
            connection_rate: None,
            lifetime_ms: 0,
            identity_is_username: false,
            tls_handshake_ms: 0,
            expects_proxy_header: false,
            proxy_name_is_username: false,
            forwarded: None,
            frame_size_max: 0,
            upgrade: UpgradeLimits { request_line: 0, header_value: 0 },
        };
        Self {
            id: 0,
            rate: None,
            options,
            address: Address::Path(PathBuf::new()),
            tls: ArcSwapOption::empty(),
            is_open: AtomicBool::new(true),
            generation: AtomicU64::new(0),
            doorstop: Mutex::new(None),
            active: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Counts a connection in if there is room for it.
    pub fn enter(&self) -> bool {
        let limit = self.options.connections_max.unwrap_or(usize::MAX);
        let entered = self
            .active
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |active| (active < limit).then_some(active + 1));
        entered.is_ok()
    }

    /// Counts a connection out.
    pub fn leave(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// Stops listening at once. The worker that has the socket is to be told to forget it.
    pub fn shut(&self) {
        self.is_open.store(false, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(self.doorstop.lock().take());
    }

    /// Listens again, on a new socket.
    pub fn reopen(&self, doorstop: Doorstop) {
        *self.doorstop.lock() = Some(doorstop);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.is_open.store(true, Ordering::Release);
    }
}
