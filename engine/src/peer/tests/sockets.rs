//! Nodes that are linked over real sockets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::line::Line;
use super::nodes::*;
use super::{identity, message, span};
use crate::peer::{
    Condition, GUESTS_MAX, HANDSHAKES_MAX, Identity, Lane, LaneState, LinkOptions, Overflow, PeerConfig, RefusalCode,
};

/// What a loaded machine may add to a time.
const SLACK: Duration = Duration::from_millis(400);

#[test]
fn two_nodes_reach_each_other_and_exchange_on_all_lanes() {
    let (a, b) = pair();
    let link = a.link(&b.name);
    assert!(link.send(Lane::Control, b"hello") && link.send(Lane::Metadata, &vec![7; 300_000]));
    assert!(!link.send(Lane::Data, b"that is for clients' messages"));
    a.publish(&b.name, 0..1_000, 1, 10).unwrap();
    a.publish(&b.name, 1_000..1_010, 2, 100_000).unwrap();
    b.publish(&a.name, 0..10, 0, 10).unwrap();
    eventually("all came", || {
        b.numbers().len() == 1_010 && a.numbers().len() == 10 && b.notes.messages.lock().len() == 2
    });
    assert_eq!(b.numbers(), (0..1_010).collect::<Vec<_>>());
    let mut messages = b.notes.messages.lock().clone();
    messages.sort_by_key(|(_, lane, _)| *lane);
    assert_eq!(
        (&*messages[0].0.name, messages[0].1, messages[0].2.as_slice()),
        (&*a.name, Lane::Control, &b"hello"[..])
    );
    assert_eq!((messages[1].1, messages[1].2.len()), (Lane::Metadata, 300_000));
    eventually("all is acknowledged", || link.info().held_bytes == 0);
    assert!(link.acknowledged() > 0);
    let info = link.info();
    assert!(info.lanes.iter().all(|lane| lane.state == LaneState::Alive && lane.round_trip_us.is_some()));
    assert_eq!(info.condition, Condition::Reachable);
    assert_eq!(a.peers.get(link.index().unwrap()).unwrap().name(), &b.name);
    let figures = a.peers.figures();
    assert_eq!((figures.peers, figures.reachable, figures.dropped.messages), (1, 1, [0; 3]));
    assert!(figures.counts.bytes_sent > 1_000_000 && figures.counts.messages_sent == 1_010);
}

#[test]
fn a_peer_that_accepts_and_says_nothing_is_given_up_and_tried_again() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = LinkOptions { handshake_timeout: Duration::from_millis(100), ..options() };
    let node = Node::start_as(identity("a@127.0.0.1", 1), options, Arc::default(), None);
    node.peers.set_peers(vec![peer("b@127.0.0.1", silent.local_addr().unwrap())], false).unwrap();
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(silent.accept().unwrap());
    }
    let info = node.link("b@127.0.0.1").info();
    assert!(info.error.contains("in time") && info.error.contains("control lane"), "{}", info.error);
    assert_eq!(info.condition, Condition::Down);
    assert!(node.notes.changes.lock()[0].1.reason.contains("in time"));
}

#[test]
fn a_link_that_goes_silent_in_either_direction_is_down_within_the_timeout_and_comes_back() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    let line = Line::to(b.address);
    a.peers.set_peers(vec![peer(&b.name, line.address)], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    for (there, back) in [(true, true), (true, false), (false, true)] {
        let is_up = || a.is_reachable(&b.name) && b.is_reachable(&a.name);
        eventually("both are reachable", is_up);
        line.silence(there, back);
        // One direction of the connections that one of them dialled is enough for both to know.
        within(LINK_TIMEOUT + SLACK, "both know", || !a.is_reachable(&b.name) && !b.is_reachable(&a.name));
        line.silence(false, false);
    }
    eventually("both are reachable", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
    // Whoever notices the silence first closes the connection, so the other one may see no more than that.
    let (of_a, of_b) = (a.link(&b.name).info().counts, b.link(&a.name).info().counts);
    assert!(of_a.downs >= 3 && of_b.downs >= 3 && of_a.silences + of_b.silences >= 3, "{of_a:?} {of_b:?}");
    let changes = [a.notes.changes.lock().clone(), b.notes.changes.lock().clone()].concat();
    assert!(changes.iter().any(|(_, change)| change.reason.contains("cluster.link_timeout")), "{changes:?}");
}

#[test]
fn a_peer_that_does_not_read_delays_no_other_one() {
    let (a, b, c) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2), Node::start("c@127.0.0.1", 3));
    let line = Line::to(b.address);
    a.peers.set_peers(vec![peer(&b.name, line.address), c.config()], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    c.peers.set_peers(vec![a.config()], false).unwrap();
    eventually("all are reachable", || a.is_reachable(&b.name) && a.is_reachable(&c.name));
    line.silence(true, true);
    let mut filled = 0;
    while a.publish(&b.name, filled..filled + 1, 1, 100_000).is_ok() {
        filled += 1;
        assert!(filled < 2_000, "the buffer for one peer is bounded");
    }
    for round in 0..20 {
        a.publish(&c.name, round..round + 1, 1, 10).unwrap();
        let took = eventually("it came", || c.numbers().len() as u32 == round + 1);
        assert!(took < SLACK, "it took {took:?}");
    }
    assert!(a.is_reachable(&c.name));
    let info = a.link(&b.name).info();
    assert!(info.dropped.messages[1] >= 1 && info.held_bytes <= options().outgoing_buffer_size);
    line.silence(false, false);
    eventually("the other one gets all that was held", || b.numbers().len() as u32 == filled);
    assert_eq!(b.numbers(), (0..filled).collect::<Vec<_>>());
}

#[test]
fn a_link_that_flaps_loses_and_doubles_nothing_of_qos_1_and_2() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    let line = Line::to(b.address);
    a.peers.set_peers(vec![peer(&b.name, line.address)], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    eventually("it is up", || a.is_reachable(&b.name));
    let mut sent = 0;
    for round in 0..12 {
        for _ in 0..200 {
            a.publish(&b.name, sent..sent + 1, 1 + (sent % 2) as u8, 100 * round).unwrap();
            let _ = a.publish(&b.name, 1_000_000..1_000_001, 0, 10);
            sent += 1;
        }
        line.cut();
        if round % 3 == 0 {
            line.refuse(true);
            std::thread::sleep(Duration::from_millis(50));
            line.refuse(false);
        }
    }
    let of_qos = |b: &Node| {
        b.notes.numbers.lock().iter().filter(|(_, qos)| *qos > 0).map(|(number, _)| *number).collect::<Vec<_>>()
    };
    eventually("all came", || of_qos(&b).len() as u32 >= sent);
    assert_eq!(of_qos(&b), (0..sent).collect::<Vec<_>>());
    eventually("all is acknowledged", || a.link(&b.name).info().held_bytes == 0);
    assert_eq!(of_qos(&b).len() as u32, sent);
}

#[test]
fn a_peer_that_is_restarted_goes_on_where_its_store_was() {
    let (a, b) = pair();
    a.publish(&b.name, 0..100, 1, 10).unwrap();
    eventually("all came", || b.numbers().len() == 100);
    // What it has and has not stored comes again.
    b.notes.is_busy.store(true, Ordering::Release);
    a.publish(&b.name, 100..200, 1, 10).unwrap();
    eventually("they came", || b.numbers().len() == 200);
    assert!(a.link(&b.name).info().held_bytes > 0);
    let (notes, address) = (Arc::clone(&b.notes), b.address);
    b.stop();
    eventually("it is noticed", || !a.is_reachable(&b.name));
    let reason = a.link(&b.name).info().error;
    assert!(
        reason.contains("b@127.0.0.1 stops") || reason.contains("refused") || reason.contains("closed"),
        "{reason}"
    );
    a.publish(&b.name, 200..300, 2, 10).unwrap();
    notes.is_busy.store(false, Ordering::Release);
    notes.numbers.lock().retain(|(number, _)| *number < 100);
    let again = Node::start_as(identity("b@127.0.0.1", 3), options(), notes, None);
    again.peers.set_peers(vec![a.config()], false).unwrap();
    assert_ne!(again.address, address);
    a.peers.set_peers(vec![again.config()], false).unwrap();
    eventually("all came", || again.numbers().len() == 300);
    assert_eq!(again.numbers(), (0..300).collect::<Vec<_>>());
    eventually("both are reachable", || a.is_reachable(&b.name) && again.is_reachable(&a.name));
}

#[test]
fn what_the_upper_layer_keeps_later_is_acknowledged_later_and_counts_against_the_credit() {
    let (a, b) = pair();
    b.notes.is_busy.store(true, Ordering::Release);
    let mut taken = 0;
    while a.publish(&b.name, taken..taken + 1, 0, 100_000).is_ok() {
        taken += 1;
        let _ = a.publish(&b.name, 5_000..5_001, 1, 100_000);
        assert!(taken < 2_000, "credit ends");
    }
    let link = a.link(&b.name);
    assert_eq!(a.publish(&b.name, 0..1, 0, 100_000), Err(Overflow::NoCredit));
    assert_eq!(link.acknowledged(), 0);
    assert!(a.is_reachable(&b.name), "a busy peer is not a dead one");
    std::thread::sleep(2 * LINK_TIMEOUT);
    assert!(a.is_reachable(&b.name), "a busy peer is not a dead one");
    b.notes.is_busy.store(false, Ordering::Release);
    let back = b.link(&a.name);
    eventually("all is acknowledged", || {
        for (from, seq) in b.notes.waiting.lock().drain(..) {
            back.kept(&from, seq);
        }
        link.info().held_bytes == 0
    });
    a.publish(&b.name, 0..1, 0, 100_000).unwrap();
}

#[test]
fn a_node_joins_as_a_guest_and_becomes_a_member() {
    let newcomer = Identity { cluster: None, ..identity("n@127.0.0.1", 1) };
    let cluster = identity("m@127.0.0.1", 2).cluster;
    let n = Node::start_as(newcomer, options(), Arc::default(), None);
    let m = Node::start("m@127.0.0.1", 2);
    n.peers.set_peers(vec![m.config()], false).unwrap();
    eventually("it is told that joining is closed", || {
        n.link(&m.name).info().refusal == Some(RefusalCode::JoiningClosed)
    });
    m.peers.set_peers(Vec::new(), true).unwrap();
    eventually("both see a guest", || {
        n.condition(&m.name) == Condition::Guest && m.condition(&n.name) == Condition::Guest
    });
    assert!(n.link(&m.name).send(Lane::Control, b"may I join?"));
    assert!(!n.link(&m.name).send(Lane::Metadata, b"guests have no such lane"));
    eventually("the request came", || m.notes.messages.lock().len() == 1);
    assert_eq!(m.notes.messages.lock()[0].0.name, n.name);
    // The answer goes where the question came from: nobody knows yet whether the guest can be dialled.
    assert!(m.link(&n.name).send(Lane::Control, b"yes"));
    eventually("the answer came", || n.notes.messages.lock().len() == 1);
    assert_eq!(m.link(&n.name).index(), None);
    m.peers.set_peers(vec![n.config()], true).unwrap();
    n.peers.set_identity(cluster, Vec::new()).unwrap();
    eventually("both are members", || n.is_reachable(&m.name) && m.is_reachable(&n.name));
    assert!(m.link(&n.name).index().is_some());
    n.publish(&m.name, 0..10, 1, 10).unwrap();
    eventually("messages flow", || m.numbers().len() == 10);
}

#[test]
fn guests_that_go_leave_nothing_behind_and_there_are_not_many_at_once() {
    let host = Node::start("m@127.0.0.1", 255);
    host.peers.set_peers(Vec::new(), true).unwrap();
    let start = |number: usize| {
        let name = format!("n{number}@127.0.0.1");
        let newcomer = Identity { cluster: None, ..identity(&name, number as u8) };
        let node = Node::start_as(newcomer, options(), Arc::default(), None);
        node.peers.set_peers(vec![host.config()], false).unwrap();
        node
    };
    let guests: Vec<Node> = (0..GUESTS_MAX).map(start).collect();
    eventually("they are in", || guests.iter().all(|guest| guest.condition(&host.name) == Condition::Guest));
    let late = start(GUESTS_MAX);
    eventually("one more is refused", || late.link(&host.name).info().refusal == Some(RefusalCode::Busy));
    drop(guests);
    eventually("there is room again", || late.condition(&host.name) == Condition::Guest);
    late.stop();
    eventually("nobody is left", || host.peers.links().is_empty());
}

#[test]
fn whoever_is_removed_is_told_so_and_again_when_it_comes_back() {
    let (a, b) = pair();
    a.peers.set_peers(Vec::new(), true).unwrap();
    assert!(a.peers.find(&b.name).is_none());
    let heard = |what: &str| b.notes.changes.lock().iter().any(|(_, change)| change.reason.contains(what));
    eventually("it was told", || heard("no longer a peer of a@127.0.0.1") || heard("not, or no longer, a member"));
    eventually("it knows", || b.link(&a.name).info().refusal == Some(RefusalCode::NotAMember));
    assert_eq!(b.condition(&a.name), Condition::Down);
    eventually("the operator of the other can see it", || {
        a.notes
            .turned_away
            .lock()
            .iter()
            .any(|visitor| visitor.code == Some(RefusalCode::NotAMember) && visitor.name.as_ref() == Some(&b.name))
    });
}

#[test]
fn a_peer_that_was_removed_by_mistake_can_be_had_again() {
    let (a, b) = pair();
    a.publish(&b.name, 0..10, 1, 10).unwrap();
    eventually("they came", || b.numbers().len() == 10);
    let (old, place) = (a.link(&b.name), a.link(&b.name).index());
    a.peers.set_peers(Vec::new(), false).unwrap();
    assert!(a.peers.get(place.unwrap()).is_none());
    eventually("it is over", || old.append(&message(&span(b"late", 1)), 1) == Err(Overflow::Gone));
    a.peers.set_peers(vec![b.config()], false).unwrap();
    assert_eq!(a.link(&b.name).index(), place, "a name keeps its place");
    a.publish(&b.name, 10..20, 1, 10).unwrap();
    eventually("both are reachable", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
    // Some of those that were late for the old link may have been in time.
    let numbers = || b.numbers().into_iter().filter(|number| *number < 20).collect::<Vec<_>>();
    eventually("more came", || numbers().len() == 20);
    assert_eq!(numbers(), (0..20).collect::<Vec<_>>());
    assert_eq!(b.link(&a.name).info().gaps, 0);
}

#[test]
fn a_node_with_another_data_directory_is_refused_by_those_who_know_better() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    b.peers.set_peers(vec![PeerConfig { incarnation: Some(other_incarnation()), ..a.config() }], false).unwrap();
    a.peers.set_peers(vec![known(b.config())], false).unwrap();
    eventually("it is told", || a.link(&b.name).info().refusal == Some(RefusalCode::WrongIncarnation));
    eventually("and so is the other", || b.link(&a.name).info().error.contains("data directory"));
    b.peers.set_peers(vec![known(a.config())], false).unwrap();
    eventually("they meet", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
}

#[test]
fn a_seed_tells_its_name() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    a.peers.set_peers(vec![peer("seed-1", b.address)], false).unwrap();
    eventually("it is known who answers", || a.link("seed-1").info().answering.as_ref() == Some(&b.name));
    let info = a.link("seed-1").info();
    assert_eq!(info.refusal, Some(RefusalCode::WrongNode));
    assert!(info.error.contains("seed-1") && info.error.contains("b@127.0.0.1"), "{}", info.error);
}

#[test]
fn an_address_that_leads_back_to_the_node_itself_is_told() {
    let a = Node::start("a@127.0.0.1", 1);
    a.peers.set_peers(vec![peer("b@127.0.0.1", a.address)], false).unwrap();
    eventually("it is told", || a.link("b@127.0.0.1").info().error.contains("back to the node itself"));
}

#[test]
fn a_name_that_is_looked_up_works_and_one_that_does_not_exist_is_told() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    let by_name = PeerConfig { addresses: vec![format!("localhost:{}", b.address.port())], ..b.config() };
    let nowhere = PeerConfig { addresses: vec!["nowhere.invalid:1".to_owned()], ..peer("c@nowhere", b.address) };
    a.peers.set_peers(vec![by_name, nowhere], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    eventually("they meet", || a.is_reachable(&b.name));
    eventually("the other is told", || a.link("c@nowhere").info().error.contains("nowhere.invalid"));
}

#[test]
fn strangers_are_bounded_and_keep_nobody_out() {
    let (a, b) = (Node::start("a@127.0.0.1", 1), Node::start("b@127.0.0.1", 2));
    let crowd: Vec<TcpStream> = (0..2 * HANDSHAKES_MAX).map(|_| TcpStream::connect(b.address).unwrap()).collect();
    a.peers.set_peers(vec![b.config()], false).unwrap();
    b.peers.set_peers(vec![a.config()], false).unwrap();
    eventually("they meet in spite of them", || a.is_reachable(&b.name) && b.is_reachable(&a.name));
    eventually("the crowd was pushed out", || b.peers.figures().crowded_out >= HANDSHAKES_MAX as u64);
    drop(crowd);
}

#[test]
fn whoever_speaks_something_else_is_told_what_this_is() {
    let node = Node::start("a@127.0.0.1", 1);
    let mut browser = TcpStream::connect(node.address).unwrap();
    browser.set_read_timeout(Some(DEADLINE)).unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = browser.read_to_end(&mut answer);
    assert!(String::from_utf8_lossy(&answer).contains("port for links between Strogoff nodes"));
    eventually("it is noted", || !node.notes.turned_away.lock().is_empty());
    assert_eq!(node.notes.turned_away.lock()[0].code, Some(RefusalCode::Malformed));
}

#[test]
fn another_secret_is_told_at_both_ends() {
    let a = Node::start("a@127.0.0.1", 1);
    let stranger = Identity { secret: b"vmq".to_vec(), ..identity("b@127.0.0.1", 2) };
    let b = Node::start_as(stranger, options(), Arc::default(), None);
    a.peers.set_peers(vec![b.config()], false).unwrap();
    eventually("the dialler knows", || a.link(&b.name).info().refusal == Some(RefusalCode::Secret));
    eventually("the acceptor knows", || {
        b.notes.turned_away.lock().iter().any(|visitor| visitor.reason.contains("distributed_cookie"))
    });
}

#[test]
fn limits_can_be_changed_while_links_are_up() {
    let (a, b) = pair();
    let slower = LinkOptions { link_timeout: Duration::from_secs(60), outgoing_buffer_size: 10_000, ..options() };
    a.peers.set_options(slower).unwrap();
    assert!(a.peers.set_options(LinkOptions { credit: 1, ..options() }).is_err());
    assert!(a.peers.set_options(LinkOptions { link_timeout: Duration::ZERO, ..options() }).is_err());
    eventually("the new limit holds", || a.publish(&b.name, 0..1, 1, 20_000) == Err(Overflow::Full));
    assert!(a.is_reachable(&b.name));
}

#[test]
fn a_listener_that_closes_lets_nobody_in_and_breaks_no_link() {
    let (a, b) = pair();
    assert_eq!(b.peers.listeners().len(), 1);
    assert!(b.peers.open_listener("default", "127.0.0.1:0".parse().unwrap(), None, None).unwrap().is_none());
    assert!(b.peers.close_listener("default") && !b.peers.close_listener("default"));
    eventually("it is closed", || TcpStream::connect(b.address).is_err());
    assert!(a.is_reachable(&b.name));
    a.publish(&b.name, 0..1, 1, 10).unwrap();
    eventually("messages flow", || b.numbers().len() == 1);
}

#[test]
fn beyond_its_limit_a_listener_lets_nobody_in_until_a_connection_ends() {
    let a = Node::start("a@127.0.0.1", 1);
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = a.peers.open_listener("small", any, None, Some(2)).unwrap().unwrap();
    let mut visitors: Vec<_> = (0..3).map(|_| TcpStream::connect(listener.address).unwrap()).collect();
    eventually("two are let in", || listener.counts().0 == 2);
    eventually("the third is noticed", || a.peers.figures().held_back > 0);
    assert_eq!((listener.counts().0, listener.active()), (2, 2));
    visitors.remove(0);
    eventually("the third comes in", || listener.counts().0 == 3);
    visitors.clear();
    eventually("all have gone", || listener.active() == 0);
}

#[test]
fn a_connection_of_a_link_counts_at_its_listener_while_it_is_there() {
    let (a, b) = pair();
    let listener = b.peers.listeners().remove(0);
    eventually("three lanes come in there", || listener.active() == 3);
    a.stop();
    eventually("they are gone", || listener.active() == 0);
}

#[test]
fn links_that_are_stopped_end_their_threads_and_take_nothing_more() {
    let (a, b) = pair();
    let link = a.link(&b.name);
    a.stop();
    a.stop();
    assert!(a.peers.links().is_empty() && !link.is_reachable() && !link.send(Lane::Control, b"too late"));
    let late = b.config();
    assert!(a.peers.set_peers(vec![late], false).unwrap_err().to_string().contains("stopped"));
    eventually("the peer knows why", || {
        b.notes.changes.lock().iter().any(|(_, change)| change.reason.contains("a@127.0.0.1 stops"))
    });
}
