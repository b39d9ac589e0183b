//! The keeper's part: failures are told once, tried again, and over when they are over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::simulated::{Random, SimulatedDisk};
use super::super::*;
use super::model::Model;
use super::{SEGMENT, new_session, open, options, publish, waiting};

const DEADLINE: Duration = Duration::from_secs(20);

/// A store with its keeper, and what that told.
struct Kept {
    store: Arc<Store>,
    events: Arc<Mutex<Vec<Event>>>,
    owner: Arc<Mutex<Model>>,
}

impl Kept {
    fn start(store: Arc<Store>) -> Self {
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        let owner: Arc<Mutex<Model>> = Arc::default();
        let told = events.clone();
        let weak: std::sync::Weak<Mutex<Model>> = Arc::downgrade(&owner);
        store.start(weak, Box::new(move |event| told.lock().push(event)));
        Self { store, events, owner }
    }

    fn wait_for(&self, what: &str, is_it: impl Fn(&Event) -> bool) {
        wait_until(what, || self.events.lock().iter().any(&is_it));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.store.end_keeper();
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn with_sync_always_nothing_is_kept_before_it_is_synced_and_then_it_is_told() {
    let disk = SimulatedDisk::new();
    let kept = Kept::start(open(&disk, SyncMode::Always).0);
    let queue = new_session(&kept.store, "client");
    publish(&kept.store, b"hello", &[queue]).unwrap();
    let lsn = kept.store.appended();
    assert!(!kept.store.is_kept(lsn), "nothing is synced yet");
    kept.store.commit(lsn);
    kept.wait_for("that it is kept is told", |event| *event == Event::Kept);
    wait_until("it is kept", || kept.store.is_kept(lsn));
    let (store, recovered) = open(&disk.crash(&mut Random(1)), SyncMode::Always);
    assert_eq!(waiting(&store, &recovered, queue), [b"hello".to_vec()]);
    // What has to be kept ends there: the record of the sync itself is nothing to wait for.
    assert!(kept.store.wait_kept(kept.store.appended(), DEADLINE));
}

#[test]
fn at_an_interval_all_is_synced_by_and_by_and_an_idle_store_syncs_nothing() {
    let disk = SimulatedDisk::new();
    let (store, _) =
        Store::open(disk.clone(), Options { sync_interval_ms: 20, ..options(SyncMode::Interval) }).unwrap();
    let kept = Kept::start(store);
    let queue = new_session(&kept.store, "client");
    publish(&kept.store, b"hello", &[queue]).unwrap();
    wait_until("it is synced", || !kept.store.is_unsynced());
    let syncs = disk.syncs();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(disk.syncs(), syncs);
}

#[test]
fn writes_that_fail_are_told_once_and_made_up_for() {
    let disk = SimulatedDisk::new();
    let kept = Kept::start(open(&disk, SyncMode::Interval).0);
    let queue = new_session(&kept.store, "client");
    wait_until("all is written", || kept.store.commit(kept.store.appended()));
    kept.store.keep_spare();
    disk.fail_writes(3);
    publish(&kept.store, b"hello", &[queue]).unwrap();
    let lsn = kept.store.appended();
    // The keeper may have written it, and met the failures, before.
    kept.store.commit(lsn);
    kept.wait_for(
        "the failure is told",
        |event| matches!(event, Event::Failure(text) if text.contains("0000000001.log")),
    );
    kept.wait_for("that it is over is told", |event| *event == Event::Accepting);
    assert!(kept.store.wait_kept(lsn, DEADLINE));
    assert_eq!(kept.store.refusal(), None);
    let failures = kept.events.lock().iter().filter(|event| matches!(event, Event::Failure(_))).count();
    assert_eq!(failures, 1);
    let (store, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!(waiting(&store, &recovered, queue), [b"hello".to_vec()]);
}

#[test]
fn after_a_failed_sync_what_was_written_is_written_again() {
    let disk = SimulatedDisk::new();
    let kept = Kept::start(open(&disk, SyncMode::Always).0);
    let queue = new_session(&kept.store, "client");
    assert!(kept.store.wait_kept(kept.store.appended(), DEADLINE));
    disk.fail_syncs(2);
    publish(&kept.store, b"hello", &[queue]).unwrap();
    let lsn = kept.store.appended();
    assert!(!kept.store.commit(lsn));
    kept.wait_for("the failure is told", |event| matches!(event, Event::Failure(text) if text.contains("cannot sync")));
    assert!(kept.store.wait_kept(lsn, DEADLINE));
    kept.wait_for("that it is over is told", |event| *event == Event::Accepting);
    assert_eq!(kept.store.figures().sync_failures, 2);
    for seed in 0..20 {
        let (store, recovered) = open(&disk.crash(&mut Random(seed)), SyncMode::Always);
        assert_eq!(waiting(&store, &recovered, queue), [b"hello".to_vec()]);
    }
}

#[test]
fn a_full_disk_is_told_and_that_there_is_room_again() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(4 * SEGMENT);
    let kept = Kept::start(open(&disk, SyncMode::Interval).0);
    let queue = new_session(&kept.store, "client");
    wait_until("publishes are refused", || publish(&kept.store, &[1; 1_000], &[queue]).is_err());
    kept.wait_for("it is told", |event| matches!(event, Event::Refusing(Refusal::Full, text) if text.contains("room")));
    disk.set_capacity(0);
    kept.wait_for("that is told too", |event| *event == Event::Accepting);
    publish(&kept.store, b"again", &[queue]).unwrap();
}

#[test]
fn the_keeper_cleans_by_itself_while_others_append_and_read() {
    let disk = SimulatedDisk::new();
    let kept = Kept::start(open(&disk, SyncMode::Interval).0);
    let store = &kept.store;
    let queue = new_session(store, "client");
    let stays = publish(store, b"this one stays", &[queue]).unwrap();
    {
        // The owner knows the queue, so that it can write it again.
        let mut model = kept.owner.lock();
        model.adopt(queue, super::session("client"), stays);
    }
    std::thread::scope(|scope| {
        for worker in 0..3_u32 {
            let own = new_session(store, &format!("worker {worker}"));
            kept.owner.lock().adopt(own, super::session(&format!("worker {worker}")), Place::default());
            scope.spawn(move || {
                let mut alive = std::collections::VecDeque::new();
                for number in 0..4_000_u32 {
                    let payload = [&number.to_be_bytes()[..], &[worker as u8; 200]].concat();
                    let place = publish(store, &payload, &[own]).unwrap();
                    alive.push_back((place.slot, payload));
                    if alive.len() > 20 {
                        let (slot, payload) = alive.pop_front().unwrap();
                        assert_eq!(super::payload_of(store, slot), payload);
                        let lsn = store.append_changes(own, &[Change::Done { slot, number: 0 }]).lsn;
                        store.commit(lsn);
                    }
                    assert_eq!(super::payload_of(store, stays.slot), b"this one stays");
                }
                for (slot, _) in alive {
                    store.append_changes(own, &[Change::Done { slot, number: 0 }]);
                }
            });
        }
    });
    wait_until("it has cleaned", || store.figures().segments <= 6 && store.figures().cleaned_segments > 10);
    store.stop();
    let (store, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!(waiting(&store, &recovered, queue), [b"this one stays".to_vec()]);
    assert_eq!((store.figures().messages, recovered.report.missing), (1, 0));
}

#[test]
fn sessions_may_come_and_go_for_ever_while_the_disk_is_full() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(12 * SEGMENT);
    let kept = Kept::start(open(&disk, SyncMode::Never).0);
    let store = &kept.store;
    let adopt = |name| {
        let queue = new_session(store, name);
        kept.owner.lock().adopt(queue, super::session(name), Place { slot: 0, segment: store.current_segment() });
        queue
    };
    let (queue, visitor) = (adopt("client"), adopt("visitor"));
    let mut count = 0;
    while let Ok(place) = publish(store, &[7; 1_000], &[queue]) {
        kept.owner.lock().adopt_entry(queue, place);
        store.commit(store.appended());
        count += 1;
        assert!(count < 10_000, "that never ends");
    }
    for _ in 0..20_000 {
        let lsn = store.append_session(visitor, &super::session("visitor")).lsn;
        assert!(store.wait_kept(lsn, DEADLINE), "{:?}", store.figures());
    }
    let (store, recovered) = open(&disk.kill(), SyncMode::Never);
    assert_eq!(waiting(&store, &recovered, queue).len(), count);
}

#[test]
fn a_compaction_leaves_little_more_than_what_is_needed() {
    let disk = SimulatedDisk::new();
    let kept = Kept::start(open(&disk, SyncMode::Never).0);
    let queue = new_session(&kept.store, "client");
    let place = publish(&kept.store, b"needed", &[queue]).unwrap();
    kept.owner.lock().adopt(queue, super::session("client"), place);
    for _ in 0..300 {
        let slot = publish(&kept.store, &[1; 1_000], &[queue]).unwrap().slot;
        kept.store.append_changes(queue, &[Change::Done { slot, number: 0 }]);
    }
    let (before, after) = kept.store.compact().unwrap();
    assert!(before > after && after <= 6 * SEGMENT, "{before} {after}");
    assert_eq!(super::payload_of(&kept.store, place.slot), b"needed");
    kept.store.stop();
    let (store, recovered) = open(&disk.kill(), SyncMode::Never);
    assert_eq!(waiting(&store, &recovered, queue), [b"needed".to_vec()]);
}

#[test]
fn what_a_stopped_store_has_survives_a_loss_of_power() {
    for sync in [SyncMode::Always, SyncMode::Interval, SyncMode::Never] {
        let disk = SimulatedDisk::new();
        let kept = Kept::start(open(&disk, sync).0);
        let queue = new_session(&kept.store, "client");
        publish(&kept.store, b"hello", &[queue]).unwrap();
        kept.store.stop();
        kept.store.stop();
        let (store, recovered) = open(&disk.crash(&mut Random(3)), sync);
        assert_eq!(waiting(&store, &recovered, queue), [b"hello".to_vec()]);
    }
}
