//! Sessions that outlive their connection: what is sent again, in which order, under which identifiers, and what waits.

use super::engine::codec::{Acknowledgement, Connect, Packet, ProtocolVersion, PublishHead};
use super::engine::protocol::Step;
use super::engine::settings::{QueueType, Settings};
use super::node::{Node, head};

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn stays(connect: &mut Connect<'_>) {
    connect.clean_start = false;
    if connect.version == V5 {
        connect.properties.session_expiry = Some(3_600);
    }
}

/// A node with a subscriber of `#` with QoS 2 at seat 0, whose session stays.
fn node(version: ProtocolVersion, settings: Settings) -> Node {
    let mut node = Node::new(settings, 1);
    node.connected(0, version, stays);
    node.subscribed(0, "#", 2);
    node
}

fn come_back(node: &mut Node, version: ProtocolVersion) -> Vec<String> {
    node.connect(0, version, stays).expect("the client is welcome");
    let heard = node.said(0);
    assert_eq!(heard.first().map(String::as_str), Some("CONNACK 0x00 present"));
    heard[1..].to_vec()
}

// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]
#[test]
fn what_was_under_way_is_sent_again_first_with_dup_and_the_same_identifiers() {
    for version in [V4, V5] {
        let mut node = node(version, Settings::default());
        for (payload, qos) in [(b"1", 1), (b"2", 2), (b"3", 1)] {
            node.inside("t", payload, qos, |_| {});
        }
        node.said(0);
        node.ack(0, Packet::PubAck, 1);
        node.lose(0);
        node.inside("t", b"4", 1, |_| {});
        node.inside("t", b"5", 0, |_| {});
        let expected = [r#"PUBLISH t "2" q2 #2 dup"#, r#"PUBLISH t "3" q1 #3 dup"#, r#"PUBLISH t "4" q1 #4"#];
        assert_eq!(come_back(&mut node, version), expected, "QoS 0 is not kept for a client that is away");
    }
}

// [MQTT-4.4.0-1]: PUBREL is sent again, the message is not.
#[test]
fn a_received_message_is_only_released_again() {
    let mut node = node(V4, Settings::default());
    node.inside("t", b"x", 2, |_| {});
    node.said(0);
    node.ack(0, Packet::PubRec, 1);
    node.lose(0);
    assert_eq!(come_back(&mut node, V4), ["PUBREL #1"]);
    node.ack(0, Packet::PubComp, 1);
    node.lose(0);
    assert_eq!(come_back(&mut node, V4), [""; 0]);
}

#[test]
fn a_pubrec_that_was_lost_with_its_pubrel_may_come_again() {
    let mut node = node(V5, Settings::default());
    node.inside("t", b"x", 2, |_| {});
    node.said(0);
    node.ack(0, Packet::PubRec, 1);
    assert_eq!(node.ack(0, Packet::PubRec, 1), Step::Continue);
    assert_eq!(node.said(0), ["PUBREL #1", "PUBREL #1"]);
}

// [MQTT-3.3.4-9]
#[test]
fn sending_again_keeps_within_a_smaller_receive_maximum() {
    let mut node = node(V5, Settings::default());
    for payload in [b"1", b"2", b"3", b"4"] {
        node.inside("t", payload, 1, |_| {});
    }
    node.said(0);
    node.lose(0);
    let small = |connect: &mut Connect<'_>| {
        stays(connect);
        connect.properties.receive_maximum = Some(2);
    };
    node.connect(0, V5, small).expect("the client is welcome");
    node.inside("t", b"5", 1, |_| {});
    assert_eq!(node.said(0)[1..], [r#"PUBLISH t "1" q1 #1 dup"#, r#"PUBLISH t "2" q1 #2 dup"#]);
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(node.said(0), [r#"PUBLISH t "3" q1 #3 dup"#]);
    node.ack(0, Packet::PubAck, 2);
    node.ack(0, Packet::PubAck, 3);
    assert_eq!(node.said(0), [r#"PUBLISH t "4" q1 #4 dup"#, r#"PUBLISH t "5" q1 #5"#]);
}

#[test]
fn a_resend_that_is_cut_off_starts_over_in_the_same_order() {
    let mut node = node(V5, Settings::default());
    for number in 0..6_u8 {
        node.inside("t", &[b'0' + number], 1, |_| {});
    }
    node.said(0);
    node.lose(0);
    let small = |connect: &mut Connect<'_>| {
        stays(connect);
        connect.properties.receive_maximum = Some(3);
    };
    node.connect(0, V5, small).expect("the client is welcome");
    node.said(0);
    node.ack(0, Packet::PubAck, 2);
    node.lose(0);
    let again: Vec<_> =
        come_back(&mut node, V5).iter().filter_map(|heard| heard.split('#').nth(1).map(str::to_owned)).collect();
    assert_eq!(again, ["1 dup", "3 dup", "4 dup", "5 dup", "6 dup"]);
}

#[test]
fn a_message_too_large_for_the_next_connection_is_given_up() {
    let mut node = node(V5, Settings::default());
    node.inside("t", &[b'x'; 100], 1, |_| {});
    node.inside("t", b"small", 1, |_| {});
    node.said(0);
    node.lose(0);
    let narrow = |connect: &mut Connect<'_>| {
        stays(connect);
        connect.properties.maximum_packet_size = Some(50);
    };
    node.connect(0, V5, narrow).expect("the client is welcome");
    assert_eq!(node.said(0)[1..], [r#"PUBLISH t "small" q1 #2 dup"#]);
    node.ack(0, Packet::PubAck, 2);
    assert_eq!(node.counts(0), (0, 0, 0));
}

// MQTT 5 §3.3.2.3.4: aliases are of a connection, so what is sent again names its topic.
#[test]
fn what_is_sent_again_does_not_use_an_alias_of_the_last_connection() {
    let mut node = Node::new(Settings { topic_alias_max_broker: 5, ..Settings::default() }, 1);
    let aliased = |connect: &mut Connect<'_>| {
        stays(connect);
        connect.properties.topic_alias_maximum = Some(5);
    };
    node.connected(0, V5, aliased);
    node.subscribed(0, "#", 1);
    node.inside("t", b"1", 1, |_| {});
    node.inside("t", b"2", 1, |_| {});
    assert_eq!(node.said(0), [r#"PUBLISH t "1" q1 #1 alias 1"#, r#"PUBLISH  "2" q1 #2 alias 1"#]);
    node.lose(0);
    node.connect(0, V5, aliased).expect("the client is welcome");
    assert_eq!(node.said(0)[1..], [r#"PUBLISH t "1" q1 #1 dup alias 1"#, r#"PUBLISH  "2" q1 #2 dup alias 1"#]);
}

// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.2-6]
#[test]
fn a_clean_start_finds_nothing() {
    for version in [V4, V5] {
        let mut node = node(version, Settings::default());
        node.inside("t", b"x", 1, |_| {});
        node.lose(0);
        assert_eq!(node.subscriptions(), 1);
        node.connect(0, version, |_| {}).expect("the client is welcome");
        assert_eq!(node.said(0), ["CONNACK 0x00"]);
        assert_eq!((node.subscriptions(), node.counts(0)), (0, (0, 0, 0)));
    }
}

// [MQTT-4.3.3-10]: the client's own QoS 2 messages are part of its session.
#[test]
fn a_repeat_over_a_new_connection_is_not_passed_on() {
    let mut node = node(V4, Settings::default());
    node.publish(0, head("t", 2, 1), b"x");
    node.said(0);
    node.lose(0);
    come_back(&mut node, V4);
    node.publish(0, PublishHead { dup: true, ..head("t", 2, 1) }, b"x");
    let heard = node.said(0);
    assert_eq!(heard, ["PUBREC #1"], "the message itself had come before");
    node.send(0, &Packet::PubRel(Acknowledgement::success(1)));
    assert_eq!(node.said(0), ["PUBCOMP #1"]);
}

#[test]
fn the_offline_queue_drops_what_its_policy_says() {
    for (queue_type, kept) in [(QueueType::Fifo, ["1", "2"]), (QueueType::Lifo, ["4", "3"])] {
        let mut node = node(V4, Settings { max_offline_messages: 2, queue_type, ..Settings::default() });
        node.lose(0);
        for payload in [b"1", b"2", b"3", b"4"] {
            node.inside("t", payload, 1, |_| {});
        }
        let heard = come_back(&mut node, V4);
        let expected = [format!("PUBLISH t {:?} q1 #1", kept[0]), format!("PUBLISH t {:?} q1 #2", kept[1])];
        assert_eq!(heard, expected, "{queue_type:?}");
    }
}

#[test]
fn what_waits_shrinks_to_the_limit_of_the_state_it_enters() {
    for (keeps, left) in [(false, 1), (true, 3)] {
        let settings = Settings {
            max_offline_messages: 3,
            max_online_messages: 1,
            override_max_online_messages: keeps,
            max_inflight_messages: 1,
            ..Settings::default()
        };
        let mut node = node(V4, settings);
        node.lose(0);
        for payload in [b"1", b"2", b"3", b"4"] {
            node.inside("t", payload, 1, |_| {});
        }
        node.connect(0, V4, stays).expect("the client is welcome");
        let (under_way, waiting, _) = node.counts(0);
        assert_eq!(under_way + waiting, left, "override_max_online_messages = {keeps}");
    }
}

// [MQTT-3.1.2-23], [MQTT-3.14.2-2]
#[test]
fn a_session_ends_when_its_time_is_over() {
    for (expiry, after_ms, is_there) in
        [(0, 0, false), (10, 9_999, true), (10, 10_000, false), (u32::MAX, 1 << 50, true)]
    {
        let mut node = Node::new(Settings::default(), 1);
        node.connected(0, V5, |connect| connect.properties.session_expiry = Some(expiry));
        node.subscribed(0, "#", 1);
        node.lose(0);
        node.later(after_ms);
        assert_eq!((node.has_session(0), node.subscriptions() == 1), (is_there, is_there), "{expiry} {after_ms}");
    }
}

#[test]
fn a_version_3_session_stays_as_long_as_the_operator_says() {
    for (configured, after_ms, is_there) in
        [(None, 1 << 50, true), (Some(5), 4_999, true), (Some(5), 5_000, false), (Some(0), 500, true)]
    {
        let settings = Settings { persistent_client_expiration: configured, ..Settings::default() };
        let mut node = node(V4, settings);
        node.lose(0);
        node.later(after_ms);
        assert_eq!(node.has_session(0), is_there, "{configured:?} {after_ms}");
    }
}
