//! What the broker relies on, case by case.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::simulated::SimulatedDisk;
use super::super::*;
use super::model::Model;
use super::{flush, head, new_session, open, options, payload_of, publish, span, waiting};
use crate::message::{Message, MessageId, Publication};

#[test]
fn a_new_store_is_empty() {
    let (store, recovered) = open(&SimulatedDisk::new(), SyncMode::Always);
    assert!(recovered.sessions.is_empty() && recovered.retained.is_empty());
    assert_eq!(recovered.report.cut, None);
    assert_eq!((store.figures().messages, store.refusal()), (0, None));
}

#[test]
fn a_message_for_ten_thousand_queues_is_stored_once() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Interval);
    let queues: Vec<QueueId> = (0..10_000).map(|index| new_session(&store, &index.to_string())).collect();
    let before = store.appended();
    let place = publish(&store, &[5; 10_000], &queues).unwrap();
    assert!(store.appended() - before < 60_000, "{}", store.appended() - before);
    assert_eq!((store.figures().messages, store.figures().entries), (1, 10_000));
    flush(&store);
    let (store, recovered) = open(&disk.kill(), SyncMode::Interval);
    assert_eq!((store.figures().messages, store.figures().entries), (1, 10_000));
    assert_eq!(recovered.sessions.len(), 10_000);
    let mut slots: Vec<Slot> = recovered.sessions.iter().map(|session| session.waiting[0].place.slot).collect();
    for (session, slot) in recovered.sessions.iter().zip(&slots) {
        store.append_changes(session.queue, &[Change::Done { slot: *slot, number: 0 }]);
    }
    slots.dedup();
    assert_eq!(slots.len(), 1);
    assert!(matches!(store.load(slots[0]), Err(LoadError::Empty(_))));
    assert_eq!(store.figures().live_bytes, 0);
    let _ = place;
}

#[test]
fn a_slot_is_used_again_once_nobody_refers_to_its_body() {
    let (store, _) = open(&SimulatedDisk::new(), SyncMode::Never);
    let queue = new_session(&store, "client");
    let first = publish(&store, b"first", &[queue, queue]).unwrap();
    let second = publish(&store, b"second", &[queue]).unwrap();
    assert_eq!((first.slot, second.slot), (1, 2));
    store.append_changes(queue, &[Change::Done { slot: first.slot, number: 0 }]);
    assert_eq!(payload_of(&store, first.slot), b"first", "one entry is left");
    store.append_changes(queue, &[Change::Sent { slot: first.slot, number: 1 }]);
    store.append_changes(queue, &[Change::Released { slot: first.slot, number: 1 }]);
    let third = publish(&store, b"third", &[queue]).unwrap();
    assert_eq!(third.slot, first.slot);
    assert_eq!(payload_of(&store, third.slot), b"third");
    assert_eq!(payload_of(&store, second.slot), b"second");
}

#[test]
fn the_cache_keeps_to_its_size_and_forgets_what_came_first() {
    let (store, _) = open(&SimulatedDisk::new(), SyncMode::Never);
    store.reconfigure(SyncMode::Never, 1_000, 0, 5_000);
    let queue = new_session(&store, "client");
    let mut slots = Vec::new();
    for index in 0..20_u8 {
        let place = publish(&store, &[index; 900], &[queue]).unwrap();
        let (bytes, layout) = span("a/b", &[index; 900]);
        store.offer(place.slot, &Message::keep(&Publication { head: head(layout), span: &bytes }));
        slots.push(place.slot);
    }
    let figures = store.figures();
    assert!(figures.cached_bytes <= 5_000 && figures.cached == 5, "{figures:?}");
    payload_of(&store, slots[19]);
    assert_eq!((store.figures().cache_hits, store.figures().reads), (1, 0));
    payload_of(&store, slots[0]);
    assert_eq!((store.figures().cache_hits, store.figures().reads), (1, 1));
    store.end_queue(queue, &mut slots.into_iter());
    assert_eq!((store.figures().cached, store.figures().cached_bytes), (0, 0));
}

#[test]
fn a_queue_without_a_session_is_gone_after_a_restart() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let (ghost, real) = (store.new_queue(), new_session(&store, "client"));
    publish(&store, b"hello", &[ghost, real]).unwrap();
    publish(&store, b"only for the ghost", &[ghost]).unwrap();
    flush(&store);
    let (store, recovered) = open(&disk.kill(), SyncMode::Never);
    assert_eq!(recovered.sessions.len(), 1);
    assert_eq!((store.figures().messages, store.figures().entries), (1, 1));
    assert!(store.new_queue() > real, "no number is used twice");
}

#[test]
fn metadata_is_found_by_key_and_by_prefix_in_order() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let keys: Vec<Vec<u8>> = (0..100_u8).map(|index| vec![b'a' + index % 2, index]).collect();
    let puts: Vec<(&[u8], Option<&[u8]>)> = keys.iter().map(|key| (&key[..], Some(&key[1..]))).collect();
    store.write_metadata(&puts).unwrap();
    store.write_metadata(&[(b"a\x04", None), (b"a\x06", Some(b"new")), (b"none", None)]).unwrap();
    flush(&store);
    for store in [store, open(&disk.kill(), SyncMode::Never).0] {
        assert_eq!(store.get_metadata(b"a\x04").unwrap(), None);
        assert_eq!(store.get_metadata(b"a\x06").unwrap(), Some(b"new".to_vec()));
        let found = store.scan_metadata(b"a", None, 3).unwrap();
        let wanted = [(&b"a\x00"[..], &b"\x00"[..]), (b"a\x02", b"\x02"), (b"a\x06", b"new")];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_vec(), value.to_vec())));
        assert_eq!(store.scan_metadata(b"a", Some(b"a\x06"), usize::MAX).unwrap().len(), 46);
        assert_eq!(store.scan_metadata(b"b", Some(b"a\x06"), usize::MAX).unwrap().len(), 50);
        assert_eq!(store.scan_metadata(b"", None, usize::MAX).unwrap().len(), 99);
    }
}

#[test]
fn a_copy_of_what_was_retained_before_does_not_come_back() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let queue = new_session(&store, "client");
    let mountpoint: Arc<str> = "".into();
    let retain = |payload: &[u8]| {
        let (bytes, layout) = span("topic", payload);
        let publication = Publication { head: head(layout), span: &bytes };
        let targets = [super::target(queue)];
        let (received, place) = (None, Place::default());
        let mut batch = [NewMessage {
            publication,
            message_id: MessageId { origin: 3, stamp: 4 },
            retained_in: Some(&mountpoint),
            received,
            targets: &targets,
            place,
        }];
        store.append_messages(&mut batch).unwrap();
        batch[0].place
    };
    let old = retain(b"old");
    {
        let mut log = store.log.lock();
        store.roll(&mut log, 0);
    }
    let new = retain(b"new");
    let mut model = Model::default();
    model.adopt(queue, super::session("client"), old);
    model.adopt_entry(queue, new);
    // Cleaning comes between the record that replaces it and the word that it was replaced.
    assert!(store.clean_all(&Mutex::new(model)).unwrap());
    store.drop_retained(old.slot);
    flush(&store);
    let (store, recovered) = open(&disk.kill(), SyncMode::Never);
    let retained = recovered.retained[""].get("topic").unwrap();
    assert_eq!(payload_of(&store, retained.slot), b"new");
    assert_eq!(waiting(&store, &recovered, queue), [b"old".to_vec(), b"new".to_vec()]);
    assert_eq!(store.figures().entries, 3);
}

#[test]
fn a_backup_has_all_that_was_there_when_it_began() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    let place = publish(&store, b"before", &[queue]).unwrap();
    let names = store.begin_backup().unwrap();
    publish(&store, b"behind", &[queue]).unwrap();
    store.append_changes(queue, &[Change::Done { slot: place.slot, number: 0 }]);
    flush(&store);
    let owner = Mutex::new(Model::default());
    assert!(!store.clean_all(&owner).unwrap(), "cleaning pauses");
    store.sync(true).unwrap();
    let copy = SimulatedDisk::new();
    for name in &names {
        copy.set_bytes(name, disk.bytes(name));
    }
    store.end_backup();
    let (restored, recovered) = open(&copy, SyncMode::Interval);
    assert_eq!(recovered.report.cut, None);
    assert_eq!(waiting(&restored, &recovered, queue), [b"before".to_vec()]);
    assert!(store.clean_all(&owner).unwrap());
}

/// A directory that is gone with its value.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strogoff-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_real_directory_works_like_the_simulated_disk() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TemporaryDirectory::new("real");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&directory.0).unwrap());
    let mut wanted = HashMap::new();
    for round in 0..3_u8 {
        let (store, recovered) = Store::open(disk.clone(), options(SyncMode::Always)).unwrap();
        for session in &recovered.sessions {
            assert_eq!(waiting(&store, &recovered, session.queue), wanted[&session.queue]);
        }
        assert_eq!(recovered.sessions.len(), wanted.len());
        let queue = new_session(&store, &format!("client {round}"));
        let payloads: Vec<Vec<u8>> = (0..200_u8).map(|index| vec![index ^ round; 500]).collect();
        for payload in &payloads {
            let place = publish(&store, payload, &[queue]).unwrap();
            assert_eq!(payload_of(&store, place.slot), *payload);
        }
        wanted.insert(queue, payloads);
        store.stop();
        assert!(store.is_kept(store.appended()));
    }
    let mode = std::fs::metadata(directory.0.join("0000000001.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(check(&disk, false).unwrap().damages, []);
}
