//! Packets that wait for Python's verdict: what each answer does, and what happens to those who do not wait for it.

use super::engine::codec::{Connect, ProtocolVersion, PublishHead, ReasonCode};
use super::engine::hooks::Hooks;
use super::engine::protocol::{Decision, Ending, Step, Verdict};
use super::engine::settings::Settings;
use super::node::{Node, head};
use super::shorthand::with_qos;

const V3: ProtocolVersion = ProtocolVersion::V3_1;
const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn allow() -> Verdict {
    Verdict::new(Decision::Allow)
}

/// A node with a subscriber of `#` at seat 1 and a client at seat 0 whose publishes and subscriptions are asked for.
fn node(version: ProtocolVersion) -> Node {
    let mut node = Node::new(Settings::default(), 2);
    node.connected(0, version, |connect| {
        connect.clean_start = false;
        if connect.version == V5 {
            connect.properties.session_expiry = Some(60);
        }
    });
    node.connected(1, V5, |_| {});
    node.subscribed(1, "#", 2);
    node.listen(Hooks::AUTH_ON_PUBLISH | Hooks::AUTH_ON_SUBSCRIBE);
    node
}

#[test]
fn a_publish_goes_on_when_it_is_allowed_and_not_before() {
    for (qos, answer) in [(0, None), (1, Some("PUBACK #4")), (2, Some("PUBREC #4"))] {
        let mut node = node(V4);
        assert_eq!(node.publish(0, head("a", qos, 4), b"x"), Step::Pause);
        assert_eq!(node.asked(), ["c0 publish a"]);
        assert_eq!((node.said(0).len(), node.said(1).len()), (0, 0));
        assert_eq!(node.answer(0, &allow()), Step::Continue);
        assert_eq!(node.said(0), answer.map(str::to_owned).into_iter().collect::<Vec<_>>());
        assert_eq!(node.said(1).len(), 1);
    }
}

#[test]
fn a_second_answer_does_nothing() {
    let mut node = node(V5);
    node.publish(0, head("a", 1, 4), b"x");
    node.answer(0, &allow());
    assert_eq!(node.answer(0, &allow()), Step::Continue);
    assert_eq!((node.said(0).len(), node.said(1).len()), (1, 1));
}

#[test]
fn a_verdict_changes_what_is_passed_on_and_not_how_the_publisher_is_answered() {
    let mut node = node(V5);
    node.publish(0, head("a", 2, 4), b"x");
    let changed = Verdict {
        topic: Some("b/c".into()),
        payload: Some(b"changed".to_vec()),
        qos: Some(1),
        properties: Some(vec![0x26, 0, 1, b'k', 0, 1, b'v']),
        ..allow()
    };
    node.answer(0, &changed);
    assert_eq!(node.said(0), ["PUBREC #4"]);
    assert_eq!(node.said(1), [r#"PUBLISH b/c "changed" q1 #1 k=v"#]);
}

#[test]
fn a_verdict_retains_or_does_not() {
    for (published, verdict, retained) in [(false, Some(true), 1), (true, Some(false), 0), (true, None, 1)] {
        let mut node = node(V4);
        node.publish(0, PublishHead { retain: published, ..head("r", 0, 0) }, b"x");
        node.answer(0, &Verdict { retain: verdict, ..allow() });
        node.listen(Hooks::empty());
        node.subscribe(0, &[("r", with_qos(0))]);
        assert_eq!(node.said(0).len(), 1 + retained);
    }
}

// [MQTT-3.3.5-2 of 3.1.1], MQTT 5 §3.4.2.1
#[test]
fn a_denied_publish_costs_what_the_version_says() {
    for (version, strict, closes) in [(V3, false, false), (V3, true, true), (V4, false, true), (V5, true, false)] {
        let mut node = node(version);
        node.configure(|settings| settings.disconnect_on_unauthorized_publish_v3 = strict);
        node.publish(0, head("a", 1, 4), b"x");
        let step = node.answer(0, &Verdict::deny(ReasonCode::NOT_AUTHORIZED));
        assert_eq!(matches!(step, Step::Close(Ending::Broken { .. })), closes, "{version:?} {step:?}");
        assert_eq!(node.said(1), [""; 0]);
    }
}

// [MQTT-3.1.2-29]
#[test]
fn a_reason_string_is_for_those_who_want_it() {
    for (wanted, answer) in [(true, r#"PUBACK #4 0x87 "no""#), (false, "PUBACK #4 0x87")] {
        let mut node = node(V5);
        node.connected(0, V5, |connect| connect.properties.request_problem_information = Some(wanted));
        node.publish(0, head("a", 1, 4), b"x");
        let why = Some("no".to_owned());
        node.answer(0, &Verdict { reason_string: why, ..Verdict::deny(ReasonCode::NOT_AUTHORIZED) });
        assert_eq!(node.said(0), [answer]);
    }
}

// [MQTT-4.3.3-9]
#[test]
fn a_denied_qos_2_publish_may_be_sent_anew() {
    let mut node = node(V5);
    node.publish(0, head("a", 2, 4), b"x");
    node.answer(0, &Verdict::deny(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(node.said(0), ["PUBREC #4 0x87"]);
    node.publish(0, head("a", 2, 4), b"y");
    node.answer(0, &allow());
    assert_eq!((node.said(0), node.said(1).len()), (vec!["PUBREC #4".to_owned()], 1));
}

// [MQTT-4.3.3-9], [MQTT-4.4.0-1]: what was not passed on must not count as received.
#[test]
fn a_message_whose_verdict_came_too_late_is_passed_on_when_it_comes_again() {
    for version in [V4, V5] {
        let mut node = node(version);
        node.publish(0, head("a", 2, 4), b"x");
        node.lose(0);
        node.connected(0, version, come_back);
        node.publish(0, PublishHead { dup: true, ..head("a", 2, 4) }, b"x");
        assert_eq!(node.asked(), ["c0 publish a", "c0 publish a"]);
        node.answer(0, &allow());
        assert_eq!((node.said(0), node.said(1).len()), (vec!["PUBREC #4".to_owned()], 1));
    }
}

fn come_back(connect: &mut Connect<'_>) {
    connect.clean_start = false;
    if connect.version == V5 {
        connect.properties.session_expiry = Some(60);
    }
}

#[test]
fn a_question_that_cannot_be_asked_is_a_refusal() {
    let mut node = node(V5);
    node.refuse_questions();
    assert_eq!(node.publish(0, head("a", 1, 4), b"x"), Step::Continue);
    assert_eq!(node.subscribe(0, &[("a", with_qos(0)), ("b", with_qos(0))]), Step::Continue);
    assert_eq!(node.said(0), ["PUBACK #4 0x83", "SUBACK #100 0x83 0x83"]);
    assert_eq!((node.said(1).len(), node.subscriptions()), (0, 1));
}

#[test]
fn a_subscription_is_made_when_it_is_allowed_and_not_before() {
    let mut node = node(V4);
    assert_eq!(node.subscribe(0, &[("a", with_qos(2)), ("b/#", with_qos(0))]), Step::Pause);
    assert_eq!(node.asked(), [r#"c0 subscribe [("a", 2), ("b/#", 0)]"#]);
    assert_eq!((node.said(0).len(), node.subscriptions()), (0, 1));
    assert_eq!(node.answer(0, &allow()), Step::Continue);
    assert_eq!((node.said(0), node.subscriptions()), (vec!["SUBACK #100 0x02 0x00".to_owned()], 3));
}

#[test]
fn a_verdict_may_grant_less_refuse_some_and_change_filters() {
    let mut node = node(V5);
    node.subscribe(0, &[("a", with_qos(2)), ("b", with_qos(1)), ("c", with_qos(0))]);
    let filters = Some(vec![("a".to_owned(), 0), ("b".to_owned(), 0x87), ("tenant/c".to_owned(), 1)]);
    node.answer(0, &Verdict { filters, ..allow() });
    assert_eq!(node.said(0), ["SUBACK #100 0x00 0x87 0x01"]);
    let mut filters: Vec<_> = node.session(0).subscriptions.keys().map(ToString::to_string).collect();
    filters.sort_unstable();
    assert_eq!(filters, ["a", "tenant/c"]);
}

#[test]
fn a_verdict_with_the_wrong_number_of_filters_or_bad_ones_does_no_harm() {
    let mut node = node(V5);
    node.subscribe(0, &[("a", with_qos(2)), ("b", with_qos(2))]);
    node.answer(0, &Verdict { filters: Some(vec![("a/#/b".to_owned(), 1), ("b".to_owned(), 3)]), ..allow() });
    assert_eq!(node.said(0), ["SUBACK #100 0x8f 0x80"]);
    node.subscribe(0, &[("a", with_qos(1))]);
    node.answer(0, &Verdict { filters: Some(Vec::new()), ..allow() });
    assert_eq!(node.said(0), ["SUBACK #100 0x83"]);
}

#[test]
fn a_denied_subscription_is_refused_filter_by_filter() {
    for (version, answer) in [(V4, "SUBACK #100 0x80 0x80"), (V5, "SUBACK #100 0x97 0x97")] {
        let mut node = node(version);
        node.subscribe(0, &[("a", with_qos(2)), ("b", with_qos(0))]);
        node.answer(0, &Verdict::deny(ReasonCode::QUOTA_EXCEEDED));
        assert_eq!((node.said(0), node.subscriptions()), (vec![answer.to_owned()], 1));
    }
}

#[test]
fn an_answer_for_a_client_that_is_gone_does_nothing() {
    let mut node = node(V4);
    node.publish(0, head("a", 1, 4), b"x");
    node.lose(0);
    assert_eq!(node.answer(0, &allow()), Step::Close(Ending::Lost));
    assert_eq!(node.said(1), [""; 0]);
}
