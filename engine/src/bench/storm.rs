//! The workload `conn`: many clients connect, stay for a while, and leave.

use std::sync::Arc;

use super::clock::{self, MILLISECOND, Nanos};
use super::control::Control;
use super::figures::{Moment, PER_CONNECTION, report_cost};
use super::fleet::{Cut, Fleet, Hand, Patience, Scenario};
use super::link::Link;
use super::options::Options;
use super::plan::Plan;
use super::report::Report;
use crate::codec::Publish;

/// Nothing is published, so what comes is not for us.
#[derive(Debug, Default)]
struct Silence {
    heard: u64,
}

impl Scenario for Silence {
    fn on_delivery(&mut self, _: usize, _: Nanos, _: &Publish<'_>, _: Hand<'_>) {
        self.heard += 1;
    }
}

/// Runs the workload.
pub fn run(options: &Options, control: Arc<Control>) -> Result<Report, Cut> {
    let plan = Plan::new(options);
    let link = |i: u32| -> Link {
        let filter = options.subscribe.then(|| plan.filter(&plan.topic(&i.to_string())));
        plan.link(&i.to_string(), filter, false)
    };
    let links: Vec<Link> = (0..options.connections).map(link).collect();
    let count = links.len();
    let mut fleet = Fleet::new(options, links, control)?;
    let mut silence = Silence::default();
    let before = Moment::now(options);
    let opened = fleet.open(0..count, Patience::Counting, &mut silence);
    let after = Moment::now(options);
    if let Err(Cut::Failed(reason)) = opened {
        return Err(Cut::Failed(reason));
    }
    let connected = fleet.tally.ready;
    let held = opened.and_then(|()| hold(options, &mut fleet, &mut silence));
    let quiet = Moment::now(options);
    drop(fleet.leave(0..count, &mut silence));

    let mut report = Report::default();
    report.text("ended", super::ended(&held));
    report.integer("connected", connected);
    report.seconds("measured_s", after.at - before.at);
    report.rate("connects_per_s", connected, after.at - before.at);
    report.optional("connect_us", fleet.tally.connect_times.summary());
    report_cost(&mut report, &before, &after, connected, PER_CONNECTION);
    if let Some(bytes) = quiet.memory_since(&before).filter(|_| connected > 0) {
        report.integer("broker_rss_bytes_per_connection", bytes / connected);
    }
    report.should_be_none("failed", fleet.tally.failed, "clients could not connect");
    report.should_be_none("connections_lost", fleet.tally.lost, "connections were lost");
    report.should_be_none("foreign", silence.heard, "messages came although none were published");
    for reason in fleet.tally.first_failure.iter().chain(&fleet.tally.first_loss) {
        report.problem(reason.clone());
    }
    Ok(report)
}

fn hold(options: &Options, fleet: &mut Fleet, silence: &mut Silence) -> Result<(), Cut> {
    let until = clock::now() + options.hold;
    while clock::now() < until {
        fleet.control.show(fleet.tally.ready, 0, 0);
        let left = until.saturating_sub(clock::now());
        fleet.turn(left.min(100 * MILLISECOND), silence)?;
        fleet.check()?;
    }
    Ok(())
}
