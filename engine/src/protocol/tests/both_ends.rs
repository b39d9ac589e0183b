//! The project's own client against its own sessions over a line that breaks anywhere: nothing is lost, nothing comes twice at
//! QoS 2, order is kept.

use proptest::prelude::*;

use super::engine::codec::{FrameStep, ProtocolVersion, PublishHead, QoS, next_frame};
use super::engine::protocol::Step;
use super::engine::protocol::client::{Client, ClientSettings, Event, Kept, Received};
use super::engine::settings::Settings;
use super::node::{Node, head};
use super::shorthand::with_qos;

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;

/// A published message: its number is its payload.
#[derive(Clone, Copy, Debug)]
struct Numbered(u16);

impl Kept for Numbered {
    fn encode_again(&self, version: ProtocolVersion, packet_id: u16, qos: QoS, out: &mut Vec<u8>) -> bool {
        let head = PublishHead { dup: true, payload_len: 2, ..head("t", qos as u8, packet_id) };
        head.encode(version, out);
        out.extend_from_slice(&self.0.to_be_bytes());
        true
    }
}

/// A client, its line to the broker, and what it got.
struct End {
    client: Client<Numbered>,
    /// Written by the client and not yet read by the broker.
    up: Vec<u8>,
    /// Written by the broker and not yet read by the client.
    down: Vec<u8>,
    got: Vec<(u16, QoS)>,
}

impl End {
    fn new(seat: usize, version: ProtocolVersion, window: u16) -> Self {
        let settings = ClientSettings {
            version,
            client_id: format!("c{seat}"),
            clean_start: false,
            keep_alive_s: 0,
            session_expiry_s: u32::MAX,
            receive_maximum: window,
            send_window: window,
            ..ClientSettings::default()
        };
        Self { client: Client::new(settings), up: Vec::new(), down: Vec::new(), got: Vec::new() }
    }

    /// The client reads what has come.
    fn read(&mut self) {
        let input = std::mem::take(&mut self.down);
        let mut at = 0;
        while let Received::Packet { size, event } =
            self.client.receive(&input[at..], &mut self.up).expect("the broker keeps to the protocol")
        {
            at += size;
            if let Event::Delivery(publish) = event {
                let number = u16::from_be_bytes(publish.payload.try_into().expect("two bytes"));
                self.got.push((number, publish.qos));
            }
        }
        self.down = input[at..].to_vec();
    }
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Move {
    Publish(u8),
    /// So many bytes go up, at most.
    Up(usize, usize),
    /// So many bytes go down, at most.
    Down(usize, usize),
    Break(usize),
}

struct World {
    node: Node,
    ends: [End; 2],
    version: ProtocolVersion,
    published: Vec<(u16, u8)>,
}

impl World {
    fn new(version: ProtocolVersion, window: u16) -> Self {
        let settings = Settings {
            max_inflight_messages: window.into(),
            receive_max_broker: window,
            max_online_messages: -1,
            max_offline_messages: -1,
            topic_alias_max_broker: 3,
            ..Settings::default()
        };
        let mut world = Self {
            node: Node::new(settings, 2),
            ends: [End::new(PUBLISHER, version, window), End::new(SUBSCRIBER, version, window)],
            version,
            published: Vec::new(),
        };
        world.reconnect(PUBLISHER);
        world.reconnect(SUBSCRIBER);
        world.node.subscribe(SUBSCRIBER, &[("t", with_qos(2))]);
        world.settle();
        world
    }

    /// The line of a client breaks with all that is on it, and the client comes back.
    fn reconnect(&mut self, seat: usize) {
        if self.node.is_online(seat) {
            self.node.lose(seat);
        }
        let end = &mut self.ends[seat];
        end.client.detach();
        end.up.clear();
        end.down.clear();
        let window = end.client.settings().receive_maximum;
        end.client.connect(&mut end.up);
        let size = match next_frame(&end.up, usize::MAX) {
            Ok(FrameStep::Frame(frame)) => frame.size,
            other => panic!("a client begins with CONNECT, not {other:?}"),
        };
        end.up.drain(..size);
        self.node
            .connect(seat, self.version, |connect| {
                connect.clean_start = false;
                if connect.version == ProtocolVersion::V5 {
                    connect.properties.session_expiry = Some(u32::MAX);
                    connect.properties.receive_maximum = Some(window);
                }
            })
            .expect("the client is welcome");
    }

    fn make(&mut self, action: Move) {
        match action {
            Move::Publish(qos) => self.publish(qos),
            Move::Up(seat, count) => self.up(seat, count),
            Move::Down(seat, count) => self.down(seat, count),
            Move::Break(seat) => self.reconnect(seat),
        }
    }

    fn publish(&mut self, qos: u8) {
        let number = self.published.len() as u16;
        let end = &mut self.ends[PUBLISHER];
        let kept = Numbered(number);
        if end.client.publish(head("t", qos, 1), &number.to_be_bytes(), kept, &mut end.up).is_ok() {
            self.published.push((number, qos));
        }
    }

    /// The broker reads the packets that are whole within the first `count` bytes.
    fn up(&mut self, seat: usize, count: usize) {
        let taken = count.min(self.ends[seat].up.len());
        let mut at = 0;
        while let Ok(FrameStep::Frame(frame)) = next_frame(&self.ends[seat].up[at..taken], usize::MAX) {
            let size = frame.size;
            let packet = self.ends[seat].up[at..at + size].to_vec();
            assert_eq!(self.node.send_bytes(seat, &packet), Step::Continue, "the client keeps to the protocol");
            at += size;
        }
        self.ends[seat].up.drain(..at);
    }

    fn down(&mut self, seat: usize, count: usize) {
        let bytes = self.node.written(seat, count);
        self.ends[seat].down.extend(bytes);
        self.ends[seat].read();
    }

    /// Everything arrives.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_quiet = true;
            for seat in [PUBLISHER, SUBSCRIBER] {
                is_quiet &= self.ends[seat].up.is_empty();
                self.up(seat, usize::MAX);
                let before = self.ends[seat].up.len();
                let bytes = self.node.written(seat, usize::MAX);
                is_quiet &= bytes.is_empty();
                self.ends[seat].down.extend(bytes);
                self.ends[seat].read();
                is_quiet &= self.ends[seat].up.len() == before;
            }
            if is_quiet {
                return;
            }
        }
        panic!("the two ends never come to rest");
    }

    fn check(&self) {
        let got = &self.ends[SUBSCRIBER].got;
        let count_of = |number: u16| got.iter().filter(|(other, _)| *other == number).count();
        for &(number, qos) in &self.published {
            match qos {
                2 => assert_eq!(count_of(number), 1, "QoS 2 message {number} comes once: {got:?}"),
                1 => assert!(count_of(number) >= 1, "QoS 1 message {number} comes: {got:?}"),
                _ => assert!(count_of(number) <= 1, "QoS 0 message {number} comes once at most: {got:?}"),
            }
        }
        for wanted in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut first_times: Vec<u16> = Vec::new();
            for (number, qos) in got {
                if *qos == wanted && !first_times.contains(number) {
                    first_times.push(*number);
                }
            }
            assert!(first_times.is_sorted(), "order of {wanted:?} is kept: {first_times:?}");
        }
        for end in &self.ends {
            assert_eq!(end.client.unacknowledged(), 0, "every publish is acknowledged in the end");
        }
    }
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let count = prop_oneof![1_usize..40, Just(usize::MAX)];
    let action = prop_oneof![
        6 => (0_u8..3).prop_map(Move::Publish),
        5 => (0_usize..2, count.clone()).prop_map(|(seat, count)| Move::Up(seat, count)),
        5 => (0_usize..2, count).prop_map(|(seat, count)| Move::Down(seat, count)),
        2 => (0_usize..2).prop_map(Move::Break),
    ];
    prop::collection::vec(action, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_breaks_every_message_arrives_as_its_qos_promises(
        moves in moves(),
        is_v5 in any::<bool>(),
        window in prop_oneof![Just(1_u16), Just(3), Just(100)],
    ) {
        let version = if is_v5 { ProtocolVersion::V5 } else { ProtocolVersion::V3_1_1 };
        let mut world = World::new(version, window);
        for action in moves {
            world.make(action);
        }
        world.settle();
        world.check();
    }
}
