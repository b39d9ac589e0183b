//! How fast the data lane is. Run with `cargo test --release --no-default-features -- --ignored --nocapture peer::tests::timing`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::nodes::{eventually, options, pair};
use super::{message, span};
use crate::peer::{Inbox, Messages, Outbox, OutboxLimits, Overflow};

const COUNT: u32 = 3_000_000;
/// Messages of one turn of a worker.
const TURN: u32 = 50;

fn report(what: &str, took: Duration, count: u32) {
    let per_second = f64::from(count) / took.as_secs_f64();
    println!("{what}: {} ns a message, {per_second:.0} messages/s", took.as_nanos() / u128::from(count));
}

#[test]
#[ignore = "a measurement"]
fn timing() {
    for (payload_len, qos) in [(100, 1), (100, 0), (1_000, 1)] {
        let (a, b) = pair();
        let link = a.link(&b.name);
        let bytes = span(&vec![b'x'; payload_len], qos);
        let began = Instant::now();
        let mut sent = 0;
        let count = COUNT / if payload_len > 100 { 5 } else { 1 };
        while sent < count {
            for _ in 0..TURN.min(count - sent) {
                while let Err(overflow) = link.append(&message(&bytes), 1) {
                    assert!(matches!(overflow, Overflow::Full | Overflow::NoCredit));
                    link.flush();
                    std::thread::sleep(Duration::from_micros(200));
                }
                sent += 1;
            }
            link.flush();
        }
        eventually("all came", || b.notes.numbers.lock().len() as u32 == count);
        report(&format!("node to node, {payload_len} bytes, QoS {qos}"), began.elapsed(), count);
        eventually("all is acknowledged", || link.info().held_bytes == 0);
    }
    both_ends_without_a_socket();
    round_trip();
}

fn both_ends_without_a_socket() {
    let limits = OutboxLimits { held_max: options().outgoing_buffer_size, batch_len: 65_536 };
    let mut outbox = Outbox::new(limits, 0);
    outbox.connect(0, 0, u64::MAX / 2, 1 << 20).unwrap();
    let bytes = span(&[b'x'; 100], 1);
    let (mut appending, mut reading) = (Duration::ZERO, Duration::ZERO);
    let mut inbox = Inbox::new(1 << 30);
    let from = Arc::new(super::identity("a@h", 1).node);
    inbox.begin(&from, || 0);
    for _ in 0..COUNT / TURN {
        let began = Instant::now();
        for _ in 0..TURN {
            outbox.append(&message(&bytes), 1).unwrap();
        }
        outbox.close();
        appending += began.elapsed();
        let batch = outbox.next().to_vec();
        outbox.wrote(batch.len());
        let began = Instant::now();
        let messages = Messages::check(&batch[13..], 1).unwrap();
        assert_eq!(messages.map(std::hint::black_box).count(), TURN as usize);
        reading += began.elapsed();
        outbox.acknowledge(outbox.last_seq(), u64::MAX / 2).unwrap();
    }
    report("append", appending, COUNT);
    report("check and read", reading, COUNT);
}

fn round_trip() {
    let (a, b) = pair();
    let (link, bytes) = (a.link(&b.name), span(&[b'x'; 100], 1));
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let began = Instant::now();
        let seq = link.append(&message(&bytes), 1).unwrap().unwrap();
        link.flush();
        while link.acknowledged() < seq {
            std::hint::spin_loop();
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "from append to acknowledged: median {:?}, p99 {:?}",
        times[times.len() / 2],
        times[times.len() * 99 / 100]
    );
}
