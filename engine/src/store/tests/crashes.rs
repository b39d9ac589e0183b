//! What a crash leaves is cut off; what a crash cannot cause is damage, is told, and is repaired on demand.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::simulated::{Random, SimulatedDisk};
use super::super::*;
use super::{flush, new_session, open, options, publish, waiting};

const FIRST: &str = "0000000001.log";
const SECOND: &str = "0000000002.log";

fn check_disk(disk: &Arc<SimulatedDisk>, repair: bool) -> Report {
    let disk: Arc<dyn Disk> = disk.clone();
    check(&disk, repair).unwrap()
}

fn refused(disk: &Arc<SimulatedDisk>) -> OpenError {
    match Store::open(disk.clone(), options(SyncMode::Interval)) {
        Ok(_) => panic!("a damaged store was opened"),
        Err(error) => error,
    }
}

/// A store with many messages in several segments, synced; its disk, the queue, and payloads.
fn filled(count: u32) -> (Arc<SimulatedDisk>, QueueId, Vec<Vec<u8>>) {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Interval);
    let queue = new_session(&store, "client");
    let payloads: Vec<Vec<u8>> = (0..count).map(|index| [&index.to_be_bytes()[..], &[b'x'; 400]].concat()).collect();
    for payload in &payloads {
        publish(&store, payload, &[queue]).unwrap();
    }
    store.stop();
    (disk.kill(), queue, payloads)
}

#[test]
fn a_log_that_ends_at_any_byte_opens_with_all_records_before_it() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let queue = new_session(&store, "client");
    let mut ends = BTreeMap::new();
    flush(&store);
    let begun = store.log.lock().offset();
    for count in 0..20_u8 {
        ends.insert(store.log.lock().offset(), count);
        publish(&store, &[count + 1; 30], &[queue]).unwrap();
    }
    ends.insert(store.log.lock().offset(), 20);
    flush(&store);
    let end = store.log.lock().offset();
    let whole = disk.bytes(FIRST);
    for cut in begun..=end {
        for rest in [0, 0xff] {
            let mut bytes = whole.clone();
            bytes[cut as usize..end as usize].fill(rest);
            let (&last, &count) = ends.range(..=cut).next_back().unwrap();
            // The checksum of the record that was cut may begin with the very bytes that take its place.
            let is_clean = cut == end || bytes[last as usize..].iter().all(|byte| *byte == 0);
            let disk = SimulatedDisk::new();
            disk.set_bytes(FIRST, bytes);
            let (store, recovered) = open(&disk, SyncMode::Never);
            let wanted: Vec<Vec<u8>> = (0..count).map(|count| vec![count + 1; 30]).collect();
            assert_eq!(waiting(&store, &recovered, queue), wanted, "cut at {cut}");
            assert_eq!(recovered.report.cut.is_none(), is_clean, "cut at {cut}: {:?}", recovered.report.cut);
            // What was cut off does not come back.
            publish(&store, b"new", &[queue]).unwrap();
            flush(&store);
            let (store, recovered) = open(&disk.kill(), SyncMode::Never);
            assert_eq!(recovered.report.cut, None);
            assert_eq!(waiting(&store, &recovered, queue).len(), usize::from(count) + 1);
        }
    }
}

#[test]
fn a_new_segment_whose_header_did_not_reach_the_disk_is_no_damage() {
    let (disk, queue, payloads) = filled(3);
    let last = disk.list().unwrap().pop().unwrap();
    let number = segment::number_of(&last).unwrap();
    for size in [0, super::SEGMENT as usize] {
        disk.set_bytes(&segment::file_name(number + 1), vec![0; size]);
        let disk = disk.kill();
        let (store, recovered) = open(&disk, SyncMode::Always);
        assert_eq!(waiting(&store, &recovered, queue), payloads);
        assert_eq!(recovered.report.cut, None);
    }
}

#[test]
fn damage_in_the_middle_is_told_with_its_place_and_repaired_with_everything_else_kept() {
    let (disk, queue, payloads) = filled(400);
    assert!(disk.list().unwrap().len() > 2);
    let mut bytes = disk.bytes(FIRST);
    let at = bytes.windows(4).position(|window| window == 50_u32.to_be_bytes()).unwrap();
    bytes[at + 10] ^= 1;
    disk.set_bytes(FIRST, bytes);

    let error = refused(&disk);
    let OpenError::Damaged { damages } = &error else { panic!("{error}") };
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].file, FIRST);
    assert!((at - 60..at).contains(&(damages[0].offset as usize)), "{error}");
    let text = error.to_string();
    assert!(text.contains("0000000001.log at byte") && text.contains("strogoff store check --repair"), "{text}");
    assert!(text.contains("strogoff store restore"), "{text}");

    assert_eq!(check_disk(&disk, false).damages, *damages);
    assert!(check_disk(&disk, false).put_aside.is_empty(), "a check alone changes nothing");
    let report = check_disk(&disk, true);
    assert_eq!(report.put_aside, [format!("{FIRST}.damaged")]);
    let (store, recovered) = open(&disk, SyncMode::Interval);
    let kept: Vec<Vec<u8>> = payloads.into_iter().enumerate().filter(|&(i, _)| i != 50).map(|(_, p)| p).collect();
    assert_eq!(waiting(&store, &recovered, queue), kept);
    assert_eq!(check_disk(&disk, false).damages, []);
}

#[test]
fn every_kind_of_damage_is_told_and_repaired() {
    type Hurt = fn(&SimulatedDisk);
    let hurts: [(&str, Hurt); 7] = [
        ("a header", |disk| {
            let mut bytes = disk.bytes(FIRST);
            bytes[20] ^= 1;
            disk.set_bytes(FIRST, bytes);
        }),
        ("zeros in place of a header and more", |disk| {
            let mut bytes = disk.bytes(SECOND);
            bytes[..4096].fill(0);
            disk.set_bytes(SECOND, bytes);
        }),
        ("a missing segment", |disk| disk.remove(SECOND).unwrap()),
        ("zeros in the middle", |disk| {
            let mut bytes = disk.bytes(SECOND);
            bytes[8192..16384].fill(0);
            disk.set_bytes(SECOND, bytes);
        }),
        ("garbage at the end of a segment", |disk| {
            let mut bytes = disk.bytes(FIRST);
            let from = bytes.len() - 4096;
            bytes[from..].fill(0x5a);
            disk.set_bytes(FIRST, bytes);
        }),
        ("a segment cut short", |disk| {
            let bytes = disk.bytes(SECOND);
            disk.set_bytes(SECOND, bytes[..10_000].to_vec());
        }),
        ("a foreign file", |disk| disk.set_bytes("notes.txt", b"hello".to_vec())),
    ];
    for (what, hurt) in hurts {
        let (disk, queue, payloads) = filled(600);
        hurt(&disk);
        let error = refused(&disk);
        assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}");
        let report = check_disk(&disk, true);
        assert!(!report.damages.is_empty(), "{what}");
        let (store, recovered) = open(&disk, SyncMode::Interval);
        let left = waiting(&store, &recovered, queue);
        assert!(left.len() >= payloads.len() - 170, "{what}: {} of {} are left", left.len(), payloads.len());
        assert!(left.iter().all(|payload| payloads.contains(payload)), "{what}");
        assert_eq!(recovered.report.cut, None, "{what}");
        assert_eq!(check_disk(&disk, false).damages, [], "{what}");
    }
}

#[test]
fn several_damages_are_told_together_and_random_ones_never_panic() {
    let (disk, queue, _) = filled(500);
    let names = disk.list().unwrap();
    let mut random = Random(5);
    for _ in 0..60 {
        let disk = disk.kill();
        for _ in 0..=random.below(4) {
            let name = &names[random.below(names.len())];
            let mut bytes = disk.bytes(name);
            let at = random.below(bytes.len());
            let end = (at + 1 + random.below(2_000)).min(bytes.len());
            bytes[at..end].fill(random.draw() as u8);
            disk.set_bytes(name, bytes);
        }
        let is_refused = Store::open(disk.kill(), options(SyncMode::Interval)).is_err();
        let report = check_disk(&disk, true);
        assert!(!is_refused || !report.damages.is_empty());
        let (store, recovered) = open(&disk, SyncMode::Interval);
        if recovered.sessions.iter().any(|session| session.queue == queue) {
            waiting(&store, &recovered, queue);
        }
    }
}

#[test]
fn a_missing_beginning_is_told_and_can_be_repaired() {
    let (disk, _, _) = filled(500);
    let mut names = disk.list().unwrap();
    names.retain(|name| !name.starts_with('.'));
    assert!(names.len() > 2, "{names:?}");
    for gone in [&names[..1], &names[..2], &names[..names.len() - 1]] {
        let disk = disk.kill();
        for name in gone {
            disk.remove(name).unwrap();
        }
        let text = refused(&disk).to_string();
        assert!(text.contains(&names[0]) && text.contains("missing"), "{text}");
        assert!(!check_disk(&disk, true).damages.is_empty());
        open(&disk, SyncMode::Interval);
    }
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let (disk, _, _) = filled(3);
    let mut bytes = disk.bytes(FIRST);
    bytes[8] = 9;
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    disk.set_bytes(FIRST, bytes);
    let text = refused(&disk).to_string();
    assert!(text.contains("written by a newer version of Strogoff (format 9); this one reads up to 1"), "{text}");
}

#[test]
fn a_header_that_was_being_written_is_cut_off_whatever_stands_there() {
    // Which byte of the header is the first that is spoilt: of the magic, the version, the number, the size, the salt, the crc.
    for spoilt in [0, 8, 9, 11, 12, 16, 24, 28] {
        let (disk, _, _) = filled(3);
        let disk = disk.kill();
        let mut names = disk.list().unwrap();
        names.retain(|name| !name.starts_with('.'));
        let last: u32 = names.iter().max().and_then(|name| name.strip_suffix(".log")).unwrap().parse().unwrap();
        let mut bytes = disk.bytes(FIRST);
        bytes[12..16].copy_from_slice(&(last + 1).to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes[spoilt..32].iter_mut().for_each(|byte| *byte ^= 0x5A);
        bytes[32..].fill(0);
        disk.set_bytes(&format!("{:010}.log", last + 1), bytes);
        let (_, recovered) = open(&disk, SyncMode::Interval);
        assert!(recovered.report.messages > 0, "{spoilt}");
    }
}

#[test]
fn messages_that_look_like_records_are_none_to_a_search() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let queue = new_session(&store, "client");
    // A record that says that all is synced far behind, as somebody would write it who does not know the salt.
    let mut forged = Vec::new();
    let start = record::begin_synced(&mut forged, 9, 9_999);
    record::finish(&mut forged, start, 0);
    publish(&store, b"first", &[queue]).unwrap();
    flush(&store);
    let end = store.log.lock().offset() as usize;
    publish(&store, b"second", &[queue]).unwrap();
    publish(&store, &forged, &[queue]).unwrap();
    flush(&store);
    let mut bytes = disk.bytes(FIRST);
    bytes[end] ^= 1;
    disk.set_bytes(FIRST, bytes);
    let (store, recovered) = open(&disk.kill(), SyncMode::Never);
    assert_eq!(waiting(&store, &recovered, queue), [b"first".to_vec()]);
    assert!(recovered.report.cut.is_some());
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_when_the_store_is_opened() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new();
        let (store, _) = open(&disk, SyncMode::Interval);
        let queue = new_session(&store, "client");
        publish(&store, &[1; 2_000], &[queue]).unwrap();
        flush(&store);
        let disk = disk.kill();
        let (store, _) = open(&disk, SyncMode::Interval);
        publish(&store, &[2; 2_000], &[queue]).unwrap();
        store.stop();
        let (store, recovered) = open(&disk.crash(&mut Random(seed)), SyncMode::Interval);
        assert_eq!(waiting(&store, &recovered, queue), [vec![1; 2_000], vec![2; 2_000]]);
    }
}

#[test]
fn a_record_that_makes_no_sense_is_told_and_can_be_repaired() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Never);
    let queue = new_session(&store, "client");
    publish(&store, b"before", &[queue]).unwrap();
    flush(&store);
    let begin = store.log.lock().offset() as usize;
    publish(&store, b"behind", &[queue]).unwrap();
    flush(&store);
    let end = store.log.lock().offset() as usize;
    let mut bytes = disk.bytes(FIRST);
    let mut nonsense = Vec::new();
    let start = record::begin(&mut nonsense, record::Kind::Metadata);
    nonsense.extend_from_slice(b"nonsense");
    record::finish(&mut nonsense, start, store.salt);
    bytes.copy_within(begin..end, begin + nonsense.len());
    bytes[begin..begin + nonsense.len()].copy_from_slice(&nonsense);
    let disk = SimulatedDisk::new();
    disk.set_bytes(FIRST, bytes);
    let text = refused(&disk).to_string();
    assert!(text.contains("makes no sense"), "{text}");
    assert_eq!(check_disk(&disk, true).damages.len(), 1);
    let (store, recovered) = open(&disk, SyncMode::Never);
    assert_eq!(waiting(&store, &recovered, queue), [b"before".to_vec(), b"behind".to_vec()]);
}

#[test]
fn a_file_that_outlives_its_deletion_is_no_damage() {
    let disk = SimulatedDisk::new();
    let (store, _) = open(&disk, SyncMode::Always);
    for _ in 0..300 {
        let queue = new_session(&store, "client");
        let slot = publish(&store, &[1; 1_000], &[queue]).unwrap().slot;
        store.end_queue(queue, &mut std::iter::once(slot));
    }
    flush(&store);
    let first = disk.bytes(FIRST);
    let queue = new_session(&store, "client");
    publish(&store, b"kept", &[queue]).unwrap();
    let owner = parking_lot::Mutex::new(super::model::Model::default());
    for _ in 0..3 {
        assert!(store.clean_all(&owner).unwrap());
    }
    flush(&store);
    // The first of several that were deleted together is there again, as after a loss of power.
    let disk = disk.kill();
    disk.set_bytes(FIRST, first);
    assert_eq!(check_disk(&disk, false).damages, []);
    let (store, recovered) = open(&disk, SyncMode::Always);
    assert_eq!(waiting(&store, &recovered, queue), [b"kept".to_vec()]);
    assert!(!disk.list().unwrap().contains(&FIRST.to_string()));
}
