//! Any bytes as a history: the first say which settings hold, the others are steps of three clients, of Python and of time.
//!
//! What must hold whatever happens is checked after every step; a violation panics. The fuzz target `session` runs this too,
//! so its corpus and this file belong together: a new kind of step goes to the end of [`STEPS`].

use std::sync::Arc;

use super::engine::codec::{
    Acknowledgement, Auth, Connect, Disconnect, Packet, Properties, ProtocolVersion, PublishHead, QoS, ReasonCode,
    RetainHandling, SubscribeOptions, Will,
};
use super::engine::hooks::Hooks;
use super::engine::protocol::{Decision, Step, Verdict};
use super::engine::settings::{QueueType, Settings};
use super::node::{Node, head, publish_bytes};

const CLIENTS: usize = 3;
const TOPICS: [&str; 8] = ["a", "a/b", "b", "a/b/c", "$x", "//", "a-long-topic/with/levels", "é"];
const FILTERS: [&str; 10] = ["#", "a", "a/#", "+/b", "$share/g/a/+", "$x", "a/b/c/d/e/f", "$share/g/#", "+", "//"];
const STEPS: usize = 16;
/// No history is longer, so that a large input costs no more than its bytes.
const STEPS_MAX: usize = 2_000;

/// The bytes of a script; behind its end everything is 0.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self) -> &'a [u8] {
        let count = self.below(64).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

/// Plays a history.
pub fn run(script: &[u8]) {
    let mut script = Script(script);
    let mut play = Play::new(&mut script);
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            break;
        }
        let seat = script.below(CLIENTS);
        let step = script.below(STEPS);
        play.step(&mut script, seat, step);
        play.check();
    }
    for seat in 0..CLIENTS {
        play.node.lose(seat);
    }
    play.node.later(1 << 40);
    play.check();
}

/// A history on its way.
struct Play {
    node: Node,
    /// Messages that each client got and has not finished, as it knows them.
    open: [Vec<super::referee::Heard>; CLIENTS],
    /// Messages that each client had not released when it connected, which may be more than its connection allows.
    unreleased: [usize; CLIENTS],
}

impl Play {
    fn new(script: &mut Script<'_>) -> Self {
        let settings = Settings {
            max_inflight_messages: script.one_of(&[0, 1, 2, 20]),
            max_online_messages: script.one_of(&[-1, 0, 1, 5]),
            max_offline_messages: script.one_of(&[-1, 0, 1, 5]),
            override_max_online_messages: script.byte() & 1 == 1,
            queue_type: script.one_of(&[QueueType::Fifo, QueueType::Lifo]),
            max_queued_bytes: script.one_of(&[0, 500, 268_435_456]),
            max_message_size: script.one_of(&[0, 200, 10_000]),
            max_message_rate: script.one_of(&[0, 0, 3]),
            max_subscriptions_per_client: script.one_of(&[0, 2]),
            persistent_client_expiration: script.one_of(&[None, Some(3)]),
            upgrade_outgoing_qos: script.byte() & 1 == 1,
            topic_max_depth: script.one_of(&[0, 3, 10]),
            topic_alias_max_client: script.one_of(&[0, 1, 3]),
            topic_alias_max_broker: script.one_of(&[0, 1, 3]),
            receive_max_client: script.one_of(&[1, 2, 65_535]),
            receive_max_broker: script.one_of(&[1, 2, 65_535]),
            max_connection_buffer: script.one_of(&[4_096, 262_144]),
            ..Settings::default()
        };
        let mut node = Node::new(settings, CLIENTS);
        node.listen(Hooks::from_bits_truncate(u32::from(script.byte()) | u32::from(script.byte()) << 8));
        Self { node, open: Default::default(), unreleased: [0; CLIENTS] }
    }

    fn step(&mut self, script: &mut Script<'_>, seat: usize, step: usize) {
        match step {
            0 => self.connect(script, seat),
            1 => self.node.lose(seat),
            2 => self.node.later(script.one_of(&[1, 400, 1_000, 10_000])),
            3 => {
                let topic = script.one_of(&TOPICS);
                let (qos, retain) = (script.byte() % 3, script.byte() & 1 == 1);
                let expires_at = if script.byte() & 1 == 1 { self.node.cx.now + 1_500 } else { u64::MAX };
                self.node.inside(topic, script.bytes(), qos, |head| {
                    head.retain = retain;
                    head.expires_at = expires_at;
                });
            }
            4 => self.configure(script),
            _ if self.node.is_online(seat) => self.step_of_client(script, seat, step),
            _ => {}
        }
    }

    fn step_of_client(&mut self, script: &mut Script<'_>, seat: usize, step: usize) {
        if matches!(step, 5 | 6) {
            let count = script.one_of(&[1, 7, 100, usize::MAX]);
            let heard = self.node.heard(seat, count);
            self.open[seat].extend(heard.into_iter().filter(|heard| heard.packet_id != 0));
            return;
        }
        // As the broker does: nothing is read while a verdict is awaited or the output is full.
        let node = &mut self.node;
        let settings = Arc::clone(&node.cx.settings);
        let Some(connection) = &node.session(seat).connection else { return };
        let (is_waiting, has_room) = (connection.waiting.is_some(), connection.has_output_room(&settings));
        let version = connection.version;
        let step = match step {
            7 => self.node.answer(seat, &verdict(script)),
            _ if is_waiting || !has_room => return,
            8 => self.node.send_bytes(seat, &publish(script, version)),
            9 => {
                let options = SubscribeOptions {
                    qos: QoS::from_u8(script.byte() % 3).unwrap_or_default(),
                    no_local: script.byte() & 1 == 1,
                    retain_as_published: script.byte() & 1 == 1,
                    retain_handling: script.one_of(&[
                        RetainHandling::Always,
                        RetainHandling::IfNew,
                        RetainHandling::Never,
                    ]),
                };
                let identifier = if version == ProtocolVersion::V5 { script.byte().into() } else { 0 };
                let filter = script.one_of(&FILTERS);
                self.node.subscribe_as(seat, filter, options, identifier)
            }
            10 => {
                let filters = [script.one_of(&FILTERS), script.one_of(&FILTERS)];
                self.node.unsubscribe(seat, &filters)
            }
            11 => self.finish_one(script, seat),
            12 => self.acknowledge_anything(script, seat),
            13 => self.end_well(script, seat, version),
            14 => {
                // Whatever that is, it may acknowledge what the client did not get.
                self.node.referee(seat).mistrust();
                self.node.send_bytes(seat, script.bytes())
            }
            _ if version == ProtocolVersion::V5 => self.authenticate(script, seat),
            _ => self.node.send(seat, &Packet::PingReq),
        };
        if let Step::Close(ending) = step {
            self.node.end(seat, &ending);
        }
    }

    fn connect(&mut self, script: &mut Script<'_>, seat: usize) {
        let version = script.one_of(&[ProtocolVersion::V3_1, ProtocolVersion::V3_1_1, ProtocolVersion::V5]);
        let flags = script.byte();
        let (receive_maximum, packet_size) = (script.one_of(&[1, 2, 65_535]), script.one_of(&[30, 100, u32::MAX]));
        let (expiry, aliases) = (script.one_of(&[0, 2, u32::MAX]), script.one_of(&[0, 1, 10]));
        let will_topic = script.one_of(&TOPICS);
        let change = |connect: &mut Connect<'_>| {
            connect.clean_start = flags & 1 == 1;
            if flags & 2 == 2 {
                let qos = QoS::from_u8(flags >> 4 & 1).unwrap_or_default();
                let retain = flags & 4 == 4;
                connect.will =
                    Some(Will { qos, retain, topic: will_topic, payload: b"will", properties: Properties::new() });
            }
            if version == ProtocolVersion::V5 {
                connect.properties.receive_maximum = Some(receive_maximum);
                connect.properties.maximum_packet_size = Some(packet_size);
                connect.properties.session_expiry = Some(expiry);
                connect.properties.topic_alias_maximum = Some(aliases);
                connect.properties.request_problem_information = Some(flags & 8 == 8);
                if flags & 0x80 != 0 {
                    connect.properties.authentication_method = Some("M");
                }
            }
        };
        if self.node.connect(seat, version, change).is_ok() {
            self.open[seat].clear();
            self.unreleased[seat] = self.node.session(seat).received.len();
        }
    }

    fn configure(&mut self, script: &mut Script<'_>) {
        let (depth, aliases) = (script.one_of(&[0, 2, 10]), script.one_of(&[0, 2]));
        let (limit, hooks) = (script.one_of(&[-1, 0, 3]), script.byte());
        self.node.configure(|settings| {
            settings.topic_max_depth = depth;
            settings.topic_alias_max_client = aliases;
            settings.max_offline_messages = limit;
        });
        self.node.listen(Hooks::from_bits_truncate(u32::from(hooks)));
    }

    /// The client goes on with the delivery of a message that it got.
    fn finish_one(&mut self, script: &mut Script<'_>, seat: usize) -> Step {
        if self.open[seat].is_empty() {
            return Step::Continue;
        }
        let at = script.below(self.open[seat].len());
        let heard = self.open[seat].remove(at);
        self.node.finish(seat, &heard)
    }

    /// The client acknowledges whatever it likes.
    fn acknowledge_anything(&mut self, script: &mut Script<'_>, seat: usize) -> Step {
        let packet_id = u16::from(script.byte() % 12) + 1;
        let reason = ReasonCode(script.one_of(&[0, 0, 0x80, 0x97]));
        let ack = Acknowledgement::with_reason(packet_id, reason);
        let packet = match script.below(4) {
            0 => Packet::PubAck(ack),
            1 => Packet::PubRec(ack),
            2 => Packet::PubComp(Acknowledgement::success(packet_id)),
            _ => Packet::PubRel(Acknowledgement::success(packet_id)),
        };
        match &packet {
            Packet::PubRec(ack) if !ack.reason.is_error() => self.node.referee(seat).acknowledged(packet_id),
            Packet::PubRel(_) => {}
            _ => self.node.referee(seat).finished(packet_id),
        }
        self.node.send(seat, &packet)
    }

    fn end_well(&mut self, script: &mut Script<'_>, seat: usize, version: ProtocolVersion) -> Step {
        let mut disconnect = Disconnect::with_reason(ReasonCode(script.one_of(&[0, 4])));
        if version == ProtocolVersion::V5 && script.byte() & 1 == 1 {
            disconnect.properties.session_expiry = Some(script.byte().into());
        }
        self.node.send(seat, &Packet::Disconnect(disconnect))
    }

    fn authenticate(&mut self, script: &mut Script<'_>, seat: usize) -> Step {
        let mut properties = Properties::new();
        properties.authentication_method = Some(script.one_of(&["M", "N"]));
        properties.authentication_data = Some(script.bytes());
        let reason = ReasonCode(script.one_of(&[0x18, 0x19]));
        self.node.send(seat, &Packet::Auth(Auth { reason, properties }))
    }

    /// What holds after every step.
    fn check(&mut self) {
        let settings = Arc::clone(&self.node.cx.settings);
        let mut subscriptions = 0;
        for seat in 0..CLIENTS {
            if !self.node.has_session(seat) {
                continue;
            }
            let session = self.node.session(seat);
            subscriptions += session.subscriptions.len();
            assert_eq!(session.window.iter().count(), session.window.len(), "the window counts what it holds");
            assert!(session.window.iter().all(|(packet_id, _)| packet_id != 0), "0 is no packet identifier");
            if session.pending.is_empty() {
                assert_eq!(session.pending.bytes(), 0, "an empty queue has no bytes");
            }
            let waiting = session.pending.bytes();
            assert!(waiting <= settings.queue_limit_bytes(), "{waiting} bytes wait in a queue");
            let Some(connection) = &session.connection else {
                assert!(session.will.is_none(), "a will belongs to a connection");
                continue;
            };
            if connection.is_v5() {
                let limit = usize::from(connection.receive_maximum).max(self.unreleased[seat]);
                assert!(session.received.len() <= limit, "more than Receive Maximum is unfinished [MQTT-3.3.4-9]");
            }
            // One step answers with one packet and may send one message for each place in the output.
            let output_max = settings.max_connection_buffer + 8_192;
            assert!(connection.output.len() <= output_max, "{} bytes wait to be written", connection.output.len());
        }
        assert_eq!(self.node.subscriptions(), subscriptions, "sessions and routing table agree");
        assert!(self.node.told().len() < 10_000);
        self.node.asked();
    }
}

fn publish(script: &mut Script<'_>, version: ProtocolVersion) -> Vec<u8> {
    let (topic, qos, flags) = (script.one_of(&TOPICS), script.byte() % 3, script.byte());
    let is_v5 = version == ProtocolVersion::V5;
    let mut head = PublishHead {
        dup: qos > 0 && flags & 1 == 1,
        retain: flags & 2 == 2,
        ..head(topic, qos, u16::from(script.byte() % 4) + 1)
    };
    if is_v5 && flags & 4 == 4 {
        head.topic_alias = Some(u16::from(script.byte() % 4) + 1);
        if flags & 8 == 8 {
            head.topic = "";
        }
    }
    if is_v5 && flags & 16 == 16 {
        head.message_expiry = Some(script.byte().into());
    }
    if is_v5 && flags & 32 == 32 {
        head.properties = b"\x26\x00\x01k\x00\x01v";
    }
    let payload = script.bytes();
    if flags & 64 == 64 {
        publish_bytes(version, head, &payload.repeat(80))
    } else {
        publish_bytes(version, head, payload)
    }
}

fn verdict(script: &mut Script<'_>) -> Verdict {
    let mut verdict = match script.below(4) {
        0 => Verdict::deny(ReasonCode(script.one_of(&[0x80, 0x87, 0x97, 0]))),
        1 => Verdict::new(Decision::Continue),
        _ => Verdict::new(Decision::Allow),
    };
    let flags = script.byte();
    verdict.topic = (flags & 1 == 1).then(|| script.one_of(&TOPICS).to_owned());
    verdict.payload = (flags & 2 == 2).then(|| script.bytes().to_vec());
    verdict.qos = (flags & 4 == 4).then(|| script.byte());
    verdict.retain = (flags & 8 == 8).then(|| script.byte() & 1 == 1);
    verdict.properties = (flags & 16 == 16).then(|| b"\x26\x00\x01k\x00\x01w".to_vec());
    verdict.filters = (flags & 32 == 32).then(|| vec![(script.one_of(&FILTERS).to_owned(), script.byte())]);
    verdict.data = (flags & 64 == 64).then(|| script.bytes().to_vec());
    verdict.reason_string = (flags & 128 == 128).then(|| "because".to_owned());
    verdict
}
