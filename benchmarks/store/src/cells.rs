//! The workloads. Each runs in a process of its own and yields named figures.

use std::collections::VecDeque;
use std::path::Path;

use crate::bodies::{Bodies, LARGE, Random, SMALL, number_of};
use crate::measure::{Spent, Stopwatch, on_disk, resident};
use crate::store::{Durability, Publish, Result, Sessions, Store};

/// One workload with its sizes.
#[derive(Clone, Copy, Debug)]
pub enum Cell {
    /// Messages for sessions that are away, a batch over many queues, then each queue drained.
    Offline {
        /// Messages a call.
        batch: usize,
        /// What a call waits for.
        durability: Durability,
        /// How often all queues are filled and drained.
        rounds: u64,
    },
    /// Each message is acknowledged soon after it came.
    Transit {
        /// Messages a call.
        batch: usize,
        /// Messages.
        messages: u64,
        /// What a call waits for.
        durability: Durability,
    },
    /// One body for very many queues.
    FanOut,
    /// A million messages that wait: their price in memory, on disk and at the next start.
    Million,
    /// The second half of that, in a new process after the first one has vanished.
    MillionReopened,
    /// Keys and values.
    Metadata,
}

/// Figures by name.
pub type Figures = Vec<(&'static str, f64)>;

const OFFLINE_SESSIONS: u32 = 100;
const OFFLINE_MESSAGES: u64 = 200;
const TRANSIT_QUEUES: u32 = 50;
/// Batches that are under way in transit.
const TRANSIT_WINDOW: usize = 4;
const FAN_OUT_QUEUES: u32 = 10_000;
const FAN_OUT_MESSAGES: u64 = 20;
const MILLION_QUEUES: u32 = 1_000;
const MILLION_MESSAGES: u64 = 1_000_000;
const MILLION_BATCH: usize = 128;
const METADATA_PUTS: u64 = 40_000;
const METADATA_KEYS: u64 = 100_000;
const METADATA_BATCH: usize = 100;
const METADATA_VALUE: usize = 200;

/// Runs a cell on a new store in `directory`.
pub fn run<S: Store>(cell: Cell, directory: &Path) -> Result<Figures> {
    match cell {
        Cell::Offline { batch, durability, rounds } => offline::<S>(directory, batch, durability, rounds),
        Cell::Transit { batch, messages, durability } => transit::<S>(directory, batch, messages, durability),
        Cell::FanOut => fan_out::<S>(directory),
        Cell::Million => million::<S>(directory),
        Cell::MillionReopened => million_reopened::<S>(directory),
        Cell::Metadata => metadata::<S>(directory),
    }
}

fn micros(spent: Spent, count: u64) -> (f64, f64) {
    (spent.cpu.as_secs_f64() * 1e6 / count as f64, spent.wall.as_secs_f64() * 1e6 / count as f64)
}

/// Appends messages `numbers`, message n to queue n modulo `queues`.
fn fill<S: Store>(store: &mut S, numbers: std::ops::Range<u64>, queues: u32, batch: usize) -> Result<()> {
    let bodies = Bodies::default();
    let names: Vec<u32> = (0..queues).collect();
    let mut arena = vec![[0; SMALL]; batch];
    let mut positions = Vec::with_capacity(batch);
    let mut next = numbers.start;
    while next < numbers.end {
        let count = batch.min((numbers.end - next) as usize);
        let mut publishes = Vec::with_capacity(count);
        for (number, body) in (next..).zip(&mut arena[..count]) {
            bodies.fill(number, body);
            let queue = (number % u64::from(queues)) as usize;
            publishes.push(Publish { body, queues: &names[queue..=queue] });
        }
        positions.clear();
        store.enqueue(&publishes, &mut positions)?;
        next += count as u64;
    }
    Ok(())
}

/// Reads and acknowledges all that `fill` put into the queues, and checks that it is that.
fn drain<S: Store>(store: &mut S, numbers: std::ops::Range<u64>, queues: u32, batch: usize) -> Result<()> {
    let mut acknowledged = Vec::with_capacity(batch);
    for queue in 0..queues {
        let mut after = 0;
        let mut expected = numbers.start + u64::from(queue);
        loop {
            let mut is_in_order = true;
            store.read(queue, after, batch, &mut |position, body| {
                acknowledged.push((queue, position));
                is_in_order &= number_of(body) == expected;
                expected += u64::from(queues);
            })?;
            if !is_in_order {
                return Err(format!("queue {queue} is not in order before message {expected}").into());
            }
            let Some((_, last)) = acknowledged.last() else { break };
            after = *last;
            store.acknowledge(&acknowledged)?;
            acknowledged.clear();
        }
        if expected < numbers.end {
            return Err(format!("queue {queue} ended before message {expected}").into());
        }
    }
    Ok(())
}

fn offline<S: Store>(directory: &Path, batch: usize, durability: Durability, rounds: u64) -> Result<Figures> {
    let (mut store, _) = S::open(directory, durability)?;
    store.prepare(OFFLINE_SESSIONS, Sessions::Away)?;
    let a_round = OFFLINE_MESSAGES * u64::from(OFFLINE_SESSIONS);
    let all = Stopwatch::start();
    let (mut enqueued, mut drained) = (Spent::default(), Spent::default());
    for round in 0..rounds {
        let numbers = round * a_round..(round + 1) * a_round;
        let watch = Stopwatch::start();
        fill(&mut store, numbers.clone(), OFFLINE_SESSIONS, batch)?;
        enqueued.add(watch.read());
        let watch = Stopwatch::start();
        drain(&mut store, numbers, OFFLINE_SESSIONS, batch)?;
        drained.add(watch.read());
    }
    store.close()?;
    let messages = a_round * rounds;
    let (enqueue_cpu, enqueue_wall) = micros(enqueued, messages);
    let (drain_cpu, drain_wall) = micros(drained, messages);
    Ok(vec![
        ("enqueue_cpu", enqueue_cpu),
        ("enqueue_wall", enqueue_wall),
        ("drain_cpu", drain_cpu),
        ("drain_wall", drain_wall),
        ("total_cpu", micros(all.read(), messages).0),
        ("per_s", messages as f64 / (enqueued.wall + drained.wall).as_secs_f64()),
    ])
}

fn transit<S: Store>(directory: &Path, batch: usize, messages: u64, durability: Durability) -> Result<Figures> {
    let (mut store, _) = S::open(directory, durability)?;
    store.prepare(TRANSIT_QUEUES, Sessions::Connected)?;
    let bodies = Bodies::default();
    let names: Vec<u32> = (0..TRANSIT_QUEUES).collect();
    let mut arena = vec![[0; SMALL]; batch];
    let mut positions = Vec::with_capacity(batch);
    let mut under_way: VecDeque<(u32, u64)> = VecDeque::with_capacity((TRANSIT_WINDOW + 1) * batch);
    let watch = Stopwatch::start();
    let mut number = 0;
    while number < messages {
        let first = number;
        let mut publishes = Vec::with_capacity(batch);
        for body in &mut arena {
            bodies.fill(number, body);
            let queue = (number % u64::from(TRANSIT_QUEUES)) as usize;
            publishes.push(Publish { body, queues: &names[queue..=queue] });
            number += 1;
        }
        positions.clear();
        store.enqueue(&publishes, &mut positions)?;
        let queues = (first..number).map(|number| (number % u64::from(TRANSIT_QUEUES)) as u32);
        under_way.extend(queues.zip(positions.iter().copied()));
        if under_way.len() > TRANSIT_WINDOW * batch {
            let acknowledged: Vec<_> = under_way.drain(..batch).collect();
            store.acknowledge(&acknowledged)?;
        }
    }
    let spent = watch.read();
    let disk = on_disk(directory)?;
    store.close()?;
    let (cpu, wall) = micros(spent, messages);
    Ok(vec![
        ("cpu", cpu),
        ("wall", wall),
        ("total_cpu", micros(watch.read(), messages).0),
        ("per_s", messages as f64 / spent.wall.as_secs_f64()),
        ("disk", disk as f64),
    ])
}

fn fan_out<S: Store>(directory: &Path) -> Result<Figures> {
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    store.prepare(FAN_OUT_QUEUES, Sessions::Away)?;
    let bodies = Bodies::default();
    let names: Vec<u32> = (0..FAN_OUT_QUEUES).collect();
    let mut body = [0; LARGE];
    let entries = FAN_OUT_MESSAGES * u64::from(FAN_OUT_QUEUES);
    let all = Stopwatch::start();
    for number in 0..FAN_OUT_MESSAGES {
        bodies.fill(number, &mut body);
        store.enqueue(&[Publish { body: &body, queues: &names }], &mut Vec::new())?;
    }
    let enqueued = all.read();
    let disk = on_disk(directory)?;
    let watch = Stopwatch::start();
    let mut acknowledged = Vec::with_capacity(FAN_OUT_MESSAGES as usize);
    for queue in 0..FAN_OUT_QUEUES {
        let mut expected = 0;
        store.read(queue, 0, FAN_OUT_MESSAGES as usize, &mut |position, body| {
            acknowledged.push((queue, position));
            expected += u64::from(number_of(body) == expected);
        })?;
        if expected != FAN_OUT_MESSAGES {
            return Err(format!("queue {queue} has {expected} good messages").into());
        }
        store.acknowledge(&acknowledged)?;
        acknowledged.clear();
    }
    let drained = watch.read();
    store.close()?;
    Ok(vec![
        ("enqueue_cpu", micros(enqueued, entries).0),
        ("enqueue_wall", enqueued.wall.as_secs_f64() * 1e3 / FAN_OUT_MESSAGES as f64),
        ("drain_cpu", micros(drained, entries).0),
        ("total_cpu", micros(all.read(), entries).0),
        ("disk", disk as f64),
    ])
}

fn million<S: Store>(directory: &Path) -> Result<Figures> {
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    store.prepare(MILLION_QUEUES, Sessions::Away)?;
    let watch = Stopwatch::start();
    fill(&mut store, 0..MILLION_MESSAGES, MILLION_QUEUES, MILLION_BATCH)?;
    let (cpu, wall) = micros(watch.read(), MILLION_MESSAGES);
    let (rss, anonymous) = resident()?;
    let figures = vec![
        ("enqueue_cpu", cpu),
        ("enqueue_wall", wall),
        ("rss", rss as f64),
        ("rss_anonymous", anonymous as f64),
        ("disk", on_disk(directory)? as f64),
    ];
    // Not closed: what comes next is a start after a crash.
    std::mem::forget(store);
    Ok(figures)
}

fn million_reopened<S: Store>(directory: &Path) -> Result<Figures> {
    let (mut store, opened) = S::open(directory, Durability::Kernel)?;
    if opened.entries != MILLION_MESSAGES {
        return Err(format!("{} entries are left of {MILLION_MESSAGES}", opened.entries).into());
    }
    let (rss, anonymous) = resident()?;
    let watch = Stopwatch::start();
    drain(&mut store, 0..MILLION_MESSAGES, MILLION_QUEUES, MILLION_BATCH)?;
    let (cpu, wall) = micros(watch.read(), MILLION_MESSAGES);
    store.close()?;
    Ok(vec![
        ("open", opened.open.as_secs_f64() * 1e3),
        ("load", opened.load.as_secs_f64() * 1e3),
        ("open_cpu", opened.cpu.as_secs_f64() * 1e3),
        ("reopened_rss", rss as f64),
        ("reopened_rss_anonymous", anonymous as f64),
        ("drain_cpu", cpu),
        ("drain_wall", wall),
        ("disk_after", on_disk(directory)? as f64),
    ])
}

fn metadata<S: Store>(directory: &Path) -> Result<Figures> {
    let (mut store, _) = S::open(directory, Durability::Kernel)?;
    let mut random = Random::new(3);
    // Client ids come in no order; the factor has no divisor in common with the number of keys.
    let key = |prefix: &str, number: u64| format!("{prefix}/{:08}", number * 61_803 % METADATA_KEYS).into_bytes();
    let mut put = |prefix: &str, numbers: std::ops::Range<u64>| -> Result<Spent> {
        let value = |_| std::array::from_fn::<u8, METADATA_VALUE, _>(|_| random.below(256) as u8);
        let values: Vec<_> = numbers.clone().map(value).collect();
        let keys: Vec<_> = numbers.map(|number| key(prefix, number)).collect();
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().zip(&values).map(|(key, value)| (&key[..], &value[..])).collect();
        let watch = Stopwatch::start();
        for batch in entries.chunks(METADATA_BATCH) {
            store.put(batch)?;
        }
        Ok(watch.read())
    };
    let puts = put("session", 0..METADATA_PUTS)?;
    put("session", METADATA_PUTS..METADATA_KEYS)?;
    put("retained", 0..METADATA_PUTS)?;

    let keys: Vec<_> = (0..METADATA_PUTS).map(|_| key("session", random.below(METADATA_KEYS))).collect();
    let watch = Stopwatch::start();
    for key in &keys {
        let mut bytes = 0;
        store.get(key, &mut |value| bytes = value.len())?;
        if bytes != METADATA_VALUE {
            return Err("a value is missing".into());
        }
    }
    let gets = watch.read();

    let mut found = 0;
    let watch = Stopwatch::start();
    store.scan(b"session/", &mut |_, value| found += value.len() as u64 / METADATA_VALUE as u64)?;
    let scan = watch.read();
    if found != METADATA_KEYS {
        return Err(format!("the scan found {found} keys").into());
    }
    store.close()?;
    Ok(vec![
        ("put_cpu", micros(puts, METADATA_PUTS).0),
        ("put_wall", micros(puts, METADATA_PUTS).1),
        ("get_cpu", micros(gets, METADATA_PUTS).0),
        ("scan_cpu", micros(scan, METADATA_KEYS).0),
    ])
}
