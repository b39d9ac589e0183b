//! Listeners: where clients come in and on what terms.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use socket2::{Domain, Protocol, Socket, Type};

use crate::message::Millis;
use crate::protocol::connect::Admission;

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 4_096;

/// Terms of a listener.
#[derive(Clone, Debug)]
pub struct ListenerOptions {
    /// Name in the configuration.
    pub name: Arc<str>,
    /// Who is admitted.
    pub admission: Admission,
    /// Connections at the same time.
    pub connections_max: Option<usize>,
    /// How long a connection may last; 0: no limit.
    pub lifetime_ms: Millis,
}

/// A listener as the workers share it.
#[derive(Debug)]
pub struct ListenerState {
    /// Unique in the engine.
    pub id: u64,
    /// Its terms.
    pub options: ListenerOptions,
    /// Where it listens.
    pub address: SocketAddr,
    /// It accepts.
    pub is_open: AtomicBool,
    /// Connections that are open.
    pub active: AtomicUsize,
    /// Connections since it was opened.
    pub total: AtomicU64,
}

impl ListenerState {
    /// A listener that has just been opened.
    pub fn new(id: u64, options: ListenerOptions, address: SocketAddr) -> Self {
        Self {
            id,
            options,
            address,
            is_open: AtomicBool::new(true),
            active: AtomicUsize::new(0),
            total: AtomicU64::new(0),
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
}

/// Binds and listens.
pub fn bind(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(address, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted broker must not wait until the kernel has forgotten its old connections.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Small packets go out at once; what belongs together is written together anyway. Linux gives the option on to the
    // connections that are accepted.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
