//! One peer's link as all threads share it: what goes to it, what is known of it, and its thread's mailbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use mio::Waker;
use parking_lot::Mutex;

use crate::message::Millis;

use super::forwarded::Forwarded;
use super::handshake::Greeter;
use super::identity::{Incarnation, PeerId};
use super::inbox::Inbox;
use super::lane::Lane;
use super::outbox::Outbox;
use super::overflow::Overflow;
use super::queue::MessageQueue;
use super::resolve::Target;
use super::roster::Standing;
use super::shared::Shared;
use super::status::{Counters, PeerInfo, Status, count};
use super::wire::Wire;

/// Whom to dial, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Name of the node.
    pub name: Arc<str>,
    /// `host:port`, tried in turn.
    pub addresses: Vec<String>,
    /// Its data directory, if only that one will do.
    pub incarnation: Option<Incarnation>,
    /// Its listener speaks TLS.
    pub is_tls: bool,
}

/// A connection that has come in and whose node has proved to know the secret.
pub(super) struct Arrived {
    pub wire: Arc<Wire>,
    pub greeter: Greeter,
    pub lane: Lane,
    pub peer: Arc<PeerId>,
    pub standing: Standing,
}

/// A message to a link's thread.
pub(super) enum Mail {
    /// A connection for it.
    Arrived(Box<Arrived>),
    /// Dial this.
    Configure(PeerConfig),
    /// Addresses of the peer, or why there are none.
    Resolved(Result<Vec<Target>, String>),
    /// This node has changed who it is: whoever was a guest may be a member now.
    Reintroduce,
    /// Limits have changed.
    Options,
    /// The data lane is broken.
    Broken,
    /// End, telling the peer why.
    Stop(String),
}

/// The dialled data lane, which is written by whoever has something for it.
pub(super) struct DataLane {
    pub outbox: Outbox,
    pub wire: Option<Arc<Wire>>,
    /// The socket took nothing more; the link's thread hears when it does.
    pub is_blocked: bool,
    /// Why it cannot be written.
    pub fault: Option<String>,
}

impl DataLane {
    /// Writes as much as the socket takes. False: it is broken now.
    pub fn write(&mut self, counters: &Counters) -> bool {
        let Some(wire) = &self.wire else { return true };
        if self.is_blocked || self.fault.is_some() {
            return true;
        }
        let mut sent = 0;
        let outcome = loop {
            let bytes = self.outbox.next();
            if bytes.is_empty() {
                break wire.flush().map(|is_flushed| self.is_blocked = !is_flushed);
            }
            match wire.write(bytes) {
                Ok(0) => {
                    self.is_blocked = true;
                    break Ok(());
                }
                Ok(written) => {
                    sent += written as u64;
                    self.outbox.wrote(written);
                }
                Err(error) => break Err(error),
            }
        };
        count(&counters.bytes_sent, sent);
        if let Err(error) = outcome {
            self.fault = Some(error.to_string());
        }
        self.fault.is_none()
    }
}

/// The link to one peer.
pub struct PeerLink {
    name: Arc<str>,
    /// Place in the table of peers, for those that are in it.
    index: std::sync::OnceLock<u32>,
    pub(super) shared: Arc<Shared>,
    pub(super) data: Mutex<DataLane>,
    pub(super) kept: AtomicU64,
    pub(super) is_reachable: AtomicBool,
    pub(super) queues: [Mutex<MessageQueue>; 2],
    pub(super) inbox: Mutex<Inbox>,
    pub(super) status: Mutex<Status>,
    pub(super) counters: Counters,
    /// Somebody waits for the peer to keep more.
    has_waiters: AtomicBool,
    mail: Mutex<Vec<Mail>>,
    waker: Waker,
    /// The thread was woken and has not looked yet.
    is_woken: AtomicBool,
}

impl PeerLink {
    /// `before`: the sequence numbers of its batches begin behind it.
    pub(super) fn new(name: Arc<str>, shared: Arc<Shared>, waker: Waker, before: u64) -> Self {
        let options = *shared.options.load_full();
        Self {
            name,
            index: std::sync::OnceLock::new(),
            data: Mutex::new(DataLane {
                outbox: Outbox::new(options.outbox(), before),
                wire: None,
                is_blocked: false,
                fault: None,
            }),
            kept: AtomicU64::new(before),
            is_reachable: AtomicBool::new(false),
            queues: [Mutex::default(), Mutex::default()],
            inbox: Mutex::new(Inbox::new(options.credit as u64)),
            status: Mutex::new(Status::new()),
            counters: Counters::default(),
            has_waiters: AtomicBool::new(false),
            mail: Mutex::default(),
            waker,
            is_woken: AtomicBool::new(false),
            shared,
        }
    }

    /// Name of the node.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its place among the peers; none for a node that is not one, yet.
    pub fn index(&self) -> Option<u32> {
        self.index.get().copied()
    }

    pub(super) fn set_index(&self, index: u32) {
        // A name keeps its place, so setting it again changes nothing.
        let _ = self.index.set(index);
    }

    /// Takes a message for the peer. The sequence number of its batch, for one of QoS 1 or 2. It goes out with
    /// [`PeerLink::flush`], or earlier.
    pub fn append(&self, message: &Forwarded<'_>, now: Millis) -> Result<Option<u64>, Overflow> {
        let seq = self.data.lock().outbox.append(message, now)?;
        count(&self.counters.messages_sent, 1);
        Ok(seq)
    }

    /// Takes messages one after the other under one lock, as [`PeerLink::append`]; `each` hears of every outcome.
    pub fn append_all<'a>(
        &self,
        messages: impl IntoIterator<Item = Forwarded<'a>>,
        now: Millis,
        mut each: impl FnMut(Result<Option<u64>, Overflow>),
    ) {
        let mut data = self.data.lock();
        let mut taken = 0;
        for message in messages {
            let outcome = data.outbox.append(&message, now);
            taken += u64::from(outcome.is_ok());
            each(outcome);
        }
        count(&self.counters.messages_sent, taken);
    }

    /// Sends what was appended, as far as the socket takes it; the link's thread sends the rest.
    pub fn flush(&self) {
        let mut data = self.data.lock();
        data.outbox.close();
        if !data.write(&self.counters) {
            drop(data);
            self.post(Mail::Broken);
        }
    }

    /// The sequence number of what was appended last.
    pub fn appended(&self) -> u64 {
        self.data.lock().outbox.last_seq()
    }

    /// Everything up to this sequence number is kept by the peer.
    #[inline]
    pub fn acknowledged(&self) -> u64 {
        self.kept.load(Ordering::Acquire)
    }

    /// A round trip has worked lately on every lane, in both directions.
    #[inline]
    pub fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Acquire)
    }

    /// Whether the peer has kept everything up to this sequence number, or cannot be reached. If not, the caller is one who
    /// waits: [`PeerLink::take_waiters`] tells when to look again.
    pub fn is_settled(&self, seq: u64) -> bool {
        let is_settled = || self.acknowledged() >= seq || !self.is_reachable();
        if is_settled() {
            return true;
        }
        self.has_waiters.store(true, Ordering::SeqCst);
        // Either this sees what has just been acknowledged, or whoever acknowledged it sees that somebody waits.
        fence(Ordering::SeqCst);
        is_settled()
    }

    /// Whether somebody waits for this link, who is to look again now.
    pub fn take_waiters(&self) -> bool {
        fence(Ordering::SeqCst);
        self.has_waiters.load(Ordering::Relaxed) && self.has_waiters.swap(false, Ordering::SeqCst)
    }

    /// Everything that came from a run of the peer up to this sequence number is safe here: it may forget it.
    pub fn kept(&self, from: &PeerId, seq: u64) {
        if self.inbox.lock().keep(from, seq) {
            self.wake();
        }
    }

    /// Sends a message on the control or the metadata lane. False: there is no connection, or too much waits already.
    pub fn send(&self, lane: Lane, data: &[u8]) -> bool {
        let Some(queue) = self.queues.get(lane.place()) else { return false };
        let is_taken = queue.lock().push(data, self.shared.options.load().queued_bytes);
        if is_taken {
            self.wake();
        }
        is_taken
    }

    pub(super) fn tell_kept(self: &Arc<Self>, seq: u64) {
        self.kept.fetch_max(seq, Ordering::AcqRel);
        self.shared.upper.acknowledged(self, seq);
    }

    pub(super) fn post(&self, mail: Mail) {
        self.mail.lock().push(mail);
        self.wake();
    }

    pub(super) fn take_mail(&self) -> Vec<Mail> {
        std::mem::take(&mut *self.mail.lock())
    }

    pub(super) fn has_mail(&self) -> bool {
        !self.mail.lock().is_empty()
    }

    pub(super) fn wake(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            // It fails only when the thread is gone, and then there is nothing to be done.
            let _ = self.waker.wake();
        }
    }

    /// The thread is about to look at everything.
    pub(super) fn is_awake(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    /// What is known of the peer.
    pub fn info(&self) -> PeerInfo {
        let status = self.status.lock().clone();
        let now = self.shared.upper.now();
        let (queued_bytes, held_bytes, oldest_age_ms, dropped) = {
            let outbox = &self.data.lock().outbox;
            (outbox.unwritten(), outbox.held(), outbox.oldest_age(now), outbox.dropped())
        };
        let (mut messages_turned_away, mut messages_lost) = (0, 0);
        for queue in &self.queues {
            let (turned_away, lost) = queue.lock().turned_away();
            messages_turned_away += turned_away;
            messages_lost += lost;
        }
        let (duplicates, gaps) = self.inbox.lock().oddities();
        PeerInfo {
            name: Arc::clone(&self.name),
            incarnation: status.peer.map(|peer| peer.incarnation),
            condition: status.condition,
            since: status.since,
            lanes: status.lanes,
            answering: status.answering,
            error: status.error,
            refusal: status.refusal,
            queued_bytes,
            held_bytes,
            oldest_age_ms,
            dropped,
            messages_turned_away,
            messages_lost,
            duplicates,
            gaps,
            counts: self.counters.counts(),
        }
    }
}

impl std::fmt::Debug for PeerLink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PeerLink({})", self.name)
    }
}
