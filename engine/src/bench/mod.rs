//! The load generator behind `strogoff bench`: makes traffic for a broker, any broker, and measures what becomes of it.
//!
//! It speaks the protocol with [`crate::protocol::client`] and knows nothing of the broker in this crate. A [`Run`] is one
//! thread with one event loop, which owns all clients; its owner watches counters and takes the report at the end.
//!
//! * `options.rs`: what can be asked for; `plan.rs`: what clients that makes
//! * `fleet.rs`, `link.rs`, `target.rs`: the clients and their sockets
//! * `traffic.rs`: the workloads that publish for a while, with `publisher.rs` and `pacer.rs` (what goes out) and `books.rs`
//!   (what comes in)
//! * `storm.rs`, `offline.rs`, `retained.rs` (with `store.rs`): the other workloads
//! * `stamp.rs`, `tracker.rs`: what a payload says, and which messages have come
//! * `clock.rs`, `histogram.rs`, `process.rs`, `figures.rs`, `report.rs`: measuring
//! * `control.rs`: what the thread and its owner share
//!
//! What a run holds in memory depends on its options alone, which have limits, and it ends at `max_time` at the latest.
//! For a message nothing is allocated and no clock is read; a clock is read for each read and each batch of publishes.

mod books;
mod clock;
mod control;
mod figures;
mod fleet;
mod histogram;
mod layers;
mod link;
mod offline;
mod options;
mod pacer;
mod plan;
mod process;
mod publisher;
mod report;
mod retained;
mod stamp;
mod store;
mod storm;
mod target;
mod tracker;
mod traffic;

#[cfg(test)]
mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

pub use control::{Control, Progress};
pub use options::{Given, OptionError, Options, Workload};
pub use report::Value;

use fleet::Cut;
use report::Report;

/// A run that is under way or over.
#[derive(Debug)]
pub struct Run {
    control: Arc<Control>,
}

impl Run {
    /// Starts the generator's thread.
    pub fn start(options: Options) -> io::Result<Self> {
        let control = Arc::new(Control::default());
        let shared = Arc::clone(&control);
        std::thread::Builder::new().name("bench".into()).spawn(move || {
            // An owner that waits must hear of the end whatever happens.
            let ran = catch_unwind(AssertUnwindSafe(|| run(&options, &shared)));
            let result = ran.unwrap_or_else(|_| failure(&options, "the generator has a defect: its thread panicked"));
            shared.finish(result);
        })?;
        Ok(Self { control })
    }

    /// The counters so far.
    pub fn progress(&self) -> Progress {
        self.control.progress()
    }

    /// What can be waited on without holding the run.
    pub fn handle(&self) -> Arc<Control> {
        Arc::clone(&self.control)
    }

    /// Ends the run early.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// The report of a run that has ended. A run that could not do its work has an `error` in it.
    pub fn report(&self) -> Option<Value> {
        self.control.result()
    }
}

impl Drop for Run {
    /// Nobody is left to read the report.
    fn drop(&mut self) {
        self.control.stop();
    }
}

fn run(options: &Options, control: &Arc<Control>) -> Value {
    if let Some(pid) = options.pid.filter(|pid| !process::exists(*pid)) {
        return failure(options, &format!("pid: there is no process {pid}"));
    }
    let control = Arc::clone(control);
    let outcome = match options.workload {
        Workload::Conn => storm::run(options, control),
        Workload::Offline => offline::run(options, control),
        Workload::Retained => retained::run(options, control),
        _ => traffic::run(options, control),
    };
    match outcome {
        Ok(report) => complete(options, report),
        Err(Cut::Failed(reason)) => failure(options, &reason),
        Err(cut @ (Cut::Stopped | Cut::MaxTime)) => {
            let mut report = Report::default();
            let ended = ended(&Err(cut));
            report.text("ended", ended);
            report.problem(format!("the run ended before there was anything to measure ({ended})"));
            complete(options, report)
        }
    }
}

/// How a run ended, as the report says it.
fn ended(outcome: &Result<(), Cut>) -> &'static str {
    match outcome {
        Ok(()) => "completed",
        Err(Cut::Stopped) => "stopped",
        Err(Cut::MaxTime) => "max_time",
        Err(Cut::Failed(_)) => "failed",
    }
}

/// A report with what was asked for in front.
fn complete(options: &Options, report: Report) -> Value {
    let mut entries = asked(options);
    if let Value::Map(found) = report.finish() {
        entries.extend(found);
    }
    Value::Map(entries)
}

fn failure(options: &Options, reason: &str) -> Value {
    let mut entries = asked(options);
    entries.push(("ok", Value::Flag(false)));
    entries.push(("error", Value::Text(reason.into())));
    Value::Map(entries)
}

fn asked(options: &Options) -> Vec<(&'static str, Value)> {
    vec![
        ("workload", Value::Text(options.workload.name().into())),
        ("version", Value::Integer(options.version as u64)),
        ("qos", Value::Integer(options.qos as u64)),
        ("size", Value::Integer(options.size as u64)),
        ("publishers", Value::Integer(options.publishers.into())),
        ("subscribers", Value::Integer(options.subscribers.into())),
    ]
}
