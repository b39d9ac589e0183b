//! The outgoing window: QoS 1 and 2 messages that were sent and are not yet acknowledged, in the order of sending.
//!
//! Deliveries are numbered, and identifiers follow the numbers in a circle, so the position of an identifier in the ring is
//! a subtraction. An acknowledgement out of order leaves a hole which closes when everything older is gone; the ring never
//! holds more than the 65,535 identifiers there are, and a hole holds no message.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::message::{Message, Place};

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
    /// The message; gone once it need not be sent again, and while it is only in the store.
    pub message: Option<Message>,
    /// Where the store has it.
    pub place: Place,
    /// The message is another one than the store has: Python changed it for this client.
    pub is_changed: bool,
    /// Subscription identifiers as sent.
    pub identifiers: SmallVec<[u32; 1]>,
}

impl Slot {
    fn finished() -> Self {
        let state = InflightState::Finished;
        Self {
            state,
            retain: false,
            message: None,
            place: Place::NONE,
            is_changed: false,
            identifiers: SmallVec::new(),
        }
    }
}

/// A delivery that an acknowledgement was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub number: u64,
    /// Where the store has it.
    pub place: Place,
}

const IDS: u64 = 65_535;

/// The window of one session.
#[derive(Debug)]
pub struct Inflight {
    slots: VecDeque<Slot>,
    /// Number of the first slot, of the next message when there is no slot; the first of all is 1.
    first: u64,
    /// Slots that are not finished.
    open: usize,
}

impl Default for Inflight {
    fn default() -> Self {
        Self { slots: VecDeque::new(), first: 1, open: 0 }
    }
}

/// The packet identifier of a delivery, 1 to 65,535.
#[inline]
pub const fn packet_id(number: u64) -> u16 {
    ((number - 1) % IDS + 1) as u16
}

impl Inflight {
    /// A window with these deliveries under way: numbers, in ascending order, and what was sent. `None`: the numbers cannot be
    /// those of one window.
    pub fn restore(deliveries: impl IntoIterator<Item = (u64, Slot)>) -> Option<Self> {
        let mut window = Self::default();
        for (number, slot) in deliveries {
            if window.slots.is_empty() {
                window.first = number.max(1);
            }
            let offset = number.checked_sub(window.first).filter(|offset| *offset < IDS)? as usize;
            if offset < window.slots.len() {
                return None;
            }
            window.slots.resize_with(offset, Slot::finished);
            window.open += usize::from(slot.state != InflightState::Finished);
            window.slots.push_back(slot);
        }
        Some(window)
    }

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
        self.open < limit && (self.slots.len() as u64) < IDS
    }

    /// Takes a message into the window and gives it the next number, from which [`packet_id`] makes the identifier.
    ///
    /// The caller has checked [`Inflight::has_room`].
    #[inline]
    pub fn push(
        &mut self,
        message: Message,
        place: Place,
        qos: u8,
        retain: bool,
        identifiers: SmallVec<[u32; 1]>,
    ) -> u64 {
        debug_assert!((self.slots.len() as u64) < IDS && (1..=2).contains(&qos));
        let number = self.first + self.slots.len() as u64;
        let state = if qos == 1 { InflightState::AwaitingPuback } else { InflightState::AwaitingPubrec };
        self.slots.push_back(Slot { state, retain, message: Some(message), place, is_changed: false, identifiers });
        self.open += 1;
        number
    }

    /// Notes whether the message under an identifier is another one than the store has.
    pub fn mark_changed(&mut self, packet_id: u16, is_changed: bool) {
        if let Some(slot) = self.offset(packet_id).and_then(|offset| self.slots.get_mut(offset)) {
            slot.is_changed = is_changed;
        }
    }

    fn offset(&self, packet_id: u16) -> Option<usize> {
        let first = u64::from(self::packet_id(self.first));
        (packet_id != 0).then(|| ((u64::from(packet_id) + IDS - first) % IDS) as usize)
    }

    /// What is under way under an identifier.
    pub fn slot(&self, packet_id: u16) -> Option<&Slot> {
        let slot = self.slots.get(self.offset(packet_id)?)?;
        (slot.state != InflightState::Finished).then_some(slot)
    }

    /// PUBACK, PUBCOMP, or a PUBREC with an error: the delivery is over [MQTT-4.4.0-2]. `None`: it was not awaited.
    #[inline]
    pub fn finish(&mut self, packet_id: u16, awaited: InflightState) -> Option<Acknowledged> {
        let offset = self.offset(packet_id)?;
        let slot = self.slots.get_mut(offset).filter(|slot| slot.state == awaited)?;
        slot.state = InflightState::Finished;
        slot.message = None;
        let place = std::mem::take(&mut slot.place);
        let acknowledged = Acknowledged { number: self.first + offset as u64, place };
        self.open -= 1;
        while self.slots.front().is_some_and(|slot| slot.state == InflightState::Finished) {
            self.slots.pop_front();
            self.first += 1;
        }
        if self.slots.is_empty() && self.slots.capacity() > SHRINK_ABOVE {
            self.slots.shrink_to(SHRINK_ABOVE / 4);
        }
        Some(acknowledged)
    }

    /// PUBREC with success: from now on only PUBREL is sent [MQTT-4.3.3-6]. `None`: it was not awaited. The place comes back
    /// with the body for the first PUBREC, without for those that the client repeats because a PUBREL was lost.
    pub fn release(&mut self, packet_id: u16) -> Option<Acknowledged> {
        let offset = self.offset(packet_id)?;
        let number = self.first + offset as u64;
        let slot = self.slots.get_mut(offset)?;
        match slot.state {
            InflightState::AwaitingPubrec => {
                let place = slot.place;
                slot.state = InflightState::AwaitingPubcomp;
                slot.message = None;
                slot.place = place.without_body();
                Some(Acknowledged { number, place })
            }
            InflightState::AwaitingPubcomp => Some(Acknowledged { number, place: Place::NONE }),
            InflightState::AwaitingPuback | InflightState::Finished => None,
        }
    }

    /// All that is under way with its number, in the order of sending: what a resumed session sends again [MQTT-4.6.0-1].
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        let slots = (self.first..).zip(&self.slots);
        slots.filter(|(_, slot)| slot.state != InflightState::Finished)
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Slot)> {
        let slots = (self.first..).zip(&mut self.slots);
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
        packet_id(window.push(message(), Place::NONE, qos, false, SmallVec::new()))
    }

    fn is_finished(window: &mut Inflight, packet_id: u16, awaited: InflightState) -> bool {
        window.finish(packet_id, awaited).is_some()
    }

    #[test]
    fn identifiers_go_in_a_circle_and_skip_zero() {
        let mut window = Inflight::default();
        for round in 0..70_000_u32 {
            let packet_id = push(&mut window, 1);
            assert_eq!(u64::from(packet_id), u64::from(round) % IDS + 1);
            assert!(is_finished(&mut window, packet_id, InflightState::AwaitingPuback));
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
        assert!(!is_finished(&mut window, packet_id, InflightState::AwaitingPuback));
        assert!(!is_finished(&mut window, packet_id, InflightState::AwaitingPubcomp));
        assert!(window.release(packet_id).is_some());
        assert!(window.release(packet_id).is_some());
        assert_eq!(window.len(), 1);
        assert!(is_finished(&mut window, packet_id, InflightState::AwaitingPubcomp));
        assert!(window.release(packet_id).is_none());
        assert!(window.is_empty());
    }

    #[test]
    fn holes_are_left_out_and_close_in_order() {
        let mut window = Inflight::default();
        let ids: Vec<_> = (0..4).map(|_| push(&mut window, 1)).collect();
        let open = |window: &Inflight| window.iter().map(|(number, _)| packet_id(number)).collect::<Vec<_>>();
        window.finish(ids[1], InflightState::AwaitingPuback);
        assert_eq!(open(&window), [ids[0], ids[2], ids[3]]);
        window.finish(ids[0], InflightState::AwaitingPuback);
        assert_eq!(open(&window), [ids[2], ids[3]]);
        assert!(!is_finished(&mut window, 0, InflightState::AwaitingPuback));
    }

    #[test]
    fn a_window_is_restored_with_its_holes_and_goes_on_behind_them() {
        let slot = |state| Slot { state, ..Slot::finished() };
        let deliveries =
            [(65_534, slot(InflightState::AwaitingPuback)), (65_537, slot(InflightState::AwaitingPubcomp))];
        let mut window = Inflight::restore(deliveries).unwrap();
        assert_eq!(window.iter().map(|(number, _)| packet_id(number)).collect::<Vec<_>>(), [65_534, 2]);
        assert_eq!(push(&mut window, 1), 3);
        assert!(is_finished(&mut window, 2, InflightState::AwaitingPubcomp));
        assert!(!is_finished(&mut window, 1, InflightState::AwaitingPuback));
        let too_far = [(1, slot(InflightState::AwaitingPuback)), (65_536, slot(InflightState::AwaitingPuback))];
        assert!(Inflight::restore(too_far).is_none());
    }

    #[test]
    fn the_body_of_a_released_delivery_is_given_up_once() {
        let mut window = Inflight::default();
        let place = Place { slot: 7, segment: 3 };
        let number = window.push(message(), place, 2, false, SmallVec::new());
        assert_eq!(window.release(1), Some(Acknowledged { number, place }));
        assert_eq!(window.release(1), Some(Acknowledged { number, place: Place::NONE }));
        let last = window.finish(1, InflightState::AwaitingPubcomp).unwrap();
        assert_eq!((last.place.is_stored(), last.place.body()), (true, None));
    }
}
