//! The end of a connection: DISCONNECT, wills, expiry that changes on the way out.

use super::engine::codec::{Connect, Disconnect, Packet, Properties, ProtocolVersion, QoS, ReasonCode, Will};
use super::engine::protocol::{Ending, Step};
use super::engine::settings::Settings;
use super::node::Node;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn with_will(delay_s: u32) -> impl FnOnce(&mut Connect<'_>) {
    move |connect| {
        let mut properties = Properties::new();
        if connect.version == V5 {
            properties.will_delay = Some(delay_s);
            properties.message_expiry = Some(30);
            connect.properties.session_expiry = Some(10);
        }
        connect.will = Some(Will { qos: QoS::AtLeastOnce, retain: false, topic: "will", payload: b"gone", properties });
    }
}

/// A node with a client that has a will at seat 0 and somebody who waits for it at seat 1.
fn node(version: ProtocolVersion, delay_s: u32) -> Node {
    let mut node = Node::new(Settings::default(), 2);
    node.connected(1, V4, |_| {});
    node.subscribed(1, "will", 0);
    node.connected(0, version, with_will(delay_s));
    node
}

fn end(node: &mut Node, step: Step) {
    let Step::Close(ending) = step else { panic!("expected the end, got {step:?}") };
    node.end(0, &ending);
}

fn is_will_published(node: &mut Node) -> bool {
    let heard = node.said(1);
    assert!(heard.len() <= 1, "a will is published once: {heard:?}");
    heard.first().is_some_and(|heard| heard == r#"PUBLISH will "gone" q0"#)
}

// [MQTT-3.1.2-8], [MQTT-3.14.4-3]
#[test]
fn only_a_normal_disconnect_takes_the_will_back() {
    for (version, reason, expected) in [(V4, 0, false), (V5, 0, false), (V5, 4, true), (V5, 0x80, true)] {
        let mut node = node(version, 0);
        let step = node.send(0, &Packet::Disconnect(Disconnect::with_reason(ReasonCode(reason))));
        end(&mut node, step);
        assert_eq!(is_will_published(&mut node), expected, "{version:?} 0x{reason:02x}");
    }
    for ending in [
        Ending::Lost,
        Ending::broken(ReasonCode::KEEP_ALIVE_TIMEOUT, "silence"),
        Ending::Administrative { reason: ReasonCode::ADMINISTRATIVE_ACTION },
        Ending::TakenOver { keeps_will: false },
    ] {
        let mut node = node(V4, 0);
        node.end(0, &ending);
        assert!(is_will_published(&mut node), "{ending}");
    }
    let mut node = node(V4, 0);
    node.end(0, &Ending::TakenOver { keeps_will: true });
    assert!(!is_will_published(&mut node));
}

// [MQTT-3.1.3-9]
#[test]
fn a_delayed_will_waits_for_its_time_or_the_end_of_the_session() {
    for (delay_s, waits_ms) in [(0, 0), (5, 5_000), (60, 10_000)] {
        let mut node = node(V5, delay_s);
        node.lose(0);
        if waits_ms > 0 {
            node.later(waits_ms - 1);
            assert!(!is_will_published(&mut node), "too early after {delay_s} s");
            node.later(1);
        }
        assert!(is_will_published(&mut node), "a delay of {delay_s} s");
    }
}

#[test]
fn the_operator_limits_the_delay_of_wills() {
    let mut node = Node::new(Settings { max_last_will_delay: Some(2), ..Settings::default() }, 2);
    node.connected(0, V5, with_will(8));
    assert_eq!(node.session(0).will.as_ref().map(|will| (will.delay_s, will.message_expiry_s)), Some((2, Some(30))));
}

// [MQTT-3.1.2-10]: the will goes with the connection it came with.
#[test]
fn a_will_does_not_outlive_its_connection() {
    let mut node = node(V5, 0);
    let step = node.send(0, &Packet::Disconnect(Disconnect::with_reason(ReasonCode::SUCCESS)));
    end(&mut node, step);
    node.connected(0, V5, |connect| connect.clean_start = false);
    node.lose(0);
    assert!(!is_will_published(&mut node));
}

// MQTT 5 §3.14.2.2.2
#[test]
fn disconnect_may_change_the_expiry_but_not_begin_one() {
    let disconnect = |expiry| {
        let mut properties = Properties::new();
        properties.session_expiry = Some(expiry);
        Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties })
    };
    let mut node = node(V5, 0);
    let step = node.send(0, &disconnect(0));
    end(&mut node, step);
    assert!(!node.has_session(0));

    node.connected(0, V5, |connect| connect.properties.session_expiry = Some(5));
    let step = node.send(0, &disconnect(100));
    end(&mut node, step);
    node.later(99_000);
    assert!(node.has_session(0));

    node.connected(0, V5, |_| {});
    let step = node.send(0, &disconnect(100));
    assert!(matches!(step, Step::Close(Ending::Broken { reason: ReasonCode::PROTOCOL_ERROR, .. })), "{step:?}");
}

// [MQTT-3.14.0-1], [MQTT-3.1.2-29]
#[test]
fn a_disconnect_is_written_to_version_5_clients_only_and_fits() {
    for (version, size, expected) in
        [(V5, 100, Some(r#"DISCONNECT 0x8b "the broker stops""#)), (V5, 20, Some("DISCONNECT 0x8b")), (V4, 100, None)]
    {
        let mut node = Node::new(Settings::default(), 1);
        node.connected(0, version, |connect| {
            if connect.version == V5 {
                connect.properties.maximum_packet_size = Some(size);
            }
        });
        let mut cx = std::mem::replace(&mut node.cx, super::engine::protocol::Context::new(Settings::default().into()));
        node.session(0).write_disconnect(&mut cx, ReasonCode::SERVER_SHUTTING_DOWN, Some("the broker stops"));
        assert_eq!(node.said(0), expected.map(str::to_owned).into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn every_ending_says_why_in_words() {
    for ending in [
        Ending::Client { reason: ReasonCode::SUCCESS },
        Ending::Lost,
        Ending::broken(ReasonCode::PROTOCOL_ERROR, "a reason"),
        Ending::TakenOver { keeps_will: true },
        Ending::Administrative { reason: ReasonCode::SUCCESS },
    ] {
        assert!(ending.to_string().len() > 5);
    }
}
