//! What comes from one peer on the data lane: the receiver's half of the protocol. Pure: no socket, no clock, no lock.
//!
//! The peer sends everything anew that it does not know to be here, so what has come before is told from what is new by its
//! sequence number, per run of the peer's process. Three numbers describe a run: everything up to `received` was handed to
//! the upper layer; everything up to `kept` is safe there, so that the peer may forget it; what lies between is waited for,
//! and its bytes count against the peer's credit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::identity::PeerId;

/// Sequence numbers between the links that one process makes to one peer, since it may forget the peer and then have it again.
/// No link sends so many batches, so a step of that size leaves nothing out.
pub(super) const LINK_SPACING: u64 = 1 << 40;

/// What the upper layer did with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is safe: the peer may forget it.
    Now,
    /// It will be said later, by [`super::PeerLink::kept`].
    Later,
    /// It cannot be taken; the connection ends, and the peer sends it again.
    Not,
}

/// Whether a batch is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is to be handed on.
    New,
    /// It was handed on before.
    Duplicate,
}

/// What a peer is told when it connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Everything up to this is kept.
    pub kept: u64,
    /// Everything up to this has come, and need not be sent again.
    pub received: u64,
    /// Bytes that may be sent.
    pub credit: u64,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    seq: u64,
    size: u64,
    is_kept: bool,
}

/// What comes from one peer.
#[derive(Debug)]
pub struct Inbox {
    /// Bytes that the peer may have on their way here, or waiting to be kept.
    window: u64,
    from: Option<Arc<PeerId>>,
    received: u64,
    kept: u64,
    /// Batches that were handed on and are not kept, or come after one that is not.
    pending: VecDeque<Pending>,
    pending_bytes: u64,
    /// Bytes of batches on this connection.
    arrived: u64,
    told_kept: u64,
    told_credit: u64,
    duplicates: u64,
    gaps: u64,
}

impl Inbox {
    /// An empty one. `window`: bytes of credit.
    pub fn new(window: u64) -> Self {
        Self {
            window,
            from: None,
            received: 0,
            kept: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
            arrived: 0,
            told_kept: 0,
            told_credit: 0,
            duplicates: 0,
            gaps: 0,
        }
    }

    /// Changes the credit of connections that begin from now on.
    pub fn set_window(&mut self, window: u64) {
        self.window = window;
    }

    /// Whether it knows how far this run of the peer had come.
    pub fn knows(&self, from: &PeerId) -> bool {
        self.from.as_deref() == Some(from)
    }

    /// A connection begins. `kept`: what the upper layer has of this run of the peer, asked only when nothing is known here.
    pub fn begin(&mut self, from: &Arc<PeerId>, kept: impl FnOnce() -> u64) -> Resume {
        if !self.knows(from) {
            let kept = kept();
            *self = Self {
                from: Some(Arc::clone(from)),
                received: kept,
                kept,
                duplicates: self.duplicates,
                gaps: self.gaps,
                ..Self::new(self.window)
            };
        }
        self.arrived = 0;
        self.told_kept = self.kept;
        self.told_credit = self.window.saturating_sub(self.pending_bytes);
        Resume { kept: self.kept, received: self.received, credit: self.told_credit }
    }

    /// A batch has come; a new one is waited for from now on, until it is settled or kept. `seq` 0: it has no place in the
    /// sequence and is always new.
    pub fn arrive(&mut self, seq: u64, size: u64) -> Arrival {
        self.arrived += size;
        if seq == 0 {
            return Arrival::New;
        }
        if seq <= self.received {
            self.duplicates += 1;
            return Arrival::Duplicate;
        }
        // What is missing was kept by this node with an earlier data directory, or the peer would send it first.
        self.gaps += u64::from(seq > self.received + 1 && seq - self.received < LINK_SPACING / 2);
        self.received = seq;
        self.pending.push_back(Pending { seq, size, is_kept: false });
        self.pending_bytes += size;
        Arrival::New
    }

    /// What the upper layer did with the batch that has come last. False: the connection is to be ended.
    pub fn settle(&mut self, seq: u64, taken: Taken) -> bool {
        match (taken, self.pending.back_mut()) {
            (Taken::Now, Some(last)) if last.seq == seq => {
                last.is_kept = true;
                self.keep_up_to(0);
            }
            (Taken::Not, Some(last)) if last.seq == seq => {
                self.pending_bytes -= last.size;
                self.received = seq - 1;
                self.pending.pop_back();
            }
            _ => {}
        }
        taken != Taken::Not
    }

    /// Everything up to a sequence number is kept. False: nothing of it was waited for.
    pub fn keep(&mut self, from: &PeerId, seq: u64) -> bool {
        if !self.knows(from) {
            return false;
        }
        let before = self.kept;
        self.keep_up_to(seq);
        self.kept > before
    }

    /// Lets go of what is kept and has nothing before it that is not.
    fn keep_up_to(&mut self, seq: u64) {
        while let Some(first) = self.pending.front()
            && (first.is_kept || first.seq <= seq)
        {
            self.pending_bytes -= first.size;
            self.kept = first.seq;
            self.pending.pop_front();
        }
    }

    /// What the peer is to be told: what is kept, and its credit. `None`: nothing that is worth a frame.
    pub fn acknowledgement(&mut self) -> Option<(u64, u64)> {
        let credit = (self.arrived + self.window).saturating_sub(self.pending_bytes).max(self.told_credit);
        if self.kept == self.told_kept && credit - self.told_credit < self.window.div_ceil(4) {
            return None;
        }
        (self.told_kept, self.told_credit) = (self.kept, credit);
        Some((self.kept, credit))
    }

    /// Everything up to this was handed on.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Everything up to this is kept.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Batches that came twice, and times that something was missing.
    pub fn oddities(&self) -> (u64, u64) {
        (self.duplicates, self.gaps)
    }

    /// Bytes of batches that are not kept yet.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }
}
