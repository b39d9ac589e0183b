//! Retained messages of two nodes: both keep the later one, however they learn of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::node_tests::{Broker, batch, eventually, pair, peer_id, publication, store_options};
use super::{Promise, RetainedTopic};
use crate::message::{MessageId, NEVER};
use crate::peer::{Forwarded, Messages, Taken};
use crate::store::Store;
use crate::store::simulated::SimulatedDisk;

const A: u32 = 10;
const B: u32 = 20;

/// What a node retains.
fn retained(broker: &Broker) -> Vec<String> {
    let messages = broker.node.retained_messages("", "#", 1, 1_000);
    messages.iter().map(|message| String::from_utf8(message.publication().payload().to_vec()).unwrap()).collect()
}

fn id(origin: u32, stamp: u64) -> MessageId {
    MessageId { origin, stamp }
}

/// Another node sends what it retains for `t`.
fn send(broker: &Broker, payload: &str, message_id: MessageId) {
    let mut span = Vec::new();
    let bytes = batch(&[Forwarded {
        is_retained_update: true,
        retained_as: Some(message_id),
        ..Forwarded::routed("", publication("t", payload, 1, true, &mut span), message_id.stamp)
    }]);
    let link = broker.peers.find("b@h").unwrap();
    let from = Arc::new(peer_id("b@h", 1));
    assert_eq!(broker.node.receive_batch(&link, &from, 0, Messages::check(&bytes, 1).unwrap()), Taken::Now);
}

fn alone() -> Broker {
    let a = Broker::start("a@h");
    a.set_peers(&[&Broker::start("b@h")]);
    a
}

#[test]
fn of_two_messages_the_later_is_kept_in_whatever_order_they_come() {
    for order in [[id(A, 5), id(B, 6)], [id(B, 6), id(A, 5)], [id(A, 6), id(B, 6)], [id(B, 6), id(A, 6)]] {
        let a = alone();
        for message_id in order {
            send(&a, &format!("{}", message_id.origin), message_id);
        }
        assert_eq!(retained(&a), ["20"]);
    }
}

#[test]
fn what_is_older_than_a_deletion_does_not_come_back() {
    let a = alone();
    send(&a, "old", id(A, 5));
    assert!(a.node.forget_retained_of("", "t", id(B, 6)));
    send(&a, "old", id(A, 5));
    assert!(retained(&a).is_empty());
    assert!(a.node.known_retained("", "t").is_some_and(|known| known.is_deleted && known.message_id == id(B, 6)));
    send(&a, "new", id(A, 7));
    assert_eq!(retained(&a), ["new"]);
    assert!(!a.node.forget_retained_of("", "t", id(B, 6)));
    assert_eq!(retained(&a), ["new"]);
    assert!(a.node.forget_retained_of("", "t", id(A, 7)), "a record without a message anywhere ends it");
}

#[test]
fn a_client_here_wins_over_what_is_known_whatever_the_clock_of_the_other_node() {
    let mut a = alone();
    let ahead = u64::MAX >> 1;
    send(&a, "of the future", id(B, ahead));
    a.publish("t", "of now", 1, true);
    assert_eq!(retained(&a), ["of now"]);
    assert!(a.node.known_retained("", "t").unwrap().message_id.stamp > ahead);
    a.publish("t", "", 1, true);
    send(&a, "of the future", id(B, ahead));
    assert!(retained(&a).is_empty());
}

#[test]
fn what_another_node_retains_is_handed_to_nobody() {
    let mut a = alone();
    a.subscribe("here", "#", None, false);
    send(&a, "state", id(B, 5));
    assert_eq!(retained(&a), ["state"]);
    assert!(a.delivered().is_empty());
    a.publish("t", "live", 1, true);
    a.expect(&[("here", "live")]);
}

#[test]
fn changes_that_were_made_here_are_noted_and_no_others() {
    let mut a = alone();
    a.publish("before", "x", 1, true);
    a.node.retained_topics.watch(|| {});
    for payload in ["1", "2", ""] {
        a.publish("mine", payload, 0, true);
    }
    a.publish("live", "x", 1, false);
    send(&a, "state", id(B, 5));
    assert!(a.node.delete_retained("", "before"));
    assert!(!a.node.delete_retained("", "before"));
    let (mut changes, is_overflown) = a.node.retained_changes(10);
    changes.sort_by(|left, right| left.topic.cmp(&right.topic));
    let named = |topic: &str| RetainedTopic { mountpoint: "".into(), topic: topic.into() };
    assert_eq!((changes, is_overflown), (vec![named("before"), named("mine")], false));
    assert!(a.node.known_retained("", "before").is_some_and(|known| known.is_deleted));
}

#[test]
fn a_page_after_the_other_shows_all() {
    let mut a = alone();
    for number in 0..25 {
        a.publish(&format!("t/{number}"), "x", 1, true);
    }
    let mut found = BTreeMap::new();
    let mut cursor = None;
    loop {
        let (page, next) = a.node.retained_page(cursor, 7);
        assert!(page.len() <= 7);
        found.extend(page.into_iter().map(|(name, known)| (name.topic, known)));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 25);
    for (topic, known) in found {
        assert_eq!(a.node.known_retained("", &topic), Some(known));
        assert!(known.message_id.is_some() && known.expires_at == NEVER);
    }
}

#[test]
fn names_survive_a_restart() {
    let disk = SimulatedDisk::new();
    let mut a = Broker::start_on("a@h", Some(&disk));
    a.publish("t", "x", 1, true);
    let known = a.node.known_retained("", "t").unwrap();
    let store = a.node.store().unwrap();
    assert!(store.commit(store.appended()));
    let (_, recovered) = Store::open(disk.clone(), store_options(0)).unwrap();
    assert_eq!(recovered.retained[""].get("t").unwrap().message_id, known.message_id);
}

#[test]
fn a_node_that_missed_messages_is_sent_them_and_nobody_there_is_told() {
    let (mut a, b) = pair();
    b.set_peers(&[]);
    eventually(|| !a.peers.find("b@h").is_some_and(|link| link.is_reachable()));
    a.publish("t", "missed", 1, true);
    a.publish("u", "gone", 1, true);
    a.publish("u", "", 1, true);
    b.set_peers(&[&a]);
    b.subscribe("there", "#", None, false);
    eventually(|| a.peers.find("b@h").is_some_and(|link| link.is_reachable()));
    let topics = || ["t", "u", "never"].map(|topic| (String::new(), topic.to_owned())).to_vec();
    assert_eq!(a.node.send_retained("b@h", topics()), Some(3));
    eventually(|| retained(&b) == ["missed"]);
    assert!(b.delivered().is_empty());
    assert_eq!(a.node.known_retained("", "t"), b.node.known_retained("", "t"));
    assert_eq!(a.node.send_retained("c@h", topics()), None);
}

#[test]
fn whoever_subscribes_between_route_and_retaining_gets_the_message() {
    let mut a = Broker::start("a@h");
    a.node.refresh(&mut a.cx);
    let mut span = Vec::new();
    let message = publication("t", "x", 1, true, &mut span);
    let nobody = a.node.nobody();
    a.node.publish(&mut a.cx, &mut a.batch, &[], &nobody, message, Promise::default());
    a.subscribe("meanwhile", "t", None, false);
    assert!(retained(&a).is_empty());
    a.batch.dispatch(&a.node, &mut a.cx, &[], false);
    a.expect(&[("meanwhile", "x")]);
    assert_eq!(retained(&a), ["x"]);
}
