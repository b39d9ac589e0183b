//! What a stretch of a run cost: counts, CPU time of the generator and use of the broker, from one moment to another.

use super::clock::{self, Nanos};
use super::options::Options;
use super::process::{self, Usage};
use super::report::Report;

/// The state of affairs at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// When.
    pub at: Nanos,
    /// CPU time of the generator's thread.
    pub cpu: Nanos,
    /// What the broker has used; `None` without a process to look at.
    pub broker: Option<Usage>,
}

impl Moment {
    /// Now. Walks `/proc` when the broker's process is known, which takes about a millisecond.
    pub fn now(options: &Options) -> Self {
        let broker = options.pid.and_then(process::usage);
        Self { at: clock::now(), cpu: clock::thread_cpu(), broker }
    }

    /// CPU time of the generator and of the broker since `before`.
    pub fn cpu_since(&self, before: &Self) -> (Nanos, Option<Nanos>) {
        let broker = self.broker.zip(before.broker).map(|(now, then)| now.cpu.saturating_sub(then.cpu));
        (self.cpu.saturating_sub(before.cpu), broker)
    }

    /// Bytes of resident memory that the broker has now and did not have then.
    pub fn memory_since(&self, before: &Self) -> Option<u64> {
        self.broker.zip(before.broker).map(|(now, then)| now.resident.saturating_sub(then.resident))
    }
}

/// The names of what generator and broker spend on each message.
pub const PER_MESSAGE: [&str; 2] = ["generator_cpu_us_per_message", "broker_cpu_us_per_message"];
/// The names of what they spend on each connection.
pub const PER_CONNECTION: [&str; 2] = ["generator_cpu_us_per_connection", "broker_cpu_us_per_connection"];

/// Writes what `count` things cost each, from `before` to `after`.
pub fn report_cost(report: &mut Report, before: &Moment, after: &Moment, count: u64, names: [&'static str; 2]) {
    let (generator, broker) = after.cpu_since(before);
    let [generator_each, broker_each] = names;
    report.seconds("generator_cpu_s", generator);
    report.micros_each(generator_each, generator, count);
    if let Some(broker) = broker {
        report.seconds("broker_cpu_s", broker);
        report.micros_each(broker_each, broker, count);
    }
    if let Some(usage) = after.broker {
        report.integer("broker_rss_bytes", usage.resident);
    }
}
