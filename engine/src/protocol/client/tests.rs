//! A client against a scripted server, and against one that sends anything.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::codec::{
    Acknowledgement, AcknowledgementKind, ConnAck, Disconnect, FrameStep, PINGRESP, Packet, PacketType, Properties,
    ProtocolVersion, Publish, PublishHead, PublishProperties, QoS, ReasonCode, SubAck, SubscribeOptions, UnsubAck,
    decode, next_frame,
};

const VERSIONS: [ProtocolVersion; 3] = [ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5];

/// A message of a test: its payload, which can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Note(u32);

fn head(qos: QoS) -> PublishHead<'static> {
    PublishHead {
        dup: false,
        qos,
        retain: false,
        packet_id: 0,
        topic: "t",
        topic_alias: None,
        message_expiry: None,
        subscription_identifiers: &[],
        properties: &[],
        payload_len: 4,
    }
}

impl Kept for Note {
    fn encode_again(&self, version: ProtocolVersion, packet_id: u16, qos: QoS, out: &mut Vec<u8>) -> bool {
        PublishHead { dup: true, packet_id, ..head(qos) }.encode(version, out);
        out.extend_from_slice(&self.0.to_be_bytes());
        true
    }
}

/// A client, and what it has written and not been asked about.
struct Rig {
    client: Client<Note>,
    version: ProtocolVersion,
    out: Vec<u8>,
}

impl Rig {
    fn new(settings: ClientSettings) -> Self {
        Self { version: settings.version, client: Client::new(settings), out: Vec::new() }
    }

    fn online(settings: ClientSettings) -> Self {
        let mut rig = Self::new(settings);
        rig.connect(false, Properties::new());
        rig.written();
        rig
    }

    /// A new network connection, accepted.
    fn connect(&mut self, session_present: bool, properties: Properties<'_>) {
        self.client.connect(&mut self.out);
        let connack = ConnAck { session_present, reason: ReasonCode::SUCCESS, properties };
        let event = self.server(&Packet::ConnAck(Box::new(connack)));
        assert!(event.starts_with("Connected"), "{event}");
    }

    /// The server sends a packet; what the client makes of it, in the form of `{:?}`.
    fn server(&mut self, packet: &Packet<'_>) -> String {
        let mut bytes = Vec::new();
        packet.encode(self.version, &mut bytes);
        match self.client.receive(&bytes, &mut self.out) {
            Ok(Received::Packet { size, event }) => {
                assert_eq!(size, bytes.len());
                format!("{event:?}")
            }
            Ok(Received::Incomplete { .. }) => panic!("a whole packet was sent"),
            Err(error) => error.to_string(),
        }
    }

    fn delivers(&mut self, packet_id: u16, qos: QoS, dup: bool) -> String {
        let properties = PublishProperties::default();
        self.server(&Packet::Publish(Publish {
            dup,
            qos,
            retain: false,
            topic: "t",
            packet_id,
            properties,
            payload: b"x",
        }))
    }

    fn publish(&mut self, number: u32, qos: QoS) -> Result<Option<u16>, Refusal> {
        self.client.publish(head(qos), &number.to_be_bytes(), Note(number), &mut self.out)
    }

    /// What the client has written since the last call, shortly: `PUBLISH 1 #7 dup`, `PUBREL 1`, ...
    fn written(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        let (mut start, mut lines) = (0, Vec::new());
        while let Ok(FrameStep::Frame(frame)) = next_frame(&out[start..], out.len()) {
            start += frame.size;
            lines.push(match decode(self.version, frame).unwrap() {
                Packet::Publish(publish) => {
                    let number = u32::from_be_bytes(publish.payload.try_into().unwrap());
                    let dup = if publish.dup { " dup" } else { "" };
                    format!("PUBLISH {} #{number}{dup}", publish.packet_id)
                }
                Packet::PubAck(it) => format!("PUBACK {} {}", it.packet_id, it.reason.name()),
                Packet::PubRec(it) => format!("PUBREC {} {}", it.packet_id, it.reason.name()),
                Packet::PubRel(it) => format!("PUBREL {} {}", it.packet_id, it.reason.name()),
                Packet::PubComp(it) => format!("PUBCOMP {} {}", it.packet_id, it.reason.name()),
                Packet::Subscribe(it) => format!("SUBSCRIBE {} {}", it.packet_id, it.filter_count()),
                Packet::Disconnect(it) => format!("DISCONNECT {}", it.reason.disconnect_name()),
                other => other.packet_type().name().to_owned(),
            });
        }
        assert_eq!(start, out.len(), "the client wrote part of a packet");
        lines
    }
}

fn settings(version: ProtocolVersion) -> ClientSettings {
    ClientSettings {
        version,
        client_id: "c".into(),
        clean_start: false,
        session_expiry_s: 100,
        ..ClientSettings::default()
    }
}

fn answer<'a>(packet_id: u16) -> Acknowledgement<'a> {
    Acknowledgement::success(packet_id)
}

#[test]
fn a_message_of_each_qos_takes_its_steps_in_every_version() {
    for version in VERSIONS {
        let mut it = Rig::online(settings(version));
        assert_eq!(it.publish(1, QoS::AtMostOnce), Ok(None));
        assert_eq!(it.publish(2, QoS::AtLeastOnce), Ok(Some(1)));
        assert_eq!(it.publish(3, QoS::ExactlyOnce), Ok(Some(2)));
        assert_eq!(it.written(), ["PUBLISH 0 #1", "PUBLISH 1 #2", "PUBLISH 2 #3"]);
        assert_eq!(
            it.server(&Packet::PubAck(answer(1))),
            "Acknowledged { packet_id: 1, reason: ReasonCode(0), kept: Note(2) }"
        );
        assert_eq!(it.server(&Packet::PubRec(answer(2))), "Handled");
        assert_eq!(it.written(), ["PUBREL 2 success"]);
        assert_eq!(
            it.server(&Packet::PubComp(answer(2))),
            "Acknowledged { packet_id: 2, reason: ReasonCode(0), kept: Note(3) }"
        );
        assert_eq!((it.client.unacknowledged(), it.written()), (0, vec![]));
    }
}

#[test]
fn deliveries_are_acknowledged_and_one_of_qos_2_is_handed_over_once() {
    for version in VERSIONS {
        let mut it = Rig::online(settings(version));
        assert!(it.delivers(0, QoS::AtMostOnce, false).starts_with("Delivery"));
        assert!(it.delivers(7, QoS::AtLeastOnce, false).starts_with("Delivery"));
        assert!(it.delivers(8, QoS::ExactlyOnce, false).starts_with("Delivery"));
        assert_eq!(it.delivers(8, QoS::ExactlyOnce, true), "Repeated(8)");
        it.server(&Packet::PubRel(answer(8)));
        assert_eq!(it.written(), ["PUBACK 7 success", "PUBREC 8 success", "PUBREC 8 success", "PUBCOMP 8 success"]);
        assert!(it.delivers(8, QoS::ExactlyOnce, false).starts_with("Delivery"), "the identifier is free again");
    }
}

#[test]
fn nothing_of_qos_2_is_delivered_twice_across_connections() {
    let mut it = Rig::online(settings(ProtocolVersion::V3_1_1));
    it.delivers(8, QoS::ExactlyOnce, false);
    it.connect(true, Properties::new());
    it.written();
    assert_eq!(it.delivers(8, QoS::ExactlyOnce, true), "Repeated(8)");
    it.connect(false, Properties::new());
    assert!(it.delivers(8, QoS::ExactlyOnce, true).starts_with("Delivery"), "a new session knows nothing");
}

#[test]
fn what_was_not_acknowledged_is_sent_again_in_order_with_dup_and_the_same_identifiers() {
    for version in VERSIONS {
        let mut it = Rig::online(settings(version));
        for number in 1..=4 {
            it.publish(number, if number % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }).unwrap();
        }
        it.server(&Packet::PubRec(answer(2)));
        it.server(&Packet::PubAck(answer(1)));
        it.written();
        it.connect(true, Properties::new());
        assert_eq!(it.written()[1..], ["PUBREL 2 success", "PUBLISH 3 #3 dup", "PUBLISH 4 #4 dup"]);
        assert_eq!(it.publish(5, QoS::AtLeastOnce), Ok(Some(5)));
    }
}

#[test]
fn sending_again_keeps_to_the_new_receive_maximum_and_nothing_overtakes_it() {
    let mut it = Rig::online(settings(ProtocolVersion::V5));
    for number in 1..=5 {
        it.publish(number, QoS::AtLeastOnce).unwrap();
    }
    it.written();
    let mut properties = Properties::new();
    properties.receive_maximum = Some(2);
    it.connect(true, properties);
    assert_eq!(it.written()[1..], ["PUBLISH 1 #1 dup", "PUBLISH 2 #2 dup"]);
    assert_eq!((it.client.room(), it.publish(6, QoS::AtLeastOnce)), (0, Err(Refusal::WindowFull)));
    assert_eq!(it.server(&Packet::PubAck(answer(4))), "Handled", "it was not sent over this connection");
    it.server(&Packet::PubAck(answer(2)));
    assert_eq!(it.written(), ["PUBLISH 3 #3 dup"]);
    for id in [1, 3, 4, 5] {
        it.server(&Packet::PubAck(answer(id)));
    }
    assert_eq!(it.written(), ["PUBLISH 4 #4 dup", "PUBLISH 5 #5 dup"]);
    assert_eq!((it.client.room(), it.publish(6, QoS::AtLeastOnce)), (2, Ok(Some(6))));
}

#[test]
fn a_session_that_the_server_forgot_gives_its_messages_back() {
    let mut it = Rig::online(settings(ProtocolVersion::V5));
    for number in 1..=3 {
        it.publish(number, QoS::ExactlyOnce).unwrap();
    }
    it.server(&Packet::PubRec(answer(2)));
    it.written();
    it.connect(false, Properties::new());
    assert_eq!(it.written(), ["CONNECT"]);
    assert_eq!(it.client.take_abandoned(), [Note(1), Note(3)], "the second has arrived");
    assert_eq!((it.client.unacknowledged(), it.publish(4, QoS::AtLeastOnce)), (0, Ok(Some(4))));
}

#[test]
fn a_message_that_cannot_be_said_again_is_given_up() {
    let mut client: Client<()> = Client::new(settings(ProtocolVersion::V5));
    let (mut out, mut connack) = (Vec::new(), Vec::new());
    let accepted =
        |session_present| ConnAck { session_present, reason: ReasonCode::SUCCESS, properties: Properties::new() };
    client.connect(&mut out);
    accepted(false).encode(ProtocolVersion::V5, &mut connack);
    client.receive(&connack, &mut out).unwrap();
    client.publish(head(QoS::AtLeastOnce), b"1234", (), &mut out).unwrap();
    client.connect(&mut out);
    out.clear();
    connack.clear();
    accepted(true).encode(ProtocolVersion::V5, &mut connack);
    client.receive(&connack, &mut out).unwrap();
    assert_eq!((out.len(), client.take_abandoned().len(), client.unacknowledged(), client.room()), (0, 1, 0, 100));
}

#[test]
fn what_the_server_does_not_support_is_refused_before_it_is_sent() {
    let mut it = Rig::new(settings(ProtocolVersion::V5));
    assert_eq!(it.publish(1, QoS::AtMostOnce), Err(Refusal::NotConnected));
    let mut properties = Properties::new();
    properties.maximum_qos = Some(QoS::AtLeastOnce);
    properties.retain_available = Some(false);
    properties.maximum_packet_size = Some(20);
    it.connect(false, properties);
    it.written();
    assert_eq!(it.publish(1, QoS::ExactlyOnce), Err(Refusal::QoS));
    let retained = PublishHead { retain: true, ..head(QoS::AtMostOnce) };
    assert_eq!(it.client.publish(retained, b"", Note(0), &mut it.out), Err(Refusal::Retain));
    let large = it.client.publish(head(QoS::AtMostOnce), &[0; 20], Note(0), &mut it.out);
    assert_eq!(large, Err(Refusal::TooLarge { size: 26, limit: 20 }));
    let filter = [("a/long/topic/filter", SubscribeOptions::default())];
    assert_eq!(it.client.subscribe(&filter, None, &mut it.out), Err(Refusal::TooLarge { size: 27, limit: 20 }));
    assert_eq!((it.written(), it.client.room()), (vec![], 100));
}

#[test]
fn identifiers_of_requests_and_messages_never_collide() {
    let mut it = Rig::online(settings(ProtocolVersion::V5));
    let filter = [("a/#", SubscribeOptions::default())];
    assert_eq!(it.publish(1, QoS::AtLeastOnce), Ok(Some(1)));
    assert_eq!(it.client.subscribe(&filter, Some(5), &mut it.out), Ok(2));
    assert_eq!(it.publish(2, QoS::AtLeastOnce), Ok(Some(3)));
    assert_eq!(it.client.unsubscribe(&["a/#"], &mut it.out), Ok(4));
    let granted = SubAck { packet_id: 2, properties: Properties::new(), reasons: &[ReasonCode::GRANTED_QOS_0] };
    assert!(it.server(&Packet::SubAck(granted.clone())).starts_with("Subscribed"));
    assert_eq!(it.server(&Packet::SubAck(granted)), "Handled", "it was answered");
    let gone = UnsubAck { packet_id: 4, properties: Properties::new(), reasons: &[ReasonCode::SUCCESS] };
    assert!(it.server(&Packet::UnsubAck(gone)).starts_with("Unsubscribed"));
    assert_eq!(it.server(&Packet::PubAck(answer(2))), "Handled");
    assert_eq!(it.client.unacknowledged(), 2);
}

#[test]
fn all_identifiers_can_be_used_and_no_more() {
    let mut it = Rig::online(ClientSettings { send_window: u16::MAX, ..settings(ProtocolVersion::V3_1_1) });
    for number in 1..=65_535_u16 {
        assert_eq!(it.publish(number.into(), QoS::AtLeastOnce), Ok(Some(number)));
    }
    assert_eq!(it.publish(0, QoS::AtLeastOnce), Err(Refusal::WindowFull));
    let filter = [("a", SubscribeOptions::default())];
    assert_eq!(it.client.subscribe(&filter, None, &mut it.out), Err(Refusal::NoPacketIdentifier));
    it.server(&Packet::PubAck(answer(1)));
    assert_eq!(it.publish(0, QoS::AtLeastOnce), Ok(Some(1)));
}

#[test]
fn held_messages_wait_for_the_caller() {
    let manual =
        ClientSettings { acknowledge: Acknowledge::Manually, receive_maximum: 2, ..settings(ProtocolVersion::V5) };
    let mut it = Rig::online(manual);
    it.delivers(1, QoS::AtLeastOnce, false);
    it.delivers(2, QoS::ExactlyOnce, false);
    assert_eq!(it.delivers(2, QoS::ExactlyOnce, true), "Repeated(2)");
    assert_eq!(it.written(), [""; 0]);
    assert!(it.client.acknowledge(1, ReasonCode::SUCCESS, &mut it.out));
    assert!(!it.client.acknowledge(1, ReasonCode::SUCCESS, &mut it.out));
    assert!(it.client.acknowledge(2, ReasonCode::SUCCESS, &mut it.out));
    assert_eq!(it.delivers(2, QoS::ExactlyOnce, true), "Repeated(2)");
    assert_eq!(it.written(), ["PUBACK 1 success", "PUBREC 2 success", "PUBREC 2 success"]);
    it.delivers(3, QoS::AtLeastOnce, false);
    let error = it.delivers(4, QoS::AtLeastOnce, false);
    assert!(error.starts_with("the server has more than 2 unacknowledged"), "{error}");
    assert_eq!(it.written(), ["DISCONNECT receive_max_exceeded"]);
    assert_eq!(it.client.state(), State::Closed);
}

#[test]
fn a_refused_message_ends_its_delivery_and_frees_its_identifier() {
    let manual = ClientSettings { acknowledge: Acknowledge::Manually, ..settings(ProtocolVersion::V5) };
    let mut it = Rig::online(manual);
    it.delivers(2, QoS::ExactlyOnce, false);
    assert!(it.client.acknowledge(2, ReasonCode::QUOTA_EXCEEDED, &mut it.out));
    assert!(it.delivers(2, QoS::ExactlyOnce, false).starts_with("Delivery"));
    it.publish(1, QoS::ExactlyOnce).unwrap();
    it.written();
    let refused = Acknowledgement::with_reason(1, ReasonCode::NOT_AUTHORIZED);
    assert_eq!(
        it.server(&Packet::PubRec(refused)),
        "Acknowledged { packet_id: 1, reason: ReasonCode(135), kept: Note(1) }"
    );
    assert_eq!((it.written(), it.client.unacknowledged()), (vec![], 0));
}

#[test]
fn identifiers_that_nobody_knows_are_answered_as_the_version_demands() {
    for (version, reason) in [(ProtocolVersion::V3_1_1, "success"), (ProtocolVersion::V5, "packet_id_not_found")] {
        let mut it = Rig::online(settings(version));
        assert_eq!(it.server(&Packet::PubRec(answer(9))), "Handled");
        assert_eq!(it.server(&Packet::PubRel(answer(9))), "Handled");
        assert_eq!(it.server(&Packet::PubComp(answer(9))), "Handled");
        assert_eq!(it.written(), [format!("PUBREL 9 {reason}"), format!("PUBCOMP 9 {reason}")]);
    }
}

#[test]
fn packets_out_of_place_end_the_connection() {
    let connack = || Packet::ConnAck(Box::new(ConnAck::refusal(ReasonCode::SUCCESS)));
    let mut it = Rig::online(settings(ProtocolVersion::V5));
    assert_eq!(it.server(&connack()), "the server sent a CONNACK while the client is connected");
    assert_eq!(it.written(), ["DISCONNECT protocol_error"]);
    assert_eq!(it.server(&Packet::PingResp), "the server sent a PINGRESP while the connection is closed");

    let mut it = Rig::new(settings(ProtocolVersion::V5));
    it.client.connect(&mut it.out);
    assert_eq!(it.server(&Packet::PingResp), "the server sent a PINGRESP while the CONNACK is awaited");
    assert_eq!(it.written(), ["CONNECT"], "nobody is told before the CONNACK");

    let mut it = Rig::new(settings(ProtocolVersion::V5));
    it.client.connect(&mut it.out);
    let error = it.client.receive(b"HTTP/1.1 400 Bad", &mut it.out).unwrap_err();
    assert_eq!(error, ClientError::OutOfPlace(PacketType::PubAck, State::Connecting), "the first byte is enough");

    let mut it = Rig::online(settings(ProtocolVersion::V3_1_1));
    let disconnect = Packet::Disconnect(Disconnect::with_reason(ReasonCode::SUCCESS));
    assert_eq!(it.server(&disconnect), "the server sent a DISCONNECT while the client is connected");
}

#[test]
fn a_refusal_and_a_disconnect_of_the_server_close_the_session_until_the_next_connect() {
    let mut it = Rig::new(settings(ProtocolVersion::V5));
    it.client.connect(&mut it.out);
    let refused = Packet::ConnAck(Box::new(ConnAck::refusal(ReasonCode::NOT_AUTHORIZED)));
    assert!(it.server(&refused).starts_with("Refused"));
    assert_eq!(it.client.state(), State::Closed);
    it.connect(false, Properties::new());
    let away = Packet::Disconnect(Disconnect::with_reason(ReasonCode::SERVER_SHUTTING_DOWN));
    assert!(it.server(&away).starts_with("Disconnected"));
    assert_eq!((it.client.state(), it.publish(1, QoS::AtMostOnce)), (State::Closed, Err(Refusal::NotConnected)));
}

#[test]
fn keep_alive_pings_and_notices_a_server_that_does_not_answer() {
    let mut it = Rig::online(ClientSettings { keep_alive_s: 10, ..settings(ProtocolVersion::V3_1_1) });
    assert_eq!(it.client.keep_alive(1_000, &mut it.out), Ok(Some(8_500)));
    assert_eq!(it.client.keep_alive(8_499, &mut it.out), Ok(Some(8_500)));
    assert_eq!(it.written(), [""; 0]);
    assert_eq!(it.client.keep_alive(8_500, &mut it.out), Ok(Some(16_000)));
    assert_eq!(it.written(), ["PINGREQ"]);
    it.client.receive(&PINGRESP, &mut it.out).unwrap();
    assert_eq!(it.client.keep_alive(16_000, &mut it.out), Ok(Some(23_500)));
    assert_eq!(it.client.keep_alive(23_499, &mut it.out), Ok(Some(23_500)));
    assert_eq!(it.client.keep_alive(23_500, &mut it.out), Err(ClientError::KeepAlive(7_500)));
    assert_eq!(it.client.state(), State::Closed);
}

#[test]
fn the_servers_keep_alive_wins() {
    let mut it = Rig::new(ClientSettings { keep_alive_s: 0, ..settings(ProtocolVersion::V5) });
    let mut properties = Properties::new();
    properties.server_keep_alive = Some(4);
    it.connect(false, properties);
    assert_eq!(it.client.keep_alive(0, &mut it.out), Ok(Some(3_000)));
}

/// What may happen in a random history: something the caller does, or something the server sends.
#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Subscribe,
    Deliver { id: u16, qos: u8, dup: bool },
    Answer { kind: u8, id: u16, fails: bool },
    Acknowledge(u16),
    Reconnect { present: bool, window: u16 },
    Garbage(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_u8).prop_map(Step::Publish),
        1 => Just(Step::Subscribe),
        4 => (1..6_u16, 0..3_u8, any::<bool>()).prop_map(|(id, qos, dup)| Step::Deliver { id, qos, dup: dup && qos > 0 }),
        12 => (0..4_u8, 1..12_u16, proptest::bool::weighted(0.1)).prop_map(|(kind, id, fails)| Step::Answer { kind, id, fails }),
        2 => (1..6_u16).prop_map(Step::Acknowledge),
        2 => (any::<bool>(), 1..5_u16).prop_map(|(present, window)| Step::Reconnect { present, window }),
        1 => proptest::collection::vec(any::<u8>(), 1..12).prop_map(Step::Garbage),
    ]
}

fn acknowledgement(kind: u8, id: u16, fails: bool) -> Packet<'static> {
    let reason = if fails { ReasonCode::UNSPECIFIED_ERROR } else { ReasonCode::SUCCESS };
    match kind {
        0 => Packet::PubAck(Acknowledgement::with_reason(id, reason)),
        1 => Packet::PubRec(Acknowledgement::with_reason(id, reason)),
        2 => Packet::PubRel(answer(id)),
        _ => Packet::PubComp(answer(id)),
    }
}

proptest! {
    /// Whatever happens: no panic, no message is acknowledged or abandoned twice or vanishes, the window holds, and every
    /// byte written is a packet.
    #[test]
    fn no_history_breaks_the_books(
        version in prop::sample::select(VERSIONS.to_vec()),
        manual in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let acknowledge = if manual { Acknowledge::Manually } else { Acknowledge::Automatically };
        let mut it = Rig::online(ClientSettings { acknowledge, send_window: 4, ..settings(version) });
        let (mut next, mut open) = (0_u32, BTreeSet::new());
        for step in steps {
            let event = match step {
                Step::Publish(qos) => {
                    next += 1;
                    let qos = QoS::from_u8(qos).unwrap();
                    if let Ok(Some(_)) = it.publish(next, qos) {
                        open.insert(next);
                    }
                    String::new()
                }
                Step::Subscribe => {
                    let _ = it.client.subscribe(&[("a", SubscribeOptions::default())], None, &mut it.out);
                    String::new()
                }
                Step::Deliver { id, qos, dup } => it.delivers(id, QoS::from_u8(qos).unwrap(), dup),
                Step::Answer { kind, id, fails } => it.server(&acknowledgement(kind, id, fails)),
                Step::Acknowledge(id) => {
                    it.client.acknowledge(id, ReasonCode::SUCCESS, &mut it.out);
                    String::new()
                }
                Step::Reconnect { present, window } => {
                    let mut properties = Properties::new();
                    properties.receive_maximum = (version == ProtocolVersion::V5).then_some(window);
                    it.connect(present, properties);
                    String::new()
                }
                Step::Garbage(bytes) => {
                    let _ = it.client.receive(&bytes, &mut it.out);
                    String::new()
                }
            };
            if let Some((_, rest)) = event.split_once("kept: Note(") {
                let number: u32 = rest.trim_end_matches([')', ' ', '}']).parse().unwrap();
                prop_assert!(open.remove(&number), "{number} was acknowledged although it is not open");
            }
            for note in it.client.take_abandoned() {
                prop_assert!(open.remove(&note.0), "{} was abandoned although it is not open", note.0);
            }
            // What a forgotten session had brought to its PUBREC has arrived, and nobody hears of it again.
            prop_assert!(it.client.unacknowledged() <= open.len());
            prop_assert!(it.client.room() <= usize::from(it.client.limits().window));
            it.written();
        }
    }
}

#[test]
fn acknowledgement_kinds_are_told_apart() {
    let mut it = Rig::online(settings(ProtocolVersion::V5));
    it.publish(1, QoS::AtLeastOnce).unwrap();
    it.publish(2, QoS::ExactlyOnce).unwrap();
    it.written();
    assert_eq!(it.server(&Packet::PubComp(answer(1))), "Handled");
    assert_eq!(it.server(&Packet::PubAck(answer(2))), "Handled");
    assert_eq!(it.server(&Packet::PubRec(answer(1))), "Handled");
    let mut expected = Vec::new();
    let unknown = Acknowledgement::with_reason(1, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
    unknown.encode(AcknowledgementKind::PubRel, ProtocolVersion::V5, &mut expected);
    assert_eq!((&it.out, it.client.unacknowledged()), (&expected, 2));
}
