//! Two nodes in this process, linked over the loopback interface, and what one learns of the other's subscribers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::events::Event;
use super::{Batch, LocalRoute, Members, Node, Receiver, RouteOfPeer, RoutesCursor, SessionRef, SubscriberId};
use crate::message::{Head, Message, Millis, NEVER, Publication};
use crate::peer::{
    Boot, Change, ClusterId, Forwarded, Groups, Identity, Incarnation, Lane, LinkOptions, Messages, PeerConfig, PeerId,
    PeerLink, Peers, Taken, TurnedAway, Upper,
};
use crate::protocol::{Context, Session};
use crate::routing::SubscriptionOptions;
use crate::settings::Settings;
use crate::store::simulated::SimulatedDisk;
use crate::store::{Options, Store, SyncMode};

const DEADLINE: Duration = Duration::from_secs(20);

/// Hands everything to the node.
struct Above(Arc<Node>);

impl Upper for Above {
    fn now(&self) -> Millis {
        self.0.clock.now()
    }

    fn last_applied(&self, from: &PeerId) -> u64 {
        self.0.last_applied(from)
    }

    fn batch(&self, link: &Arc<PeerLink>, from: &Arc<PeerId>, seq: u64, messages: Messages<'_>) -> Taken {
        self.0.receive_batch(link, from, seq, messages)
    }

    fn acknowledged(&self, link: &Arc<PeerLink>, _: u64) {
        self.0.peer_has_moved(link);
    }

    fn message(&self, _: &Arc<PeerId>, _: Lane, _: &[u8]) {}

    fn changed(&self, link: &Arc<PeerLink>, _: &Change) {
        self.0.peer_has_moved(link);
    }

    fn turned_away(&self, _: &TurnedAway) {}
}

pub(super) struct Broker {
    pub node: Arc<Node>,
    pub peers: Peers,
    name: String,
    port: u16,
    pub cx: Context,
    pub batch: Batch,
}

pub(super) fn store_options(wall_base_ms: u64) -> Options {
    Options {
        segment_bytes: 65_536,
        max_bytes: 0,
        sync: SyncMode::Interval,
        sync_interval_ms: 10,
        cache_bytes: 1_000,
        wall_base_ms,
    }
}

pub(super) fn peer_id(name: &str, boot: u8) -> PeerId {
    PeerId { name: name.into(), incarnation: Incarnation([7; 16]), boot: Boot([boot; 8]) }
}

impl Broker {
    pub fn start(name: &str) -> Self {
        Self::start_on(name, None)
    }

    pub fn start_on(name: &str, disk: Option<&Arc<SimulatedDisk>>) -> Self {
        let node = Arc::new(Node::new(Settings::default()).unwrap());
        if let Some(disk) = disk {
            let options = store_options(node.clock.wall_ms(0));
            let (store, _) = Store::open(disk.clone(), options).unwrap();
            assert!(node.use_store(store));
        }
        node.remotes.set_own_name(name);
        let identity = Identity {
            node: peer_id(name, name.as_bytes()[0]),
            cluster: Some(ClusterId([7; 16])),
            agreed: Vec::new(),
            secret: b"secret".to_vec(),
        };
        let options = LinkOptions { link_timeout: Duration::from_millis(500), ..LinkOptions::default() };
        let peers = Peers::start(identity, options, Arc::new(Above(Arc::clone(&node)))).unwrap();
        let listener = peers.open_listener("default", "127.0.0.1:0".parse().unwrap(), None, None).unwrap().unwrap();
        let cx = node.context();
        let port = listener.address.port();
        Self { node, peers, name: name.to_owned(), port, cx, batch: Batch::default() }
    }

    pub fn set_peers(&self, others: &[&Self]) {
        let config = |other: &&Self| PeerConfig {
            name: other.name.as_str().into(),
            addresses: vec![format!("127.0.0.1:{}", other.port)],
            incarnation: None,
            is_tls: false,
        };
        self.peers.set_peers(others.iter().map(config).collect(), false).unwrap();
        self.node.set_remotes(self.peers.links());
    }

    pub fn subscribe(&self, name: &str, filter: &str, group: Option<&str>, is_node_local: bool) -> SessionRef {
        let session = self.insider(name, is_node_local);
        let options = SubscriptionOptions { qos: 2, retain_as_published: true, ..SubscriptionOptions::default() };
        self.node.subscribe(&"".into(), filter, group, session.clone(), options);
        session
    }

    fn insider(&self, name: &str, is_node_local: bool) -> SessionRef {
        let session = Session::new(self.node.new_session_id(), self.node.nobody());
        let id = SubscriberId { mountpoint: "".into(), client_id: name.into() };
        SessionRef::new(session, id, Receiver::Internal { name: name.into(), is_node_local }, None)
    }

    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        self.node.refresh(&mut self.cx);
        let message = Message::keep(&publication(topic, payload, qos, retain, &mut Vec::new()));
        self.node.publish_inside(&mut self.cx, &mut self.batch, &[("".into(), message)]);
    }

    /// Who got which payload since the last call.
    pub fn delivered(&self) -> Vec<(String, String)> {
        let events = self.node.events.drain(10_000).into_iter();
        events
            .filter_map(|event| match event {
                Event::Message { subscriber, message, .. } => {
                    let payload = String::from_utf8(message.publication().payload().to_vec()).unwrap();
                    Some((subscriber.to_string(), payload))
                }
                _ => None,
            })
            .collect()
    }

    #[track_caller]
    pub fn expect(&self, expected: &[(&str, &str)]) {
        let mut got = Vec::new();
        eventually(|| {
            got.extend(self.delivered());
            got.len() >= expected.len()
        });
        let got: Vec<(&str, &str)> = got.iter().map(|(who, what)| (who.as_str(), what.as_str())).collect();
        assert_eq!(got, expected);
    }

    pub fn route(&self, peer: &Self, filter: &str) {
        assert_eq!(self.node.set_routes(&peer.name, &[route(filter, None, 1)], &[], false), Some(0));
    }

    fn changes(&self) -> Vec<(String, Option<String>, u32, bool)> {
        let changes = self.node.route_changes(1_000);
        assert!(!changes.is_overflown);
        let mut routes: Vec<_> = changes.routes.into_iter().map(plain).collect();
        routes.sort();
        routes
    }
}

fn plain((key, members): LocalRoute) -> (String, Option<String>, u32, bool) {
    let Members { count, has_online } = members;
    (key.filter.into(), key.group.map(String::from), count, has_online)
}

fn route(filter: &str, group: Option<&str>, members: u32) -> RouteOfPeer {
    let group = group.map(str::to_owned);
    RouteOfPeer { mountpoint: String::new(), filter: filter.to_owned(), group, members, has_online: true }
}

pub(super) fn publication<'s>(
    topic: &str,
    payload: &str,
    qos: u8,
    retain: bool,
    span: &'s mut Vec<u8>,
) -> Publication<'s> {
    let layout = Publication::compose(span, topic.as_bytes(), &[], payload.as_bytes());
    Publication { head: Head { layout, qos, retain, expires_at: NEVER, origin: 0 }, span }
}

#[track_caller]
pub(super) fn eventually(mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn pair() -> (Broker, Broker) {
    let (a, b) = (Broker::start("a@h"), Broker::start("b@h"));
    link(&a, &b);
    (a, b)
}

fn link(a: &Broker, b: &Broker) {
    a.set_peers(&[b]);
    b.set_peers(&[a]);
    let is_reachable = |from: &Broker, to: &Broker| from.peers.find(&to.name).is_some_and(|link| link.is_reachable());
    eventually(|| is_reachable(a, b) && is_reachable(b, a));
}

#[test]
fn a_filter_is_told_with_its_first_subscriber_and_its_last() {
    let broker = Broker::start("a@h");
    broker.subscribe("before", "x", None, false);
    assert!(broker.changes().is_empty(), "nobody watches");
    broker.node.interest.watch(|| {});
    let one = broker.subscribe("one", "a/+", None, false);
    let two = broker.subscribe("two", "a/+", None, false);
    let local = broker.subscribe("local", "b", None, true);
    assert_eq!(broker.changes(), [("a/+".to_owned(), None, 1, true)]);
    assert_eq!(broker.node.unsubscribe_all(&"".into(), [("a/+", None)], &one), 1);
    assert_eq!(broker.node.unsubscribe_all(&"".into(), [("b", None)], &local), 1);
    assert!(broker.changes().is_empty());
    assert_eq!(broker.node.unsubscribe_all(&"".into(), [("a/+", None)], &two), 1);
    assert_eq!(broker.changes(), [("a/+".to_owned(), None, 0, false)]);
    assert_eq!(broker.node.unsubscribe_all(&"".into(), [("a/+", None)], &two), 0);
    assert!(broker.changes().is_empty());
}

#[test]
fn of_a_group_it_is_told_how_many_there_are_and_once_however_often_that_changes() {
    let broker = Broker::start("a@h");
    let signals = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&signals);
    broker.node.interest.watch(move || _ = counter.fetch_add(1, Ordering::Relaxed));
    let sessions: Vec<SessionRef> = (0..5).map(|n| broker.subscribe(&n.to_string(), "a", Some("g"), n == 4)).collect();
    sessions[0].set_online(false);
    let group = Some("g".to_owned());
    assert_eq!(broker.changes(), [("a".to_owned(), group.clone(), 4, true)]);
    for session in &sessions[1..] {
        broker.node.unsubscribe_all(&"".into(), [("a", Some("g"))], session);
    }
    assert_eq!(broker.changes(), [("a".to_owned(), group, 1, false)]);
    assert_eq!(signals.load(Ordering::Relaxed), 2);
}

#[test]
fn more_changes_than_are_noted_have_all_of_it_read_anew() {
    let broker = Broker::start("a@h");
    broker.node.interest.watch(|| {});
    let session = broker.insider("s", false);
    let count = super::CHANGES_MAX + 10;
    for number in 0..count {
        let options = SubscriptionOptions::default();
        broker.node.subscribe(&"".into(), &format!("t/{number}"), None, session.clone(), options);
    }
    let changes = broker.node.route_changes(10);
    assert!(changes.is_overflown);
    assert!(changes.routes.is_empty());
    assert_eq!(broker.node.interest.overflows(), 1);
    broker.subscribe("after", "after", None, false);
    assert_eq!(broker.changes().len(), 1);
    let (mut total, mut cursor): (usize, Option<RoutesCursor>) = (0, None);
    loop {
        let (page, next) = broker.node.local_routes(cursor, 1_000);
        assert!(page.len() < 4_000);
        total += page.len();
        let Some(next) = next else { break };
        cursor = Some(next);
    }
    assert_eq!(total, count + 1);
}

#[test]
fn local_routes_are_those_of_all_mountpoints_and_of_this_node_only() {
    let (a, b) = (Broker::start("a@h"), Broker::start("b@h"));
    a.set_peers(&[&b]);
    a.route(&b, "of-b");
    a.subscribe("s", "of-a", None, false);
    a.subscribe("l", "local", None, true);
    a.subscribe("s", "of-a", Some("g"), false);
    a.node.subscribe(&"mp".into(), "deep/#", None, a.insider("m", false), SubscriptionOptions::default());
    let (routes, next) = a.node.local_routes(None, 1_000);
    assert_eq!(next, None);
    let mut routes: Vec<_> = routes.into_iter().map(|route| (route.0.mountpoint.to_string(), plain(route))).collect();
    routes.sort();
    let expected = [
        (String::new(), ("of-a".to_owned(), None, 1, true)),
        (String::new(), ("of-a".to_owned(), Some("g".to_owned()), 1, true)),
        ("mp".to_owned(), ("deep/#".to_owned(), None, 1, true)),
    ];
    assert_eq!(routes, expected);
}

#[test]
fn routes_of_a_node_are_replaced_and_go_with_it() {
    let (a, b) = (Broker::start("a@h"), Broker::start("b@h"));
    assert_eq!(a.node.set_routes("b@h", &[route("a", None, 1)], &[], false), None);
    a.set_peers(&[&b]);
    let groups = [route("a", Some("g"), 2), route("b/#", Some("g"), 1)];
    let add = [route("a", None, 1), route("b/+", None, 1), groups[0].clone(), groups[1].clone()];
    assert_eq!(a.node.set_routes("b@h", &add, &[], false), Some(0));
    assert_eq!(a.node.router.read().len(), 4);
    assert_eq!(a.node.set_routes("b@h", &[], &[route("b/+", None, 0)], false), Some(0));
    assert_eq!(a.node.router.read().len(), 3);
    assert_eq!(a.node.set_routes("b@h", &[route("c", None, 1), groups[1].clone()], &[], true), Some(0));
    assert_eq!(a.node.router.read().len(), 2);
    let bad = [route("a/#/b", None, 1), route("a", Some("+"), 1), route("a", Some("g"), 0), route("", None, 1)];
    assert_eq!(a.node.set_routes("b@h", &bad, &[], false), Some(4));
    assert_eq!(a.node.router.read().len(), 2);
    a.set_peers(&[]);
    assert!(a.node.router.read().is_empty());
}

#[test]
fn a_message_goes_once_to_each_node_and_never_further() {
    let (mut a, b) = pair();
    // Whatever b believes of a: nothing comes back.
    b.route(&a, "#");
    a.subscribe("here", "a/b", None, false);
    b.subscribe("there", "a/b", None, false);
    b.subscribe("local", "a/b", None, true);
    for filter in ["a/b", "a/+", "#"] {
        a.route(&b, filter);
    }
    for number in 0..10 {
        a.publish("a/b", &number.to_string(), number % 3, false);
    }
    let numbers: Vec<String> = (0..10).map(|number| number.to_string()).collect();
    let expected = |who: &'static str| numbers.iter().map(|number| (who, number.as_str())).collect::<Vec<_>>();
    a.expect(&expected("here"));
    b.expect(&expected("there"));
    eventually(|| a.peers.find("b@h").is_some_and(|link| link.acknowledged() > 0));
    assert!(a.delivered().is_empty());
    assert_eq!(b.peers.figures().counts.messages_sent, 0);
    assert_eq!(a.peers.figures().counts.messages_sent, 10);
}

#[test]
fn groups_chosen_on_another_node_get_the_message_there_and_no_others() {
    let (mut a, b) = pair();
    b.subscribe("one", "a", Some("g"), false);
    b.subscribe("two", "a", Some("h"), false);
    b.subscribe("direct", "a", None, false);
    a.subscribe("three", "a", Some("h"), false);
    assert_eq!(a.node.set_routes("b@h", &[route("a", Some("g"), 1), route("a", Some("h"), 1)], &[], false), Some(0));
    a.publish("a", "x", 1, false);
    a.expect(&[("three", "x")]);
    // Whoever subscribes directly gets what comes, whether or not the publishing node knows of it yet.
    b.expect(&[("direct", "x"), ("one", "x")]);
    assert_eq!(a.peers.figures().counts.messages_sent, 1);
}

#[test]
fn a_retained_message_goes_to_nodes_that_did_not_ask_for_it() {
    let (mut a, b) = pair();
    let there = || b.node.retained_messages("", "#", 1, 100).len();
    a.publish("r", "x", 0, true);
    eventually(|| there() == 1);
    a.publish("r", "", 1, true);
    eventually(|| there() == 0);
    assert_eq!(a.peers.figures().dropped.messages, [0; 3]);
}

#[test]
fn what_waits_for_a_node_is_there_when_it_comes_back_and_nothing_twice() {
    let (mut a, b) = (Broker::start("a@h"), Broker::start("b@h"));
    b.subscribe("there", "a", None, false);
    a.set_peers(&[&b]);
    a.route(&b, "a");
    for number in 0..100 {
        a.publish("a", &number.to_string(), 1 + number % 2, false);
    }
    a.publish("a", "lost", 0, false);
    b.set_peers(&[&a]);
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    b.expect(&numbers.iter().map(|number| ("there", number.as_str())).collect::<Vec<_>>());
    eventually(|| a.peers.figures().held_bytes == 0);
    assert!(b.delivered().is_empty());
}

/// A batch as it comes from a peer.
pub(super) fn batch(messages: &[Forwarded<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        message.encode(1, &mut bytes);
    }
    bytes
}

#[test]
fn how_far_a_peer_has_come_survives_a_crash_and_is_of_one_run_of_it() {
    let disk = SimulatedDisk::new();
    let b = Broker::start_on("b@h", Some(&disk));
    let a = Broker::start("a@h");
    b.set_peers(&[&a]);
    let link = b.peers.find("a@h").unwrap();
    let from = Arc::new(peer_id("a@h", 1));
    let take = |b: &Broker, seq, qos, retain| {
        let mut span = Vec::new();
        let bytes = batch(&[Forwarded::routed("", publication("a", "x", qos, retain, &mut span), 1)]);
        b.node.receive_batch(&link, &from, seq, Messages::check(&bytes, 1).unwrap())
    };
    assert_eq!(take(&b, 1, 1, false), Taken::Now);
    assert_eq!(b.node.last_applied(&from), 0, "nothing of it had to be kept");
    assert_eq!(take(&b, 2, 1, true), Taken::Now);
    assert_eq!(b.node.last_applied(&from), 2);
    let disk = disk.kill();
    drop(b);
    let b = Broker::start_on("b@h", Some(&disk));
    assert_eq!(b.node.last_applied(&from), 2);
    assert_eq!(b.node.last_applied(&peer_id("a@h", 2)), 0);
    assert_eq!(b.node.last_applied(&peer_id("c@h", 1)), 0);
}

#[test]
fn a_batch_that_was_written_down_in_part_goes_on_behind_that_part() {
    let disk = SimulatedDisk::new();
    let b = Broker::start_on("b@h", Some(&disk));
    b.set_peers(&[&Broker::start("a@h")]);
    b.subscribe("there", "#", None, false);
    let link = b.peers.find("a@h").unwrap();
    let from = Arc::new(peer_id("a@h", 1));
    let mut row = [&from.incarnation.0[..], &from.boot.0[..]].concat();
    row.extend_from_slice(&5_u64.to_be_bytes());
    row.extend_from_slice(&2_u32.to_be_bytes());
    row.extend_from_slice(&4_u32.to_be_bytes());
    b.node.store().unwrap().write_metadata(&[(b"peer/applied/a@h", Some(&row))]).unwrap();
    assert_eq!(b.node.last_applied(&from), 4);
    let take = |seq, payloads: [&str; 4]| {
        let mut spans = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let [one, two, three, four] = &mut spans;
        let bytes = batch(&[
            Forwarded::routed("", publication("a", payloads[0], 2, false, one), 1),
            Forwarded::routed("", publication("a", payloads[1], 1, false, two), 1),
            Forwarded::routed("", publication("a", payloads[2], 2, false, three), 1),
            Forwarded {
                is_retained_update: true,
                ..Forwarded::routed("", publication("a", payloads[3], 0, true, four), seq)
            },
        ]);
        assert_eq!(b.node.receive_batch(&link, &from, seq, Messages::check(&bytes, 1).unwrap()), Taken::Now);
        b.delivered().into_iter().map(|(_, payload)| payload).collect::<Vec<_>>()
    };
    assert_eq!(take(5, ["1", "2", "3", "4"]), ["3", "4"]);
    assert_eq!(b.node.last_applied(&from), 5);
    assert_eq!(take(6, ["5", "6", "7", "8"]), ["5", "6", "7", "8"]);
    assert_eq!(b.node.last_applied(&from), 6);
}

#[test]
fn a_batch_that_the_store_has_no_room_for_is_not_taken_and_nobody_gets_any_of_it() {
    let disk = SimulatedDisk::new();
    let b = Broker::start_on("b@h", Some(&disk));
    b.set_peers(&[&Broker::start("a@h")]);
    b.subscribe("there", "#", None, false);
    let link = b.peers.find("a@h").unwrap();
    let from = Arc::new(peer_id("a@h", 1));
    disk.fail_writes(u64::MAX);
    let store = b.node.store().unwrap();
    store.append_changes(0, &[crate::store::Change::Received(crate::store::ReceivedId { packet_id: 1, stamp: 0 })]);
    assert!(!store.commit(store.appended()));
    let (mut first, mut second) = (Vec::new(), Vec::new());
    let bytes = batch(&[
        Forwarded::routed("", publication("a", "x", 1, false, &mut first), 1),
        Forwarded::routed("", publication("b", "y", 1, true, &mut second), 1),
    ]);
    assert_eq!(b.node.receive_batch(&link, &from, 1, Messages::check(&bytes, 1).unwrap()), Taken::Not);
    assert!(b.delivered().is_empty());
    let mut span = Vec::new();
    let light = batch(&[Forwarded::routed("", publication("a", "light", 1, false, &mut span), 1)]);
    assert_eq!(b.node.receive_batch(&link, &from, 1, Messages::check(&light, 1).unwrap()), Taken::Now);
    assert_eq!(b.delivered(), [("there".to_owned(), "light".to_owned())]);
}

#[test]
fn messages_that_no_client_could_have_sent_are_passed_over() {
    let b = Broker::start("b@h");
    b.set_peers(&[&Broker::start("a@h")]);
    b.subscribe("there", "#", None, false);
    let link = b.peers.find("a@h").unwrap();
    let mut spans = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    let [one, two, three, four] = &mut spans;
    let groups = [("nobody", "has/it")];
    let bytes = batch(&[
        Forwarded::routed("", publication("a/#", "wildcard", 1, true, one), 1),
        Forwarded { receiver: Some("c"), ..Forwarded::routed("", publication("a", "direct", 1, false, two), 1) },
        Forwarded::routed("elsewhere", publication("a", "mountpoint", 1, false, three), 1),
        Forwarded {
            groups: Groups::Listed(&groups),
            ..Forwarded::routed("", publication("a", "unknown group", 1, false, four), 1)
        },
    ]);
    let taken = b.node.receive_batch(&link, &Arc::new(peer_id("a@h", 1)), 1, Messages::check(&bytes, 1).unwrap());
    assert_eq!(taken, Taken::Now);
    assert_eq!(b.delivered(), [("there".to_owned(), "unknown group".to_owned())]);
    assert!(b.node.retained.read().is_empty());
}
