//! Limits: the rate of publishes, queues, subscriptions, what the CONNACK says of them.

use super::engine::codec::{ProtocolVersion, ReasonCode};
use super::engine::hooks::Hooks;
use super::engine::protocol::{Decision, Step, Verdict};
use super::engine::settings::{QueueType, Settings};
use super::node::{Node, head};
use super::shorthand::with_qos;

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

#[test]
fn who_publishes_faster_than_the_rate_has_to_wait() {
    let mut node = Node::new(Settings { max_message_rate: 2, ..Settings::default() }, 1);
    node.connected(0, V4, |_| {});
    let publish = |node: &mut Node| node.publish(0, head("t", 1, 1), b"");
    assert_eq!([publish(&mut node), publish(&mut node)], [Step::Continue, Step::Continue]);
    assert_eq!(publish(&mut node), Step::Throttle(500));
    node.later(500);
    assert_eq!(publish(&mut node), Step::Throttle(500), "the one before used up the half second");
    node.later(1_500);
    assert_eq!([publish(&mut node), publish(&mut node)], [Step::Continue, Step::Continue]);
    assert_eq!(node.said(0).len(), 6, "each was acknowledged");
}

#[test]
fn repeats_count_against_the_rate_as_well() {
    let mut node = Node::new(Settings { max_message_rate: 1, ..Settings::default() }, 1);
    node.connected(0, V4, |_| {});
    assert_eq!(node.publish(0, head("t", 2, 1), b""), Step::Continue);
    assert_eq!(node.publish(0, head("t", 2, 1), b""), Step::Throttle(1_000));
    assert_eq!(node.said(0), ["PUBREC #1", "PUBREC #1"]);
}

#[test]
fn a_verdict_does_not_spare_the_wait_of_a_publish_that_was_too_fast() {
    let mut node = Node::new(Settings { max_message_rate: 1, ..Settings::default() }, 1);
    node.connected(0, V5, |_| {});
    node.listen(Hooks::AUTH_ON_PUBLISH);
    for (verdict, step) in [
        (Verdict::new(Decision::Allow), Step::Continue),
        (Verdict::new(Decision::Allow), Step::Throttle(1_000)),
        (Verdict::deny(ReasonCode::NOT_AUTHORIZED), Step::Throttle(2_000)),
    ] {
        assert_eq!(node.publish(0, head("t", 1, 1), b""), Step::Pause);
        assert_eq!(node.answer(0, &verdict), step);
    }
}

#[test]
fn a_full_queue_of_a_connected_client_drops_and_says_so() {
    for (queue_type, last) in [(QueueType::Fifo, "2"), (QueueType::Lifo, "4")] {
        let settings = Settings { max_inflight_messages: 1, max_online_messages: 1, queue_type, ..Settings::default() };
        let mut node = Node::new(settings, 1);
        node.connected(0, V4, |_| {});
        node.listen(Hooks::ON_MESSAGE_DROP);
        node.subscribed(0, "#", 1);
        for payload in [b"1", b"2", b"3", b"4"] {
            node.inside("t", payload, 1, |_| {});
        }
        assert_eq!(node.told(), ["on_message_drop c0 t queue_full", "on_message_drop c0 t queue_full"]);
        node.said(0);
        node.ack(0, super::engine::codec::Packet::PubAck, 1);
        assert_eq!(node.said(0), [format!("PUBLISH t {last:?} q1 #2")]);
    }
}

#[test]
fn the_bytes_of_a_queue_are_limited_also_when_large_messages_follow_small_ones() {
    for queue_type in [QueueType::Fifo, QueueType::Lifo] {
        let settings =
            Settings { max_inflight_messages: 1, max_queued_bytes: 2_000, queue_type, ..Settings::default() };
        let mut node = Node::new(settings, 1);
        node.connected(0, V4, |_| {});
        node.subscribed(0, "#", 1);
        for size in [10, 300, 3_000] {
            for _ in 0..20 {
                node.inside("t", &vec![0; size], 1, |_| {});
                let waiting = node.session(0).pending.bytes();
                assert!(waiting <= 2_000, "{queue_type:?}: {waiting} bytes wait");
            }
        }
        assert!(node.counts(0).1 > 0, "what fits waits");
    }
}

#[test]
fn a_queue_limit_of_minus_one_is_none() {
    let settings = Settings { max_inflight_messages: 1, max_online_messages: -1, ..Settings::default() };
    let mut node = Node::new(settings, 1);
    node.connected(0, V4, |_| {});
    node.subscribed(0, "#", 1);
    for _ in 0..2_000 {
        node.inside("t", b"", 1, |_| {});
    }
    assert_eq!(node.counts(0), (1, 1_999, 0));
}

#[test]
fn a_client_has_no_more_subscriptions_than_allowed_but_may_change_those_it_has() {
    let mut node = Node::new(Settings { max_subscriptions_per_client: 2, ..Settings::default() }, 1);
    node.connected(0, V5, |_| {});
    node.subscribe(0, &[("a", with_qos(0)), ("b", with_qos(1)), ("c", with_qos(2)), ("a", with_qos(2))]);
    assert_eq!(node.said(0), ["SUBACK #100 0x00 0x01 0x97 0x02"]);
    node.unsubscribe(0, &["a"]);
    node.subscribe(0, &[("c", with_qos(2))]);
    assert_eq!(node.said(0), ["UNSUBACK #101 0x00", "SUBACK #100 0x02"]);
    assert_eq!(node.subscriptions(), 2);
}

#[test]
fn a_new_limit_holds_for_what_happens_next() {
    let mut node = Node::new(Settings::default(), 1);
    node.connected(0, V5, |_| {});
    node.configure(|settings| settings.topic_max_depth = 1);
    node.publish(0, head("a/b", 1, 1), b"");
    assert_eq!(node.said(0), ["PUBACK #1 0x90"]);
}
