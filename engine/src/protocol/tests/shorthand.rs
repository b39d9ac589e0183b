//! What tests of one rule at a time say in one word; histories do without.

use super::engine::codec::{Packet, PacketType, Properties, PublishHead, QoS, Subscribe, SubscribeOptions};
use super::engine::protocol::Step;
use super::node::{Node, publish_bytes};

impl Node {
    /// A client publishes.
    pub fn publish(&mut self, seat: usize, head: PublishHead<'_>, payload: &[u8]) -> Step {
        let version = self.session(seat).connection.as_ref().expect("the client is connected").version;
        self.send_bytes(seat, &publish_bytes(version, head, payload))
    }

    /// A client subscribes with packet identifier 100.
    pub fn subscribe(&mut self, seat: usize, filters: &[(&str, SubscribeOptions)]) -> Step {
        self.send(seat, &Packet::Subscribe(Subscribe::new(100, Properties::new(), filters)))
    }

    /// A client subscribes to one filter and forgets the SUBACK.
    pub fn subscribed(&mut self, seat: usize, filter: &str, qos: u8) {
        assert_eq!(self.subscribe(seat, &[(filter, with_qos(qos))]), Step::Continue);
        assert_eq!(self.said(seat), [format!("SUBACK #100 0x{qos:02x}")]);
    }

    /// A client subscribes; the SUBACK is forgotten, what is retained is not.
    pub fn subscribed_with_retained(&mut self, seat: usize, filter: &str, qos: u8) {
        self.subscribe(seat, &[(filter, with_qos(qos))]);
        let suback = 2 + 3;
        assert!(self.heard(seat, suback).iter().all(|heard| heard.kind == PacketType::SubAck));
    }

    /// How many messages are under way to a client, wait for it, and are not released by it.
    pub fn counts(&mut self, seat: usize) -> (usize, usize, usize) {
        let session = self.session(seat);
        (session.window.len(), session.pending.len(), session.received.len())
    }
}

/// Subscribe options with nothing but a QoS.
pub fn with_qos(qos: u8) -> SubscribeOptions {
    SubscribeOptions { qos: QoS::from_u8(qos).expect("0, 1 or 2"), ..SubscribeOptions::default() }
}
