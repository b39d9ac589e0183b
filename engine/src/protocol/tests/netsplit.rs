//! What clients are told while the cluster is not ready.

use std::sync::Arc;

use super::engine::codec::ProtocolVersion;
use super::engine::protocol::Step;
use super::engine::settings::{Settings, Value};
use super::node::{Node, head};
use super::shorthand::with_qos;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// Client 0 with a subscription to `kept`, in a cluster that is not ready from then on.
fn node(version: ProtocolVersion, allowed: Option<&str>) -> Node {
    let mut settings = Settings::default();
    if let Some(key) = allowed {
        settings.set(key, &Value::Bool(true)).expect("there is such a setting");
    }
    let mut node = Node::new(settings, 1);
    node.connected(0, version, |_| {});
    node.subscribed(0, "kept", 1);
    node.cx.netsplit = Some(Arc::new("1 of 3".to_owned()));
    node
}

fn publish(node: &mut Node, qos: u8) -> Step {
    node.publish(0, head("kept", qos, u16::from(qos > 0) * 5), b"x")
}

fn code_of(answers: &[String]) -> Vec<&str> {
    answers.iter().map(|answer| answer.split_once(" 0x").map_or("", |(_, rest)| &rest[..2])).collect()
}

#[test]
fn a_publish_is_refused_and_frees_its_identifier() {
    for qos in [1, 2] {
        let mut five = node(V5, None);
        assert_eq!(publish(&mut five, qos), Step::Continue);
        assert_eq!((code_of(&five.said(0)), five.counts(0).2), (vec!["83"], 0));
        let mut four = node(V4, None);
        assert!(matches!(publish(&mut four, qos), Step::Close(_)));
        assert_eq!((four.said(0).len(), four.counts(0).2), (0, 0));
    }
}

#[test]
fn a_publish_with_qos_0_is_dropped_and_nobody_is_disconnected() {
    for version in [V4, V5] {
        let mut node = node(version, None);
        assert_eq!((publish(&mut node, 0), node.said(0).len()), (Step::Continue, 0));
    }
}

#[test]
fn a_subscribe_is_refused_filter_by_filter() {
    for (version, answer) in [(V4, "SUBACK #100 0x80 0x80"), (V5, "SUBACK #100 0x83 0x83")] {
        let mut node = node(version, None);
        assert_eq!(node.subscribe(0, &[("a", with_qos(0)), ("b", with_qos(1))]), Step::Continue);
        let said = node.said(0);
        assert!(said.len() == 1 && said[0].starts_with(answer), "{said:?}");
        assert_eq!(node.session(0).subscriptions.len(), 1);
    }
}

#[test]
fn an_unsubscribe_is_refused_and_changes_nothing() {
    let mut five = node(V5, None);
    assert_eq!(five.unsubscribe(0, &["kept"]), Step::Continue);
    assert_eq!((code_of(&five.said(0)), five.session(0).subscriptions.len()), (vec!["83"], 1));
    let mut four = node(V4, None);
    assert!(matches!(four.unsubscribe(0, &["kept"]), Step::Close(_)));
    assert_eq!((four.said(0).len(), four.session(0).subscriptions.len()), (0, 1));
}

#[test]
fn each_setting_allows_what_it_names() {
    for version in [V4, V5] {
        let mut publisher = node(version, Some("allow_publish_during_netsplit"));
        assert_eq!((publish(&mut publisher, 1), publisher.said(0).len()), (Step::Continue, 2));
        node(version, Some("allow_subscribe_during_netsplit")).subscribed(0, "a", 1);
        let mut leaver = node(version, Some("allow_unsubscribe_during_netsplit"));
        assert_eq!(leaver.unsubscribe(0, &["kept"]), Step::Continue);
        assert_eq!((leaver.said(0).len(), leaver.session(0).subscriptions.len()), (1, 0));
    }
}
