//! A full disk and a quota refuse publishes, never bookkeeping, and are recovered from.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::simulated::SimulatedDisk;
use super::super::*;
use super::model::Model;
use super::{SEGMENT, flush, new_session, open, options, publish, waiting};

fn received(packet_id: u16) -> Change {
    Change::Received(ReceivedId { packet_id, stamp: 0 })
}

/// Publishes until that is refused.
fn fill(store: &Store, queue: QueueId) -> (Vec<Place>, Refusal) {
    let mut places = Vec::new();
    loop {
        match publish(store, &[7; 1_000], &[queue]) {
            Ok(place) => places.push(place),
            Err(refusal) => return (places, refusal),
        }
        store.commit(store.appended());
        if places.len() % 10 == 0 {
            store.keep_spare();
        }
        assert!(places.len() < 100_000, "that never ends");
    }
}

#[test]
fn a_full_disk_refuses_publishes_until_there_is_room() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(8 * SEGMENT);
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    let (places, refusal) = fill(&store, queue);
    assert_eq!((refusal, store.refusal()), (Refusal::Full, Some(Refusal::Full)));
    assert!(store.log.lock().left() < 2_000, "the last segment is used");
    assert_eq!(store.figures().refusals, 1);

    // Bookkeeping goes on, and makes room.
    let changes: Vec<Change> = places.iter().map(|place| Change::Done { slot: place.slot, number: 0 }).collect();
    for change in changes.chunks(10) {
        let appended = store.append_changes(queue, change);
        assert!(store.commit(appended.lsn));
    }
    let owner = Mutex::new(Model::default());
    while store.log.lock().segments.len() > 2 {
        assert!(store.clean_all(&owner).unwrap());
    }
    store.keep_spare();
    assert_eq!(store.refusal(), None);
    publish(&store, b"again", &[queue]).unwrap();
}

#[test]
fn bookkeeping_that_finds_no_room_waits_in_memory_and_is_not_kept_until_it_is_written() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(5 * SEGMENT);
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    let (places, _) = fill(&store, queue);
    let mut last = 0;
    for id in 1..10_000 {
        last = store.append_changes(queue, &[received(id)]).lsn;
    }
    assert!(!store.commit(last) && !store.is_kept(last));
    assert_eq!(store.refusal(), Some(Refusal::Full));
    // A body that waits can be read all the same.
    assert_eq!(store.load(places[0].slot).unwrap().publication().payload(), [7; 1_000]);
    assert!(store.figures().buffered_bytes > 0);

    disk.set_capacity(0);
    flush(&store);
    store.keep_spare();
    assert!(store.is_kept(last));
    assert_eq!(store.refusal(), None);
    let (store, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!(recovered.sessions[0].received.len(), 9_999);
    assert_eq!(waiting(&store, &recovered, queue).len(), places.len());
}

#[test]
fn a_store_on_a_full_disk_opens() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    publish(&store, b"one", &[queue]).unwrap();
    store.stop();
    let disk = disk.kill();
    disk.set_capacity(1);
    let (store, recovered) = open(&disk, SyncMode::Interval);
    assert_eq!(waiting(&store, &recovered, queue), [b"one".to_vec()]);
    // It goes on in what is left of the last segment, of which publishes leave some to sessions.
    assert_eq!(fill(&store, queue).1, Refusal::Full);
    let lsn = store.append_changes(queue, &[received(1)]).lsn;
    assert!(store.commit(lsn));
    disk.set_capacity(0);
    flush(&store);
    store.keep_spare();
    assert!(publish(&store, b"two", &[queue]).is_ok());
    let (_, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!(recovered.sessions[0].received, [ReceivedId { packet_id: 1, stamp: 0 }]);
}

#[test]
fn a_quota_is_kept_to_with_all_files_that_there_are() {
    let disk = SimulatedDisk::new();
    let max_bytes = 10 * SEGMENT;
    let (store, _) = Store::open(disk, Options { max_bytes, ..options(SyncMode::Interval) }).unwrap();
    let queue = new_session(&store, "client");
    let (places, refusal) = fill(&store, queue);
    assert_eq!(refusal, Refusal::Quota);
    let bytes = store.figures().bytes;
    assert_eq!(bytes, max_bytes);
    // With a higher one it goes on at once.
    store.reconfigure(SyncMode::Interval, 1_000, 2 * max_bytes, 0);
    store.keep_spare();
    assert_eq!(store.refusal(), None);
    let (more, _) = fill(&store, queue);
    assert!(more.len() >= places.len());
}

#[test]
fn the_reserve_outlives_the_process_unless_it_was_written_to() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Interval);
    store.keep_spare();
    let disk = disk.kill();
    disk.set_bytes(".reserve-2", vec![1; SEGMENT as usize]);
    disk.set_bytes(".reserve-3", vec![0; 10]);
    disk.set_bytes(".reserve-4", vec![0; SEGMENT as usize]);
    let (store, _) = open(&disk, SyncMode::Interval);
    let mut names = disk.list().unwrap();
    names.retain(|name| name.starts_with(".reserve"));
    assert_eq!(names, [".reserve-1", ".reserve-4"]);
    store.keep_spare();
    let files: u64 = disk.list().unwrap().iter().map(|name| disk.bytes(name).len() as u64).sum();
    assert_eq!(store.figures().bytes, files);
    assert_eq!(disk.list().unwrap().len(), 3 + 2, "the reserve; the active segment and the spare");
}

#[test]
fn a_file_of_the_reserve_that_cannot_be_taken_stays_in_it() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(6 * SEGMENT);
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    fill(&store, queue);
    disk.fail_renames(1);
    let mut id = 0;
    while store.commit(store.append_changes(queue, &[received(id)]).lsn) {
        id += 1;
    }
    flush(&store);
    let (_, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!(recovered.sessions[0].received.len(), usize::from(id) + 1);
}

#[test]
fn the_size_of_segments_goes_with_the_quota() {
    assert_eq!(room::segment_size(64 << 20, 0), 64 << 20);
    assert_eq!(room::segment_size(64 << 20, 160 << 20), 10 << 20);
    assert_eq!(room::segment_size(1, 0), 64 << 10);
    assert_eq!(room::segment_size(u64::MAX, 0), 1 << 30);
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_size() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Always);
    let queue = new_session(&store, "client");
    store.keep_spare();
    let large = vec![3; 5 * SEGMENT as usize];
    for payload in [&b"before"[..], &large, b"behind", &large] {
        publish(&store, payload, &[queue]).unwrap();
    }
    flush(&store);
    let (store, recovered) = open(&disk.kill(), SyncMode::Always);
    assert_eq!(
        waiting(&store, &recovered, queue),
        [b"before".to_vec(), large.clone(), b"behind".to_vec(), large.clone()]
    );
    let owner = Arc::new(Mutex::new(Model::recovered_loosely(recovered)));
    for _ in 0..4 {
        store.clean_all(&*owner).unwrap();
    }
    flush(&store);
    let (store, recovered) = open(&disk.kill(), SyncMode::Always);
    assert_eq!(waiting(&store, &recovered, queue)[3], large);
}
