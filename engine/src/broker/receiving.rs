//! Messages that come from another node: they are routed to subscribers of this node only, written down as those of a
//! client are, and acknowledged once the store has kept them.
//!
//! With what a batch writes down goes a row that says how far this run of the peer has come, within the batch as well. So a
//! node that starts again knows what it has, and what it does not know is sent to it again. The two are records of their own:
//! only a crash in the middle of one write to the file can part them, and then messages come twice.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::codec::text::validate_topic_name;
use crate::message::{MessageId, Place};
use crate::metrics::Counter;
use crate::peer::{Forwarded, Groups, Messages, PeerId, PeerLink, Taken};
use crate::protocol::{Context, Outgoing};
use crate::store::Lsn;

use super::events::{Event, Level};
use super::taken::{RUN_LEN, run_of};
use super::writing::Progress;
use super::{Batch, Node, Noted, Promise};

/// Where the store has how far each peer has come.
const APPLIED_PREFIX: &[u8] = b"peer/applied/";
/// The same, sequence number, messages of that batch that are written down, and how many it has.
const APPLIED_LEN: usize = RUN_LEN + 8 + 4 + 4;
/// Sets of what threads of peers work with that are kept for later.
const DESKS_KEPT_MAX: usize = 8;

/// What the thread of a peer works with.
pub(super) struct ReceivingDesk {
    cx: Context,
    batch: Batch,
}

/// A batch that the store has not kept yet.
pub(super) struct Receipt {
    lsn: Lsn,
    link: Arc<PeerLink>,
    from: Arc<PeerId>,
    seq: u64,
}

impl Node {
    /// How far this run of a peer had come when it was last written down; 0: not at all. Of the batch behind that a part may be
    /// there already, which [`Node::receive_batch`] passes over.
    pub fn last_applied(&self, from: &PeerId) -> u64 {
        let Some(store) = self.store() else { return 0 };
        let value = match store.get_metadata(&applied_key(from)) {
            Ok(value) => value,
            Err(error) => {
                let message = format!("it is not known how far {} has come: {error}", from.name);
                self.tell_operator(Event::Log { level: Level::Error, message, fields: Vec::new() });
                None
            }
        };
        let Some(applied) = value.as_deref().and_then(|value| Applied::read(value, from)) else { return 0 };
        if applied.messages >= applied.of {
            return applied.seq;
        }
        self.remotes.begun.lock().insert(Arc::clone(&from.name), (applied.seq, applied.messages));
        applied.seq - 1
    }

    /// How many messages of a batch are here already: some where this node ended while it wrote them down.
    fn begun(&self, from: &PeerId, seq: u64) -> u32 {
        let mut begun = self.remotes.begun.lock();
        if begun.is_empty() || seq == 0 {
            return 0;
        }
        // Only the first batch can be such a one.
        begun.remove(&from.name).filter(|(begun_seq, _)| *begun_seq == seq).map_or(0, |(_, messages)| messages)
    }

    /// Takes a batch of a peer. On the peer's thread, one batch of it after the other.
    pub fn receive_batch(&self, link: &Arc<PeerLink>, from: &Arc<PeerId>, seq: u64, messages: Messages<'_>) -> Taken {
        let kept = self.remotes.desks.lock().pop();
        let mut desk = kept.unwrap_or_else(|| ReceivingDesk { cx: self.context(), batch: Batch::for_peers() });
        self.refresh(&mut desk.cx);
        let taken = catch_unwind(AssertUnwindSafe(|| self.receive_messages(&mut desk, from, seq, messages)));
        if taken.is_err() {
            // Whatever it is about, the message that brought the bug to light must not end more than the connection.
            desk.batch.abandon();
            desk.cx.notices.clear();
            desk.cx.tally.add(Counter::Panic, 1);
            let message = "a bug in the broker was met while a batch of another node was processed; please report it";
            self.log(&mut desk.cx, Level::Error, message, vec![("node", from.name.to_string())]);
        }
        self.finish(&mut desk);
        let taken = match taken {
            Ok(Some(lsn)) if desk.cx.is_kept(lsn) => Taken::Now,
            Ok(Some(lsn)) => {
                let receipt = Receipt { lsn, link: Arc::clone(link), from: Arc::clone(from), seq };
                self.remotes.receipts.lock().push(receipt);
                // It may have been kept between the two.
                self.tell_peers_what_is_kept();
                Taken::Later
            }
            Ok(None) | Err(_) => Taken::Not,
        };
        let mut desks = self.remotes.desks.lock();
        if desks.len() < DESKS_KEPT_MAX {
            desks.push(desk);
        }
        taken
    }

    /// Routes the messages of a batch and hands them over. What the store must have kept before they may be acknowledged, 0 for
    /// nothing; `None`: they cannot be taken, and nobody has got any of them.
    fn receive_messages(
        &self,
        desk: &mut ReceivingDesk,
        from: &PeerId,
        seq: u64,
        messages: Messages<'_>,
    ) -> Option<Lsn> {
        let ReceivingDesk { cx, batch } = desk;
        let input = messages.bytes();
        if self.is_refused(cx, batch, input, messages.clone()) {
            cx.tally.add(Counter::StorePublishRefused, 1);
            return None;
        }
        let _handing_over = self.hand_over_begins();
        let mut mountpoint: Arc<str> = self.nobody().mountpoint;
        let of = messages.clone().filter(Forwarded::is_reliable).count() as u32;
        let begun = self.begun(from, seq);
        batch.begin_progress((seq > 0).then(|| progress_of(from, seq, of)));
        let (origin, run) = (MessageId::origin_of(&from.name), run_of(from));
        let mut ordinal = 0;
        let mut is_for_nobody = false;
        let mut groups = Groups::default();
        for message in messages {
            ordinal += u32::from(message.is_reliable());
            let is_known = message.is_reliable() && ordinal <= begun;
            if is_known || !is_for_here(&message) {
                continue;
            }
            if is_for_nobody != message.retained_as.is_some() {
                batch.dispatch(self, cx, input, false);
                is_for_nobody = message.retained_as.is_some();
                batch.set_for_nobody(is_for_nobody);
            }
            let message_id = message.retained_as.unwrap_or(MessageId { origin, stamp: message.stamp });
            if message.is_exactly_once() && !self.remotes.taken.lock().note(&run, message_id, message.is_repeat) {
                continue;
            }
            batch.name_next(ordinal, message_id);
            if *mountpoint != *message.mountpoint {
                mountpoint = message.mountpoint.into();
            }
            if message.groups != groups {
                batch.dispatch(self, cx, input, false);
                groups = message.groups;
                batch.want_groups(groups);
            }
            batch.add(self, cx, input, &mountpoint, outgoing_of(&message), Promise::default());
        }
        batch.dispatch(self, cx, input, false);
        batch.want_groups(Groups::default());
        batch.set_for_nobody(false);
        let is_written = batch.end_progress();
        Some(self.store().filter(|_| is_written).map_or(0, |store| store.appended()))
    }

    /// Whether the store takes too little for what has to be kept of a batch. Found out before anybody gets anything of it.
    fn is_refused(&self, cx: &mut Context, batch: &mut Batch, input: &[u8], messages: Messages<'_>) -> bool {
        let Some(store) = self.store() else { return false };
        if store.refusal_of(input.len() * 2).is_none() {
            return false;
        }
        // Only now it matters what exactly has to be kept.
        let mut is_refused = false;
        for message in messages.filter(is_for_here) {
            batch.want_groups(message.groups);
            batch.set_for_nobody(message.retained_as.is_some());
            let promise = Promise { is_awaited: true, unreleased: None };
            let noted = batch.add(self, cx, input, &message.mountpoint.into(), outgoing_of(&message), promise);
            is_refused |= matches!(noted, Noted::Refused(_));
        }
        batch.forget_noted();
        batch.set_for_nobody(false);
        is_refused
    }

    /// Lets out what a batch has left for clients.
    fn finish(&self, desk: &mut ReceivingDesk) {
        let ReceivingDesk { cx, batch } = desk;
        while batch.has_flush_due() {
            batch.flush_all(self, cx);
        }
        if let Some(crew) = self.crew.get() {
            if batch.has_held() {
                crew.hold(batch.take_held());
            }
            if self.take_deadline_moved() {
                crew.look_at_deadlines();
            }
        }
        self.metrics.absorb(&mut cx.tally);
    }

    /// The store has kept more: peers that wait for that hear of it.
    pub fn tell_peers_what_is_kept(&self) {
        let Some(store) = self.store() else { return };
        let mut kept = Vec::new();
        self.remotes.receipts.lock().retain_mut(|receipt| {
            let is_kept = store.is_kept(receipt.lsn);
            if is_kept {
                kept.push((Arc::clone(&receipt.link), Arc::clone(&receipt.from), receipt.seq));
            }
            !is_kept
        });
        for (link, from, seq) in kept {
            link.kept(&from, seq);
        }
    }

    /// A peer has kept more, or cannot be reached any more: connections that wait for it are looked at.
    pub fn peer_has_moved(&self, link: &PeerLink) {
        if link.take_waiters()
            && let Some(crew) = self.crew.get()
        {
            crew.look_at_held();
        }
    }
}

/// What a batch knows of messages that come from another node.
impl Batch {
    pub(super) fn for_peers() -> Self {
        let mut batch = Self::default();
        batch.is_from_peer = true;
        batch
    }

    /// A batch of another node begins, whose progress is written down with its messages.
    fn begin_progress(&mut self, progress: Option<Progress>) {
        self.beside.progress = progress;
        self.ordinal = 0;
    }

    /// The batch is over: whether anything of it was written down.
    fn end_progress(&mut self) -> bool {
        self.beside.progress.take().is_some_and(|progress| progress.is_written)
    }

    /// The message that is noted next: how many that count have come with it, and its name.
    pub(super) fn name_next(&mut self, ordinal: u32, message_id: MessageId) {
        self.ordinal = ordinal;
        self.message_id = message_id;
    }

    /// Messages that are noted from now on go to members of these groups as well, and of no others.
    fn want_groups(&mut self, groups: Groups<'_>) {
        self.wanted_groups.clear();
        self.wanted_groups.extend(groups.iter().map(|(group, filter)| (group.into(), filter.into())));
    }

    /// Messages are only retained from now on, and handed to nobody; or are handed over as others are.
    fn set_for_nobody(&mut self, is_for_nobody: bool) {
        self.is_for_nobody = is_for_nobody;
    }
}

/// Whether a message is to be routed here. One for a single client is of a version to come, one with a bad topic a peer's bug.
fn is_for_here(message: &Forwarded<'_>) -> bool {
    message.receiver.is_none() && validate_topic_name(message.publication.topic_text()).is_ok()
}

fn outgoing_of<'a>(message: &Forwarded<'a>) -> Outgoing<'a> {
    Outgoing { publication: message.publication, message: None, place: Place::NONE }
}

fn applied_key(from: &PeerId) -> Vec<u8> {
    [APPLIED_PREFIX, from.name.as_bytes()].concat()
}

/// What goes with the messages of a batch, of which so many count.
fn progress_of(from: &PeerId, seq: u64, of: u32) -> Progress {
    let run = run_of(from);
    let value = move |messages: u32| Applied { seq, messages, of }.to_bytes(&run).to_vec();
    Progress { key: applied_key(from), value: Box::new(value), is_written: false }
}

/// How far a run of a peer has come.
struct Applied {
    /// The batch.
    seq: u64,
    /// Messages of it that are written down.
    messages: u32,
    /// How many it has.
    of: u32,
}

impl Applied {
    fn to_bytes(&self, run: &[u8; RUN_LEN]) -> [u8; APPLIED_LEN] {
        let mut bytes = [0; APPLIED_LEN];
        bytes[..RUN_LEN].copy_from_slice(run);
        bytes[RUN_LEN..RUN_LEN + 8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[RUN_LEN + 8..RUN_LEN + 12].copy_from_slice(&self.messages.to_be_bytes());
        bytes[RUN_LEN + 12..].copy_from_slice(&self.of.to_be_bytes());
        bytes
    }

    /// `None`: it is of another run, or none at all.
    fn read(bytes: &[u8], from: &PeerId) -> Option<Self> {
        let (run, rest) = bytes.split_at_checked(RUN_LEN)?;
        let (seq, rest) = rest.split_first_chunk()?;
        let (messages, of) = rest.split_first_chunk()?;
        let applied = Self {
            seq: u64::from_be_bytes(*seq),
            messages: u32::from_be_bytes(*messages),
            of: u32::from_be_bytes(of.try_into().ok()?),
        };
        (run == run_of(from) && applied.seq > 0).then_some(applied)
    }
}
