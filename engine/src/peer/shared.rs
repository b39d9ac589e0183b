//! What all threads of the links share: who this node is, whom it lets in, its limits, and the table of links.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use mio::{Poll, Token, Waker};
use parking_lot::Mutex;

use super::driver::{self, WAKER};
use super::handshake::Greeter;
use super::hello::{Hello, Nonce};
use super::identity::{Identity, Incarnation};
use super::inbox::LINK_SPACING;
use super::link::{Arrived, Mail, PeerConfig, PeerLink};
use super::options::LinkOptions;
use super::pulse::Micros;
use super::refusal::{Refusal, RefusalCode};
use super::roster::{Roster, Standing};
use super::status::{Condition, Counts};
use super::tls::LinkTls;
use super::upper::Upper;
use super::wire::Wire;

/// Nodes that may be connected without being peers of this one.
pub const GUESTS_MAX: usize = 16;
/// Names of peers that a process can have known.
pub const PEERS_MAX: usize = 1_024;

/// What the gate counts.
#[derive(Debug, Default)]
pub(super) struct GateCounters {
    pub accepted: AtomicU64,
    pub refused: AtomicU64,
    pub crowded_out: AtomicU64,
    pub held_back: AtomicU64,
}

pub(super) struct Entry {
    pub link: Arc<PeerLink>,
    is_peer: bool,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
pub(super) struct Table {
    pub entries: HashMap<Arc<str>, Entry>,
    /// Places in the table of peers, which names keep for ever.
    places: HashMap<Arc<str>, u32>,
    /// Links that there were so far.
    links_made: u64,
    /// Threads of links that are ending.
    ending: Vec<JoinHandle<()>>,
    /// Counts of links that have ended.
    ended: Counts,
    is_stopped: bool,
}

/// A number that nobody can guess.
pub(super) fn nonce() -> io::Result<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

/// What all threads share.
pub struct Shared {
    pub(super) identity: ArcSwap<Identity>,
    pub(super) roster: ArcSwap<Roster>,
    pub(super) options: ArcSwap<LinkOptions>,
    pub(super) dial_tls: ArcSwapOption<LinkTls>,
    pub(super) upper: Arc<dyn Upper>,
    pub(super) gate: GateCounters,
    pub(super) table: Mutex<Table>,
    pub(super) slots: ArcSwap<Vec<Option<Arc<PeerLink>>>>,
    began: Instant,
}

impl Shared {
    pub(super) fn new(identity: Identity, options: LinkOptions, upper: Arc<dyn Upper>) -> Self {
        Self {
            identity: ArcSwap::from_pointee(identity),
            roster: ArcSwap::default(),
            options: ArcSwap::from_pointee(options),
            dial_tls: ArcSwapOption::empty(),
            upper,
            gate: GateCounters::default(),
            table: Mutex::default(),
            slots: ArcSwap::default(),
            began: Instant::now(),
        }
    }

    /// The clock of the links.
    pub(super) fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// This node is somebody else from now on.
    pub(super) fn set_identity(&self, identity: Identity) {
        let table = self.table.lock();
        self.identity.store(Arc::new(identity));
        for entry in table.entries.values() {
            entry.link.post(Mail::Reintroduce);
        }
    }

    /// Dials these and nobody else. Links that are there and stay are not disturbed.
    pub(super) fn set_peers(self: &Arc<Self>, peers: Vec<PeerConfig>, is_joining_allowed: bool) -> io::Result<()> {
        let named = peers.iter().map(|peer| (Arc::clone(&peer.name), peer.incarnation));
        let mut table = self.table.lock();
        let removed = self.roster.load().removed().cloned().collect::<Vec<_>>();
        let roster = Roster::new(named, is_joining_allowed).with_removed(removed);
        let new_names = peers.iter().filter(|peer| !table.places.contains_key(&peer.name)).count();
        if table.places.len() + new_names > PEERS_MAX {
            return Err(io::Error::other(format!("a process can have {PEERS_MAX} peers in its life at most")));
        }
        self.roster.store(Arc::new(roster));
        let own_name = Arc::clone(&self.identity.load().node.name);
        let gone: Vec<Arc<str>> = table
            .entries
            .iter()
            .filter(|(name, entry)| entry.is_peer && !peers.iter().any(|peer| peer.name == **name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            let reason = format!("{name} is no longer a peer of {own_name}");
            table.end(&name, &reason);
        }
        for peer in peers {
            let next_place = table.places.len() as u32;
            let place = *table.places.entry(Arc::clone(&peer.name)).or_insert(next_place);
            let link = self.find_or_start(&mut table, &peer.name)?;
            link.set_index(place);
            if let Some(entry) = table.entries.get_mut(&peer.name) {
                entry.is_peer = true;
            }
            link.post(Mail::Configure(peer));
        }
        self.publish_slots(&table);
        Ok(())
    }

    pub(super) fn set_removed(&self, removed: Vec<(Arc<str>, Incarnation)>) {
        let _table = self.table.lock();
        let roster = Roster::clone(&self.roster.load()).with_removed(removed);
        self.roster.store(Arc::new(roster));
    }

    fn publish_slots(&self, table: &Table) {
        let mut slots = vec![None; table.places.len()];
        for (name, place) in &table.places {
            slots[*place as usize] =
                table.entries.get(name).filter(|entry| entry.is_peer).map(|entry| Arc::clone(&entry.link));
        }
        self.slots.store(Arc::new(slots));
    }

    fn find_or_start(self: &Arc<Self>, table: &mut Table, name: &Arc<str>) -> io::Result<Arc<PeerLink>> {
        if let Some(entry) = table.entries.get(name) {
            return Ok(Arc::clone(&entry.link));
        }
        if table.is_stopped {
            return Err(io::Error::other("the links are stopped"));
        }
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(WAKER))?;
        let before = table.links_made * LINK_SPACING;
        table.links_made += 1;
        let link = Arc::new(PeerLink::new(Arc::clone(name), Arc::clone(self), waker, before));
        let thread = Some(driver::start(Arc::clone(&link), poll)?);
        table.entries.insert(Arc::clone(name), Entry { link: Arc::clone(&link), is_peer: false, thread });
        Ok(link)
    }

    /// Judges whoever has proved to know the secret, and hands its connection to its link, which is made for a guest. Or gives
    /// it back, with what it is to be told.
    ///
    /// All of it under the lock under which peers and identity change, so that nobody is let in by what was true a moment ago.
    pub(super) fn attach(
        self: &Arc<Self>,
        wire: Arc<Wire>,
        greeter: Greeter,
        hello: &Hello,
    ) -> Result<(), Box<(Arc<Wire>, Greeter, Refusal)>> {
        let mut table = self.table.lock();
        match self.admit(&mut table, &greeter, hello) {
            Ok((link, standing)) => {
                let (lane, peer) = (hello.lane, Arc::new(hello.node.clone()));
                link.post(Mail::Arrived(Box::new(Arrived { wire, greeter, lane, peer, standing })));
                Ok(())
            }
            Err(refusal) => Err(Box::new((wire, greeter, refusal))),
        }
    }

    fn admit(
        self: &Arc<Self>,
        table: &mut Table,
        greeter: &Greeter,
        hello: &Hello,
    ) -> Result<(Arc<PeerLink>, Standing), Refusal> {
        let busy = |text: String| Refusal::new(RefusalCode::Busy, text);
        let (said, identity) = (greeter.identity(), self.identity.load());
        if said.cluster != identity.cluster {
            return Err(busy(format!("{} has just changed its cluster; try again", identity.node.name)));
        }
        let standing = self.roster.load().judge(said, hello)?;
        let guests = table.entries.values().filter(|entry| !entry.is_peer).count();
        if !table.entries.contains_key(&hello.node.name) && guests >= GUESTS_MAX {
            return Err(busy(format!("{GUESTS_MAX} nodes that are no peers are connected already; try again later")));
        }
        let link = self.find_or_start(table, &hello.node.name);
        link.map(|link| (link, standing)).map_err(|error| busy(format!("no link can be made: {error}")))
    }

    /// Ends the link of a guest that has gone. False: something has come for it meanwhile.
    pub(super) fn retire(&self, link: &PeerLink) -> bool {
        let mut table = self.table.lock();
        if link.has_mail() || table.entries.get(link.name()).is_some_and(|entry| entry.is_peer) {
            return false;
        }
        if let Some(entry) = table.entries.remove(link.name()) {
            table.ended.add(&entry.link.counters.counts());
            table.ending.extend(entry.thread);
        }
        table.ending.retain(|thread| !thread.is_finished());
        true
    }

    /// Tells all links something.
    pub(super) fn post_all(&self, mail: impl Fn() -> Mail) {
        for entry in self.table.lock().entries.values() {
            entry.link.post(mail());
        }
    }

    /// Ends all links; their threads.
    pub(super) fn end_all(&self, reason: &str) -> Vec<JoinHandle<()>> {
        let mut table = self.table.lock();
        table.is_stopped = true;
        let names: Vec<_> = table.entries.keys().cloned().collect();
        for name in names {
            table.end(&name, reason);
        }
        self.publish_slots(&table);
        std::mem::take(&mut table.ending)
    }

    /// All links with what they have counted, and the sum of what those have that are no more.
    pub(super) fn links(&self) -> (Vec<Arc<PeerLink>>, Counts) {
        let table = self.table.lock();
        (table.entries.values().map(|entry| Arc::clone(&entry.link)).collect(), table.ended)
    }

    /// Peers, and those among them that are reachable.
    pub(super) fn reachable(&self) -> (usize, usize) {
        let slots = self.slots.load();
        let links = || slots.iter().flatten();
        let is_up = |link: &&Arc<PeerLink>| link.status.lock().condition == Condition::Reachable;
        (links().count(), links().filter(is_up).count())
    }
}

impl Table {
    fn end(&mut self, name: &Arc<str>, reason: &str) {
        if let Some(entry) = self.entries.remove(name) {
            entry.link.post(Mail::Stop(reason.to_owned()));
            self.ended.add(&entry.link.counters.counts());
            self.ending.extend(entry.thread);
        }
        self.ending.retain(|thread| !thread.is_finished());
    }
}
