//! The links between nodes.
//!
//! Each node dials every peer that it knows, and is dialled by every one: what A sends to B goes over the connections that A
//! has dialled. A link has three lanes ([`Lane`]), each a connection of its own through the peer's one cluster port, so that
//! none can starve another. A peer is *reachable* once a heartbeat has come back lately on all six.
//!
//! ```text
//! Peers::start        who this node is, its limits, and who stands above (Upper)
//! open_listener       where peers come in                            gate.rs: one thread
//! set_peers           whom to dial and to let in                     driver.rs: a thread a peer
//! PeerLink::append    a client's message, from whatever thread       outbox.rs; then PeerLink::flush
//! PeerLink::send      a message of the control plane                 queue.rs
//! Upper::batch, message, acknowledged, changed                       on the peer's thread
//! ```
//!
//! Pure, without sockets, clocks or threads: `hello`, `handshake` (who is there), `roster` (who may come in), `frame`,
//! `writer`, `forwarded` (bytes), `outbox` with `chunk` and `ages`, and `inbox` (both ends of the data lane), `pulse` (heartbeats),
//! `backoff`, `patience`, `queue`. Sockets: `wire`, `tls` with `tls_faults`, `dialling`, `connection`, `gate`, `visitor`; a link's thread: `driver`, `dialled`, `accepted`,
//! `carrying`, `telling`. What threads share: `shared`, `link`, `listener`, `status`.
//!
//! Invariants: no thread of one peer waits for another peer; locks are held for short and never two of one link at a time;
//! what a stranger sends is bounded before it is believed; a batch reaches the upper layer once and in order, or the connection
//! ends. **Must not know** sessions, routing, the store, Python.

mod accepted;
mod ages;
mod backoff;
mod bytes;
mod carrying;
mod chunk;
mod connection;
mod dialled;
mod dialling;
mod driver;
mod forwarded;
mod frame;
mod gate;
mod handshake;
mod hello;
mod identity;
mod inbox;
mod lane;
mod link;
mod listener;
mod notices;
mod options;
mod outbox;
mod overflow;
mod patience;
mod pulse;
mod queue;
mod refusal;
mod resolve;
mod roster;
mod shared;
mod status;
mod telling;
#[cfg(test)]
mod tests;
mod tls;
mod tls_faults;
mod upper;
mod visitor;
mod wire;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use forwarded::{Forwarded, Groups, Messages};
pub use frame::{FRAME_LEN_MAX, Frame, FrameFault, FrameReader};
pub use gate::HANDSHAKES_MAX;
pub use handshake::{DialFault, DialStep, Dialler, GreetStep, Greeter, Wanted, Welcome};
pub use hello::{Hello, MESSAGE_LEN_MAX, NONCE_LEN, Nonce, Terms, VERSIONS, Versions, message_len};
pub use identity::{Boot, ClusterId, Identity, Incarnation, PeerId};
pub use inbox::{Arrival, Inbox, Resume, Taken};
pub use lane::{Lane, Side};
pub use link::{PeerConfig, PeerLink};
pub use listener::ClusterListener;
pub use notices::{Notice, Notices};
pub use options::LinkOptions;
pub use outbox::{Outbox, OutboxLimits};
pub use overflow::{Dropped, Impossible, Overflow};
pub use refusal::{Refusal, RefusalCode};
pub use roster::{Roster, Standing};
pub use shared::{GUESTS_MAX, PEERS_MAX};
pub use status::{Condition, Counts, LaneState, LaneStatus, PeerInfo};
pub use tls::{LinkTls, LinkTlsOptions, TlsConfigError};
pub use upper::{Change, TurnedAway, Upper};

use gate::Gate;
use link::Mail;
use shared::Shared;

/// Sums over all links, and what the gate has counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Peers.
    pub peers: usize,
    /// Those among them that are reachable.
    pub reachable: usize,
    /// Bytes of clients' messages that are held for peers.
    pub held_bytes: usize,
    /// Clients' messages that were turned away, of the links that are there.
    pub dropped: Dropped,
    /// Control and metadata messages that were turned away or lost, of the links that are there.
    pub messages_turned_away: u64,
    /// What was counted.
    pub counts: Counts,
    /// Connections that came in.
    pub accepted: u64,
    /// Those that did not get through the handshake.
    pub refused: u64,
    /// Those that had to make room for newer ones.
    pub crowded_out: u64,
    /// Times that connections had to wait, since a listener had as many as it may.
    pub held_back: u64,
}

/// The links of one node.
pub struct Peers {
    shared: Arc<Shared>,
    gate: Gate,
}

impl Peers {
    /// Starts without listeners and peers.
    pub fn start(identity: Identity, options: LinkOptions, upper: Arc<dyn Upper>) -> io::Result<Self> {
        if let Some(fault) = identity.fault().or_else(|| options.fault()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, fault));
        }
        let shared = Arc::new(Shared::new(identity, options, upper));
        let gate = Gate::start(&shared)?;
        Ok(Self { shared, gate })
    }

    // -- listeners ----------------------------------------------------------------------------------------------

    /// Lets peers in at an address; port 0 takes a free one. `None`: the name is taken. `connections_max`: at a time, further
    /// ones wait until one closes.
    pub fn open_listener(
        &self,
        name: &str,
        address: SocketAddr,
        tls: Option<LinkTls>,
        connections_max: Option<usize>,
    ) -> io::Result<Option<Arc<ClusterListener>>> {
        self.gate.open(name, address, tls, connections_max)
    }

    /// Lets nobody in there any more; what is connected stays. False: no such name.
    pub fn close_listener(&self, name: &str) -> bool {
        self.gate.close(name)
    }

    /// Uses other certificates for connections that come in from now on. `None`: no such name; false: it has no TLS.
    pub fn set_listener_tls(&self, name: &str, tls: LinkTls) -> Option<bool> {
        self.gate.set_tls(name, tls)
    }

    /// The listeners that are open.
    pub fn listeners(&self) -> Vec<Arc<ClusterListener>> {
        self.gate.listeners()
    }

    // -- who is who ---------------------------------------------------------------------------------------------

    /// Uses other certificates for connections that are dialled from now on.
    pub fn set_tls(&self, tls: Option<LinkTls>) {
        self.shared.dial_tls.store(tls.map(Arc::new));
    }

    /// This node is of another cluster now, or other settings must agree. Connections between this node and one that was a
    /// guest, or whose guest it was, are made anew; the others stay.
    pub fn set_identity(&self, cluster: Option<ClusterId>, agreed: Vec<(String, String)>) -> io::Result<()> {
        let identity = Identity { cluster, agreed, ..(*self.shared.identity.load_full()).clone() };
        if let Some(fault) = identity.fault() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, fault));
        }
        self.shared.set_identity(identity);
        Ok(())
    }

    /// The limits in force.
    pub fn options(&self) -> LinkOptions {
        *self.shared.options.load_full()
    }

    /// Changes limits for what happens next. What is open keeps the size of messages that was agreed for it.
    pub fn set_options(&self, options: LinkOptions) -> io::Result<()> {
        if let Some(fault) = options.fault() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, fault));
        }
        self.shared.options.store(Arc::new(options));
        self.shared.post_all(|| Mail::Options);
        Ok(())
    }

    /// Dials these nodes, lets them in, and ends the links to all others. `is_joining_allowed`: nodes that are of no cluster,
    /// or any node while this one is of none, may come as guests.
    pub fn set_peers(&self, peers: Vec<PeerConfig>, is_joining_allowed: bool) -> io::Result<()> {
        self.shared.set_peers(peers, is_joining_allowed)
    }

    /// Tells these, by their names and data directories, that they were taken out of the cluster for good.
    pub fn set_removed(&self, removed: Vec<(Arc<str>, Incarnation)>) {
        self.shared.set_removed(removed);
    }

    // -- links --------------------------------------------------------------------------------------------------

    /// The peer at a place. A name keeps its place as long as the process lives.
    #[inline]
    pub fn get(&self, place: u32) -> Option<Arc<PeerLink>> {
        self.shared.slots.load().get(place as usize)?.clone()
    }

    /// The link to a node, be it a peer or a guest.
    pub fn find(&self, name: &str) -> Option<Arc<PeerLink>> {
        self.shared.table.lock().entries.get(name).map(|entry| Arc::clone(&entry.link))
    }

    /// All links.
    pub fn links(&self) -> Vec<Arc<PeerLink>> {
        self.shared.links().0
    }

    /// Sums over all of them.
    pub fn figures(&self) -> Figures {
        let (links, counts) = self.shared.links();
        let (peers, reachable) = self.shared.reachable();
        let gate = &self.shared.gate;
        let mut figures = Figures {
            peers,
            reachable,
            counts,
            accepted: gate.accepted.load(Ordering::Relaxed),
            refused: gate.refused.load(Ordering::Relaxed),
            crowded_out: gate.crowded_out.load(Ordering::Relaxed),
            held_back: gate.held_back.load(Ordering::Relaxed),
            ..Figures::default()
        };
        for link in links {
            let info = link.info();
            figures.held_bytes += info.held_bytes;
            figures.messages_turned_away += info.messages_turned_away + info.messages_lost;
            figures.dropped.bytes += info.dropped.bytes;
            for (sum, messages) in figures.dropped.messages.iter_mut().zip(info.dropped.messages) {
                *sum += messages;
            }
            figures.counts.add(&info.counts);
        }
        figures
    }

    /// Tells all peers goodbye and ends all threads; those that take longer than `timeout` are left alone. True: all have ended.
    pub fn stop(&self, timeout: Duration) -> bool {
        let mut threads: Vec<_> = self.gate.stop().into_iter().collect();
        let reason = format!("{} stops", self.shared.identity.load().node.name);
        threads.extend(self.shared.end_all(&reason));
        let end = Instant::now() + timeout;
        let mut are_all_done = true;
        for thread in threads {
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            are_all_done &= thread.is_finished() && thread.join().is_ok();
        }
        are_all_done
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(1));
    }
}
