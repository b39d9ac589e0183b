//! Nodes in this process, with an upper layer that notes everything.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{identity, incarnation, message, span};
use crate::message::Millis;
use crate::peer::{
    Change, Condition, Identity, Incarnation, Lane, LinkOptions, LinkTls, Messages, Overflow, PeerConfig, PeerId,
    PeerLink, Peers, Taken, TurnedAway, Upper,
};

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const LINK_TIMEOUT: Duration = Duration::from_secs(1);

/// A message with who sent it, on which lane.
pub type Noted = (Arc<PeerId>, Lane, Vec<u8>);

/// What a node has heard. It outlives the node, as a disk does.
#[derive(Default)]
pub struct Notes {
    pub messages: Mutex<Vec<Noted>>,
    /// Numbers in payloads, with the QoS.
    pub numbers: Mutex<Vec<(u32, u8)>>,
    pub changes: Mutex<Vec<(Arc<str>, Change)>>,
    pub turned_away: Mutex<Vec<TurnedAway>>,
    pub applied: Mutex<HashMap<PeerId, u64>>,
    /// Batches wait to be kept.
    pub is_busy: AtomicBool,
    pub waiting: Mutex<Vec<(Arc<PeerId>, u64)>>,
}

impl Upper for Notes {
    fn now(&self) -> Millis {
        1
    }

    fn last_applied(&self, from: &PeerId) -> u64 {
        self.applied.lock().get(from).copied().unwrap_or(0)
    }

    fn batch(&self, _: &Arc<PeerLink>, from: &Arc<PeerId>, seq: u64, messages: Messages<'_>) -> Taken {
        let mut numbers = self.numbers.lock();
        for message in messages {
            let number = message.publication.payload().first_chunk().map_or(0, |number| u32::from_be_bytes(*number));
            numbers.push((number, message.publication.head.qos));
        }
        if self.is_busy.load(Ordering::Acquire) {
            self.waiting.lock().push((Arc::clone(from), seq));
            return Taken::Later;
        }
        if seq > 0 {
            self.applied.lock().insert((**from).clone(), seq);
        }
        Taken::Now
    }

    fn acknowledged(&self, link: &Arc<PeerLink>, seq: u64) {
        assert!(link.acknowledged() >= seq);
    }

    fn message(&self, from: &Arc<PeerId>, lane: Lane, data: &[u8]) {
        self.messages.lock().push((Arc::clone(from), lane, data.to_vec()));
    }

    fn changed(&self, link: &Arc<PeerLink>, change: &Change) {
        self.changes.lock().push((Arc::clone(link.name()), change.clone()));
    }

    fn turned_away(&self, visitor: &TurnedAway) {
        self.turned_away.lock().push(visitor.clone());
    }
}

pub struct Node {
    pub peers: Peers,
    pub notes: Arc<Notes>,
    pub address: SocketAddr,
    pub name: Arc<str>,
}

pub fn options() -> LinkOptions {
    LinkOptions { link_timeout: LINK_TIMEOUT, handshake_timeout: Duration::from_secs(2), ..LinkOptions::default() }
}

impl Node {
    pub fn start(name: &str, boot: u8) -> Self {
        Self::start_as(identity(name, boot), options(), Arc::default(), None)
    }

    pub fn start_as(identity: Identity, options: LinkOptions, notes: Arc<Notes>, tls: Option<LinkTls>) -> Self {
        let name = Arc::clone(&identity.node.name);
        let upper: Arc<dyn Upper> = notes.clone();
        let peers = Peers::start(identity, options, upper).unwrap();
        peers.set_tls(tls.clone());
        let listener = peers.open_listener("default", "127.0.0.1:0".parse().unwrap(), tls, None).unwrap().unwrap();
        Self { peers, notes, address: listener.address, name }
    }

    /// How others dial it.
    pub fn config(&self) -> PeerConfig {
        peer(&self.name, self.address)
    }

    pub fn link(&self, name: &str) -> Arc<PeerLink> {
        self.peers.find(name).unwrap_or_else(|| panic!("{} has no link to {name}", self.name))
    }

    pub fn is_reachable(&self, name: &str) -> bool {
        self.peers.find(name).is_some_and(|link| link.is_reachable())
    }

    pub fn condition(&self, name: &str) -> Condition {
        self.peers.find(name).map(|link| link.info().condition).unwrap_or_default()
    }

    /// Sends numbered messages, one flush a time.
    pub fn publish(&self, to: &str, numbers: std::ops::Range<u32>, qos: u8, size: usize) -> Result<(), Overflow> {
        let link = self.link(to);
        for number in numbers {
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(4 + size, 0);
            let bytes = span(&payload, qos);
            link.append(&message(&bytes), 1)?;
            link.flush();
        }
        Ok(())
    }

    pub fn numbers(&self) -> Vec<u32> {
        self.notes.numbers.lock().iter().map(|(number, _)| *number).collect()
    }

    pub fn stop(&self) {
        assert!(self.peers.stop(DEADLINE), "all threads of {} end", self.name);
    }
}

pub fn peer(name: &str, address: SocketAddr) -> PeerConfig {
    PeerConfig { name: name.into(), addresses: vec![address.to_string()], incarnation: None, is_tls: false }
}

pub fn known(config: PeerConfig) -> PeerConfig {
    PeerConfig { incarnation: Some(incarnation(&config.name)), ..config }
}

pub fn other_incarnation() -> Incarnation {
    Incarnation([0xAA; 16])
}

/// Two nodes that know each other and are connected.
pub fn pair() -> (Node, Node) {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    a.peers.set_peers(vec![b.config()], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    eventually("both are reachable", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
    (a, b)
}

#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) -> Duration {
    within(DEADLINE, what, condition)
}

/// How long it took.
#[track_caller]
pub fn within(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
    began.elapsed()
}
