//! How fast it is. Run with `cargo test --release --no-default-features -- --ignored --nocapture store::tests::timing`.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::{head, new_session, options, session, span, target};
use crate::message::Publication;

const COUNT: u32 = 1_000_000;
const BATCH: usize = 50;

/// Time that this thread has had a processor, so that a busy machine does not count.
#[derive(Clone, Copy)]
struct Clock(u64);

impl Clock {
    fn now() -> Self {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a value that lives across the call.
        let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        assert_eq!(outcome, 0);
        Self(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
    }

    fn elapsed(self) -> Duration {
        self.until(Self::now())
    }

    fn until(self, later: Self) -> Duration {
        Duration::from_nanos(later.0 - self.0)
    }
}

fn report(what: &str, took: Duration, count: u32) {
    println!("{what}: {} ns", took.as_nanos() / u128::from(count));
}

fn new_store(directory: &std::path::Path) -> (Arc<Store>, Recovered) {
    let disk = Arc::new(RealDisk::new(directory).unwrap());
    let options = Options { segment_bytes: 64 << 20, ..options(SyncMode::Never) };
    Store::open(disk, options).unwrap()
}

/// One call after another, written when `BATCH` of them are together, as a worker does at the end of its turn.
fn measure(what: &str, store: &Store, count: u32, mut call: impl FnMut(u32)) {
    let (mut appending, mut committing) = (Duration::ZERO, Duration::ZERO);
    let from = store.appended();
    for start in (0..count).step_by(BATCH) {
        let began = Clock::now();
        for index in start..start + BATCH as u32 {
            call(index);
        }
        let appended = Clock::now();
        store.commit(store.appended());
        appending += began.until(appended);
        committing += appended.elapsed();
    }
    report(what, appending, count);
    let bytes = store.appended() - from;
    println!("  commit of {BATCH}: {} ns", committing.as_nanos() / u128::from(count / BATCH as u32));
    println!("  commit: {} ps a byte of {bytes}", 1_000 * committing.as_nanos() / u128::from(bytes));
}

#[test]
#[ignore = "a measurement"]
fn timing() {
    let directory = std::env::temp_dir().join(format!("strogoff-store-timing-{}", std::process::id()));
    let (store, _) = new_store(&directory);
    let queue = new_session(&store, "client");
    let (bytes, layout) = span("sensors/kitchen", &[b'x'; 100]);
    let targets = [target(queue)];
    let mut slots = Vec::with_capacity(COUNT as usize);
    let publication = Publication { head: head(layout), span: &bytes };
    measure("append_messages, 100 bytes, one target", &store, COUNT, |_| {
        let (message_id, received, place) = (MessageId::NONE, None, Place::default());
        let mut batch = [NewMessage { publication, message_id, retained_in: None, received, targets: &targets, place }];
        store.append_messages(&mut batch).unwrap();
        slots.push(batch[0].place.slot);
    });
    let began = Clock::now();
    for &slot in slots.iter().step_by(10) {
        std::hint::black_box(store.load(slot).unwrap());
    }
    report("load from a file", began.elapsed(), COUNT / 10);
    drop(store);

    let began = Clock::now();
    let (store, recovered) = new_store(&directory);
    assert_eq!(recovered.report.messages, COUNT as usize);
    println!("replay of {COUNT} queued messages: {:?}, {:?} in all", began.elapsed(), recovered.report.took);
    let waiting = &recovered.sessions[0].waiting;
    measure("append_changes, one Sent", &store, COUNT, |index| {
        let slot = waiting[index as usize].place.slot;
        store.append_changes(queue, &[Change::Sent { slot, number: u64::from(index) + 1 }]);
    });
    measure("append_changes, one Done", &store, COUNT, |index| {
        let slot = waiting[index as usize].place.slot;
        store.append_changes(queue, &[Change::Done { slot, number: u64::from(index) + 1 }]);
    });
    drop(store);
    let began = Clock::now();
    let (store, recovered) = new_store(&directory);
    assert_eq!(recovered.report.messages, 0);
    println!("replay of {COUNT} messages that came and went: {:?}", began.elapsed());

    measure("append_messages from a slab in use", &store, COUNT, |_| {
        let (message_id, received, place) = (MessageId::NONE, None, Place::default());
        let mut batch = [NewMessage { publication, message_id, retained_in: None, received, targets: &targets, place }];
        store.append_messages(&mut batch).unwrap();
        let slot = batch[0].place.slot;
        store.append_changes(queue, &[Change::Sent { slot, number: 1 }]);
        store.append_changes(queue, &[Change::Done { slot, number: 1 }]);
    });
    let began = Clock::now();
    for _ in 0..10_000 {
        store.append_session(queue, &session("client"));
    }
    report("append_session", began.elapsed(), 10_000);
    drop(store);
    std::fs::remove_dir_all(&directory).unwrap();
}
