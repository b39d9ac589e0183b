//! What is left after a crash: of the process at any moment, and of a file at any byte.
//!
//! The process that is killed says on its standard output what it is about to do, and after the call what it has done. So
//! the one that kills it knows what has to be there, and which single call may have happened or not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bodies::{Bodies, Random, SMALL, number_of};
use crate::candidates::Candidate;
use crate::measure::{end_within, vanish};
use crate::store::{Durability, Publish, Result, Sessions, Store};

const QUEUES: u32 = 50;
const BATCH: usize = 16;
const KEYS: u64 = 500;
const KEYS_BATCH: u64 = 10;
/// Every so many calls a message goes to all queues, or metadata is written.
const SHARED_EVERY: u64 = 10;
const METADATA_EVERY: u64 = 5;
const KILLS: usize = 20;
const KILL_WITHIN_MS: u64 = 400;
const TRIALS: usize = 20;
const TORN_MESSAGES: u64 = 20_000;
/// Longest time for reading a store. A damaged tree may have no end.
const READ_WITHIN_S: u32 = 30;

/// One call, as it is written into the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Operation {
    /// `count` messages from `first` on, message n to queue n modulo the number of queues.
    Enqueue { first: u64, count: u64 },
    /// One message to all queues.
    Share { number: u64 },
    /// The first entries of a queue end.
    Acknowledge { queue: u32, numbers: Vec<u64> },
    /// `version` becomes the value of some keys.
    Put { version: u64 },
}

impl Operation {
    fn line(&self) -> String {
        match self {
            Self::Enqueue { first, count } => format!("enqueue {first} {count}"),
            Self::Share { number } => format!("share {number}"),
            Self::Acknowledge { queue, numbers } => {
                numbers.iter().fold(format!("acknowledge {queue}"), |mut line, number| {
                    let _ = write!(line, " {number}");
                    line
                })
            }
            Self::Put { version } => format!("put {version}"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        match (kind, &numbers[..]) {
            ("enqueue", &[first, count]) => Some(Self::Enqueue { first, count }),
            ("share", &[number]) => Some(Self::Share { number }),
            ("acknowledge", [queue, numbers @ ..]) => {
                Some(Self::Acknowledge { queue: *queue as u32, numbers: numbers.to_vec() })
            }
            ("put", &[version]) => Some(Self::Put { version }),
            _ => None,
        }
    }
}

fn keys_of(version: u64) -> impl Iterator<Item = String> {
    (0..KEYS_BATCH).map(move |number| format!("k/{:05}", (version * KEYS_BATCH + number) % KEYS))
}

/// What a store should hold, or holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Contents {
    queues: BTreeMap<u32, VecDeque<u64>>,
    metadata: BTreeMap<String, u64>,
}

impl Contents {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Enqueue { first, count } => {
                for number in *first..first + count {
                    self.queues.entry((number % u64::from(QUEUES)) as u32).or_default().push_back(number);
                }
            }
            Operation::Share { number } => {
                for queue in 0..QUEUES {
                    self.queues.entry(queue).or_default().push_back(*number);
                }
            }
            Operation::Acknowledge { queue, numbers } => {
                self.queues.entry(*queue).or_default().retain(|number| !numbers.contains(number));
            }
            Operation::Put { version } => self.metadata.extend(keys_of(*version).map(|key| (key, *version))),
        }
    }

    /// Every single entry and key.
    fn parts(&self) -> BTreeSet<(String, u64)> {
        let entries =
            self.queues.iter().flat_map(|(queue, numbers)| numbers.iter().map(move |n| (queue.to_string(), *n)));
        let keys = self.metadata.iter().map(|(key, version)| (key.clone(), *version));
        entries.chain(keys).collect()
    }
}

/// The process that gets killed: writes into `directory` for ever, from message `first` on.
pub fn write_for_ever<S: Store>(directory: &Path, first: u64) -> Result<()> {
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    store.prepare(QUEUES, Sessions::Away)?;
    let bodies = Bodies::default();
    let all: Vec<u32> = (0..QUEUES).collect();
    let say = |text: &str| -> Result<()> {
        let mut output = std::io::stdout().lock();
        output.write_all(text.as_bytes())?;
        Ok(output.flush()?)
    };
    say("ready\n")?;
    let mut number = first;
    for call in 0_u64.. {
        let mut arena = [[0; SMALL]; BATCH];
        let is_shared = call % SHARED_EVERY == 0;
        let count = if is_shared { 1 } else { BATCH };
        let mut publishes = Vec::with_capacity(BATCH);
        for (number, body) in (number..).zip(&mut arena[..count]) {
            bodies.fill(number, body);
            let queue = (number % u64::from(QUEUES)) as usize;
            publishes.push(Publish { body, queues: if is_shared { &all } else { &all[queue..=queue] } });
        }
        let operation = if is_shared {
            Operation::Share { number }
        } else {
            Operation::Enqueue { first: number, count: count as u64 }
        };
        say(&format!("? {}\n", operation.line()))?;
        store.enqueue(&publishes, &mut Vec::new())?;
        say("!\n")?;
        number += count as u64;

        let queue = (call % u64::from(QUEUES)) as u32;
        let (mut entries, mut numbers) = (Vec::new(), Vec::new());
        store.read(queue, 0, BATCH, &mut |position, body| {
            entries.push((queue, position));
            numbers.push(number_of(body));
        })?;
        say(&format!("? {}\n", Operation::Acknowledge { queue, numbers }.line()))?;
        store.acknowledge(&entries)?;
        say("!\n")?;

        if call % METADATA_EVERY == 0 {
            let version = number;
            say(&format!("? {}\n", Operation::Put { version }.line()))?;
            let keys: Vec<String> = keys_of(version).collect();
            let value = version.to_string();
            let batch: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_bytes(), value.as_bytes())).collect();
            store.put(&batch)?;
            say("!\n")?;
        }
    }
    Ok(())
}

/// Prints all that a store holds.
pub fn dump<S: Store>(directory: &Path) -> Result<()> {
    end_within(READ_WITHIN_S);
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    store.prepare(QUEUES, Sessions::Away)?;
    let bodies = Bodies::default();
    let mut text = String::new();
    for queue in 0..QUEUES {
        let mut broken = 0;
        let _ = write!(text, "queue {queue}");
        store.read(queue, 0, usize::MAX, &mut |_, body| {
            broken += u32::from(!bodies.is_whole(body));
            let _ = write!(text, " {}", number_of(body));
        })?;
        text.push('\n');
        if broken > 0 {
            return Err(format!("queue {queue} has {broken} messages with other bytes than were written").into());
        }
    }
    store.scan(b"k/", &mut |key, value| {
        let _ = writeln!(text, "key {} {}", String::from_utf8_lossy(key), String::from_utf8_lossy(value));
    })?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    store.close()
}

/// Fills a store with messages that nobody acknowledges, and vanishes.
pub fn write_and_vanish<S: Store>(directory: &Path) -> Result<()> {
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    store.prepare(QUEUES, Sessions::Away)?;
    let bodies = Bodies::default();
    let names: Vec<u32> = (0..QUEUES).collect();
    for first in (0..TORN_MESSAGES).step_by(BATCH) {
        let mut arena = [[0; SMALL]; BATCH];
        let mut publishes = Vec::with_capacity(BATCH);
        for (number, body) in (first..).zip(&mut arena) {
            bodies.fill(number, body);
            let queue = (number % u64::from(QUEUES)) as usize;
            publishes.push(Publish { body, queues: &names[queue..=queue] });
        }
        store.enqueue(&publishes, &mut Vec::new())?;
    }
    vanish()
}

/// How an attempt to open a store and read everything ended.
enum Reading {
    Read(Contents),
    Refused(String),
}

/// Opens a store in a process of its own, since that may die of it.
fn read_all(candidate: Candidate, directory: &Path) -> Result<Reading> {
    let output = Command::new(std::env::current_exe()?).args(["dump", candidate.name()]).arg(directory).output()?;
    if let Some(signal) = output.status.signal() {
        return Ok(Reading::Refused(format!("the process died of signal {signal}")));
    }
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Ok(Reading::Refused(text.lines().find(|line| !line.is_empty()).unwrap_or("no reason").to_owned()));
    }
    let mut contents = Contents::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match &words[..] {
            ["queue", queue, numbers @ ..] if !numbers.is_empty() => {
                let numbers = numbers.iter().map(|number| number.parse()).collect::<std::result::Result<_, _>>()?;
                contents.queues.insert(queue.parse()?, numbers);
            }
            ["key", key, version] => {
                contents.metadata.insert((*key).to_owned(), version.parse()?);
            }
            _ => {}
        }
    }
    Ok(Reading::Read(contents))
}

/// What 20 kills did.
#[derive(Clone, Debug, Default)]
pub struct Kills {
    /// Calls that had returned, over all kills.
    pub calls: u64,
    /// Entries and keys that were promised and missing, or ended and back.
    pub wrong: usize,
    /// Kills in which the call that was under way had happened in part.
    pub partial: usize,
    /// Kills after which the store could not be read.
    pub refused: usize,
    /// The first thing that went wrong.
    pub reason: Option<String>,
}

/// Kills a writer 20 times, each time on what the last one left.
pub fn kill_writers(candidate: Candidate, directory: &Path) -> Result<Kills> {
    let mut random = Random::new(11);
    let mut kills = Kills::default();
    let mut contents = Contents::default();
    let mut next = 1;
    for _ in 0..KILLS {
        let ledger =
            write_until_killed(candidate, directory, next, Duration::from_millis(random.below(KILL_WITHIN_MS)))?;
        let mut pending = None;
        for line in ledger.lines() {
            if line == "!" {
                if let Some(operation) = pending.take() {
                    contents.apply(&operation);
                    kills.calls += 1;
                }
            } else if let Some(operation) = line.strip_prefix("? ").and_then(Operation::parse) {
                if let Operation::Enqueue { first: number, .. } | Operation::Share { number } = operation {
                    next = number + BATCH as u64;
                }
                pending = Some(operation);
            }
        }
        let found = match read_all(candidate, directory)? {
            Reading::Read(found) => found,
            Reading::Refused(reason) => {
                kills.refused += 1;
                kills.reason.get_or_insert(reason);
                return Ok(kills);
            }
        };
        contents.queues.retain(|_, numbers| !numbers.is_empty());
        let mut after = contents.clone();
        if let Some(operation) = &pending {
            after.apply(operation);
            after.queues.retain(|_, numbers| !numbers.is_empty());
        }
        if found != contents && found != after {
            judge(&mut kills, &contents, &after, &found);
        }
        contents = found;
    }
    Ok(kills)
}

/// Counts what is neither as before the call that was under way nor as after it.
fn judge(kills: &mut Kills, before: &Contents, after: &Contents, found: &Contents) {
    let (before, after, found) = (before.parts(), after.parts(), found.parts());
    let promised: BTreeSet<_> = before.intersection(&after).cloned().collect();
    let possible: BTreeSet<_> = before.union(&after).cloned().collect();
    let missing = promised.difference(&found).count();
    let foreign = found.difference(&possible).count();
    if missing + foreign == 0 {
        kills.partial += 1;
    } else {
        kills.wrong += missing + foreign;
        kills.reason.get_or_insert(format!("{missing} missing, {foreign} that should not be there"));
    }
}

/// Starts a writer, kills it some time after it was ready, and gives back its ledger.
fn write_until_killed(candidate: Candidate, directory: &Path, first: u64, after: Duration) -> Result<String> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["write", candidate.name()])
        .arg(directory)
        .arg(first.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
    let mut ready = String::new();
    output.read_line(&mut ready)?;
    if ready != "ready\n" {
        return Err(format!("{}: the writer did not start", candidate.name()).into());
    }
    // The pipe is small, so it is emptied while the writer runs.
    let reader = std::thread::spawn(move || {
        let mut ledger = Vec::new();
        output.read_to_end(&mut ledger).map(|_| ledger)
    });
    std::thread::sleep(after);
    child.kill()?;
    child.wait()?;
    let ledger = reader.join().map_err(|_| "the ledger's reader panicked")??;
    // A line that was cut off by the kill says nothing.
    let text = String::from_utf8_lossy(&ledger).into_owned();
    Ok(text.rfind('\n').map_or(String::new(), |end| text[..=end].to_owned()))
}

/// How the end of the newest file is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// The file ends there.
    Cut,
    /// From there on it has zeros, as a preallocated file has after a power loss.
    Zeros,
}

/// What became of stores whose newest file had lost its end.
#[derive(Clone, Debug, Default)]
pub struct Torn {
    /// Opened with the messages up to some moment.
    pub prefix: usize,
    /// Opened without any message, and without a word.
    pub empty: usize,
    /// Opened with gaps.
    pub gaps: usize,
    /// Did not open, or not to the end, and said so.
    pub refused: usize,
    /// The process died, or did not come to an end.
    pub died: usize,
    /// The file that was torn, and the first reason for a refusal.
    pub notes: Vec<String>,
}

/// Tears the newest file of a store at 20 random bytes.
pub fn tear_files(candidate: Candidate, directory: &Path, tear: Tear) -> Result<Torn> {
    let original = directory.join("original");
    fs::create_dir(&original)?;
    let status =
        Command::new(std::env::current_exe()?).args(["write-and-vanish", candidate.name()]).arg(&original).status()?;
    if !status.success() {
        return Err(format!("{}: nothing was written", candidate.name()).into());
    }
    let (newest, length) = newest_file(&original)?.ok_or("the store has no file")?;
    let name = newest.strip_prefix(&original)?.to_owned();
    let mut torn = Torn { notes: vec![name.display().to_string()], ..Torn::default() };
    let mut random = Random::new(13);
    let mut has_reason = false;
    for _ in 0..TRIALS {
        let trial = directory.join("trial");
        copy_directory(&original, &trial)?;
        let file = File::options().write(true).open(trial.join(&name))?;
        let size = file.metadata()?.len();
        file.set_len(random.below(length))?;
        if tear == Tear::Zeros {
            file.set_len(size)?;
        }
        drop(file);
        let reason = match read_all(candidate, &trial)? {
            Reading::Read(contents) => {
                let numbers: BTreeSet<u64> = contents.queues.into_values().flatten().collect();
                match numbers.last() {
                    None => torn.empty += 1,
                    Some(last) if numbers.len() as u64 == last + 1 => torn.prefix += 1,
                    Some(_) => torn.gaps += 1,
                }
                None
            }
            Reading::Refused(reason) if reason.contains("signal") => {
                torn.died += 1;
                Some(reason)
            }
            Reading::Refused(reason) => {
                torn.refused += 1;
                Some(reason)
            }
        };
        if let (Some(reason), false) = (reason, has_reason) {
            torn.notes.push(reason);
            has_reason = true;
        }
        fs::remove_dir_all(&trial)?;
    }
    fs::remove_dir_all(&original)?;
    Ok(torn)
}

/// Files that hold no data.
const NO_DATA: [&str; 5] = ["lock.mdb", "LOCK", "LOG", "lock", "sqlite-shm"];

/// The file with data that was written last, and where its data ends.
fn newest_file(directory: &Path) -> Result<Option<(PathBuf, u64)>> {
    let mut newest = None;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                directories.push(entry.path());
                continue;
            }
            if NO_DATA.iter().any(|name| entry.file_name() == *name) {
                continue;
            }
            let length = data_length(&entry.path())?;
            let modified = metadata.modified()?;
            if length > 0 && newest.as_ref().is_none_or(|(time, _, _)| modified > *time) {
                newest = Some((modified, entry.path(), length));
            }
        }
    }
    Ok(newest.map(|(_, path, length)| (path, length)))
}

/// Where the last byte of a file is that is not zero.
fn data_length(path: &Path) -> Result<u64> {
    let file = File::open(path)?;
    let mut block = vec![0; 1 << 16];
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let block = &mut block[..(end - start) as usize];
        file.read_exact_at(block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_ledger_says_what_it_was_made_of() {
        let operations = [
            Operation::Enqueue { first: 3, count: 16 },
            Operation::Share { number: 19 },
            Operation::Acknowledge { queue: 4, numbers: vec![5, 7] },
            Operation::Acknowledge { queue: 4, numbers: Vec::new() },
            Operation::Put { version: 8 },
        ];
        for operation in operations {
            assert_eq!(Operation::parse(&operation.line()), Some(operation));
        }
    }

    fn contents(operations: &[Operation]) -> Contents {
        let mut contents = Contents::default();
        for operation in operations {
            contents.apply(operation);
        }
        contents
    }

    #[test]
    fn what_is_missing_and_what_is_back_again_counts_and_half_a_call_does_not() {
        let first = Operation::Enqueue { first: 0, count: 2 };
        let second = Operation::Enqueue { first: 2, count: 2 };
        let before = contents(std::slice::from_ref(&first));
        let after = contents(&[first.clone(), second]);

        let mut kills = Kills::default();
        judge(&mut kills, &before, &after, &contents(&[first, Operation::Enqueue { first: 2, count: 1 }]));
        assert_eq!((kills.wrong, kills.partial), (0, 1));

        judge(&mut kills, &before, &after, &contents(&[Operation::Enqueue { first: 1, count: 1 }]));
        assert_eq!((kills.wrong, kills.partial), (1, 1));

        judge(&mut kills, &before, &after, &contents(&[Operation::Enqueue { first: 0, count: 5 }]));
        assert_eq!((kills.wrong, kills.partial), (2, 1));
    }
}
