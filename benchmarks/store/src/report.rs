//! The table of results, as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::candidates::Candidate;
use crate::cells::Cell;
use crate::crash::{Kills, Torn};
use crate::store::{Durability, Result};

/// The cell that leaves a store behind for [`REOPENED`].
pub const MILLION: &str = "million";
/// The second half of [`MILLION`].
pub const REOPENED: &str = "million-reopened";

const fn offline(batch: usize, durability: Durability, rounds: u64) -> Cell {
    Cell::Offline { batch, durability, rounds }
}

const fn transit(batch: usize, messages: u64, durability: Durability) -> Cell {
    Cell::Transit { batch, messages, durability }
}

/// All measured cells by name.
pub const CELLS: &[(&str, Cell)] = &[
    ("offline-1", offline(1, Durability::Kernel, 10)),
    ("offline-16", offline(16, Durability::Kernel, 10)),
    ("offline-128", offline(128, Durability::Kernel, 10)),
    ("offline-128-fsync", offline(128, Durability::Disk, 1)),
    ("transit-16", transit(16, 320_000, Durability::Kernel)),
    ("transit-128", transit(128, 320_000, Durability::Kernel)),
    ("transit-16-fsync", transit(16, 16_000, Durability::Disk)),
    ("fan-out", Cell::FanOut),
    (MILLION, Cell::Million),
    (REOPENED, Cell::MillionReopened),
    ("metadata", Cell::Metadata),
];

/// How a figure is printed.
#[derive(Clone, Copy)]
enum Format {
    Digits(usize),
    Thousands,
    Mebibytes,
}

/// A line of the table: cell, its description on its first line, figure, what that is, how it is printed.
type Row = (&'static str, &'static str, &'static str, &'static str, Format);

const ROWS: &[Row] = &[
    ("offline-1", "offline, batches of 1", "enqueue_cpu", "enqueue, CPU µs/message", Format::Digits(2)),
    ("offline-1", "", "drain_cpu", "read and acknowledge, CPU µs/message", Format::Digits(2)),
    ("offline-1", "", "total_cpu", "both and closing, CPU µs/message", Format::Digits(2)),
    ("offline-1", "", "per_s", "messages/s through both", Format::Thousands),
    ("offline-16", "offline, batches of 16", "enqueue_cpu", "enqueue, CPU µs/message", Format::Digits(2)),
    ("offline-16", "", "drain_cpu", "read and acknowledge, CPU µs/message", Format::Digits(2)),
    ("offline-16", "", "total_cpu", "both and closing, CPU µs/message", Format::Digits(2)),
    ("offline-16", "", "per_s", "messages/s through both", Format::Thousands),
    ("offline-128", "offline, batches of 128", "enqueue_cpu", "enqueue, CPU µs/message", Format::Digits(2)),
    ("offline-128", "", "drain_cpu", "read and acknowledge, CPU µs/message", Format::Digits(2)),
    ("offline-128", "", "total_cpu", "both and closing, CPU µs/message", Format::Digits(2)),
    ("offline-128", "", "per_s", "messages/s through both", Format::Thousands),
    (
        "offline-128-fsync",
        "offline, batches of 128, fsync a batch",
        "enqueue_wall",
        "enqueue, µs/message",
        Format::Digits(1),
    ),
    ("offline-128-fsync", "", "drain_wall", "read and acknowledge, µs/message", Format::Digits(1)),
    ("transit-16", "transit, batches of 16", "cpu", "CPU µs/message", Format::Digits(2)),
    ("transit-16", "", "total_cpu", "with closing, CPU µs/message", Format::Digits(2)),
    ("transit-16", "", "per_s", "messages/s", Format::Thousands),
    ("transit-16", "", "disk", "on disk at the end, MiB", Format::Mebibytes),
    ("transit-128", "transit, batches of 128", "cpu", "CPU µs/message", Format::Digits(2)),
    ("transit-128", "", "total_cpu", "with closing, CPU µs/message", Format::Digits(2)),
    ("transit-128", "", "per_s", "messages/s", Format::Thousands),
    ("transit-16-fsync", "transit, batches of 16, fsync a batch", "wall", "µs/message", Format::Digits(1)),
    ("fan-out", "20 bodies for 10,000 queues", "enqueue_cpu", "enqueue, CPU µs/entry", Format::Digits(3)),
    ("fan-out", "", "enqueue_wall", "enqueue, ms/body", Format::Digits(2)),
    ("fan-out", "", "drain_cpu", "read and acknowledge, CPU µs/entry", Format::Digits(2)),
    ("fan-out", "", "disk", "on disk when all wait, MiB", Format::Mebibytes),
    (MILLION, "1,000,000 messages wait", "enqueue_cpu", "enqueue, CPU µs/message", Format::Digits(2)),
    (MILLION, "", "disk", "on disk, MiB", Format::Mebibytes),
    (MILLION, "", "rss", "resident, MiB", Format::Mebibytes),
    (MILLION, "", "rss_anonymous", "of it not pages of files, MiB", Format::Mebibytes),
    (REOPENED, "the same, reopened after a crash", "open", "open, ms", Format::Digits(0)),
    (REOPENED, "", "load", "then see each entry once, ms", Format::Digits(0)),
    (REOPENED, "", "open_cpu", "CPU ms of both", Format::Digits(0)),
    (REOPENED, "", "reopened_rss", "resident, MiB", Format::Mebibytes),
    (REOPENED, "", "reopened_rss_anonymous", "of it not pages of files, MiB", Format::Mebibytes),
    (REOPENED, "", "drain_cpu", "read and acknowledge all, CPU µs/message", Format::Digits(2)),
    (REOPENED, "", "disk_after", "on disk when empty and closed, MiB", Format::Mebibytes),
    ("metadata", "metadata", "put_cpu", "40,000 puts, batches of 100, CPU µs/key", Format::Digits(2)),
    ("metadata", "", "get_cpu", "40,000 gets, CPU µs/key", Format::Digits(2)),
    ("metadata", "", "scan_cpu", "scan of 100,000, CPU µs/key", Format::Digits(2)),
];

/// A line of the table of crashes: what it counts, and where that stands.
type Line<T> = (&'static str, fn(&T) -> usize);

/// What a crash test found.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of the process.
    Kills(Kills),
    /// Of the newest file.
    Torn(Torn),
}

/// All results of a run.
pub struct Report {
    candidates: Vec<Candidate>,
    head: String,
    figures: BTreeMap<(&'static str, &'static str, String), Vec<f64>>,
    outcomes: BTreeMap<(&'static str, &'static str), Outcome>,
}

impl Report {
    /// An empty one. `directory` is where the stores are.
    pub fn new(candidates: &[Candidate], repetitions: usize, directory: &Path) -> Result<Self> {
        let versions: Vec<String> =
            candidates.iter().flat_map(|candidate| candidate.packages()).map(|name| version_of(name)).collect();
        let head = format!(
            "# Stores beside each other\n\n{}, {}. {}, `cargo run --release -- run`: medians of {repetitions}, lowest \
             and highest in brackets.\n\n\
             A message is a topic of 16 bytes and a payload of 100, in the fan-out of 1,000. Except where it says fsync, a \
             call comes back when the kernel has what it wrote. CPU is user and system time of the whole process, threads \
             of the candidate included; `none` is queues in memory, so its figures are what the benchmark itself costs. \
             `log` is our own.\n",
            machine(directory)?,
            versions.join(", "),
            today(),
        );
        let (figures, outcomes) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { candidates: candidates.to_vec(), head, figures, outcomes })
    }

    /// Adds a figure.
    pub fn measured(&mut self, cell: &'static str, candidate: Candidate, name: &str, value: f64) {
        self.figures.entry((cell, candidate.name(), name.to_owned())).or_default().push(value);
    }

    /// Adds the outcome of a crash test.
    pub fn crashed(&mut self, cell: &'static str, candidate: Candidate, outcome: Outcome) {
        self.outcomes.insert((cell, candidate.name()), outcome);
    }

    /// The whole page.
    pub fn markdown(&self) -> String {
        let mut text = self.head.clone();
        let names: Vec<&str> = self.candidates.iter().map(|candidate| candidate.name()).collect();
        let _ =
            write!(text, "\n| workload | figure | {} |\n|---|---|{}\n", names.join(" | "), "---:|".repeat(names.len()));
        for (cell, title, figure, label, format) in ROWS {
            let values: Vec<String> = names.iter().map(|name| self.cell(cell, name, figure, *format)).collect();
            if values.iter().any(|value| value != "-") {
                let _ = writeln!(text, "| {title} | {label} | {} |", values.join(" | "));
            }
        }
        if !self.outcomes.is_empty() {
            self.crashes(&mut text, &names[..]);
        }
        text
    }

    fn cell(&self, cell: &'static str, name: &'static str, figure: &str, format: Format) -> String {
        let Some(values) = self.figures.get(&(cell, name, figure.to_owned())) else { return "-".to_owned() };
        let mut values = values.clone();
        values.sort_by(f64::total_cmp);
        let (lowest, median, highest) = (values[0], values[values.len() / 2], values[values.len() - 1]);
        let print = |value| print_number(value, format);
        let (median, lowest, highest) = (print(median), print(lowest), print(highest));
        if lowest == highest { median } else { format!("{median} [{lowest} to {highest}]") }
    }

    fn crashes(&self, text: &mut String, names: &[&'static str]) {
        text.push_str(
            "\n## Crashes\n\n`kill`: a process that enqueues, acknowledges and puts is killed 20 times, at random moments, \
             each time on the store of the last one. `cut` and `zeros`: a store with 20,000 messages loses the end of its \
             newest file from a random byte on, 20 times; the file ends there, or has zeros from there.\n\n",
        );
        let names: Vec<_> = names.iter().filter(|name| self.outcomes.keys().any(|(_, known)| known == *name)).collect();
        let titles: Vec<&str> = names.iter().map(|name| **name).collect();
        let _ = write!(text, "| test | outcome | {} |\n|---|---|{}\n", titles.join(" | "), "---:|".repeat(names.len()));
        let kills: [Line<Kills>; 4] = [
            ("calls that had returned", |kills| kills.calls as usize),
            ("entries and keys lost, or back again", |kills| kills.wrong),
            ("kills that left half of the call under way", |kills| kills.partial),
            ("stores that did not open", |kills| kills.refused),
        ];
        for (label, print) in kills {
            let values = names.iter().map(|name| match self.outcomes.get(&("kill", **name)) {
                Some(Outcome::Kills(kills)) => print(kills).to_string(),
                _ => "-".to_owned(),
            });
            let _ = writeln!(text, "| kill | {label} | {} |", values.collect::<Vec<_>>().join(" | "));
        }
        let torn: [Line<Torn>; 5] = [
            ("opened with a prefix", |torn| torn.prefix),
            ("opened empty, without a word", |torn| torn.empty),
            ("opened with gaps", |torn| torn.gaps),
            ("refused with an error", |torn| torn.refused),
            ("process died, or did not end", |torn| torn.died),
        ];
        for test in ["cut", "zeros"] {
            for (label, print) in torn {
                let values = names.iter().map(|name| match self.outcomes.get(&(test, **name)) {
                    Some(Outcome::Torn(torn)) => print(torn).to_string(),
                    _ => "-".to_owned(),
                });
                let _ = writeln!(text, "| {test} | {label} | {} |", values.collect::<Vec<_>>().join(" | "));
            }
        }
        text.push('\n');
        for ((test, name), outcome) in &self.outcomes {
            match outcome {
                Outcome::Kills(Kills { reason: Some(reason), .. }) => {
                    let _ = writeln!(text, "- {name}, {test}: {reason}.");
                }
                Outcome::Torn(Torn { notes, .. }) => {
                    let _ = writeln!(text, "- {name}, {test}: {}.", notes.join("; "));
                }
                Outcome::Kills(_) => {}
            }
        }
    }
}

fn print_number(value: f64, format: Format) -> String {
    match format {
        Format::Digits(digits) => format!("{value:.digits$}"),
        Format::Mebibytes => format!("{:.1}", value / f64::from(1 << 20)),
        Format::Thousands => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}

/// Name and version of a package, from this program's lock file.
fn version_of(package: &str) -> String {
    let mut lines = include_str!("../Cargo.lock").lines();
    let name = format!("name = \"{package}\"");
    let version = lines.find(|line| *line == name).and_then(|_| lines.next());
    let version = version.and_then(|line| line.strip_prefix("version = ")).unwrap_or("").trim_matches('"');
    format!("{package} {version}")
}

/// Processor, cores, memory, kernel and file system.
fn machine(directory: &Path) -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("?")
        .trim_start_matches(['\t', ':', ' ']);
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let kib: f64 = memory.split_whitespace().nth(1).unwrap_or("0").parse()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let directory = directory.canonicalize()?;
    let kind = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1).zip(line.split(' ').nth(2)))
        .filter(|(place, _)| directory.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map_or("?", |(_, kind)| kind);
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{model}, {cores} cores, {:.1} GiB, Linux {}, {kind}", kib / f64::from(1 << 20), kernel.trim()))
}

/// Today's date (UTC), by the calendar rule that counts from 1 March 0000.
fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400) + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}
