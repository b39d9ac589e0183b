//! The workload `offline`: clients subscribe and leave, messages are published for them, they come back and get them.
//!
//! Publishers are the first links, the sessions the links after them.

use std::fmt::Write;
use std::sync::Arc;

use super::clock::{self, Nanos};
use super::control::Control;
use super::figures::Moment;
use super::fleet::{Cut, Fleet, Hand, Patience, Scenario};
use super::histogram::Histogram;
use super::link::Link;
use super::options::Options;
use super::plan::Plan;
use super::report::Report;
use super::stamp::Stamp;
use super::store::{Store, receive};
use super::tracker::{Arrival, Tracker};
use crate::codec::{ProtocolVersion, Publish, QoS, ReasonCode};

#[derive(Debug, Default)]
struct Ledger {
    run: u32,
    first_session: usize,
    trackers: Vec<Tracker>,
    received: u64,
    duplicates: u64,
    late: u64,
    foreign: u64,
    refused: u64,
    pongs: u64,
    received_at: Nanos,
    acknowledgement: Histogram,
}

impl Scenario for Ledger {
    fn on_delivery(&mut self, link: usize, at: Nanos, delivery: &Publish<'_>, _: Hand<'_>) {
        let session = link.wrapping_sub(self.first_session);
        let stamp =
            Stamp::read(delivery.payload).filter(|stamp| stamp.run == self.run && stamp.publisher as usize == session);
        let (Some(stamp), Some(tracker)) = (stamp, self.trackers.get_mut(session)) else {
            self.foreign += 1;
            return;
        };
        self.received_at = at;
        match tracker.observe(stamp.sequence) {
            Arrival::Duplicate => self.duplicates += 1,
            arrival => {
                self.received += 1;
                self.late += u64::from(arrival == Arrival::Late);
            }
        }
    }

    fn on_acknowledged(&mut self, _: usize, at: Nanos, sent_at: Nanos, reason: ReasonCode) {
        self.acknowledgement.add(at.saturating_sub(sent_at));
        self.refused += u64::from(reason.is_error());
    }

    fn on_pong(&mut self, _: usize) {
        self.pongs += 1;
    }
}

/// Runs the workload.
pub fn run(options: &Options, control: Arc<Control>) -> Result<Report, Cut> {
    let plan = Plan::new(options);
    let (publishers, sessions) = (options.publishers as usize, options.subscribers as usize);
    let publisher = |i: u32| plan.link(&format!("pub-{i}"), None, false);
    let session = |i: u32| plan.link(&format!("off-{i}"), Some(plan.topic(&i.to_string()).into()), true);
    let links: Vec<Link> =
        (0..options.publishers).map(publisher).chain((0..options.subscribers).map(session)).collect();
    let all = publishers..links.len();
    let mut fleet = Fleet::new(options, links, control)?;
    let mut ledger = Ledger {
        run: plan.run,
        first_session: publishers,
        trackers: vec![Tracker::default(); sessions],
        ..Ledger::default()
    };
    fleet.open(all.clone(), Patience::None, &mut ledger)?;
    fleet.leave(all.clone(), &mut ledger)?;
    fleet.open(0..publishers, Patience::None, &mut ledger)?;

    let empty = Moment::now(options);
    let item = |publisher: usize, n: u64, topic: &mut String| message(&plan, publisher, n, topic);
    let store = Store { publishers: 0..publishers, shape: plan.shape(), item: &item };
    let stored = store.fill(&mut fleet, &mut ledger, |ledger| ledger.pongs)?;
    let full = Moment::now(options);

    for link in fleet.links.get_mut(all.clone()).unwrap_or_default() {
        link.filter = None;
    }
    fleet.open(all.clone(), Patience::None, &mut ledger)?;
    let resumed = fleet.links.get(all.clone()).unwrap_or_default().iter().filter(|link| link.session_present).count();
    let ended = receive(&mut fleet, &mut ledger, stored, options.drain.max(clock::SECOND), |ledger| ledger.received);
    let drained = Moment::now(options);
    // What was made is taken away again; a broker that does not let go of it has been measured nevertheless.
    drop(forget(&mut fleet, &mut ledger, all));

    let mut report = Report::default();
    report.text("ended", super::ended(&ended));
    report.integer("sessions", sessions as u64);
    report.integer("stored", stored);
    report.rate("stored_per_s", stored, full.at - empty.at);
    report.optional("acknowledgement_us", ledger.acknowledgement.summary());
    report.integer("received", ledger.received);
    report.rate("received_per_s", ledger.received, ledger.received_at.saturating_sub(full.at));
    cost(&mut report, [&empty, &full, &drained], stored, ledger.received);
    let unresumed = if options.version == ProtocolVersion::V3_1 { 0 } else { sessions - resumed };
    report.should_be_none("sessions_lost", unresumed as u64, "sessions were gone when their clients came back");
    report.should_be_none("missing", stored.saturating_sub(ledger.received), "messages did not arrive");
    report.should_be_none("out_of_order", ledger.late, "messages came after a later one");
    if options.qos == QoS::ExactlyOnce {
        report.should_be_none("duplicates", ledger.duplicates, "messages came more than once");
    } else {
        report.integer("duplicates", ledger.duplicates);
    }
    report.should_be_none("foreign", ledger.foreign, "messages came that are not for this client");
    report.should_be_none("refused", ledger.refused, "messages were refused by the broker");
    report.should_be_none("connections_lost", fleet.tally.lost, "connections were lost");
    Ok(report)
}

/// The `n`th message of a publisher: the first of each of its sessions, then the second of each, and so on. One session's
/// messages come from one publisher, so their order is known.
fn message(plan: &Plan<'_>, publisher: usize, n: u64, topic: &mut String) -> Option<Stamp> {
    let (publishers, sessions) = (u64::from(plan.options.publishers), u64::from(plan.options.subscribers));
    let own = (sessions + publishers - 1).saturating_sub(publisher as u64) / publishers;
    let (round, place) = (n.checked_div(own)?, n % own);
    if round >= u64::from(plan.options.messages) {
        return None;
    }
    let session = place * publishers + publisher as u64;
    // Writing to a string does not fail.
    let _ = write!(topic, "{}/{:08x}/{session}", plan.options.topic_prefix, plan.run);
    Some(Stamp { run: plan.run, publisher: session as u32, sequence: round as u32 + 1, sent_at: 0 })
}

fn cost(report: &mut Report, [empty, full, drained]: [&Moment; 3], stored: u64, received: u64) {
    let (generator, broker) = drained.cpu_since(empty);
    report.seconds("generator_cpu_s", generator);
    report.micros_each("generator_cpu_us_per_message", generator, stored + received);
    if let (Some(_), Some(storing), Some(draining)) = (broker, full.cpu_since(empty).1, drained.cpu_since(full).1) {
        report.micros_each("broker_cpu_us_per_stored", storing, stored);
        report.micros_each("broker_cpu_us_per_message", draining, received);
    }
    if let Some(bytes) = full.memory_since(empty).filter(|_| stored > 0) {
        report.integer("broker_rss_bytes_per_stored", bytes / stored);
    }
}

/// Ends the sessions for good: a clean start without an expiry replaces them.
fn forget(fleet: &mut Fleet, ledger: &mut Ledger, sessions: std::ops::Range<usize>) -> Result<(), Cut> {
    fleet.leave(sessions.clone(), ledger)?;
    for link in fleet.links.get_mut(sessions.clone()).unwrap_or_default() {
        let settings = link.client.settings_mut();
        (settings.clean_start, settings.session_expiry_s) = (true, 0);
    }
    fleet.open(sessions.clone(), Patience::Counting, ledger)?;
    fleet.leave(0..sessions.end, ledger)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bench::options::Given;

    #[test]
    fn every_session_gets_every_message_in_order_and_from_one_publisher() {
        for (publishers, sessions) in [(1, 1), (4, 100), (4, 3), (3, 10), (7, 1)] {
            let given = [("publishers", publishers), ("subscribers", sessions), ("messages", 5)];
            let given = given.map(|(name, value)| (name.to_owned(), Given::Integer(value)));
            let options = Options::new("offline", &given).unwrap();
            let plan = Plan::new(&options);
            let mut all: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            let mut topic = String::new();
            for publisher in 0..options.publishers as usize {
                for n in 0.. {
                    topic.clear();
                    let Some(stamp) = message(&plan, publisher, n, &mut topic) else { break };
                    assert!(topic.ends_with(&format!("/{}", stamp.publisher)));
                    all.entry(stamp.publisher).or_default().push(stamp.sequence);
                }
            }
            assert_eq!(all.len(), options.subscribers as usize);
            assert!(all.values().all(|sequences| *sequences == [1, 2, 3, 4, 5]), "{all:?}");
        }
    }
}
