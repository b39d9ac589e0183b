//! Packet identifiers of QoS 2 messages that a client sent and has not released [MQTT-4.3.3-10].

use std::collections::HashSet;

/// A set of packet identifiers; empty it takes no memory beyond itself. At most 65,535 fit by nature.
#[derive(Debug, Default)]
pub struct ReceivedIds(HashSet<u16, ahash::RandomState>);

impl ReceivedIds {
    /// Notes an identifier. False: it was there, so the message is a repeat and must not be passed on again.
    pub fn insert(&mut self, packet_id: u16) -> bool {
        self.0.insert(packet_id)
    }

    /// Whether an identifier is open.
    pub fn contains(&self, packet_id: u16) -> bool {
        self.0.contains(&packet_id)
    }

    /// Forgets an identifier. False: it was not there.
    pub fn remove(&mut self, packet_id: u16) -> bool {
        self.0.remove(&packet_id)
    }

    /// All that are open, in no order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
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
