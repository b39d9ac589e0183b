//! A listener for peers as the gate and its connections share it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use crate::net::Doorstop;

use super::tls::LinkTls;

/// A listener for peers.
#[derive(Debug)]
pub struct ClusterListener {
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections that it may have at a time; none: no limit.
    pub connections_max: Option<usize>,
    /// TLS for new connections; none for a listener without.
    pub(super) tls: ArcSwapOption<LinkTls>,
    pub(super) doorstop: Mutex<Option<Doorstop>>,
    pub(super) accepted: AtomicU64,
    pub(super) failed: AtomicU64,
    active: AtomicUsize,
}

impl ClusterListener {
    pub(super) fn new(
        name: &str,
        address: SocketAddr,
        connections_max: Option<usize>,
        tls: Option<LinkTls>,
        doorstop: Doorstop,
    ) -> Self {
        Self {
            name: name.into(),
            address,
            connections_max,
            tls: ArcSwapOption::from_pointee(tls),
            doorstop: Mutex::new(Some(doorstop)),
            accepted: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            active: AtomicUsize::new(0),
        }
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.load().is_some()
    }

    /// Connections so far, and those that did not get through the handshake.
    pub fn counts(&self) -> (u64, u64) {
        (self.accepted.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Connections that are open.
    pub fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    /// Whether it may have one more connection.
    pub(super) fn has_room(&self) -> bool {
        self.connections_max.is_none_or(|limit| self.active() < limit)
    }
}

/// Being one of the connections of a listener, until it is dropped.
pub(super) struct Seat {
    listener: Arc<ClusterListener>,
    /// Told when a listener that was full has room again.
    has_room: Box<dyn Fn() + Send + Sync>,
}

impl Seat {
    pub fn take(listener: &Arc<ClusterListener>, has_room: impl Fn() + Send + Sync + 'static) -> Self {
        listener.active.fetch_add(1, Ordering::AcqRel);
        Self { listener: Arc::clone(listener), has_room: Box::new(has_room) }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let before = self.listener.active.fetch_sub(1, Ordering::AcqRel);
        if self.listener.connections_max.is_some_and(|limit| before >= limit) {
            (self.has_room)();
        }
    }
}
