//! Packet identifiers of QoS 2 messages that a client sent and has not released [MQTT-4.3.3-10].

use std::collections::HashMap;

/// A set of packet identifiers, each with whether the store has it; empty it takes no memory beyond itself. At most 65,535
/// fit by nature.
#[derive(Debug, Default)]
pub struct ReceivedIds(HashMap<u16, bool, ahash::RandomState>);

impl ReceivedIds {
    /// Notes an identifier. False: it was there, so the message is a repeat and must not be passed on again.
    pub fn insert(&mut self, packet_id: u16) -> bool {
        let before = self.0.len();
        self.0.entry(packet_id).or_insert(false);
        self.0.len() > before
    }

    /// Notes that the store has an identifier. False: it is not open.
    pub fn note_kept(&mut self, packet_id: u16) -> bool {
        self.0.get_mut(&packet_id).map(|is_kept| *is_kept = true).is_some()
    }

    /// Whether an identifier is open.
    pub fn contains(&self, packet_id: u16) -> bool {
        self.0.contains_key(&packet_id)
    }

    /// Forgets an identifier. False: it was not there.
    pub fn remove(&mut self, packet_id: u16) -> bool {
        self.0.remove(&packet_id).is_some()
    }

    /// Those that the store has, in no order.
    pub fn kept(&self) -> impl Iterator<Item = u16> {
        self.0.iter().filter(|(_, is_kept)| **is_kept).map(|(&packet_id, _)| packet_id)
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
