//! The workload `retained`: many retained messages are stored, then subscribers ask for all of them.
//!
//! Publishers are the first links, subscribers the links after them. At the end the messages are taken away again.

use std::fmt::Write;
use std::sync::Arc;

use super::clock::{self, Nanos};
use super::control::Control;
use super::figures::Moment;
use super::fleet::{Cut, Fleet, Hand, Patience, Scenario};
use super::link::Link;
use super::options::Options;
use super::plan::Plan;
use super::publisher::MessageShape;
use super::report::Report;
use super::stamp::Stamp;
use super::store::{Store, receive};
use crate::codec::{Publish, QoS, ReasonCode};

#[derive(Debug, Default)]
struct Ledger {
    run: u32,
    first_subscriber: usize,
    messages: usize,
    /// For each subscriber one bit a message.
    seen: Vec<Vec<u64>>,
    received: u64,
    duplicates: u64,
    foreign: u64,
    unflagged: u64,
    refused: u64,
    pongs: u64,
    received_at: Nanos,
}

impl Scenario for Ledger {
    fn on_delivery(&mut self, link: usize, at: Nanos, delivery: &Publish<'_>, _: Hand<'_>) {
        let number =
            Stamp::read(delivery.payload).filter(|stamp| stamp.run == self.run).map(|stamp| stamp.sequence as usize);
        let number = number.filter(|number| *number < self.messages);
        let seen = self.seen.get_mut(link.wrapping_sub(self.first_subscriber));
        let word = number.zip(seen).and_then(|(number, seen)| Some((number, seen.get_mut(number / 64)?)));
        let Some((number, word)) = word else {
            self.foreign += 1;
            return;
        };
        self.received_at = at;
        self.unflagged += u64::from(!delivery.retain);
        let bit = 1 << (number % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.received += 1;
        } else {
            self.duplicates += 1;
        }
    }

    fn on_acknowledged(&mut self, _: usize, _: Nanos, _: Nanos, reason: ReasonCode) {
        self.refused += u64::from(reason.is_error());
    }

    fn on_pong(&mut self, _: usize) {
        self.pongs += 1;
    }
}

/// Runs the workload.
pub fn run(options: &Options, control: Arc<Control>) -> Result<Report, Cut> {
    let plan = Plan::new(options);
    let (publishers, messages) = (options.publishers as usize, options.messages as usize);
    let publisher = |i: u32| plan.link(&format!("pub-{i}"), None, false);
    let subscriber = |i: u32| plan.link(&format!("sub-{i}"), Some(plan.topic("#").into()), false);
    let links: Vec<Link> =
        (0..options.publishers).map(publisher).chain((0..options.subscribers).map(subscriber)).collect();
    let count = links.len();
    let mut fleet = Fleet::new(options, links, control)?;
    let mut ledger = Ledger {
        run: plan.run,
        first_subscriber: publishers,
        messages,
        seen: vec![vec![0; messages.div_ceil(64)]; options.subscribers as usize],
        ..Ledger::default()
    };
    fleet.open(0..publishers, Patience::None, &mut ledger)?;
    let empty = Moment::now(options);
    let item = |publisher: usize, n: u64, topic: &mut String| message(&plan, publisher, n, topic);
    let shape = MessageShape { retain: true, ..plan.shape() };
    let stored =
        Store { publishers: 0..publishers, shape, item: &item }.fill(&mut fleet, &mut ledger, |it| it.pongs)?;
    let full = Moment::now(options);

    fleet.open(publishers..count, Patience::None, &mut ledger)?;
    let wanted = stored * u64::from(options.subscribers);
    let ended = receive(&mut fleet, &mut ledger, wanted, options.drain.max(clock::SECOND), |ledger| ledger.received);
    let delivered = Moment::now(options);
    drop(fleet.leave(publishers..count, &mut ledger));
    // An empty retained message takes the one before away ([MQTT-3.3.1-6]).
    let nothing = MessageShape { size: 0, ..shape };
    drop(Store { publishers: 0..publishers, shape: nothing, item: &item }.fill(&mut fleet, &mut ledger, |it| it.pongs));
    drop(fleet.leave(0..publishers, &mut ledger));

    let mut report = Report::default();
    report.text("ended", super::ended(&ended));
    report.integer("stored", stored);
    report.rate("stored_per_s", stored, full.at - empty.at);
    report.integer("received", ledger.received);
    report.rate("received_per_s", ledger.received, ledger.received_at.saturating_sub(full.at));
    cost(&mut report, [&empty, &full, &delivered], stored, ledger.received);
    report.should_be_none("missing", wanted.saturating_sub(ledger.received), "messages did not arrive");
    report.should_be_none("unflagged", ledger.unflagged, "retained messages came without the RETAIN flag");
    if options.qos == QoS::AtLeastOnce {
        report.integer("duplicates", ledger.duplicates);
    } else {
        report.should_be_none("duplicates", ledger.duplicates, "messages came more than once");
    }
    report.should_be_none("foreign", ledger.foreign, "messages came that are not of this run");
    report.should_be_none("refused", ledger.refused, "messages were refused by the broker");
    report.should_be_none("connections_lost", fleet.tally.lost, "connections were lost");
    Ok(report)
}

/// The `n`th message of a publisher: each has its own topics, two levels below that of the run.
fn message(plan: &Plan<'_>, publisher: usize, n: u64, topic: &mut String) -> Option<Stamp> {
    let number = n * u64::from(plan.options.publishers) + publisher as u64;
    if number >= u64::from(plan.options.messages) {
        return None;
    }
    // Writing to a string does not fail.
    let _ = write!(topic, "{}/{:08x}/{}/{number}", plan.options.topic_prefix, plan.run, number % 100);
    Some(Stamp { run: plan.run, publisher: publisher as u32, sequence: number as u32, sent_at: 0 })
}

fn cost(report: &mut Report, [empty, full, delivered]: [&Moment; 3], stored: u64, received: u64) {
    let (generator, _) = delivered.cpu_since(empty);
    report.seconds("generator_cpu_s", generator);
    report.micros_each("generator_cpu_us_per_message", generator, stored + received);
    if let (Some(storing), Some(delivering)) = (full.cpu_since(empty).1, delivered.cpu_since(full).1) {
        report.micros_each("broker_cpu_us_per_stored", storing, stored);
        report.micros_each("broker_cpu_us_per_message", delivering, received);
    }
    if let Some(bytes) = full.memory_since(empty).filter(|_| stored > 0) {
        report.integer("broker_rss_bytes_per_stored", bytes / stored);
    }
}
