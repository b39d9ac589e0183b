//! The outgoing window: QoS 1 and 2 messages that were sent and are not yet acknowledged, in the order of sending.
//!
//! Identifiers are handed out in a circle, so the position of an identifier in the ring is a subtraction. An
//! acknowledgement out of order leaves a hole which closes when everything older is gone; the ring never holds more than the
//! 65,535 identifiers there are, and a hole holds no message.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::message::Message;

/// How far the delivery of a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflightState {
    /// QoS 1: PUBACK is awaited.
    AwaitingPuback,
    /// QoS 2: PUBREC is awaited.
    AwaitingPubrec,
    /// QoS 2: PUBREL was sent, PUBCOMP is awaited.
    AwaitingPubcomp,
    /// Finished; only its place is left.
    Finished,
}

/// One place of the window.
#[derive(Debug)]
pub struct Slot {
    /// How far it is.
    pub state: InflightState,
    /// RETAIN as sent.
    pub retain: bool,
    /// The message; gone once it need not be sent again.
    pub message: Option<Message>,
    /// Subscription identifiers as sent.
    pub identifiers: SmallVec<[u32; 1]>,
}

/// What an acknowledgement meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// It was awaited.
    Expected,
    /// Nothing was outstanding under this identifier, or something else.
    Unknown,
}

const IDS: u32 = 65_535;

/// The window of one session.
#[derive(Debug)]
pub struct Inflight {
    slots: VecDeque<Slot>,
    /// Identifier of the first slot, 1 to 65,535; of the next message when there is no slot.
    first_id: u16,
    /// Slots that are not finished.
    open: usize,
}

impl Default for Inflight {
    fn default() -> Self {
        Self { slots: VecDeque::new(), first_id: 1, open: 0 }
    }
}

fn id_after(first: u16, offset: usize) -> u16 {
    ((u32::from(first) - 1 + offset as u32) % IDS + 1) as u16
}

impl Inflight {
    /// Messages that are under way, which the client's Receive Maximum limits [MQTT-3.3.4-9].
    #[inline]
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Whether another message may be sent within a window of `limit`.
    #[inline]
    pub fn has_room(&self, limit: usize) -> bool {
        self.open < limit && self.slots.len() < IDS as usize
    }

    /// Takes a message into the window and gives it the next packet identifier.
    ///
    /// The caller has checked [`Inflight::has_room`].
    #[inline]
    pub fn push(&mut self, message: Message, qos: u8, retain: bool, identifiers: SmallVec<[u32; 1]>) -> u16 {
        debug_assert!(self.slots.len() < IDS as usize && (1..=2).contains(&qos));
        let packet_id = id_after(self.first_id, self.slots.len());
        let state = if qos == 1 { InflightState::AwaitingPuback } else { InflightState::AwaitingPubrec };
        self.slots.push_back(Slot { state, retain, message: Some(message), identifiers });
        self.open += 1;
        packet_id
    }

    fn offset(&self, packet_id: u16) -> Option<usize> {
        (packet_id != 0).then(|| ((u32::from(packet_id) + IDS - u32::from(self.first_id)) % IDS) as usize)
    }

    fn slot_mut(&mut self, packet_id: u16) -> Option<&mut Slot> {
        let offset = self.offset(packet_id)?;
        self.slots.get_mut(offset)
    }

    /// What is under way under an identifier.
    pub fn slot(&self, packet_id: u16) -> Option<&Slot> {
        let slot = self.slots.get(self.offset(packet_id)?)?;
        (slot.state != InflightState::Finished).then_some(slot)
    }

    /// PUBACK, or a PUBREC with an error: the delivery is over [MQTT-4.4.0-2].
    #[inline]
    pub fn finish(&mut self, packet_id: u16, awaited: InflightState) -> Acknowledged {
        let Some(slot) = self.slot_mut(packet_id).filter(|slot| slot.state == awaited) else {
            return Acknowledged::Unknown;
        };
        slot.state = InflightState::Finished;
        slot.message = None;
        self.open -= 1;
        while self.slots.front().is_some_and(|slot| slot.state == InflightState::Finished) {
            self.slots.pop_front();
            self.first_id = id_after(self.first_id, 1);
        }
        if self.slots.is_empty() && self.slots.capacity() > SHRINK_ABOVE {
            self.slots.shrink_to(SHRINK_ABOVE / 4);
        }
        Acknowledged::Expected
    }

    /// PUBREC with success: from now on only PUBREL is sent [MQTT-4.3.3-6].
    pub fn release(&mut self, packet_id: u16) -> Acknowledged {
        match self.slot_mut(packet_id) {
            Some(slot) if slot.state == InflightState::AwaitingPubrec => {
                slot.state = InflightState::AwaitingPubcomp;
                slot.message = None;
                Acknowledged::Expected
            }
            // The client repeats a PUBREC whose PUBREL was lost with the connection.
            Some(slot) if slot.state == InflightState::AwaitingPubcomp => Acknowledged::Expected,
            _ => Acknowledged::Unknown,
        }
    }

    /// All that is under way with its identifier, in the order of sending: what a resumed session sends again [MQTT-4.6.0-1].
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Slot)> {
        let first = self.first_id;
        let slots = self.slots.iter().enumerate().map(move |(offset, slot)| (id_after(first, offset), slot));
        slots.filter(|(_, slot)| slot.state != InflightState::Finished)
    }
}

/// An empty window keeps at most this many places allocated times a quarter.
const SHRINK_ABOVE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Head, NEVER, Publication};

    fn message() -> Message {
        let mut arena = Vec::new();
        let layout = Publication::compose(&mut arena, b"t", b"", b"p");
        Message::keep(&Publication {
            head: Head { layout, qos: 2, retain: false, expires_at: NEVER, origin: 0 },
            span: &arena,
        })
    }

    fn push(window: &mut Inflight, qos: u8) -> u16 {
        window.push(message(), qos, false, SmallVec::new())
    }

    #[test]
    fn identifiers_go_in_a_circle_and_skip_zero() {
        let mut window = Inflight::default();
        for round in 0..70_000_u32 {
            let packet_id = push(&mut window, 1);
            assert_eq!(u32::from(packet_id), round % IDS + 1);
            assert_eq!(window.finish(packet_id, InflightState::AwaitingPuback), Acknowledged::Expected);
        }
        assert!(window.is_empty());
    }

    #[test]
    fn an_identifier_is_not_used_again_while_it_is_under_way() {
        let mut window = Inflight::default();
        let first = push(&mut window, 1);
        for _ in 1..IDS {
            assert!(window.has_room(usize::MAX));
            let packet_id = push(&mut window, 1);
            assert_ne!(packet_id, first);
            window.finish(packet_id, InflightState::AwaitingPuback);
        }
        assert!(!window.has_room(usize::MAX));
        window.finish(first, InflightState::AwaitingPuback);
        assert!(window.has_room(usize::MAX));
    }

    #[test]
    fn a_qos_2_delivery_goes_through_its_states_and_no_others() {
        let mut window = Inflight::default();
        let packet_id = push(&mut window, 2);
        assert_eq!(window.finish(packet_id, InflightState::AwaitingPuback), Acknowledged::Unknown);
        assert_eq!(window.finish(packet_id, InflightState::AwaitingPubcomp), Acknowledged::Unknown);
        assert_eq!(window.release(packet_id), Acknowledged::Expected);
        assert_eq!(window.release(packet_id), Acknowledged::Expected);
        assert_eq!(window.len(), 1);
        assert_eq!(window.finish(packet_id, InflightState::AwaitingPubcomp), Acknowledged::Expected);
        assert_eq!(window.release(packet_id), Acknowledged::Unknown);
        assert!(window.is_empty());
    }

    #[test]
    fn holes_are_left_out_and_close_in_order() {
        let mut window = Inflight::default();
        let ids: Vec<_> = (0..4).map(|_| push(&mut window, 1)).collect();
        window.finish(ids[1], InflightState::AwaitingPuback);
        assert_eq!(window.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ids[0], ids[2], ids[3]]);
        window.finish(ids[0], InflightState::AwaitingPuback);
        assert_eq!(window.iter().map(|(id, _)| id).collect::<Vec<_>>(), [ids[2], ids[3]]);
        assert_eq!(window.finish(0, InflightState::AwaitingPuback), Acknowledged::Unknown);
    }
}
