//! Messages that Python may change on their way to a client, and filters that it may change on their way out.

use std::sync::Arc;

use super::engine::codec::{Packet, ProtocolVersion, ReasonCode};
use super::engine::hooks::Hooks;
use super::engine::protocol::{Context, Decision, Rewriting, Step, Verdict};
use super::engine::settings::Settings;
use super::node::Node;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;

fn node() -> Node {
    let mut node = Node::new(Settings::default(), 2);
    node.connected(0, V4, |connect| connect.clean_start = false);
    node.subscribed(0, "#", 1);
    node.listen(Hooks::ON_DELIVER);
    node
}

fn allow() -> Verdict {
    Verdict::new(Decision::Allow)
}

/// Takes messages out under a ticket; their topics.
fn taken(node: &mut Node, ticket: u64) -> Vec<String> {
    let mut cx = std::mem::replace(&mut node.cx, Context::new(Arc::default()));
    let messages = node.session(0).take_for_rewriting(&mut cx, ticket);
    node.cx = cx;
    messages.unwrap_or_default().iter().map(|(message, ..)| message.publication().topic_text().to_owned()).collect()
}

fn answer(node: &mut Node, ticket: u64, verdict: &Verdict) -> bool {
    let mut cx = std::mem::replace(&mut node.cx, Context::new(Arc::default()));
    let is_known = node.session(0).rewritten(&mut cx, ticket, verdict);
    node.cx = cx;
    is_known
}

fn topics_to(rewritten: &[Option<&str>]) -> Verdict {
    let change = |topic: &str| Rewriting { topic: Some(topic.to_owned()), ..Rewriting::default() };
    Verdict { rewritings: Some(rewritten.iter().map(|topic| topic.map(change)).collect()), ..allow() }
}

#[test]
fn nothing_goes_out_before_it_was_asked_about() {
    let mut node = node();
    node.inside("a", b"", 0, |_| {});
    node.inside("b", b"", 1, |_| {});
    assert_eq!(node.said(0), Vec::<String>::new());
    assert_eq!(taken(&mut node, 1), ["a", "b"]);
    node.inside("c", b"", 0, |_| {});
    assert_eq!(taken(&mut node, 2), Vec::<String>::new(), "one question at a time");
    assert!(answer(&mut node, 1, &topics_to(&[Some("x"), None])));
    assert_eq!(node.said(0), [r#"PUBLISH x "" q0"#, r#"PUBLISH b "" q1 #1"#]);
    assert_eq!(taken(&mut node, 2), ["c"]);
    assert!(answer(&mut node, 2, &allow()));
    assert_eq!(node.said(0), [r#"PUBLISH c "" q0"#]);
}

#[test]
fn a_refusal_or_an_answer_to_something_else_changes_nothing() {
    for verdict in [Verdict::deny(ReasonCode::NOT_AUTHORIZED), topics_to(&[Some("x"), Some("y")])] {
        let mut node = node();
        node.inside("a", b"", 0, |_| {});
        taken(&mut node, 1);
        assert!(!answer(&mut node, 7, &verdict), "another ticket");
        assert!(answer(&mut node, 1, &verdict));
        assert_eq!(node.said(0), [r#"PUBLISH a "" q0"#]);
        assert!(!answer(&mut node, 1, &verdict), "answered before");
    }
}

#[test]
fn what_was_changed_is_what_is_sent_again() {
    let mut node = node();
    node.inside("a", b"", 1, |_| {});
    taken(&mut node, 1);
    answer(&mut node, 1, &topics_to(&[Some("x")]));
    assert_eq!(node.said(0), [r#"PUBLISH x "" q1 #1"#]);
    node.lose(0);
    node.connect(0, V4, |connect| connect.clean_start = false).unwrap();
    assert_eq!(node.said(0)[1..], [r#"PUBLISH x "" q1 #1 dup"#]);
}

#[test]
fn a_client_that_goes_meanwhile_gets_its_messages_when_it_is_back() {
    let mut node = node();
    node.inside("a", b"", 1, |_| {});
    node.inside("b", b"", 0, |_| {});
    taken(&mut node, 1);
    node.inside("c", b"", 1, |_| {});
    node.lose(0);
    assert!(!answer(&mut node, 1, &topics_to(&[Some("x"), None])), "nobody waits for it any more");
    assert_eq!(node.counts(0), (0, 2, 0));
    node.connect(0, V4, |connect| connect.clean_start = false).unwrap();
    node.said(0);
    assert_eq!(taken(&mut node, 2), ["a", "c"]);
    answer(&mut node, 2, &allow());
    assert_eq!(node.said(0), [r#"PUBLISH a "" q1 #1"#, r#"PUBLISH c "" q1 #2"#]);
}

#[test]
fn when_nobody_listens_any_more_the_messages_go_out() {
    let mut node = node();
    node.inside("a", b"", 0, |_| {});
    taken(&mut node, 1);
    node.inside("b", b"", 0, |_| {});
    node.cx.hooks = Hooks::empty();
    node.inside("c", b"", 0, |_| {});
    assert_eq!(node.said(0), Vec::<String>::new(), "they stay behind the one that is asked about");
    answer(&mut node, 1, &allow());
    assert_eq!(node.said(0), [r#"PUBLISH a "" q0"#, r#"PUBLISH b "" q0"#, r#"PUBLISH c "" q0"#]);
}

#[test]
fn messages_that_were_asked_about_stay_within_the_window() {
    let mut node = Node::new(Settings { max_inflight_messages: 1, ..Settings::default() }, 1);
    node.connected(0, V4, |_| {});
    node.subscribed(0, "#", 1);
    node.listen(Hooks::ON_DELIVER);
    for topic in ["a", "b"] {
        node.inside(topic, b"", 1, |_| {});
    }
    taken(&mut node, 1);
    answer(&mut node, 1, &allow());
    assert_eq!(node.said(0), [r#"PUBLISH a "" q1 #1"#]);
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(node.said(0), [r#"PUBLISH b "" q1 #2"#]);
}

#[test]
fn other_filters_may_be_unsubscribed_but_nothing_refused() {
    for (verdict, left) in [
        (Verdict { filters: Some(vec![("b".to_owned(), 0)]), ..allow() }, "a"),
        (Verdict { filters: Some(Vec::new()), ..allow() }, "b"),
        (Verdict::deny(ReasonCode::NOT_AUTHORIZED), "b"),
    ] {
        let mut node = Node::new(Settings::default(), 1);
        node.connected(0, V4, |_| {});
        node.subscribed(0, "a", 0);
        node.subscribed(0, "b", 0);
        node.listen(Hooks::ON_UNSUBSCRIBE);
        assert_eq!(node.unsubscribe(0, &["a"]), Step::Pause);
        assert_eq!(node.asked(), [r#"c0 unsubscribe ["a"]"#]);
        node.answer(0, &verdict);
        assert_eq!(node.said(0), ["UNSUBACK #101"]);
        assert_eq!(node.session(0).subscriptions.keys().map(|filter| &**filter).collect::<Vec<_>>(), [left]);
    }
}
