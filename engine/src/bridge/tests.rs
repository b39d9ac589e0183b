//! A bridge between this node and another broker, both played by the tests, packet by packet.

use std::sync::Arc;

use super::mapping::{Forward, Mapping, Rule, Subscription, Way};
use super::marks::{VIA, is_marked, user_property};
use super::pump::{Cut, Plan, Pump, Side};
use super::status::{State, Status};
use crate::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, FrameStep, Packet, Properties, ProtocolVersion, Publish,
    PublishHead, QoS, ReasonCode, SubAck, decode, encode_puback, encode_pubrel, next_frame,
};
use crate::protocol::client::{Acknowledge, ClientSettings};

const V5: ProtocolVersion = ProtocolVersion::V5;

fn rule(source: &str, target: &str, pattern: &str, qos: u8) -> Rule {
    Rule {
        source_prefix: source.into(),
        target_prefix: target.into(),
        pattern: pattern.into(),
        qos,
        keeps_retain: false,
    }
}

fn subscription(identifier: u32, filter: &str, qos: u8, rules: Vec<Rule>) -> Subscription {
    Subscription { identifier, wire_filter: filter.into(), is_shared: false, qos, keeps_retain: false, rules }
}

fn plan(qos: u8) -> Plan {
    let both = |way| Mapping { way, subscriptions: vec![subscription(1, "t/#", qos, vec![rule("", "", "t/#", qos)])] };
    Plan {
        out: both(Way::Out),
        incoming: both(Way::In),
        subscribes: true,
        stale: Vec::new(),
        own_mark: "own".into(),
        remote_mark: "own/b".into(),
        window: 2,
    }
}

fn client() -> ClientSettings {
    ClientSettings { acknowledge: Acknowledge::Manually, client_id: "b".into(), ..ClientSettings::default() }
}

struct Bridge {
    pump: Pump,
    status: Arc<Status>,
}

impl Bridge {
    /// Connected on both sides, with what it subscribed answered.
    fn connected(qos: u8, version: ProtocolVersion) -> Self {
        Self::resumed(qos, version, false)
    }

    /// As above; whether the other broker has the session of an earlier process.
    fn resumed(qos: u8, version: ProtocolVersion, is_present: bool) -> Self {
        let status = Arc::new(Status::default());
        let mut pump = Pump::new(plan(qos), client(), Arc::clone(&status));
        pump.set_remote(ClientSettings { version, clean_start: false, send_window: 2, ..client() });
        let mut bridge = Self { pump, status };
        bridge.connect(Side::Local, V5, false);
        bridge.connect(Side::Remote, version, is_present);
        bridge
    }

    fn connect(&mut self, side: Side, version: ProtocolVersion, session_present: bool) {
        self.pump.connect(side);
        assert_eq!(self.sent(side, version), ["connect"]);
        let connack = ConnAck { session_present, reason: ReasonCode::SUCCESS, properties: Properties::default() };
        let mut bytes = Vec::new();
        connack.encode(version, &mut bytes);
        self.receive(side, &bytes).unwrap();
    }

    fn receive(&mut self, side: Side, bytes: &[u8]) -> Result<(), Cut> {
        let (taken, _) = self.pump.receive(side, bytes, 0)?;
        assert_eq!(taken, bytes.len());
        Ok(())
    }

    /// What the pump has written to a side since, a word each.
    fn sent(&mut self, side: Side, version: ProtocolVersion) -> Vec<String> {
        let output = self.pump.output(side).to_vec();
        self.pump.advance(side, output.len());
        let mut words = Vec::new();
        let mut rest = &output[..];
        while !rest.is_empty() {
            let Ok(FrameStep::Frame(frame)) = next_frame(rest, usize::MAX) else { panic!("half a packet") };
            rest = &rest[frame.size..];
            words.push(match decode(version, frame).unwrap() {
                Packet::Connect(_) => "connect".into(),
                Packet::Subscribe(subscribe) => format!("subscribe {}", subscribe.packet_id),
                Packet::Publish(publish) => format!(
                    "publish {} {} {}{}",
                    publish.topic,
                    publish.packet_id,
                    String::from_utf8_lossy(publish.payload),
                    if publish.dup { " again" } else { "" }
                ),
                Packet::PubAck(ack) => format!("puback {}", ack.packet_id),
                Packet::PubRec(ack) => format!("pubrec {}", ack.packet_id),
                Packet::PubComp(ack) => format!("pubcomp {}", ack.packet_id),
                Packet::PubRel(ack) => format!("pubrel {}", ack.packet_id),
                other => other.packet_type().name().to_owned(),
            });
        }
        words
    }

    fn deliver(&mut self, side: Side, version: ProtocolVersion, qos: QoS, id: u16, payload: &str, properties: &[u8]) {
        let head = PublishHead {
            dup: false,
            qos,
            retain: false,
            packet_id: id,
            topic: "t/x",
            topic_alias: None,
            message_expiry: None,
            subscription_identifiers: &[],
            properties,
            payload_len: payload.len(),
        };
        let mut bytes = Vec::new();
        head.encode(version, &mut bytes);
        bytes.extend_from_slice(payload.as_bytes());
        self.receive(side, &bytes).unwrap();
    }

    fn answer(&mut self, side: Side, kind: AcknowledgementKind, id: u16) {
        let mut bytes = Vec::new();
        Acknowledgement::with_reason(id, ReasonCode::SUCCESS).encode(kind, V5, &mut bytes);
        self.receive(side, &bytes).unwrap();
    }

    fn acknowledge(&mut self, side: Side, id: u16) {
        let mut bytes = Vec::new();
        encode_puback(id, &mut bytes);
        self.receive(side, &bytes).unwrap();
    }
}

fn with_subscriptions(words: &[&str]) -> Vec<String> {
    ["subscribe 1"].iter().chain(words).map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_message_is_acknowledged_where_it_came_from_when_it_was_where_it_went() {
    let mut bridge = Bridge::connected(1, V5);
    assert_eq!(bridge.status.state(), State::Connected);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 7, "m", &[]);
    assert_eq!(bridge.sent(Side::Remote, V5), with_subscriptions(&["publish t/x 2 m"]));
    assert_eq!(bridge.sent(Side::Local, V5), ["subscribe 1"]);
    bridge.acknowledge(Side::Remote, 2);
    assert_eq!(bridge.sent(Side::Local, V5), ["puback 7"]);
    bridge.deliver(Side::Remote, V5, QoS::AtLeastOnce, 9, "n", &[]);
    assert_eq!(bridge.sent(Side::Local, V5), ["publish t/x 2 n"]);
    assert!(bridge.sent(Side::Remote, V5).is_empty());
    bridge.acknowledge(Side::Local, 2);
    assert_eq!(bridge.sent(Side::Remote, V5), ["puback 9"]);
    let counts = bridge.status.counts();
    assert_eq!((counts.published_out, counts.published_in), ([0, 1, 0], [0, 1, 0]));
}

#[test]
fn what_waits_while_the_other_broker_is_away_goes_in_order_when_it_is_back() {
    let mut bridge = Bridge::connected(1, V5);
    bridge.sent(Side::Remote, V5);
    bridge.sent(Side::Local, V5);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 1, "one", &[]);
    assert_eq!(bridge.sent(Side::Remote, V5), ["publish t/x 2 one"]);
    bridge.pump.detach(Side::Remote);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 2, "two", &[]);
    bridge.deliver(Side::Local, V5, QoS::AtMostOnce, 0, "three", &[]);
    // The session is still there: what was under way goes again, then the rest.
    bridge.connect(Side::Remote, V5, true);
    assert_eq!(bridge.sent(Side::Remote, V5), ["publish t/x 2 one again", "subscribe 3", "publish t/x 4 two"]);
    bridge.acknowledge(Side::Remote, 2);
    assert_eq!(bridge.sent(Side::Remote, V5), ["publish t/x 5 three"]);
    assert_eq!(bridge.sent(Side::Local, V5), ["puback 1"]);
}

#[test]
fn what_a_lost_session_had_under_way_goes_first_in_the_next() {
    let mut bridge = Bridge::connected(1, V5);
    bridge.sent(Side::Remote, V5);
    for (id, payload) in [(1, "one"), (2, "two")] {
        bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, id, payload, &[]);
    }
    bridge.sent(Side::Remote, V5);
    bridge.pump.detach(Side::Remote);
    bridge.connect(Side::Remote, V5, false);
    let sent = bridge.sent(Side::Remote, V5);
    let payloads: Vec<&str> = sent.iter().filter_map(|word| word.rsplit(' ').next()).collect();
    assert_eq!(payloads[1..], ["one", "two"], "{sent:?}");
}

#[test]
fn more_is_not_taken_than_the_other_side_has_room_for() {
    let mut bridge = Bridge::connected(0, V5);
    bridge.pump.detach(Side::Remote);
    for number in 0..3 {
        bridge.deliver(Side::Local, V5, QoS::AtMostOnce, 0, &number.to_string(), &[]);
    }
    assert!(!bridge.pump.takes_from(Side::Local));
    assert!(bridge.pump.takes_from(Side::Remote));
    bridge.connect(Side::Remote, V5, false);
    assert_eq!(bridge.sent(Side::Remote, V5).len(), 4);
    assert!(bridge.pump.takes_from(Side::Local));
}

#[test]
fn a_qos_2_message_that_comes_again_is_passed_on_once() {
    let mut bridge = Bridge::connected(2, V5);
    bridge.sent(Side::Local, V5);
    bridge.deliver(Side::Remote, V5, QoS::ExactlyOnce, 9, "m", &[]);
    assert_eq!(bridge.sent(Side::Local, V5), ["publish t/x 2 m"]);
    bridge.pump.detach(Side::Remote);
    bridge.connect(Side::Remote, V5, true);
    bridge.sent(Side::Remote, V5);
    bridge.deliver(Side::Remote, V5, QoS::ExactlyOnce, 9, "m", &[]);
    assert!(bridge.sent(Side::Local, V5).is_empty());
    let mut bytes = Vec::new();
    Acknowledgement::with_reason(2, ReasonCode::SUCCESS).encode(AcknowledgementKind::PubRec, V5, &mut bytes);
    bridge.receive(Side::Local, &bytes).unwrap();
    assert_eq!(bridge.sent(Side::Local, V5), ["pubrel 2"]);
    bytes.clear();
    Acknowledgement::with_reason(2, ReasonCode::SUCCESS).encode(AcknowledgementKind::PubComp, V5, &mut bytes);
    bridge.receive(Side::Local, &bytes).unwrap();
    assert_eq!(bridge.sent(Side::Remote, V5), ["pubrec 9"]);
    bytes.clear();
    encode_pubrel(9, &mut bytes);
    bridge.receive(Side::Remote, &bytes).unwrap();
    assert_eq!(bridge.sent(Side::Remote, V5), ["pubcomp 9"]);
}

#[test]
fn identifiers_of_a_session_that_goes_on_are_released_before_they_are_used() {
    let mut bridge = Bridge::resumed(2, V5, true);
    bridge.sent(Side::Remote, V5);
    bridge.deliver(Side::Local, V5, QoS::ExactlyOnce, 1, "m", &[]);
    // An earlier process may have left a message with this identifier unreleased: this one would be taken for a repeat.
    assert_eq!(bridge.sent(Side::Remote, V5), ["pubrel 2", "publish t/x 2 m"]);
    bridge.answer(Side::Remote, AcknowledgementKind::PubComp, 2);
    bridge.answer(Side::Remote, AcknowledgementKind::PubRec, 2);
    assert_eq!(bridge.sent(Side::Remote, V5), ["pubrel 2"]);
    bridge.answer(Side::Remote, AcknowledgementKind::PubComp, 2);
    assert_eq!(bridge.sent(Side::Local, V5), ["subscribe 1", "pubrec 1"]);
    let mut bridge = Bridge::connected(2, V5);
    bridge.sent(Side::Remote, V5);
    bridge.deliver(Side::Local, V5, QoS::ExactlyOnce, 1, "m", &[]);
    assert_eq!(bridge.sent(Side::Remote, V5), ["publish t/x 2 m"]);
}

#[test]
fn what_has_arrived_is_acknowledged_though_the_session_there_is_lost() {
    let mut bridge = Bridge::connected(2, V5);
    bridge.deliver(Side::Local, V5, QoS::ExactlyOnce, 1, "m", &[]);
    bridge.answer(Side::Remote, AcknowledgementKind::PubRec, 2);
    bridge.sent(Side::Local, V5);
    bridge.pump.detach(Side::Remote);
    bridge.connect(Side::Remote, V5, false);
    assert_eq!(bridge.sent(Side::Remote, V5), ["subscribe 3"]);
    assert_eq!(bridge.sent(Side::Local, V5), ["pubrec 1"]);
}

#[test]
fn a_session_of_3_1_counts_as_there_though_nothing_says_so() {
    let version = ProtocolVersion::V3_1;
    let mut bridge = Bridge::connected(2, version);
    bridge.sent(Side::Local, V5);
    bridge.deliver(Side::Remote, version, QoS::ExactlyOnce, 9, "m", &[]);
    assert_eq!(bridge.sent(Side::Local, V5), ["publish t/x 2 m"]);
    bridge.pump.detach(Side::Remote);
    bridge.answer(Side::Local, AcknowledgementKind::PubRec, 2);
    bridge.answer(Side::Local, AcknowledgementKind::PubComp, 2);
    bridge.connect(Side::Remote, version, false);
    bridge.sent(Side::Remote, version);
    bridge.deliver(Side::Remote, version, QoS::ExactlyOnce, 9, "m", &[]);
    assert_eq!(bridge.sent(Side::Remote, version), ["pubrec 9"]);
    assert_eq!(bridge.sent(Side::Local, V5), ["pubrel 2"]);
}

#[test]
fn two_sides_that_are_full_are_both_read() {
    let mut bridge = Bridge::connected(1, V5);
    bridge.pump.detach(Side::Local);
    bridge.pump.set_local_window(1);
    bridge.connect(Side::Local, V5, false);
    for id in 1..5 {
        bridge.deliver(Side::Remote, V5, QoS::AtLeastOnce, id, "in", &[]);
    }
    assert!(!bridge.pump.takes_from(Side::Remote) && bridge.pump.takes_from(Side::Local));
    for id in 1..6 {
        bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, id, "out", &[]);
    }
    assert!(bridge.pump.takes_from(Side::Remote) && bridge.pump.takes_from(Side::Local));
}

#[test]
fn what_was_here_or_there_before_is_dropped_and_acknowledged() {
    let mut bridge = Bridge::connected(1, V5);
    bridge.sent(Side::Local, V5);
    bridge.sent(Side::Remote, V5);
    bridge.deliver(Side::Remote, V5, QoS::AtLeastOnce, 1, "m", &user_property(VIA, "own"));
    assert_eq!(bridge.sent(Side::Remote, V5), ["puback 1"]);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 1, "m", &user_property(VIA, "own/b"));
    assert_eq!(bridge.sent(Side::Local, V5), ["puback 1"]);
    assert!(bridge.sent(Side::Remote, V5).is_empty());
    assert_eq!(bridge.status.counts().looped, 2);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 2, "m", &user_property(VIA, "somebody"));
    assert_eq!(bridge.sent(Side::Remote, V5).len(), 1);
}

#[test]
fn messages_carry_the_marks_of_where_they_were() {
    let mut bridge = Bridge::connected(0, V5);
    bridge.sent(Side::Local, V5);
    bridge.sent(Side::Remote, V5);
    for (from, mark) in [(Side::Local, "own"), (Side::Remote, "own/b")] {
        bridge.deliver(from, V5, QoS::AtMostOnce, 0, "m", &user_property("k", "v"));
        let output = bridge.pump.output(from.other()).to_vec();
        let Ok(FrameStep::Frame(frame)) = next_frame(&output, usize::MAX) else { panic!("a packet") };
        let Ok(Packet::Publish(Publish { properties, .. })) = decode(V5, frame) else { panic!("a PUBLISH") };
        let pairs: Vec<_> = properties.user_properties().into_iter().collect();
        assert_eq!(pairs, [("k", "v"), (VIA, mark)]);
        assert!(is_marked(properties.raw, &[mark]) && !is_marked(properties.raw, &["other"]));
    }
}

#[test]
fn what_a_broker_sends_back_that_knows_no_bridges_is_left_out() {
    let mut bridge = Bridge::connected(1, ProtocolVersion::V3_1_1);
    bridge.sent(Side::Local, V5);
    bridge.sent(Side::Remote, ProtocolVersion::V3_1_1);
    bridge.deliver(Side::Local, V5, QoS::AtLeastOnce, 1, "m", &[]);
    for (id, payload) in [(1, "m"), (2, "m"), (3, "n")] {
        bridge.deliver(Side::Remote, ProtocolVersion::V3_1_1, QoS::AtLeastOnce, id, payload, &[]);
    }
    assert_eq!(bridge.sent(Side::Local, V5), ["publish t/x 2 m", "publish t/x 3 n"]);
}

#[test]
fn a_refused_subscription_is_told() {
    let mut bridge = Bridge::connected(1, ProtocolVersion::V3_1_1);
    let mut bytes = Vec::new();
    let reasons = [ReasonCode::UNSPECIFIED_ERROR];
    SubAck { packet_id: 1, properties: Properties::default(), reasons: &reasons }.encode_within(
        ProtocolVersion::V3_1_1,
        u32::MAX,
        &mut bytes,
    );
    bridge.receive(Side::Remote, &bytes).unwrap();
    assert!(bridge.pump.complaints[0].contains("t/#"), "{:?}", bridge.pump.complaints);
}

#[test]
fn a_message_that_the_node_cannot_take_now_is_not_acknowledged() {
    let mut bridge = Bridge::connected(1, V5);
    bridge.sent(Side::Local, V5);
    bridge.sent(Side::Remote, V5);
    bridge.deliver(Side::Remote, V5, QoS::AtLeastOnce, 9, "m", &[]);
    let mut bytes = Vec::new();
    Acknowledgement::with_reason(2, ReasonCode::QUOTA_EXCEEDED).encode(AcknowledgementKind::PubAck, V5, &mut bytes);
    let cut = bridge.receive(Side::Local, &bytes).unwrap_err();
    assert!(cut.to_string().contains("does not take messages now"), "{cut}");
    assert!(bridge.sent(Side::Remote, V5).is_empty());
}

#[test]
fn where_rules_overlap_a_message_goes_to_each_topic_once() {
    let rules = |qos| vec![rule("a/", "b/", "#", qos)];
    let subscriptions = vec![subscription(1, "a/#", 0, rules(0)), subscription(2, "a/+", 1, rules(1))];
    let mapping = Mapping { way: Way::Out, subscriptions };
    let forward = |topic: &str| Forward { topic: topic.into(), qos: 1, retain: false };
    assert_eq!(mapping.forwards("a/x", 0, true, &[]), [forward("b/x")]);
    assert_eq!(mapping.forwards("a/x", 0, true, &[2]), [forward("b/x")]);
    assert_eq!(mapping.forwards("a/x", 0, true, &[1]), []);
    assert_eq!(mapping.forwards("a", 0, true, &[]), [forward("b")]);
    assert_eq!(mapping.forwards("c/x", 0, true, &[]), []);
}

#[test]
fn no_wildcard_puts_a_topic_below_a_dollar() {
    assert_eq!(rule("a/", "", "#", 0).target("a/$x"), None);
    assert_eq!(rule("", "a/", "#", 0).target("$x"), None);
    assert_eq!(rule("", "a/", "$x", 0).target("$x").as_deref(), Some("a/$x"));
    assert_eq!(rule("a/", "b/", "#", 0).target("a/$x").as_deref(), Some("b/$x"));
    assert_eq!(rule("a/", "", "#", 0).target("a"), None);
}
