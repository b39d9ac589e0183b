//! What a client gets: the steps of each QoS, the window, aliases, sizes, expiry, order.

use super::engine::codec::{Acknowledgement, Packet, ProtocolVersion, ReasonCode};
use super::engine::hooks::Hooks;
use super::engine::protocol::{SHARE_FROM, Step};
use super::engine::settings::Settings;
use super::node::Node;
use super::shorthand::with_qos;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

/// A node with a subscriber of `#` with QoS 2 at seat 0.
fn node(version: ProtocolVersion, settings: Settings) -> Node {
    let mut node = Node::new(settings, 3);
    node.connected(0, version, |_| {});
    node.subscribed(0, "#", 2);
    node
}

fn send(node: &mut Node, numbers: std::ops::Range<u8>, qos: u8) {
    for number in numbers {
        node.inside("t", &[b'0' + number], qos, |_| {});
    }
}

fn payloads(heard: &[String]) -> String {
    heard.iter().filter(|heard| heard.starts_with("PUBLISH")).filter_map(|heard| heard.chars().nth(11)).collect()
}

// [MQTT-4.3.2-1], [MQTT-4.3.3-1]
#[test]
fn each_qos_goes_through_its_steps() {
    for version in [V4, V5] {
        let mut node = node(version, Settings::default());
        send(&mut node, 0..3, 0);
        assert_eq!(node.said(0).len(), 3);
        node.inside("t", b"1", 1, |_| {});
        assert_eq!(node.said(0), [r#"PUBLISH t "1" q1 #1"#]);
        node.ack(0, Packet::PubAck, 1);
        node.inside("t", b"2", 2, |_| {});
        assert_eq!(node.said(0), [r#"PUBLISH t "2" q2 #2"#]);
        node.ack(0, Packet::PubRec, 2);
        assert_eq!(node.said(0), ["PUBREL #2"]);
        assert_eq!(node.counts(0).0, 1);
        node.ack(0, Packet::PubComp, 2);
        assert_eq!(node.counts(0), (0, 0, 0));
    }
}

// [MQTT-3.8.4-8]: the lower QoS of publisher and subscription.
#[test]
fn a_delivery_has_the_lower_qos_unless_it_is_upgraded() {
    for (upgrade, qos) in [(false, [0, 1, 1]), (true, [1, 1, 1])] {
        let mut node = Node::new(Settings { upgrade_outgoing_qos: upgrade, ..Settings::default() }, 1);
        node.connected(0, V4, |_| {});
        node.subscribed(0, "t", 1);
        (0..3).for_each(|published| node.inside("t", b"", published, |_| {}));
        let heard: Vec<u8> = node.heard(0, usize::MAX).iter().map(|heard| heard.qos).collect();
        assert_eq!(heard, qos);
    }
}

// [MQTT-3.3.4-9]
#[test]
fn no_more_is_under_way_than_the_window_allows_and_order_is_kept() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |connect| connect.properties.receive_maximum = Some(2));
    node.subscribed(0, "#", 2);
    send(&mut node, 0..5, 1);
    assert_eq!(payloads(&node.said(0)), "01");
    assert_eq!(node.counts(0), (2, 3, 0));
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(payloads(&node.said(0)), "2");
    node.ack(0, Packet::PubAck, 2);
    node.ack(0, Packet::PubAck, 3);
    assert_eq!(payloads(&node.said(0)), "34");
}

// [MQTT-4.6.0-6]: what came later does not overtake, whatever its QoS.
#[test]
fn a_qos_0_message_does_not_overtake_what_waits() {
    let mut node = node(V4, Settings { max_inflight_messages: 1, ..Settings::default() });
    send(&mut node, 0..2, 1);
    send(&mut node, 2..3, 0);
    assert_eq!(payloads(&node.said(0)), "0");
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(payloads(&node.said(0)), "12");
}

#[test]
fn a_qos_2_delivery_holds_its_place_in_the_window_until_pubcomp() {
    let mut node = node(V4, Settings { max_inflight_messages: 1, ..Settings::default() });
    send(&mut node, 0..2, 2);
    assert_eq!(payloads(&node.said(0)), "0");
    node.ack(0, Packet::PubRec, 1);
    assert_eq!(node.said(0), ["PUBREL #1"]);
    node.ack(0, Packet::PubComp, 1);
    assert_eq!(payloads(&node.said(0)), "1");
}

// [MQTT-4.3.3-4]: a PUBREC with an error ends the delivery, and there is no PUBREL.
#[test]
fn a_pubrec_with_an_error_makes_room_at_once() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |connect| connect.properties.receive_maximum = Some(1));
    node.subscribed(0, "#", 2);
    send(&mut node, 0..2, 2);
    assert_eq!(payloads(&node.said(0)), "0");
    node.referee(0).finished(1);
    node.send(0, &Packet::PubRec(Acknowledgement::with_reason(1, ReasonCode::QUOTA_EXCEEDED)));
    assert_eq!(node.said(0), [r#"PUBLISH t "1" q2 #2"#]);
}

#[test]
fn an_acknowledgement_of_nothing_changes_nothing() {
    let mut node = node(V5, Settings::default());
    send(&mut node, 0..1, 2);
    node.said(0);
    for packet in [Packet::PubAck, Packet::PubComp] {
        assert_eq!(node.send(0, &packet(Acknowledgement::success(1))), Step::Continue, "QoS 2 awaits a PUBREC");
    }
    assert_eq!(node.send(0, &Packet::PubAck(Acknowledgement::success(77))), Step::Continue);
    assert_eq!(node.send(0, &Packet::PubRec(Acknowledgement::success(77))), Step::Continue);
    assert_eq!(node.said(0), ["PUBREL #77 0x92"]);
    assert_eq!(node.counts(0), (1, 0, 0));
}

// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn what_is_larger_than_the_client_takes_counts_as_delivered() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |connect| connect.properties.maximum_packet_size = Some(20));
    node.listen(Hooks::ON_MESSAGE_DROP);
    node.subscribed(0, "#", 2);
    // 2 of header, 3 of topic, 2 of identifier, 1 of properties.
    node.inside("t", &[b'x'; 12], 1, |_| {});
    node.inside("t", &[b'y'; 13], 1, |_| {});
    node.inside("t", &[b'y'; 14], 0, |_| {});
    node.inside("t", &[b'z'; 14], 0, |_| {});
    let heard = node.said(0);
    assert_eq!(
        heard,
        [r#"PUBLISH t "xxxxxxxxxxxx" q1 #1"#, r#"PUBLISH t "yyyyyyyyyyyyyy" q0"#, r#"PUBLISH t "zzzzzzzzzzzzzz" q0"#]
    );
    assert_eq!(node.told(), ["on_message_drop c0 t max_packet_size_exceeded"]);
    assert_eq!(node.counts(0), (1, 0, 0), "what was dropped takes no place in the window");
}

// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
#[test]
fn a_message_expires_in_the_queue_and_tells_what_is_left_of_its_time() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |connect| connect.properties.receive_maximum = Some(1));
    node.listen(Hooks::ON_MESSAGE_DROP);
    node.subscribed(0, "#", 1);
    let now = node.cx.now;
    send(&mut node, 0..1, 1);
    node.inside("t", b"short", 1, |head| head.expires_at = now + 2_000);
    node.inside("t", b"long", 1, |head| head.expires_at = now + 10_000);
    assert_eq!(payloads(&node.said(0)), "0");
    node.later(3_500);
    node.ack(0, Packet::PubAck, 1);
    assert_eq!(node.said(0), [r#"PUBLISH t "long" q1 #2 expiry 7"#]);
    assert_eq!(node.told(), ["on_message_drop c0 t expired"]);
}

#[test]
fn a_message_that_has_expired_is_not_sent_at_all() {
    let mut node = node(V4, Settings::default());
    let now = node.cx.now;
    node.inside("t", b"late", 1, |head| head.expires_at = now);
    assert_eq!(node.said(0), [""; 0]);
}

// MQTT 5 §3.3.2.3.4, [MQTT-3.3.2-11]
#[test]
fn the_broker_uses_as_many_aliases_as_both_sides_allow() {
    for (client, broker, used) in [(0, 5, 0), (5, 0, 0), (1, 5, 1), (5, 2, 2)] {
        let mut node = Node::new(Settings { topic_alias_max_broker: broker, ..Settings::default() }, 1);
        node.connected(0, V5, |connect| connect.properties.topic_alias_maximum = Some(client));
        node.subscribed(0, "#", 0);
        for topic in ["a", "b", "c", "a", "b", "c"] {
            node.inside(topic, b"", 0, |_| {});
        }
        let heard = node.said(0);
        let aliased = heard.iter().filter(|heard| heard.contains("alias")).count();
        let nameless = heard.iter().filter(|heard| heard.starts_with("PUBLISH  ")).count();
        assert_eq!((heard.len(), aliased, nameless), (6, used * 2, used), "{heard:?}");
    }
}

#[test]
fn a_slow_reader_gets_everything_in_order_however_its_bytes_are_cut() {
    let settings = Settings { max_connection_buffer: 4_096, ..Settings::default() };
    let mut node = node(V4, settings);
    let mut heard = Vec::new();
    for number in 0..200_u8 {
        let size = if number % 10 == 0 { SHARE_FROM + 1 } else { 100 };
        node.inside(&format!("t/{number}"), &vec![number; size], number % 2, |_| {});
        let limit = 4_096 + SHARE_FROM + 200;
        let waiting = node.session(0).connection.as_ref().map_or(0, |connection| connection.output.len());
        assert!(waiting <= limit, "{waiting} bytes wait for a slow reader");
        for packet in node.heard(0, 97) {
            node.finish(0, &packet);
            heard.push(packet);
        }
    }
    while !node.session(0).connection.as_ref().is_none_or(|connection| connection.output.is_empty()) {
        for packet in node.heard(0, 1_000) {
            node.finish(0, &packet);
            heard.push(packet);
        }
    }
    let topics: Vec<_> = heard.iter().filter_map(|heard| heard.text.split(' ').nth(1)).collect();
    assert_eq!(topics, (0..200).map(|number| format!("t/{number}")).collect::<Vec<_>>());
}

// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]
#[test]
fn overlapping_subscriptions_give_one_copy_with_all_their_identifiers() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |_| {});
    for (filter, qos, identifier) in [("a/#", 0, 3), ("a/+", 2, 4), ("a/b", 1, 0)] {
        node.subscribe_as(0, filter, with_qos(qos), identifier);
    }
    node.said(0);
    node.inside("a/b", b"x", 2, |_| {});
    let heard = node.said(0);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].starts_with(r#"PUBLISH a/b "x" q2 #1"#), "{heard:?}");
    assert!(heard[0].contains("id 3") && heard[0].contains("id 4"), "{heard:?}");
}

#[test]
fn a_fan_out_gives_every_version_and_qos_its_own_form() {
    let mut node = Node::new(Settings::default(), 3);
    node.connected(0, V4, |_| {});
    node.connected(1, V5, |_| {});
    node.connected(2, V5, |_| {});
    node.subscribed(0, "t", 1);
    node.subscribed(1, "t", 2);
    node.subscribed(2, "t", 0);
    let now = node.cx.now;
    node.inside("t", b"x", 2, |head| head.expires_at = now + 5_000);
    assert_eq!(node.said(0), [r#"PUBLISH t "x" q1 #1"#]);
    assert_eq!(node.said(1), [r#"PUBLISH t "x" q2 #1 expiry 5"#]);
    assert_eq!(node.said(2), [r#"PUBLISH t "x" q0 expiry 5"#]);
}
