//! Retained messages towards a new subscription: Retain Handling, QoS, limits.

use super::engine::codec::{Packet, ProtocolVersion, PublishHead, RetainHandling, SubscribeOptions};
use super::engine::settings::Settings;
use super::node::{Node, head};
use super::shorthand::with_qos;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// A node on which `a` (QoS 0) and `b` (QoS 2) are retained.
fn node(settings: Settings) -> Node {
    let mut node = Node::new(settings, 1);
    node.inside("a", b"A", 0, |head| head.retain = true);
    node.inside("b", b"B", 2, |head| head.retain = true);
    node
}

// [MQTT-3.3.1-6 of 3.1.1], [MQTT-3.8.4-8]
#[test]
fn a_new_subscription_gets_what_is_retained_after_its_suback() {
    for version in [V4, V5] {
        let mut node = node(Settings::default());
        node.connected(0, version, |_| {});
        node.subscribe(0, &[("#", with_qos(1))]);
        let expected = ["SUBACK #100 0x01", r#"PUBLISH a "A" q0 retain"#, r#"PUBLISH b "B" q1 #1 retain"#];
        assert_eq!(node.said(0), expected);
    }
}

// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
#[test]
fn retain_handling_decides_whether_a_repeated_subscription_gets_them() {
    for (retain_handling, first, second) in
        [(RetainHandling::Always, 2, 2), (RetainHandling::IfNew, 2, 0), (RetainHandling::Never, 0, 0)]
    {
        let mut node = node(Settings::default());
        node.connected(0, V5, |_| {});
        let options = SubscribeOptions { retain_handling, ..with_qos(0) };
        let mut subscribe = || {
            node.subscribe(0, &[("#", options)]);
            node.said(0).len() - 1
        };
        assert_eq!([subscribe(), subscribe()], [first, second], "{retain_handling:?}");
    }
}

// MQTT 5 §4.8.2: no retained messages for a shared subscription.
#[test]
fn a_shared_subscription_gets_none() {
    let mut node = node(Settings::default());
    node.connected(0, V5, |_| {});
    node.subscribed(0, "$share/g/#", 1);
    assert_eq!(node.counts(0), (0, 0, 0));
}

#[test]
fn retained_messages_wait_for_the_window_and_carry_the_identifier() {
    let mut node = node(Settings::default());
    node.inside("c", b"C", 1, |head| head.retain = true);
    node.connected(0, V5, |connect| connect.properties.receive_maximum = Some(1));
    node.subscribe_as(0, "#", with_qos(1), 7);
    let heard = node.said(0);
    assert_eq!(heard, ["SUBACK #100 0x01", r#"PUBLISH a "A" q0 retain id 7"#, r#"PUBLISH b "B" q1 #1 retain id 7"#]);
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(node.said(0), [r#"PUBLISH c "C" q1 #2 retain id 7"#]);
}

#[test]
fn retained_messages_are_not_held_to_the_limit_of_the_queue() {
    let settings = Settings { max_online_messages: 1, max_inflight_messages: 1, ..Settings::default() };
    let mut node = Node::new(settings, 1);
    for number in 0..10 {
        node.inside(&format!("r/{number}"), b"x", 1, |head| head.retain = true);
    }
    node.connected(0, V4, |_| {});
    node.subscribed_with_retained(0, "r/#", 1);
    for number in 1..=10 {
        let heard = node.said(0);
        assert_eq!(heard.len(), 1, "{heard:?}");
        node.ack(0, Packet::PubAck, number);
    }
    assert_eq!(node.counts(0), (0, 0, 0));
}

#[test]
fn subscribing_again_and_again_does_not_make_the_queue_grow_without_end() {
    let settings = Settings { max_online_messages: 5, max_inflight_messages: 1, ..Settings::default() };
    let mut node = Node::new(settings, 1);
    for number in 0..10 {
        node.inside(&format!("r/{number}"), b"x", 1, |head| head.retain = true);
    }
    node.connected(0, V4, |_| {});
    for _ in 0..50 {
        node.subscribe(0, &[("r/#", with_qos(1))]);
    }
    let (_, waiting, _) = node.counts(0);
    assert!((9..=15).contains(&waiting), "{waiting} messages wait");
}

// [MQTT-3.3.1-6], [MQTT-3.3.1-7]
#[test]
fn an_empty_payload_ends_a_retained_message_and_is_itself_delivered() {
    let mut node = node(Settings::default());
    node.connected(0, V4, |_| {});
    node.publish(0, PublishHead { retain: true, ..head("a", 0, 0) }, b"");
    node.subscribe(0, &[("a", with_qos(0))]);
    assert_eq!(node.said(0), ["SUBACK #100 0x00"]);
    node.publish(0, PublishHead { retain: true, ..head("a", 0, 0) }, b"");
    assert_eq!(node.said(0), [r#"PUBLISH a "" q0"#]);
}

// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_no_longer_retained() {
    let mut node = Node::new(Settings::default(), 1);
    let now = node.cx.now;
    node.inside("a", b"A", 0, |head| {
        head.retain = true;
        head.expires_at = now + 1_000;
    });
    node.connected(0, V5, |_| {});
    node.subscribe(0, &[("a", with_qos(0))]);
    assert_eq!(node.said(0), ["SUBACK #100 0x00", r#"PUBLISH a "A" q0 retain expiry 1"#]);
    node.later(1_000);
    node.subscribe(0, &[("a", with_qos(0))]);
    assert_eq!(node.said(0), ["SUBACK #100 0x00"]);
}
