//! The packet identifiers that a client has in use: messages under way, and requests to subscribe and unsubscribe.
//!
//! One circle of identifiers serves all of them, so they cannot collide ([MQTT-2.2.1-3]). The place of an identifier in the
//! ring is a subtraction; a place that is finished stays until everything older is, so the ring has at most 65,535 of them.

use std::collections::VecDeque;

use crate::codec::{ProtocolVersion, QoS};

/// What is kept of a message until it is acknowledged.
pub trait Kept {
    /// Appends the whole PUBLISH once more, with DUP and this identifier ([MQTT-3.3.1-1], [MQTT-4.4.0-1]).
    ///
    /// False, and nothing appended, when it cannot be said again (nothing was kept, or its time is over): its delivery is
    /// given up.
    fn encode_again(&self, version: ProtocolVersion, packet_id: u16, qos: QoS, out: &mut Vec<u8>) -> bool;
}

/// Nothing is kept: messages are not sent again.
impl Kept for () {
    fn encode_again(&self, _: ProtocolVersion, _: u16, _: QoS, _: &mut Vec<u8>) -> bool {
        false
    }
}

/// What an identifier waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Puback,
    Pubrec,
    Pubcomp,
    Suback,
    Unsuback,
    Finished,
}

impl Stage {
    const fn is_message(self) -> bool {
        matches!(self, Self::Puback | Self::Pubrec | Self::Pubcomp)
    }
}

#[derive(Debug)]
struct Slot<K> {
    stage: Stage,
    /// Whether it was sent over the present connection.
    sent: bool,
    kept: Option<K>,
}

const IDS: usize = 65_535;

/// The identifiers of one session.
#[derive(Debug)]
pub(super) struct Window<K> {
    slots: VecDeque<Slot<K>>,
    /// The identifier of the first slot, or of the next one if there is none.
    first_id: u16,
    /// Messages that are not acknowledged.
    messages: usize,
    /// Those of them that were sent over the present connection: what a Receive Maximum counts.
    on_wire: usize,
    /// All slots before this place were sent over the present connection.
    resent: usize,
    /// So many of the next identifiers may be in use by the server, for messages that somebody sent in this session before.
    unproven: usize,
}

fn id_at(first: u16, offset: usize) -> u16 {
    ((usize::from(first) - 1 + offset) % IDS + 1) as u16
}

/// What is to be sent again.
#[derive(Debug)]
pub(super) enum Again<'a, K> {
    Publish(u16, QoS, &'a K),
    Pubrel(u16),
}

impl<K> Window<K> {
    pub fn new() -> Self {
        Self { slots: VecDeque::new(), first_id: 1, messages: 0, on_wire: 0, resent: 0, unproven: 0 }
    }

    /// The session goes on, and who went on with it before is not known.
    pub fn resume(&mut self) {
        self.unproven = IDS;
    }

    /// The identifier that comes next, if the server may have it in use.
    #[inline]
    pub fn next_unproven(&self) -> Option<u16> {
        (self.unproven > 0).then(|| id_at(self.first_id, self.slots.len()))
    }

    /// Messages that are not acknowledged.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether nothing waits to be sent again.
    #[inline]
    pub fn is_sent(&self) -> bool {
        self.messages == self.on_wire
    }

    /// How many messages may be sent within a window of `limit`. Nothing overtakes what has to be sent again.
    #[inline]
    pub fn room(&self, limit: u16) -> usize {
        if !self.is_sent() {
            return 0;
        }
        usize::from(limit).saturating_sub(self.on_wire).min(IDS - self.slots.len())
    }

    /// Takes an identifier for something that is sent now; `None` when none is free.
    #[inline]
    pub fn push(&mut self, stage: Stage, kept: Option<K>) -> Option<u16> {
        if self.slots.len() >= IDS {
            return None;
        }
        let id = id_at(self.first_id, self.slots.len());
        self.unproven = self.unproven.saturating_sub(1);
        if stage.is_message() {
            self.messages += 1;
            self.on_wire += 1;
        }
        if self.resent == self.slots.len() {
            self.resent += 1;
        }
        self.slots.push_back(Slot { stage, sent: true, kept });
        Some(id)
    }

    #[inline]
    fn slot_mut(&mut self, id: u16) -> Option<&mut Slot<K>> {
        if id == 0 {
            return None;
        }
        let offset = (usize::from(id) + IDS - usize::from(self.first_id)) % IDS;
        self.slots.get_mut(offset)
    }

    /// Ends what waits for `awaited` under `id`. `None`: nothing does. The inner value is what was kept.
    #[inline]
    #[allow(clippy::option_option)] // whether it was awaited, and whether something was kept
    pub fn finish(&mut self, id: u16, awaited: Stage) -> Option<Option<K>> {
        let slot = self.slot_mut(id).filter(|slot| slot.stage == awaited && slot.sent)?;
        slot.stage = Stage::Finished;
        let kept = slot.kept.take();
        if awaited.is_message() {
            self.messages -= 1;
            self.on_wire -= 1;
        }
        self.drop_finished();
        Some(kept)
    }

    /// PUBREC came: PUBREL is sent and PUBCOMP awaited. False: no PUBREC was awaited. A repeated one is answered again.
    #[inline]
    pub fn received(&mut self, id: u16) -> bool {
        match self.slot_mut(id) {
            Some(slot) if slot.sent && matches!(slot.stage, Stage::Pubrec | Stage::Pubcomp) => {
                slot.stage = Stage::Pubcomp;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn drop_finished(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.stage == Stage::Finished) {
            self.slots.pop_front();
            self.first_id = id_at(self.first_id, 1);
            self.resent = self.resent.saturating_sub(1);
        }
    }

    /// The connection is gone: nothing was sent over the next one yet. Requests to subscribe die with it.
    pub fn detach(&mut self) {
        for slot in &mut self.slots {
            slot.sent = false;
            if !slot.stage.is_message() {
                slot.stage = Stage::Finished;
            }
        }
        self.on_wire = 0;
        self.resent = 0;
        self.drop_finished();
    }

    /// The server has forgotten the session: empties the window and gives back what was not acknowledged, and what has arrived
    /// and only waited for a PUBCOMP.
    pub fn forget(&mut self) -> (Vec<K>, Vec<K>) {
        let next = id_at(self.first_id, self.slots.len());
        let slots = std::mem::take(&mut self.slots);
        *self = Self { first_id: next, ..Self::new() };
        let (arrived, abandoned): (Vec<_>, Vec<_>) = slots.into_iter().partition(|slot| slot.stage == Stage::Pubcomp);
        let kept = |slots: Vec<Slot<K>>| slots.into_iter().filter_map(|slot| slot.kept).collect();
        (kept(abandoned), kept(arrived))
    }

    /// The next thing that has to be sent again and fits into a window of `limit`; it then counts as sent.
    pub fn next_again(&mut self, limit: u16) -> Option<Again<'_, K>> {
        while let Some(slot) = self.slots.get(self.resent) {
            if !slot.sent && slot.stage.is_message() {
                break;
            }
            self.resent += 1;
        }
        let id = id_at(self.first_id, self.resent);
        let is_full = self.on_wire >= usize::from(limit);
        let slot = self.slots.get_mut(self.resent)?;
        // A PUBREL is no new message: the Receive Maximum does not hold it back (MQTT 5 §4.9).
        if is_full && slot.stage != Stage::Pubcomp {
            return None;
        }
        slot.sent = true;
        self.on_wire += 1;
        self.resent += 1;
        match (slot.stage, &slot.kept) {
            (Stage::Puback, Some(kept)) => Some(Again::Publish(id, QoS::AtLeastOnce, kept)),
            (Stage::Pubrec, Some(kept)) => Some(Again::Publish(id, QoS::ExactlyOnce, kept)),
            // Only a message of which nothing was kept would end here by mistake, and each is pushed with something.
            _ => Some(Again::Pubrel(id)),
        }
    }

    /// Gives up a message that was to be sent again.
    pub fn give_up(&mut self, id: u16) -> Option<K> {
        let stage = self.slot_mut(id)?.stage;
        self.finish(id, stage).flatten()
    }
}
