//! The queue of a persistent session against a simple model: publishes, connections that come and go, acknowledgements that
//! get lost, cleaning, and a broker that is killed and comes back.
//!
//! The client is the model. It keeps what MQTT says that a client keeps, and a list of what it was given. Whatever was kept
//! before a kill has to reach it, in order, QoS 2 once.

use std::collections::{BTreeSet, VecDeque};
use std::io::IoSlice;
use std::sync::{Arc, Weak};

use super::{Batch, Node, Promise, Receiver, SessionRef, SubscriberId};
use crate::codec::{
    Acknowledgement, Connect, Frame, FrameStep, Packet, Properties, ProtocolVersion, QoS, Subscribe, SubscribeOptions,
    decode, next_frame,
};
use crate::hooks::{Hooks, Identity};
use crate::message::{Head, Message, MessageId, Millis, NEVER, Place, Publication, Retained};
use crate::protocol::connect::{Admission, Registration, admit};
use crate::protocol::{
    Connection, Context, Ending, Expiry, Host, Outgoing, Question, Routed, SLICES_MAX, Session, SessionLimits, Step,
    Unreleased,
};
use crate::routing::SubscriptionOptions;
use crate::settings::Settings;
use crate::store::simulated::{Random, SimulatedDisk};
use crate::store::{Options, Owner, Store, SyncMode};

const PROGRAMS: u64 = 60;
const STEPS: usize = 250;
const VERSION: ProtocolVersion = ProtocolVersion::V5;

/// A broker on a disk that outlives it.
struct Broker {
    disk: Arc<SimulatedDisk>,
    node: Arc<Node>,
    store: Arc<Store>,
    cx: Context,
    batch: Batch,
}

/// Puts subscriptions into the routing table; nothing else is asked of it here.
struct Desk<'a> {
    node: &'a Node,
    session: &'a SessionRef,
}

impl Host for Desk<'_> {
    fn publish(&mut self, _: &mut Context, _: &Identity, _: Publication<'_>, _: Option<Unreleased>) -> Routed {
        unreachable!("the client does not publish")
    }

    fn subscribe(&mut self, filter: &str, group: Option<&str>, options: SubscriptionOptions) {
        self.node.router.write().subscribe(&"".into(), filter, group, self.session.clone(), options);
    }

    fn unsubscribe(&mut self, _: &str, _: Option<&str>) {
        unreachable!("the client does not unsubscribe")
    }

    fn retained(&mut self, now: Millis, filter: &str) -> Vec<Retained> {
        self.node.retained_matching("", filter, now, usize::MAX)
    }

    fn retained_count(&mut self) -> usize {
        0
    }

    fn notify(&mut self, _: &mut Context, _: Hooks, _: &Identity, _: Vec<(String, u8)>) {}

    fn ask(&mut self, _: &mut Context, _: &Identity, _: Question<'_>) -> bool {
        false
    }
}

fn id() -> SubscriberId {
    SubscriberId { mountpoint: "".into(), client_id: "c".into() }
}

fn registration(settings: &Settings) -> Registration {
    let admission = Admission {
        mountpoint: "".into(),
        protocol_versions: vec![5],
        allow_anonymous: Some(true),
        listener: "tcp.test".into(),
        access: Arc::default(),
        limits: SessionLimits::default(),
    };
    let mut properties = Properties::new();
    properties.session_expiry = Some(u32::MAX);
    properties.receive_maximum = Some(7);
    let connect = Connect {
        version: VERSION,
        bridge: false,
        clean_start: false,
        keep_alive: 0,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties,
    };
    admit(&connect, &admission, settings, String::new).expect("the CONNECT is fine")
}

impl Broker {
    fn start(disk: Arc<SimulatedDisk>) -> Self {
        let settings = Settings { max_online_messages: -1, max_offline_messages: -1, ..Settings::default() };
        let node = Arc::new(Node::new(settings).unwrap());
        let options = Options {
            segment_bytes: 65_536,
            max_bytes: 0,
            sync: SyncMode::Interval,
            sync_interval_ms: 10,
            cache_bytes: 1_000,
            wall_base_ms: node.clock.wall_ms(0),
        };
        let (store, recovered) = Store::open(disk.clone(), options).unwrap();
        assert_eq!(recovered.report.missing, 0);
        assert!(node.use_store(store.clone()));
        let mut cx = node.context();
        node.restore(&mut cx, recovered);
        let owner: Weak<dyn Owner> = Arc::<Node>::downgrade(&node);
        store.start(owner, Box::new(|_| {}));
        Self { disk, node, store, cx, batch: Batch::default() }
    }

    /// What is left of it on disk when it is killed.
    fn kill(self) -> Arc<SimulatedDisk> {
        let disk = self.disk.kill();
        self.store.stop();
        disk
    }

    fn session(&mut self) -> SessionRef {
        self.node.refresh(&mut self.cx);
        if let Some(session) = self.node.registry.get(&id()) {
            return session;
        }
        let mut session = Session::new(self.node.new_session_id(), registration(&self.cx.settings).identity);
        session.queue = self.store.new_queue();
        let session = SessionRef::new(session, id(), Receiver::Client, None);
        self.node.remember_queue(&session);
        self.node.registry.shard(&id()).insert(id(), session.clone());
        session
    }

    fn attach(&mut self) {
        let session = self.session();
        let registration = registration(&self.cx.settings);
        let connection = Box::new(Connection::new(&registration, &self.cx.settings, self.cx.now));
        let mut state = session.lock();
        state.session.attach(&mut self.cx, &registration, connection, false);
        self.node.record_session(&mut state);
        self.node.tell(&mut self.cx, &mut state, &session);
    }

    fn lose_connection(&mut self) {
        let session = self.session();
        let mut state = session.lock();
        state.session.detach(&mut self.cx, &Ending::Lost);
        self.node.tell(&mut self.cx, &mut state, &session);
        self.node.record_session(&mut state);
    }

    fn publish(&mut self, number: u64, qos: u8) {
        self.publish_to("t", number, qos, false);
    }

    fn publish_to(&mut self, topic: &str, number: u64, qos: u8, retain: bool) {
        self.node.refresh(&mut self.cx);
        let mut span = Vec::new();
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(8 + (number as usize % 5) * 100, 0);
        let layout = Publication::compose(&mut span, topic.as_bytes(), &[], &payload);
        let head = Head { layout, qos, retain, expires_at: NEVER, origin: 0 };
        let message = Message::keep(&Publication { head, span: &span });
        let matched = self.node.publish_inside(&mut self.cx, &mut self.batch, &[("".into(), message)]);
        assert_eq!(matched, [1]);
    }

    /// A message that other nodes get too comes from one of them.
    fn publish_everywhere(brokers: [&mut Self; 2], number: u64, qos: u8) {
        let mut span = Vec::new();
        let layout = Publication::compose(&mut span, b"t", &[], &number.to_be_bytes());
        let head = Head { layout, qos, retain: false, expires_at: NEVER, origin: 0 };
        for broker in brokers {
            broker.node.refresh(&mut broker.cx);
            let mut batch = Batch::for_peers();
            batch.name_next(0, MessageId { origin: 7, stamp: number });
            let outgoing =
                Outgoing { publication: Publication { head, span: &span }, message: None, place: Place::NONE };
            batch.add(&broker.node, &mut broker.cx, &[], &"".into(), outgoing, Promise::default());
            assert!(batch.dispatch(&broker.node, &mut broker.cx, &[], false).is_none());
        }
    }

    /// The session goes to another broker while some messages come to both. Their numbers and QoS.
    fn move_on(self, random: &mut Random, next: u64) -> (Self, Vec<(u64, u8)>) {
        let (mut old, mut new) = (self, Self::start(SimulatedDisk::new()));
        let mut published = Vec::new();
        let mut publish = |old: &mut Self, new: &mut Self, random: &mut Random| {
            for _ in 0..random.below(4) {
                let (number, qos) = (next + published.len() as u64, 1 + random.below(2) as u8);
                Self::publish_everywhere([old, new], number, qos);
                published.push((number, qos));
            }
        };
        let fetch = |old: &mut Self, new: &mut Self, mut after: usize| {
            loop {
                let packed = old.node.pack_messages(&mut old.cx, &id(), after, 300).expect("it is on its way");
                new.node.take_messages(&id(), &packed.bytes).unwrap();
                after = packed.until;
                if packed.is_all {
                    return after;
                }
            }
        };
        let luggage = old.node.begin_move(&id()).expect("there is a session that lasts");
        new.node.take_session(&mut new.cx, &luggage).unwrap();
        publish(&mut old, &mut new, random);
        let until = fetch(&mut old, &mut new, 0);
        publish(&mut old, &mut new, random);
        old.node.close_move(&id());
        fetch(&mut old, &mut new, until);
        new.node.finish_move(&mut new.cx, &mut new.batch, &id(), true).unwrap();
        let end = new.store.appended();
        assert!(new.store.commit(end));
        old.node.end_move(&mut old.cx, &id());
        assert!(old.node.registry.get(&id()).is_none());
        old.store.stop();
        (new, published)
    }

    fn receive(&mut self, packet: &Packet<'_>) {
        let session = self.session();
        let mut bytes = Vec::new();
        packet.encode(VERSION, &mut bytes);
        let Ok(FrameStep::Frame(frame)) = next_frame(&bytes, usize::MAX) else { unreachable!("it is whole") };
        let mut state = session.lock();
        let mut desk = Desk { node: &self.node, session: &session };
        assert_eq!(state.session.receive(&mut self.cx, &mut desk, frame), Step::Continue);
        self.node.tell(&mut self.cx, &mut state, &session);
    }

    /// What the broker sends: as in [`super::Link::flush`], not before the store has kept what it tells of.
    fn sent(&mut self) -> Vec<u8> {
        let session = self.session();
        let mut state = session.lock();
        state.session.refill(&mut self.cx);
        self.node.tell(&mut self.cx, &mut state, &session);
        let Some(connection) = &mut state.session.connection else { return Vec::new() };
        if !self.cx.is_kept(connection.waits_for) {
            return Vec::new();
        }
        let mut bytes = Vec::new();
        while !connection.output.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = connection.output.slices(&mut slices);
            let ready: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            connection.output.advance(ready.len());
            bytes.extend(ready);
        }
        bytes
    }
}

/// What a client remembers, over all connections.
#[derive(Default)]
struct Client {
    is_connected: bool,
    /// QoS 2 identifiers that the broker has not released.
    received: BTreeSet<u16>,
    /// Acknowledgements that are not sent yet; lost with the connection.
    owed: VecDeque<(u8, u16)>,
    /// Numbers of messages in the order in which they came, QoS 1 perhaps more than once.
    got: Vec<(u64, u8)>,
    /// QoS 1 identifiers and their messages that came over earlier connections and were not acknowledged.
    unacknowledged: Vec<(u16, u64)>,
}

const PUBACK: u8 = 4;
const PUBREC: u8 = 5;
const PUBCOMP: u8 = 7;

impl Client {
    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Ok(FrameStep::Frame(frame)) = next_frame(rest, usize::MAX) else { panic!("half a packet") };
            let size = frame.size;
            self.hear_one(frame);
            rest = &rest[size..];
        }
    }

    fn hear_one(&mut self, frame: Frame<'_>) {
        match decode(VERSION, frame).unwrap() {
            Packet::Publish(publish) => {
                let number = u64::from_be_bytes(publish.payload[..8].try_into().unwrap());
                match publish.qos {
                    QoS::AtLeastOnce => {
                        let is_known = self.unacknowledged.contains(&(publish.packet_id, number));
                        assert!(publish.dup || !is_known, "a repeat without DUP");
                        if !is_known {
                            self.unacknowledged.push((publish.packet_id, number));
                        }
                        self.got.push((number, 1));
                        self.owed.push_back((PUBACK, publish.packet_id));
                    }
                    QoS::ExactlyOnce => {
                        if self.received.insert(publish.packet_id) {
                            self.got.push((number, 2));
                        } else {
                            assert!(publish.dup);
                        }
                        self.owed.push_back((PUBREC, publish.packet_id));
                    }
                    QoS::AtMostOnce => panic!("QoS 0"),
                }
            }
            Packet::PubRel(release) => {
                self.received.remove(&release.packet_id);
                self.owed.push_back((PUBCOMP, release.packet_id));
            }
            Packet::ConnAck(_) | Packet::SubAck(_) => {}
            other => panic!("{other:?}"),
        }
    }

    /// Sends one acknowledgement that is owed.
    fn acknowledge(&mut self, broker: &mut Broker) -> bool {
        let Some((kind, packet_id)) = self.owed.pop_front() else { return false };
        let acknowledgement = Acknowledgement::success(packet_id);
        let packet = match kind {
            PUBACK => {
                self.unacknowledged.retain(|(known, _)| *known != packet_id);
                Packet::PubAck(acknowledgement)
            }
            PUBREC => Packet::PubRec(acknowledgement),
            _ => Packet::PubComp(acknowledgement),
        };
        broker.receive(&packet);
        true
    }

    fn lose_connection(&mut self) {
        self.is_connected = false;
        self.owed.clear();
    }
}

fn run(seed: u64) {
    let mut random = Random(seed);
    let mut broker = Broker::start(SimulatedDisk::new());
    let mut client = Client::default();
    let options = SubscribeOptions { qos: QoS::ExactlyOnce, ..SubscribeOptions::default() };
    broker.attach();
    broker.receive(&Packet::Subscribe(Subscribe::new(1, Properties::new(), &[("t", options)])));
    client.hear(&broker.sent());
    client.is_connected = true;
    let mut published: Vec<(u64, u8)> = Vec::new();
    // What was published since the last write: a kill may lose it. The rest must arrive.
    let mut unsure: Vec<u64> = Vec::new();
    let mut kept: BTreeSet<u64> = BTreeSet::new();
    let mut next = 1;
    for _ in 0..STEPS {
        match random.below(21) {
            20 if !client.is_connected => {
                let (new, came) = broker.move_on(&mut random, next);
                broker = new;
                next += came.len() as u64;
                kept.extend(unsure.drain(..).chain(came.iter().map(|(number, _)| *number)));
                published.extend(came);
            }
            0..=7 => {
                let qos = 1 + random.below(2) as u8;
                broker.publish(next, qos);
                published.push((next, qos));
                unsure.push(next);
                next += 1;
            }
            8 | 9 if !client.is_connected => {
                broker.attach();
                client.is_connected = true;
            }
            10 if client.is_connected => {
                broker.lose_connection();
                client.lose_connection();
            }
            11..=13 if client.is_connected => client.hear(&broker.sent()),
            14..=17 if client.is_connected => _ = client.acknowledge(&mut broker),
            18 => {
                let end = broker.store.appended();
                assert!(broker.store.commit(end));
                kept.extend(unsure.drain(..));
            }
            19 => match random.below(3) {
                0 => _ = broker.store.compact().unwrap(),
                1 => {
                    // Acknowledgements that were not written yet are forgotten: then messages come again, with DUP.
                    broker = Broker::start(broker.kill());
                    client.lose_connection();
                    unsure.clear();
                }
                _ => {}
            },
            _ => {}
        }
    }
    kept.extend(unsure);
    finish(&mut broker, &mut client);
    judge(seed, &published, &kept, &client);
    broker.store.stop();
}

/// The client stays until nothing comes any more.
fn finish(broker: &mut Broker, client: &mut Client) {
    if !client.is_connected {
        broker.attach();
        client.is_connected = true;
    }
    loop {
        let bytes = broker.sent();
        client.hear(&bytes);
        if !client.acknowledge(broker) && bytes.is_empty() {
            break;
        }
    }
    let session = broker.session();
    let state = session.lock();
    assert!(state.session.window.is_empty() && state.session.pending.is_empty());
}

fn judge(seed: u64, published: &[(u64, u8)], kept: &BTreeSet<u64>, client: &Client) {
    let mut arrived = BTreeSet::new();
    let mut last = 0;
    for &(number, qos) in &client.got {
        assert_eq!(published[number as usize - 1], (number, qos), "seed {seed}");
        let is_first = arrived.insert(number);
        assert!(is_first || qos == 1, "seed {seed}: {number} came twice");
        if is_first {
            assert!(number > last, "seed {seed}: {number} came after {last}");
            last = number;
        }
    }
    for number in kept {
        assert!(arrived.contains(number), "seed {seed}: {number} was kept and did not come");
    }
}

#[test]
fn a_queue_does_what_its_model_does_over_crashes() {
    for seed in 0..PROGRAMS {
        run(seed);
    }
}

#[test]
fn a_session_that_is_made_anew_has_its_time_and_its_subscriptions() {
    let (mut home, mut other) = (Broker::start(SimulatedDisk::new()), Broker::start(SimulatedDisk::new()));
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    home.attach();
    home.receive(&Packet::Subscribe(Subscribe::new(1, Properties::new(), &[("t", options)])));
    home.lose_connection();
    home.session().lock().session.expiry = Expiry::After(30);
    let known = home.node.kept_session(&id()).expect("it lasts");
    other.node.refresh(&mut other.cx);
    other.node.make_session(&mut other.cx, &known).unwrap();
    let made = other.session();
    assert_eq!(made.lock().expires_at, Some(other.cx.now + 30_000));
    assert_eq!(other.node.kept_session(&id()), Some(known));
    other.publish(1, 1);
    assert_eq!(made.lock().session.pending.len(), 1);
    home.store.stop();
    other.store.stop();
}

#[test]
fn a_message_that_waits_twice_in_a_queue_stays_twice_when_the_store_is_cleaned() {
    let mut broker = Broker::start(SimulatedDisk::new());
    let mut client = Client::default();
    let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
    let filters = [("t", options)];
    let subscribe = |id| Packet::Subscribe(Subscribe::new(id, Properties::new(), &filters));
    broker.attach();
    broker.receive(&subscribe(1));
    // The window is full, so what comes last waits.
    for number in 1..=7 {
        broker.publish(number, 1);
    }
    broker.publish_to("t", 8, 1, true);
    // What comes now is in another segment.
    broker.store.begin_backup().unwrap();
    broker.store.end_backup();
    broker.receive(&subscribe(2));
    broker.store.compact().unwrap();
    let mut broker = Broker::start(broker.kill());
    finish(&mut broker, &mut client);
    let got: Vec<u64> = client.got.iter().map(|&(number, _)| number).collect();
    assert_eq!(got, [1, 2, 3, 4, 5, 6, 7, 8, 8]);
    broker.store.stop();
}
