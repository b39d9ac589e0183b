//! SUBSCRIBE and UNSUBSCRIBE: codes, replacement, shared groups, No Local, Retain As Published.

use super::engine::codec::{ProtocolVersion, PublishHead, SubscribeOptions};
use super::engine::hooks::Hooks;
use super::engine::protocol::Step;
use super::engine::settings::Settings;
use super::node::{Node, head};
use super::shorthand::with_qos;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn node(version: ProtocolVersion) -> Node {
    let mut node = Node::new(Settings { topic_max_depth: 3, ..Settings::default() }, 2);
    node.connected(0, version, |_| {});
    node
}

// [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.9.3-1]
#[test]
fn every_filter_gets_its_code_in_order() {
    let filters = [("a", with_qos(2)), ("a/b/c/d", with_qos(0)), ("$share/g/a", with_qos(1))];
    for (version, answer) in [(V4, "SUBACK #100 0x02 0x80 0x01"), (V5, "SUBACK #100 0x02 0x8f 0x01")] {
        let mut node = node(version);
        assert_eq!(node.subscribe(0, &filters), Step::Continue);
        assert_eq!(node.said(0), [answer]);
        assert_eq!(node.subscriptions(), 2);
    }
}

// [MQTT-3.8.4-3]
#[test]
fn a_subscription_to_the_same_filter_replaces_the_old_one() {
    let mut node = node(V4);
    node.subscribed(0, "a", 2);
    node.subscribed(0, "a", 0);
    node.inside("a", b"x", 2, |_| {});
    assert_eq!(node.said(0), [r#"PUBLISH a "x" q0"#]);
    assert_eq!(node.subscriptions(), 1);
}

// [MQTT-3.10.4-1], [MQTT-3.10.4-4], [MQTT-3.11.3-2]
#[test]
fn unsubscribing_compares_letter_for_letter_and_tells_what_was_there() {
    for (version, answer) in [(V4, "UNSUBACK #101"), (V5, "UNSUBACK #101 0x00 0x11 0x00")] {
        let mut node = node(version);
        node.subscribed(0, "a/+", 0);
        node.subscribed(0, "$share/g/b", 0);
        node.unsubscribe(0, &["a/+", "b", "$share/g/b"]);
        assert_eq!((node.said(0), node.subscriptions()), (vec![answer.to_owned()], 0));
        node.inside("a/b", b"", 0, |_| {});
        assert_eq!(node.said(0), [""; 0]);
    }
}

// [MQTT-3.8.3-3]
#[test]
fn with_no_local_a_publisher_does_not_hear_itself() {
    let mut node = node(V5);
    node.connected(1, V5, |_| {});
    let options = SubscribeOptions { no_local: true, ..with_qos(0) };
    node.subscribe(0, &[("a", options)]);
    node.subscribe(1, &[("a", options)]);
    node.said(0);
    node.said(1);
    node.publish(0, head("a", 0, 0), b"x");
    assert_eq!((node.said(0), node.said(1).len()), (vec![], 1));
}

// [MQTT-3.3.1-12], [MQTT-3.3.1-13]
#[test]
fn the_retain_flag_is_passed_on_only_where_asked_for() {
    for (as_published, expected) in [(false, r#"PUBLISH a "x" q0"#), (true, r#"PUBLISH a "x" q0 retain"#)] {
        let mut node = node(V5);
        let options = SubscribeOptions { retain_as_published: as_published, ..with_qos(0) };
        node.subscribe(0, &[("a", options)]);
        node.said(0);
        node.publish(0, PublishHead { retain: true, ..head("a", 0, 0) }, b"x");
        assert_eq!(node.said(0), [expected]);
    }
}

// [MQTT-4.8.2-4]
#[test]
fn a_shared_group_gets_one_copy() {
    let mut node = node(V4);
    node.connected(1, V5, |_| {});
    node.subscribed(0, "$share/g/a", 0);
    node.subscribed(1, "$share/g/a", 0);
    for _ in 0..20 {
        node.inside("a", b"", 0, |_| {});
        node.later(1);
    }
    assert_eq!(node.said(0).len() + node.said(1).len(), 20);
}

#[test]
fn whoever_listens_hears_what_was_granted_and_given_up() {
    let mut node = node(V5);
    node.listen(Hooks::ON_SUBSCRIBE | Hooks::ON_TOPIC_UNSUBSCRIBED);
    node.subscribe(0, &[("a", with_qos(1)), ("a/b/c/d", with_qos(0))]);
    node.unsubscribe(0, &["a", "never"]);
    let expected = [r#"on_subscribe c0 [("a", 1), ("a/b/c/d", 143)]"#, r#"on_topic_unsubscribed c0 [("a", 0)]"#];
    assert_eq!(node.told(), expected);
}
