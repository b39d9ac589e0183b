//! Packet identifiers of QoS 2 messages that a client sent and has not released [MQTT-4.3.3-10].

use std::collections::HashMap;

/// A set of packet identifiers, each with what became of its message; empty it takes no memory beyond itself. At most 65,535 fit by
/// nature.
#[derive(Debug, Default)]
pub struct ReceivedIds(HashMap<u16, Received, ahash::RandomState>);

/// What is known of the message that came with an identifier.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    /// The store has the identifier.
    is_kept: bool,
    /// It is not known whether other nodes have the message: the broker ended since it came.
    is_in_doubt: bool,
    /// Of a message that goes to other nodes: its stamp. 0: it goes to none.
    stamp: u64,
}

impl ReceivedIds {
    /// Notes an identifier. False: it was there, so the message is a repeat and must not be passed on again, but for what
    /// [`ReceivedIds::in_doubt`] says.
    pub fn insert(&mut self, packet_id: u16) -> bool {
        let before = self.0.len();
        self.0.entry(packet_id).or_default();
        self.0.len() > before
    }

    /// Notes an identifier that the store had when the broker started.
    pub fn restore(&mut self, packet_id: u16, stamp: u64) {
        self.0.insert(packet_id, Received { is_kept: true, is_in_doubt: stamp != 0, stamp });
    }

    /// Notes that the store has an identifier, and the stamp of its message. False: it is not open.
    pub fn note_kept(&mut self, packet_id: u16, stamp: u64) -> bool {
        let Some(received) = self.0.get_mut(&packet_id) else { return false };
        (received.is_kept, received.stamp) = (true, stamp);
        true
    }

    /// The stamp of a message that other nodes may lack, so a repeat of it goes to them.
    pub fn in_doubt(&self, packet_id: u16) -> Option<u64> {
        self.0.get(&packet_id).filter(|received| received.is_in_doubt).map(|received| received.stamp)
    }

    /// A repeat has been passed on.
    pub fn settle(&mut self, packet_id: u16) {
        if let Some(received) = self.0.get_mut(&packet_id) {
            received.is_in_doubt = false;
        }
    }

    /// Whether an identifier is open.
    pub fn contains(&self, packet_id: u16) -> bool {
        self.0.contains_key(&packet_id)
    }

    /// Forgets an identifier. False: it was not there.
    pub fn remove(&mut self, packet_id: u16) -> bool {
        self.0.remove(&packet_id).is_some()
    }

    /// Those that the store has, each with the stamp of its message, in no order.
    pub fn kept(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().filter(|(_, received)| received.is_kept).map(|(&packet_id, received)| (packet_id, received.stamp))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_restored_with_a_stamp_is_in_doubt_until_it_is_settled() {
        let mut ids = ReceivedIds::default();
        assert!(ids.insert(1));
        assert!(ids.note_kept(1, 7));
        ids.restore(2, 8);
        ids.restore(3, 0);
        assert_eq!([1, 2, 3, 4].map(|packet_id| ids.in_doubt(packet_id)), [None, Some(8), None, None]);
        assert!(!ids.insert(2));
        ids.settle(2);
        assert_eq!(ids.in_doubt(2), None);
        let mut kept: Vec<(u16, u64)> = ids.kept().collect();
        kept.sort_unstable();
        assert_eq!(kept, [(1, 7), (2, 8), (3, 0)]);
    }
}
