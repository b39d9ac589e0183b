//! What a client publishes: the steps of each QoS, refusals, aliases, and the node that routes it.

use super::engine::codec::{Acknowledgement, Packet, ProtocolVersion, PublishHead, ReasonCode};
use super::engine::protocol::{Cause, Ending, Step};
use super::engine::settings::Settings;
use super::node::{Node, head};
use super::shorthand::with_qos;

const V3: ProtocolVersion = ProtocolVersion::V3_1;
const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// A node with a publisher at seat 0 and a subscriber of `#` with QoS 2 at seat 1.
fn node(version: ProtocolVersion, settings: Settings) -> Node {
    let mut node = Node::new(settings, 2);
    node.connected(0, version, |_| {});
    node.connected(1, V4, |_| {});
    node.subscribed(1, "#", 2);
    node
}

fn closed_with(step: Step) -> u8 {
    match step {
        Step::Close(Ending::Broken { reason, cause }) => {
            assert!(!cause.to_string().is_empty(), "an end has a cause for the log");
            reason.0
        }
        other => panic!("expected the end of the connection, got {other:?}"),
    }
}

// [MQTT-4.3.1-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8]
#[test]
fn each_qos_is_acknowledged_in_its_own_way() {
    for version in [V3, V4, V5] {
        let mut node = node(version, Settings::default());
        assert_eq!(node.publish(0, head("a", 0, 0), b"0"), Step::Continue);
        assert_eq!(node.said(0), [""; 0]);
        assert_eq!(node.publish(0, head("a", 1, 7), b"1"), Step::Continue);
        assert_eq!(node.said(0), ["PUBACK #7"]);
        assert_eq!(node.publish(0, head("a", 2, 8), b"2"), Step::Continue);
        assert_eq!(node.said(0), ["PUBREC #8"]);
        assert_eq!(node.send(0, &Packet::PubRel(Acknowledgement::success(8))), Step::Continue);
        assert_eq!(node.said(0), ["PUBCOMP #8"]);
        let expected = [r#"PUBLISH a "0" q0"#, r#"PUBLISH a "1" q1 #1"#, r#"PUBLISH a "2" q2 #2"#];
        assert_eq!(node.said(1), expected);
    }
}

// [MQTT-4.3.3-10], [MQTT-4.3.3-12]
#[test]
fn a_qos_2_publish_is_passed_on_once_until_it_is_released() {
    let mut node = node(V4, Settings::default());
    for dup in [false, true, true] {
        node.publish(0, PublishHead { dup, ..head("a", 2, 3) }, b"once");
    }
    assert_eq!(node.said(0), ["PUBREC #3", "PUBREC #3", "PUBREC #3"]);
    assert_eq!(node.said(1), [r#"PUBLISH a "once" q2 #1"#]);
    node.send(0, &Packet::PubRel(Acknowledgement::success(3)));
    node.publish(0, head("a", 2, 3), b"a new message");
    assert_eq!(node.said(1), [r#"PUBLISH a "a new message" q2 #2"#]);
}

// MQTT 5 §3.6.2.1, §3.7.2.1: 0x92 is for identifiers that nobody knows.
#[test]
fn a_release_of_nothing_is_answered_all_the_same() {
    for (version, answer) in [(V4, "PUBCOMP #9"), (V5, "PUBCOMP #9 0x92")] {
        let mut node = node(version, Settings::default());
        assert_eq!(node.send(0, &Packet::PubRel(Acknowledgement::success(9))), Step::Continue);
        assert_eq!(node.said(0), [answer]);
    }
}

#[test]
fn a_version_5_publisher_hears_that_nobody_subscribes() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |_| {});
    node.publish(0, head("a", 1, 1), b"x");
    node.publish(0, head("a", 2, 2), b"x");
    assert_eq!(node.said(0), ["PUBACK #1 0x10", "PUBREC #2 0x10"]);
    assert_eq!(node.counts(0).2, 1, "0x10 is a success: the message waits for its release");
}

// [MQTT-4.3.3-9]
#[test]
fn a_refused_publish_frees_its_identifier_and_is_not_acknowledged_to_version_3() {
    for (version, answer, is_closed) in [(V4, vec![], true), (V5, vec!["PUBREC #5 0x97".to_owned()], false)] {
        let mut node = node(version, Settings::default());
        node.refuse_messages(ReasonCode::QUOTA_EXCEEDED);
        let step = node.publish(0, head("a", 2, 5), b"x");
        assert_eq!(matches!(step, Step::Close(_)), is_closed);
        assert_eq!((node.said(0), node.counts(0).2), (answer, 0));
        assert_eq!(node.said(1), [""; 0]);
    }
}

#[test]
fn clients_do_not_publish_below_dollar() {
    for (version, answer) in [(V4, "PUBACK #1"), (V5, "PUBACK #1 0x87")] {
        let mut node = node(version, Settings::default());
        node.send(1, &Packet::PingReq);
        node.subscribe(1, &[("$SYS/#", with_qos(0))]);
        node.said(1);
        assert_eq!(node.publish(0, head("$SYS/x", 1, 1), b"x"), Step::Continue);
        assert_eq!((node.said(0), node.said(1)), (vec![answer.to_owned()], vec![]));
    }
}

#[test]
fn a_topic_beyond_the_limits_costs_a_version_3_client_its_connection() {
    let settings = Settings { topic_max_depth: 3, max_topic_length: 20, ..Settings::default() };
    for topic in ["a/b/c/d", "a-topic-of-more-than-twenty-bytes"] {
        let mut node = node(V5, settings.clone());
        assert_eq!(node.publish(0, head(topic, 1, 1), b"x"), Step::Continue);
        assert_eq!(node.said(0), ["PUBACK #1 0x90"]);
        let mut node = self::node(V4, settings.clone());
        assert_eq!(closed_with(node.publish(0, head(topic, 1, 1), b"x")), 0x90);
        assert_eq!(node.said(1), [""; 0]);
    }
}

// [MQTT-3.3.2-7], MQTT 5 §3.3.2.3.4
#[test]
fn an_alias_stands_for_its_topic_until_it_is_set_anew() {
    let settings = Settings { topic_alias_max_client: 2, ..Settings::default() };
    let mut node = node(V5, settings);
    for (topic, alias) in [("a", 1), ("b", 2), ("", 1), ("", 2), ("c", 1), ("", 1)] {
        let aliased = PublishHead { topic_alias: Some(alias), ..head(topic, 0, 0) };
        assert_eq!(node.publish(0, aliased, b""), Step::Continue);
    }
    let topics: Vec<_> = node.said(1).iter().map(|heard| heard[8..9].to_owned()).collect();
    assert_eq!(topics, ["a", "b", "a", "b", "c", "c"]);
}

// [MQTT-3.3.2-8], [MQTT-3.3.2-9]
#[test]
fn an_alias_out_of_range_or_never_set_ends_the_connection() {
    for (allowed, alias, topic, reason) in [(0, 1, "a", 0x94), (2, 3, "a", 0x94), (2, 1, "", 0x82)] {
        let mut node = node(V5, Settings { topic_alias_max_client: allowed, ..Settings::default() });
        let aliased = PublishHead { topic_alias: Some(alias), ..head(topic, 0, 0) };
        assert_eq!(closed_with(node.publish(0, aliased, b"")), reason);
        assert_eq!(node.said(1), [""; 0]);
    }
}

// [MQTT-3.3.2-7]: aliases are of one connection only.
#[test]
fn aliases_end_with_the_connection() {
    let mut node = node(V5, Settings { topic_alias_max_client: 2, ..Settings::default() });
    let aliased = |topic| PublishHead { topic_alias: Some(1), ..head(topic, 0, 0) };
    node.publish(0, aliased("a"), b"");
    node.lose(0);
    node.connected(0, V5, |_| {});
    assert_eq!(closed_with(node.publish(0, aliased(""), b"")), 0x82);
}

// [MQTT-3.3.4-9]
#[test]
fn more_unfinished_publishes_than_receive_maximum_end_the_connection() {
    let mut node = node(V5, Settings { receive_max_broker: 2, ..Settings::default() });
    assert_eq!(node.publish(0, head("a", 2, 1), b""), Step::Continue);
    assert_eq!(node.publish(0, head("a", 2, 2), b""), Step::Continue);
    assert_eq!(node.publish(0, head("a", 1, 3), b""), Step::Continue, "it is acknowledged before the next is read");
    assert_eq!(closed_with(node.publish(0, head("a", 2, 4), b"")), 0x93);
}

// [MQTT-4.4.0-1]: a client that comes back sends again what it is not sure of, which is no more than before.
#[test]
fn a_repeat_at_the_receive_maximum_is_no_more_than_before() {
    let mut node = node(V5, Settings { receive_max_broker: 2, ..Settings::default() });
    node.publish(0, head("a", 2, 1), b"one");
    node.publish(0, head("a", 2, 2), b"two");
    let repeat = PublishHead { dup: true, ..head("a", 2, 1) };
    assert_eq!(node.publish(0, repeat, b"one"), Step::Continue);
    assert_eq!(node.said(0), ["PUBREC #1", "PUBREC #2", "PUBREC #1"]);
    assert_eq!(node.said(1).len(), 2);
}

// [MQTT-3.3.1-7 of version 3.1.1], MQTT 5 §3.3.2.3
#[test]
fn properties_reach_version_5_subscribers_in_order_and_no_others() {
    let mut node = node(V5, Settings::default());
    node.connected(0, V5, |_| {});
    node.subscribed(0, "a", 0);
    // User property k=v, content type t, user property k=w.
    let properties = [0x26, 0, 1, b'k', 0, 1, b'v', 0x03, 0, 1, b't', 0x26, 0, 1, b'k', 0, 1, b'w'];
    let step = node.publish(0, PublishHead { properties: &properties, ..head("a", 0, 0) }, b"x");
    assert_eq!(step, Step::Continue);
    assert_eq!(node.said(0), [r#"PUBLISH a "x" q0 type t k=v k=w"#]);
    assert_eq!(node.said(1), [r#"PUBLISH a "x" q0"#]);
}

#[test]
fn a_message_is_the_same_whether_its_properties_are_passed_on_as_they_are_or_put_together() {
    let settings = Settings { topic_alias_max_client: 1, ..Settings::default() };
    let mut node = node(V5, settings);
    node.subscribed(0, "a", 1);
    let properties = [0x26, 0, 1, b'k', 0, 1, b'v'];
    let plain = PublishHead { properties: &properties, ..head("a", 1, 1) };
    node.publish(0, plain, b"x");
    node.publish(0, PublishHead { topic_alias: Some(1), packet_id: 2, ..plain }, b"x");
    node.publish(0, PublishHead { message_expiry: Some(9), packet_id: 3, ..plain }, b"x");
    let heard: Vec<_> = node.said(0).into_iter().filter(|heard| heard.starts_with("PUBLISH")).collect();
    let expected = [r#"PUBLISH a "x" q1 #1 k=v"#, r#"PUBLISH a "x" q1 #2 k=v"#, r#"PUBLISH a "x" q1 #3 expiry 9 k=v"#];
    assert_eq!(heard, expected);
}

#[test]
fn what_only_servers_send_ends_the_connection() {
    for bytes in [&b"\x20\x03\x00\x00\x00"[..], b"\x90\x04\x00\x01\x00\x00", b"\xd0\x00", b"\xb0\x04\x00\x01\x00\x00"] {
        let mut node = node(V5, Settings::default());
        assert_eq!(closed_with(node.send_bytes(0, bytes)), 0x82, "{bytes:x?}");
    }
}

// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_ends_the_connection() {
    let mut node = node(V4, Settings::default());
    assert_eq!(closed_with(node.send_bytes(0, b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02c0")), 0x82);
}

#[test]
fn bytes_that_are_no_packet_end_the_connection_with_the_decoders_reason() {
    let mut node = node(V5, Settings::default());
    let step = node.send_bytes(0, &[0x36, 5, 0, 1, b'a', 0, 1]);
    assert!(matches!(step, Step::Close(Ending::Broken { cause: Cause::Decode(_), .. })), "{step:?}");
    assert_eq!(closed_with(step), 0x81);
}

#[test]
fn a_ping_is_answered() {
    let mut node = node(V4, Settings::default());
    assert_eq!(node.send(0, &Packet::PingReq), Step::Continue);
    assert_eq!(node.said(0), ["PINGRESP"]);
}
