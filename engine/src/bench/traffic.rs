//! The workloads that publish for a while: `pub`, `sub`, `p2p`, `fanin`, `fanout` and `rr`.
//!
//! Publishers are the first links, subscribers (of `rr`: those who answer) the links after them. A run connects, publishes for
//! the warm-up and the measurement, waits for what is still under way, and reports. Figures begin after the warm-up.

use std::sync::Arc;

use super::books::{Books, Counts, Listener};
use super::clock::{self, MILLISECOND, Nanos};
use super::control::Control;
use super::figures::{Moment, PER_MESSAGE, report_cost};
use super::fleet::{Cut, Fleet, Patience};
use super::histogram::Histogram;
use super::link::{Link, Phase};
use super::options::{Options, Workload};
use super::pacer::{Pace, Pacer};
use super::plan::Plan;
use super::publisher::Publisher;
use super::report::Report;
use super::tracker::Tracker;
use crate::codec::QoS;

/// Reads that bring less than this on average are worth a pause when nobody measures latency.
const SMALL_READ: u64 = 8 << 10;
/// Messages that must be allowed under way for a pause not to leave the broker without work.
const PAUSE_FROM: u64 = 1_000;
/// The longest wait, so that a wish to stop is heard.
const WAIT_MAX: Nanos = 100 * MILLISECOND;

/// What part of its life a run is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    WarmingUp,
    Measuring,
    Draining,
}

struct Traffic<'a> {
    options: &'a Options,
    fleet: Fleet,
    books: Books,
    pacer: Pacer,
    /// When the measurement began, and what was known then.
    before: Moment,
    counts_before: Counts,
    sent_before: u64,
    /// When publishing ended.
    sent_until: Nanos,
    is_stopped: bool,
}

/// Runs the workload. Returns what happened although it may have been cut short; an error when it could not run at all.
pub fn run(options: &Options, control: Arc<Control>) -> Result<Report, Cut> {
    let plan = Plan::new(options);
    let mut traffic = Traffic::new(options, &plan, control)?;
    let links = traffic.fleet.links.len();
    // Subscribers first, so that nothing is published before all of them listen.
    let publishers = options.publishers as usize;
    traffic.fleet.open(publishers..links, Patience::None, &mut traffic.books)?;
    traffic.fleet.open(0..publishers, Patience::None, &mut traffic.books)?;
    for (publisher, link) in traffic.pacer.publishers.iter().zip(&traffic.fleet.links) {
        publisher
            .check(link)
            .map_err(|refusal| Cut::Failed(format!("the broker does not take such messages: {refusal}")))?;
    }
    let ended = traffic.drive();
    let after = Moment::now(options);
    let report = traffic.report(&after, &ended);
    // Whatever it says, the run is over.
    drop(traffic.fleet.leave(0..links, &mut traffic.books));
    match ended {
        Err(Cut::Failed(reason)) => Err(Cut::Failed(reason)),
        _ => Ok(report),
    }
}

/// What the links of a workload are, in their order.
fn listeners(options: &Options) -> Vec<Listener> {
    let Options { publishers, subscribers, .. } = *options;
    let everything = |i: u32| Listener::Publishers { first: 0, count: publishers, trackers: (i * publishers) as usize };
    let own = |i: u32| Listener::Publishers { first: i, count: 1, trackers: i as usize };
    let of_publisher = |i: u32| if options.workload == Workload::Rr { own(i) } else { Listener::Nothing };
    let of_subscriber = |i: u32| match options.workload {
        Workload::Sub => Listener::Anything,
        Workload::Rr => Listener::Requests(i as usize),
        Workload::FanIn | Workload::FanOut => everything(i),
        // Those who share a subscription may get any message of it, but each topic has one subscriber.
        _ => own(i),
    };
    (0..publishers).map(of_publisher).chain((0..subscribers).map(of_subscriber)).collect()
}

fn links(options: &Options, plan: &Plan<'_>) -> Vec<Link> {
    let reply = |i: u32| (options.workload == Workload::Rr).then(|| plan.topic(&format!("reply/{i}")).into());
    let publisher = |i: u32| plan.link(&format!("pub-{i}"), reply(i), false);
    let subscriber = |i: u32| plan.link(&format!("sub-{i}"), Some(plan.subscribe_filter(i)), false);
    (0..options.publishers).map(publisher).chain((0..options.subscribers).map(subscriber)).collect()
}

impl<'a> Traffic<'a> {
    fn new(options: &'a Options, plan: &Plan<'_>, control: Arc<Control>) -> Result<Self, Cut> {
        let fleet = Fleet::new(options, links(options, plan), control)?;
        let listeners = listeners(options);
        let trackers = listeners.iter().map(|listener| match listener {
            Listener::Publishers { count, .. } => *count as usize,
            _ => 0,
        });
        let is_rr = options.workload == Workload::Rr;
        let reply = |i: u32| plan.topic(&format!("reply/{i}")).into_boxed_str();
        let books = Books {
            run: plan.run,
            trackers: vec![Tracker::default(); trackers.sum()],
            listeners,
            reply_topics: if is_rr { (0..options.publishers).map(reply).collect() } else { Vec::new() },
            shape: plan.shape(),
            under_way: vec![0; options.publishers as usize],
            counts: Counts::default(),
            latency: Histogram::default(),
            acknowledgement: Histogram::default(),
            received_at: 0,
            acknowledged_at: 0,
            pongs: 0,
            has_clock: fleet.target().is_loopback(),
        };
        let publisher = |i: u32| Publisher::new(&plan.shape(), &plan.publish_topic(i));
        let pacer = Pacer::new(options, (0..options.publishers).map(publisher).collect(), fan(options));
        Ok(Self {
            options,
            fleet,
            books,
            pacer,
            before: Moment { at: 0, cpu: 0, broker: None },
            counts_before: Counts::default(),
            sent_before: 0,
            sent_until: 0,
            is_stopped: false,
        })
    }

    /// Everything between the connections and the report.
    fn drive(&mut self) -> Result<(), Cut> {
        clock::wake_on_time();
        let start = clock::now();
        self.pacer.start(start);
        self.begin_measurement();
        let measure_from = start + self.options.warmup;
        let publish_until = measure_from + self.options.duration;
        let mut stage = if self.options.warmup > 0 { Stage::WarmingUp } else { Stage::Measuring };
        while stage != Stage::Draining {
            self.check()?;
            let at = clock::now();
            if stage == Stage::WarmingUp && at >= measure_from {
                self.begin_measurement();
                stage = Stage::Measuring;
            }
            let pace = self.publish(at);
            let is_counted = self.options.count > 0 && self.options.workload != Workload::Sub;
            if self.is_stopped
                || pace == Pace::Done
                || (!is_counted && at >= publish_until)
                || self.fleet.tally.ready == 0
            {
                stage = Stage::Draining;
                continue;
            }
            let boundary = if stage == Stage::WarmingUp { measure_from } else { publish_until };
            let patience = match pace {
                Pace::AtOnce => 0,
                Pace::In(time) => time.min(WAIT_MAX),
                Pace::Blocked | Pace::Done => WAIT_MAX,
            };
            self.turn(if is_counted { patience } else { patience.min(boundary.saturating_sub(at)) })?;
        }
        if stage == Stage::Draining && self.before.at < measure_from {
            // It ended before the warm-up was over: then all of it is measured.
            self.before.at = self.before.at.max(start);
        }
        self.drain()
    }

    fn begin_measurement(&mut self) {
        self.before = Moment::now(self.options);
        self.counts_before = self.books.counts;
        self.sent_before = self.pacer.sent;
        self.books.latency.clear();
        self.books.acknowledgement.clear();
        self.pacer.lag.clear();
    }

    #[inline]
    fn publish(&mut self, at: Nanos) -> Pace {
        if self.pacer.publishers.is_empty() {
            return Pace::Blocked;
        }
        self.pacer.publish(&mut self.fleet, &mut self.books, at)
    }

    /// Being stopped ends the publishing, not the report.
    fn check(&mut self) -> Result<(), Cut> {
        match self.fleet.check() {
            Err(Cut::Stopped) => {
                self.is_stopped = true;
                Ok(())
            }
            other => other,
        }
    }

    #[inline]
    fn turn(&mut self, timeout: Nanos) -> Result<(), Cut> {
        let (reads, bytes) = (self.fleet.tally.reads, self.fleet.tally.read_bytes);
        self.fleet.turn(timeout, &mut self.books)?;
        let (reads, bytes) = (self.fleet.tally.reads - reads, self.fleet.tally.read_bytes - bytes);
        self.fleet.control.show(self.fleet.tally.ready, self.pacer.sent, self.books.counts.received);
        if reads > 0 && bytes / reads < SMALL_READ && self.may_pause() {
            self.fleet.flush();
            std::thread::sleep(std::time::Duration::from_nanos(self.options.coalesce));
        }
        Ok(())
    }

    /// Whether a pause that lets more come in at once costs nobody anything.
    fn may_pause(&self) -> bool {
        let options = self.options;
        let by_window = match options.qos {
            QoS::AtMostOnce => u64::MAX,
            _ => u64::from(options.window) * u64::from(options.publishers) * self.fan(),
        };
        let by_loop = if options.outstanding == 0 { u64::MAX } else { options.outstanding };
        options.coalesce > 0
            && options.is_saturating()
            && options.publishers > 0
            && by_window.min(by_loop) >= PAUSE_FROM
    }

    fn fan(&self) -> u64 {
        fan(self.options)
    }

    /// Waits for what was published: deliveries, acknowledgements, and without both for the broker's answer to a ping.
    fn drain(&mut self) -> Result<(), Cut> {
        let mut moved = (0, clock::now());
        // Lone subscribers wait for nothing, and what others publish may never end.
        if self.options.workload == Workload::Sub {
            self.sent_until = moved.1;
            return Ok(());
        }
        self.ping();
        loop {
            self.fleet.turn(10 * MILLISECOND, &mut self.books)?;
            if let Err(Cut::MaxTime) = self.fleet.check() {
                return Err(Cut::MaxTime);
            }
            let at = clock::now();
            let counts = &self.books.counts;
            let unacknowledged: usize = self.fleet.links.iter().map(|link| link.client.unacknowledged()).sum();
            let backlog: usize = self.fleet.links.iter().map(Link::backlog).sum();
            if counts.received >= self.pacer.expected()
                && unacknowledged == 0
                && backlog == 0
                && self.books.pongs >= self.pings_wanted()
            {
                self.sent_until = at;
                return Ok(());
            }
            let progress = counts.received + counts.acknowledged + self.books.pongs;
            if progress != moved.0 {
                moved = (progress, at);
            } else if at > moved.1 + self.options.drain {
                self.sent_until = at;
                return Ok(());
            }
        }
    }

    /// A PINGRESP comes after everything before the PINGREQ was read: only then is a `QoS` 0 message "sent" for sure.
    fn ping(&mut self) {
        if self.options.workload != Workload::Pub {
            return;
        }
        let at = clock::now() / MILLISECOND;
        self.books.pongs = 0;
        for index in 0..self.fleet.links.len() {
            if let Some(link) = self.fleet.links.get_mut(index) {
                // One that is not connected has nothing to wait for.
                let _ = link.client.ping(at, &mut link.output);
            }
            self.fleet.mark_dirty(index);
        }
    }

    fn pings_wanted(&self) -> u64 {
        if self.options.workload != Workload::Pub {
            return 0;
        }
        self.fleet.links.iter().filter(|link| link.phase == Phase::Ready).count() as u64
    }

    fn report(&self, after: &Moment, ended: &Result<(), Cut>) -> Report {
        let mut report = Report::default();
        let (counts, options) = (&self.books.counts, self.options);
        let end = match ended {
            Err(Cut::MaxTime) => "max_time",
            _ if self.is_stopped => "stopped",
            _ => "completed",
        };
        report.text("ended", end);
        if end == "max_time" {
            report.problem("max_time was over before the run was");
        }
        let received = counts.received - self.counts_before.received;
        let sent = self.pacer.sent - self.sent_before;
        let last = self.books.received_at.max(self.before.at);
        let sent_until = if options.workload == Workload::Pub { self.sent_until } else { last };
        if options.publishers > 0 {
            report.integer("sent", sent);
            let published_for = if self.fan() > 0 { last } else { sent_until.max(self.before.at) } - self.before.at;
            report.rate("sent_per_s", sent, published_for);
        }
        if options.subscribers > 0 {
            report.integer("received", received);
            let until = if options.workload == Workload::Sub { self.sent_until.max(last) } else { last };
            report.seconds("measured_s", until - self.before.at);
            report.rate("received_per_s", received, until - self.before.at);
            report.optional("latency_us", self.books.latency.summary());
        } else {
            report.seconds("measured_s", sent_until.saturating_sub(self.before.at));
        }
        if options.qos > QoS::AtMostOnce && options.publishers > 0 {
            report.optional("acknowledgement_us", self.books.acknowledgement.summary());
        }
        if options.rate > 0.0 {
            report.optional("schedule_lag_us", self.pacer.lag.summary());
        }
        let messages = if options.subscribers > 0 { received } else { sent };
        report_cost(&mut report, &self.before, after, messages, PER_MESSAGE);
        self.report_checks(&mut report);
        report
    }

    /// What should not have happened. These count from the first message, warm-up included.
    fn report_checks(&self, report: &mut Report) {
        let (counts, options) = (&self.books.counts, self.options);
        if options.subscribers > 0 && options.workload != Workload::Sub {
            let missing = self.pacer.expected().saturating_sub(counts.received);
            report.should_be_none("missing", missing, "messages did not arrive");
            report.should_be_none("out_of_order", counts.late, "messages came after a later one");
            // At QoS 1 a message may come more than once (MQTT 5 §4.3.2).
            if options.qos == QoS::AtLeastOnce {
                report.integer("duplicates", counts.duplicates);
            } else {
                report.should_be_none("duplicates", counts.duplicates, "messages came more than once");
            }
            report.should_be_none("foreign", counts.foreign, "messages came that are not for this client");
        }
        if options.workload == Workload::Rr {
            report.should_be_none(
                "unanswered",
                counts.unanswered,
                "requests could not be answered: the window was full",
            );
        }
        if options.qos > QoS::AtMostOnce && options.publishers > 0 {
            let unacknowledged: usize = self.fleet.links.iter().map(|link| link.client.unacknowledged()).sum();
            report.should_be_none("unacknowledged", unacknowledged as u64, "messages were not acknowledged");
            report.should_be_none("refused", counts.refused, "messages were refused by the broker");
        }
        report.integer("dup_flags", counts.dup_flags);
        report.integer("stalls", self.pacer.stalls);
        report.should_be_none("connections_lost", self.fleet.tally.lost, "connections were lost");
        if let Some(reason) = &self.fleet.tally.first_loss {
            report.problem(format!("the first connection lost was that of {reason}"));
        }
    }
}

/// Deliveries that one published message causes.
fn fan(options: &Options) -> u64 {
    match options.workload {
        Workload::Pub | Workload::Sub => 0,
        Workload::FanIn | Workload::FanOut if !options.share => u64::from(options.subscribers),
        _ => 1,
    }
}
